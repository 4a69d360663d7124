"""A real headless Chromium before a real service: what ``make run`` starts, on ports of its own.

A page that complains in its console, or asks anybody else for anything, fails its test.
Pictures go to build/screenshots.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ViewportSize, expect, sync_playwright

from scripts.running import ROOT
from scripts.stack import stack
from tests.browser.windows import ELSEWHERE, PATIENCE_MS, TOKEN, House, OpenWindow, Window
from tests.support.servers import Servers, scratch_directory

FLOWS = Path(__file__).with_name("flows.toml")
SETTINGS = {
    "TOLLGATE_SERVER__WORKERS": "1",
    "TOLLGATE_DATABASE__POOL_MIN": "2",
    "TOLLGATE_PAYMENT__POLL_INTERVAL": "0.3",
    "TOLLGATE_JOBS__POLL_INTERVAL": "0.2",
    "TOLLGATE_BREAKER__RECOVERY_SECONDS": "1",
    **{
        f"TOLLGATE_LIMITS__{policy}__RATE": "100000/minute"
        for policy in ("DEFAULT", "FLOWS", "AVAILABILITY", "INPUT_SCHEMA", "START_JOB", "STATUS",
                       "PROVIDE_INPUT")
    },
    "TOLLGATE_ADMIN__TOKEN": TOKEN,
    # For the test that runs into a limit.
    "TOLLGATE_LIMITS__DEMO__RATE": "1/second",
    "TOLLGATE_LIMITS__DEMO__BURST": "20",
}  # fmt: skip


@pytest.fixture(scope="session")
def house(servers: Servers) -> Iterator[House]:
    with servers.cloned_database() as database, scratch_directory() as data:
        urls = {"TOLLGATE_DATABASE__URL": database, "TOLLGATE_REDIS__URL": servers.redis_url}
        with stack(data, {**SETTINGS, **urls}) as running:
            command = (sys.executable, "-m", "service", "flows", "import", str(FLOWS))
            subprocess.run(command, cwd=ROOT, env={**os.environ, **urls}, check=True, timeout=60)
            yield House(running.service)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.exit("There is no chromium on PATH: apt-get install chromium", returncode=2)
    # As root there is no sandbox of its own; it sees our own pages only.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    # So that a window can come under a name that is not this machine's own.
    arguments.append(f"--host-resolver-rules=MAP {ELSEWHERE} 127.0.0.1")
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=arguments)
        yield started
        started.close()


@pytest.fixture
def open_window(browser: Browser, house: House) -> Iterator[OpenWindow]:
    """Opens windows; ``beside`` another one, they share what the browser keeps."""
    windows: list[Window] = []

    def make(*, width: int = 1200, dark: bool = False, beside: Window | None = None) -> Window:
        context = (
            beside.page.context
            if beside
            else browser.new_context(
                viewport=ViewportSize(width=width, height=800),
                color_scheme="dark" if dark else "light",
                permissions=["clipboard-read", "clipboard-write"],
                locale="en-GB",
            )
        )
        context.set_default_timeout(PATIENCE_MS)
        window = Window(context.new_page(), house)
        windows.append(window)
        return window

    yield make
    for window in windows:
        window.page.unroute_all(behavior="ignoreErrors")
    for context in {window.page.context for window in windows}:
        context.close()
    for window in windows:
        window.check()


@pytest.fixture
def window(open_window: OpenWindow) -> Window:
    return open_window()
