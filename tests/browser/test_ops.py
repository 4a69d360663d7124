"""The page for operators while the service is at work, in trouble, and taken in hand."""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.windows import ELSEWHERE, TOKEN, House, OpenWindow, Window, looks_right

TEXT = "Bees make honey. Bees live in hives. A hive has one queen. Rain falls in spring."
#: In SETTINGS this policy is small: a flood of these is refused.
SMALL = "/text-summary/demo"


def ask(house: House, path: str, body: Any = None) -> Any:
    """The answer of the public listener; None for a failure or refusal."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"} if data else {}
    request = urllib.request.Request(house.url + path, data=data, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read())
    except urllib.error.HTTPError:
        return None


@contextlib.contextmanager
def load(house: House, *paths: str, pause_s: float = 0.02) -> Iterator[None]:
    """Requests for these paths, one after the other, until the block ends."""
    over = threading.Event()

    def run() -> None:
        while not over.is_set():
            for path in paths:
                ask(house, path)
                over.wait(pause_s)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextlib.contextmanager
def payments_failing(house: House) -> Iterator[None]:
    house.sandbox("faults", {"kind": "status", "status": 500})
    try:
        yield
    finally:
        house.sandbox("faults", method="DELETE")


def buy(house: House, flow: str) -> Any:
    body = {"identifier_from_purchaser": secrets.token_hex(8), "input_data": {"text": TEXT}}
    return ask(house, f"/{flow}/start_job", body)


def open_ops(window: Window) -> Page:
    window.page.goto(f"{window.house.running.internal_url}/ops")
    expect(window.page.get_by_role("heading", name="Workers")).to_be_visible()
    return window.page


def number(text: str) -> float:
    found = re.search(r"[\d.,]+", text)
    assert found, text
    return float(found[0].replace(",", ""))


def tile(page: Page, name: str) -> Any:
    return page.locator(".tile", has_text=name)


def panel(page: Page, name: str) -> Any:
    return page.get_by_role("region", name=name, exact=True)


def turn(page: Page, *, hidden: bool) -> None:
    """To another tab, or back."""
    page.evaluate(
        "(value) => { Object.defineProperty(document, 'hidden', { value, configurable: true });"
        " document.dispatchEvent(new Event('visibilitychange')); }",
        hidden,
    )


def confirm(page: Page, verb: str, reason: str) -> None:
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Why").fill(reason)
    dialog.get_by_label("Who you are").fill("nora")
    dialog.get_by_role("button", name=verb).click()
    expect(dialog).to_have_count(0)


@pytest.fixture
def calm(house: House) -> Iterator[None]:
    """Whatever a test does to the breaker is undone by its end."""
    yield
    command(house, "breaker/reset", {})


def command(house: House, path: str, order: dict[str, Any]) -> None:
    body = json.dumps({"by": "tests", "reason": "tidy up", **order}).encode()
    request = urllib.request.Request(
        f"{house.running.internal_url}/ops/api/v1/{path}",
        data=body,
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 200


def test_traffic_shows_while_it_flows(window: Window) -> None:
    with load(window.house, "/flows", "/flows/text-summary", "/nowhere"):
        page = open_ops(window)
        expect(tile(page, "Answers a second").locator("b")).not_to_have_text("0")
        expect(page.get_by_role("heading", level=1)).to_contain_text("All is well")
        expect(panel(page, "Traffic").get_by_role("row", name=re.compile("^flows"))).to_be_visible()
        line = panel(page, "Traffic").locator("path.s0").nth(1)
        expect(line).to_have_attribute("d", re.compile("L.*L"))
        expect(panel(page, "Workers").locator("tbody tr")).to_have_count(1)
        window.shot("ops-light")
    expect(tile(page, "Answers a second").locator("b")).to_have_text("0")


def test_plot_is_read_by_keys_and_as_a_table(window: Window) -> None:
    with load(window.house, "/flows"):
        page = open_ops(window)
        expect(tile(page, "Answers a second").locator("b")).not_to_have_text("0")
        plot = page.locator(".plot", has_text="Answers a second").first
        drawing = plot.get_by_role("img")
        expect(drawing).to_have_accessible_name(re.compile(r"served \(2xx, 3xx\): now [\d.]+"))
        drawing.focus()
        page.keyboard.press("ArrowLeft")
        expect(plot.locator(".readout")).to_contain_text("served")
        plot.get_by_text("As a table").click()
        expect(plot.get_by_role("columnheader", name="refused (429)")).to_be_visible()
        expect(plot.get_by_role("rowheader").first).to_have_text(re.compile(r"^\d\d:\d\d:\d\d$"))


def test_flood_of_refusals_shows_by_whom_and_of_whom(window: Window) -> None:
    with load(window.house, SMALL, pause_s=0.001):
        page = open_ops(window)
        refused = panel(page, "Admitted and refused")
        row = refused.get_by_role("row", name=re.compile("^demo"))
        expect(row.locator("td").nth(3)).not_to_have_text("0")
        expect(tile(page, "Refused a second")).to_contain_text("by demo")
        expect(page.locator(".verdict")).to_contain_text("over their limits, most by demo")
        listed = refused.locator("code").filter(has_text=re.compile("^address [0-9a-f]{12}$"))
        expect(listed).to_have_count(1)
        assert "127.0.0.1" not in refused.inner_text()
        refused.get_by_label("A client's buckets").fill("127.0.0.1")
        refused.get_by_role("button", name="Look up").click()
        expect(refused.locator(".job")).to_contain_text(listed.inner_text())
        window.shot("ops-flood")
    refused.get_by_role("button", name="Fill the bucket of demo").click()
    window.shot("ops-confirm")
    confirm(page, "Fill them", "they asked")
    expect(page.locator("#note")).to_contain_text("Filled: demo")
    row = panel(page, "Done by hand").get_by_role("row", name=re.compile("they asked"))
    expect(row).to_contain_text("nora (page, 127.0.0.1)")
    expect(row).to_contain_text("limits: reset")


@pytest.mark.usefixtures("calm")
def test_breaker_opens_and_closes_before_ones_eyes(window: Window) -> None:
    page = open_ops(window)
    expect(tile(page, "Payment breaker")).to_contain_text("closed")
    with payments_failing(window.house):
        assert buy(window.house, "text-summary") is None
        expect(tile(page, "Payment breaker").locator("b")).to_have_text(re.compile("open"))
        expect(page.get_by_role("heading", level=1)).to_have_text("Something is wrong")
        expect(page.locator(".verdict")).to_contain_text("The payment breaker is")
        steps = panel(page, "Payments and their breaker").get_by_role("row")
        expect(steps.filter(has_text="closed → open").first).to_contain_text("failures")
        expect(page.locator(".strip .state.open").first).to_be_attached()
        assert page.title().startswith("✗")
        window.shot("ops-breaker-open")
    buy(window.house, "text-summary")  # somebody must call, for a probe
    expect(tile(page, "Payment breaker")).to_contain_text("closed")
    expect(steps.filter(has_text="half-open → closed").first).to_contain_text("probe-ok")


@pytest.mark.usefixtures("calm")
def test_breaker_is_held_and_reset_by_hand(window: Window) -> None:
    page = open_ops(window)
    payments = panel(page, "Payments and their breaker")
    payments.get_by_role("button", name="Hold open…").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Every worker refuses paid orders at once")
    dialog.get_by_role("button", name="Cancel").click()
    expect(payments).to_contain_text("closed")
    payments.get_by_role("button", name="Hold open…").click()
    confirm(page, "Hold it open", "payment service moves house")
    expect(payments.locator(".state").first).to_contain_text("held by nora (page, 127.0.0.1)")
    assert buy(window.house, "text-summary") is None
    expect(page.locator(".verdict")).to_contain_text("payment service moves house")
    payments.get_by_role("button", name="Reset…").click()
    confirm(page, "Reset it", "moved")
    expect(tile(page, "Payment breaker")).to_contain_text("closed")
    done = panel(page, "Done by hand")
    forced = done.get_by_role("row", name=re.compile("breaker: forced open for 600 s"))
    expect(forced.first).to_contain_text("nora")
    expect(done.get_by_role("row", name=re.compile("breaker: reset.*moved")).first).to_be_visible()
    assert buy(window.house, "text-summary") is not None


def test_policy_is_put_on_trial_and_enforced(window: Window) -> None:
    page = open_ops(window)
    refused = panel(page, "Admitted and refused")
    refused.get_by_role("button", name="Put on trial: status").click()
    confirm(page, "Put it on trial", "too strict")
    expect(refused.get_by_role("button", name="Enforce: status")).to_be_visible()
    refused.get_by_role("button", name="Enforce: status").click()
    confirm(page, "Enforce it", "it was right")
    expect(refused.get_by_role("button", name="Put on trial: status")).to_be_visible()


#: A table whose row comes again, with the same button and something else behind it.
PRESSED = """async () => {
  const here = document.querySelector("script[type=module]").src;
  const { table } = await import(here.replace("app.js", "tables.js"));
  const { el } = await import(here.replace("app.js", "dom.js"));
  const pressed = [];
  const rows = table({ caption: "Things", empty: "", key: (row) => row.name, columns: [
    { name: "", of: (row) => el("button", { onclick: () => pressed.push(row.burst) }, "Try…") },
  ] });
  rows.update([{ name: "a", burst: 1 }]);
  const button = rows.node.querySelector("button");
  rows.update([{ name: "a", burst: 2 }]);
  button.click();
  return [pressed, button === rows.node.querySelector("button")];
}"""


def test_button_that_stays_does_what_its_row_says_now(window: Window) -> None:
    assert open_ops(window).evaluate(PRESSED) == [[2], True]


def test_job_is_followed_to_its_history(window: Window) -> None:
    job = buy(window.house, "text-summary+free")
    page = open_ops(window)
    jobs = panel(page, "Jobs")
    jobs.get_by_label("A job by its id").fill(job["job_id"])
    jobs.get_by_role("button", name="Show").click()
    history = jobs.get_by_role("region", name="How the job came there")
    expect(history.get_by_role("row").nth(1)).to_contain_text("running")
    expect(jobs.locator(".job")).to_contain_text("text-summary (free)")
    assert TEXT[:16] not in jobs.inner_text()
    jobs.locator("summary", has_text="List jobs").click()
    jobs.get_by_label("State", exact=True).select_option("completed")
    listed = jobs.get_by_role("region", name="Jobs, the oldest first")
    expect(listed.get_by_role("row", name=re.compile(job["job_id"]))).to_contain_text("completed")
    window.shot("ops-job")
    jobs.get_by_label("A job by its id").fill("nonsense")
    window.forgiven = ("404",)
    jobs.get_by_role("button", name="Show").click()
    expect(jobs.get_by_role("alert").filter(has_text="not the id of a job")).to_be_visible()


def test_hidden_page_asks_for_nothing_and_then_knows_what_it_missed(window: Window) -> None:
    page = open_ops(window)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    turn(page, hidden=True)
    expect(page.locator("#live")).to_have_text("paused")
    page.wait_for_timeout(500)  # what was under way has ended
    asked.clear()
    page.wait_for_timeout(4500)  # twice the time between two questions
    assert asked == []
    turn(page, hidden=False)
    expect(page.locator("#live")).to_have_text("✓ live")
    assert [url.rsplit("/", 1)[-1] for url in asked[:2]] == ["past", "now"]


@pytest.mark.parametrize(("width", "dark"), [(360, True), (360, False), (1200, True)])
def test_it_fits_and_is_readable(open_window: OpenWindow, width: int, dark: bool) -> None:
    window = open_window(width=width, dark=dark)
    with load(window.house, "/flows", SMALL, pause_s=0.005):
        page = open_ops(window)
        expect(tile(page, "Refused a second")).to_contain_text("by demo")
        looks_right(window, f"ops-{'dark' if dark else 'light'}-{width}")


def test_who_comes_from_elsewhere_shows_the_token(window: Window) -> None:
    # Without TLS the browser says that it passes over one of the fields.
    window.forgiven = ("401", "Cross-Origin-Opener-Policy")
    page = window.page
    page.goto(window.house.running.internal_url.replace("127.0.0.1", ELSEWHERE) + "/ops")
    expect(page.get_by_role("heading", name="Operations")).to_be_visible()
    page.get_by_label("Admin token").fill("wrong")
    page.get_by_role("button", name="Open").click()
    expect(page.get_by_role("alert")).to_contain_text("This is not the")
    window.shot("ops-token")
    page.get_by_label("Admin token").fill(TOKEN)
    page.get_by_role("button", name="Open").click()
    expect(page.get_by_role("heading", name="Workers")).to_be_visible()
    page.reload()  # this tab keeps it
    expect(page.get_by_role("heading", name="Workers")).to_be_visible()
    assert page.evaluate("document.cookie + Object.keys(localStorage)") == ""
    beside = page.context.new_page()  # and no other tab has it
    beside.goto(page.url)
    expect(beside.get_by_label("Admin token")).to_be_visible()


def test_token_page_that_was_hidden_while_the_service_was_away_finds_it_again(
    window: Window,
) -> None:
    window.forgiven = ("401", "Cross-Origin-Opener-Policy", "Failed to load resource")
    page = window.page
    page.goto(window.house.running.internal_url.replace("127.0.0.1", ELSEWHERE) + "/ops")
    page.get_by_label("Admin token").fill(TOKEN[:5])
    turn(page, hidden=True)  # to where the rest of it is written
    turn(page, hidden=False)
    page.evaluate("fetch('ops/api/v1/past').then((answer) => answer.text())")  # after its own
    expect(page.get_by_label("Admin token")).to_have_value(TOKEN[:5])
    page.get_by_label("Admin token").fill(TOKEN)
    page.get_by_role("button", name="Open").click()
    expect(page.locator("#live")).to_have_text("✓ live")
    page.route("**/ops/api/**", lambda route: route.abort())
    page.reload()
    expect(page.get_by_role("alert")).to_contain_text("does not answer")
    turn(page, hidden=True)
    page.unroute("**/ops/api/**")
    turn(page, hidden=False)
    expect(page.locator("#live")).to_have_text("✓ live")


def test_lost_service_is_said_and_found_again(window: Window) -> None:
    page = open_ops(window)
    window.forgiven = ("Failed to load resource",)
    page.route("**/ops/api/**", lambda route: route.abort())
    expect(page.locator("#live")).to_contain_text("no answer")
    page.unroute("**/ops/api/**")
    expect(page.locator("#live")).to_have_text("✓ live")
