"""Each benchmark runs, in small, and its file says what came out."""

import asyncio
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from benchmarks import (
    footprint,
    forks,
    harm,
    killed_clients,
    killed_host,
    relay,
    relay_share,
    round_trips,
    throughput,
)
from rig.settings import PROJECT
from testing.servers import Neo4jServer
from testing.waiting import eventually
from tests.worker_init.scripted import Member, servers
from worker_init.bolt import Tag, message

pytestmark = pytest.mark.neo4j
Run = Callable[..., dict[str, Any]]


@pytest.fixture
def run(server: Neo4jServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("NEO4J_PASSWORD", server.password)

    def measured(main: Callable[[list[str]], int], *arguments: str) -> dict[str, Any]:
        out = tmp_path / "result.json"
        assert main(["--uri", server.uri, "--out", str(out), *arguments]) == 0
        result: dict[str, Any] = json.loads(out.read_text())
        assert result["conditions"]["cores"] >= 1
        return result
    return measured


@pytest.mark.parametrize(("password", "said"), [
    (None, "NEO4J_PASSWORD is not set"), ("wrong", "refuses the user"), ("of nobody", "cannot be reached")])
def test_a_server_that_cannot_be_used_is_one_line(
        password: str | None, said: str, server: Neo4jServer, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("NEO4J_PASSWORD", raising=False)
    if password:
        monkeypatch.setenv("NEO4J_PASSWORD", password)
    with pytest.raises(SystemExit) as ended:
        relay.main(["--uri", "bolt://127.0.0.1:1" if password == "of nobody" else server.uri])
    assert ended.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert said in lines[0]
    assert "--uri" in lines[0]


def test_what_the_relay_costs(run: Run) -> None:
    cases = run(relay.main, "--scale", "0.02", "--rows", "2000")["cases"]
    assert [case["bar"] for case in cases] == [1.25, 0.7, 1.05, 1.05, 0.35, 0.45]
    assert all(case["ratio"] > 0 and len(case["tries"]["direct"]) == case["pairs"] for case in cases)
    assert all(case["processor_ms"]["client_direct"] > 0 and case["processor_ms"]["client_relay"] > 0 for case in cases)
    assert sum(case["processor_ms"]["host"] for case in cases) > 0
    slow = next(case for case in cases if "10 ms" in case["name"])
    # The hop proves itself: TCP's handshake, Bolt's, the logon and the query, directly; the query, by the relay.
    assert slow["direct_ms"]["median"] > 40
    assert slow["relay_ms"]["median"] > 10


def test_what_of_it_is_the_relays_own(run: Run) -> None:
    cases = run(relay_share.main, "--blocks", "1")["cases"]
    assert [(case["name"], case["tries"]) for case in cases] == [("direct", 30), ("copier", 30), ("this checkout", 30)]
    assert all(case["host_ms"] > 0 for case in cases[1:])


def test_forked_tasks(run: Run) -> None:
    result = run(forks.main, "--tasks", "60", "--processes", "3")
    assert result["outcomes"] == {"right": 60}
    assert result["nodes"] == result["distinct_nodes"] == 20


def test_killed_clients(run: Run) -> None:
    result = run(killed_clients.main, "--times", "4")
    assert result["clean"]
    assert Counter(case["via"] for case in result["cases"]) == {"relay": 4, "direct": 4}
    assert all(case["collected_ms"] >= 0 for case in result["cases"])


def test_killed_hosts(run: Run) -> None:
    result = run(killed_host.main, "--times", "2", "--tasks", "2", "--interval", "0.2")
    assert result["all_right"]
    assert result["restarts"] == 2
    assert all(seconds < 60 for seconds in result["seconds_to_the_next_answer"])


def test_footprint(run: Run) -> None:
    result = run(footprint.main, "--processes", "2", "--idle", "0.1")
    assert 10 < result["host_pss_mb"] < 200


def test_throughput(run: Run) -> None:
    cases = run(throughput.main, "--clients", "1", "20", "--rounds", "1", "--seconds", "0.2", "--slots", "4")["cases"]
    assert [(case["clients"], case["way"]) for case in cases] == [
        (clients, way) for clients in (1, 20) for way in ("direct", "1 host", "2 hosts")]
    assert all(case["per_second"] > 0 and 0 < case["p50_ms"] <= case["p99_ms"] for case in cases)
    assert all(case["host_cores"] == 0 for case in cases if case["way"] == "direct")


class _Full(Member):
    """Has no room for every second transaction, as a Neo4j whose memory others use."""

    runs = 0
    has_failed = False

    def answer(self, tag: int, body: bytes) -> None:
        self.runs += tag == Tag.RUN
        if tag == Tag.RUN and self.runs % 2 == 0:
            self.has_failed = True
            self.transport.write(message(Tag.FAILURE, {
                "neo4j_code": "Neo.TransientError.General.MemoryPoolOutOfMemoryError", "message": "no room"}))
        elif tag == Tag.PULL and self.has_failed:
            self.transport.write(message(Tag.IGNORED))
        else:
            self.has_failed &= tag != Tag.RESET
            super().answer(tag, body)


def test_throughput_counts_what_neo4j_has_no_room_for_and_asks_again() -> None:
    with servers(_Full) as running:
        way = throughput.Way("direct", [throughput.Place(running.ports[0], "u", "p")], [])
        figures = asyncio.run(throughput.measured(way, 2, 0.3))
    assert figures["per_second"] > 0
    assert figures["refused"] > 0


def test_what_openings_cost_the_server(run: Run) -> None:
    before = os.sched_getaffinity(0)
    result = run(harm.main, "--blocks", "1", "--tasks", "4", "--seconds", "0.2", "--hold", "0.1")
    turns = {turn["kind"]: turn for turn in result["turns"]}
    assert (turns["quiet"]["opened"], turns["problematic"]["opened"], turns["improved"]["opened"]) == (0, 12, 4)
    assert max(turns["shared"]["opened"], turns["shared again"]["opened"]) <= 4
    assert all(turn["neo4j_seconds"] > 0 and turn["asked"] > 0 for turn in turns.values())
    assert all(turn["p50_ms"] <= turn["p99_ms"] for turn in turns.values())
    assert {contrast["verdict"] for contrast in result["contrasts"]} == {"1 of 6 blocks needed"}
    assert os.sched_getaffinity(0) == before


def test_what_openings_cost_with_six_blocks_has_intervals() -> None:
    cpu = {"quiet": 0.1, "problematic": 0.7, "improved": 0.4, "shared": 0.1, "shared again": 0.1}
    turns = [harm.Turn(kind, block, 5, 300 if kind == "problematic" else 0, cost + block / 100, 1, 0, 500, 1, 2)
             for kind, cost in cpu.items() for block in range(1, 7)]
    found = {(one["of"], one["over"], one["figure"]): one for one in harm.compared(turns)}
    assert found["problematic", "shared", "neo4j_seconds"]["verdict"] == "higher"
    assert found["shared again", "shared", "p99_ms"]["verdict"] == "no difference larger than 0\N{NO-BREAK SPACE}%"
    cost = harm.cost_of_an_opening(turns)
    assert cost["milliseconds"] == pytest.approx(2)
    assert cost["interval"] == pytest.approx((2, 2))


def test_calls_of_each_pattern_where_the_server_is_far_away(run: Run) -> None:
    result = run(round_trips.main, "--blocks", "2", "--round-trips-ms", "0", "20")
    assert [(case["round_trip"], case["tls"]) for case in result["cases"]] == [
        (0, False), (20, False), (0, True), (20, True)]
    far, tls = result["cases"][1], result["cases"][3]
    # At the least: TCP's handshake, Bolt's, the logon and the query, three times; once, and two checks; the queries.
    assert min(far["times_ms"]["problematic"]) > 3 * 4 * 20
    assert min(far["times_ms"]["improved"]) > (4 + 2 * 2) * 20
    assert min(far["times_ms"]["shared"]) > 3 * 20
    assert min(tls["times_ms"]["problematic"]) > 3 * 5 * 20
    assert {one["verdict"] for case in result["cases"] for one in case["contrasts"]} == {"2 of 6 blocks needed"}
    assert set(result["opening"]) == {"without TLS", "with TLS"}


@pytest.mark.parametrize(("main", "wrong", "line"), [
    (harm.main, ("--blocks", "0"), "argument --blocks: '0' is not a whole number from 1 on"),
    (harm.main, ("--rate", "nan"), "argument --rate: 'nan' is not a number from 1 on"),
    (round_trips.main, ("--blocks", "0"), "argument --blocks: '0' is not a whole number from 1 on"),
    (round_trips.main, ("--round-trips-ms", "-1"), "argument --round-trips-ms: '-1' is not a number from 0 to 1000")])
def test_what_cannot_be_measured_is_said_in_one_line(main: Callable[[list[str]], int], wrong: tuple[str, str],
                                                     line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*wrong])
    assert ended.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith(line)


def name_of(process: psutil.Process) -> str:
    """Return its name; nothing if it has ended since it was found."""
    try:
        return process.name()
    except psutil.NoSuchProcess:
        return ""


def test_a_benchmark_that_is_told_to_end_stops_the_neo4j_that_it_has_started() -> None:
    command = [sys.executable, "-m", "benchmarks.killed_clients"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=PROJECT) as process:
        assert process.stderr
        assert process.stderr.readline() == "starting a Neo4j …\n"
        started = eventually(lambda: [one for one in psutil.Process(process.pid).children(recursive=True)
                                      if name_of(one) == "java"], 60)
        process.terminate()
        assert process.wait(60) == 143
    assert not any(one.is_running() for one in started)
