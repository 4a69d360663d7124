"""A purchaser, a form, a payment, a question and a result: all of it seen and clicked."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.windows import PATIENCE_MS, OpenWindow, Window, looks_right

TEXT = "Bees make honey. Bees live in hives. A hive has one queen. Rain falls in spring."
#: The agent of the priced variant in flows.toml.
PRICED = "e27d3c8bd9a34fab1a3d5ff3c1a7b0c91d9a5b1f0c5f64d2b1a07e4e65766572792d74797065"
expect.set_options(timeout=PATIENCE_MS)


def order(page: Page, flow: str) -> None:
    """The page of a flow with its example filled in."""
    shop = re.sub(r"#.*", "", page.url)
    page.goto("about:blank")  # so that nothing of the page before is taken for this one
    page.goto(f"{shop}#/flow/{flow}")
    page.get_by_role("button", name="Fill in the example").click()
    expect(page.get_by_text("What comes of the example")).to_be_visible()


def send(page: Page) -> None:
    page.get_by_role("button", name=re.compile("Order it|Run it for free")).click()


def proof(page: Page, name: str) -> Any:
    return page.locator(".proof", has_text=f"{name} hash")


def kept(page: Page) -> list[dict[str, Any]]:
    """What the browser remembers of orders."""
    found: list[dict[str, Any]] = page.evaluate(
        "JSON.parse(localStorage.getItem('tollgate.runs/') || '[]')"
    )
    return found


def test_flows_are_offered_as_cards(window: Window) -> None:
    page = window.open()
    card = page.locator(".card", has=page.get_by_role("heading", name="Every type"))
    expect(card).to_contain_text("by Tests · version 1")
    expect(card).to_contain_text("Available")
    expect(card.get_by_role("link", name="free No charge")).to_be_visible()
    expect(card.get_by_role("link", name="priced 2.5 ADA")).to_be_visible()
    expect(page.locator(".card")).to_have_count(4)
    window.shot("flows-light")


def test_free_run_is_bought_by_its_form(window: Window) -> None:
    page = window.open()
    card = page.locator(".card", has=page.get_by_role("heading", name="Text summary"))
    card.get_by_role("link", name="free No charge").click()
    page.get_by_label("Text", exact=True).fill(TEXT)
    page.get_by_label("bullets").check()
    send(page)
    result = page.locator(".result")
    expect(result).to_contain_text("Bees make honey.")
    expect(result.get_by_role("listitem").first).to_be_visible()
    expect(proof(page, "Input")).to_contain_text("Right")
    expect(page).to_have_title("Text summary · Tollgate")
    # Also when the page is opened anew.
    page.reload()
    expect(page.locator(".result")).to_contain_text("Bees make honey.")
    page.get_by_role("link", name="Your runs").first.click()
    expect(page.locator(".line")).to_contain_text("Completed")


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


def test_question_of_a_run_is_answered(window: Window) -> None:
    page = window.open()
    order(page, "tailored-letter+free")
    send(page)
    question = page.locator(".ask")
    question.get_by_role("button", name="Answer").click()
    expect(question.locator(".fault").first).to_have_text("Is required.")
    expect(question.get_by_label("Number of the contract")).to_be_focused()
    window.shot("question-light")
    question.get_by_label("Number of the contract").fill("4711")
    question.get_by_role("button", name="Answer").click()
    expect(page.locator(".result")).to_contain_text("Cancellation of contract 4711")
    expect(proof(page, "Answer")).to_contain_text("Right")


def test_faults_stand_at_their_fields(window: Window) -> None:
    page = window.open("/#/flow/every-type+free")
    page.get_by_label("Text", exact=True).fill("Bee")
    page.get_by_label("E-mail").fill("ada@")
    page.get_by_label("Number", exact=True).fill("12")
    page.get_by_label("Line").fill("eleven char")
    send(page)
    for label, says in (
        ("Text", "Must have at least 5 characters (it has 3)."),
        ("E-mail", "Must be an e-mail address, such as name@example.com."),
        ("Number", "Must be at most 9.5."),
        ("Line optional", "Must have at most 10 characters (it has 11)."),
        ("Date", "Is required."),
    ):
        field = page.get_by_label(label, exact=True)
        expect(field).to_have_attribute("aria-invalid", "true")
        expect(field).to_have_accessible_description(re.compile(re.escape(says)))
    expect(page.get_by_label("Text", exact=True)).to_be_focused()
    expect(page.locator(".formnote")).to_contain_text("fields need another look")
    window.shot("faults-light")
    # Mended, it says so at once.
    page.get_by_label("Text", exact=True).fill("Bees make honey.")
    expect(page.get_by_label("Text", exact=True)).not_to_have_attribute("aria-invalid", "true")
    assert kept(page) == []


def test_faults_only_the_service_finds_stand_at_their_fields_too(window: Window) -> None:
    window.forgiven = ("400 (Bad Request)",)
    page = window.open()
    order(page, "every-type+free")
    page.get_by_label("Picture").fill("https://example.com/bee.pdf")
    send(page)
    picture = page.get_by_label("Picture")
    expect(picture).to_have_accessible_description("Must be of a type in image/*.")
    expect(picture).to_be_focused()
    assert kept(page) == []
    picture.fill("https://example.com/bee.png")
    send(page)
    expect(page.locator(".result")).to_contain_text("Bees make honey.")


def test_every_type_of_field_is_filled_sent_and_hashed(window: Window) -> None:
    page = window.open()
    order(page, "every-type+free")
    demo = window.page.evaluate("fetch('every-type/demo').then((answer) => answer.json())")
    send(page)
    expect(page.locator(".result")).to_be_visible()
    assert kept(page)[0]["input"] == demo["input"] | {"file": [demo["input"]["file"]]}
    expect(proof(page, "Input")).to_contain_text("Right")


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


def test_sandbox_out_of_reach_pays_by_itself(window: Window) -> None:
    window.forgiven = ("net::ERR_FAILED",)
    window.page.route("**/control/wallet/**", lambda route: route.abort())
    page = window.open()
    order(page, "csv-profile")
    send(page)
    expect(page.locator(".result")).to_be_visible()
    expect(proof(page, "Result")).to_contain_text("Compare it with the one on chain.")


def test_where_nothing_can_be_hashed_it_says_so(window: Window) -> None:
    # As it is on a page that came over plain HTTP from another machine.
    window.page.add_init_script("Object.defineProperty(crypto, 'subtle', { value: undefined })")
    page = window.open()
    order(page, "text-summary+free")
    send(page)
    expect(page.locator(".result")).to_be_visible()
    expect(page.locator("main")).to_contain_text("can work out hashes only on https")
    expect(page.locator(".proof.good, .proof.bad")).to_have_count(0)


def test_result_is_text_whatever_it_holds(window: Window) -> None:
    page = window.open()
    page.goto(window.house.url + "/#/flow/tailored-letter+free")
    page.get_by_label("thank-you").check()
    evil = "<img src=x onerror=alert(1)> javascript://x%0aalert(1) https://example.com/a?b=1."
    page.get_by_label("What you want to say").fill(evil)
    page.get_by_label("Your name").fill("<script>alert(1)</script>")
    page.get_by_label("Recipient").fill("Bee")
    send(page)
    page.get_by_label("What for?").fill("the honey")
    page.locator(".ask input[type=radio]").first.check()
    page.get_by_role("button", name="Answer").click()
    result = page.locator(".result")
    expect(result).to_contain_text("<img src=x onerror=alert(1)>")
    assert result.locator("img, script").count() == 0
    [link] = result.locator("a").all()
    assert link.get_attribute("href") == "https://example.com/a?b=1"
    assert "noopener" in str(link.get_attribute("rel"))


def test_another_window_follows_the_same_runs(window: Window, open_window: OpenWindow) -> None:
    page = window.open()
    other = open_window(beside=window)
    beside = other.open("/#/runs")
    expect(beside.locator("main")).to_contain_text("None yet.")
    order(page, "text-summary+free")
    send(page)
    expect(page.locator(".result")).to_be_visible()
    expect(beside.locator(".line")).to_contain_text("Completed")


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


def test_run_is_bought_by_keyboard_alone(window: Window) -> None:
    page = window.open()
    expect(page.locator(".card")).to_have_count(4)
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.hash") == "#/flow/text-summary+free":
            break
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    expect(page.get_by_label("Text", exact=True)).to_be_visible()
    for _ in range(10):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.tagName") == "TEXTAREA":
            break
    page.keyboard.type(TEXT)
    for _ in range(10):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.type") == "submit":
            break
    page.keyboard.press("Enter")
    expect(page.locator(".result")).to_contain_text("Bees make honey.")


@pytest.mark.parametrize(("width", "dark"), [(360, False), (360, True), (1200, True)])
def test_page_fits_narrow_windows_and_dark_rooms(
    open_window: OpenWindow, width: int, dark: bool
) -> None:
    window = open_window(width=width, dark=dark)
    name = f"{'narrow' if width < 600 else 'wide'}-{'dark' if dark else 'light'}"
    page = window.open()
    expect(page.locator(".card .badge")).to_have_count(4)
    looks_right(window, f"flows-{name}")
    order(page, "every-type+free")
    looks_right(window, f"form-{name}")
    page.get_by_label("E-mail").fill("ada@")
    send(page)
    expect(page.get_by_label("E-mail")).to_be_focused()
    looks_right(window, f"faults-{name}")
    order(page, "csv-profile")
    send(page)
    expect(page.get_by_role("button", name="Pay in the sandbox")).to_be_visible()
    looks_right(window, f"payment-{name}")
    page.get_by_role("button", name="Pay in the sandbox").click()
    expect(proof(page, "Result")).to_contain_text("the chain holds")
    looks_right(window, f"result-{name}")
    page.get_by_role("link", name="Your runs").first.click()
    expect(page.locator(".line")).to_have_count(1)
    looks_right(window, f"runs-{name}")
