"""One DAG run of a cell: started, watched with a time limit, counted at the server, and recorded."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

from tenacity import RetryCallState, Retrying, stop_after_delay, wait_fixed
from tenacity.retry import retry_if_exception, retry_if_result

from patterns.facts import DAG_OF_PATTERN, QUERY_TASK, STRESS_DAG
from rig import records
from rig.airflow_api import ACTIVE, AirflowApi, ApiError
from rig.clock import ClockWatch
from rig.errors import Hung, RigError, ServiceDied, WorkerNotServing
from rig.experiment.profiles import is_nameless
from rig.experiment.progress import Progress
from rig.probe import Probe, Window, machine
from rig.records import EXHIBIT, Cell, DagRunRecord, MachineShare, PlannedRun, TaskRecord
from rig.stack.interface import Stack

EXHIBIT_SECONDS = 120.0     # if it hangs, that is a result: it need not be waited for as long as an accident
POLL_EVERY = 1.0        # seconds; each poll is load on the API server, which the tasks use too
STANDSTILL = 20.0       # seconds in which no task starts or ends, before the worker is asked whether it takes any
UNANSWERED = 120.0      # seconds for which Airflow's API is asked again if it does not answer: DAG runs go on meanwhile

Answer = TypeVar("Answer")
Note = Callable[[str], None]    # what is told to the user
State = Literal["success", "failed", "hung", "error", "interrupted"]
ENDED: tuple[State, ...] = ("success", "failed")    # by itself


class CellRunner:
    """Runs the cells of one comparison, one after the other, on a running stack.

    ``tap`` returns how many connections the stack's tap has passed on so far; None if the stack has no tap.
    """

    def __init__(self, stack: Stack, api: AirflowApi, probe: Probe, folder: Path, progress: Progress, *,
                 observe: float, tap: Callable[[], int] | None = None) -> None:
        self._stack = stack
        self._tap = tap
        self._observe = observe
        self._api = api
        self._probe = probe
        self._folder = folder
        self._progress = progress

    def run(self, planned: PlannedRun) -> DagRunRecord:
        """Run one cell and write its raw files. A failure is recorded, not raised.

        Raises KeyboardInterrupt if the user has stopped it, after writing the record.
        """
        attempt = _Attempt(planned)
        try:
            cell = planned.cell
            nameless = is_nameless(cell.pattern, cell.relay)
            with self._probe.window(planned.index, self._progress.sample, nameless=nameless) as window, \
                    self._tapped(attempt):
                attempt.window = window
                self._watched(attempt)
                window.wait_until_closed(self._observe, since=time.time())
                self._stack.require_alive()     # the connections of a tap or a worker would have ended with it
        except KeyboardInterrupt:
            attempt.end("interrupted", "stopped by the user")
            raise
        except Hung as error:
            attempt.end("hung", str(error))
        except ServiceDied as error:
            attempt.tapped = None       # it may be the tap that died: the count of the ids or of the samples stands
            attempt.end("error", str(error))
        except RigError as error:
            attempt.end("error", str(error))
        finally:
            record = self._write(attempt)
        return record

    def refuse(self, planned: PlannedRun, reason: str) -> DagRunRecord:
        """Record that a cell could not be run as planned."""
        attempt = _Attempt(planned)
        attempt.end("error", reason)
        return self._write(attempt)

    @contextmanager
    def _tapped(self, attempt: "_Attempt") -> Iterator[None]:
        """Let the tap, where there is one, count what is opened in the block.

        If it cannot be read afterwards, the attempt is spoilt; what ended the block is raised all the same.
        """
        before = self._tap() if self._tap else 0
        try:
            yield
        finally:
            try:
                attempt.tapped = self._tap() - before if self._tap else None
            except RigError as error:
                attempt.spoil(str(error))

    def _watched(self, attempt: "_Attempt") -> None:
        dag_id, before = attempt.dag_id, self._machine()
        with self._api.paused(dag_id, False):
            attempt.run_id = self._api.trigger(dag_id, conf_of(attempt.planned.cell))
            state = until_ended(self._stack, self._api, dag_id, attempt.run_id, self._tell, note=self._progress.note,
                                limit=EXHIBIT_SECONDS if attempt.planned.cell.pattern == EXHIBIT else None)
        attempt.machine = machine.between(before, self._machine())
        attempt.end("success" if state == "success" else "failed",
                    None if state == "success" else "tasks failed: see tasks.jsonl and their logs in Airflow")

    def _machine(self) -> machine.Look:
        services = self._stack.state().services
        return machine.look({name: service.process.pid for name, service in services.items()})

    def _tell(self, counts: dict[str, int]) -> None:
        # Without the task that plans the others: it ends before them.
        self._progress.tasks(counts["running"], max(0, counts["success"] + counts["failed"] - 1))

    def _write(self, attempt: "_Attempt") -> DagRunRecord:
        window, planned = attempt.window, attempt.planned
        tasks = self._tasks(attempt)
        record = attempt.record()
        records.append(self._folder / records.TASKS_FILE, tasks)
        records.append(self._folder / records.SAMPLES_FILE, window.samples)
        records.append(self._folder / records.CONNECTIONS_FILE, window.connections.values())
        # Last: a run without this line was never finished.
        records.append(self._folder / records.DAG_RUNS_FILE, [record])
        self._progress.ended(planned, record)
        return record

    def _tasks(self, attempt: "_Attempt") -> list[TaskRecord]:
        """Return the tasks' rows. A row that is no longer available has the reason instead."""
        if attempt.run_id is None:
            return []
        run_id = attempt.run_id
        try:
            return asked_again(lambda: task_records(self._api, attempt.planned, attempt.dag_id, run_id),
                               self._progress.note,
                               # What else has ended it may be an API that does not answer: that was waited for already.
                               UNANSWERED if attempt.state in ENDED else 0.0)
        except RigError as error:
            attempt.add_reason(f"its tasks could not be read: {error}")
            return []


class _Attempt:
    """A DAG run in progress, and how far it came."""

    def __init__(self, planned: PlannedRun) -> None:
        self.planned = planned
        self.dag_id = DAG_OF_PATTERN[planned.cell.pattern]
        self.window = Window(planned.index)
        self.run_id: str | None = None
        self.machine: MachineShare | None = None
        self.tapped: int | None = None      # connections that a tap has passed on
        self._started_at = time.time()
        self._clock = ClockWatch()
        self.state: State = "error"
        self._reason: str | None = "it was not started"
        self._more: list[str] = []          # further reasons, which stay however it ends

    def end(self, state: State, reason: str | None) -> None:
        self.state, self._reason = state, reason

    def spoil(self, reason: str) -> None:
        """Note a reason for which even a DAG run that has succeeded is no measurement."""
        if self.state == "success":
            self.state = "error"
        self.add_reason(reason)

    def add_reason(self, reason: str) -> None:
        self._more.append(reason)

    def record(self) -> DagRunRecord:
        opened = self.window.opened if self.tapped is None else self.window.opened.tapped(self.tapped)
        return DagRunRecord(
            index=self.planned.index, dag_id=self.dag_id, dag_run_id=self.run_id, state=self.state,
            reason="; ".join(filter(None, [self._reason, *self._more])) or None,
            started_at=self._started_at, ended_at=time.time(), first_id=opened.first_id,
            last_id=opened.last_id, opened=opened.count, opened_exact=opened.exact, opened_reason=opened.reason,
            counted_by=opened.by, ids_opened=opened.by_ids, sampler_reason=self.window.trouble,
            probe=self.window.share, machine=self.machine,
            others=len(self.window.others) if self.window.samples else None,
            clock_step=self._clock.step())


def until_ended(stack: Stack, api: AirflowApi, dag_id: str, run_id: str,
                tell: Callable[[dict[str, int]], None], *, note: Note, limit: float | None = None,
                began: float | None = None) -> str:
    """Watch a DAG run and return its final state. ``tell`` is called with the number of tasks in each state.

    Raises Hung after RIG_RUN_TIMEOUT seconds, or ``limit`` seconds if that is less, counted from ``began`` on the
    monotonic clock if it was watched before; ServiceDied if a service has ended by itself; WorkerNotServing if nothing
    happens because the Celery worker takes no tasks; ApiError if Airflow's API has not answered for UNANSWERED seconds.
    """
    standstill = Standstill(STANDSTILL)
    limit = min(stack.settings.run_timeout, limit or stack.settings.run_timeout)
    until = (time.monotonic() if began is None else began) + limit

    def state() -> str:
        stack.require_alive()
        counts = api.task_counts(dag_id, run_id)
        tell(counts)
        if standstill.lasts(counts) and (problem := stack.worker_problem(tasks_run=lambda: api.running_tasks() > 0)):
            raise WorkerNotServing(f"no task has started or ended for {STANDSTILL:g} s: the Celery worker does not "
                                   f"serve: {problem}", "`rig restart airflow-worker` starts it again")
        return api.run_state(dag_id, run_id)

    last = Retrying(retry=retry_if_result(lambda value: value in ACTIVE and time.monotonic() < until),
                    wait=wait_fixed(POLL_EVERY))(lambda: asked_again(state, note, until - time.monotonic()))
    if last in ACTIVE:
        raise Hung(f"{dag_id} had not ended after {limit:g} s (it was {last})",
                   "its page in Airflow shows which task waits; a higher RIG_RUN_TIMEOUT gives it more time")
    return last


def asked_again(question: Callable[[], Answer], note: Note, limit: float = UNANSWERED) -> Answer:
    """Return what Airflow's API answers. Where it gives no answer, ask again, for ``limit`` or UNANSWERED seconds.

    ``note`` is told once that it is asked again.
    """
    began, limit = time.monotonic(), min(limit, UNANSWERED)

    def tell_once(state: RetryCallState) -> None:
        if state.attempt_number == 1 and state.outcome:
            note(f"{state.outcome.exception()}: it is asked again for up to {limit:.0f} s")

    try:
        return Retrying(retry=retry_if_exception(_is_unanswered), stop=stop_after_delay(limit),
                        wait=wait_fixed(POLL_EVERY), before_sleep=tell_once, reraise=True)(question)
    except ApiError as error:
        if error.is_answer:
            raise
        raise ApiError(f"{error.what}; it has not answered for {time.monotonic() - began:.0f} s", None,
                       "its DAG runs may go on: Airflow's page shows them") from error


def _is_unanswered(error: BaseException) -> bool:
    return isinstance(error, ApiError) and not error.is_answer


class Standstill:
    """Notices that no task of a DAG run has started or ended for so many seconds."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._counts: dict[str, int] | None = None
        self._since = time.monotonic()

    def lasts(self, counts: dict[str, int] | None) -> bool:
        """Note how many tasks are in each state now. Return True once for each such time in which nothing changed."""
        now = time.monotonic()
        if counts == self._counts and now - self._since <= self._seconds:
            return False
        has_lasted = counts == self._counts
        self._counts, self._since = counts, now
        return has_lasted


def conf_of(cell: Cell) -> dict[str, Any]:
    """Return the parameters for a DAG run that does what the cell asks for."""
    conf = {"tasks": cell.tasks, "calls": cell.calls, "hold": cell.hold, "driver": cell.driver}
    return conf | ({"patterns": [cell.pattern]} if DAG_OF_PATTERN[cell.pattern] == STRESS_DAG else {})


def task_records(api: AirflowApi, planned: PlannedRun, dag_id: str, run_id: str) -> list[TaskRecord]:
    """Return a record for every mapped task of a run, with the row that the task returned."""
    tasks = [task for task in api.task_instances(dag_id, run_id, QUERY_TASK) if task["map_index"] >= 0]
    rows = api.returned(dag_id, run_id, QUERY_TASK, [task["map_index"] for task in tasks])
    return [_task_record(planned.index, task, row) for task, row in zip(tasks, rows, strict=True)]


def _task_record(index: int, task: dict[str, Any], row: Any) -> TaskRecord:
    problem = (records.problem_with_row(row) if isinstance(row, dict)
               else f"the task returned no row (it is {task['state'] or 'not started'})")
    return TaskRecord(
        index=index, map_index=task["map_index"], state=task["state"], try_number=task["try_number"],
        hostname=task["hostname"], scheduled_at=AirflowApi.seconds(task.get("scheduled_when")),
        queued_at=AirflowApi.seconds(task["queued_when"]),
        started_at=AirflowApi.seconds(task["start_date"]), ended_at=AirflowApi.seconds(task["end_date"]),
        row=None if problem else row, reason=problem)


def until_idle(api: AirflowApi, limit: float, note: Note) -> list[str]:
    """Wait until no DAG run is queued or running; return those that still are after ``limit`` seconds."""
    until = time.monotonic() + limit
    return Retrying(retry=retry_if_result(bool), stop=stop_after_delay(limit), wait=wait_fixed(POLL_EVERY),
                    retry_error_callback=lambda state: state.outcome and state.outcome.result())(
                        lambda: asked_again(api.active_runs, note, until - time.monotonic())) or []


def leave_idle(api: AirflowApi, note: Note) -> None:
    """End all DAG runs that are queued or running. Raises RigError if one is still active after another minute."""
    for run in asked_again(api.active_runs, note):
        asked_again(partial(api.fail_run, *run.split("/", 1)), note)
    if still := until_idle(api, 60, note):
        raise RigError(f"these DAG runs cannot be stopped: {', '.join(still)}", "`rig down` stops them")
