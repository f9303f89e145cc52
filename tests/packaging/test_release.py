"""`make release` refuses what does not fit together, and lists what is pinned. It builds in a workflow of its own."""

import re
import zipfile
from pathlib import Path

import pytest

from rig.settings import PROJECT
from testing import release

CHANGELOG = (PROJECT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_all_distributions_have_one_version_that_the_changelog_knows() -> None:
    version = release.one_version(list(release.DISTRIBUTIONS.values()), CHANGELOG)
    assert re.fullmatch(r"\d+\.\d+\.\d+", version)
    with pytest.raises(release.Unfit, match="has no heading"):
        release.one_version([PROJECT], CHANGELOG.replace(f"[{version}]", "[0.0.9]"))


def test_versions_that_differ_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(release, "PROJECT", tmp_path)
    for name, version in (("one", "1.0.0"), ("other", "1.0.1")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "pyproject.toml").write_text(f'[project]\nversion = "{version}"\n')
    with pytest.raises(release.Unfit, match=r"differ.*1\.0\.0.*1\.0\.1"):
        release.one_version([tmp_path / "one", tmp_path / "other"], "## [1.0.0]\n")


def test_a_wheel_without_its_version_or_licence_is_refused(tmp_path: Path) -> None:
    def wheel(*names: str) -> Path:
        with zipfile.ZipFile(tmp_path / "a.whl", "w") as made:
            made.writestr("a.dist-info/METADATA", "Name: a\nVersion: 1.0.0\n")
            for name in names:
                made.writestr(name, "")
        return tmp_path / "a.whl"

    release.require_whole(wheel("a.dist-info/licenses/LICENSE"), "1.0.0")
    with pytest.raises(release.Unfit, match=r"does not have the version 1\.0\.1"):
        release.require_whole(wheel("a.dist-info/licenses/LICENSE"), "1.0.1")
    with pytest.raises(release.Unfit, match="no licence"):
        release.require_whole(wheel(), "1.0.0")


def test_the_list_for_a_worker_has_the_driver_and_what_it_needs_alone() -> None:
    requirements = (PROJECT / "requirements" / "rig.txt").read_text(encoding="utf-8")
    names = re.findall(r"^([\w.-]+)==", release.pins(requirements, release.RUNTIME), re.MULTILINE)
    assert names == ["neo4j", "pytz"]
    assert len(release.pins(requirements, None)) > 0.9 * len(requirements)


def test_the_changelog_keeps_the_form() -> None:
    """As keepachangelog.com has it: a heading for each version, under it kinds of change, in them the changes."""
    headings = re.findall(r"^#+ .*$", CHANGELOG, re.MULTILINE)
    assert headings[0] == "# Changelog"
    kinds = {"### Added", "### Changed", "### Deprecated", "### Removed", "### Fixed", "### Security"}
    version = re.compile(r"## \[(Unreleased|\d+\.\d+\.\d+)\](?: - (?:\d{4}-\d\d-\d\d|unreleased))?")
    assert [line for line in headings[1:] if line not in kinds and not version.fullmatch(line)] == []
