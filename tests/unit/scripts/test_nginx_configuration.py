"""config/nginx.conf and the service's own settings agree on times and sizes."""

from __future__ import annotations

import json
import re

from scripts.fleet.balancer import CONFIGURATION
from service.api.parameters import MAX_WAIT_S
from service.settings import ServerSettings

TEXT = CONFIGURATION.read_text()
SERVER = ServerSettings()


def seconds(directive: str) -> list[int]:
    return [int(found) for found in re.findall(rf"\b{directive} (\d+)s;", TEXT)]


def test_nginx_waits_longer_than_a_replica_works() -> None:
    (limit_s,) = seconds("proxy_read_timeout")
    assert limit_s > SERVER.request_timeout > MAX_WAIT_S


def test_nginx_closes_idle_connections_before_a_leaving_replica_does() -> None:
    (idle_s, _of_clients_s) = seconds("keepalive_timeout")
    assert idle_s < SERVER.idle_linger < SERVER.shutdown_timeout
    assert idle_s < SERVER.keepalive_timeout


def test_what_is_tried_again_is_tried_within_the_time_of_a_request() -> None:
    (limit_s,) = seconds("proxy_next_upstream_timeout")
    assert limit_s < SERVER.request_timeout
    assert "non_idempotent" not in re.sub(r"(?m)^\s*#.*$|\(no non_idempotent\)", "", TEXT)


def test_bodies_have_the_same_limit() -> None:
    assert re.findall(r"client_max_body_size (\d+)m;", TEXT) == [
        str(SERVER.body_limit_bytes // 1024**2)
    ]


def test_each_refusal_is_a_problem_of_its_status() -> None:
    found = re.findall(r"return (\d+) '(.*)';", TEXT)
    assert len(found) == TEXT.count("internal;") >= 8
    for status, body in found:
        problem = json.loads(body.replace("$tollgate_instance", '"request_id": ""'))
        assert problem["status"] == int(status)
        assert problem["type"].startswith("urn:tollgate:problem:")
        assert problem["retryable"] is (int(status) in {502, 504})
