"""The site has every page, in one place of its order, and the reference says what the code says."""

import re
import tomllib
from pathlib import Path

import pytest

from rig.settings import PROJECT
from testing import diagrams, reference_pages

DOCS = PROJECT / "docs"


def test_each_page_has_one_place_in_the_sites_order() -> None:
    order = (PROJECT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2]
    placed = re.findall(r"([\w/-]+\.md)$", order, re.MULTILINE)
    assert sorted(placed) == sorted(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md"))


@pytest.mark.parametrize(("page", "text"), reference_pages.pages().items(),
                         ids=lambda value: getattr(value, "name", ""))
def test_a_reference_page_is_what_the_code_says(page: Path, text: str) -> None:
    assert page.read_text(encoding="utf-8") == text, "`make reference` writes the reference pages again"


def test_a_diagram_is_shown_as_its_image_and_without_one_as_its_text() -> None:
    site = diagrams.hooks()

    class Page:
        class file:  # noqa: N801 - mkdocs calls it so
            src_uri = "decisions/README.md"

    unknown = "```mermaid\nflowchart LR\n  nobody --> drew\n```"
    known = [text for path, text in diagrams.diagrams().items() if path.exists()]
    said = site.on_page_markdown(f"```mermaid\n{known[0]}```\n{unknown}", page=Page, config={"docs_dir": str(DOCS)})
    assert said == f"![A diagram](../images/diagrams/{site.name_of(known[0])}){{.diagram}}\n{unknown}"


def test_a_link_out_of_the_folder_keeps_its_text(tmp_path: Path) -> None:
    class Page:
        class file:  # noqa: N801 - mkdocs calls it so
            src_uri = "how-to/helm.md"

    said = diagrams.hooks().on_page_markdown(
        "[values](../../examples/helm-values.yaml), [stays](../running.md#commands), ![image](../../x.png)",
        page=Page, config={"docs_dir": str(tmp_path)})
    assert said == "values, [stays](../running.md#commands), ![image](../../x.png)"


def test_the_site_has_requirements_of_its_own() -> None:
    """Nobody needs the site's tools to run the rig or its tests."""
    locked = {name: (PROJECT / "requirements" / f"{name}.txt").read_text(encoding="utf-8") for name in ("docs", "test")}
    extras = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert [name for name in extras["docs"] if name.split(">")[0] in locked["test"]] == []
    assert "mkdocs-material==" in locked["docs"]
