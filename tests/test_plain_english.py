"""Everything that a person reads is in plain English: no word of this list, in docs, docstrings, comments or messages.

The list has what a reader of this project stumbled over. Each word has what to write in its place.
"""

import re
import subprocess
from pathlib import Path

import pytest

from rig.settings import PROJECT

INSTEAD = {
    "whoever": "the one who; or name who it is",
    "whosoever": "anyone who",
    "anew": "again; restart for start anew",
    "mend": "fix", "mends": "fixes", "mended": "fixed", "mending": "fixing",
    "by way of": "through; as",
    "and the like": "or name what it is",
    "belongs into": "belongs in", "belong into": "belong in",
    "is to be had": "is available",
    "to be had": "available", "be had": "be available; be reached",
    "take note": "note", "takes note": "notices", "taken note": "noticed",
    "anyhow": "anyway", "of late": "recently", "and its like": "and the others; or name them", "amiss": "wrong",
    "in the midst of": "in the middle of", "gone on with": "continued", "so manieth": "n-th",
    "is so no more": "no longer is", "come of it": "the result", "a name that is none": "an unknown name",
    "for want of": "because there is no",
    "hitherto": "so far", "whence": "from where", "thence": "from there", "wherein": "in which", "thereof": "of it",
    "hereby": "with this", "heretofore": "before", "whilst": "while", "amongst": "among", "lest": "so that … not",
    "held against": "compared with", "hold against": "compare with", "holds against": "compares with",
    "counts for nothing": "has no effect", "count for nothing": "have no effect", "became of": "happened to",
    "by which way": "how", "in the place of": "in place of", "for who": "for the one who", "other ones": "others",
    "as ever": "as before", "in so far as": "if; as far as", "nothing of the kind": "or name what it is not",
    "utilize": "use", "utilise": "use", "utilization": "use", "aforementioned": "this", "in order to": "to",
    "prior to": "before", "shall": "must; will",
}
"""The word or phrase, and what to write."""

EXCEPTIONS = {
    "tests/test_plain_english.py": "the list itself",
    "LICENSE": "not ours to write", "worker_init/LICENSE": "as above", "patterns/LICENSE": "as above",
}
"""Files that are not looked at, and why."""

PROSE = {".py", ".md", ".html", ".j2", ".yml", ".yaml", ".toml", ".example", ".sh", ".js", ""}
# A name of the code is none of the list's business: mend(…) may be a method.
WORDS = re.compile(rf"(?<![\w.`])({'|'.join(map(re.escape, sorted(INSTEAD, key=len, reverse=True)))})(?![\w(`])",
                   re.IGNORECASE)


def files() -> list[str]:
    """Return the paths of what is in git and has prose in it."""
    listed = subprocess.run(["git", "ls-files"], cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    return [name for name in listed.splitlines()
            if Path(name).suffix in PROSE and name not in EXCEPTIONS and (PROJECT / name).is_file()]


TEST_NAME = re.compile(r"\bdef test_\w+")


def found(text: str) -> list[str]:
    """Return each line that has such a word: where it is, and what to write. A phrase may go over two lines.

    The name of a test is a sentence, which is printed if it fails.
    """
    sentences = TEST_NAME.sub(lambda name: name[0].replace("_", " "), text)
    one_line = re.sub(r"\s*\n\s*(?:# ?|// ?)?", lambda gap: " " * len(gap[0]), sentences)
    return [f"line {text.count(chr(10), 0, hit.start()) + 1}: {hit[1]!r}: write {INSTEAD[hit[1].lower()]!r}"
            for hit in WORDS.finditer(one_line)]


def test_no_word_of_the_list_is_used() -> None:
    assert {name: lines for name in files() if (lines := found((PROJECT / name).read_text(encoding="utf-8")))} == {}


@pytest.mark.parametrize(("text", "word"), [
    ("Tell whoever waits.", "whoever"), ("a\n# server started Anew", "anew"), ("by way of a relay", "by way of"),
    ("def test_whoever_waits_is_served() -> None:", "whoever")])
def test_a_word_is_found_wherever_it_stands(text: str, word: str) -> None:
    (line,) = found(text)
    assert word in line.lower()


@pytest.mark.parametrize("text", ["hop.mend()", "def mend(self) -> None:", "we recommend it", "renewed", "the oldest"])
def test_a_name_or_a_part_of_a_word_is_no_word(text: str) -> None:
    assert found(text) == []


def test_each_exception_is_still_there() -> None:
    assert [name for name in EXCEPTIONS if not (PROJECT / name).exists()] == []
