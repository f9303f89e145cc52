"""The host's metrics for Prometheus, served with ``prometheus_client``, the extra ``metrics`` of this distribution.

Names, units and meanings are those of OpenTelemetry's semantic conventions for database client connections
(https://opentelemetry.io/docs/specs/semconv/db/database-metrics/), translated as its Prometheus exporters do. Metrics
for which the conventions have no name begin with ``worker_init_``.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from worker_init.measures import BOUNDS, Histogram, Key, Measured, Totals
from worker_init.pool_states import OFF, PoolState

# How long the event loop may take to answer. A scraper waits 10 seconds by default.
_ANSWER_SECONDS = 5.0
_LABELS = ("worker", "slot", "upstream")
_CONNECTION = "db_client_connection"
_STATE = f"{_CONNECTION}_state"

Ask = Callable[[], Mapping[Key, Measured]]


class _Counter(NamedTuple):
    name: str
    meaning: str
    value: Callable[[Totals], int]


class _Gauge(NamedTuple):
    name: str
    meaning: str
    # The labels in addition to the common ones, with a value for each.
    label: str | None
    values: Callable[[Measured], Mapping[str, int]]


class _Times(NamedTuple):
    name: str
    meaning: str
    value: Callable[[Totals], Histogram]


_GAUGES = (
    _Gauge(f"{_CONNECTION}_count", "Open connections to Neo4j, by state: used in a transaction, or idle.", _STATE,
           lambda measured: {"idle": measured.gauges.idle, "used": measured.gauges.used}),
    _Gauge(f"{_CONNECTION}_max", "The most open connections that are allowed.", None,
           lambda measured: {"": measured.gauges.most}),
    _Gauge(f"{_CONNECTION}_pending_requests", "Transactions that wait for a connection.", None,
           lambda measured: {"": measured.gauges.pending}),
    _Gauge("worker_init_clients", "Connections of tasks to the relay.", None,
           lambda measured: {"": measured.gauges.clients}),
    _Gauge("worker_init_drivers", "Shared drivers, by state.", "state",
           lambda measured: {state: measured.gauges.states[state] for state in (*map(str, PoolState), OFF)}),
)
_COUNTERS = (
    _Counter(f"{_CONNECTION}_timeouts", "Transactions that got no connection in time.",
             lambda totals: totals.timeouts),
    _Counter("worker_init_transactions", "Transactions that were served.", lambda totals: totals.leases),
    _Counter("worker_init_connection_errors", "Failed attempts to get a connection or a routing table.",
             lambda totals: totals.errors),
    _Counter("worker_init_relay_faults", "Errors of this package that ended a client.",
             lambda totals: totals.own_faults),
    _Counter("worker_init_server_faults", "Answers of a server that are not Bolt.",
             lambda totals: totals.server_faults),
)
_TIMES = (
    _Times(f"{_CONNECTION}_create_time_seconds", "Time that it took to open a connection.",
           lambda totals: totals.create),
    _Times(f"{_CONNECTION}_wait_time_seconds", "Time that it took to get an open connection for a transaction.",
           lambda totals: totals.wait),
    _Times(f"{_CONNECTION}_use_time_seconds", "Time between borrowing a connection and giving it back.",
           lambda totals: totals.use),
)


class Exporter(Collector):
    """Serves the metrics of a host on an address, in a thread of its own, until ``close``.

    ``ask`` is called for each scrape, on the event loop in which the exporter was created. Raises OSError if the
    address cannot be used.
    """

    def __init__(self, host: str, port: int, worker: str, ask: Ask) -> None:
        self._loop = asyncio.get_running_loop()
        self._worker = worker
        self._ask = ask
        registry = CollectorRegistry()
        registry.register(self)
        self._server, _ = start_http_server(port, host, registry)

    @property
    def address(self) -> str:
        """The address of the metrics, as ``host:port``."""
        host, port = self._server.server_address[:2]
        return f"{host!s}:{port}"

    async def close(self) -> None:
        """Stop serving. The server's thread checks for this twice a second."""
        await self._loop.run_in_executor(None, self._server.shutdown)
        self._server.server_close()

    def collect(self) -> Iterator[Metric]:
        """Return the metrics for a scrape. This runs in one of the server's threads."""
        found = asyncio.run_coroutine_threadsafe(self._asked(), self._loop).result(_ANSWER_SECONDS)
        series = [((self._worker, *key), measured) for key, measured in sorted(found.items())]
        yield from _gauges(series)
        yield from _counters(series)
        yield from _histograms(series)

    async def _asked(self) -> Mapping[Key, Measured]:
        return self._ask()


_Series = Sequence[tuple[tuple[str, ...], Measured]]


def _gauges(series: _Series) -> Iterator[Metric]:
    for gauge in _GAUGES:
        family = GaugeMetricFamily(gauge.name, gauge.meaning,
                                   labels=[*_LABELS, *([gauge.label] if gauge.label else [])])
        for labels, measured in series:
            for state, value in gauge.values(measured).items():
                family.add_metric([*labels, *([state] if gauge.label else [])], value)
        yield family


def _counters(series: _Series) -> Iterator[Metric]:
    for counter in _COUNTERS:
        family = CounterMetricFamily(counter.name, counter.meaning, labels=_LABELS)
        for labels, measured in series:
            family.add_metric(labels, counter.value(measured.totals))
        yield family


def _histograms(series: _Series) -> Iterator[Metric]:
    for times in _TIMES:
        family = HistogramMetricFamily(times.name, times.meaning, labels=_LABELS)
        for labels, measured in series:
            found = times.value(measured.totals)
            bounds = [*map(str, BOUNDS), "+Inf"]
            family.add_metric(labels, [*zip(bounds, accumulate(found.counts), strict=True)], found.sum)
        yield family
