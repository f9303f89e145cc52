"""A file is the old one or the new one, whatever goes wrong while it is written."""

import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from rig.whole_file import replacing, write_private, write_whole
from tests.rig.full_disk import full_disk


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "passwords.json"
    path.write_text("old")
    path.chmod(0o644)
    return path


def others(path: Path) -> list[Path]:
    return [other for other in path.parent.iterdir() if other != path]


def test_a_file_is_replaced(path: Path) -> None:
    write_whole(path, "naïve")
    assert (path.read_bytes(), others(path)) == ("naïve".encode(), [])


def test_the_old_file_stays_where_the_block_fails(path: Path) -> None:
    with pytest.raises(ZeroDivisionError), replacing(path) as part:
        part.write_text(f"{1 / 0}")
    assert (path.read_text(), others(path)) == ("old", [])


@pytest.mark.parametrize("write", [write_whole, write_private])
def test_the_old_file_stays_on_a_full_disk_and_no_part_is_left(path: Path, write: Callable[[Path, str], None]) -> None:
    with full_disk(), pytest.raises(OSError, match="File too large") as caught:
        write(path, "x" * 1_000_000)
    assert caught.value.filename == str(path), "nobody would know where room is needed"
    assert (path.read_text(), others(path)) == ("old", [])


def test_a_file_that_others_could_read_is_private_once_it_was_written(path: Path) -> None:
    write_private(path, "new")
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("new", 0o600)


def test_a_private_file_is_private_whatever_an_earlier_process_left(path: Path) -> None:
    left = path.with_name(f"{path.name}.part")
    left.write_text("left behind by a kill -9")
    left.chmod(0o666)
    write_private(path, "new")
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("new", 0o600)
