"""The pages say what is there: each relative link leads somewhere, each file that they name exists."""

import re
from pathlib import Path

import pytest

from rig.settings import PROJECT

UNCHECKED = {".venv", "results", "logs", "node_modules"}
PAGES = sorted(path for path in PROJECT.rglob("*.md") if not UNCHECKED & set(path.relative_to(PROJECT).parts))
NAMING_FILES = [PROJECT / "docs" / "architecture.md", PROJECT / "CONTRIBUTING.md",
                *sorted((PROJECT / "docs" / "decisions").glob("*.md"))]
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]*)(#[^)\s]*)?\)")
CODE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
# In backquotes: a path of the project, a file or a folder with a slash at its end.
NAMED = re.compile(r"`((?:[\w.-]+/)+[\w.-]*|[\w-]+\.(?:md|toml|yml))`")
EXAMPLES = {"patterns/NAME.py"}
GENERATED = ("results/",)


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives a page's headings."""
    headings = re.findall(r"^#+ (.*)$", CODE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(PROJECT)))
def test_each_relative_link_leads_somewhere(page: Path) -> None:
    wrong = []
    for target, anchor in LINK.findall(CODE.sub("", page.read_text(encoding="utf-8"))):
        found = page.parent / target if target else page
        if not found.exists() or (anchor and found.suffix == ".md" and anchor[1:] not in anchors(found)):
            wrong.append(target + anchor)
    assert wrong == []


@pytest.mark.parametrize("page", NAMING_FILES, ids=lambda path: str(path.relative_to(PROJECT)))
def test_each_file_that_is_named_exists(page: Path) -> None:
    named = set(NAMED.findall(page.read_text(encoding="utf-8"))) - EXAMPLES
    assert [name for name in sorted(named)
            if not name.startswith(GENERATED) and not (PROJECT / name).exists()] == []


def test_a_page_is_looked_at() -> None:
    assert {"README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"} <= {path.name for path in PAGES}
    assert any(NAMED.findall(page.read_text(encoding="utf-8")) for page in NAMING_FILES)


def test_each_decision_is_in_the_list() -> None:
    folder = PROJECT / "docs" / "decisions"
    listed = re.findall(r"\]\((\d{4}-[\w-]+\.md)\)", (folder / "README.md").read_text(encoding="utf-8"))
    assert listed == sorted(path.name for path in folder.glob("[0-9]*.md"))
