"""A pattern that the registry has is known wherever patterns are named: DAGs, reports, Locust's page, the docs."""

import re

import pytest

from patterns.facts import DAG_OF_PATTERN
from patterns.registry import PATTERNS
from rig.settings import PROJECT


def test_each_has_a_dag() -> None:
    assert set(DAG_OF_PATTERN) == set(PATTERNS)


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize(("file", "has"), [
    ("docs/method.md", r"^\| `{}` \|"),
    ("rig/report/templates/style.css", r"--hue-{}: #"),
    ("rig/report/templates/style.css", r"\.hue-{} "),
    ("loadtest/static/page.css", r"--{}: #"),
    ("loadtest/static/page.js", r'^const PATTERNS = .*"{}"'),
])
def test_each_is_in(pattern: str, file: str, has: str) -> None:
    assert re.search(has.format(pattern), (PROJECT / file).read_text(encoding="utf-8"), re.MULTILINE)
