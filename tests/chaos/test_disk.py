"""The chaos suite's disk is full when it says so, and has room again; where there can be none, one line says why."""

import errno
import subprocess
from pathlib import Path

import pytest

from chaos import disk


def test_a_full_disk_refuses_a_byte_and_keeps_what_it_has(tmp_path: Path) -> None:
    if reason := disk.refusal():
        pytest.skip(reason)
    with disk.mounted(tmp_path / "disk") as made:
        file = made.folder / "kept"
        file.write_bytes(b"x" * 100_000)
        assert not made.is_full()
        made.fill()
        assert made.is_full()
        with pytest.raises(OSError, match="No space left") as caught, file.open("ab") as opened:
            opened.write(b"y" * 2 * disk.PAGE)
        assert caught.value.errno == errno.ENOSPC
        assert file.read_bytes()[:100_000] == b"x" * 100_000
        made.make_room()
        assert not made.is_full()
    assert list((tmp_path / "disk").iterdir()) == []


def test_where_nothing_can_be_mounted_the_reason_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise subprocess.CalledProcessError(1, "mount", stderr="mount: must be\nsuperuser.")
    monkeypatch.setattr(disk, "_mount", refuse)
    disk.refusal.cache_clear()
    try:
        assert disk.refusal() == "no tmpfs can be mounted here: mount: must be superuser."
    finally:
        disk.refusal.cache_clear()
