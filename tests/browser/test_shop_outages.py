"""The page of the shop at a limit, without an answer, and out of sight: it goes on by itself."""

from __future__ import annotations

import re

from playwright.sync_api import Route, expect

from tests.browser.purchases import kept, order, send
from tests.browser.windows import Window


def test_limit_is_waited_out(window: Window) -> None:
    window.forgiven = ("429 (Too Many Requests)",)
    page = window.open()
    order(page, "text-summary+free")
    # Somebody else takes all there is.
    page.evaluate("void (window.other = setInterval(() => fetch('text-summary/demo'), 20))")
    page.wait_for_event("response", lambda answer: answer.status == 429)
    page.get_by_label("Text", exact=True).fill("")
    page.get_by_role("button", name="Fill in the example").click()
    note = page.locator(".notice.wait")
    expect(note).to_contain_text("That was a little fast")
    expect(note).to_contain_text(re.compile(r"Goes on by itself in \d+ s"))
    window.shot("limit-light")
    page.evaluate("clearInterval(window.other)")
    expect(page.get_by_label("Text", exact=True)).to_have_value(re.compile("tollgate"))
    expect(note).to_have_count(0)


def test_order_outlasts_an_outage_and_a_reload_and_is_made_once(window: Window) -> None:
    window.forgiven = ("503 (Service Unavailable)", "504 (Gateway Timeout)", "409 (Conflict)")
    page = window.open()
    before = len(window.house.sandbox("books")["payments"])
    fault = {"kind": "status", "status": 503, "retry_after": "1", "route": "POST /payment"}
    window.house.sandbox("faults", fault)
    try:
        order(page, "csv-profile")
        # The example says nothing of this one; its default holds.
        expect(page.get_by_label("The first row names the columns")).to_be_checked()
        send(page)
        expect(page.locator(".notice.wait")).to_contain_text("Goes on by itself in")
        window.shot("outage-light")
        page.reload()
        page.get_by_role("link", name="Your runs").first.click()
        expect(page.locator(".line")).to_contain_text("Being ordered")
        page.locator(".line").click()
        expect(page.locator(".notice.wait").first).to_contain_text("Goes on by itself in")
    finally:
        window.house.sandbox("faults", method="DELETE")
    page.get_by_role("button", name="Pay in the sandbox").click()
    expect(page.locator(".result").get_by_role("table")).to_contain_text("visitors")
    assert len(window.house.sandbox("books")["payments"]) == before + 1


def test_order_whose_answer_is_lost_is_made_once(window: Window) -> None:
    window.forgiven = ("net::ERR_FAILED",)
    jobs: list[str] = []

    def lose_the_first(route: Route) -> None:
        answer = route.fetch()
        jobs.append(answer.json()["id"])
        if len(jobs) == 1:
            route.abort()
        else:
            route.fulfill(response=answer)

    window.page.route(re.compile("/start_job$"), lose_the_first)
    page = window.open()
    order(page, "text-summary+free")
    send(page)
    expect(page.locator(".notice.wait")).to_contain_text("No connection to the service")
    expect(page.locator(".result")).to_be_visible()
    assert jobs == [jobs[0]] * 2


def test_run_is_followed_again_when_its_window_is_seen_again(window: Window) -> None:
    # A headless browser shows every window: so the page is told what its browser would tell it.
    tell = """(hidden) => {
      Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
      document.dispatchEvent(new Event("visibilitychange"));
    }"""
    window.house.sandbox("pace", {"pay_after_s": None})
    try:
        page = window.open()
        order(page, "csv-profile")
        send(page)
        expect(page.locator(".pay")).to_be_visible()
        with page.expect_event("requestfailed", lambda request: "/status?" in request.url):
            page.evaluate(tell, True)
        identifier = kept(page)[0]["started"]["blockchainIdentifier"]
        window.house.sandbox(f"payments/{identifier}/lock", {})
        # Told and told at once, as by somebody who leafs through windows.
        for hidden in (False, True, False):
            page.evaluate(tell, hidden)
        expect(page.locator(".result")).to_be_visible()
    finally:
        window.house.sandbox("pace", {"pay_after_s": 1})
