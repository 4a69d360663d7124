"""Fixtures every test may ask for. Servers start only when the first test asks for one.

The suite runs in several worker processes at once (pytest-xdist; tests/support/distribution.py),
each with a PostgreSQL and a Valkey of its own. So three rules for whoever writes a test:

- It is not alone on the machine: ports come from the system, files from tmp_path or
  scratch_directory(), and nothing is found or ended by its name alone.
- It is not alone on the processor: what it measures is compared with something measured beside it,
  or bounded by ten times what it takes; it waits for what happens, never for a time.
- Outside tests/e2e the tests of one file run in several workers: each makes a module fixture anew.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack

import pytest
import structlog
from xdist.remote import Producer
from xdist.scheduler import Scheduling

from scripts.devservers import EmbeddedPostgres, EmbeddedValkey
from tests.support import commands
from tests.support.distribution import InOrder, workers_for
from tests.support.leftovers import Leftovers
from tests.support.servers import Servers

# What the developer's shell holds must not reach what is tested: our settings, libpq's, the
# metrics directory of a running service.
for _name in [n for n in os.environ if n.startswith(("TOLLGATE_", "PG", "PROMETHEUS_"))]:
    del os.environ[_name]

LEFTOVERS = None if Leftovers.looked_for() else Leftovers()


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    return workers_for(config.args)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling | None:
    """Ours, unless the command line names one of pytest-xdist's with --dist."""
    return InOrder(config, log) if config.option.dist == "load" else None


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """No garbage is collected while a failure is written down.

    Writing it parses source; a forgotten task whose complaint comes in the middle of that breaks
    CPython 3.11 ("AST constructor recursion depth mismatch"), and the run loses a whole worker.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """A process that is left running fails the session, though no test did."""
    commands.end()
    if LEFTOVERS is not None:
        LEFTOVERS.look()
        if LEFTOVERS.found:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if LEFTOVERS is not None and LEFTOVERS.found:
        terminalreporter.section("left running", red=True)
        for line in LEFTOVERS.found:
            terminalreporter.write_line(line)


def pytest_unconfigure() -> None:
    if LEFTOVERS is not None:
        LEFTOVERS.remove()


@pytest.fixture(autouse=True, scope="session")
def _commands_leave_logging_alone() -> Iterator[None]:
    """What ``tollgate`` sets up for its process is tested with processes of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("service.cli.program.configure_logging", lambda _settings: None)
        yield


@pytest.fixture(autouse=True)
def _logging_is_left_as_it_was() -> Iterator[None]:
    """Else later tests of this process write into a stream this one's capture has closed."""
    factory = structlog.get_config()["logger_factory"]
    yield
    left = structlog.get_config()["logger_factory"]
    structlog.reset_defaults()
    assert left is factory, "the test has set logging up and not put it back"


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """One PostgreSQL and one Valkey for the session, in a temporary directory."""
    running = Servers()
    try:
        yield running
    finally:
        running.close()


@pytest.fixture
def redis_url(servers: Servers) -> str:
    """An empty Redis-protocol server."""
    servers.flush()
    return servers.redis_url


@pytest.fixture
def database_url(servers: Servers) -> Iterator[str]:
    """A fresh database with the whole schema."""
    with servers.cloned_database() as url:
        yield url


@pytest.fixture
def private_postgres(servers: Servers) -> Iterator[Callable[..., EmbeddedPostgres]]:
    """Makes started servers of the test's own, which it may kill, suspend and restart.

    Their methods block; they are quick enough to be called from an async test. The database is
    empty: ``tests.support.servers.migrate(server.url)`` gives it the schema.
    """
    with ExitStack() as stack:

        def make(*, max_connections: int = 200) -> EmbeddedPostgres:
            server = servers.private_postgres(max_connections=max_connections)
            stack.callback(server.stop)
            return server

        yield make


@pytest.fixture
def private_valkey(servers: Servers) -> Iterator[Callable[[], EmbeddedValkey]]:
    """Makes started servers of the test's own, which it may kill, suspend and restart."""
    with ExitStack() as stack:

        def make() -> EmbeddedValkey:
            server = servers.private_valkey()
            stack.callback(server.stop)
            return server

        yield make
