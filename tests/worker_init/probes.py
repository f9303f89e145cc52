"""What a driver can do, as functions that return all that can be seen of it.

Each takes a way to the server and returns a value; fidelity is that the value is the same directly
and through the relay. Times and bookmarks, which differ from call to call, are left out.
"""

import concurrent.futures
import datetime
import uuid
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import neo4j
import pytz
from neo4j import READ_ACCESS, Query
from neo4j.exceptions import Neo4jError
from neo4j.spatial import CartesianPoint, WGS84Point
from neo4j.time import DateTime, Duration, Time

from testing.queries import ENDLESS


class Way(NamedTuple):
    """A way to the server: directly, or through a relay."""

    uri: str
    auth: tuple[str, str]
    driver: neo4j.Driver

    def other(self, **config: Any) -> neo4j.Driver:
        """Return another driver for the same way."""
        return neo4j.GraphDatabase.driver(self.uri, **cast("Any", {"auth": self.auth} | config))


Probe = Callable[[Way], Any]
PROBES: list[Probe] = []
_VARIES = {"t_first", "t_last", "bookmark", "server", "time", "Time", "result_available_after", "result_consumed_after"}


def probe(function: Probe) -> Probe:
    """Add a probe to the list."""
    PROBES.append(function)
    return function


def stable(value: Any) -> Any:
    """Return what is the same at each call."""
    if isinstance(value, dict):
        return {key: stable(item) for key, item in value.items() if key not in _VARIES}
    return [stable(item) for item in value] if isinstance(value, list) else repr(value)


def failure(error: Neo4jError) -> Any:
    """Return all that an error says."""
    return (type(error).__name__, error.code, error.message, error.gql_status, error.gql_status_description,
            stable(error.diagnostic_record), repr(error.__cause__))


def caught(work: Callable[[], Any]) -> Any:
    """Return what the work returns, or the error it raises."""
    try:
        return work()
    except Neo4jError as error:
        return failure(error)


def refusal(way: Way, work: Callable[[], Any]) -> Any:
    """Return all that the refusal of a logon says, but the GQL status where the server is a Neo4j 5.

    It gives none, so the driver has a general one in its place. The relay gives that of later versions.
    """
    said = caught(work)
    is_neo4j_5 = way.driver.get_server_info().agent.startswith("Neo4j/5.")
    return (*said[:3], said[-1]) if is_neo4j_5 else said


# pytz, as the driver itself uses it: zoneinfo crashes CPython 3.11 inside the driver's date arithmetic.
def _values(way: Way) -> dict[str, Any]:
    values = {
        "largest": 2**62, "smallest": -2**63, "float": 1.5, "null": None, "true": True, "text": "é" * 70_000,
        "bytes": b"\x00\xff" * 70_000, "list": list(range(5000)), "map": {"a": [1, {"b": None}]},
        "date": datetime.date(2024, 2, 29), "time": Time(1, 2, 3, 4), "local_time": datetime.time(1, 2, 3),
        "local_datetime": DateTime(2024, 1, 2, 3, 4, 5, 678901234),
        "zoned": pytz.timezone("Europe/Stockholm").localize(datetime.datetime(2024, 3, 31, 1, 30)),
        "offset": datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone(datetime.timedelta(hours=5, minutes=30))),
        "duration": Duration(months=14, days=3, seconds=5, nanoseconds=9), "cartesian": CartesianPoint((1, 2)),
        "wgs84": WGS84Point((1, 2, 3))}
    if hasattr(neo4j, "vector") and way.driver.get_server_info().protocol_version >= (6, 0):
        values |= {"vector": neo4j.vector.Vector([1.0, 2.5, 3.0], "f32")}
    return values


@probe
def every_type_as_parameter(way: Way) -> Any:
    return [(name, repr(way.driver.execute_query("RETURN $x AS x", x=value, database_="neo4j").records[0][0]))
            for name, value in _values(way).items()]


@probe
def a_uuid(way: Way) -> Any:
    try:
        return repr(way.driver.execute_query("RETURN $x AS x", x=uuid.UUID(int=5)).records[0][0])
    except (TypeError, ValueError) as error:
        return type(error).__name__, str(error)


@probe
def graph_counters(way: Way) -> Any:
    records, summary, _ = way.driver.execute_query(
        "CREATE (a:A {k:1})-[r:R {z:2}]->(b:B) WITH a,r,b MATCH p=(a)-[r]->(b) "
        "RETURN labels(a), type(r), a.k, r.z, [length(p), size(nodes(p))]", database_="neo4j")
    return [repr(record) for record in records], stable(summary.metadata)


@probe
def graph_objects(way: Way) -> Any:
    def work(tx: neo4j.ManagedTransaction) -> Any:
        record = tx.run("CREATE (a:A {k:1})-[r:R]->(b) RETURN a, r, b").single(strict=True)
        return sorted(type(value).__name__ for value in record), dict(record["a"])
    with way.driver.session() as session:
        return session.execute_write(work)


@probe
def syntax_errors_between_queries(way: Way) -> Any:
    seen = []
    with way.driver.session() as session:
        for _ in range(2):
            seen.append(caught(lambda: session.run("RETRUN 1").consume()))
            seen.append(session.run("RETURN 1").single(strict=True)[0])
    return seen


@probe
def a_failed_transaction(way: Way) -> Any:
    seen = []
    with way.driver.session() as session:
        tx = session.begin_transaction()
        tx.run("RETURN 1").consume()
        seen.append(caught(lambda: tx.run("RETURN 1/0").consume()))
        try:
            tx.run("RETURN 1").consume()
        except neo4j.exceptions.DriverError as error:
            seen.append(type(error).__name__)
        tx.close()
        return [*seen, session.run("RETURN 3").single(strict=True)[0]]


@probe
def interleaved_results(way: Way) -> Any:
    with way.driver.session(fetch_size=10) as session, session.begin_transaction() as tx:
        first, second = tx.run("UNWIND range(1,100) AS x RETURN x"), tx.run("UNWIND range(1,50) AS x RETURN x*2")
        pairs = [(next(first)[0], next(second)[0]) for _ in range(50)]
        rest = [record[0] for record in first]
        summaries = stable(second.consume().metadata), stable(first.consume().metadata)
        tx.commit()
        return pairs, rest, summaries


@probe
def a_discarded_result(way: Way) -> Any:
    with way.driver.session(fetch_size=5) as session:
        result = session.run("UNWIND range(1,100000) AS x RETURN x")
        next(result)
        return stable(result.consume().metadata), session.run("RETURN 1").single(strict=True)[0]


@probe
def many_rows(way: Way) -> Any:
    with way.driver.session() as session:
        return sum(record[0] for record in session.run("UNWIND range(1,100000) AS x RETURN x, 'abc'+x AS y"))


@probe
def wide_rows(way: Way) -> Any:
    records = way.driver.execute_query("UNWIND range(1,20) AS i RETURN $s+i AS x", s="y" * 200_000).records
    return [len(record[0]) for record in records]


@probe
def session_notifications(way: Way) -> Any:
    seen = []
    for config in ({}, {"notifications_min_severity": "OFF"},
                   {"notifications_disabled_classifications": ["DEPRECATION", "UNRECOGNIZED"]}):
        with way.driver.session(**config) as session:
            summary = session.run("MATCH (n:NoSuchLabelX) RETURN n.nope, elementId(n), id(n)").consume()
            seen.append(sorted(status.gql_status for status in summary.gql_status_objects))
    return seen


@probe
def driver_notifications(way: Way) -> Any:
    seen, query = [], "MATCH (n:NoSuchLabelX) RETURN n.nope, id(n)"
    strict = {"notifications_min_severity": "WARNING", "notifications_disabled_classifications": ["DEPRECATION"]}
    for config in ({}, {"notifications_min_severity": "OFF"}, strict):
        with way.other(**config) as driver:
            seen.append(_statuses(driver.execute_query(query).summary))
            with driver.session() as session:
                seen.append(_statuses(session.run(query, a={"k": [1]}).consume()))
            with driver.session(notifications_min_severity="INFORMATION") as session:
                seen.append(_statuses(session.run(query).consume()))
    return seen


def _statuses(summary: neo4j.ResultSummary) -> list[str]:
    return sorted(status.gql_status for status in summary.gql_status_objects)


@probe
def plan_and_profile(way: Way) -> Any:
    # Nothing of the graph: a plan's estimates change with what is stored.
    plan = way.driver.execute_query("EXPLAIN UNWIND range(1,3) AS x RETURN x").summary.plan
    profile = way.driver.execute_query("PROFILE UNWIND [1,2] AS x RETURN x").summary.profile
    assert profile
    return stable(plan), profile["operatorType"], profile["rows"]


@probe
def bookmarks(way: Way) -> Any:
    with way.driver.session() as session:
        session.run("CREATE (:BM)").consume()
        written = session.last_bookmarks()
    with way.driver.session(bookmarks=written) as session:
        found = session.run("MATCH (n:BM) RETURN count(n)>0").single(strict=True)[0]
        read = session.last_bookmarks()
    with way.driver.session(bookmarks=neo4j.Bookmarks.from_raw_values(["FB:kcwQbogus"])) as session:
        return found, len(written.raw_values), len(read.raw_values), caught(lambda: session.run("RETURN 1").consume())


@probe
def transaction_metadata(way: Way) -> Any:
    metadata = {"app": "p", "k": [1, 2]}
    with way.driver.session() as session, session.begin_transaction(metadata=metadata, timeout=30) as tx:
        return tx.run("SHOW TRANSACTIONS YIELD metaData WHERE metaData.app='p' RETURN metaData").data()


@probe
def a_query_timeout(way: Way) -> Any:
    slow = Query(ENDLESS, timeout=0.5)
    with way.driver.session() as session:
        return caught(lambda: session.run(slow).consume())[:2]


@probe
def writing_in_read_mode(way: Way) -> Any:
    with way.driver.session(default_access_mode=READ_ACCESS) as session:
        return (caught(lambda: session.run("CREATE (:X)").consume()),
                caught(lambda: session.execute_read(lambda tx: tx.run("CREATE (:X)").consume())))


@probe
def databases(way: Way) -> Any:
    names = way.driver.execute_query("SHOW DATABASES YIELD name", database_="system").records
    return len(names), caught(lambda: way.driver.execute_query("RETURN 1", database_="nope"))


@probe
def impersonation(way: Way) -> Any:
    return (caught(lambda: way.driver.execute_query("RETURN 1", impersonated_user_="neo4j").records[0][0]),
            caught(lambda: way.driver.execute_query("RETURN 1", impersonated_user_="nobody").records[0][0]))


@probe
def a_retried_transaction(way: Way) -> Any:
    tries = []

    def work(tx: neo4j.ManagedTransaction) -> Any:
        tries.append(tx.run("CREATE (:RT)").consume().counters.nodes_created)
        if len(tries) < 3:
            raise Neo4jError._hydrate_neo4j(code="Neo.TransientError.Transaction.DeadlockDetected", message="again")
        return tx.run("MATCH (n:RT) RETURN count(n)").single(strict=True)[0]
    way.driver.execute_query("MATCH (n:RT) DELETE n")
    with way.driver.session() as session:
        return session.execute_write(work), tries


@probe
def call_in_transactions(way: Way) -> Any:
    query = "UNWIND range(1,10) AS x CALL (x) { CREATE (:T {x:x}) } IN TRANSACTIONS OF 3 ROWS"
    with way.driver.session() as session:
        return stable(session.run(query).consume().metadata)


@probe
def a_constraint_violation(way: Way) -> Any:
    way.driver.execute_query("CREATE CONSTRAINT uq IF NOT EXISTS FOR (n:UQ) REQUIRE n.k IS UNIQUE")
    node = way.driver.execute_query("MERGE (n:UQ {k:1}) RETURN n").records[0][0]
    error = caught(lambda: way.driver.execute_query("CREATE (:UQ {k:1})"))
    assert node
    return error


@probe
def what_the_server_says_of_itself(way: Way) -> Any:
    way.driver.verify_connectivity()
    info = way.driver.get_server_info()
    return (info.agent, info.protocol_version, way.driver.supports_session_auth(), way.driver.supports_multi_db(),
            way.driver.verify_authentication(way.auth))


@probe
def a_wrong_password(way: Way) -> Any:
    with way.other(auth=("neo4j", "not-the-password")) as driver:
        return refusal(way, driver.verify_connectivity)


@probe
def session_credentials(way: Way) -> Any:
    seen = []
    with way.driver.session(auth=way.auth) as session:
        seen.append(session.run("RETURN 1").single(strict=True)[0])
    with way.driver.session(auth=("neo4j", "not-the-password")) as session:
        seen.append(refusal(way, lambda: session.run("RETURN 1").single()))
    with way.driver.session() as session:
        return [*seen, session.run("RETURN 2").single(strict=True)[0]]


@probe
def many_threads(way: Way) -> Any:
    def one(number: int) -> Any:
        with way.driver.session() as session:
            return session.execute_write(lambda tx: tx.run("RETURN $i AS i", i=number).single(strict=True)[0])
    with concurrent.futures.ThreadPoolExecutor(12) as threads:
        return list(threads.map(one, range(300)))


@probe
def empty_transactions(way: Way) -> Any:
    with way.driver.session() as session:
        with session.begin_transaction():
            pass
        session.begin_transaction().rollback()
        session.begin_transaction().close()
        return session.run("RETURN 1").single(strict=True)[0]


@probe
def a_routing_driver(way: Way) -> Any:
    with neo4j.GraphDatabase.driver(way.uri.replace("bolt:", "neo4j:"), auth=way.auth) as driver:
        with driver.session() as session:
            written = session.execute_write(lambda tx: tx.run("RETURN 1 AS x").single(strict=True)[0])
            read = session.execute_read(lambda tx: tx.run("RETURN 2 AS x").single(strict=True)[0])
        missing = caught(lambda: driver.execute_query("RETURN 1", database_="nope"))
        return written, read, missing, len(driver.execute_query("SHOW DATABASES", database_="system").records)


@probe
def a_large_parameter(way: Way) -> Any:
    rows = [{"i": number, "text": "x" * 200} for number in range(20_000)]
    query = "UNWIND $rows AS row RETURN sum(row.i) AS total, sum(size(row.text)) AS size"
    return way.driver.execute_query(query, rows=rows).records[0].data()
