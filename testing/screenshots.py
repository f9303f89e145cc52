"""Take the documentation's pictures of the pages: the reports, and Locust's page.

First ``make up-celery``, then ``python -m testing.screenshots``. It shows the newest comparison, the newest load test
and the newest comparison of loads in ``results/``, and runs a load test of half a minute on the running stack. It takes
the first two reports at the width of a phone, too. With names, as in ``python -m testing.screenshots report``, it only
takes these pictures. The reports need no stack.
"""

import argparse
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from rig.records import COMPARISON_FILE, LOAD_FILE, REPORT_FILE, RUN_FILE
from rig.settings import PROJECT, Settings
from rig.stack import ports
from testing.waiting import wait_until

FOLDER = PROJECT / "docs" / "images"
WIDE, TALL, PHONE = (1300, 760), (1300, 1070), (390, 780)
MOST_BYTES = 150_000
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

Picture = Callable[[Browser, Settings], None]


def report(browser: Browser, settings: Settings) -> None:
    """Take the picture of a comparison's report."""
    _report_of(browser, _newest(settings, RUN_FILE), "report")


def load_report(browser: Browser, settings: Settings) -> None:
    """Take the picture of a load test's report."""
    _report_of(browser, _newest(settings, LOAD_FILE), "load-report")


def load_comparison(browser: Browser, settings: Settings) -> None:
    """Take the picture of the report of `rig compare-load`, with its four charts."""
    _keep(_page(browser, TALL, _page_of(_newest(settings, COMPARISON_FILE))), "load-comparison")


def load(browser: Browser, _settings: Settings) -> None:
    """Take the picture of Locust's page with the tab of Neo4j's connections, during a load test."""
    with _locust() as url:
        page = _page(browser, WIDE, url)
        page.get_by_label("Pattern (").select_option("improved")
        page.get_by_label("Arrival Rate (").fill("0.2")
        page.get_by_label("Duration (").fill("30")
        page.get_by_role("button", name="Start").click()
        page.get_by_role("tab", name="Neo4j connections").click()
        charts = page.frame_locator("iframe")
        wait_until(lambda: charts.locator("circle").count() >= 3, "three DAG runs are drawn")
        _keep(page, "load")


PICTURES: dict[str, Picture] = {"report": report, "load-report": load_report, "load-comparison": load_comparison,
                                "load": load}


def _report_of(browser: Browser, folder: Path, name: str) -> None:
    for size, suffix in ((WIDE, ""), (PHONE, "-phone")):
        _keep(_page(browser, size, _page_of(folder)), f"{name}{suffix}")


def _page_of(folder: Path) -> str:
    return (folder / REPORT_FILE).as_uri()


def _newest(settings: Settings, file: str) -> Path:
    found = sorted(folder.parent for folder in settings.data_dir.glob(f"*/{file}"))
    if not found:
        raise SystemExit(f"no run with a {file} is in {settings.data_dir}: "
                         "`make compare`, `make load` or `rig compare-load` makes one")
    return found[-1]


def _page(browser: Browser, size: tuple[int, int], url: str) -> Page:
    width, height = size
    page = browser.new_page(viewport={"width": width, "height": height})
    page.goto(url)
    return page


def _keep(page: Page, name: str) -> None:
    taken = page.screenshot(path=FOLDER / f"{name}.png", animations="disabled")
    page.close()
    print(f"{name}.png: {len(taken):,} bytes")
    if len(taken) > MOST_BYTES:
        raise SystemExit(f"{name}.png is larger than {MOST_BYTES:,} bytes: show less of the page")


@contextmanager
def _locust() -> Iterator[str]:
    port = ports.choose(0, variable="the pictures")
    command = [str(Path(sys.executable).parent / "rig"), "load", "--unpause", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout
        url = f"http://127.0.0.1:{port}"
        try:
            if not any(url in line for line in process.stdout):
                raise SystemExit("Locust did not start: see above")
            yield url
        finally:
            process.send_signal(signal.SIGINT)


def main() -> None:
    """Take the pictures."""
    parser = argparse.ArgumentParser(prog="python -m testing.screenshots", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="name", help=f"only these: {', '.join(PICTURES)}")
    names = parser.parse_args().names or list(PICTURES)
    if unknown := set(names) - set(PICTURES):
        parser.error(f"there is no picture {', '.join(sorted(unknown))}: choose from {', '.join(PICTURES)}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for name in names:
            PICTURES[name](browser, Settings())
        browser.close()


if __name__ == "__main__":
    main()
