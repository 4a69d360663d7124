"""What the tests of pages hold in their hands: the running service, and windows of a browser."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import Page

from scripts.running import ROOT, Running

SHOTS = ROOT / "build" / "screenshots"
AUDIT = Path(__file__).with_name("audit.js").read_text("utf-8")
#: What an operator shows who comes from elsewhere, and a name that leads there.
TOKEN = "token-of-the-operators"
ELSEWHERE = "ops.test"
#: A busy machine is no failure; what should happen usually does within a second.
PATIENCE_MS = 20_000


@dataclass(slots=True)
class House:
    """The running service, and its sandbox payment service."""

    running: Running

    @property
    def url(self) -> str:
        return self.running.url

    def sandbox(self, path: str, body: Any = None, *, method: str | None = None) -> Any:
        """One of the sandbox's control routes."""
        return _json(f"{self.running.payment_url}/control/{path}", body, method)

    def payment(self, blockchain_identifier: str) -> dict[str, Any]:
        payments: list[dict[str, Any]] = self.sandbox("books")["payments"]
        [found] = [p for p in payments if p["blockchainIdentifier"] == blockchain_identifier]
        return found


@dataclass  # without slots: Playwright leaves a note on whoever listens
class Window:
    """One page and what it complained of."""

    page: Page
    house: House
    complaints: list[str] = field(default_factory=list)
    #: Addresses the page may fail to get without a complaint; a test that breaks something says.
    forgiven: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        self.page.on("console", self._said)
        self.page.on("request", self._asked)

    def open(self, path: str = "/") -> Page:
        self.page.goto(self.house.url + path)
        return self.page

    def shot(self, name: str) -> None:
        """A picture of the whole page."""
        SHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SHOTS / f"{name}.png", full_page=True, animations="disabled")

    def check(self) -> None:
        serious = [text for text in self.complaints if not any(f in text for f in self.forgiven)]
        assert not serious, "\n".join(serious)

    def _said(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.text} ({message.location.get('url')})")

    def _asked(self, request: Any) -> None:
        running = self.house.running
        internal = running.internal_url
        elsewhere = internal.replace("127.0.0.1", ELSEWHERE)
        known = (running.url, internal, elsewhere, str(running.payment_url), "data:", "blob:")
        if not request.url.startswith(known):
            self.complaints.append(f"asked elsewhere: {request.url}")


OpenWindow = Callable[..., Window]


def looks_right(window: Window, name: str) -> None:
    """Takes the picture; every reader finds her way about the page, at this width and light."""
    window.shot(name)
    faults = window.page.evaluate(AUDIT)
    assert not faults, "\n".join(faults)


def _json(url: str, body: Any, method: str | None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, method=method)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.loads(answer.read())
