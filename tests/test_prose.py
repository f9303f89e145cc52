"""proselint, a linter for English prose, has nothing to say about the documentation."""

import json
import re
import subprocess
import sys
from pathlib import Path

from rig.settings import PROJECT

LEFT_OUT = {
    "typography": "the pages are written in ASCII quotes and dots, as they are typed in a shell",
    "lexical_illusions": "takes the columns of a table of figures for a repeated word",
    "restricted": "is for texts that may use a thousand words only; off by default",
}
"""The checks of proselint that are turned off, and why."""

NOT_SAID = {
    "'résumé'": "`rig compare --resume` and `worker-driver resume` are commands, not a résumé",
    "dash_and_from": "takes a table's column between two figures for a range of dates",
    "'for ever'": "is found in `for every`",
}
"""Words of findings that are not counted, and why."""

PAGES = subprocess.run(["git", "ls-files", "*.md"], cwd=PROJECT, capture_output=True, text=True,
                       check=True).stdout.splitlines()
FINDING = re.compile(r"^.+:\d+:\d+: [\w.]+: .*$", re.MULTILINE)


def findings(folder: Path, *pages: str) -> list[str]:
    """Return what proselint says about these pages, without what is left out."""
    config = folder / "proselint.json"
    config.write_text(json.dumps({"checks": dict.fromkeys(LEFT_OUT, False)}), encoding="utf-8")
    ended = subprocess.run([Path(sys.executable).parent / "proselint", "check", "--config", config, *pages],
                           cwd=PROJECT, capture_output=True, text=True, check=False)
    assert ended.returncode in {0, 1}, ended.stderr
    return [line for line in FINDING.findall(ended.stdout) if not any(words in line for words in NOT_SAID)]


def test_it_has_nothing_to_say(tmp_path: Path) -> None:
    assert findings(tmp_path, *PAGES) == []


def test_it_reads_what_it_is_given(tmp_path: Path) -> None:
    (page := tmp_path / "page.md").write_text("At this point in time it is very unique.\n", encoding="utf-8")
    assert findings(tmp_path, str(page)) != []
