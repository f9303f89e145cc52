"""What the tab shows: plain values for Locust's table, of the test that is on, and null where nothing was seen."""

import csv
import io
import sys

from loadtest import table
from rig.load.records import Count, LoadSample, WorkerDrivers
from tests.rig.load.lines import sample


def rows(*samples: LoadSample) -> dict[str, table.Row]:
    return {str(row["what"]): row for row in table.table(table.by_test(samples))}


def test_every_cell_is_a_plain_value() -> None:
    worker = WorkerDrivers(processes=4, drivers=4, open=3, in_use=1, opened=5)
    found = rows(sample(1.0, open=3, running=1, opened=2, patterns={"worker": Count(open=3, running=1)},
                        workers={"celery@a": worker}, trouble="Flower does not answer"))
    values = [value for row in found.values() for value in row.values()]
    assert all(value is None or isinstance(value, str | int | float) for value in values)
    assert all(set(row) == {column["key"] for column in table.STRUCTURE} for row in found.values())
    assert found["not seen"]["meaning"] == "Flower does not answer"
    assert found["celery@a: drivers' connections"]["now"] == 3
    assert found["open · worker"]["now"] == 3


def test_now_is_the_last_and_highest_the_most_of_this_test() -> None:
    before = [sample(1.0, elapsed=0.0, open=50, running=0), sample(2.0, elapsed=-0.5, open=40, running=0)]
    test = [sample(3.0, elapsed=0.5, open=4, running=1), sample(4.0, elapsed=1.5, open=9, running=3),
            sample(5.0, elapsed=2.5, open=6, running=6)]
    after = sample(6.0, elapsed=0.0, open=1, running=0)
    assert [rows(*before, *test)[name][column] for name in ("open", "idle") for column in ("now", "most")] == [
        6, 9, 0, 6]
    assert [rows(*before, *test, after)["open"][column] for column in ("now", "most")] == [1, 9]


def test_what_was_not_seen_is_null_and_not_zero() -> None:
    found = rows(sample(1.0))
    assert (found["open"]["now"], found["open"]["most"], found["opened per second"]["now"]) == (None, None, None)
    assert table.table(table.by_test([])) == []


def test_beside_others_charts_and_csv_have_the_same_count_as_the_tab() -> None:
    earlier = sample(1.0, elapsed=-1.0, opened=30, seen=3, others=0)
    tests = table.by_test([earlier, sample(2.0, opened=9, seen=7, others=0), sample(3.0, opened=19, seen=8, others=1)])
    assert [line["opened"] for line in csv.DictReader(io.StringIO(table.as_csv(tests)))] == ["30", "7", "8"]
    assert [point["opened"] for point in table.points(tests, since=1.0)] == [7, 8]


def test_a_test_keeps_its_count_when_the_next_one_begins() -> None:
    beside = [sample(1.0, opened=9, seen=7, others=0), sample(2.0, opened=19, seen=8, others=1)]
    alone = [sample(3.0, elapsed=-0.5, opened=0, seen=0, others=0), sample(4.0, elapsed=1, opened=5, seen=2, others=0)]
    for live in (beside, [*beside, *alone]):
        points = table.points(table.by_test(live), since=0.0)
        assert [point["opened"] for point in points] == [7, 8, 0, 5][:len(live)]


def test_beside_others_the_count_is_a_lower_bound_and_says_so() -> None:
    alone = rows(sample(1.0, opened=9, seen=7, others=0))["opened since the start"]
    beside = rows(sample(1.0, opened=9, seen=7, others=0), sample(2.0, opened=19, seen=8, others=1))[
        "opened since the start"]
    assert (alone["now"], alone["meaning"]) == (9, "counted at the server, without the probe's own")
    assert (beside["now"], beside["most"]) == (8, 8)
    assert str(beside["meaning"]).endswith("; a lower bound: 1 connection of others was seen")


def test_a_point_of_the_charts_has_what_they_draw() -> None:
    seen = {"hook": Count(open=4, running=1)}
    (found,) = table.points([[sample(7.0, triggered=5, ended=3, open=4, running=1, patterns=seen)]], since=0.0)
    assert (found["in_flight"], found["idle"], found["patterns"], found["workers"]) == (2, 3, {"hook": [4, 1]}, None)


def test_the_csv_has_a_line_for_each_sample_and_nothing_where_nothing_was_seen() -> None:
    seen = sample(2.5, triggered=5, ended=3, open=4, running=1, opened=7)
    assert list(csv.DictReader(io.StringIO(table.as_csv([[sample(1.0), seen]])))) == [
        {"t": "1.0", "rate": "1.0", "runs_in_flight": "0", "open": "", "idle": "", "running": "", "opened": ""},
        {"t": "2.5", "rate": "1.0", "runs_in_flight": "2", "open": "4", "idle": "3", "running": "1", "opened": "7"}]


def test_none_of_the_parts_that_are_tested_here_brings_locust_with_it() -> None:
    # It replaces the standard library's sockets and threads in the process that imports it: also in these tests'.
    assert "locust" not in sys.modules
