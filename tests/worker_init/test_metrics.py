"""The host's metrics: OpenTelemetry's names, the status's numbers, bounded, without secrets, and never in the way."""

import socket
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import neo4j
import pytest
from opentelemetry.semconv._incubating.metrics import db_metrics
from prometheus_client.parser import text_string_to_metric_families

from testing.servers import Neo4jServer, Serving, serving
from testing.waiting import wait_until
from tests.worker_init.hosted import is_served, kill_host, opened, status_of
from worker_init.control import find_folders, read_status
from worker_init.measures import BOUNDS, OTHER, Gauges, Histogram, Key, Measured, Measures, Totals, upstream_name
from worker_init.settings import Settings

URI = "neo4j+s://db.example.org:7687"


# What is measured

def test_a_histogram_counts_each_duration_in_the_first_bound_that_it_does_not_exceed() -> None:
    times = Histogram()
    for seconds in (0.0, 0.001, 0.0011, 300.0, 301.0):
        times.observe(seconds)
    assert times.counts == [2, 1, *[0] * (len(BOUNDS) - 3), 1, 1]
    assert times.sum == pytest.approx(601.0021)


@pytest.mark.parametrize(("uri", "name"), [
    (URI, URI), ("bolt://u:secret@[::1]:7687", "bolt://[::1]:7687"), ("neo4j://a?policy=eu", "neo4j://a")])
def test_an_upstream_is_named_by_its_address_alone(uri: str, name: str) -> None:
    assert upstream_name(uri) == name


def measured(**totals: Any) -> Measured:
    return Measured(Totals(**totals), Gauges(idle=1, used=2))


def test_two_identities_at_one_server_are_one_series() -> None:
    found = Measures().now([(0, URI, measured(leases=3)), (0, URI, measured(leases=4)), (1, URI, measured(leases=5))])
    assert [(key, one.totals.leases, one.gauges.used) for key, one in found.items()] == [
        (Key("0", URI), 7, 4), (Key("1", URI), 5, 2)]


def test_what_a_driver_has_counted_stays_when_it_is_closed() -> None:
    measures = Measures()
    before = measured(leases=3, errors=2)
    before.totals.use.observe(0.2)
    measures.end(0, URI, before.totals)
    alone = measures.now([])[Key("0", URI)]
    assert (alone.totals.leases, alone.totals.errors, sum(alone.totals.use.counts), alone.gauges) == (3, 2, 1, Gauges())
    assert measures.now([(0, URI, measured(leases=4))])[Key("0", URI)].totals.leases == 7


def test_whatever_tasks_ask_for_there_are_so_many_series_and_one() -> None:
    measures = Measures(most=3)
    for number in range(10):
        measures.end(number, f"bolt://{number}", Totals(leases=1))
    found = measures.now([(20, "bolt://20", measured(leases=1)), (0, "bolt://0", measured(leases=1))])
    assert len(found) == 4
    assert found[Key(OTHER, OTHER)].totals.leases == 8
    assert found[Key("0", "bolt://0")].totals.leases == 2


def test_metrics_are_off_unless_a_port_is_set_and_for_this_machine_alone_unless_an_address_is() -> None:
    settings = Settings.from_environment({})
    assert (settings.metrics_port, settings.metrics_host) == (None, "127.0.0.1")


# What is exported

class Scraped:
    """The samples of a scrape, by name and labels."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.families = [*text_string_to_metric_families(text)]
        self.samples: dict[tuple[Any, ...], float] = {
            (sample.name, *sorted(sample.labels.items())): sample.value
            for family in self.families for sample in family.samples}

    def value(self, name: str, **labels: str) -> float:
        """Return the sum of the samples of a name that have these labels."""
        return sum(value for (found, *pairs), value in self.samples.items()
                   if found == name and {*labels.items()} <= {*pairs})


def status(host: Serving) -> dict[str, Any]:
    return read_status(find_folders(host.folder)[0], 5.0)


def scrape(address: str) -> Scraped:
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=30) as answer:
        return Scraped(answer.read().decode())


@pytest.fixture(scope="module")
def measuring(server: Neo4jServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(tmp_path_factory.mktemp("measuring"), server.uri, server.auth, metrics_port=0) as running:
        yield running


@pytest.mark.neo4j
def test_the_names_and_units_are_those_of_opentelemetry(measuring: Serving) -> None:
    found = {family.name: family.type for family in scrape(status(measuring)["metrics"]).families}
    wanted = {db_metrics.DB_CLIENT_CONNECTION_COUNT: ("", "gauge"), db_metrics.DB_CLIENT_CONNECTION_MAX: ("", "gauge"),
              db_metrics.DB_CLIENT_CONNECTION_PENDING_REQUESTS: ("", "gauge"),
              db_metrics.DB_CLIENT_CONNECTION_TIMEOUTS: ("", "counter"),
              db_metrics.DB_CLIENT_CONNECTION_CREATE_TIME: ("_seconds", "histogram"),
              db_metrics.DB_CLIENT_CONNECTION_WAIT_TIME: ("_seconds", "histogram"),
              db_metrics.DB_CLIENT_CONNECTION_USE_TIME: ("_seconds", "histogram")}
    assert {name: kind for name, kind in found.items() if name.startswith("db_client_")} == {
        name.replace(".", "_") + unit: kind for name, (unit, kind) in wanted.items()}


@pytest.mark.neo4j
def test_under_load_they_say_what_the_status_says(measuring: Serving, server: Neo4jServer) -> None:
    address = status(measuring)["metrics"]
    seen: list[Scraped] = []
    with measuring.driver() as driver, driver.session() as session, ThreadPoolExecutor(4) as pool:
        with session.begin_transaction() as transaction:
            transaction.run("RETURN 1").consume()
            answers = [pool.submit(driver.execute_query, "RETURN $secret AS secretly", secret="secret")
                       for _ in range(100)]
            while not all(answer.done() for answer in answers):
                seen.append(scrape(address))
            wait_until(lambda: status(measuring)["drivers"][0]["connections"]["in_use"] == 1, "the others have ended")
            now = scrape(address)
            shown, = status(measuring)["drivers"]
        name, labels = "db_client_connection_count", {"slot": "0", "upstream": server.uri}
        assert now.value(name, db_client_connection_state="used", **labels) == 1
        assert now.value(name, db_client_connection_state="idle", **labels) == shown["connections"]["idle"] > 0
        assert now.value("db_client_connection_max", **labels) == shown["connections"]["max_size"]
        assert now.value("db_client_connection_pending_requests", **labels) == shown["waits"]["now"] == 0
        assert now.value("worker_init_transactions_total", **labels) == shown["leases"] >= 101
        assert now.value("db_client_connection_create_time_seconds_count", **labels) == shown["connections"]["opened"]
        # One is in use; what the relay itself has asked for was lent as well.
        assert now.value("db_client_connection_use_time_seconds_count", **labels) >= shown["leases"] - 1
        assert now.value("db_client_connection_wait_time_seconds_count", **labels) >= shown["leases"]
        assert now.value("worker_init_drivers", state="up") == now.value("worker_init_drivers") == 1
    assert scrape(address).value("db_client_connection_use_time_seconds_bucket", le="+Inf") >= shown["leases"]
    assert seen
    for name in ("worker_init_transactions_total", "db_client_connection_use_time_seconds_count"):
        counts = [one.value(name) for one in [*seen, now]]
        assert counts == sorted(counts)
    assert {label for sample in now.samples for label, _ in sample[1:]} == {
        "worker", "slot", "upstream", "le", "state", "db_client_connection_state"}
    # The user's name is in everything that is Neo4j's.
    assert not [secret for secret in (server.password, *measuring.auth, "secret") if secret in now.text]


@pytest.mark.neo4j
def test_only_this_machine_can_ask(measuring: Serving) -> None:
    assert status(measuring)["metrics"].startswith("127.0.0.1:")


@pytest.mark.neo4j
def test_who_waits_in_vain_is_counted(server: Neo4jServer, tmp_path: Path) -> None:
    with serving(tmp_path, server.uri, server.auth, metrics_port=0, max_size=1, acquisition_timeout=0.2) as host:
        with host.driver(max_transaction_retry_time=0) as driver, driver.session() as session:
            session.begin_transaction().run("RETURN 1").consume()
            with pytest.raises(neo4j.exceptions.TransientError, match="became free"):
                driver.execute_query("RETURN 1")
        found = scrape(status(host)["metrics"])
        assert found.value("db_client_connection_timeouts_total") == 1
        assert found.value("db_client_connection_max") == 1


@pytest.mark.neo4j
def test_without_the_extra_there_is_one_line_and_tasks_are_served(
        server: Neo4jServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "missing").mkdir()
    (tmp_path / "missing" / "prometheus_client.py").write_text("raise ModuleNotFoundError('No module named it')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "missing"))
    with serving(tmp_path / "host", server.uri, server.auth, metrics_port=0) as host:
        with host.driver() as driver:
            driver.verify_connectivity()
        assert status(host)["metrics"] is None
        said = (tmp_path / "host" / "host.log").read_text()
    assert said.count("there are no metrics: No module named it. Install neo4j-worker-init[metrics], or unset "
                      "WORKER_INIT_METRICS_PORT") == 1
    assert "Traceback" not in said


@pytest.mark.neo4j
def test_a_port_that_is_taken_is_one_line_and_tasks_are_served(server: Neo4jServer, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with serving(tmp_path, server.uri, server.auth, metrics_port=port) as host:
            with host.driver() as driver:
                driver.verify_connectivity()
            assert status(host)["metrics"] is None
    said = (tmp_path / "host.log").read_text()
    assert said.count(f"there are no metrics: 127.0.0.1:{port} cannot be used (WORKER_INIT_METRICS_HOST, "
                      "WORKER_INIT_METRICS_PORT): ") == 1
    assert "Traceback" not in said


@pytest.mark.host
def test_a_workers_host_names_the_worker_and_so_does_the_next_one(environment: dict[str, str]) -> None:
    with opened(environment | {"WORKER_INIT_METRICS_PORT": "0"}, slots=2) as (worker, supervisor):
        for restarts in range(2):
            wait_until(lambda: len(status_of(worker).get("drivers", [])) == 2, "a host serves")
            assert is_served(supervisor.environment(1))
            assert status_of(worker)["restarts"] == restarts
            found = scrape(status_of(worker)["metrics"])
            assert found.value("db_client_connection_max", worker="celery@here", slot="1") == 100
            assert found.value("worker_init_transactions_total", slot="0") == 0
            kill_host(supervisor)
