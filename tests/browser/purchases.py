"""What a purchaser does on the page, in the words of the tests of the shop."""

from __future__ import annotations

import re
from typing import Any

from playwright.sync_api import Locator, Page, expect


def order(page: Page, flow: str) -> None:
    """The page of a flow with its example filled in."""
    shop = re.sub(r"#.*", "", page.url)
    page.goto("about:blank")  # so that nothing of the page before is taken for this one
    page.goto(f"{shop}#/flow/{flow}")
    page.get_by_role("button", name="Fill in the example").click()
    expect(page.get_by_text("What comes of the example")).to_be_visible()


def send(page: Page) -> None:
    page.get_by_role("button", name=re.compile("Order it|Run it for free")).click()


def proof(page: Page, name: str) -> Locator:
    return page.locator(".proof", has_text=f"{name} hash")


def kept(page: Page) -> list[dict[str, Any]]:
    """What the browser remembers of orders."""
    found: list[dict[str, Any]] = page.evaluate(
        "JSON.parse(localStorage.getItem('tollgate.runs/') || '[]')"
    )
    return found
