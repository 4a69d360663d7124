"""Definition files: what is refused, and that every fault is one clear line."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from service.errors import ConfigurationError
from service.flows.definition import FlowDefinition, definition_of
from service.flows.importing import read_definitions

AGENT = "ab" * 40


def definition(**changes: Any) -> dict[str, Any]:
    return copy.deepcopy(
        {
            "slug": "echo",
            "name": "Echo",
            "version": "1.0",
            "default_variant": "standard",
            "runner": {"kind": "http", "target": "https://runner.example.org/echo"},
            "variants": {"standard": {"agent_identifier": AGENT}, "free": {"free": True}},
            "input_schema": {"input_data": [{"id": "text", "type": "text", "name": "Text"}]},
            "demo": {"input": {"text": "hello"}, "output": "hello"},
            **changes,
        }
    )


def write(path: Path, *flows: Any) -> Path:
    path.write_text(json.dumps({"flows": list(flows)}))
    return path


def faults(path: Path) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        read_definitions(path)
    return caught.value.message.splitlines()


def test_toml_and_json_of_the_same_flow_are_the_same(tmp_path: Path) -> None:
    toml = tmp_path / "one.toml"
    toml.write_text(
        f"""
        [[flows]]
        slug = "echo"
        name = "Echo"
        version = "1.0"
        default_variant = "standard"
        runner = {{ kind = "http", target = "https://runner.example.org/echo" }}
        variants.standard.agent_identifier = "{AGENT}"
        variants.free.free = true
        input_schema.input_data = [{{ id = "text", type = "text", name = "Text" }}]
        demo = {{ input = {{ text = "hello" }}, output = "hello" }}
        """
    )
    [from_toml] = read_definitions(toml)
    [from_json] = read_definitions(write(tmp_path / "one.json", definition()))
    assert from_toml == from_json
    assert from_toml.digest() == from_json.digest()
    assert from_toml.first_uid() == from_json.first_uid()


def test_stored_document_reads_back_as_the_same_definition() -> None:
    original = FlowDefinition.model_validate(
        definition(
            tags=["a"],
            enabled=False,
            runner={"kind": "http", "target": "http://r.example/x", "secret_env": "R_TOKEN"},
        )
    )
    again = definition_of(json.loads(json.dumps(original.document())))
    assert again.digest() == original.digest()
    assert again == original


def test_flow_carries_the_definition() -> None:
    given = FlowDefinition.model_validate(
        definition(
            variants={
                "gold": {
                    "agent_identifier": AGENT,
                    "requested_funds": [{"amount": "5000000", "unit": "lovelace"}],
                    "payment_source_type": "Web3CardanoV2",
                    "supported_payment_source_index": 0,
                }
            },
            default_variant="gold",
        )
    )
    flow = given.flow(given.first_uid())
    gold = flow.variant(None)
    assert (gold.name, gold.free, gold.requested_funds[0].amount) == ("gold", False, "5000000")
    assert gold.supported_payment_source_index == 0
    assert flow.runner.timeout_s == 600


@pytest.mark.parametrize(
    "slug",
    ["flows", "health", "metrics", "docs", "ops", "status", "availability", "demo", "livez",
     "readyz", "shop", "static", "admin"],
)  # fmt: skip
def test_name_of_a_route_is_refused(slug: str, tmp_path: Path) -> None:
    [line] = faults(write(tmp_path / "f.json", definition(slug=slug)))
    assert "route" in line


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"slug": "Echo"}, "echo.json: Echo: slug: String should match"),
        ({"slug": "start_job"}, "slug"),
        ({"slug": "a+b"}, "slug"),
        ({"slug": "a" * 64}, "slug"),
        ({"slug": "-a"}, "slug"),
        ({"slug": "echo\n"}, "slug"),
        ({"name": ""}, "name"),
        ({"colour": "red"}, "colour: Extra inputs are not permitted"),
        ({"default_variant": "gold"}, "default_variant: there is no variant 'gold'"),
        ({"variants": {}}, "variants"),
        ({"variants": {"Gold": {"free": True}}}, "variants.Gold"),
        ({"variants": {"standard": {}}}, "needs agent_identifier"),
        ({"variants": {"standard": {"agent_identifier": "ab" * 28}}}, "at least 57"),
        ({"variants": {"standard": {"agent_identifier": "ab" * 126}}}, "at most 250"),
        ({"variants": {"standard": {"agent_identifier": "xy" * 40}}}, "pattern"),
        (
            {"variants": {"standard": {"free": True, "agent_identifier": AGENT}}},
            "a free variant has no agent_identifier",
        ),
        (
            {
                "variants": {
                    "standard": {
                        "agent_identifier": AGENT,
                        "requested_funds": [{"amount": "1", "unit": ""}] * 8,
                    }
                }
            },
            "at most 7",
        ),
        (
            {
                "variants": {
                    "standard": {
                        "agent_identifier": AGENT,
                        "requested_funds": [{"amount": "1.5", "unit": ""}],
                    }
                }
            },
            "amount",
        ),
        (
            {
                "variants": {
                    "standard": {
                        "agent_identifier": AGENT,
                        "payment_source_type": "Web3CardanoV2",
                    }
                }
            },
            "supported_payment_source_index",
        ),
        ({"runner": {"kind": "builtin", "target": "nothing"}}, "csv-profile"),
        ({"runner": {"kind": "http", "target": "ftp://x/y"}}, "http(s) URL"),
        ({"runner": {"kind": "http", "target": "http://u:p@x/y"}}, "credentials"),
        ({"runner": {"kind": "http", "target": "http://x/y?k=1"}}, "query"),
        (
            {
                "runner": {
                    "kind": "http",
                    "target": "http://x/y",
                    "secret_env": "TOLLGATE_PAYMENT__API_KEY",
                }
            },
            "must not name a variable of Tollgate",
        ),
        ({"demo": {"input": {}, "output": "x"}}, "demo.input/text: is required"),
        ({"demo": {"input": {"text": "a", "b": 1}, "output": "x"}}, "no such field"),
        ({"demo": {"input": {"text": "a"}, "output": ""}}, "demo.output"),
        ({"demo": {"input": {"text": "a"}, "output": "x\x00"}}, "NUL"),
        ({"description": "\x00"}, "/description: holds a NUL"),
        (
            {
                "input_schema": {
                    "input_data": [{"id": "text", "type": "date", "data": {"default": "soon"}}]
                },
                "demo": {"input": {"text": "2025-01-01"}, "output": "x"},
            },
            "the default of 'text' must be a date",
        ),
        ({"input_schema": {}}, "exactly one of"),
    ],
)
def test_unsound_definition_is_one_line(changes: dict[str, Any], says: str, tmp_path: Path) -> None:
    [line] = faults(write(tmp_path / "echo.json", definition(**changes)))
    assert says in line


def test_every_fault_of_every_flow_is_named(tmp_path: Path) -> None:
    lines = faults(
        write(
            tmp_path / "f.json",
            definition(version="", name=""),
            definition(slug="second", default_variant="x"),
            17,
        )
    )
    assert [line.split(": ")[1] for line in lines] == ["echo", "echo", "second", "flows[2]"]


@pytest.mark.parametrize(
    "other",
    [
        {"slug": "echo"},
        {"slug": "other", "name": "ECHO"},
        {"slug": "other", "name": " Echo "},
        {"slug": "other", "name": "Other", "uid": "1d1b5c1e-0000-4000-8000-000000000001"},
    ],
)
def test_two_flows_cannot_share_a_name(other: dict[str, Any], tmp_path: Path) -> None:
    first = definition(uid="1d1b5c1e-0000-4000-8000-000000000001")
    assert faults(write(tmp_path / "f.json", first, definition(**other)))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", b"{"),
        ("a.json", b"[]"),
        ("a.json", b'{"flows": []}'),
        ("a.json", b'{"flows": [], "more": 1}'),
        ("a.json", b"[" * 100_000),
        ("a.toml", b"flows = "),
        ("a.toml", b"\xff"),
    ],
)
def test_unreadable_file_is_one_line(name: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert len(faults(path)) == 1


def test_missing_file_is_named(tmp_path: Path) -> None:
    assert "absent.toml" in faults(tmp_path / "absent.toml")[0]
