"""Does a Celery worker take tasks? A worker that lost its queues when the broker restarted still answers a ping.

``python -m worker_init.takes_tasks`` is a health check for a container or a pod. It sends the worker a message: a task
that expired long ago, which the worker takes off the queue and discards without running anything. Exit codes: 0 the
worker takes tasks; 1 it cannot be found out (no answer, no broker); 2 the command was called wrongly; 3 the worker
answers but takes no tasks.
"""

import argparse
import os
import signal
import socket
import sys
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from worker_init.arguments import real, whole

# One of Celery's own tasks, which every worker knows and which leaves no result.
CANARY = "celery.chord_unlock"
ANSWER_SECONDS = 2.0    # for an answer to a question
TAKEN_SECONDS = 3.0     # for an idle worker to take the canary message
WORK_SECONDS = 2.0      # within which a worker with room must have accepted a task, if some wait
EVERY = 0.1
TAKES, NOT_KNOWN, TAKES_NOTHING = 0, 1, 3
NO_ANSWER = "no answer to a ping"
BROKERS = ("AIRFLOW__CELERY__BROKER_URL", "CELERY_BROKER_URL")


@dataclass(frozen=True)
class Finding:
    """The result of the check. ``problem`` is None if the worker takes tasks, else one line that says what is wrong."""

    problem: str | None
    takes_nothing: bool = False     # it answers and has room, but takes nothing: it must be restarted

    @property
    def is_silent(self) -> bool:
        """Whether the worker has given no answer. It may be busy, or it may never answer again."""
        return self.problem is not None and self.problem.endswith(NO_ANSWER)


@dataclass(frozen=True)
class _Load:
    held: int       # tasks that it is running or has reserved
    most: int       # how many it may hold, 0 if there is no limit
    accepted: int   # since it was started

    @property
    def has_room(self) -> bool:
        return not self.most or self.held < self.most


def examine(app: Any, name: str | None = None) -> Finding:
    """Ask a worker, or the first one that answers, which queues it consumes, and send it a message.

    ``app`` is a Celery app with the worker's broker, and with time limits for it. A worker that is busy with as many
    tasks as it may hold takes no message either, but is healthy. If the worker has a queue of its own (Celery's setting
    ``worker_direct``) the message goes there; else it goes to the worker's first queue, where another worker may take
    it. Raises Celery's own exceptions if the broker does not answer.
    """
    queues = _asked(app, "active_queues", name)
    if queues is None:
        return Finding(NO_ANSWER)
    worker, consumed = queues
    if not consumed:
        return Finding("it answers a ping and takes no tasks: it has lost its queues", takes_nothing=True)
    queue = _own(worker, [queue["name"] for queue in consumed])
    _send(app, queue)
    if _is_emptied(app, queue):
        return Finding(None)
    return _judged(app, worker, queue)


def _judged(app: Any, worker: str, queue: str) -> Finding:
    """Tell a worker that takes nothing from one that is busy with as many tasks as it may hold."""
    before = _load(app, worker)
    if before is None:
        return Finding(NO_ANSWER)
    until = time.monotonic() + WORK_SECONDS
    while time.monotonic() < until:
        now = _load(app, worker)
        if now is None or not now.has_room or now.accepted != before.accepted or not _waiting(app, queue):
            return Finding(None if now else NO_ANSWER)
        time.sleep(EVERY)
    return Finding(f"it answers a ping and takes no tasks: {_waiting(app, queue)} wait in {queue}, and it holds "
                   f"{before.held}", takes_nothing=True)


def _asked(app: Any, question: str, worker: str | None) -> tuple[str, Any] | None:
    """Return the first worker that answers, and its answer."""
    inspect = app.control.inspect(destination=worker and [worker], timeout=ANSWER_SECONDS, limit=1)
    answers: dict[str, Any] = getattr(inspect, question)() or {}
    return next(iter(answers.items()), None)


def _load(app: Any, worker: str) -> _Load | None:
    stats, active, reserved = (_asked(app, question, worker) for question in ("stats", "active", "reserved"))
    if stats is None or active is None or reserved is None:
        return None
    return _Load(len(active[1]) + len(reserved[1]), int(stats[1].get("prefetch_count") or 0),
                 sum(stats[1]["total"].values()))


def _own(worker: str, queues: list[str]) -> str:
    direct = f"{worker}.dq2"    # celery.utils.nodenames.worker_direct
    return direct if direct in queues else queues[0]


def _send(app: Any, queue: str) -> None:
    from kombu.entity import Queue  # noqa: PLC0415 - not at the module's import: only this needs it

    past = datetime.now(timezone.utc) - timedelta(days=1)
    # Directly to the queue, through no exchange, so that nothing is declared that the worker did not declare.
    own: Any = Queue(queue, no_declare=True)  # type: ignore[no-untyped-call]
    app.send_task(CANARY, queue=own, declare=[], expires=past, ignore_result=True,
                  task_id=f"takes-tasks-{uuid.uuid4()}")


def _is_emptied(app: Any, queue: str) -> bool:
    until = time.monotonic() + TAKEN_SECONDS
    while _waiting(app, queue):
        if time.monotonic() > until:
            return False
        time.sleep(EVERY)
    return True


def _waiting(app: Any, queue: str) -> int:
    """Return how many messages wait in a queue. In Redis, an empty queue does not exist."""
    with app.connection_for_read() as connection:
        try:
            return int(connection.default_channel.queue_declare(queue, passive=True).message_count)
        except connection.channel_errors:
            return 0


def main(arguments: list[str] | None = None, environ: Mapping[str, str] = os.environ) -> int:
    """Run the check and return its exit code."""
    options = _options(arguments, environ)
    if not options.broker:
        print(f"takes_tasks: no broker: give --broker, or set {' or '.join(BROKERS)}", file=sys.stderr)
        return 2
    app = app_of(options.broker, options.timeout)
    finding = _told(app, options.worker)
    if finding.takes_nothing:       # a worker that is just starting consumes a moment later
        finding = _told(app, options.worker)
    if finding.takes_nothing and options.end:
        os.kill(options.end, signal.SIGTERM)
    if finding.problem:
        print(f"{options.worker}: {finding.problem}")
    return TAKES_NOTHING if finding.takes_nothing else NOT_KNOWN if finding.problem else TAKES


def app_of(broker: str, timeout: float) -> Any:
    """Return a Celery app that gives a broker ``timeout`` seconds to answer."""
    from celery import Celery  # noqa: PLC0415 - as above

    for name in [name for name in os.environ if name.startswith("CELERY_")]:
        del os.environ[name]        # Celery would prefer the broker of this variable to ours
    app = Celery(broker=broker, set_as_current=False)
    limits = {"socket_timeout": timeout, "socket_connect_timeout": timeout, "max_retries": 1}
    app.conf.update(broker_connection_timeout=timeout, task_publish_retry=False,
                    broker_transport_options=limits if broker.startswith(("redis", "sentinel")) else {})
    return app


def _told(app: Any, worker: str) -> Finding:
    try:
        return examine(app, worker)
    except Exception as error:      # kombu, Redis and AMQP have their own exceptions
        return Finding(f"the broker does not answer: {' '.join(str(error).split()) or type(error).__name__}")


def _options(arguments: list[str] | None, environ: Mapping[str, str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m worker_init.takes_tasks", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("worker", nargs="?", default=f"celery@{environ.get('HOSTNAME') or socket.gethostname()}",
                        help="name of the worker (default: %(default)s)")
    parser.add_argument("--broker", default=next((environ[name] for name in BROKERS if environ.get(name)), None),
                        help="address of the broker; other users can read arguments, so "
                             f"{' or '.join(BROKERS)} is better")
    parser.add_argument("--timeout", type=real(0.1), default=4.0, help="seconds for the broker (default: %(default)s)")
    parser.add_argument("--end", type=whole(1), metavar="PID",
                        help="send SIGTERM to this process if the worker takes no tasks; 1 in a container, which is "
                             "then restarted")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
