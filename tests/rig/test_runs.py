"""The runs of a data folder: made, found by name, listed, and cleaned before a part of one is run again."""

import shutil
import time
from pathlib import Path

import pytest

from rig import records, runs
from rig.errors import BadInput
from tests.rig import builders
from tests.rig.load import folders


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Return a data folder with two runs, and what else lies in one."""
    for name in ("20260102-000000-quick", "20260101-235959-default"):
        builders.write(tmp_path / name, builders.run(builders.plan(builders.cell()), run=name),
                       dag_runs=[builders.dag_run()])
    for name in (".stack", ".cache", "notes"):
        (tmp_path / name).mkdir()
    (tmp_path / "runs.txt").touch()
    return tmp_path


def listed(data_dir: Path) -> tuple[list[runs.Listed], list[str]]:
    """Return what is listed, and what is said of the rest."""
    told: list[str] = []
    return runs.listed(data_dir, told.append), told


def test_they_are_listed_oldest_first(data: Path) -> None:
    assert [run.name for run in listed(data)[0]] == ["20260101-235959-default", "20260102-000000-quick"]


def test_the_dag_runs_that_there_were_are_counted_and_not_the_planned_ones(tmp_path: Path) -> None:
    """An interrupted comparison of seven DAG runs had two."""
    folder = tmp_path / "20260101-235959-quick"
    builders.write(folder, builders.run(builders.plan(*[builders.cell()] * 7), run=folder.name),
                   dag_runs=[builders.dag_run(0), builders.dag_run(1)])
    assert [run.dag_runs for run in listed(tmp_path)[0]] == [2]


def test_load_tests_and_comparisons_of_loads_are_listed_too(data: Path) -> None:
    loads = folders.comparison(data / "20260103-000000-load-comparison")
    shutil.copytree(loads / folders.HELD, data / "20260104-000000-load")

    assert [(run.name, run.kind, run.dag_runs, run.status) for run in listed(data)[0]] == [
        ("0-held", "load, improved", 19, "complete"),
        ("20260103-000000-load-comparison", "loads, 1 cell", 38, "complete"),
        ("20260101-235959-default", "quick", 1, "complete"), ("20260102-000000-quick", "quick", 1, "complete")]


def test_a_folder_that_is_not_there_has_none(tmp_path: Path) -> None:
    assert listed(tmp_path / "results") == ([], [])


def test_one_is_found_by_its_id(data: Path) -> None:
    assert runs.find(data, "20260101-235959-default") == data / "20260101-235959-default"


def test_latest_is_the_one_that_was_begun_last(data: Path) -> None:
    assert runs.find(data, "latest") == data / "20260102-000000-quick"


def test_one_is_found_by_its_path_wherever_it_lies(data: Path, tmp_path: Path,
                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    moved = (data / "20260102-000000-quick").rename(data / "notes" / "kept")
    assert runs.find(data, str(moved)) == moved
    monkeypatch.chdir(data / "notes")
    assert runs.find(tmp_path / "other", "kept") == moved


def test_one_that_was_renamed_is_found_by_its_new_name(data: Path) -> None:
    moved = (data / "20260102-000000-quick").rename(data / "20260103-before-the-upgrade")
    assert runs.find(data, "20260103-before-the-upgrade") == runs.find(data, "latest") == moved


def test_an_unknown_name_is_told_the_runs_that_are_here(data: Path) -> None:
    with pytest.raises(BadInput) as caught:
        runs.find(data, "20260202")
    assert str(caught.value) == (f"there is no run '20260202' in {data} — runs here: 20260101-235959-default, "
                                 "20260102-000000-quick")


@pytest.mark.parametrize("name", ["latest", "20260202", ""])
def test_without_any_run_the_message_says_how_to_make_one(name: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="`rig compare` makes one"):
        runs.find(tmp_path, name)


@pytest.mark.parametrize("foreign", ["{", '{"run": "of another program"}', '{"schema_version": 999}', "\xff\xfe"])
@pytest.mark.parametrize("file", [records.RUN_FILE, records.LOAD_FILE, records.COMPARISON_FILE])
def test_a_record_that_is_none_of_ours_is_named_in_one_line_and_does_not_hide_the_others(
        file: str, foreign: str, data: Path) -> None:
    strange = data / "20260101-120000-of-another"
    strange.mkdir()
    (strange / file).write_text(foreign, encoding="latin-1")

    found, told = listed(data)

    assert [run.name for run in found] == ["20260101-235959-default", "20260102-000000-quick"]
    assert len(told) == 1
    assert told[0].startswith(f"{strange.name} is left out: ")
    assert "\n" not in told[0]


def test_a_record_that_may_not_be_read_does_not_hide_the_others(data: Path) -> None:
    (data / "20260101-235959-default" / records.RUN_FILE).unlink()
    (data / "20260101-235959-default" / records.RUN_FILE).mkdir()

    found, told = listed(data)

    assert [run.name for run in found] == ["20260102-000000-quick"]
    assert len(told) == 1


def test_a_new_folder_is_named_by_time_and_profile_and_is_the_latest_once_it_holds_a_run(
        data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "gmtime", lambda: time.struct_time((2026, 3, 4, 5, 6, 7, 0, 0, 0)))
    folder = runs.new_folder(data, "seed")
    assert folder.name == "20260304-050607-seed"
    assert runs.find(data, "latest").name == "20260102-000000-quick"
    builders.write(folder, builders.run([]))
    assert runs.find(data, "latest") == folder


def test_the_data_folder_is_made_with_the_first_run(tmp_path: Path) -> None:
    assert runs.new_folder(tmp_path / "some" / "results", "quick").is_dir()


# --- keep_only -------------------------------------------------------------------------------------


def raw(folder: Path) -> dict[str, list[records.Record]]:
    kinds: dict[str, type[records.Record]] = {
        records.TASKS_FILE: records.TaskRecord, records.SAMPLES_FILE: records.Sample,
        records.CONNECTIONS_FILE: records.Connection, records.DAG_RUNS_FILE: records.DagRunRecord}
    return {name: list(records.read(folder / name, kind)) for name, kind in kinds.items()}


def test_only_the_lines_of_the_dag_runs_that_are_kept_stay(tmp_path: Path) -> None:
    folder = builders.tiny(tmp_path / "run", repeats=3)
    before = raw(folder)
    runs.keep_only(folder, {0, 2})
    for name, lines in raw(folder).items():
        assert lines == [line for line in before[name] if getattr(line, "index") != 1], name    # noqa: B009
        assert lines, name


def test_what_was_cut_off_is_gone_so_that_lines_can_be_added_again(tmp_path: Path) -> None:
    folder = builders.tiny(tmp_path / "run", repeats=2)
    before = raw(folder)
    for name, lines in before.items():
        with (folder / name).open("a") as file:
            file.write(lines[-1].model_dump_json()[:20])
    runs.keep_only(folder, {0, 1})
    for name, lines in before.items():
        records.append(folder / name, lines[:1])
        assert raw(folder)[name] == [*lines, lines[0]]


def test_files_that_are_not_there_are_empty_afterwards(tmp_path: Path) -> None:
    runs.keep_only(tmp_path, {0})
    assert not any(raw(tmp_path).values())


def test_no_part_of_an_earlier_try_gets_in(tmp_path: Path) -> None:
    folder = builders.tiny(tmp_path / "run")
    before = raw(folder)
    for name in before:
        (folder / f"{name}.part").write_text("left behind by a kill -9\n")
    runs.keep_only(folder, {0})
    assert raw(folder) == before
    assert not list(folder.glob("*.part"))
