"""The threat model names a test in each line, and each of them exists."""

import re

import pytest

from rig.settings import PROJECT

PAGE = (PROJECT / "docs" / "security.md").read_text(encoding="utf-8")
LINES = [line for line in PAGE.splitlines() if line.startswith("| ")][1:]
SCRIPTS = sorted([*(PROJECT / "loadtest" / "static").glob("*.js"), *(PROJECT / "rig" / "report").rglob("*.js")])


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.split("|")[2].strip()[:50])
def test_each_line_names_a_test_that_exists(line: str) -> None:
    named = re.findall(r"`(tests/[\w/.]+)(?:::(\w+))?`", line.split("|")[4])
    assert named
    for file, function in named:
        assert not function or f"def {function}(" in (PROJECT / file).read_text(encoding="utf-8"), (file, function)
        assert (PROJECT / file).exists()


def test_no_script_of_a_page_makes_markup_of_data() -> None:
    """Text is set by textContent; markup is a constant, where there is any."""
    assert len(SCRIPTS) > 3
    made = [line.strip() for script in SCRIPTS for line in script.read_text(encoding="utf-8").splitlines()
            if re.search(r"(inner|outer)HTML|insertAdjacentHTML|document\.write|DOMParser", line)]
    assert [line for line in made if not re.fullmatch(r'\w+\.innerHTML = "[^"]*";', line)] == []
