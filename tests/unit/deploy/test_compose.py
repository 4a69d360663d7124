"""compose.yaml says what the code, the image and the files beside it say. No engine is needed."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Any

import pytest

from scripts.sandbox.__main__ import _parser as sandbox_parser
from service.api.routes import INTERNAL_TABLE
from service.database import budget
from tests.support.deployment import (
    ROOT,
    absent,
    accepts,
    documents,
    interpolated,
    longest_leave_s,
    mebibytes,
    seconds,
    secret_files,
    settings_of,
)

(COMPOSE,) = documents("compose.yaml")
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
REPLICAS = ("tollgate-1", "tollgate-2", "tollgate-3")
OURS = (*REPLICAS, "migrate", "flows")
ONCE = ("migrate", "flows")
LASTING = tuple(name for name in SERVICES if name not in ONCE)
INTERNAL_PORT, PUBLIC_PORT = 8090, 8000


def variables(service: str) -> dict[str, str]:
    given = SERVICES[service].get("environment", {})
    return {name: interpolated(str(value)) for name, value in given.items()}


def mounts(service: str) -> list[list[str]]:
    return [volume.split(":") for volume in SERVICES[service].get("volumes", [])]


def argument(service: str, name: str) -> str:
    command = SERVICES[service]["command"]
    return str(command[command.index(name) + 1])


# --- what each of them is allowed -----------------------------------------------------------------


@pytest.mark.parametrize("name", SERVICES)
def test_each_is_confined(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert "privileged" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    user, _group = service["user"].split(":")
    assert int(user) > 0
    limits = service["deploy"]["resources"]["limits"]
    assert float(limits["cpus"]) > 0
    assert mebibytes(limits["memory"]) >= 64
    assert limits["pids"] > 0
    assert "/var/run/docker.sock" not in str(service)


@pytest.mark.parametrize("name", SERVICES)
def test_each_image_has_a_version(name: str) -> None:
    image = SERVICES[name]["image"]
    if "build" in SERVICES[name]:
        assert re.fullmatch(r"tollgate(-sandbox)?:\$\{TOLLGATE_VERSION:-local\}", image)
    else:
        assert re.search(r":v?\d+\.\d+(\.\d+)?(-[a-z0-9.]+)?$", image), image


@pytest.mark.parametrize("name", LASTING)
def test_each_that_lasts_tells_its_health_and_comes_again(name: str) -> None:
    service = SERVICES[name]
    assert service["restart"] == "unless-stopped"
    check = service["healthcheck"]
    assert check["test"][0] in {"CMD", "CMD-SHELL"}
    assert seconds(check["timeout"]) <= seconds(check["interval"])
    assert seconds(service["stop_grace_period"]) > 10
    assert service["logging"]["options"]["max-size"]


@pytest.mark.parametrize("name", ONCE)
def test_what_runs_once_does_not_come_again(name: str) -> None:
    assert "restart" not in SERVICES[name]
    assert SERVICES[name]["healthcheck"] == {"disable": True}


def test_whoever_is_waited_for_is_there_and_can_tell() -> None:
    for name, service in SERVICES.items():
        for other, how in service.get("depends_on", {}).items():
            wanted = "service_completed_successfully" if other in ONCE else "service_healthy"
            assert how["condition"] == wanted, (name, other)
            # What a profile holds back must not be asked of those without one.
            optional = bool(SERVICES[other].get("profiles")) and not (
                set(SERVICES[other]["profiles"]) <= set(service.get("profiles", []))
            )
            assert how.get("required", True) is not optional, (name, other)


@pytest.mark.parametrize("name", SERVICES)
def test_what_yaml_would_make_a_number_or_a_truth_of_is_quoted(name: str) -> None:
    service = SERVICES[name]
    values = [*service.get("environment", {}).values(), *service.get("command", [])]
    assert all(isinstance(value, str) for value in values)


def test_every_secret_is_a_file_and_every_use_of_one_is_granted() -> None:
    for name, secret in COMPOSE["secrets"].items():
        assert secret == {"file": f"secrets/{name}"}
    used = set()
    for name, service in SERVICES.items():
        granted = set(service.get("secrets", []))
        named = set(re.findall(r"/run/secrets/([a-z_]+)", str(service)))
        if name == "pgbouncer":
            named |= set(
                re.findall(
                    r"/run/secrets/(\w+)", (ROOT / "config/compose/pgbouncer.ini").read_text()
                )
            )
        assert named == granted, name
        used |= granted
    assert used == COMPOSE["secrets"].keys()
    assert "secrets/" in (ROOT / ".gitignore").read_text().splitlines()
    assert not re.search(r"(?i)(password|token|api_key|key_secret): (?!/run|\$)", str(COMPOSE))


def test_every_mounted_file_is_in_the_tree_and_cannot_be_written() -> None:
    for name in SERVICES:
        for source, target, *mode in mounts(name):
            if source.startswith("./"):
                assert absent([source]) == []
                assert mode == ["ro"], (name, target)
            else:
                assert source in COMPOSE["volumes"]


def test_networks_are_declared_and_data_has_no_way_out() -> None:
    for service in SERVICES.values():
        assert set(service["networks"]) <= COMPOSE["networks"].keys()
    assert COMPOSE["networks"]["data"] == {"internal": True}
    for name in ("postgres", "redis", "pgbouncer", "sandbox"):
        assert SERVICES[name]["networks"] == ["data"]
        assert "ports" not in SERVICES[name]


def test_only_nginx_and_the_dashboard_are_published_and_only_to_this_machine() -> None:
    published = {name: s["ports"] for name, s in SERVICES.items() if "ports" in s}
    assert published.keys() == {"nginx", "grafana"}
    for ports in published.values():
        assert all(interpolated(port).startswith("127.0.0.1:") for port in ports)


# --- the replicas ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OURS)
def test_variables_are_settings_of_ours(name: str, tmp_path: Path) -> None:
    settings = settings_of(variables(name), tmp_path)
    assert settings.server.port == PUBLIC_PORT
    assert settings.server.internal_port == INTERNAL_PORT
    assert settings.payment.url == "http://sandbox:8300"
    assert not settings.database.pooler
    for variable, file in secret_files(variables(name)).items():
        section, field = (
            variable.removeprefix("TOLLGATE_").removesuffix("_FILE").lower().split("__")
        )
        assert file.startswith("/run/secrets/")
        assert getattr(getattr(settings, section), field).get_secret_value()


@pytest.mark.parametrize("name", OURS)
def test_commands_are_commands_of_ours(name: str) -> None:
    assert accepts(SERVICES[name]["command"])
    assert not accepts([*SERVICES[name]["command"], "--no-such-option"])
    assert absent(word for word in SERVICES[name]["command"] if "/" in word) == []


def test_replicas_differ_in_their_address_alone() -> None:
    first = {**SERVICES["tollgate-1"], "networks": None}
    for name in REPLICAS:
        assert {**SERVICES[name], "networks": None} == first
        assert set(SERVICES[name]["networks"]) == {"front", "data", "watch"}


def test_replicas_are_killed_only_after_they_had_time_to_leave(tmp_path: Path) -> None:
    settings = settings_of(variables("tollgate-1"), tmp_path)
    grace_s = seconds(SERVICES["tollgate-1"]["stop_grace_period"])
    assert longest_leave_s(settings.server) < grace_s
    assert SERVICES["tollgate-1"]["stop_signal"] == "SIGTERM"


def test_replicas_wait_for_the_schema_and_ask_for_readiness() -> None:
    service = SERVICES["tollgate-1"]
    assert service["depends_on"]["migrate"]["condition"] == "service_completed_successfully"
    (url,) = re.findall(r"http://127\.0\.0\.1:(\d+)(/\w+)", service["healthcheck"]["test"][-1])
    assert url == (str(INTERNAL_PORT), "/readyz")
    assert "/readyz" in {route.path for route in INTERNAL_TABLE}


def test_connections_fit_while_one_replica_reads_its_settings_again(tmp_path: Path) -> None:
    settings = settings_of(variables("tollgate-1"), tmp_path)
    workers = settings.server.workers
    successors = max(1, workers // 4)
    needed = (len(REPLICAS) * workers + successors) * (settings.database.pool_max + 1)
    allowed = re.search(r"max_connections=(\d+)", str(SERVICES["postgres"]["command"]))
    assert allowed
    superusers = 3  # superuser_reserved_connections, which nobody else gets
    assert needed + budget._FOR_ADMINISTRATION + superusers <= int(allowed[1])


# --- nginx before them ----------------------------------------------------------------------------


def addresses(name: str) -> str:
    return str(SERVICES[name]["networks"]["front"]["ipv4_address"])


def test_nginx_has_the_shipped_configuration_and_its_three_files() -> None:
    assert ["./config/nginx.conf", "/etc/nginx/nginx.conf", "ro"] in mounts("nginx")
    assert ["./config/compose/place", "/etc/nginx/place", "ro"] in mounts("nginx")
    included = re.findall(r"include (place/\w+\.conf);", (ROOT / "config/nginx.conf").read_text())
    assert absent(f"config/compose/{file}" for file in included) == []
    assert len(included) == len(list((ROOT / "config/compose/place").iterdir())) == 3


def test_nginx_knows_the_replicas_by_their_addresses() -> None:
    lines = (ROOT / "config/compose/place/replicas.conf").read_text().splitlines()
    assert [line for line in lines if not line.startswith("#")] == [
        f"server {addresses(name)}:{PUBLIC_PORT} max_fails=1 fail_timeout=1s;" for name in REPLICAS
    ]
    subnet = ipaddress.ip_network(COMPOSE["networks"]["front"]["ipam"]["config"][0]["subnet"])
    all_of_them = [ipaddress.ip_address(addresses(name)) for name in ("nginx", *REPLICAS)]
    assert len(set(all_of_them)) == 4
    assert all(address in subnet for address in all_of_them)


def test_replicas_believe_nginx_and_nobody_else() -> None:
    assert variables("tollgate-1")["TOLLGATE_SERVER__TRUSTED_PROXIES"] == f"{addresses('nginx')}/32"


def test_nginx_listens_where_it_is_published_and_asked() -> None:
    (port,) = re.findall(
        r"(?m)^listen (\d+);", (ROOT / "config/compose/place/listen.conf").read_text()
    )
    assert SERVICES["nginx"]["ports"][0].endswith(f":{port}")
    assert SERVICES["nginx"]["healthcheck"]["test"][-1] == port
    assert int(port) >= 1024


def test_nginx_writes_only_where_it_may() -> None:
    paths = (ROOT / "config/compose/place/paths.conf").read_text()
    written = re.findall(r"_temp_path (\S+);", paths)
    assert len(written) == 5
    memory = [entry.split(":")[0] for entry in SERVICES["nginx"]["tmpfs"]]
    pid = re.findall(r"pid (\S+?)/nginx.pid;", str(SERVICES["nginx"]["command"]))
    assert {str(Path(path).parent) for path in written} | set(pid) == set(memory)


# --- the servers ----------------------------------------------------------------------------------


def test_redis_keeps_what_it_knows_and_forgets_no_limit() -> None:
    assert argument("redis", "--maxmemory-policy") == "noeviction"
    assert argument("redis", "--appendonly") == "yes"
    assert argument("redis", "--dir") in {target for _, target, *_ in mounts("redis")}
    limits = SERVICES["redis"]["deploy"]["resources"]["limits"]
    assert 2 * mebibytes(argument("redis", "--maxmemory")) <= mebibytes(limits["memory"])


def test_sandbox_is_where_the_replicas_look_for_it() -> None:
    service = SERVICES["sandbox"]
    given = sandbox_parser().parse_args([interpolated(word) for word in service["command"]])
    assert variables("tollgate-1")["TOLLGATE_PAYMENT__URL"] == f"http://sandbox:{given.port}"
    assert str(given.port) in service["healthcheck"]["test"][-1]
    assert given.network == variables("tollgate-1")["TOLLGATE_PAYMENT__NETWORK"]
    assert service["profiles"] == SERVICES["flows"]["profiles"] == ["sandbox"]


def test_pooler_is_as_the_document_says() -> None:
    shipped = (ROOT / "config/compose/pgbouncer.ini").read_text()
    for line in ("pool_mode = transaction", "default_pool_size = 40", "max_client_conn = 1000"):
        assert line in shipped
        assert line in (ROOT / "docs/database.md").read_text()
    port = re.findall(r"listen_port = (\d+)", shipped)
    assert SERVICES["pgbouncer"]["healthcheck"]["test"][-1] == port[0]
    assert re.findall(r"= host=(\w+)", shipped)[0] in SERVICES


def test_prometheus_asks_every_replica_and_has_every_rule() -> None:
    (shipped,) = documents("config/compose/prometheus.yml")
    (sample,) = documents("config/prometheus/prometheus.yml")
    assert shipped["rule_files"] == sample["rule_files"]
    assert {key: shipped["global"][key] for key in sample["global"]} == sample["global"]
    folder = {target: source for source, target, *_ in mounts("prometheus")}
    for file in shipped["rule_files"]:
        assert folder[f"/etc/prometheus/{file}"] == f"./config/prometheus/{file}"
    (scrape,) = shipped["scrape_configs"]
    assert scrape["job_name"] == sample["scrape_configs"][0]["job_name"]
    assert scrape["static_configs"] == [
        {"targets": [f"{name}:{INTERNAL_PORT}" for name in REPLICAS]}
    ]
    for option in SERVICES["prometheus"]["command"]:
        if (path := option.partition("=")[2]).startswith("/"):
            assert path in folder


def test_dashboard_is_where_its_provisioning_looks_for_it() -> None:
    folder = {target: source for source, target, *_ in mounts("grafana")}
    (provider,) = documents("config/grafana/provisioning/dashboards/tollgate.yml")
    looked_at = provider["providers"][0]["options"]["path"]
    assert folder[looked_at] == "./config/grafana/dashboards"
    (source,) = documents("config/grafana/provisioning/datasources/prometheus.yml")
    assert source["datasources"][0]["url"] == "${PROMETHEUS_URL}"
    assert variables("grafana")["PROMETHEUS_URL"] == "http://prometheus:9090"
