"""A purchaser, a form, a question and a result: all of it seen and clicked."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.browser.purchases import kept, order, proof, send
from tests.browser.windows import OpenWindow, Window, looks_right

TEXT = "Bees make honey. Bees live in hives. A hive has one queen. Rain falls in spring."


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
