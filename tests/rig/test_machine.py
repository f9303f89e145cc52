"""Processor seconds by service: also of processes that have ended by the time anybody looks."""

import subprocess
import sys
from collections.abc import Iterator
from typing import IO

import pytest

from rig.probe import machine
from rig.records import MachineShare

TICK = 0.05         # the kernel counts in hundredths of a second, and each process rounds by itself

# A service whose child forks children that compute and end, as a Celery worker's pool does with Airflow's tasks.
SERVICE = """
import os, sys, time

def burn(seconds):
    while time.process_time() < seconds:
        pass

pool_in, commands = os.pipe()
answers, pool_out = os.pipe()
if os.fork() == 0:
    os.close(commands)      # else the end of the service would not be seen
    while os.read(pool_in, 1) == b"t":
        if (task := os.fork()) == 0:
            burn(time.process_time() + 0.15)
            os.write(pool_out, f"{time.process_time():08.4f}".encode())
            os._exit(0)
        os.waitpid(task, 0)
        os.write(pool_out, b"ended   ")
    os._exit(0)
print("up", flush=True)
for line in sys.stdin:
    os.write(commands, b"t")
    spent = os.read(answers, 8).decode()
    os.read(answers, 8)
    print(spent, flush=True)
"""
HOST = "import sys, time\nfor line in sys.stdin:\n    until = time.process_time() + 0.3\n" \
       "    while time.process_time() < until: pass\n    print('done', flush=True)\n"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the times of children that ended are Linux's")


def ask(process: "subprocess.Popen[str]", word: str = "go") -> str:
    said: IO[str] | None = process.stdout
    assert process.stdin
    assert said
    process.stdin.write(f"{word}\n")
    process.stdin.flush()
    return said.readline().strip()


def started(*command: str) -> "subprocess.Popen[str]":
    return subprocess.Popen([sys.executable, "-c", *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def service() -> Iterator["subprocess.Popen[str]"]:
    with started(SERVICE) as process:
        assert process.stdout
        assert process.stdout.readline() == "up\n"
        yield process
        process.communicate()


def spent(share: MachineShare) -> dict[str, float]:
    assert share.cpu_seconds is not None
    return share.cpu_seconds


@pytest.mark.parametrize("name", ["airflow-worker", "airflow-worker-2"])
def test_a_task_process_that_has_ended_is_counted_as_a_task(service: "subprocess.Popen[str]", name: str) -> None:
    services = {name: service.pid}
    before = machine.look(services)
    reported = sum(float(ask(service)) for _ in range(3))
    found = spent(machine.between(before, machine.look(services)))

    assert found["tasks"] == pytest.approx(reported, abs=3 * TICK)
    assert found[name] < found["tasks"]


def test_the_same_tree_under_another_service_is_that_services(service: "subprocess.Popen[str]") -> None:
    services = {"postgres": service.pid}
    before = machine.look(services)
    reported = float(ask(service))
    found = spent(machine.between(before, machine.look(services)))

    assert found["postgres"] >= reported - TICK
    assert "tasks" not in found


def test_the_driver_host_is_counted_apart_from_the_worker_that_started_it() -> None:
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {HOST!r}, {machine.HOST_MODULE!r}])"
    with started(code) as process:
        services = {"airflow-worker": process.pid}
        assert ask(process) == "done"
        before = machine.look(services)
        assert ask(process) == "done"
        found = spent(machine.between(before, machine.look(services)))
        process.communicate()

    assert found["worker-driver"] >= 0.3 - TICK
    assert found["airflow-worker"] < 0.1


def test_the_rigs_own_time_is_counted_apart() -> None:
    import time
    with started("input()") as process:
        services = {"redis": process.pid}
        before, until = machine.look(services), time.process_time() + 0.3
        while time.process_time() < until:
            pass
        found = spent(machine.between(before, machine.look(services)))
        process.communicate("\n")

    assert found["probe"] >= 0.3 - TICK
    assert found["redis"] < 0.1


def test_shares_are_shares_of_the_time_between_two_looks() -> None:
    before = machine.Look(10, {"redis": 1}, {"redis": 1.0, "probe": 0.0}, busy=100, all=200, stolen=5, waited=3, load=1)
    after = machine.Look(20, {"redis": 1}, {"redis": 4.0, "probe": 0.5}, busy=112, all=220, stolen=6, waited=8, load=3)
    found = machine.between(before, after)

    assert (found.seconds, found.cpu_seconds) == (10, {"redis": 3, "probe": 0.5})
    assert (found.unattributed, found.pressure, found.steal, found.load) == (8.5, 0.5, 0.05, 2)
    assert found.missing == {}


def test_no_share_is_more_than_the_whole() -> None:
    before = machine.Look(10, {}, None, busy=100, all=200, stolen=0, waited=3, load=1)
    after = machine.Look(20, {}, None, busy=120, all=220, stolen=0, waited=13.06, load=1)

    assert machine.between(before, after).pressure == 1


@pytest.mark.parametrize(("services", "reason"), [({}, machine.NOT_OURS), ({"redis": 2}, machine.RESTARTED)])
def test_what_is_not_known_is_missing_with_its_reason(services: dict[str, int], reason: str) -> None:
    def look(of: dict[str, int]) -> machine.Look:
        return machine.Look(0, of, {"redis": 1.0} if of else None, busy=1, all=2, stolen=None, waited=None, load=1)
    found = machine.between(look({"redis": 1} if services else {}), look(services))

    assert (found.cpu_seconds, found.pressure, found.steal, found.unattributed) == (None, None, None, None)
    assert found.missing["cpu_seconds"] == found.missing["unattributed"] == reason
    assert found.missing["steal"] == "this system does not tell it"


def test_a_service_that_is_gone_is_no_error() -> None:
    with started("pass") as process:
        process.communicate()
    found = machine.look({"redis": process.pid})

    assert found.spent is not None
    assert found.spent["redis"] == 0
