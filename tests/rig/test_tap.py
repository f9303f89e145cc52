"""The tap: it counts what goes through it, whatever else the server has, and refuses where it would count wrong."""

import os
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, Protocol, cast

import neo4j
import pytest
from pydantic import SecretStr

from patterns.facts import STRESS_DAG
from rig import records
from rig.airflow_api import AirflowApi
from rig.cli import _tap_of
from rig.compare import Comparison, Request
from rig.environment import BEHIND_A_TAP
from rig.errors import BadInput, RigError
from rig.experiment import dag_run as running
from rig.experiment import profiles
from rig.experiment.dag_run import CellRunner
from rig.experiment.progress import Progress
from rig.probe import Probe, Server, Window
from rig.records import Cell, DagRunRecord, PlannedRun
from rig.stack import drivers
from rig.stack import neo4j as servers
from rig.stack import tap as taps
from rig.stack.native import NativeStack
from rig.stack.ports import choose
from rig.stack.state import StackState, Tap
from rig.stack_choice import existing, named
from testing import aura, certificates
from testing.aura import Instance
from testing.neo4j_server import StartedNeo4j
from testing.services import running_service
from testing.waiting import eventually
from tests.rig import builders
from tests.rig.plain_settings import PlainSettings
from tests.rig.pretended_stack import PretendedApi, PretendedStack
from tests.rig.test_airflow_environment import PORTS
from tests.rig.test_drivers import stack
from tests.server_marks import starts

OTHERS = "neo4j-java/6.0"
PATIENCE = 60.0     # seconds


class MakeTap(Protocol):
    """Starts a tap in front of a server, with these variables beside the test's own."""

    def __call__(self, server: str, **env: str) -> Tap: ...


@pytest.fixture
def make_tap(tmp_path: Path) -> Iterator[MakeTap]:
    with ExitStack() as taken:
        def make(server: str, **env: str) -> Tap:
            made = taps.new(tmp_path / "tap", choose(0, variable="a test"))
            service = taps.service(made, server, {**os.environ, **env}, since=time.time())
            taken.enter_context(running_service(service, tmp_path / "tap.log"))
            return made
        yield make


@pytest.fixture
def tap(make_tap: MakeTap, neo4j_server: StartedNeo4j) -> Tap:
    return make_tap(neo4j_server.uri)


@pytest.fixture
def opened(neo4j_server: StartedNeo4j) -> Iterator[Callable[..., neo4j.Driver]]:
    """Give what opens a driver with one connection, to the server or to its tap, until the test ends."""
    with ExitStack() as taken:
        def opens(uri: str, user_agent: str = builders.agent(1)) -> neo4j.Driver:
            driver = taken.enter_context(neo4j.GraphDatabase.driver(uri, auth=("neo4j", neo4j_server.password),
                                                                    user_agent=user_agent))
            driver.verify_connectivity()
            return driver
        yield opens


@pytest.fixture
def counting(neo4j_server: StartedNeo4j) -> Iterator[Callable[..., AbstractContextManager[Window]]]:
    """Give a window of the probe; the server is the rig's own unless it is said that it is not."""
    with ExitStack() as taken:
        def window(*, alone: bool = True) -> AbstractContextManager[Window]:
            server = Server(neo4j_server.uri, "neo4j", SecretStr(neo4j_server.password), alone=alone)
            return taken.enter_context(closing(Probe(server, 0.1))).window(0, lambda _: None)
        yield window


# --- what it counts ----------------------------------------------------------------------------------


def one_after_the_other(uri: str, opened: Callable[..., neo4j.Driver]) -> None:
    """Open connections that live for milliseconds."""
    for _ in range(30):
        opened(uri).close()


def kept(uri: str, opened: Callable[..., neo4j.Driver]) -> None:
    """Open drivers and keep them."""
    for _ in range(12):
        opened(uri)


def one_pool(uri: str, opened: Callable[..., neo4j.Driver]) -> None:
    """Open several connections of one driver."""
    driver = opened(uri)
    with ExitStack() as sessions:
        for _ in range(5):
            sessions.enter_context(driver.session()).run("RETURN 1").peek()


def nothing(_uri: str, _opened: Callable[..., neo4j.Driver]) -> None:
    """Open nothing."""


@pytest.mark.parametrize(("body", "connections"), [(nothing, 0), (one_after_the_other, 30), (kept, 12), (one_pool, 5)])
def test_the_tap_counts_exactly_what_the_ids_count(
        body: Callable[..., None], connections: int, tap: Tap, opened: Callable[..., neo4j.Driver],
        counting: Callable[..., AbstractContextManager[Window]]) -> None:
    with counting() as window:
        body(tap.uri, opened)
        counted = tap.opened()
    found = window.opened.tapped(counted)
    assert (found.count, found.by_ids, found.exact, found.by) == (connections, connections, True, "tap")


def test_who_connects_to_the_server_directly_is_counted_by_the_ids_and_not_by_the_tap(
        tap: Tap, neo4j_server: StartedNeo4j, opened: Callable[..., neo4j.Driver],
        counting: Callable[..., AbstractContextManager[Window]]) -> None:
    with counting() as window:
        opened(tap.uri)
        for _ in range(3):      # with a name of ours: a sample cannot tell that it is somebody else
            opened(neo4j_server.uri)
    found = window.opened.tapped(tap.opened())
    assert (found.count, found.by_ids) == (1, 4)


def test_beside_other_users_the_taps_count_is_exact_and_the_ids_say_nothing(
        tap: Tap, neo4j_server: StartedNeo4j, opened: Callable[..., neo4j.Driver],
        counting: Callable[..., AbstractContextManager[Window]]) -> None:
    with counting(alone=False) as window:
        opened(neo4j_server.uri, OTHERS)
        opened(tap.uri).close()
        opened(tap.uri, "neo4j-python/6.4.1")      # as the stock hook has it: nobody else could tell whose it is
    by_sight, found = window.opened, window.opened.tapped(tap.opened())
    assert (by_sight.exact, by_sight.by) == (False, "samples")
    assert (found.count, found.by_ids, found.exact, found.reason) == (2, None, True, None)


def test_bytes_pass_unchanged_however_many(tap: Tap, opened: Callable[..., neo4j.Driver]) -> None:
    sent = [f"{number:06d}" * 20 for number in range(20_000)]       # more than any buffer on the way holds
    rows = opened(tap.uri).execute_query("UNWIND $sent AS one RETURN one", sent=sent).records
    assert [row["one"] for row in rows] == sent


def test_a_clients_end_passes_to_the_server(
        tap: Tap, neo4j_server: StartedNeo4j, opened: Callable[..., neo4j.Driver]) -> None:
    asking = opened(neo4j_server.uri, "a test that asks")

    def is_open() -> bool:
        rows = asking.execute_query("CALL dbms.listConnections() YIELD userAgent RETURN userAgent").records
        return any(row["userAgent"] == "one that ends" for row in rows)

    ends = opened(tap.uri, "one that ends")
    assert is_open()
    ends.close()
    eventually(lambda: not is_open())


def test_the_servers_end_passes_to_the_client(tap: Tap) -> None:
    with socket.create_connection(("127.0.0.1", tap.port), timeout=60) as client:
        client.sendall(b"no bolt at all, that ends it")
        while client.recv(4096):
            pass
    assert tap.opened() == 1


@contextmanager
def pretended_server() -> Iterator[tuple[str, Callable[[], socket.socket]]]:
    """Give the address of a server that only listens, and what takes a connection there."""
    with ExitStack() as taken:
        server = taken.enter_context(socket.create_server(("127.0.0.1", 0)))
        server.settimeout(PATIENCE)

        def take() -> socket.socket:
            connection = taken.enter_context(server.accept()[0])
            connection.settimeout(PATIENCE)
            return connection
        yield f"bolt://127.0.0.1:{server.getsockname()[1]}", take


def everything(connection: socket.socket) -> bytes:
    """Read a connection to its end."""
    return b"".join(iter(lambda: connection.recv(4096), b""))


@pytest.mark.parametrize("who_ends_first", ["client", "server"])
def test_a_side_that_sends_no_more_still_gets_the_answer(who_ends_first: str, make_tap: MakeTap) -> None:
    with pretended_server() as (uri, take), \
            socket.create_connection(("127.0.0.1", make_tap(uri).port), timeout=PATIENCE) as client:
        first, other = (client, take())[::1 if who_ends_first == "client" else -1]
        first.sendall(b"a question")
        first.shutdown(socket.SHUT_WR)
        assert everything(other) == b"a question"
        other.sendall(b"an answer")
        other.shutdown(socket.SHUT_WR)
        assert everything(first) == b"an answer"


def test_over_tls_the_end_of_one_side_is_the_end_of_the_connection(make_tap: MakeTap, tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.certificate(tmp_path))
    with pretended_server() as (uri, take), socket.create_connection(
            ("127.0.0.1", make_tap(uri.replace("bolt", "bolt+ssc")).port), timeout=PATIENCE) as client, \
            context.wrap_socket(take(), server_side=True) as far:
        client.sendall(b"a question")
        client.shutdown(socket.SHUT_WR)
        assert everything(far) == b"a question"
        assert everything(client) == b""


def test_a_side_that_breaks_off_ends_the_connection_on_the_other(make_tap: MakeTap) -> None:
    with pretended_server() as (uri, take), \
            socket.create_connection(("127.0.0.1", make_tap(uri).port), timeout=PATIENCE) as client:
        far = take()
        far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))    # its end is a reset
        far.close()
        assert everything(client) == b""


def test_a_count_that_is_gone_is_said_in_one_line_and_does_not_start_at_0_again(
        make_tap: MakeTap, tmp_path: Path) -> None:
    with pretended_server() as (uri, take):
        tap = make_tap(uri)
        tap.file.unlink()
        with socket.create_connection(("127.0.0.1", tap.port), timeout=PATIENCE) as client:
            assert (everything(client), everything(take())) == (b"", b"")
    with pytest.raises(RigError, match="cannot be read: No such file or directory — start the comparison") as gone:
        tap.opened()
    assert "\n" not in str(gone.value)
    assert f"{tap.file} cannot be written: No such file" in (tmp_path / "tap.log").read_text(encoding="utf-8")


def test_a_connection_that_the_server_does_not_take_is_not_counted_and_ends(make_tap: MakeTap, tmp_path: Path) -> None:
    closed = choose(0, variable="a test")
    tap = make_tap(f"bolt://127.0.0.1:{closed}")
    with socket.create_connection(("127.0.0.1", tap.port), timeout=60) as client:
        assert client.recv(1) == b""
    assert tap.opened() == 0
    assert f"no connection to 127.0.0.1:{closed}" in (tmp_path / "tap.log").read_text(encoding="utf-8")


def test_a_connection_that_cannot_be_written_down_ends_on_both_sides(make_tap: MakeTap, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        tap = make_tap(f"bolt://127.0.0.1:{server.getsockname()[1]}")
        tap.file.unlink()
        tap.file.mkdir()        # root may write into every file
        with socket.create_connection(("127.0.0.1", tap.port), timeout=30) as client, server.accept()[0] as far:
            far.settimeout(30)
            assert (client.recv(1), far.recv(1)) == (b"", b"")
    assert f"{tap.file} cannot be written: Is a directory" in (tmp_path / "tap.log").read_text(encoding="utf-8")


# --- TLS ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
@starts("neo4j")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    with aura.instance(tmp_path_factory.mktemp("aura")) as one:
        yield one


def ask(tap: Tap, instance: Instance) -> str:
    return servers.require(tap.uri, instance.username, instance.password, instance.database)


def test_the_tap_checks_the_certificate_of_the_server_that_the_address_names(
        instance: Instance, make_tap: MakeTap) -> None:
    tap = make_tap(instance.uri.replace("neo4j+s", "bolt+s"), SSL_CERT_FILE=str(instance.certificate))
    assert "community" in ask(tap, instance)
    assert tap.opened() == 1


@pytest.mark.parametrize(("host", "trusted"), [
    ("localhost", False), ("127.1", True)])     # another spelling of 127.0.0.1, which no certificate has
def test_a_server_whose_certificate_is_not_trusted_or_names_another_is_refused(
        host: str, trusted: bool, instance: Instance, make_tap: MakeTap, tmp_path: Path) -> None:
    uri = instance.uri.replace("neo4j+s://localhost", f"bolt+s://{host}")
    tap = make_tap(uri, SSL_CERT_FILE=str(instance.certificate) if trusted else "/dev/null")
    with pytest.raises(BadInput, match="cannot be reached"):
        ask(tap, instance)
    assert tap.opened() == 0
    assert "certificate verify failed" in (tmp_path / "tap.log").read_text(encoding="utf-8")


def test_any_certificate_will_do_where_the_address_says_so(instance: Instance, make_tap: MakeTap) -> None:
    tap = make_tap(instance.uri.replace("neo4j+s", "bolt+ssc"), SSL_CERT_FILE="/dev/null")
    assert "community" in ask(tap, instance)


# --- in the stack ------------------------------------------------------------------------------------


def tapped(folder: Path, **changes: Any) -> StackState:
    return stack(folder, tap=taps.new(folder / "tap", 20123), neo4j_uri="bolt+s://db.example:7687", ports=PORTS,
                 **changes)


def test_tasks_find_the_tap_wherever_they_look_and_the_rig_finds_the_server(tmp_path: Path) -> None:
    state = tapped(tmp_path)
    env = NativeStack(PlainSettings(data_dir=tmp_path))._env(state)
    connection = drivers.connection(state)
    assert env["NEO4J_URI"] == "bolt://127.0.0.1:20123"
    assert env[drivers.CONNECTION] == connection
    assert ('"host": "127.0.0.1", "port": 20123' in connection, "certs_trusted_ca" in connection) == (True, False)
    assert state.neo4j_uri == "bolt+s://db.example:7687"


def test_the_tap_has_no_password_on_its_command_line_or_in_its_environment(tmp_path: Path) -> None:
    native, state = NativeStack(PlainSettings(data_dir=tmp_path)), tapped(tmp_path, own_neo4j=False)
    (service,) = (one for one in native._stores(state) if one.name == records.TAP)
    password = state.secrets.neo4j.get_secret_value()
    assert not any(password in str(word) for word in (*service.command, *service.env.values()))


class PretendedAirflow(PretendedApi):
    """An Airflow whose DAG run succeeds, with no task."""

    def returned(self, *_: object) -> list[Any]:
        return []


class Silent:
    """A view that shows nothing."""

    def __getattr__(self, _: str) -> Any:
        return lambda *_: None


@pytest.mark.parametrize(("last", "state"), [("success", "success"), ("failed", "failed"), ("running", "hung")])
def test_a_dag_runs_record_has_the_taps_count_however_it_ended(
        last: str, state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "POLL_EVERY", 0.0)
    pretended = PretendedStack(tmp_path, stack(tmp_path))
    pretended.settings = PlainSettings(data_dir=tmp_path, run_timeout=0.1)
    api = PretendedAirflow(set(), [])
    api.states = [last]
    counts = iter([40, 47])
    cell = Cell(executor="LocalExecutor", pattern="hook", tasks=1, calls=1, hold=0)
    nobody = Server(f"bolt://127.0.0.1:{choose(0, variable='a test')}", "neo4j", SecretStr("x"), alone=False)
    with closing(Probe(nobody, 0.1)) as probe:
        runner = CellRunner(pretended.seen_as, cast("AirflowApi", api), probe, tmp_path, cast("Progress", Silent()),
                            observe=0, tap=lambda: next(counts))
        record = runner.run(PlannedRun(index=0, block=0, cell=cell))
    assert (record.state, record.opened, record.opened_exact, record.opened_reason) == (state, 7, True, None)
    assert (record.counted_by, record.ids_opened) == ("tap", None)
    assert list(records.read(tmp_path / records.DAG_RUNS_FILE, DagRunRecord)) == [record]


@pytest.mark.parametrize(("last", "state", "before"), [
    ("success", "error", ""), ("failed", "failed", "tasks failed: see tasks.jsonl and their logs in Airflow; "),
    ("running", "hung", f"{STRESS_DAG} had not ended after 0.1 s ")])
def test_a_dag_run_whose_count_cannot_be_read_any_more_is_no_measurement_and_has_every_reason(
        last: str, state: str, before: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "POLL_EVERY", 0.0)
    pretended = PretendedStack(tmp_path, stack(tmp_path))
    pretended.settings = PlainSettings(data_dir=tmp_path, run_timeout=0.1)
    api = PretendedAirflow(set(), [])
    api.states = [last]
    tap = taps.new(tmp_path / "tap", 1)
    tap.file.write_bytes(b"...")

    def counts_once() -> int:
        opened = tap.opened()
        tap.file.unlink()
        return opened
    cell = Cell(executor="LocalExecutor", pattern="hook", tasks=1, calls=1, hold=0)
    nobody = Server(f"bolt://127.0.0.1:{choose(0, variable='a test')}", "neo4j", SecretStr("x"), alone=False)
    with closing(Probe(nobody, 0.1)) as probe:
        runner = CellRunner(pretended.seen_as, cast("AirflowApi", api), probe, tmp_path, cast("Progress", Silent()),
                            observe=0, tap=counts_once)
        record = runner.run(PlannedRun(index=0, block=0, cell=cell))
    assert (record.state, record.counted_by) == (state, None)
    reason = record.reason or ""
    assert reason.startswith(before)
    assert f"what the tap has counted in {tap.file} cannot be read" in reason


def test_a_service_that_ends_while_the_connections_are_watched_is_said_and_the_dag_run_is_no_measurement(
        tmp_path: Path) -> None:
    dead: list[str] = []
    pretended = PretendedStack(tmp_path, stack(tmp_path), dead=dead)

    class EndsTheTap(PretendedAirflow):
        def run_state(self, *_: str) -> str:
            dead.append(records.TAP)
            return "success"

    cell = Cell(executor="LocalExecutor", pattern="improved", tasks=1, calls=1, hold=0)
    nobody = Server(f"bolt://127.0.0.1:{choose(0, variable='a test')}", "neo4j", SecretStr("x"), alone=False)
    with closing(Probe(nobody, 0.1)) as probe:
        runner = CellRunner(pretended.seen_as, cast("AirflowApi", EndsTheTap(set(), [])), probe, tmp_path,
                            cast("Progress", Silent()), observe=0, tap=lambda: 3)
        record = runner.run(PlannedRun(index=0, block=0, cell=cell))
    assert (record.state, record.reason) == ("error", f"{records.TAP} has ended by itself")
    assert (record.opened_exact, record.counted_by) == (False, None)


# --- where there is no place for it ------------------------------------------------------------------


@pytest.mark.parametrize(("uri", "scheme"), [
    ("neo4j://db.example", "neo4j"), ("neo4j+s://xxxxxxxx.databases.neo4j.io", "neo4j+s"),
    ("neo4j+ssc://db.example", "neo4j+ssc"), ("Neo4j://db.example", "neo4j")])
def test_a_routed_address_is_refused_and_it_is_said_why_and_what_to_do(uri: str, scheme: str, tmp_path: Path) -> None:
    settings = PlainSettings(data_dir=tmp_path, neo4j_uri=uri, neo4j_password=SecretStr("secret-word"))
    with pytest.raises(BadInput, match=r"routing table names the members.*bolt in place of neo4j") as refused:
        named(settings, "native", tap=True)
    assert f"--tap cannot count at a {scheme}:// address" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert "secret-word" not in str(refused.value)
    assert named(settings, "native")


@pytest.mark.parametrize("uri", [None, "bolt://db.example", "bolt+s://db.example", "bolt+ssc://db.example:7688"])
def test_an_address_of_one_server_has_a_place_for_a_tap(uri: str | None, tmp_path: Path) -> None:
    settings = PlainSettings(data_dir=tmp_path, neo4j_uri=uri, neo4j_password=SecretStr("secret-word"))
    assert named(settings, "native", tap=True)


def test_containers_have_no_place_for_a_tap(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="--tap cannot be used with --stack compose"):
        named(PlainSettings(data_dir=tmp_path), "compose", tap=True)


def test_a_deployment_of_somebody_else_has_no_place_for_a_tap(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="--tap cannot be used with --airflow-url"):
        existing(PlainSettings(data_dir=tmp_path), "http://airflow.example", "token", profiles.named("quick"), tap=True)


def test_a_stack_that_is_up_without_a_tap_is_not_used(tmp_path: Path) -> None:
    pretended = PretendedStack(tmp_path, stack(tmp_path), dags={"neo4j_problematic_pattern", "neo4j_improved_pattern",
                                                                "neo4j_worker_pattern"})
    comparison = Comparison(PlainSettings(data_dir=tmp_path), cast("Progress", Silent()), pretended.seen_as)
    with pytest.raises(BadInput, match=r"--tap needs a stack that the comparison starts itself.*`rig down`"):
        comparison.start(Request(profiles.named("quick"), 1, "rig compare --tap", tap=True))
    assert pretended.asked == []
    assert not list(tmp_path.glob("*quick*"))


def test_a_run_is_resumed_in_the_way_that_it_began(tmp_path: Path) -> None:
    with_tap, without = (builders.write(tmp_path / name, builders.run(builders.plan(), environment={
        **builders.ENVIRONMENT, **more})) for name, more in (("with", {BEHIND_A_TAP: True}), ("without", {})))
    assert [_tap_of(with_tap, asked_for=asked) for asked in (True, False)] == [True, True]
    assert not _tap_of(without, asked_for=False)
    with pytest.raises(BadInput, match="without was started without --tap"):
        _tap_of(without, asked_for=True)
