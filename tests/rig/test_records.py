"""The raw files of a run: what is written is read again, also after the rig was killed while it wrote."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from rig import records
from rig.errors import BadInput
from rig.metrics import summarise
from rig.records import Sample
from tests.rig import builders
from tests.rig.full_disk import full_disk

ALL_KINDS = [
    builders.dag_run(), builders.dag_run(1, state="hung", opened=None, opened_reason="it was away", probe=None),
    builders.sample(1000.25, [1, 2], [2]), builders.connection(7, 1000, 1001, None),
    builders.connection(8, 1000, 1001, "agent é 🍌\n\u2028"), builders.task(3, 1.0, None, None, row=builders.row(11)),
]
SAMPLES = [builders.sample(t, [t]) for t in (1, 2, 3)]


@pytest.mark.parametrize("record", ALL_KINDS, ids=lambda record: type(record).__name__)
def test_what_is_appended_is_read_again(record: records.Record, tmp_path: Path) -> None:
    path = tmp_path / "raw.jsonl"
    records.append(path, [record])
    records.append(path, [record, record])
    assert list(records.read(path, type(record))) == [record] * 3


def test_a_line_is_there_as_soon_as_it_is_appended(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    for count in (1, 2, 3):
        records.append(path, SAMPLES[:1])
        assert path.read_text().count("\n") == count


def test_a_file_that_is_not_there_has_no_records(tmp_path: Path) -> None:
    assert list(records.read(tmp_path / "samples.jsonl", Sample)) == []


def test_an_empty_file_has_no_records(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    records.append(path, [])
    assert list(records.read(path, Sample)) == []


def test_a_last_line_that_was_cut_off_anywhere_is_left_out(tmp_path: Path) -> None:
    path, last = tmp_path / "samples.jsonl", SAMPLES[2].model_dump_json()
    for left in range(len(last)):
        path.unlink(missing_ok=True)
        records.append(path, SAMPLES[:2])
        with path.open("a") as file:
            file.write(last[:left])
        assert list(records.read(path, Sample)) == SAMPLES[:2], last[:left]


def test_a_last_line_that_was_cut_off_in_the_middle_of_a_character_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "connections.jsonl"
    line = ALL_KINDS[4].model_dump_json().encode()
    path.write_bytes(line + b"\n" + line[:line.index("é".encode()) + 1])
    assert list(records.read(path, records.Connection)) == [ALL_KINDS[4]]


def test_a_last_line_that_lacks_only_its_end_of_line_is_a_record(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    path.write_text("\n".join(sample.model_dump_json() for sample in SAMPLES))
    assert list(records.read(path, Sample)) == SAMPLES


@pytest.mark.parametrize("bad", [
    b"", b"not json", b'{"index": 0}', SAMPLES[0].model_dump_json().replace("{", '{"opne": [], ', 1).encode(),
    b'{"index": 0, "t": 1, "open": ["\xff"], "running": []}',
], ids=["empty", "not JSON", "keys missing", "unknown key", "not UTF-8"])
def test_a_bad_line_in_the_middle_is_one_line_that_names_file_and_line(bad: bytes, tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    good = SAMPLES[0].model_dump_json().encode()
    path.write_bytes(b"\n".join([good, bad, good, b""]))
    with pytest.raises(BadInput) as caught:
        list(records.read(path, Sample))
    assert str(caught.value).startswith(f"{path}, line 2: not a Sample: ")
    assert "\n" not in str(caught.value)


def test_a_bad_last_line_that_is_whole_is_not_taken_for_one_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    path.write_text(SAMPLES[0].model_dump_json() + "\nnot json\n")
    with pytest.raises(BadInput, match="line 2"):
        list(records.read(path, Sample))


def test_a_record_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        SAMPLES[0].t = 5.0      # type: ignore[misc]


def test_the_runs_own_record_is_read_again(tmp_path: Path) -> None:
    record = builders.run(builders.plan(builders.cell(), builders.cell("improved")))
    records.write_run(tmp_path, record)
    assert records.read_run(tmp_path) == record


def test_a_relay_that_was_recorded_under_its_earlier_name_is_read_as_the_same_one(tmp_path: Path) -> None:
    record = builders.run(builders.plan(builders.cell("worker", relay="shared")))
    records.write_run(tmp_path, record)
    file = tmp_path / records.RUN_FILE
    file.write_text(file.read_text().replace('"shared"', '"worker"'))
    assert '"worker"' in file.read_text()
    assert records.read_run(tmp_path) == record


def test_a_line_that_finds_no_room_names_its_file(tmp_path: Path) -> None:
    path = tmp_path / records.DAG_RUNS_FILE
    with full_disk(), pytest.raises(OSError, match="File too large") as caught:
        records.append(path, [builders.run(builders.plan(builders.cell()))])
    assert caught.value.filename == str(path)


def test_the_runs_own_record_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    record = builders.run(builders.plan(builders.cell()))
    records.write_run(tmp_path, record)
    with full_disk(), pytest.raises(OSError, match="File too large"):
        records.write_run(tmp_path, record.model_copy(update={"status": "failed"}))
    assert records.read_run(tmp_path) == record


def test_a_folder_without_a_run_says_so(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"holds no run .*`rig runs` lists"):
        records.read_run(tmp_path)


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"run": "x"}', b"\xff"])
def test_a_damaged_run_file_is_one_line_that_names_it_and_says_how_to_fix_it(damage: bytes, tmp_path: Path) -> None:
    (tmp_path / records.RUN_FILE).write_bytes(damage)
    with pytest.raises(BadInput) as caught:
        records.read_run(tmp_path)
    line = str(caught.value)
    assert line.startswith(f"{tmp_path / records.RUN_FILE} is not a run of this rig: ")
    assert line.endswith("delete the run's folder")
    assert "\n" not in line


def test_a_run_of_a_newer_rig_is_refused_by_its_name(tmp_path: Path) -> None:
    record = builders.run(builders.plan(builders.cell()))
    later = record.model_dump_json().replace('"schema_version":2', '"schema_version":3,"more":1')
    (tmp_path / records.RUN_FILE).write_text(later)
    with pytest.raises(BadInput, match=r"is of a newer rig \(schema 3, this one reads up to 2\) — install the rig"):
        records.read_run(tmp_path)


def test_a_run_of_the_first_schema_is_read_and_what_it_lacks_is_missing(tmp_path: Path) -> None:
    folder = builders.tiny(tmp_path)
    of_then = {records.RUN_FILE: {"idle_timeout"}, records.DAG_RUNS_FILE: {"machine"},
               records.TASKS_FILE: {"scheduled_at"}}
    for name, later in of_then.items():
        whole = (folder / name).read_text()
        lines = [whole] if name == records.RUN_FILE else whole.splitlines()
        old = [{key: value for key, value in json.loads(line).items() if key not in later} for line in lines]
        (folder / name).write_text("".join(json.dumps(one).replace('"schema_version": 2', '"schema_version": 1')
                                           .replace(', "control": false', "") + "\n" for one in old))
    found = summarise(folder).cells[0].metrics

    assert "control" not in (folder / records.RUN_FILE).read_text()
    assert found["connections_opened"].median == 4
    assert found["cpu_per_task"].reason == "processor times were not recorded"
    assert found["scheduled_seconds"].reason == "2 of 2 tasks have no scheduled time"
