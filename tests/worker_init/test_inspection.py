"""What Flower shows of a worker's shared drivers: a line for each that a person can read."""

from typing import Any

from worker_init.inspection import line, lines

DRIVER: dict[str, Any] = {
    "slot": 3, "processes": [4711], "state": "up", "upstream": "neo4j://graph:7687",
    "leases": 21, "errors": 0, "last_error": None,
    "connections": {"open": 1, "opened": 2, "closed": 1, "in_use": 0, "max_size": 100},
    "waits": {"now": 0, "total": 3, "timed_out": 0, "seconds": 0.2, "longest_seconds": 0.087},
    "clients": {"now": 0, "total": 7, "refused": 0}}


def test_a_driver_is_told_in_a_line_that_fits_into_the_tab() -> None:
    assert line(DRIVER) == "process 4711: up, 1 open, 0 in use (2 opened); leases 21, waits 3 (longest 0.087 s)"


def test_all_drivers_together_come_first_and_then_one_line_for_each_slot() -> None:
    found = lines({"state": "serving", "drivers": [DRIVER | {"slot": 0}, DRIVER | {"slot": 1, "processes": [4712]}]})
    assert [key.split("\N{NO-BREAK SPACE}") for key in found] == [
        ["neo4j", "total"], ["neo4j", "slot", "0"], ["neo4j", "slot", "1"]]
    first, _, last = found.values()
    assert first == "serving: connections 2 open, 0 in use (4 opened); leases 42, waits 6, errors 0"
    assert last.startswith("process 4712: ")


def test_a_slot_with_two_upstreams_has_a_line_for_each_that_names_it() -> None:
    other = DRIVER | {"upstream": "bolt+s://other.example.org", "leases": 4}
    found = lines({"state": "serving", "drivers": [DRIVER, other, other, DRIVER | {"slot": 4, "processes": [4712]}]})
    assert [key.replace("\N{NO-BREAK SPACE}", " ") for key in found] == [
        "neo4j total", "neo4j slot 3", "neo4j slot 3 (2)", "neo4j slot 3 (3)", "neo4j slot 4"]
    _, first, second, _, last = found.values()
    assert first.startswith("process 4711, neo4j://graph:7687: up, 1 open, 0 in use (2 opened); leases 21, ")
    assert second.startswith("process 4711, bolt+s://other.example.org: up, 1 open, 0 in use (2 opened); leases 4, ")
    assert last.startswith("process 4712, neo4j://graph:7687: up, ")


def test_no_key_has_a_space_at_which_flower_would_break_it() -> None:
    assert all(" " not in key for key in lines({"state": "serving", "drivers": [DRIVER]}))


def test_a_host_that_is_off_is_one_line() -> None:
    assert list(lines({"state": "off"}).values()) == ["off"]


def test_a_slot_that_no_process_uses_says_so() -> None:
    assert line(DRIVER | {"processes": []}).startswith("process none: ")


def test_what_went_wrong_stands_at_its_end() -> None:
    assert line(DRIVER | {"errors": 2, "last_error": "the server is away"}).endswith(
        "; errors 2, the last: the server is away")
