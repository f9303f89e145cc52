"""Draw the documentation's Mermaid diagrams as images for the site.

Run ``python -m testing.diagrams package/dist/mermaid.min.js`` with the file from the npm package mermaid (``npm pack
mermaid@11.12.0`` and ``tar xzf`` provide it) and an installed Chromium. An image that already exists is kept. An image
whose diagram no longer exists is removed. If a diagram has no image, the site shows its text.
"""

import importlib.util
import re
import shutil
import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from rig.settings import PROJECT

DOCS = PROJECT / "docs"
LONG_NUMBER = re.compile(r"(\d+\.\d)\d+")       # tenths of a pixel will do, and make the files small
PAGE = "<!doctype html><body style='font-family: sans-serif'></body>"
DRAW = """async (text) => {
    mermaid.initialize({startOnLoad: false, htmlLabels: false, flowchart: {htmlLabels: false}, theme: 'neutral'});
    return (await mermaid.render('diagram', text)).svg;
}"""


def hooks() -> Any:
    """Return the site's hooks, which define what a diagram is and what its image is called."""
    spec = importlib.util.spec_from_file_location("site_hooks", DOCS / "hooks.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def diagrams() -> dict[Path, str]:
    """Return every diagram of the pages, by the path of its image."""
    site = hooks()
    return {DOCS / site.FOLDER / site.name_of(text): text for page in sorted(DOCS.rglob("*.md"))
            for text in site.DIAGRAM.findall(page.read_text(encoding="utf-8"))}


def draw(wanted: dict[Path, str], mermaid: Path) -> None:
    """Draw these diagrams."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        for path, text in wanted.items():
            page.set_content(PAGE)
            page.add_script_tag(path=mermaid)
            path.write_text(LONG_NUMBER.sub(r"\1", page.evaluate(DRAW, text)) + "\n", encoding="utf-8")
        browser.close()


def main() -> None:
    """Run it."""
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_file():
        raise SystemExit(__doc__)
    known, folder = diagrams(), DOCS / hooks().FOLDER
    folder.mkdir(exist_ok=True)
    for path in set(folder.glob("*.svg")) - set(known):
        path.unlink()
    draw({path: text for path, text in known.items() if not path.exists()}, Path(sys.argv[1]))


if __name__ == "__main__":
    main()
