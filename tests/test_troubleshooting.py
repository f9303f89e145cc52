"""The messages that docs/troubleshooting.md quotes are those that the programs have."""

import ast
import re
from collections.abc import Iterator

import pytest

from rig.settings import PROJECT

PAGE = (PROJECT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| (?P<seen>.+?) \| ", re.MULTILINE)
QUOTED = re.compile(r"`([^`]+ [^`]+)`")     # of more than one word: a single one is a name
NOT_OURS = {"kill -9", "Couldn't connect to 127.0.0.1:…"}      # the second one is the Neo4j driver's
# What is filled in, and where one text ends and the next begins, as in "tasks connect by themselves: REASON".
BETWEEN = re.compile(r"…|127\.0\.0\.1|postgres|: |; ")


def texts() -> Iterator[str]:
    """Yield every text of the code, with a gap where something is filled in."""
    for package in ("rig", "worker_init"):
        for file in (PROJECT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield re.sub(r"%[sdrg]", "…", node.value)


CODE = "\n".join(texts())
MESSAGES = [message for row in ROW.finditer(PAGE) for message in QUOTED.findall(row["seen"]) if message not in NOT_OURS]


@pytest.mark.parametrize("message", MESSAGES)
def test_the_message_is_one_of_the_programs(message: str) -> None:
    parts = [part.strip(" :;") for part in BETWEEN.split(message)]
    assert [part for part in parts if part and part not in CODE] == []


def test_the_page_quotes_messages() -> None:
    assert len(MESSAGES) > 10
