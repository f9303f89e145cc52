"""``python -m benchmarks.scale``: its hosts, what it makes of its runs, and what it refuses."""

import io
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import pytest
from rich.console import Console

from benchmarks import scale, spread
from benchmarks.scale import Bench, Run, plan, spent, table, verdict
from benchmarks.spread import SpreadStack
from rig.airflow_api import AirflowApi
from rig.errors import BadInput, RigError
from rig.probe import Opened, Probe, Window
from rig.progress_view import ProgressView
from rig.records import DagRunRecord, MachineShare, read_run
from rig.settings import PROJECT
from rig.stack.native import NativeStack
from rig.stack.processes import this_process
from testing.waiting import wait_until
from tests.rig import builders
from tests.rig.plain_settings import PlainSettings
from tests.rig.pretended_stack import PretendedApi, PretendedStack
from tests.rig.test_drivers import stack

ASK = """
import socket, sys
for host, port in [("127.0.0.1", int(sys.argv[1])), ("127.0.0.1", int(sys.argv[2])), (sys.argv[3], int(sys.argv[1]))]:
    try:
        with socket.create_connection((host, port), timeout=60) as client:
            client.sendall(b"?")
            print(client.recv(20).decode())
    except OSError as error:
        print(type(error).__name__)
print(socket.gethostname())
"""


@pytest.fixture
def server() -> Iterator[int]:
    """Yield the port of a server on this machine's loopback that answers every question."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        def serve() -> None:
            with suppress(OSError):     # it is closed at the end
                while True:
                    client, _ = listener.accept()
                    with client:
                        client.recv(1)
                        client.sendall(b"the answer")
        threading.Thread(target=serve, daemon=True).start()
        yield int(listener.getsockname()[1])
        listener.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def host() -> Iterator[int]:
    """Yield the process that holds a host."""
    try:
        spread.require_namespaces()
    except BadInput as error:
        pytest.skip(str(error))
    with subprocess.Popen(spread.host_command("worker7"), stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        try:
            wait_until(lambda: process.poll() is not None or spread.is_held(process.pid), "the host is made")
            if process.returncode is not None:
                pytest.skip(f"no namespaces here: {process.stderr.read().strip()}")
            yield process.pid
        finally:
            process.kill()


def asked_in(host: int, *ports: int) -> list[str]:
    """Ask two ports of a host's loopback, and the first one at an address outside; return what came back."""
    first, second = map(str, ports)
    with subprocess.Popen(spread.hops_command(host, [ports[0]]), cwd=PROJECT) as hops:
        try:
            wait_until(lambda: spread.listening_in(host) == {ports[0]}, "the hop listens")
            asked = subprocess.run([*spread.inside(host), sys.executable, "-c", ASK, first, second, "192.0.2.1"],
                                   capture_output=True, text=True, check=True)
        finally:
            hops.terminate()
    return asked.stdout.splitlines()


def test_a_host_reaches_a_port_that_a_hop_gives_it_and_nothing_else(host: int, server: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        answers = asked_in(host, server, other.getsockname()[1])
    assert answers == ["the answer", "ConnectionRefusedError", "OSError", "worker7"]
    assert spread.interfaces_of(host) == ["lo"]
    assert socket.gethostname() != "worker7"


def test_a_client_of_a_server_that_is_down_does_not_wait_in_a_host(host: int, server: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = int(closed.getsockname()[1])
    assert asked_in(host, port, server)[0] in {"", "ConnectionResetError", "BrokenPipeError"}


def test_a_worker_with_another_interface_than_its_loopback_is_refused(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interfaces = {"airflow-worker-1": ["lo"], "airflow-worker-2": ["lo", "eth0"]}
    asked: list[int] = []
    running = stack(tmp_path, services={name: {"process": this_process(), "url": None, "stop_signal": 15,
                                               "stop_timeout": 1} for name in interfaces})

    def interfaces_of(pid: int) -> list[str]:
        asked.append(pid)
        return list(interfaces.values())[len(asked) - 1]
    monkeypatch.setattr(spread, "interfaces_of", interfaces_of)
    monkeypatch.setattr(SpreadStack, "state", lambda _: running)
    with pytest.raises(RigError, match=r"^airflow-worker-2 has the network interfaces lo, eth0: expected only lo$"):
        SpreadStack(PlainSettings(data_dir=tmp_path), lambda *_: None, slots=[2, 2]).require_cut_off()
    assert asked == [os.getpid()] * 2


@pytest.mark.parametrize(("slots", "hosts", "found"), [(16, 3, [6, 5, 5]), (16, 4, [4] * 4), (2, 2, [1, 1])])
def test_slots_are_divided_as_equally_as_possible(slots: int, hosts: int, found: list[int]) -> None:
    assert spread.divided(slots, hosts) == found


@pytest.mark.parametrize(("arguments", "said"), [
    (("--tasks", "0"), "argument --tasks: '0' is not a whole number from 1 to 10000"),
    (("--tasks", "100,20000"), "argument --tasks: '20000' is not a whole number from 1 to 10000"),
    (("--tasks", "many"), "argument --tasks: 'many' is not"), (("--tasks", ""), "argument --tasks: '' is not"),
    (("--repeats", "-1"), "argument --repeats: '-1' is not a whole number from 1 to 100"),
    (("--hosts", "0"), "argument --hosts: '0' is not a whole number from 1 on"),
    (("--hosts", "17"), "--hosts is 17: expected 1 to 16, because each host needs a slot — "),
    ((), "hosts are network namespaces, which only root may make — run it as root")])
def test_what_cannot_be_done_is_said_in_one_line(
        arguments: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
        ) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(SystemExit) as ended:
        scale.main([*arguments])
    assert ended.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.removeprefix("python -m benchmarks.scale: error: ").startswith(said)


@pytest.mark.parametrize(("text", "found"), [("1000,100", [100, 1000]), ("5, 5", [5])])
def test_numbers_of_tasks_are_a_list(text: str, found: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, "require_namespaces", lambda: None)
    options = scale.options_of(["--tasks", text])
    assert (options.tasks, options.hosts, options.repeats) == (found, 3, 3)


def test_each_number_of_tasks_comes_once_and_the_small_ones_again_after_the_large_ones() -> None:
    assert [one.cell.tasks for one in plan([1000, 100, 10_000], 3)] == [100, 1000, 10_000, 100, 100]
    assert [one.index for one in plan([100], 2)] == [0, 1]


class Ending(PretendedApi):
    """An API whose DAG run has ended, with two tasks, one on each host."""

    def __init__(self) -> None:
        super().__init__(set(), [])
        self.states = ["success"]

    def task_instances(self, *_: str) -> list[dict[str, Any]]:
        return [{"map_index": number, "state": "success", "try_number": 1, "hostname": f"worker{number + 1}",
                 "queued_when": "2026-01-01T00:00:00Z", "start_date": "2026-01-01T00:00:01Z",
                 "end_date": f"2026-01-01T00:00:0{number + 3}Z"} for number in range(2)]

    def returned(self, *_: object) -> list[dict[str, Any]]:
        return [builders.row(number) for number in range(2)]


class Counting:
    """A probe that has counted two connections, of which one is open at the end."""

    @contextmanager
    def window(self, index: int, *_: object, **_more: object) -> Iterator[Window]:
        window = Window(index)
        yield window
        window.samples.append(builders.sample(time.time(), [102]))
        window.opened = Opened(2, True, None, 100, 103, "ids")


class Restarted(PretendedStack):
    """A stack whose executor can be restarted."""

    def restart_executor(self) -> None:
        self.asked.append(("restart_executor",))


def test_a_dag_run_leaves_raw_files_a_report_and_its_figures(tmp_path: Path) -> None:
    pretended = Restarted(tmp_path, stack(tmp_path, services={"neo4j": {
        "process": this_process(), "url": None, "stop_signal": 15, "stop_timeout": 1}}))
    bench = Bench(cast("SpreadStack", pretended), cast("AirflowApi", Ending()), cast("Probe", Counting()), tmp_path,
                  ProgressView(Console(file=io.StringIO()), 2), {"versions": {}})
    planned = plan([2], 1)
    bench.view.planned(planned)
    found = bench.run(planned[0])

    assert pretended.asked == [("restart_executor",)]
    assert (found.state, found.succeeded, found.wrong, found.makespan) == ("success", 2, 0, 4.0)
    assert (found.opened, found.opened_exact, found.left_open) == (2, True, 1)
    assert found.per_host == {"worker1": 1, "worker2": 1}
    assert found.peaks["probe"] > 0
    assert set(found.spent) >= {"probe", "reading", "reading_api", "report"}
    assert found.raw_bytes == sum(len(file.read_bytes()) for file in tmp_path.glob("*/*.jsonl"))
    assert found.page_bytes == len((tmp_path / "0-2" / "report.html").read_bytes())
    assert read_run(tmp_path / "0-2").status == "complete"


def test_a_dag_run_that_hangs_is_an_error(tmp_path: Path) -> None:
    api = Ending()
    api.states = []
    pretended = Restarted(tmp_path, stack(tmp_path))
    pretended.settings = pretended.settings.model_copy(update={"run_timeout": 0.01})
    bench = Bench(cast("SpreadStack", pretended), cast("AirflowApi", api), cast("Probe", Counting()), tmp_path,
                  ProgressView(Console(file=io.StringIO()), 2), {"versions": {}})
    bench.view.planned(plan([2], 1))
    with pytest.raises(RigError, match=r"^the DAG run of 2 tasks did not end: hung: "):
        bench.run(plan([2], 1)[0])


def test_a_dag_run_that_fails_before_the_first_that_counts_is_an_error(tmp_path: Path) -> None:
    api = Ending()
    api.states = ["failed"]
    with pytest.raises(RigError, match=r"^neo4j_worker_pattern, run manual: failed"):
        scale.warm_up(cast("NativeStack", Restarted(tmp_path, stack(tmp_path))), cast("AirflowApi", api))


def share(**seconds: float) -> MachineShare:
    return MachineShare(seconds=1.0, cpu_seconds={name.replace("_", "-"): value for name, value in seconds.items()})


def test_hosts_are_added_up_and_what_comes_after_the_dag_run_is_counted_apart() -> None:
    record: DagRunRecord = builders.dag_run(
        0, machine=share(probe=2.0, airflow_worker_1=1.5, airflow_worker_2=1.0, hops_1=0.25, airflow_apiserver=8.0))
    found = spent(record, share(probe=3.5, airflow_worker_1=1.5, airflow_apiserver=9.0), share(probe=0.5))
    assert found == {"probe": 2.0, "airflow-worker": 2.5, "hops": 0.25, "airflow-apiserver": 8.0, "reading": 1.5,
                     "reading_api": 1.0, "report": 0.5}


def run(tasks: int, probe: float, host: float = 1.0) -> Run:
    """Return a DAG run whose rig took so many processor seconds, and whose driver hosts took so many for 100 tasks."""
    return Run(tasks, "success", tasks, 0, tasks / 4, 16, True, 16, {"worker1": tasks // 2, "worker2": tasks // 2},
               {"probe": probe, "worker-driver": host * tasks / 100}, {"probe": 90.0, "driver host 1": 40.0}, 1.0, 0.5,
               100 * tasks, 60_000)


def test_the_table_has_the_cost_of_a_task_and_its_growth() -> None:
    runs = [run(100, 1.0), run(1000, 5.0), run(100, 3.0)]
    rows = table(runs).splitlines()
    assert "| tasks that succeeded | 100 / 100 | 1,000 |" in rows
    assert "| connections opened | 16 / 16 | 16 |" in rows
    assert "| tasks on each host | 50 / 50 | 500 / 500 |" in rows
    assert "| processor ms for each task | 100 tasks | 1,000 tasks | 1,000 tasks over 100 tasks |" in rows
    assert "| rig, with its probe | 20.0 | 5.0 | 0.25 |" in rows
    assert "| driver hosts, with their relays | 10.0 | 10.0 | 1.00 |" in rows
    assert "| raw files, bytes | 100.0 | 100.0 | 1.00 |" in rows


def test_what_costs_more_for_each_of_many_tasks_is_said() -> None:
    assert verdict([run(100, 1.0), run(1000, 10.0)]) == (
        "from 100 to 1,000 tasks, nothing of the rig, the driver hosts and Neo4j costs over 25% more for each task")
    assert verdict([run(100, 1.0), run(1000, 15.0), run(10_000, 200.0, 3.0)]) == (
        "from 100 to 10,000 tasks, these cost more for each task: rig, with its probe (2.00 times), driver hosts, with "
        "their relays (3.00 times)")
    assert verdict([run(100, 1.0)]) == "one number of tasks: nothing can be said about growth"
