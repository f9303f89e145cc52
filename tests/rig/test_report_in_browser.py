"""The pages as a browser shows them: on any screen, in any light, on paper, by keyboard and to a screen reader."""

import json
import shutil
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from rig import records, report
from tests.rig import synthetic
from tests.rig.load import folders
from tests.server_marks import starts

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
MOST_BYTES = 2_000_000

pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return a report of each kind: of a comparison as large as the default one, of loads, and of a load test."""
    folder = tmp_path_factory.mktemp("reports")
    comparison = synthetic.folder(folder / "comparison", synthetic.eight(tasks=100))
    loads = folders.repeated(folder / "r", (0.5, 0.3, 0.4))
    return {"comparison": report.write(comparison), "loads": report.write(loads),
            "load test": report.write(loads / "knee-0")}


KINDS = ["comparison", "loads", "load test"]


@pytest.fixture(scope="module")
@starts("browser")
def browser() -> Iterator["Browser"]:
    """Start the machine's Chromium, once, with no way to any network."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"],
                                              proxy={"server": "http://127.0.0.1:9"})
        yield chromium
        chromium.close()


def opened(browser: "Browser", page: Path, **how: Any) -> "Page":
    """Return a page that is open, on a telephone's screen unless another is asked for."""
    shown = browser.new_page(**{"viewport": {"width": 390, "height": 800}, **how})
    shown.set_default_timeout(0)        # pytest's own limit is enough
    shown.goto(page.as_uri())
    return shown


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_is_one_small_file(pages: dict[str, Path], kind: str) -> None:
    assert 10_000 < pages[kind].stat().st_size < MOST_BYTES


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_is_shown_without_a_network_and_without_an_error(browser: "Browser", pages: dict[str, Path],
                                                                 kind: str) -> None:
    page = browser.new_page()
    page.set_default_timeout(0)
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: said.append(request.url) if not request.url.startswith("file:") else None)
    page.goto(pages[kind].as_uri())

    lines = page.locator("path.line, path.lives, path.dots")
    assert lines.count() > 3
    assert page.locator("path.line").first.bounding_box() is not None
    assert said == []
    page.close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_fits_a_telephone(browser: "Browser", pages: dict[str, Path], kind: str) -> None:
    page = opened(browser, pages[kind])

    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("kind", KINDS)
def test_no_serious_finding_of_axe(browser: "Browser", pages: dict[str, Path], kind: str, scheme: Any) -> None:
    axe = files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8")
    page = opened(browser, pages[kind], color_scheme=scheme, viewport={"width": 1280, "height": 900})
    page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
    page.evaluate(axe)
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")

    assert [f"{one['id']}: {one['help']}: {json.dumps(one['nodes'][0]['html'])}" for one in found["violations"]
            if one["impact"] in {"serious", "critical"}] == []
    page.close()


def test_dark_and_light_differ_in_every_colour_of_the_page(browser: "Browser", pages: dict[str, Path]) -> None:
    def colours(scheme: Any) -> list[str]:
        page = opened(browser, pages["comparison"], color_scheme=scheme)
        found: list[str] = page.evaluate("""() => ["body", "h1", ".panel", "path.line", "path.lives"].map((name) => {
            const style = getComputedStyle(document.querySelector(name));
            return [style.backgroundColor, style.color, style.stroke].join();
        })""")
        page.close()
        return found
    assert all(light != dark for light, dark in zip(colours("light"), colours("dark"), strict=True))


def test_everything_that_scrolls_or_opens_is_reached_by_keyboard(browser: "Browser", pages: dict[str, Path]) -> None:
    page = opened(browser, pages["comparison"])
    wanted = page.locator("summary:visible, .scroll:visible, pre:visible").count()
    reached = 0
    while reached <= wanted:
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement === document.body"):
            break
        assert page.evaluate("document.activeElement.matches('summary, .scroll, pre')")
        reached += 1

    assert reached == wanted >= 5
    page.close()


def test_the_values_under_the_pointer_are_said(browser: "Browser", pages: dict[str, Path]) -> None:
    page = opened(browser, pages["comparison"])
    plot = page.locator(".plot").first
    plot.hover()
    plot.hover(position={"x": 40, "y": 40})

    assert "problematic: " in plot.locator(".said").inner_text()
    page.mouse.move(0, 0)
    page.close()


def test_on_paper_every_section_is_open(browser: "Browser", pages: dict[str, Path], tmp_path: Path) -> None:
    page = opened(browser, pages["comparison"])
    page.pdf(path=tmp_path / "report.pdf", format="A4")

    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")
    assert page.locator("details:not([open])").count() == 0
    page.close()


def test_the_page_does_without_scripts(browser: "Browser", pages: dict[str, Path]) -> None:
    page = opened(browser, pages["comparison"], java_script_enabled=False)

    assert page.locator("path.line").count() == (8 + 2 * 8) * 3
    assert page.locator("noscript").count() == 0
    page.close()


def test_the_report_is_where_the_run_is(pages: dict[str, Path]) -> None:
    assert pages["comparison"].name == records.REPORT_FILE
