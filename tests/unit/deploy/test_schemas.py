"""The deployment files have the form that engines and clusters ask for, by those's own schemas."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tests.support.deployment import ROOT, documents

SCHEMAS = ROOT / "tests" / "support" / "schemas"
COMPOSE_SCHEMA = json.loads((SCHEMAS / "compose-spec.json").read_text())
KUBERNETES = json.loads((SCHEMAS / "kubernetes.json").read_text())
#: An operator's, kustomize's, a chart's values: no kinds of Kubernetes.
FOREIGN = {"monitor", "kustomization", "adapter-rules"}
(COMPOSE,) = documents("compose.yaml")
MANIFESTS = {
    f"{file.stem}: {document['kind']} {document['metadata']['name']}": document
    for file in sorted((ROOT / "config" / "kubernetes").glob("*.yaml"))
    if file.stem not in FOREIGN
    for document in documents(str(file.relative_to(ROOT)))
}

Break = Callable[[dict[str, Any]], Any]


def faults(schema: dict[str, Any], document: dict[str, Any]) -> list[str]:
    found = Draft202012Validator(schema).iter_errors(document)
    return [f"{error.json_path}: {error.message[:200]}" for error in found]


def of_kind(document: dict[str, Any]) -> dict[str, Any]:
    name = KUBERNETES["kinds"][document["kind"]]
    return {"$ref": f"#/$defs/{name}", "$defs": KUBERNETES["$defs"]}


def test_compose_file_is_one() -> None:
    Draft202012Validator.check_schema(COMPOSE_SCHEMA)
    assert faults(COMPOSE_SCHEMA, COMPOSE) == []


@pytest.mark.parametrize(
    ("service", "member", "value"),
    [
        ("redis", "heathcheck", {"disable": True}),
        ("redis", "stop_grace_period", 30),
        ("nginx", "depends_on", {"tollgate-1": {"condition": "healthy"}}),
        ("nginx", "networks", {"front": {"ipv4": "172.30.231.10"}}),
        ("tollgate-1", "deploy", {"limits": {"memory": "1G"}}),
    ],
)
def test_faults_of_it_are_found(service: str, member: str, value: Any) -> None:
    broken = copy.deepcopy(COMPOSE)
    broken["services"][service][member] = value
    assert faults(COMPOSE_SCHEMA, broken) != []


@pytest.mark.parametrize("name", MANIFESTS)
def test_manifest_is_one(name: str) -> None:
    assert faults(of_kind(MANIFESTS[name]), MANIFESTS[name]) == []


def test_every_kind_is_looked_at() -> None:
    assert {document["kind"] for document in MANIFESTS.values()} == KUBERNETES["kinds"].keys()
    for name in KUBERNETES["kinds"].values():
        Draft202012Validator.check_schema(KUBERNETES["$defs"][name])


@pytest.mark.parametrize(
    "breaks",
    [
        lambda spec: spec.update(replica=3),
        lambda spec: spec.update(minReadySeconds="5"),
        lambda spec: spec.pop("selector"),
        lambda spec: spec["template"]["spec"]["containers"][0].update(readynessProbe={}),
        lambda spec: spec["template"]["spec"]["containers"][0]["ports"][0].pop("containerPort"),
        lambda spec: spec["template"]["spec"].update(terminationGracePeriodSeconds="1m"),
    ],
)
def test_faults_of_a_manifest_are_found(breaks: Break) -> None:
    (broken,) = (copy.deepcopy(it) for it in MANIFESTS.values() if it["kind"] == "Deployment")
    breaks(broken["spec"])
    assert faults(of_kind(broken), broken) != []
