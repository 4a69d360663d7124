"""The report of load tests as seen: in both lights, narrow and wide, on paper, by keyboard."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, ViewportSize, expect

from scripts.load.judging import thresholds
from scripts.load.record import Event, Record, Verdict
from scripts.load.report import page as page_of
from scripts.load.report import report
from tests.browser.windows import AUDIT, PATIENCE_MS, SHOTS
from tests.support.load_records import (
    admitted,
    drawn,
    generator,
    machine,
    requests,
    rich,
    second,
    small,
)
from tests.support.load_strategies import HOSTILE

Show = Callable[..., Page]

#: Pictures without a size, or outside of the window.
PICTURES = """() => [...document.querySelectorAll(".plot")].map((node) => {
  const box = node.getBoundingClientRect();
  const said = node.getAttribute("aria-label") || "";
  const fits = box.left >= 0 && box.right <= innerWidth + 0.5 && box.width > 120 && box.height > 40;
  const drawn = node.querySelector("path, circle") !== null;
  return fits && drawn && said ? "" : `${box.width} x ${box.height} at ${box.left}: ${said}`;
}).filter(Boolean)"""
#: Lines and bands that hardly differ from what is behind them (WCAG 2: below 3), by their color.
FAINT = """() => {
  const light = (color) => {
    const parts = color.match(/[\\d.]+/g).slice(0, 3).map((part) => {
      const share = part / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
  };
  const found = new Set();
  for (const node of document.querySelectorAll(".plot .line, .plot .band, .bar .band, .event")) {
    const style = getComputedStyle(node);
    const color = node.matches(".line") ? style.stroke : style.fill;
    const panel = getComputedStyle(node.closest(".panel")).backgroundColor;
    const pair = [light(color), light(panel)].sort((a, b) => b - a);
    const contrast = (pair[0] + 0.05) / (pair[1] + 0.05);
    if (contrast < 2.95) found.add(`${node.getAttribute("class")} ${contrast.toFixed(2)}`);
  }
  return [...found];
}"""


def judged(record: Record, baseline: Record | None = None) -> Record:
    verdicts = thresholds.judge(record, thresholds.read(), baseline)
    return record.model_copy(update={"verdicts": verdicts})


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    before = rich(slower=0.8).model_copy(update={"machine": machine(cores=4)})
    file = tmp_path_factory.mktemp("report") / "abuse.html"
    file.write_text(report(judged(rich(), before), before), encoding="utf-8")
    return file


@pytest.fixture
def show(browser: Browser) -> Iterator[Show]:
    """Opens a report; one that complains, or asks for anything beside itself, fails its test."""
    complaints: list[str] = []
    contexts = []

    def make(file: Path, *, width: int = 1280, dark: bool = False) -> Page:
        context = browser.new_context(
            viewport=ViewportSize(width=width, height=900),
            color_scheme="dark" if dark else "light",
            locale="en-GB",
        )
        contexts.append(context)
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("request", lambda request: complaints.append(f"asked for {request.url}")
                if request.url != file.as_uri() else None)  # fmt: skip
        page.goto(file.as_uri())
        return page

    yield make
    for context in contexts:
        context.close()
    assert not complaints, "\n".join(complaints)


def keep(page: Page, name: str) -> None:
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"load-{name}.png", full_page=True, animations="disabled")


def audit(page: Page) -> None:
    for script in (AUDIT, PICTURES, FAINT):
        faults = page.evaluate(script)
        assert not faults, "\n".join(faults)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [400, 768, 1280])
def test_report_looks_right(show: Show, whole: Path, width: int, dark: bool) -> None:
    page = show(whole, width=width, dark=dark)
    keep(page, f"{width}-{'dark' if dark else 'light'}")
    audit(page)
    # Also with everything opened.
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    audit(page)


def test_report_fits_on_paper(show: Show, whole: Path) -> None:
    # A4 between its margins; whoever prints from a dark screen has light paper.
    page = show(whole, width=703, dark=True)
    page.emulate_media(media="print", color_scheme="dark")
    keep(page, "print")
    audit(page)
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    cut = page.evaluate("""() => [...document.querySelectorAll(".scroll")]
      .filter((node) => node.scrollWidth > node.clientWidth + 1)
      .map((node) => `${node.scrollWidth} > ${node.clientWidth}: ${node.textContent.slice(0, 50)}`)
    """)
    assert not cut, "\n".join(cut)


@pytest.mark.parametrize("width", [400, 1280])
def test_nothing_in_a_record_breaks_the_page(show: Show, tmp_path: Path, width: int) -> None:
    long = "unbroken" * 30 + "".join(HOSTILE)
    found = requests(long, long, drawn(1, 50, 4.0), kinds={"ok": 50}, problems={long: 3})
    record = small(
        title=long,
        purpose=long,
        command=long,
        requests=[found],
        seconds_of=[second(0, long, due=50, kinds={"ok": 45, "failed": 5})],
        admissions=[admitted(long, long, worst_principal=long)],
        events=[Event(at=0.5, kind="shed", text=long)],
        machine=machine(cpu=long, packages={long: long}),
        verdicts=[Verdict(name=long, limit=long, measured=long, passed=False)],
    )
    file = tmp_path / "long.html"
    file.write_text(report(record, record), encoding="utf-8")
    page = show(file, width=width)
    keep(page, f"long-{width}")
    audit(page)
    assert page.locator("script").count() == 1


def test_verdict_is_what_one_sees_first(show: Show, whole: Path) -> None:
    page = show(whole)
    banner = page.locator(".verdict")
    expect(banner).to_be_in_viewport(ratio=1)
    expect(banner.get_by_role("heading")).to_contain_text("Failed:")
    expect(banner).to_contain_text("No accepted and paid sale is lost")
    assert page.title().startswith("✗")


def test_pointer_reads_the_same_moment_in_all_pictures(show: Show, whole: Path) -> None:
    page = show(whole)
    pictures = page.locator(".timed", has=page.locator(".astable"))
    drawing = pictures.first.locator(".plot")
    drawing.scroll_into_view_if_needed()
    box = drawing.bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] * 30.5 / 90, box["y"] + 40)
    for index in range(pictures.count()):
        expect(pictures.nth(index).locator(".readout")).to_contain_text("0:30")
    expect(pictures.first.locator(".readout")).to_contain_text("denied (429)")
    assert page.locator(".cursor").count() == page.locator(".timed").count()
    page.mouse.move(0, 0)
    expect(page.locator(".cursor")).to_have_count(0)


def test_keys_read_a_picture_from_moment_to_moment(show: Show, whole: Path) -> None:
    page = show(whole)
    picture = page.locator(".timed").first
    readout = picture.locator(".readout")
    picture.locator(".drawing").focus()
    page.keyboard.press("End")
    expect(readout).to_contain_text("1:29")
    page.keyboard.press("ArrowLeft")
    expect(readout).to_contain_text("1:28")
    page.keyboard.press("Home")
    expect(readout).to_contain_text("0:00")
    page.keyboard.press("Tab")
    expect(readout).to_have_text("")


def test_table_behind_a_picture_holds_its_values(show: Show, whole: Path) -> None:
    page = show(whole)
    picture = page.locator(".timed").first
    picture.get_by_text("As a table").click()
    expect(picture.get_by_role("columnheader", name="served")).to_be_visible()
    expect(picture.get_by_role("rowheader")).to_have_count(90)


def test_way_to_each_run_of_several(show: Show, tmp_path: Path) -> None:
    file = tmp_path / "index.html"
    held_back = small(
        title="Held back", scenario="spike", generator=generator(bottleneck=True, says="No core.")
    )
    # What a longer run shows is thinned.
    runs = [judged(rich()), judged(held_back), judged(rich(seconds=3000))]
    file.write_text(page_of(runs), encoding="utf-8")
    page = show(file)
    keep(page, "several")
    audit(page)
    page.get_by_role("link", name="Held back").click()
    expect(page.get_by_role("heading", name="Held back")).to_be_in_viewport()
    expect(page.get_by_text("The generator was the bottleneck.")).to_be_in_viewport()
    narrow = show(file, width=400, dark=True)
    keep(narrow, "several-narrow")
    audit(narrow)
