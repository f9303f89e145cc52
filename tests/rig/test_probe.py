"""The probe: exact where it says exact, and null with a reason where it cannot know."""

import base64
import http.client
import json
import queue
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import neo4j
import psutil
import pytest
from pydantic import SecretStr
from tenacity import Retrying, stop_after_delay, wait_fixed

from patterns.facts import MONITOR_PATTERN
from rig import probe as probes
from rig.percentile import percentile
from rig.probe import Probe, Server, Window
from rig.records import Sample
from rig.stack.ports import choose
from testing.neo4j_server import StartedNeo4j
from tests.rig import kernel_sockets
from tests.rig.builders import agent
from tests.rig.counting_proxy import CountingProxy, counting_proxy
from tests.rig.own_neo4j import own_neo4j
from worker_init.upstream import USER_AGENT as RELAY_AGENT

INTERVAL = 0.1          # seconds, as a user has it who has set nothing
SOON = 60               # seconds: a limit that is never reached unless something is broken

pytestmark = pytest.mark.neo4j


class Cell:
    """A cell's drivers, as a pattern opens them: through the counting proxy."""

    def __init__(self, server: StartedNeo4j, uri: str, stack: ExitStack) -> None:
        self._server = server
        self._uri = uri
        self._stack = stack

    def opened(self, user_agent: str | None = None) -> neo4j.Driver:
        """Return a driver with one connection open."""
        driver = neo4j.GraphDatabase.driver(self._uri, auth=("neo4j", self._server.password),
                                            user_agent=user_agent or agent(0))
        driver.verify_connectivity()
        return driver

    def keep(self, user_agent: str | None = None) -> neo4j.Driver:
        """Return a driver with one connection, open until the test ends."""
        return self._stack.enter_context(self.opened(user_agent))

    def open_and_close(self) -> None:
        """Open a connection that lives for milliseconds."""
        self.opened().close()


@pytest.fixture
def server(neo4j_server: StartedNeo4j) -> StartedNeo4j:
    """Return the session's server with nobody on it, whatever tests before have left."""
    me = "a test that wants to be alone"
    with neo4j.GraphDatabase.driver(neo4j_server.uri, auth=("neo4j", neo4j_server.password), user_agent=me) as driver:
        def others() -> list[str]:
            rows = driver.execute_query("CALL dbms.listConnections() YIELD connectionId, userAgent "
                                        "WHERE coalesce(userAgent, '') <> $me RETURN connectionId", me=me).records
            return [row["connectionId"] for row in rows]

        driver.execute_query("CALL dbms.killConnections($ids) YIELD message RETURN message", ids=others())
        eventually(lambda: not others())
    return neo4j_server


@pytest.fixture
def proxy(server: StartedNeo4j) -> Iterator[CountingProxy]:
    with counting_proxy(server.uri) as counting:
        yield counting


@pytest.fixture
def cell(server: StartedNeo4j, proxy: CountingProxy) -> Iterator[Cell]:
    with ExitStack() as stack:
        yield Cell(server, proxy.uri, stack)


@contextmanager
def probing(uri: str, password: str, *, alone: bool = True) -> Iterator[Probe]:
    with closing(Probe(Server(uri, "neo4j", SecretStr(password), alone=alone), INTERVAL)) as probe:
        yield probe


@pytest.fixture
def probe(server: StartedNeo4j) -> Iterator[Probe]:
    with probing(server.uri, server.password) as one:
        yield one


class Samples:
    """Samples as they are taken; a test waits for one that shows what it has done."""

    def __init__(self) -> None:
        self._queue: queue.Queue[Sample] = queue.Queue()

    def __call__(self, sample: Sample) -> None:
        """Take a sample in."""
        self._queue.put(sample)

    def until(self, true: Callable[[Sample], bool]) -> Sample:
        """Return the first sample from now on for which it is true."""
        while not true(sample := self._queue.get(timeout=SOON)):
            pass
        return sample


def nobody(_: Sample) -> None:
    """Look at no sample."""


def eventually(true: Callable[[], bool]) -> None:
    def check() -> None:
        assert true()
    Retrying(stop=stop_after_delay(SOON), wait=wait_fixed(0.05), reraise=True)(check)


# --- the exact count -------------------------------------------------------------------------------


def nothing(cell: Cell) -> None:
    """Open nothing."""


def kept(cell: Cell) -> None:
    """Open drivers and keep them."""
    for _ in range(12):
        cell.keep()


def short_lived(cell: Cell) -> None:
    """Open connections that live for milliseconds: no sampler sees them all."""
    for _ in range(50):
        cell.open_and_close()


def at_once(cell: Cell) -> None:
    """Open from eight threads at a time, some kept and some closed."""
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: cell.keep() if number % 3 else cell.open_and_close(), range(48)))


def one_pool(cell: Cell) -> None:
    """Open several connections of one driver."""
    driver = cell.keep()
    with ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(driver.session()).run("RETURN 1").peek()


@pytest.mark.parametrize(("body", "connections"),
                         [(nothing, 0), (kept, 12), (short_lived, 50), (at_once, 48), (one_pool, 5)])
def test_connections_opened_are_exactly_those_that_a_proxy_counts(
        body: Callable[[Cell], None], connections: int, cell: Cell, proxy: CountingProxy, probe: Probe) -> None:
    with probe.window(0, nobody) as window:
        body(cell)
    assert window.opened.count == proxy.accepted == connections
    assert (window.opened.exact, window.opened.reason) == (True, None)


def test_a_watch_counts_on_whatever_lives_between_two_looks(cell: Cell, proxy: CountingProxy, probe: Probe) -> None:
    cell.keep()
    before, watch = proxy.accepted, probe.watch()
    for body in (nothing, short_lived, kept, at_once, nothing):
        body(cell)
        assert watch.look(count=False).opened is None
        assert watch.look().opened == proxy.accepted - before


def test_a_look_has_what_is_open_by_the_pattern_that_it_names(cell: Cell, probe: Probe) -> None:
    watch = probe.watch()
    cell.keep(agent(1, "improved"))
    cell.keep(RELAY_AGENT)
    at_work = cell.keep("neo4j-python/6.4.1 (a stock hook)")
    with at_work.session() as session, session.begin_transaction() as transaction:
        transaction.run("RETURN 1").consume()
        look = watch.look(nameless=True)
    assert sorted(look.pattern_of.values()) == ["improved", "other", "worker"]
    assert [look.pattern_of[number] for number in look.running] == ["other"]


@pytest.mark.parametrize(("nameless", "others"), [(False, 3), (True, 2)])
def test_a_watch_tells_others_on_the_rigs_own_server_from_those_it_counts(
        nameless: bool, others: int, cell: Cell, probe: Probe) -> None:
    before = cell.keep("cypher-shell/2026.08")
    watch = probe.watch()
    cell.keep(agent(1))
    cell.keep("neo4j-java/6.0")
    cell.keep("neo4j-python/6.4.1 (a stock hook)")
    look = watch.look(nameless=nameless)
    assert (look.opened, look.seen, len(look.others)) == (3, 3 - others + 1, others)
    assert len(look.pattern_of) == look.seen
    before.close()
    eventually(lambda: len(watch.look(nameless=nameless).others) == others - 1)
    assert watch.look(nameless=nameless).seen == look.seen


def test_what_else_of_the_rig_looks_at_the_server_is_no_other_to_a_watch(cell: Cell, probe: Probe) -> None:
    watch = probe.watch()
    cell.keep(f"{probes.USER_AGENT} (watch=1)")
    look = watch.look()
    assert (look.opened, look.seen, look.others, look.pattern_of) == (0, 0, frozenset(), {})


def test_on_a_shared_server_a_watch_counts_what_a_look_has_seen_and_no_more(
        cell: Cell, server: StartedNeo4j) -> None:
    cell.keep(agent(1))
    with probing(server.uri, server.password, alone=False) as visitor:
        watch = visitor.watch()
        cell.open_and_close()
        cell.keep("somebody else's")
        cell.keep(agent(2))
        assert watch.look().opened == 1


def test_every_window_counts_its_own(cell: Cell, proxy: CountingProxy, probe: Probe) -> None:
    cell.keep()
    counts = []
    for connections in (3, 0, 2):
        with probe.window(0, nobody) as window:
            for _ in range(connections):
                cell.keep()
        counts.append(window.opened.count)
        cell.open_and_close()       # between two windows: it is nobody's
    assert counts == [3, 0, 2]
    assert proxy.accepted == 9


def test_open_connections_are_those_that_the_kernel_knows(cell: Cell, server: StartedNeo4j, probe: Probe) -> None:
    process = server.process
    assert process
    with probe.window(0, samples := Samples()):
        drivers = [cell.keep() for _ in range(8)]
        assert len(samples.until(lambda sample: len(sample.open) == 8).open) == 8
        # One more than the cell's: the sampler's own. A marker's may take a moment to be gone.
        eventually(lambda: kernel_sockets.accepted(process, server.port) == 8 + 1)
        for driver in drivers[:3]:
            driver.close()
        assert len(samples.until(lambda sample: len(sample.open) == 5).open) == 5
        eventually(lambda: kernel_sockets.accepted(process, server.port) == 5 + 1)


def test_the_probes_own_connections_are_excluded_and_stated(probe: Probe) -> None:
    with probe.window(0, samples := Samples()) as window:
        samples.until(lambda _: True)
    first, last, share = window.opened.first_id, window.opened.last_id, window.share
    assert share
    assert first is not None
    assert last is not None
    assert last - first - 1 == 1, "the sampler's connection was opened in this window"
    assert window.opened.count == 0
    assert share.connections == 3, "two markers and the sampler's"
    assert not window.connections
    assert not any(sample.open or sample.running for sample in window.samples)
    assert share.queries >= 2 * share.samples + 2
    assert share.cpu_seconds > 0


def test_a_sampler_that_has_to_connect_again_is_still_not_counted(
        cell: Cell, server: StartedNeo4j, probe: Probe) -> None:
    killer = cell.keep()
    with probe.window(0, samples := Samples()) as window:
        samples.until(lambda _: True)
        killed = killer.execute_query(
            "CALL dbms.listConnections() YIELD connectionId, userAgent WHERE userAgent CONTAINS '(probe=' "
            "CALL dbms.killConnection(connectionId) YIELD message RETURN message").records
        assert len(killed) == 1
        taken = len(window.samples)
        samples.until(lambda _: len(window.samples) > taken + 2)
        cell.keep()
    assert window.share
    assert (window.opened.count, window.share.connections) == (1, 4)


def test_an_error_in_the_window_leaves_it_its_figures(cell: Cell, probe: Probe) -> None:
    with suppress(RuntimeError), probe.window(0, nobody) as window:
        cell.open_and_close()
        raise RuntimeError
    assert window.opened.count == 1
    assert window.share


# --- samples ---------------------------------------------------------------------------------------


def test_running_and_idle_are_told_apart_by_an_open_transaction(cell: Cell, probe: Probe) -> None:
    busy = cell.keep()
    cell.keep()
    with probe.window(0, samples := Samples()):
        idle = samples.until(lambda sample: len(sample.open) == 2)
        assert idle.running == []
        with busy.session() as session, session.begin_transaction() as transaction:
            transaction.run("RETURN 1").consume()
            running = samples.until(lambda sample: bool(sample.running))
            assert len(running.running) == 1
            assert set(running.running) < set(running.open) == set(idle.open)
        assert samples.until(lambda sample: not sample.running).open == idle.open


def test_what_a_sample_saw_of_a_connection_is_kept(cell: Cell, server: StartedNeo4j, probe: Probe) -> None:
    with probe.window(7, samples := Samples()) as window:
        driver = neo4j.GraphDatabase.driver(server.uri, auth=("neo4j", server.password), user_agent=agent(42))
        driver.verify_connectivity()
        # The first sample that sees it may be too early to know its name.
        first = samples.until(lambda sample: bool(sample.open and window.connections[sample.open[0]].user_agent))
        mine = {f"{each.laddr.ip}:{each.laddr.port}" for each in psutil.Process().net_connections("tcp")}
        driver.close()
        gone = samples.until(lambda sample: not sample.open)
    seen = window.connections[first.open[0]]
    assert (seen.index, seen.id, seen.user_agent) == (7, first.open[0], agent(42))
    assert seen.client_address in mine
    assert seen.first_seen <= first.t <= seen.last_seen < gone.t


def test_a_connection_that_has_not_said_who_it_is_counts_and_is_named_once_it_has(
        server: StartedNeo4j, probe: Probe) -> None:
    with (probe.window(0, samples := Samples()) as window,
          socket.create_connection(("127.0.0.1", server.port))):
        silent = samples.until(lambda sample: bool(sample.open)).open[0]
        assert window.connections[silent].user_agent is None
    assert window.opened.count == 1


def test_samples_are_told_as_they_are_taken_with_the_time_of_their_taking(probe: Probe) -> None:
    told: list[Sample] = []
    enough = threading.Event()

    def on_sample(sample: Sample) -> None:
        told.append(sample)
        if len(told) == 5:
            enough.set()

    before = time.time()
    with probe.window(3, on_sample) as window:
        assert enough.wait(SOON)
    assert told == window.samples
    assert {sample.index for sample in told} == {3}
    moments = [sample.t for sample in told]
    assert before < moments[0]
    assert moments == sorted(moments)
    assert moments[-1] < time.time()


def test_the_interval_that_was_achieved_is_what_the_samples_times_give(probe: Probe) -> None:
    with probe.window(0, samples := Samples()) as window:
        for _ in range(22):         # a 95th percentile takes 20 gaps
            samples.until(lambda _: True)
    gaps = [later.t - earlier.t for earlier, later in pairwise(window.samples)]
    share = window.share
    assert share
    assert share.samples == len(window.samples) >= 22
    assert share.interval_median == pytest.approx(median := statistics.median(gaps))
    assert share.interval_p95 is not None
    assert share.interval_p95 == pytest.approx(percentile(gaps, 95))
    above = sum(gap > share.interval_p95 for gap in gaps)
    assert above / len(gaps) <= 0.2, "it is near the top"
    assert share.interval_p95 >= median


# --- a server with other users ---------------------------------------------------------------------


def test_beside_other_users_the_count_is_a_lower_bound_of_what_names_itself(cell: Cell, server: StartedNeo4j) -> None:
    with (probing(server.uri, server.password, alone=False) as probe,
          probe.window(0, samples := Samples()) as window):
        for pid in (1, 2, 3):
            cell.keep(agent(pid))
        cell.keep("someone else's program")
        cell.keep(agent(4, pattern=MONITOR_PATTERN))
        samples.until(lambda sample: len(sample.open) == 3)
    assert (window.opened.count, window.opened.exact) == (3, False)
    assert window.opened.reason
    assert "lower bound" in window.opened.reason
    assert {seen.user_agent for seen in window.connections.values()} == {agent(pid) for pid in (1, 2, 3)}


@pytest.mark.parametrize(("cells_own", "nameless"), [(agent(1), False), ("neo4j-python/6.4.1 (a stock hook)", True)])
def test_connections_of_others_on_the_rigs_own_server_are_seen_and_make_the_count_a_lower_bound(
        cells_own: str, nameless: bool, cell: Cell, probe: Probe) -> None:
    cell.keep("cypher-shell/2026.08")       # there before the window
    with probe.window(0, samples := Samples(), nameless=nameless) as window:
        cell.keep(cells_own)
        cell.keep("neo4j-java/6.0")
        samples.until(lambda sample: len(sample.open) == 1 and len(window.others) == 2)
    assert (window.opened.count, window.opened.exact) == (1, False)
    assert window.opened.reason
    assert "2 connections of others were seen" in window.opened.reason
    assert {seen.user_agent for seen in window.connections.values()} == {cells_own}


def test_a_stock_driver_is_somebody_elses_where_the_cells_connections_have_names(cell: Cell, probe: Probe) -> None:
    with probe.window(0, samples := Samples()) as window:
        cell.keep("neo4j-python/6.4.1")
        samples.until(lambda _: len(window.others) == 1)
    assert (window.opened.count, window.opened.exact) == (0, False)


def test_what_else_of_the_rig_looks_at_the_server_is_not_counted_and_is_no_other(cell: Cell, probe: Probe) -> None:
    with probe.window(0, samples := Samples()) as window:
        cell.keep(f"{probes.USER_AGENT} (watch=1)")
        cell.keep()
        samples.until(lambda sample: len(sample.open) == 1)
    assert (window.opened.count, window.opened.exact, window.others) == (1, True, set())


# --- when it cannot be known -----------------------------------------------------------------------


def test_beside_other_users_a_workers_driver_counts_as_ours_and_only_once(cell: Cell, server: StartedNeo4j) -> None:
    cell.keep(RELAY_AGENT)      # a worker that is warm: open before the window, and not opened in it
    with (probing(server.uri, server.password, alone=False) as probe,
          probe.window(0, samples := Samples()) as window):
        cell.keep(RELAY_AGENT)
        samples.until(lambda sample: len(sample.open) == 2)
    assert (window.opened.count, window.opened.exact) == (1, False)


def test_beside_other_users_connections_without_a_name_are_not_counted_at_all(server: StartedNeo4j) -> None:
    with (probing(server.uri, server.password, alone=False) as probe,
          probe.window(0, nobody, nameless=True) as window):
        window.wait_until_closed(SOON, since=time.time())
    assert (window.opened.count, window.samples) == (None, [])
    assert window.opened.reason == window.trouble == probes.NAMELESS


def test_a_view_that_fails_does_not_stop_the_counting(cell: Cell, probe: Probe) -> None:
    def fail(_: Sample) -> None:
        raise ValueError("no room on the screen")

    with probe.window(0, fail) as window:
        cell.open_and_close()
        eventually(lambda: len(window.samples) > 2)
    assert window.opened.count == 1
    assert window.trouble == "the view failed: no room on the screen"


def test_a_server_that_is_away_gives_null_with_the_reason_and_holds_nobody_up() -> None:
    with (probing(f"bolt://127.0.0.1:{choose(0, variable='a test')}", "x") as probe,
          probe.window(0, nobody) as window):
        began = time.monotonic()
        window.wait_until_closed(SOON, since=time.time())
        assert time.monotonic() - began < SOON
    assert (window.opened.count, window.opened.exact, window.samples) == (None, False, [])
    assert window.opened.reason
    assert "refused" in window.opened.reason
    assert window.share
    assert (window.share.samples, window.share.interval_median) == (0, None)


def test_a_server_that_goes_away_in_the_window_gives_null_and_keeps_its_samples(
        cell: Cell, proxy: CountingProxy, server: StartedNeo4j) -> None:
    with (probing(proxy.uri, server.password) as probe, probe.window(0, samples := Samples()) as window):
        cell.keep()
        samples.until(lambda sample: len(sample.open) == 1)
        proxy.close()
    assert window.opened.count is None
    assert window.opened.reason
    assert window.opened.reason.startswith("connections cannot be listed: ")
    assert window.opened.first_id is not None
    assert window.samples
    assert window.connections


def test_a_user_who_is_refused_is_told_the_servers_reason(server: StartedNeo4j) -> None:
    # An unknown name: the server would lock the right one out for a while.
    with closing(Probe(Server(server.uri, "mallory", SecretStr("x" * 8), alone=True), INTERVAL)) as probe:
        reason = probe.can_list()
    assert reason
    assert "unauthorized" in reason
    assert "\n" not in reason


def test_whether_a_server_that_is_away_can_be_listed_is_answered_too() -> None:
    with probing(f"bolt://127.0.0.1:{choose(0, variable='a test')}", "x") as probe:
        reason = probe.can_list()
    assert reason
    assert "refused" in reason


def test_who_may_list_has_nothing_missing(probe: Probe) -> None:
    assert probe.can_list() is None


def test_a_restart_in_the_window_gives_null_however_many_are_opened_after_it(
        cell: Cell, server: StartedNeo4j, probe: Probe) -> None:
    with probe.window(0, nobody) as window:
        cell.keep()
        before = next_id(server)
        server.restart()
        while next_id(server) <= before:    # ids begin again: let them grow past those of the time before
            for _ in range(100):
                socket.create_connection(("127.0.0.1", server.port)).close()
    opened = window.opened
    assert opened.first_id is not None
    assert opened.last_id is not None
    assert opened.first_id < opened.last_id, "the ids alone would not have shown it"
    assert (opened.count, opened.exact) == (None, False)
    assert opened.reason == "the server was restarted within the window"


def next_id(server: StartedNeo4j) -> int:
    """Return the id that the server gives to a connection now."""
    with neo4j.GraphDatabase.driver(server.uri, auth=("neo4j", server.password), user_agent="next id") as driver:
        row = driver.execute_query("CALL dbms.listConnections() YIELD connectionId, userAgent "
                                   "WHERE userAgent = 'next id' RETURN connectionId").records[0]
        return int(row["connectionId"].removeprefix("bolt-"))


@pytest.fixture
def novice(server: StartedNeo4j) -> Iterator[Server]:
    """Return the server as a user sees it who may do nothing yet: Community knows no other such user."""
    with neo4j.GraphDatabase.driver(server.uri, auth=("neo4j", server.password)) as driver:
        driver.execute_query("CREATE USER novice SET PASSWORD 'first-one' CHANGE REQUIRED", database_="system")
        yield Server(server.uri, "novice", SecretStr("first-one"), alone=True)
        driver.execute_query("DROP USER novice", database_="system")


def test_where_listing_is_not_allowed_the_count_is_null_with_the_servers_reason(novice: Server) -> None:
    with closing(Probe(novice, INTERVAL)) as probe:
        reason = probe.can_list()
        assert reason
        assert "is not allowed" in reason
        assert "\n" not in reason
        with probe.window(0, nobody) as window:
            window.wait_until_closed(SOON, since=time.time())
    assert (window.opened.count, window.opened.exact, window.samples) == (None, False, [])
    assert window.opened.reason == f"connections cannot be listed: {reason}"


def test_requests_over_http_are_no_bolt_connections(tmp_path: Path) -> None:
    port = choose(0, variable="a test")
    with (own_neo4j(tmp_path, {"server.http.enabled": "true", "server.http.listen_address": f"127.0.0.1:{port}"})
          as other, closing(http.client.HTTPConnection("127.0.0.1", port)) as web):
        begin_over_http(web, other.password)
        for alone in (True, False):
            with probing(other.uri, other.password, alone=alone) as probe:
                assert probe.can_list() is None
                with probe.window(0, samples := Samples()) as window:
                    samples.until(lambda _: True)
                assert not any(sample.open or sample.running for sample in window.samples)
                assert not window.connections


def begin_over_http(web: http.client.HTTPConnection, password: str) -> None:
    """Begin a transaction over HTTP; the server lists what serves it among its connections."""
    login = base64.b64encode(f"neo4j:{password}".encode()).decode()
    body: dict[str, Any] = {"statement": "RETURN 1"}
    web.request("POST", "/db/neo4j/query/v2/tx", json.dumps(body),
                {"Authorization": f"Basic {login}", "Content-Type": "application/json"})
    answer = web.getresponse()
    assert answer.status == http.client.ACCEPTED, answer.read()
    answer.read()


# --- waiting for the end ---------------------------------------------------------------------------


def test_waiting_ends_with_the_first_sample_that_finds_all_closed(cell: Cell, probe: Probe) -> None:
    drivers = [cell.keep() for _ in range(3)]

    def close_when_seen(sample: Sample) -> None:
        if len(sample.open) == len(drivers):
            for driver in drivers:
                driver.close()

    with probe.window(0, close_when_seen) as window:
        since = time.time()
        window.wait_until_closed(SOON, since=since)
        taken = list(window.samples)
        assert time.time() - since < SOON
    assert any(sample.open for sample in taken)
    assert not taken[-1].open
    assert sum(not sample.open for sample in taken) <= 2, "it went on after all was closed"


def test_waiting_ends_at_its_limit_when_something_stays_open(cell: Cell, probe: Probe) -> None:
    cell.keep()
    with probe.window(0, samples := Samples()) as window:
        samples.until(lambda sample: len(sample.open) == 1)
        began = time.monotonic()
        window.wait_until_closed(0.5, since=time.time())
        assert 0.5 <= time.monotonic() - began < SOON
        assert window.samples[-1].open


def test_a_sample_from_before_does_not_end_the_waiting(probe: Probe) -> None:
    with probe.window(0, samples := Samples()) as window:
        samples.until(lambda sample: not sample.open)
        since = time.time() + 3 * INTERVAL
        window.wait_until_closed(SOON, since=since)
        assert window.samples[-1].t > since


def test_a_window_without_a_probe_says_that_it_has_not_ended() -> None:
    assert Window(0).opened.reason == "the window has not ended"


def test_the_password_is_in_no_text_of_the_server(server: StartedNeo4j) -> None:
    one = Server(server.uri, "neo4j", SecretStr(server.password), alone=True)
    assert server.password not in f"{one!r} {one}"


def test_the_samplers_name_is_the_rigs_own() -> None:
    assert probes.USER_AGENT.startswith("neo4j-airflow-connections-rig")
