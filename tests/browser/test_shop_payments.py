"""Payments on the page of the shop: made, missed, forged; and the proofs of what was bought."""

from __future__ import annotations

import re

from playwright.sync_api import Route, expect

from tests.browser.purchases import kept, order, proof, send
from tests.browser.windows import PATIENCE_MS, Window

#: The agent of the priced variant in flows.toml.
PRICED = "e27d3c8bd9a34fab1a3d5ff3c1a7b0c91d9a5b1f0c5f64d2b1a07e4e65766572792d74797065"


def test_paid_run_waits_until_its_purchaser_has_paid(window: Window) -> None:
    page = window.open()
    order(page, "text-summary")
    send(page)
    pay = page.get_by_role("button", name="Pay in the sandbox")
    expect(pay).to_be_visible()
    expect(page.locator(".pay")).to_contain_text(re.compile(r"To be paid within 1\d min \d\d s"))
    expect(proof(page, "Input")).to_contain_text("Right")
    window.shot("payment-light")
    started = kept(page)[0]["started"]
    # The sandbox would have paid for anybody else by now.
    window.house.sandbox("clock", {"seconds": 30})
    assert window.house.payment(started["blockchainIdentifier"])["onChainState"] is None
    pay.click()
    expect(page.locator(".result")).to_contain_text("Summary (2 of 6 sentences)")
    expect(proof(page, "Result")).to_contain_text("the chain holds the hash of this very result")
    settled = window.house.payment(started["blockchainIdentifier"])["resultHash"]
    assert proof(page, "Result").locator("code").inner_text() == settled
    window.shot("result-light")


def test_payment_that_comes_to_nothing_ends_the_run(window: Window) -> None:
    page = window.open()
    order(page, "csv-profile")
    send(page)
    expect(page.locator(".pay")).to_be_visible()
    identifier = kept(page)[0]["started"]["blockchainIdentifier"]
    payment = window.house.payment(identifier)
    window.house.sandbox(f"payments/{payment['id']}/invalidate", {})
    failed = page.locator("section.bad")
    expect(failed).to_contain_text("The run failed")
    expect(failed).to_contain_text("No valid payment came in time.")
    window.shot("failed-light")
    page.get_by_role("button", name="Remove from the list").click()
    expect(page.locator("main")).to_contain_text("None yet.")


def test_without_a_sandbox_the_request_for_a_wallet_is_shown(window: Window) -> None:
    changed(window, "/$", 'data-sandbox="[^"]*"', 'data-sandbox=""')
    window.house.sandbox("pace", {"pay_after_s": None})
    agent = {"agent_identifier": PRICED, "agent": {"pricing": "Dynamic"}}
    window.house.sandbox("agents", agent)
    try:
        page = window.open()
        order(page, "every-type+priced")
        send(page)
        request = page.locator(".pay pre")
        expect(request).to_contain_text('"payByTime": "')
        expect(page.locator(".pay")).to_contain_text("2.5 ADA")
        expect(page.get_by_text("sandbox", exact=False)).to_have_count(0)
        page.get_by_role("button", name="Copy the request").click()
        copied = page.evaluate("navigator.clipboard.readText()")
        assert copied == request.inner_text()
        identifier = kept(page)[0]["started"]["blockchainIdentifier"]
        window.house.sandbox(f"payments/{identifier}/lock", {})
        expect(page.locator(".result")).to_be_visible()
        expect(proof(page, "Result")).to_contain_text("Compare it with the one on chain.")
    finally:
        window.house.sandbox("pace", {"pay_after_s": 1})


def test_sandbox_out_of_reach_pays_by_itself(window: Window) -> None:
    window.forgiven = ("net::ERR_FAILED",)
    window.page.route("**/control/wallet/**", lambda route: route.abort())
    page = window.open()
    order(page, "csv-profile")
    send(page)
    expect(page.locator(".result")).to_be_visible()
    expect(proof(page, "Result")).to_contain_text("Compare it with the one on chain.")


def changed(window: Window, address: str, old: str, new: str) -> None:
    """Answers from there reach the page with this text in place of that."""

    def change(route: Route) -> None:
        answer = route.fetch(timeout=2 * PATIENCE_MS)
        route.fulfill(response=answer, body=re.sub(old, new, answer.text()))

    window.page.route(re.compile(address), change)


def test_what_is_not_as_it_was_is_seen(window: Window) -> None:
    window.forgiven = ("400 (Bad Request)",)
    changed(window, "/start_job$", r'"input_hash":"....', '"input_hash":"0000')
    changed(window, r"/status\?", "Keywords: ", "Keywords: bribed, ")
    page = window.open()
    order(page, "text-summary")
    send(page)
    expect(proof(page, "Input")).to_contain_text("Wrong: your browser works out")
    # Nor does the payment service take terms that are not its own.
    page.get_by_role("button", name="Pay in the sandbox").click()
    expect(page.locator(".pay")).to_contain_text("signature invalid")
    window.page.unroute(re.compile("/start_job$"))
    order(page, "text-summary")
    send(page)
    page.get_by_role("button", name="Pay in the sandbox").click()
    expect(page.locator(".result")).to_contain_text("bribed")
    expect(proof(page, "Result")).to_contain_text("Wrong: your browser works out")
    window.shot("wrong-light")


def test_where_nothing_can_be_hashed_it_says_so(window: Window) -> None:
    # As it is on a page that came over plain HTTP from another machine.
    window.page.add_init_script("Object.defineProperty(crypto, 'subtle', { value: undefined })")
    page = window.open()
    order(page, "text-summary+free")
    send(page)
    expect(page.locator(".result")).to_be_visible()
    expect(page.locator("main")).to_contain_text("can work out hashes only on https")
    expect(page.locator(".proof.good, .proof.bad")).to_have_count(0)
