"""``worker-driver status`` for a person: plain columns that fit, with what went wrong below them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from testing.servers import Serving
from worker_init.status_table import WIDTH, table

DRIVER: dict[str, Any] = {
    "slot": 0, "processes": [4711], "state": "up", "address": "127.0.0.1:40001", "upstream": "neo4j+s://db.example.org",
    "bolt": "5.8", "leases": 21, "errors": 0, "last_error": None,
    "connections": {"open": 3, "opened": 4, "closed": 1, "idle": 2, "in_use": 1, "max_size": 100},
    "waits": {"now": 5, "total": 9, "timed_out": 0, "seconds": 0.2, "longest_seconds": 0.087},
    "clients": {"now": 0, "total": 7, "refused": 0}, "faults": {"own": 1, "server": 2}}
HOST: dict[str, Any] = {"folder": "/run/worker-init-1000-abc", "pid": 77, "state": "serving", "uptime_seconds": 3725.4,
                        "drivers": [DRIVER]}
AWAY = "Neo.TransientError.General.DatabaseUnavailable: the driver host has no connection to bolt://db: nobody listens"


def test_a_host_is_a_line_and_each_of_its_drivers_another() -> None:
    assert table([HOST]).splitlines() == [
        "driver host 77, serving, for 1 h 2 min, folder /run/worker-init-1000-abc",
        "SLOT  UPSTREAM                  STATE  IDLE  USED  MAX  WAITING  LEASES  ERRORS  FAULTS",
        "   0  neo4j+s://db.example.org  up        2     1  100        5      21       0       3"]


def test_numbers_stand_below_each_other() -> None:
    busy = DRIVER | {"slot": 12, "leases": 12_345_678, "state": "draining"}
    title, first, second = table([HOST | {"drivers": [DRIVER, busy]}]).splitlines()[1:]
    assert len(title) == len(first) == len(second)
    assert "12M" in second
    assert title.index("LEASES") + len("LEASES") == first.index(" 21 ") + 3 == second.index("12M") + 3


def test_it_fits_and_an_address_that_does_not_loses_its_middle() -> None:
    long = DRIVER | {"upstream": f"neo4j+s://{'x' * 200}.databases.neo4j.io:7687", "leases": 10**12, "errors": 10**9,
                     "last_error": AWAY}
    lines = table([HOST | {"drivers": [long], "folder": f"/run/{'y' * 90}", "scope": "process"}]).splitlines()
    assert max(map(len, lines)) == WIDTH
    assert any("neo4j+s://" in line and "…" in line and ".neo4j.io:7687" in line for line in lines)


def test_what_went_wrong_last_is_said_below() -> None:
    assert "slot 0, the last error: Neo.TransientError" in table([HOST | {"drivers": [DRIVER | {"last_error": AWAY}]}])
    down = {"folder": "/run/x", "state": "down", "last_error": "no driver host answers in /run/x: timed out"}
    assert table([down]).splitlines() == ["driver host, down, folder /run/x", down["last_error"]]


def test_a_server_cannot_write_to_the_terminal() -> None:
    shown = table([HOST | {"drivers": [DRIVER | {"last_error": "x\x1b[2J\ny", "upstream": "bolt://a\x07b"}]}])
    assert not {letter for letter in shown if not letter.isprintable()} - {"\n"}
    assert "x?[2J y" in shown


@pytest.mark.parametrize(("seconds", "shown"), [
    (0.9, "0 s"), (61, "1 min 1 s"), (90_000, "1 d 1 h"), (86_400, "1 d 0 h")])
def test_the_time_is_told_in_two_units(seconds: float, shown: str) -> None:
    assert f"for {shown}," in table([HOST | {"uptime_seconds": seconds}])


def status(parent: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-m", "worker_init.cli", "status", *options], capture_output=True, text=True,
                          env={**os.environ, "WORKER_INIT_RUNTIME_DIR": str(parent)}, timeout=60, check=False)


def test_where_there_is_no_host_the_folder_that_was_searched_is_named(tmp_path: Path) -> None:
    done = status(tmp_path)
    assert (done.returncode, done.stdout) == (1, f"there is no driver host of this user in {tmp_path}\n")
    assert json.loads(status(tmp_path, "--json").stdout) == []


@pytest.mark.neo4j
def test_a_real_host_is_shown_in_both_forms(host: Serving) -> None:
    with host.driver() as driver:
        driver.verify_connectivity()
    shown, (known,) = status(host.folder), json.loads(status(host.folder, "--json").stdout)
    title, row = shown.stdout.splitlines()[-2:]
    assert (shown.returncode, title.split()) == (0, ["SLOT", "UPSTREAM", "STATE", "IDLE", "USED", "MAX", "WAITING",
                                                     "LEASES", "ERRORS", "FAULTS"])
    driver_status, = known["drivers"]
    assert row.split()[:4] == ["0", driver_status["upstream"], "up", str(driver_status["connections"]["idle"])]
    assert driver_status["connections"]["idle"] + driver_status["connections"]["in_use"] == (
        driver_status["connections"]["open"])
