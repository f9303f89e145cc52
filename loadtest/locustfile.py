"""Locust's side of the load test: ``locust -f loadtest/locustfile.py``, or ``rig load`` with a stack around it.

A user starts runs of the DAG ``neo4j_stress_test`` and follows each to its end. docs/loadtest.md explains the entries,
and the environment variables that name the deployment.
"""

import logging
import os
import sys
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

import gevent
from locust import User, constant, events, task
from locust.env import Environment
from locust.runners import MasterRunner, WorkerRunner

from loadtest import options, target, web
from loadtest.deployment import require_ready
from loadtest.master import Master
from loadtest.process import NAP, Process
from loadtest.watch import Watcher
from patterns.facts import STRESS_DAG
from rig.errors import BAD_INPUT, BROKEN, INTERRUPTED, BadInput, RigError
from rig.load.records import Load, Thresholds

ARRIVE_IN = 1.0         # seconds after the start by which every process knows of it
REPORT, NO_MORE = "neo4j_load", "neo4j_no_more"

logger = logging.getLogger(__name__)
logging.getLogger("httpx").setLevel(logging.WARNING)     # otherwise each poll would be a line in the log


class _Own:
    """The objects of this process. None of them is created before Locust has forked."""

    target: target.Target
    process: Process | None = None
    master: Master | None = None
    bad_input: str | None = None


own = _Own()


def _target() -> target.Target:
    """Return the deployment that is named in the environment; end with one line if a variable is wrong."""
    try:
        return target.of(os.environ)
    except BadInput as error:
        print(error, file=sys.stderr)
        raise SystemExit(BAD_INPUT) from None


class DagRuns(User):
    """Starts a DAG run when its last one has ended. With open arrivals it only waits: these have their own clock."""

    wait_time = constant(0)
    host = _target().airflow

    @task
    def dag_run(self) -> None:
        """Take one turn."""
        if own.process is None:
            gevent.sleep(NAP)
        else:
            own.process.turn()


@events.init_command_line_parser.add_listener
def _arguments(parser: Any, **_: Any) -> None:
    options.add(parser)


@events.init.add_listener
def _init(environment: Environment, runner: Any, web_ui: Any, **_: Any) -> None:
    own.target = _target()
    if isinstance(runner, WorkerRunner):
        runner.register_message(NO_MORE, lambda **_: _no_more(runner))
        return
    own.master = Master(environment, Watcher(own.target, STRESS_DAG))
    own.master.on_no_more = lambda: _no_more(runner)
    own.master.watcher.start()
    gevent.spawn(own.master.live_on)
    if web_ui:
        web.add(web_ui, environment, own.master, lambda form: _problem(environment, form))


@events.test_start.add_listener
def _start(environment: Environment, **_: Any) -> None:
    runner, chosen = environment.runner, environment.parsed_options
    assert runner is not None
    assert chosen is not None
    if own.master is not None:
        try:
            _begin(own.master, own.target.at(environment.host), chosen, runner)
        except RigError as error:
            _refuse(environment, str(error))
            return
    if isinstance(runner, MasterRunner):
        return
    load = Load.model_validate_json(chosen.neo_load)
    own.process = Process(environment, own.target.at(environment.host), load, chosen.neo_started_at,
                          process=max(0, runner.worker_index), processes=chosen.neo_processes)  # type: ignore[attr-defined]
    if own.master is not None:
        own.master.report = own.process.report


def _begin(master: Master, tested: target.Target, chosen: Namespace, runner: Any) -> None:
    """Begin a test. Locust's own options carry to its processes what they must know."""
    load = options.load_of(chosen, runner.target_user_count or chosen.num_users or 1)
    require_ready(tested, unpause=chosen.unpause)
    chosen.neo_load = load.model_dump_json()
    chosen.neo_started_at = time.time() + ARRIVE_IN
    chosen.neo_processes = max(1, runner.worker_count)
    master.begin(tested, load, Thresholds(failure_share=chosen.max_failure_share, run_p95=chosen.max_run_seconds,
                                  connections_left=chosen.max_connections_left),
                 Path(chosen.results), started_at=chosen.neo_started_at, processes=chosen.neo_processes)


def _refuse(environment: Environment, reason: str) -> None:
    """End a test that cannot begin."""
    own.bad_input = reason
    logger.error(reason)
    runner, chosen = environment.runner, environment.parsed_options
    if runner is not None and chosen is not None:
        gevent.spawn(runner.quit if chosen.headless else runner.stop)


def _problem(environment: Environment, form: dict[str, str]) -> str | None:
    """Return what prevents a test from being started with this form; None if nothing does."""
    chosen = environment.parsed_options
    assert chosen is not None
    if problem := options.problem_with(form, chosen):
        return problem
    try:
        require_ready(own.target.at(form.get("host")), unpause=form.get("unpause") == "true")
    except RigError as error:
        return str(error)
    return None


def _no_more(runner: Any) -> None:
    if own.process is not None:
        own.process.no_more()
    if isinstance(runner, MasterRunner):
        runner.send_message(NO_MORE)


@events.test_stopping.add_listener
def _stopping(**_: Any) -> None:
    if own.process is not None:
        own.process.stop("the test was stopped before it had ended")


@events.test_stop.add_listener
def _stop(environment: Environment, **_: Any) -> None:
    if own.master is not None:
        own.master.end()
        own.process = None
        # Locust stops the test when its last worker is gone, and would then wait for somebody to end it.
        chosen, runner = environment.parsed_options, environment.runner
        if own.master.has_lost_some and chosen is not None and chosen.headless and runner is not None:
            gevent.spawn(runner.quit)


@events.report_to_master.add_listener
def _to_master(data: dict[str, Any], **_: Any) -> None:
    if own.process is not None:
        data[REPORT] = own.process.report()


@events.worker_report.add_listener
def _from_worker(client_id: str, data: dict[str, Any], **_: Any) -> None:
    if own.master is not None and REPORT in data:
        own.master.absorb(client_id, data[REPORT])


@events.quitting.add_listener
def _quitting(environment: Environment, **_: Any) -> None:
    """Decide the exit code. Locust calls this listener, the last one, first."""
    if own.master is None:
        return
    chosen = environment.parsed_options
    found = own.master.summary
    if own.bad_input is not None:
        environment.process_exit_code = BAD_INPUT
    elif chosen is None or not chosen.headless:
        environment.process_exit_code = 0
    elif found is None or (found["status"] != "complete" and not found["lost_processes"]):
        environment.process_exit_code = INTERRUPTED
    else:
        environment.process_exit_code = BROKEN if found["broken"] else 0
