"""The command line: ``rig``."""

import json
import logging
import secrets
import shlex
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.table import Table
from typer.exceptions import TyperException

from patterns.facts import DAG_OF_PATTERN, LONGEST_HOLD, MOST_CALLS, MOST_STRESS_RUNS, MOST_TASKS, Executor
from rig import settings as settings_module
from rig.console import console, errors
from rig.errors import BROKEN, INTERRUPTED, BadInput, RigError
from rig.experiment import profiles
from rig.records import EARLIER_RELAYS, Relay, read_run
from rig.settings import Settings
from rig.stack_choice import NATIVE, existing, named

if TYPE_CHECKING:       # what these import takes a second, and most commands need little of it
    from rig.progress_view import ProgressView
    from rig.stack.interface import Stack

HIDDEN = "…"

app = typer.Typer(
    name="rig", no_args_is_help=True, add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False,
    help="How Neo4j connections behave under Airflow, measured on both executors.\n\n"
         "[bold]rig compare[/bold] does everything: it starts real servers, runs the DAGs, writes a report, and stops "
         "the servers. [bold]rig up[/bold] leaves the servers running, so that you can explore them.")


def _of_today(relays: str | None) -> str | None:
    """Return the relays that an option names under their present names, and print each earlier name that was used."""
    names = relays.split(",") if relays else []
    for name in names:
        if name.strip() in EARLIER_RELAYS:
            errors.print(f"The relay {name.strip()} is called {EARLIER_RELAYS[name.strip()]} now.", soft_wrap=True)
    return ",".join(EARLIER_RELAYS.get(name.strip(), name) for name in names) if relays else relays


ExecutorName = Annotated[str, typer.Option("--executor", help="local or celery")]
StackName = Annotated[str, typer.Option("--stack", help="native (processes of this machine) or compose (containers)")]
RelayName = Annotated[str | None, typer.Option(
    "--relay", callback=_of_today, help="What tasks find in NEO4J_WORKER_URI: process (a shared driver for each pool "
                                        "process), shared (one for all), none. \\[default: process on celery, none on "
                                        "local]")]


@app.command()
def up(executor: ExecutorName = "local", relay: RelayName = None,
       slots: Annotated[int | None, typer.Option(help="Tasks that run at once, on either executor. "
                                                      "\\[default: RIG_SLOTS, 16]",
                                                 min=1, max=1000)] = None, on: StackName = NATIVE) -> None:
    """Start the whole stack and leave it running."""
    from rig.stack import asking, lock  # noqa: PLC0415 - importing Celery and the servers' wheels takes a second

    wanted, config = profiles.executors(executor)[0], settings_module.load()
    through = _relay(wanted, relay)
    with lock.hold(config.data_dir, command_line()), _view(config, on) as (stack, _):
        _preflight(config, on)
        stack.up(wanted, slots=slots or config.slots, relay=through)
    _show_status(on, within=asking.WITHIN)


@app.command()
def down(on: StackName = NATIVE) -> None:
    """Stop the stack and remove its data. Results are kept, and so are the volumes of --stack compose."""
    from rig.stack import lock  # noqa: PLC0415 - as above

    config = settings_module.load()
    with lock.hold(config.data_dir, command_line()), _view(config, on) as (stack, _):
        was_there = stack.is_there()
        stack.down()
    console.print("The stack is down." if was_there else "No stack was running.")


@app.command()
def status(as_json: Annotated[bool, typer.Option("--json", help="Print pid, URL and health as JSON.")] = False,
           on: StackName = NATIVE) -> None:
    """Show every service, where it listens, whether it serves, and how to log in."""
    from rig.stack import asking  # noqa: PLC0415 - as above

    _show_status(on, within=asking.time_left(asking.lived()), as_json=as_json)


def _show_status(on: str, *, within: float, as_json: bool = False) -> None:
    """Show every service of a stack; they have ``within`` seconds to answer. Raises Exit if one does not serve."""
    stack = named(settings_module.load(), on)
    state, services = stack.state(), stack.status(within=within)
    if as_json:
        print(json.dumps({"executor": state.executor, "relay": state.relay, "slots": state.slots,
                          "services": {service.name: service.model_dump(exclude={"name"}) for service in services}},
                         indent=2))
    else:
        from rig import stack_status  # noqa: PLC0415 - as above

        stack_status.show(stack.settings, state, services)
    if not all(service.healthy for service in services):
        raise typer.Exit(1)


@app.command()
def restart(services: Annotated[list[str], typer.Argument(help="Names from `rig status`, such as airflow-worker.")],
            ) -> None:
    """Restart services of the running native stack, for example one that died or hangs."""
    from rig.stack import lock  # noqa: PLC0415 - as above

    config = settings_module.load()
    with lock.hold(config.data_dir, command_line()), _view(config, NATIVE) as (stack, _):
        known = stack.state().services
        if unknown := sorted(set(services) - set(known)):
            raise BadInput(f"the stack has no service {', '.join(unknown)}", f"it has {', '.join(known)}")
        stack.restart(services)


@app.command()
def switch(executor: Annotated[str, typer.Argument(help="local or celery")], relay: RelayName = None,
           drain: Annotated[bool, typer.Option("--drain", help="First wait until no DAG run is in progress.")] = False,
           on: StackName = NATIVE) -> None:
    """Change the executor of the running stack. The API server, the history and Neo4j are kept."""
    from rig import switching  # noqa: PLC0415 - as above
    from rig.stack import lock  # noqa: PLC0415 - as above

    wanted, config = profiles.executors(executor)[0], settings_module.load()
    through, started = _relay(wanted, relay), time.monotonic()
    with lock.hold(config.data_dir, command_line()), _view(config, on) as (stack, view):
        switching.switch(stack, wanted, through, drain=drain, tell=view.note)
    console.print(f"Airflow runs on {wanted} now ({time.monotonic() - started:.0f} s).")


@app.command()
def compare(
    profile: Annotated[str, typer.Option(help="; ".join(f"{p.name}: {p.about}" for p in profiles.PROFILES.values()))
                       ] = "default",
    executors: Annotated[str | None, typer.Option(help="One or both of local,celery.")] = None,
    patterns: Annotated[str | None, typer.Option(help=f"One or more of {','.join(DAG_OF_PATTERN)}.")] = None,
    relays: Annotated[str | None, typer.Option(callback=_of_today, help="One or more of none,process,shared, "
                                                                        "for patterns that can use one (worker, hook).")
                      ] = None,
    preload: Annotated[str | None, typer.Option(help="One or both of off,on: whether the worker (or LocalExecutor's "
                                                     "scheduler) imports the modules that tasks need, before it "
                                                     "forks.")] = None,
    tasks: Annotated[int | None, typer.Option(help="Mapped tasks in each DAG run, up to 10000.")] = None,
    calls: Annotated[int | None, typer.Option(help="Database calls in each task.")] = None,
    hold: Annotated[float | None, typer.Option(help="Seconds for which a task holds its driver after its calls.")
                    ] = None,
    repeats: Annotated[int | None, typer.Option(help="DAG runs of each cell.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the shuffled order. \\[default: random, and recorded]")
                    ] = None,
    resume: Annotated[str | None, typer.Option(metavar="RUN", help="Continue a run that was stopped.")] = None,
    tap: Annotated[bool, typer.Option("--tap", help="Count opened connections with a TCP proxy between the tasks and "
                                                    "Neo4j: exact even if others use the server.")] = False,
    on: StackName = NATIVE,
    airflow_url: Annotated[str | None, typer.Option(help="Measure this deployment as it is. --executors must name its "
                                                         "executor, and NEO4J_URI the server of its tasks.")] = None,
    token: Annotated[str | None, typer.Option(envvar="RIG_AIRFLOW_TOKEN", help="Token of that deployment's API. Set "
                                              "the variable instead: other users can read arguments.")] = None,
) -> None:
    """Run the DAGs on both executors, count connections at the server, and write a report.

    Ctrl-C stops the comparison cleanly and still writes a report of the DAG runs so far. --resume continues it.
    """
    from rig import runs  # noqa: PLC0415 - as above

    config = settings_module.load()
    wanted = _changed(profiles.named(profile), executors=executors, patterns=patterns, relays=relays,
                      preload=preload, tasks=tasks, calls=calls, hold=hold, repeats=repeats)
    profiles.cells(wanted)      # reports now if nothing is left
    folder = runs.find(config.data_dir, resume) if resume else None
    if folder:
        tap = _tap_of(folder, asked_for=tap)

    from rig import closing  # noqa: PLC0415 - as above, and who typed something wrong need not wait for it
    from rig import compare as comparing  # noqa: PLC0415 - as above

    if airflow_url is None:
        _preflight(config, on)
    with _view(config, on, tap=tap) as (own, view):
        stack = own if airflow_url is None else existing(config, airflow_url, token, wanted, tap=tap)
        comparison = comparing.Comparison(config, view, stack)
        if folder:
            record = comparison.resume(folder, command_line())
        else:
            order = secrets.randbelow(2**31) if seed is None else seed
            record = comparison.start(comparing.Request(wanted, order, command_line(), tap))
    closing.of_comparison(config, record)


@app.command(name="compare-load")
def compare_load(
    executors: Annotated[str, typer.Option(help="One or both of local,celery.")] = "local,celery",
    patterns: Annotated[str, typer.Option(help="One or more of problematic,improved,hook,worker.")
                        ] = "problematic,improved,worker",
    tasks: Annotated[int, typer.Option(help="Mapped tasks in each DAG run, up to 10000.")] = 10,
    calls: Annotated[int, typer.Option(help="Database calls in each task.")] = 3,
    hold: Annotated[float, typer.Option(help="Seconds for which a task holds its driver after its calls.")] = 0.2,
    rate: Annotated[float, typer.Option(help="The first rate, in DAG runs per second, and the step to the next one.",
                                        min=0.001, max=100)] = 0.1,
    steps: Annotated[int, typer.Option(help="The highest number of rates to try.", min=1, max=100)] = 10,
    step_time: Annotated[float, typer.Option(help="Seconds for which each rate is tried.", min=5, max=3600)] = 45,
    held_time: Annotated[float, typer.Option(help="Seconds for which the highest rate that held is tried again.",
                                             min=5, max=86_400)] = 180,
    repeats: Annotated[int, typer.Option(help="Searches for the knee of each cell; later ones start near it. "
                                              "With 6 or more there is a 95 % interval, with fewer the range.")] = 3,
    saturated_time: Annotated[float, typer.Option(
        help=f"Seconds of a closed loop of {MOST_STRESS_RUNS} DAG runs with each search. 0: no closed loop, and no "
             "test at 80 % of its throughput.")] = 90,
    arrivals: Annotated[str, typer.Option(help="even or poisson: DAG runs come at equal intervals, or at random.")
                        ] = "even",
    seed: Annotated[int | None, typer.Option(help="Seed of the shuffled order and of random arrivals. "
                                                  "\\[default: random, and recorded]")] = None,
    resume: Annotated[str | None, typer.Option(metavar="RUN", help="Continue a run that was stopped.")] = None,
) -> None:
    """Find the rate of DAG runs that holds, for each executor and pattern, and write a report.

    It uses the running stack, or starts one until the comparison ends. Ctrl-C stops it cleanly and still writes a
    report of the tests so far. --resume continues it.
    """
    from rig import runs  # noqa: PLC0415 - as above
    from rig.load import request as asking  # noqa: PLC0415 - as above

    config = settings_module.load()
    request = asking.Request(
        executors=profiles.executors(executors), patterns=asking.patterns(patterns), tasks=tasks, calls=calls,
        hold=hold, step=rate, steps=steps, step_seconds=step_time, held_seconds=held_time,
        repeats=repeats, saturated_seconds=saturated_time, arrivals=asking.arrivals(arrivals),
        seed=secrets.randbelow(2**31) if seed is None else seed, command=command_line())
    asking.require_bounds(request)
    folder = runs.find(config.data_dir, resume) if resume else None

    from rig import closing  # noqa: PLC0415 - as above
    from rig.load import comparison as comparing  # noqa: PLC0415 - as above

    with _view(config, NATIVE) as (stack, view):
        if folder is None:
            _preflight(config, NATIVE)
            folder = comparing.start(config, stack, request, view)
        else:
            comparing.resume(config, stack, folder, command_line(), view)
    closing.of_loads(folder)


@app.command()
def load(
    headless: Annotated[bool, typer.Option("--headless", help="Run one test without the web page. The exit code "
                                                              "is its result.")
                        ] = False,
    rate: Annotated[float | None, typer.Option(help="DAG runs per second. \\[default: 0.2]")] = None,
    seconds: Annotated[float | None, typer.Option("--time", help="Seconds during which DAG runs arrive. "
                                                                 "\\[default: 60]")] = None,
    pattern: Annotated[str | None, typer.Option(help="problematic, improved, worker or hook. \\[default: worker]")
                       ] = None,
    tasks: Annotated[int | None, typer.Option(help="Mapped tasks in each DAG run. \\[default: 5]")] = None,
    calls: Annotated[int | None, typer.Option(help="Queries in each task. \\[default: 3]")] = None,
    hold: Annotated[float | None, typer.Option(help="Seconds for which a task keeps its driver after its queries. "
                                                    "\\[default: 0.2]")] = None,
    shape: Annotated[str | None, typer.Option(help="steady, step, spike, soak or find-the-knee. \\[default: steady]")
                     ] = None,
    step_time: Annotated[float | None, typer.Option(help="Seconds of each step of find-the-knee. \\[default: 45]")
                         ] = None,
    arrivals: Annotated[str | None, typer.Option(help="even or poisson: at equal intervals, or at random. "
                                                      "\\[default: even]")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of random arrivals: the same one gives the same times. "
                                                  "\\[default: 1]", min=0)] = None,
    users: Annotated[int | None, typer.Option(help="Closed loop: this many users, each with one DAG run at a time, "
                                                   "instead of a rate.", min=1)] = None,
    run_limit: Annotated[float | None, typer.Option(help="Seconds after which a DAG run counts as failed. "
                                                         "\\[default: 300]")] = None,
    max_failure_share: Annotated[float | None, typer.Option(
        help="Fail if a larger share of the DAG runs failed, 0 to 1. \\[default: 0]", min=0, max=1)] = None,
    max_run_p95: Annotated[float | None, typer.Option(
        "--max-run-p95", help="Fail if the 95th percentile of the DAG runs' duration is above this, in s.")] = None,
    max_connections_left: Annotated[int | None, typer.Option(help="Fail if, 5 s after the last DAG run, more "
                                                                  "than this many connections are open that were not "
                                                                  "open before.", min=0)] = None,
    executor: Annotated[str | None, typer.Option(help="Executor of a stack started for the test: local or celery. "
                                                      "\\[default: that of the running stack, else local]")] = None,
    relay: Annotated[str | None, typer.Option(callback=_of_today, help="Relay of a stack started for the test: "
                                              "process, shared or none. \\[default: that of the running stack, else "
                                              "process on celery, shared on local]")] = None,
    processes: Annotated[int | None, typer.Option(help="Number of Locust workers.", min=1, max=64)] = None,
    unpause: Annotated[bool, typer.Option("--unpause", help="Unpause the DAG first; it stays unpaused.")] = False,
    port: Annotated[int, typer.Option(help="Port of Locust's web page; --headless opens none.", min=1, max=65535)
                    ] = 8089,
) -> None:
    """Drive the stress DAG with Locust, and watch Neo4j's connections at the same time.

    It uses the running stack, or starts one until the load test ends. Without --headless, Locust's web page starts and
    stops the tests. With it, the exit code says whether the thresholds were kept.
    """
    config = settings_module.load()
    arguments = _flags(
        pattern=pattern, arrival_rate=rate, duration=seconds, tasks=tasks, calls=calls, hold=hold, shape=shape,
        step_time=step_time, run_limit=run_limit, load_model="closed" if users else None, users=users,
        spawn_rate=users, arrivals=arrivals, seed=seed, max_failure_share=max_failure_share,
        max_run_seconds=max_run_p95, max_connections_left=max_connections_left, processes=processes)
    wanted = profiles.executors(executor)[0] if executor else None
    through = profiles.relays(relay)[0] if relay else None

    from rig import closing  # noqa: PLC0415 - as above
    from rig.load import run as loading  # noqa: PLC0415 - as above

    wish = loading.Wish(
        executor=wanted, relay=through, slots=config.slots, headless=headless, port=port, unpause=unpause,
        arguments=arguments, command=command_line())
    with _view(config, NATIVE) as (stack, view):
        if not stack.is_there():
            _preflight(config, NATIVE)
        ended = loading.run(config, stack, wish, view)
    closing.of_load_test(ended, headless=headless)


@app.command(name="env")
def write_env() -> None:
    """Write .env with random secrets, which the compose files require; existing values are kept."""
    from rig import env_file  # noqa: PLC0415 - nothing else needs it

    console.print(env_file.sentence(env_file.complete()))


@app.command()
def dag(name: Annotated[str, typer.Argument(help="The DAG's id, for example `neo4j_stress_test`.")],
        conf: Annotated[str, typer.Option(help="Parameters as JSON, for example '{\"tasks\": 10}'.")] = "{}",
        on: StackName = NATIVE) -> None:
    """Start one DAG run on the running stack and watch it to its end."""
    config, parameters = settings_module.load(), _json_object(conf)

    from rig import one_dag  # noqa: PLC0415 - as above

    with _view(config, on) as (stack, view):
        outcome = one_dag.run(stack, name, parameters, view)
    console.print(outcome.text)
    if not outcome.succeeded:
        raise typer.Exit(1)


@app.command()
def workers(as_json: Annotated[bool, typer.Option("--json", help="Print all reports as JSON.")] = False,
            on: StackName = NATIVE) -> None:
    """Show the shared driver of each pool process, from Flower's API."""
    from rig import workers as inspection  # noqa: PLC0415 - as above

    config = settings_module.load()
    found = inspection.inspect(config, named(config, on).state())
    if as_json:
        print(json.dumps(found, indent=2))
        return
    for table in inspection.tables(found):
        console.print(table)
    for line in inspection.problems(found):
        console.print(line, style="yellow", soft_wrap=True)


@app.command()
def logs(service: Annotated[str, typer.Argument(help="Its name in `rig status`, for example airflow-scheduler.")],
         lines: Annotated[int, typer.Option("--lines", "-n", help="How many lines to print.", min=1)] = 200,
         on: StackName = NATIVE) -> None:
    """Print the end of a service's log."""
    from rig.stack.service import last_lines  # noqa: PLC0415 - as above

    print(last_lines(named(settings_module.load(), on).log_of(service), lines))


@app.command()
def report(run: Annotated[str, typer.Argument(help="A run's id, its folder, or `latest`.")] = "latest") -> None:
    """Make a run's report and summary again from its raw files."""
    from rig import runs  # noqa: PLC0415 - as above

    folder = runs.find(settings_module.load().data_dir, run)

    from rig import report as reporting  # noqa: PLC0415 - as above

    console.print(f"{reporting.write(folder)}", soft_wrap=True)


@app.command(name="runs")
def list_runs() -> None:
    """List the runs in RIG_DATA_DIR. If a run's record cannot be read, one line says why, and the run is left out."""
    from rig import runs as all_runs  # noqa: PLC0415 - as above

    table = Table("run", "profile", "started", "DAG runs", "status", box=None)
    for run in all_runs.listed(settings_module.load().data_dir,
                               lambda line: errors.print(line, style="yellow", soft_wrap=True)):
        table.add_row(run.name, run.kind, time.strftime("%Y-%m-%d %H:%M", time.localtime(run.started_at)),
                      str(run.dag_runs), run.status)
    console.print(table if table.row_count else "There are no runs yet: `rig compare` makes one.")


RunName = Annotated[str, typer.Argument(help="A run's id, its folder, or `latest`.", metavar="RUN")]


@app.command()
def diff(
    before: RunName, after: RunName,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown, for a pull request.")] = False,
) -> None:
    """Compare two runs of `rig compare`, to see whether an upgrade changed anything.

    Exit code 0: nothing clearly differs. 1: something does. 2: the runs cannot be compared.
    """
    from rig import runs  # noqa: PLC0415 - as above

    data_dir = settings_module.load().data_dir
    folders = [runs.find(data_dir, name) for name in (before, after)]

    from rig import metrics  # noqa: PLC0415 - as above
    from rig.report import diff as comparing  # noqa: PLC0415 - as above

    found = comparing.diff(*map(metrics.summarise, folders))
    if markdown:
        print(comparing.markdown(found))
    else:
        console.print(comparing.table(found))
        for line in comparing.remarks(found):
            console.print(line, soft_wrap=True)
    if found.clear:
        raise typer.Exit(BROKEN)


@app.command()
def export(run: RunName = "latest", as_csv: Annotated[bool, typer.Option(
        "--csv", help="A line for each DAG run and metric, instead of the summary as JSON.")] = False) -> None:
    """Compute the figures of a run of `rig compare` from its raw files, and print them for another program.

    docs/summary.schema.json is the schema of the JSON.
    """
    from rig import runs  # noqa: PLC0415 - as above

    folder = runs.find(settings_module.load().data_dir, run)

    from rig import metrics  # noqa: PLC0415 - as above
    from rig.report import export as exporting  # noqa: PLC0415 - as above

    summary = metrics.summarise(folder)
    print(exporting.as_csv(summary) if as_csv else summary.model_dump_json(indent=2), end="" if as_csv else "\n")


@app.command()
def watch(
    uri: Annotated[str | None, typer.Option(help="The Neo4j to watch. \\[default: NEO4J_URI, else that of the running "
                                                 "stack]")] = None,
    user: Annotated[str | None, typer.Option(help="User name. The password is in NEO4J_PASSWORD, or is asked for. "
                                                  "\\[default: NEO4J_USERNAME, neo4j]")] = None,
    every: Annotated[float, typer.Option(help="Seconds between two updates.", min=0.1, max=3600)] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Print one update and exit.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a line of JSON for each update.")] = False,
) -> None:
    """Show the clients with connections open at a Neo4j, by user agent, address and, if known, Airflow task.

    It takes one connection, which it does not count, and works with any Neo4j. Ctrl-C ends it.
    """
    from rig import watching  # noqa: PLC0415 - as above

    config = settings_module.load()
    target = watching.target(config, uri, user, lambda: named(config, NATIVE).state())
    with watching.Watcher(target) as watcher, suppress(*() if once else (KeyboardInterrupt,)):
        watching.show([watcher.look()] if once else watcher.looks(every), as_json=as_json)


@app.command()
def plan(
    workers: Annotated[int, typer.Option(help="Celery workers.")] = 1,
    processes: Annotated[int, typer.Option(help="Pool processes of each worker.")] = 16,
    tasks_per_hour: Annotated[float, typer.Option(help="Tasks that use Neo4j, per hour.")] = 1000,
    at_once: Annotated[int, typer.Option(help="Tasks that become ready at the same moment, as a DAG run's mapped tasks "
                                              "do.")] = 1,
    calls: Annotated[int, typer.Option(help="Database calls in each task.")] = 3,
    hold: Annotated[float, typer.Option(help="Seconds for which a task keeps its driver.")] = 2.0,
    task_seconds: Annotated[float | None, typer.Option(help="Seconds for which a task keeps its process busy. "
                                                            "\\[default: the hold and 1.5 s]")] = None,
    pattern: Annotated[str | None, typer.Option(help="Only this one: problematic, improved, hook or worker. "
                                                     "\\[default: all]")] = None,
    scope: Annotated[str | None, typer.Option(help="Only this scope of the shared driver: process or shared. "
                                                   "\\[default: both]")] = None,
    idle_timeout: Annotated[float, typer.Option(help="WORKER_INIT_IDLE_TIMEOUT: seconds until an unused "
                                                      "connection is closed.")] = 300,
    lifetime: Annotated[float, typer.Option(help="WORKER_INIT_MAX_LIFETIME: seconds until a connection is "
                                                  "replaced.")] = 2700,
    max_size: Annotated[int, typer.Option(help="WORKER_INIT_MAX_SIZE: the most connections of one driver.")] = 100,
    query_ms: Annotated[float, typer.Option(help="Time that one transaction takes at the server, in ms.")] = 5,
    round_trip_ms: Annotated[float, typer.Option(help="Round trip from a worker to Neo4j, in ms.")] = 1,
    tls: Annotated[bool, typer.Option("--tls", help="Workers connect to Neo4j with TLS.")] = False,
    limit: Annotated[int, typer.Option(help="Connections that Neo4j works on at once, its "
                                            "server.bolt.thread_pool_max_size.")] = 400,
    worth: Annotated[float, typer.Option(help="Seconds for which a connection may be idle to save one opening.")] = 60,
    against: Annotated[str | None, typer.Option(metavar="RUN", help="Show this law's error for each cell of a "
                                                "comparison, given by its id, its folder, or `latest`.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Compute what a deployment will do to Neo4j: connections opened, open and idle, and time spent on connecting.

    It starts nothing and connects to no Neo4j. docs/capacity.md explains the law and its limits.
    """
    from rig import capacity  # noqa: PLC0415 - as above

    load = capacity.Load(
        workers=workers, processes=processes, tasks_per_hour=tasks_per_hour, at_once=at_once, calls=calls, hold=hold,
        task_seconds=task_seconds, idle_timeout=idle_timeout, lifetime=lifetime, max_size=max_size,
        query=query_ms / 1000, round_trip=round_trip_ms / 1000, tls=tls, limit=limit, worth=worth)
    found = [capacity.forecast(load, way) for way in capacity.ways(pattern, scope)]
    rows = capacity.errors_of(settings_module.load().data_dir, against, load) if against else None
    if as_json:
        print(json.dumps(capacity.tables.as_json(found, load, rows), indent=2))
        return
    console.print(capacity.tables.forecasts(found, load) if rows is None else capacity.tables.errors(rows))


@app.command()
def doctor() -> None:
    """Check this machine: disk, memory, ports, Python, wheels, downloads. Say how to fix what is wrong."""
    from rig import doctor as examination  # noqa: PLC0415 - as above

    findings = examination.examine(settings_module.load())
    console.print(examination.table(findings))
    if any(finding.remedy for finding in findings):
        raise typer.Exit(1)


def main() -> None:
    """Run the command line; an error is one line and an exit code, never a traceback."""
    signal.signal(signal.SIGTERM, _as_ctrl_c)
    signal.signal(signal.SIGHUP, _as_ctrl_c)
    # Python prints the warnings of a library whose log nobody takes: what matters of them is in our errors.
    logging.getLogger("neo4j").addHandler(logging.NullHandler())
    try:
        _require_name_of_today(sys.argv[1:])
        code = app(standalone_mode=False)
    except RigError as error:
        _fail(str(error), error.exit_code)
    except OSError as error:    # above all a full disk: what was recorded so far is complete, and can be continued
        if error.errno is None:
            raise
        where = f"{error.filename}: " if error.filename else ""
        _fail(f"{where}{error.strerror} — `rig doctor` checks disk space and permissions. What was recorded is kept: "
              "`rig compare --resume` continues it", BROKEN)
    except TyperException as error:     # what was typed is no command of ours
        _fail(_usage(error), error.exit_code)
    if code == INTERRUPTED:     # Typer makes this of a KeyboardInterrupt
        errors.print("rig: stopped", style="yellow", soft_wrap=True)
    sys.exit(code)


def _require_name_of_today(words: list[str]) -> None:
    # Before Typer reads the line: it would only say that there is no option --rate.
    if words[:1] == ["compare"] and "--load" in words:
        raise BadInput("`rig compare --load` is called `rig compare-load` now",
                       "`rig compare-load --help` shows its options")


def _fail(message: str, code: int) -> NoReturn:
    errors.print(f"rig: {message}", style="red", markup=False, highlight=False, soft_wrap=True)
    sys.exit(code)


def _usage(error: TyperException) -> str:
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "rig"
    return f"{' '.join(error.format_message().split())} — `{command} --help` shows the usage"


def command_line() -> str:
    """Return the command as the user could type it again, with no secret in it: it goes into the run's record."""
    words = list(sys.argv[1:])
    for place, word in enumerate(words):
        if place and words[place - 1] == "--token":
            words[place] = HIDDEN
        elif word.startswith("--token="):
            words[place] = f"--token={HIDDEN}"
    return shlex.join(["rig", *words])


def _as_ctrl_c(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@contextmanager
def _view(config: Settings, on: str, *, tap: bool = False) -> Iterator[tuple["Stack", "ProgressView"]]:
    from rig.progress_view import ProgressView  # noqa: PLC0415 - as above

    with ProgressView(console, config.slots) as view:
        yield named(config, on, view.step, tap=tap), view


def _tap_of(folder: Path, *, asked_for: bool) -> bool:
    """Return whether a resumed run counts by a tap, as at its start. Raises BadInput if --tap is only given now."""
    from rig.environment import is_tapped  # noqa: PLC0415 - as above

    began_so = is_tapped(read_run(folder).environment)
    if asked_for and not began_so:
        raise BadInput(f"{folder.name} was started without --tap, and one comparison counts in one way",
                       "resume it without --tap, or start a new one")
    return began_so


def _preflight(config: Settings, on: str) -> None:
    from rig import doctor as examination  # noqa: PLC0415 - as above

    if on == NATIVE:    # containers bring all but the memory with them, and airflow-init looks at that
        examination.require_fit(config)


def _changed(profile: profiles.Profile, *, executors: str | None, patterns: str | None, relays: str | None,
             preload: str | None, **numbers: float | None) -> profiles.Profile:
    limits = {"tasks": MOST_TASKS, "calls": MOST_CALLS, "hold": LONGEST_HOLD, "repeats": profiles.MOST_REPEATS}
    given = {name: value for name, value in numbers.items() if value is not None}
    for name, value in given.items():
        profiles.within(f"--{name}", value, 0 if name == "hold" else 1, limits[name])
    choices: dict[str, tuple[object, ...]] = {}
    if executors is not None:
        choices["executors"] = profiles.executors(executors)
    if patterns is not None:
        choices |= {"patterns": profiles.patterns(patterns), "once": (), "left_out": ()}
    if relays is not None:
        choices["relays"] = choices["hook_relays"] = profiles.relays(relays)
    if preload is not None:
        choices["preloads"] = profiles.preloads(preload)
    return replace(profile, **given, **choices)     # type: ignore[arg-type]


def _relay(executor: Executor, name: str | None) -> Relay:
    if name is None:
        return "process" if executor == "CeleryExecutor" else "none"
    return profiles.relays(name)[0]


def _flags(**values: float | str | None) -> tuple[str, ...]:
    """Return the arguments that were given, as Locust takes them."""
    return tuple(f"--{name.replace('_', '-')}={value}" for name, value in values.items() if value is not None)


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise BadInput(f"--conf is not JSON: {error}", "give an object, as '{\"tasks\": 10}'") from error
    if not isinstance(value, dict):
        raise BadInput("--conf is not a JSON object", "give an object, as '{\"tasks\": 10}'")
    return value


