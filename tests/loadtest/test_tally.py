"""What a test's samples say of Neo4j, out of a watch that counts on and on."""

from loadtest.watch import Tally
from rig.probe import Look


def look(opened: int | None, seen: int, others: set[int] | None = None) -> Look:
    return Look(1.0, {7: "worker", 8: "other"}, frozenset({7}), opened, seen, frozenset(others or set()))


def test_a_test_counts_from_its_first_look() -> None:
    tally = Tally()
    assert [(found["opened"], found["seen"]) for found in map(tally.of, (look(40, 30), look(45, 33)))] == [
        (0, 0), (5, 3)]


def test_a_count_that_is_missing_is_none_and_no_beginning() -> None:
    tally = Tally()
    assert [tally.of(each)["opened"] for each in (look(None, 0), look(40, 0), look(None, 0), look(44, 0))] == [
        None, 0, None, 4]


def test_each_connection_of_others_counts_once_for_as_long_as_the_test_is_on() -> None:
    tally = Tally()
    assert [tally.of(look(0, 0, others))["others"] for others in (set(), {1, 2}, {2}, set(), {3})] == [0, 2, 2, 2, 3]
    assert Tally().of(look(0, 0))["others"] == 0
