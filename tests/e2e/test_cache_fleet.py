"""A cold cache, eight processes, and 2,000 requests for one flow at once: who asks the database?"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection, wait

import pytest

from scripts.running import ROOT
from tests.e2e.cache_worker import LOADING, VALUE, Given, Round

WORKERS, REQUESTS = 8, 250
NOWHERE = "redis://127.0.0.1:1/0"
#: Far more than any round takes.
PATIENCE_S = 30.0


class Fleet:
    def __init__(self, pipes: list[Connection]) -> None:
        self._workers = {pipe: self._said(pipe) for pipe in pipes}

    def begin(self, order: Round) -> None:
        """All at the same instant, when all are surely ready."""
        order = replace(order, begin_s=time.monotonic() + 0.3)
        for pipe in self._workers:
            pipe.send(order)

    def kill_loader(self) -> None:
        """Whoever says first that it loads."""
        (pipe, *_) = wait(list(self._workers), PATIENCE_S)
        assert isinstance(pipe, Connection)
        assert pipe.recv() == LOADING
        process = self._workers.pop(pipe)
        assert isinstance(process, int)
        os.kill(process, signal.SIGKILL)
        pipe.close()

    def end(self) -> list[Given]:
        """What each that is left was given."""
        given = []
        for pipe in self._workers:
            while (said := self._said(pipe)) == LOADING:
                pass
            assert isinstance(said, Given)
            given.append(said)
        return given

    def _said(self, pipe: Connection) -> object:
        assert pipe.poll(PATIENCE_S), "a worker does not answer"
        said: object = pipe.recv()
        return said


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    pairs = [socket.socketpair() for _ in range(WORKERS)]
    theirs = [their.fileno() for _, their in pairs]
    program = f"from tests.e2e.cache_worker import fork_each; fork_each({theirs})"
    parent = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, pass_fds=theirs, start_new_session=True
    )
    pipes = [Connection(our.detach()) for our, _ in pairs]
    for _, their in pairs:
        their.close()
    try:
        yield Fleet(pipes)
        for pipe in pipes:
            pipe.close()  # which ends its worker
        assert parent.wait(PATIENCE_S) == 0
    finally:
        with suppress(ProcessLookupError):
            os.killpg(parent.pid, signal.SIGKILL)
        parent.wait()


def cold(key: str, redis_url: str) -> Round:
    return Round(key, redis_url, REQUESTS, load_s=0.3, wait_s=5.0, begin_s=0.0)


def served(given: list[Given]) -> int:
    assert {value for each in given for value in each.values} == {VALUE}
    return sum(each.values[VALUE] for each in given)


def test_one_load_serves_all(fleet: Fleet, redis_url: str) -> None:
    fleet.begin(cold("a", redis_url))
    given = fleet.end()
    assert served(given) == WORKERS * REQUESTS
    assert sum(each.loads for each in given) == 1


def test_clients_that_leave_take_nothing_from_the_others(fleet: Fleet, redis_url: str) -> None:
    fleet.begin(replace(cold("b", redis_url), load_s=1.0, leader_leaves=True))
    given = fleet.end()
    assert [each.left for each in given if each.loads] == [1]
    assert served(given) == WORKERS * REQUESTS - sum(each.left for each in given)
    assert sum(each.loads for each in given) == 1


def test_without_redis_each_worker_loads_once(fleet: Fleet) -> None:
    fleet.begin(cold("c", NOWHERE))
    given = fleet.end()
    assert served(given) == WORKERS * REQUESTS
    assert {each.loads for each in given} == {1}


def test_when_the_loading_process_is_killed_another_takes_over(
    fleet: Fleet, redis_url: str
) -> None:
    # The lease ends after 0.7 of it, and the others must still wait when the next load has ended.
    fleet.begin(replace(cold("d", redis_url), wait_s=10.0))
    fleet.kill_loader()
    given = fleet.end()
    assert len(given) == WORKERS - 1
    assert served(given) == (WORKERS - 1) * REQUESTS
    assert sum(each.loads for each in given) == 1
