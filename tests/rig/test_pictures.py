"""The pictures of the documentation: drawings that stand alone, made from a run's folder."""

import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from rig.errors import BadInput
from rig.report import pictures
from tests.rig import builders, synthetic

SVG = "{http://www.w3.org/2000/svg}"


def test_the_picture_has_the_headline_and_every_connection(tmp_path: Path) -> None:
    run = synthetic.folder(tmp_path / "run", synthetic.eight(tasks=20), repeats=1, slots=4)
    [made] = pictures.write(run, tmp_path / "images")
    drawing = ET.parse(made).getroot()     # noqa: S314 - our own file

    assert drawing.findtext(f"{SVG}title") == (
        "20 tasks opened 60 connections; with one driver per worker process 4.")
    assert [path.get("d", "").count("M") for path in drawing.iterfind(f"{SVG}g/{SVG}svg/{SVG}path")] == [60, 20, 4]
    assert made.stat().st_size < 50_000
    assert "var(" not in made.read_text("utf-8")


def test_a_run_without_a_connection_has_no_picture(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="run-1 has no connection that could be drawn"):
        pictures.write(builders.write(tmp_path / "run", builders.run([])), tmp_path)


@pytest.mark.parametrize(("arguments", "said"), [([], "expected a run, and a folder if you like"),
                                                  (["no-such-run"], "there is no run 'no-such-run'")])
def test_bad_input_is_one_line(arguments: list[str], said: str) -> None:
    done = subprocess.run([sys.executable, "-m", "rig.report.pictures", *arguments], capture_output=True, text=True,
                          check=False)

    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
