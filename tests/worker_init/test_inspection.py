"""What Flower shows of a worker's shared drivers: a line for each that a person can read."""

from typing import Any

from worker_init.inspection import line

DRIVER: dict[str, Any] = {
    "slot": 3, "processes": [4711], "state": "up", "leases": 21, "errors": 0, "last_error": None,
    "connections": {"open": 1, "opened": 2, "closed": 1, "in_use": 0, "max_size": 100},
    "waits": {"now": 0, "total": 3, "timed_out": 0, "seconds": 0.2, "longest_seconds": 0.087},
    "clients": {"now": 0, "total": 7, "refused": 0}}


def test_a_driver_is_told_in_a_line() -> None:
    assert line(DRIVER) == ("process 4711: up, 1 open, 2 opened, 0 in use, 21 leases, 3 waits (longest 0.087 s), "
                            "7 clients")


def test_a_slot_that_no_process_uses_says_so() -> None:
    assert line(DRIVER | {"processes": []}).startswith("process none: ")


def test_what_went_wrong_stands_at_its_end() -> None:
    assert line(DRIVER | {"errors": 2, "last_error": "the server is away"}).endswith(
        "; 2 errors, the last: the server is away")
