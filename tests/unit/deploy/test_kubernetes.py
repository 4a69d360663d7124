"""config/kubernetes says what the code and the image say. No cluster is needed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from service import __version__
from service.api.routes import INTERNAL_TABLE
from tests.support.collectors import declared
from tests.support.deployment import (
    ROOT,
    absent,
    accepts,
    documents,
    longest_leave_s,
    mebibytes,
    secret_files,
    settings_of,
)

FOLDER = "config/kubernetes"
(CUSTOMIZATION,) = documents(f"{FOLDER}/kustomization.yaml")
MANIFESTS = {
    (document["kind"], document["metadata"]["name"]): document
    for file in CUSTOMIZATION["resources"]
    for document in documents(f"{FOLDER}/{file}")
}
#: What is not applied with the others, and says so.
APART = {"kustomization.yaml", "secret.example.yaml", "adapter-rules.yaml"}
VERSIONS = {
    "Namespace": "v1",
    "ConfigMap": "v1",
    "Service": "v1",
    "Deployment": "apps/v1",
    "Job": "batch/v1",
    "PodDisruptionBudget": "policy/v1",
    "HorizontalPodAutoscaler": "autoscaling/v2",
    "ServiceMonitor": "monitoring.coreos.com/v1",
}
SETTINGS: dict[str, str] = MANIFESTS["ConfigMap", "tollgate-settings"]["data"]
DEPLOYMENT = MANIFESTS["Deployment", "tollgate"]["spec"]
PODS: dict[str, dict[str, Any]] = {
    "serve": DEPLOYMENT["template"]["spec"],
    "migrate": MANIFESTS["Job", "tollgate-migrate"]["spec"]["template"]["spec"],
}
REPLICA = PODS["serve"]["containers"][0]
LABELS: dict[str, str] = DEPLOYMENT["template"]["metadata"]["labels"]
PORTS = {port["name"]: port["containerPort"] for port in REPLICA["ports"]}


def container(name: str) -> dict[str, Any]:
    (only,) = PODS[name]["containers"]
    return dict(only)


def test_every_file_is_applied_or_says_that_it_is_not() -> None:
    there = {file.name for file in (ROOT / FOLDER).iterdir()}
    assert set(CUSTOMIZATION["resources"]) | APART == there
    for file in APART - {"kustomization.yaml"}:
        assert "kustomization.yaml leaves" in (ROOT / FOLDER / file).read_text()


def test_kinds_have_the_versions_a_cluster_knows() -> None:
    assert {kind for kind, _ in MANIFESTS} == VERSIONS.keys()
    for (kind, name), manifest in MANIFESTS.items():
        assert manifest["apiVersion"] == VERSIONS[kind]
        assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", name)
        assert manifest.keys() <= {"apiVersion", "kind", "metadata", "spec", "data"}


def test_image_has_the_version_of_the_tree() -> None:
    (image,) = CUSTOMIZATION["images"]
    assert image["newTag"] == __version__
    assert {container(name)["image"] for name in PODS} == {image["name"]}


@pytest.mark.parametrize("name", PODS)
def test_pods_keep_to_the_restricted_standard(name: str) -> None:
    pod = PODS[name]
    assert pod["automountServiceAccountToken"] is False
    identity = pod["securityContext"]
    assert identity["runAsNonRoot"] is True
    assert identity["seccompProfile"] == {"type": "RuntimeDefault"}
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert f"USER {identity['runAsUser']}:{identity['runAsGroup']}" in dockerfile
    assert container(name)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    resources = container(name)["resources"]
    assert resources["requests"].keys() == {"cpu", "memory"}
    assert mebibytes(resources["requests"]["memory"]) <= mebibytes(resources["limits"]["memory"])


@pytest.mark.parametrize("name", PODS)
def test_volumes_are_there_and_hold_what_is_written_and_read(name: str) -> None:
    volumes = {volume["name"]: volume for volume in PODS[name]["volumes"]}
    mounted = {mount["name"]: mount for mount in container(name)["volumeMounts"]}
    assert volumes.keys() == mounted.keys()
    assert mounted["temporary"]["mountPath"] == "/tmp"  # noqa: S108 (in a container)
    folder = mounted["secrets"]["mountPath"]
    (example,) = documents(f"{FOLDER}/secret.example.yaml")
    assert volumes["secrets"]["secret"]["secretName"] == example["metadata"]["name"]
    # The files are the group's alone: pods have it by fsGroup.
    assert volumes["secrets"]["secret"]["defaultMode"] == 0o440
    assert PODS[name]["securityContext"]["fsGroup"]
    files = {Path(file) for file in secret_files(SETTINGS).values()}
    assert files == {Path(folder) / key for key in example["stringData"]}


@pytest.mark.parametrize("name", PODS)
def test_commands_are_commands_of_ours(name: str) -> None:
    assert accepts(container(name)["args"])
    assert container(name)["envFrom"] == [{"configMapRef": {"name": "tollgate-settings"}}]


def test_variables_are_settings_of_ours(tmp_path: Path) -> None:
    settings = settings_of(SETTINGS, tmp_path)
    assert {"http": settings.server.port, "internal": settings.server.internal_port} == PORTS
    assert settings.server.host == settings.server.internal_host == "0.0.0.0"  # noqa: S104
    assert settings.server.trusted_proxies
    assert all(isinstance(value, str) for value in SETTINGS.values())


def test_probes_ask_the_internal_listener() -> None:
    paths = {route.path for route in INTERNAL_TABLE}
    for probe, path in {
        "startupProbe": "/livez",
        "livenessProbe": "/livez",
        "readinessProbe": "/readyz",
    }.items():
        assert REPLICA[probe]["httpGet"] == {"path": path, "port": "internal"}
        assert path in paths


def test_pod_is_killed_only_after_it_had_time_to_leave(tmp_path: Path) -> None:
    server = settings_of(SETTINGS, tmp_path).server
    program, pause_s = REPLICA["lifecycle"]["preStop"]["exec"]["command"]
    assert program == "sleep"
    assert int(pause_s) + longest_leave_s(server) < PODS["serve"]["terminationGracePeriodSeconds"]
    # An unready pod is noticed before it stops accepting.
    readiness = REPLICA["readinessProbe"]
    noticed_s = readiness["periodSeconds"] * readiness["failureThreshold"]
    assert noticed_s <= server.drain_delay


def test_rollout_takes_no_replica_away_before_another_is_there() -> None:
    assert DEPLOYMENT["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    assert "replicas" not in DEPLOYMENT


def test_selectors_find_the_replicas_and_nothing_else() -> None:
    assert DEPLOYMENT["selector"]["matchLabels"] == LABELS
    budget = MANIFESTS["PodDisruptionBudget", "tollgate"]["spec"]
    assert budget["selector"]["matchLabels"] == LABELS
    for constraint in PODS["serve"]["topologySpreadConstraints"]:
        assert constraint["labelSelector"]["matchLabels"] == LABELS
    for name, port in {"tollgate": "http", "tollgate-internal": "internal"}.items():
        service = MANIFESTS["Service", name]["spec"]
        assert service["selector"] == LABELS
        assert [entry["targetPort"] for entry in service["ports"]] == [port]
    job = MANIFESTS["Job", "tollgate-migrate"]["spec"]["template"]["metadata"]["labels"]
    assert not LABELS.items() <= job.items()


def test_migration_goes_first_with_all_it_needs() -> None:
    first = {
        key
        for key, manifest in MANIFESTS.items()
        if manifest["metadata"].get("labels", {}).get("tollgate/step") == "first"
    }
    assert first == {
        ("Namespace", CUSTOMIZATION["namespace"]),
        ("ConfigMap", "tollgate-settings"),
        ("Job", "tollgate-migrate"),
    }
    page = (ROOT / "docs/operations.md").read_text()
    assert f"kubectl apply -k {FOLDER} --selector tollgate/step=first" in page


def test_monitor_asks_each_replica_at_its_internal_port() -> None:
    monitor = MANIFESTS["ServiceMonitor", "tollgate"]["spec"]
    service = MANIFESTS["Service", "tollgate-internal"]
    wanted = monitor["selector"]["matchLabels"]
    assert wanted.items() <= service["metadata"]["labels"].items()
    public = MANIFESTS["Service", "tollgate"]["metadata"]["labels"]
    assert not wanted.items() <= public.items()
    (endpoint,) = monitor["endpoints"]
    assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
    assert endpoint["path"] in {route.path for route in INTERNAL_TABLE}
    rules = (ROOT / "config/prometheus/tollgate.rules.yml").read_text()
    job = service["metadata"]["labels"][monitor["jobLabel"]]
    assert set(re.findall(r'\bjob="([^"]*)"', rules)) == {job}


def test_autoscaler_counts_what_is_measured() -> None:
    scaler = MANIFESTS["HorizontalPodAutoscaler", "tollgate"]["spec"]
    target = scaler["scaleTargetRef"]
    assert (target["kind"], target["name"]) in MANIFESTS
    (metric,) = (entry["pods"] for entry in scaler["metrics"] if entry["type"] == "Pods")
    name = metric["metric"]["name"]
    series = {key: labels for each in declared() for key, labels in each.series().items()}
    (rule,) = documents(f"{FOLDER}/adapter-rules.yaml")[0]
    assert rule["name"]["as"] == name
    assert rule["seriesQuery"].split("{")[0] == name
    asked = set(re.findall(r"(\w+)!?[=~]+", rule["metricsQuery"]))
    assert asked <= set(series[name])
    assert scaler["minReplicas"] >= 2
    assert any(entry["type"] == "Resource" for entry in scaler["metrics"])
    assert "cpu" in REPLICA["resources"]["requests"]


def test_comments_name_files_there_are() -> None:
    for file in (ROOT / FOLDER).iterdir():
        assert absent(re.findall(r"docs/[a-z-]+\.md", file.read_text())) == []


def test_autoscaler_acts_before_the_bulkheads_are_full(tmp_path: Path) -> None:
    settings = settings_of(SETTINGS, tmp_path)
    scaler = MANIFESTS["HorizontalPodAutoscaler", "tollgate"]["spec"]
    (metric,) = (entry["pods"] for entry in scaler["metrics"] if entry["type"] == "Pods")
    room = settings.server.workers * settings.payment.bulkhead
    assert int(metric["target"]["averageValue"]) == round(0.7 * room)
