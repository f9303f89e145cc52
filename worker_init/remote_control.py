"""Celery's remote control: ``neo4j_reconnect``, ``neo4j_pause``, ``neo4j_resume``.

``celery -A … control neo4j_pause`` asks every worker; ``-d celery@host`` asks one. Importing this module registers the
commands: in the worker that obeys and, through :mod:`worker_init.celery_plugin`, in the ``celery`` command that asks.
"""

from typing import Any

from celery.worker.control import control_command

from worker_init.commands import Command, outcome
from worker_init.errors import WorkerInitError


@control_command()
def neo4j_reconnect(_: Any) -> dict[str, str]:
    """Close the connections to Neo4j: idle ones now, each lent one at its transaction's end."""
    return _obey(Command.RECONNECT)


@control_command()
def neo4j_pause(_: Any) -> dict[str, str]:
    """Close the connections to Neo4j in the same way, and make further transactions wait until neo4j_resume."""
    return _obey(Command.PAUSE)


@control_command()
def neo4j_resume(_: Any) -> dict[str, str]:
    """Let transactions go on after neo4j_pause."""
    return _obey(Command.RESUME)


def _obey(command: Command) -> dict[str, str]:
    """Pass the command to the worker's host; return the result in the form that Celery shows as good or bad."""
    from worker_init.lifecycle import this_process  # noqa: PLC0415 - the `celery` command that asks has none
    try:
        return {"ok": outcome(command, this_process.obey(command))}
    except WorkerInitError as error:
        return {"error": str(error)}
