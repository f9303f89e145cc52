"""What git does to files at a checkout: a script with CRLF does not run in a container."""

import subprocess
from pathlib import Path

import pytest

from rig.settings import PROJECT

SCRIPTS = [*sorted(path for path in (PROJECT / "docker").iterdir() if path.is_file()),
           PROJECT / ".ci" / "run", PROJECT / "Makefile"]
PICTURES = sorted((PROJECT / "docs" / "images").glob("*.png"))


def attributes(path: Path, *names: str) -> list[str]:
    """Return the values that git gives these attributes of a file."""
    done = subprocess.run(["git", "check-attr", "-z", *names, "--", str(path)], cwd=PROJECT, capture_output=True,
                          text=True, check=False)
    if done.returncode:
        pytest.skip(f"this is no checkout of git: {done.stderr.strip()}")
    return done.stdout.split("\0")[2::3]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_has_linux_line_ends_on_every_system(script: Path) -> None:
    text, end = attributes(script, "text", "eol")
    assert text in {"auto", "set"}
    assert end == "lf"


@pytest.mark.parametrize("picture", PICTURES, ids=lambda path: path.name)
def test_a_picture_is_left_as_it_is(picture: Path) -> None:
    assert attributes(picture, "binary") == ["set"]
