"""compose.yaml has the form of the compose specification, by a stricter schema of our own words.

It knows only what the file uses, so a misspelt name, which an engine may pass over, is a fault.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tests.support.deployment import documents

(COMPOSE,) = documents("compose.yaml")
TEXT = {"type": "string", "minLength": 1}
TEXTS = {"type": "array", "items": TEXT, "minItems": 1, "uniqueItems": True}
WORDS = {"type": "array", "items": TEXT, "minItems": 1}
NAME = "^[a-z][a-z0-9_-]*$"
DURATION = {"type": "string", "pattern": "^([0-9]+m)?[0-9]+s$"}
SIZE = {"type": "string", "pattern": "^[0-9]+[kmgKMG]b?$"}


def only(required: tuple[str, ...] = (), /, **properties: Any) -> dict[str, Any]:
    """An object with these members and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def named(value: Any) -> dict[str, Any]:
    return {"type": "object", "propertyNames": {"pattern": NAME}, "additionalProperties": value}


HEALTH = only(
    ("test", "interval", "timeout", "retries"),
    test=WORDS,
    interval=DURATION,
    timeout=DURATION,
    start_period=DURATION,
    retries={"type": "integer", "minimum": 1},
)
SERVICE = only(
    ("image", "networks", "deploy"),
    build=only(("context", "target"), context=TEXT, target=TEXT),
    image=TEXT,
    profiles=TEXTS,
    user={"type": "string", "pattern": "^[0-9]+:[0-9]+$"},
    entrypoint=WORDS,
    command=WORDS,
    environment={
        "type": "object",
        "propertyNames": {"pattern": "^[A-Z][A-Z0-9_]*$"},
        # What YAML would make a number or a truth value of is quoted.
        "additionalProperties": {"type": "string"},
    },
    secrets=TEXTS,
    volumes=TEXTS,
    tmpfs={"type": "array", "items": {"type": "string", "pattern": "^/[a-z/]+:size=[0-9]+m"}},
    ports={
        "type": "array",
        "items": {"type": "string", "pattern": r"^[^ ]+:[^ ]+:[0-9]+$"},
    },
    expose={"type": "array", "items": {"type": "string", "pattern": "^[0-9]+$"}},
    depends_on=named(
        only(
            ("condition",),
            condition={
                "enum": ["service_healthy", "service_completed_successfully", "service_started"]
            },
            required={"type": "boolean"},
        )
    ),
    healthcheck={"oneOf": [HEALTH, only(("disable",), disable={"const": True})]},
    networks={
        "oneOf": [TEXTS, named(only(ipv4_address={"type": "string", "pattern": r"^[0-9.]+$"}))]
    },
    stop_signal={"enum": ["SIGTERM", "SIGQUIT", "SIGINT"]},
    stop_grace_period=DURATION,
    shm_size=SIZE,
    ulimits=only(nofile={"type": "integer", "minimum": 1024}),
    read_only={"type": "boolean"},
    cap_drop=TEXTS,
    security_opt=TEXTS,
    restart={"enum": ["unless-stopped"]},
    logging=only(("driver", "options"), driver=TEXT, options=named(TEXT)),
    deploy=only(
        ("resources",),
        resources=only(
            ("limits",),
            limits=only(
                ("cpus", "memory", "pids"),
                cpus={"type": "string", "pattern": r"^[0-9.]+$"},
                memory=SIZE,
                pids={"type": "integer", "minimum": 1},
            ),
        ),
    ),
)
SCHEMA = only(
    ("name", "services", "networks", "volumes", "secrets"),
    name={"type": "string", "pattern": NAME},
    services=named(SERVICE),
    networks=named(
        only(
            internal={"type": "boolean"},
            ipam=only(("config",), config={"type": "array", "items": only(subnet=TEXT)}),
        )
    ),
    volumes=named({"type": "null"}),
    secrets=named(only(("file",), file=TEXT)),
) | {"patternProperties": {"^x-": {}}}


def faults(document: dict[str, Any]) -> list[str]:
    Draft202012Validator.check_schema(SCHEMA)
    return [
        f"{error.json_path}: {error.message}"
        for error in Draft202012Validator(SCHEMA).iter_errors(document)
    ]


def test_file_has_the_form() -> None:
    assert faults(COMPOSE) == []


@pytest.mark.parametrize(
    ("service", "member", "value"),
    [
        ("redis", "heathcheck", {"disable": True}),
        ("redis", "stop_grace_period", 30),
        ("redis", "command", []),
        ("nginx", "depends_on", {"tollgate-1": {"condition": "healthy"}}),
        ("nginx", "ports", [8080]),
        ("nginx", "networks", {"front": {"ipv4": "172.30.231.10"}}),
        ("tollgate-1", "environment", {"TOLLGATE_SERVER__WORKERS": 2}),
        ("tollgate-1", "deploy", {"limits": {"memory": "1G"}}),
        ("postgres", "user", "postgres"),
    ],
)
def test_faults_are_found(service: str, member: str, value: Any) -> None:
    broken = copy.deepcopy(COMPOSE)
    broken["services"][service][member] = value
    assert faults(broken) != []
