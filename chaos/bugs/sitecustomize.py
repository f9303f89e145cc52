"""Deliberate bugs, to check that the chaos suite finds them.

Python imports this file when a process starts with this folder in PYTHONPATH. CHAOS_BUG says which bug is on. The file
is not in any package that is installed.
"""

import importlib
import os
import sys

BUG = os.environ.get("CHAOS_BUG", "")
COMMAND = " ".join(sys.orig_argv)
HOSTS = ("worker_init.host_process", "worker_init.cli serve", "worker-driver serve")
IS_DRIVER_HOST = any(name in COMMAND for name in HOSTS)
IS_WORKER = "celery worker" in COMMAND


def _lease_kept() -> None:
    """Keep a lease's connection lent after its transaction has ended."""
    pool = importlib.import_module("worker_init.pool")
    pool.Pool.give_back = lambda *_: None


def _reset_skipped() -> None:
    """Give what a client left open in a transaction to the next client."""
    pool = importlib.import_module("worker_init.pool")
    pool.Pool.reset_and_give_back = pool.Pool.give_back


def _token_check_removed() -> None:
    """Accept every client, whatever its user name and password."""
    door = importlib.import_module("worker_init.door")
    door.Door.judge = lambda *_: door.Verdict(None)


def _write_repeated() -> None:
    """Repeat a write that was already answered."""
    driver = importlib.import_module("neo4j")
    once = driver.Session.execute_write

    def twice(session: object, work: object, *arguments: object, **named: object) -> object:
        once(session, work, *arguments, **named)
        return once(session, work, *arguments, **named)
    driver.Session.execute_write = twice


def _host_not_restarted() -> None:
    """Do not replace a driver host that has died."""
    supervisor = importlib.import_module("worker_init.supervisor")
    spawn = supervisor.Supervisor._spawn
    seen: list[object] = []

    def once_only(self: object) -> None:
        if not seen:
            seen.append(self)
            spawn(self)
    supervisor.Supervisor._spawn = once_only


BUGS = {"lease kept": (IS_DRIVER_HOST, _lease_kept), "RESET skipped": (IS_DRIVER_HOST, _reset_skipped),
        "token check removed": (IS_DRIVER_HOST, _token_check_removed), "write repeated": (IS_WORKER, _write_repeated),
        "host not restarted": (IS_WORKER, _host_not_restarted)}

if BUG in BUGS and BUGS[BUG][0]:
    BUGS[BUG][1]()
