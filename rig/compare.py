"""The orchestrator of a comparison. It knows the parts, and the parts do not know each other."""

import os
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from patterns.facts import DAG_OF_PATTERN, MONITOR_DAG
from rig import environment, records, report, runs
from rig.airflow_api import AirflowApi
from rig.errors import BadInput, RelayMissing, RigError
from rig.experiment import profiles
from rig.experiment.dag_run import CellRunner, conf_of, leave_idle, until_ended
from rig.experiment.profiles import Profile
from rig.experiment.progress import Progress
from rig.metrics.unsaid import unsaid
from rig.probe import Probe, Server
from rig.records import Cell, DagRunRecord, PlannedRun, RunRecord
from rig.settings import Settings
from rig.stack import lock, neo4j
from rig.stack.borrowing import Needs, Start, borrowed
from rig.stack.interface import Stack
from rig.stack.state import StackState
from worker_init import settings as relay_settings
from worker_init.errors import WorkerInitError

WARM_UP_DAG = DAG_OF_PATTERN["improved"]
FINISHED = ("success", "failed", "hung", "error")       # recorded results; only an interrupted run is repeated


@dataclass(frozen=True)
class Request:
    """What the user asked for: a profile, the seed of its order, and the command line that repeats it.

    With ``tap`` connections opened are counted by a tap, which the stack must have.
    """

    profile: Profile
    seed: int
    command: str
    tap: bool = False


class Comparison:
    """One ``rig compare``: from a machine on which nothing runs to a report, and back."""

    def __init__(self, settings: Settings, progress: Progress, stack: Stack) -> None:
        self._settings = settings
        self._progress = progress
        self._stack = stack
        self._warmed: Cell | None = None        # the cell that the executor ran last since its start

    def start(self, request: Request) -> RunRecord:
        """Run a comparison and write its report. Returns the final record of the run.

        Raises BadInput if nothing could be started, and any RigError of the stack's start. Later errors are in the
        run's record.
        """
        slots = request.profile.slots or self._settings.slots
        planned = profiles.plan(request.profile, request.seed)
        self._require_preload(planned)
        with lock.hold(self._settings.data_dir, request.command), self._stack_for(planned, slots) as state:
            _require_tap(state, wanted=request.tap)
            folder = runs.new_folder(self._settings.data_dir, request.profile.name)
            record = RunRecord(
                run=folder.name, profile=request.profile.name, seed=request.seed, slots=slots,
                repeats=request.profile.repeats, command=request.command, status="running", started_at=time.time(),
                environment=self._environment(state), plan=planned,
                idle_timeout=_idle_timeout())
            return self._go(folder, record, state, planned)

    def resume(self, folder: Path, command: str) -> RunRecord:
        """Run the remaining part of a run that was stopped.

        Raises BadInput if nothing remains, or if another version is installed now than then.
        """
        record = records.read_run(folder)
        done = {line.index for line in records.read(folder / records.DAG_RUNS_FILE, DagRunRecord)
                if line.state in FINISHED}
        left = [planned for planned in record.plan if planned.index not in done]
        if not left:
            raise BadInput(f"{record.run} is complete: all of its {len(done)} DAG runs are done",
                           "`rig report` makes its report again")
        self._require_preload(left)
        with lock.hold(self._settings.data_dir, command), self._stack_for(left, record.slots) as state:
            _require_tap(state, wanted=environment.is_tapped(record.environment))
            _require_same_versions(record, self._environment(state))
            runs.keep_only(folder, done)
            return self._go(folder, record, state, left)

    # --- parts ---------------------------------------------------------------------------------

    def _require_preload(self, todo: Sequence[PlannedRun]) -> None:
        for executor in dict.fromkeys(planned.cell.executor for planned in todo if planned.cell.preload):
            self._stack.require_preload(executor)

    def _stack_for(self, todo: Sequence[PlannedRun], slots: int) -> AbstractContextManager[StackState]:
        needed = {WARM_UP_DAG, *(DAG_OF_PATTERN[planned.cell.pattern] for planned in todo)}
        first = todo[0].cell
        return borrowed(self._stack, Start(first.executor, "none", slots), Needs(needed, slots=slots))

    def _go(self, folder: Path, record: RunRecord, state: StackState, todo: list[PlannedRun]) -> RunRecord:
        record = record.model_copy(update={"status": "running", "reason": None})
        records.write_run(folder, record)
        self._progress.planned(todo)
        for sentence in unsaid(record.plan):
            self._progress.note(sentence)
        try:
            self._run_all(folder, state, todo, profiles.named(record.profile).observe)
            record = _ended(record, "complete", None)
        except KeyboardInterrupt:
            record = _ended(record, "interrupted", "stopped by the user")
        except RigError as error:
            record = _ended(record, "failed", str(error))
        finally:
            records.write_run(folder, record)
            report.write(folder)
        return record

    def _run_all(self, folder: Path, state: StackState, todo: list[PlannedRun], observe: float) -> None:
        server = Server(state.neo4j_uri, state.neo4j_username, state.secrets.neo4j, alone=state.own_neo4j)
        probe = Probe(server, self._settings.sample_interval)
        try:
            if reason := probe.can_list():
                self._progress.note(f"connections cannot be listed with this user, their figures will be missing: "
                                    f"{reason}")
            with self._stack.api(state) as api, api.paused(MONITOR_DAG, True):
                runner = CellRunner(self._stack, api, probe, folder, self._progress, observe=observe,
                                    tap=state.tap.opened if state.tap else None)
                try:
                    self._warm_up(api, state.slots)
                    for planned in todo:
                        self._run_one(runner, api, planned)
                except KeyboardInterrupt:
                    if state.keeper is None:    # else the stack goes down, and with it everything that runs
                        leave_idle(api, self._progress.note)
                    raise
        finally:
            probe.close()

    def _warm_up(self, api: AirflowApi, slots: int) -> None:
        """Run some tasks that count for no figure: they fill caches that all later tasks use."""
        self._uncounted(api, WARM_UP_DAG, {"tasks": slots, "calls": 1, "hold": 0})

    def _uncounted(self, api: AirflowApi, dag_id: str, conf: dict[str, Any]) -> None:
        self._progress.note("warming up: one DAG run that is not counted")
        try:
            with api.paused(dag_id, False):
                run_id = api.trigger(dag_id, conf)
                until_ended(self._stack, api, dag_id, run_id, lambda _: None, note=self._progress.note)
        except RigError as error:
            self._progress.note(f"warming up failed: {error}")
            self._recover(api)

    def _run_one(self, runner: CellRunner, api: AirflowApi, planned: PlannedRun) -> None:
        try:
            self._prepare(api, planned.cell)
        except RelayMissing as error:
            self._warmed = None
            runner.refuse(planned, str(error))
            return
        self._progress.started(planned)
        record = runner.run(planned)
        self._warmed = planned.cell if record.state == "success" else None
        if record.state in {"hung", "error"}:
            self._recover(api)

    def _prepare(self, api: AirflowApi, cell: Cell) -> None:
        """Put the executor into the state that the cell needs: just started, or warm from the same cell's cold run."""
        cold = cell.model_copy(update={"warm": False})
        if cell.warm and self._warmed == cold:
            return
        # Even if the executor stays the same: every cold DAG run is the first of its scheduler and its worker.
        self._stack.switch(cell.executor, cell.relay, exhibit=cell.pattern == records.EXHIBIT,
                           preload=cell.preload)
        if cell.warm:       # its cold run was in another session, or failed
            self._uncounted(api, DAG_OF_PATTERN[cell.pattern], conf_of(cold))

    def _recover(self, api: AirflowApi) -> None:
        """Prepare the stack for the next cell: start dead services again, and end DAG runs that hang."""
        dead = self._stack.dead()
        self._progress.note(f"starting again: {', '.join(dead) or 'the executor'}")
        self._stack.restart(dead)
        leave_idle(api, self._progress.note)
        self._warmed = None
        state = self._stack.state()
        self._stack.switch(state.executor, state.relay, preload=state.preload)

    def _environment(self, state: StackState) -> dict[str, Any]:
        return environment.describe(self._server_version(state), self._stack.versions(), own_neo4j=state.own_neo4j,
                                    tapped=state.tap is not None)

    def _server_version(self, state: StackState) -> str:
        return neo4j.require(state.neo4j_uri, state.neo4j_username, state.secrets.neo4j.get_secret_value(),
                             state.neo4j_database)


def _require_tap(state: StackState, *, wanted: bool) -> None:
    if wanted and state.tap is None:
        raise BadInput("--tap needs a stack that the comparison starts itself: the tasks of the one that is up connect "
                       "to the server past the tap", "`rig down`, then try again")


def _ended(record: RunRecord, status: str, reason: str | None) -> RunRecord:
    return record.model_copy(update={"status": status, "reason": reason, "ended_at": time.time()})


def _idle_timeout() -> float | None:
    """Return how long a shared driver keeps an idle connection, in seconds; None if a setting of worker_init is wrong.

    Cells with shared drivers then fail by themselves, with the reason; the cells of other patterns do not need it.
    """
    try:
        return relay_settings.Settings.from_environment(os.environ).idle_timeout
    except WorkerInitError:
        return None


def _require_same_versions(record: RunRecord, now: dict[str, dict[str, str]]) -> None:
    then = record.environment.get("versions", {})
    changed = [f"{name} {then.get(name)} → {version}" for name, version in now["versions"].items()
               if then.get(name) != version]
    if changed:
        raise BadInput(f"{record.run} was started with other versions ({', '.join(changed)})",
                       "start a new run: one comparison needs the same versions throughout")
