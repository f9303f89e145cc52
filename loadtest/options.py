"""The options of a user: command line arguments, which are also in Locust's form, and the limits of their values.

No argument has a digit in its name, and none is in a group: Locust's form would drop it.
"""

import sys
import uuid
from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from patterns.facts import LONGEST_HOLD, MOST_CALLS, MOST_TASKS
from patterns.registry import PATTERNS
from rig.errors import BAD_INPUT, BadInput
from rig.experiment.profiles import within
from rig.load import schedule
from rig.load.records import Load

OPEN, CLOSED = "open", "closed"
MODELS = (OPEN, CLOSED)
CHOICES = {"pattern": tuple(name for name in PATTERNS if name != "inherited"), "shape": schedule.SHAPES,
           "load_model": MODELS, "arrivals": schedule.ARRIVALS}
# Name: lowest, highest value.
BOUNDS: dict[str, tuple[float, float]] = {
    "tasks": (1, MOST_TASKS), "calls": (1, MOST_CALLS), "hold": (0, LONGEST_HOLD), "first_rate": (0, 1000),
    "arrival_rate": (schedule.LOWEST_RATE, 1000), "duration": (1, 86_400), "step_time": (5, 3600),
    "run_limit": (5, 86_400),
    "seed": (0, schedule.HIGHEST_SEED)}
MOST_ARRIVALS = 100_000


def add(parser: Any) -> None:
    """Add the arguments to Locust's parser. Called again for each display of the form."""
    number: dict[str, Any]
    parser.add_argument("--pattern", choices=CHOICES["pattern"], default="worker",
                        help="how a task gets its Neo4j driver")
    parser.add_argument("--shape", choices=CHOICES["shape"], default=schedule.STEADY,
                        help="how the arrival rate changes: steady, up in 4 steps, 3 times as high in the middle, "
                             "steady for long, or up until it no longer holds")
    parser.add_argument("--load-model", choices=MODELS, default=OPEN,
                        help="open: DAG runs arrive at the rate, whether earlier ones have ended or not; closed: each "
                             "user starts one when its last one has ended")
    parser.add_argument("--arrivals", choices=CHOICES["arrivals"], default=schedule.EVEN,
                        help="even: DAG runs arrive at equal intervals; poisson: at random, as from many independent "
                             "users (open model)")
    for flag, number in {
            "--arrival-rate": {"type": float, "default": 0.2, "help": "DAG runs per second, of the open model"},
            "--first-rate": {"type": float, "default": 0.0,
                             "help": "DAG runs per second of the first step of find-the-knee; 0: the arrival rate"},
            "--duration": {"type": float, "default": 60.0, "help": "seconds in which DAG runs arrive"},
            "--tasks": {"type": int, "default": 5, "help": "mapped tasks in each DAG run"},
            "--calls": {"type": int, "default": 3, "help": "queries in each task"},
            "--hold": {"type": float, "default": 0.2, "help": "seconds for which a task keeps its driver"},
            "--step-time": {"type": float, "default": 45.0, "help": "seconds of each step of find-the-knee"},
            "--seed": {"type": int, "default": 1, "help": "seed of random arrivals: the same one gives the same times"},
            "--run-limit": {"type": float, "default": 300.0, "help": "seconds after which a DAG run counts as failed"},
    }.items():
        parser.add_argument(flag, **number)
    parser.add_argument("--unpause", action="store_true", default=False,
                        help="unpause neo4j_stress_test first; it stays unpaused")
    hidden: dict[str, Any] = {"include_in_web_ui": False}
    parser.add_argument("--max-failure-share", type=float, default=0.0,
                        help="limit of the share of failed DAG runs, 0 to 1", **hidden)
    parser.add_argument("--max-run-seconds", type=float, default=None,
                        help="limit of the 95th percentile of the DAG runs' duration, in seconds", **hidden)
    parser.add_argument("--max-connections-left", type=int, default=None,
                        help="limit of connections that are open 5 s after the last DAG run and were not before",
                        **hidden)
    parser.add_argument("--results", default="results", help="folder in which each test leaves a folder", **hidden)


def load_of(options: Namespace, users: int) -> Load:
    """Return what is asked for, under a new tag. Raises BadInput, one line that names the argument."""
    values = vars(options)
    for name, known in CHOICES.items():
        if values[name] not in known:
            raise BadInput(f"{_flag(name)} is {values[name]!r}", f"choose one of {', '.join(known)}")
    for name, (least, most) in BOUNDS.items():
        within(_flag(name), values[name], least, most)
    load = Load(
        tag=f"load-{uuid.uuid4().hex[:8]}", pattern=values["pattern"], tasks=values["tasks"], calls=values["calls"],
        hold=values["hold"], shape=values["shape"], rate=values["arrival_rate"], seconds=values["duration"],
        step_seconds=values["step_time"], first_rate=values["first_rate"] or None, run_limit=values["run_limit"],
        users=max(1, users) if values["load_model"] == CLOSED else None,
        seed=values["seed"] if values["arrivals"] == schedule.POISSON else None)
    _require_sense(load)
    return load


def conf_of(load: Load) -> dict[str, Any]:
    """Return the parameters of one DAG run."""
    return {"patterns": [load.pattern], "tasks": load.tasks, "calls": load.calls, "hold": load.hold}


def problem_with(form: Mapping[str, str], options: Namespace) -> str | None:
    """Return in one line what is wrong with a form that was sent; None if nothing is.

    Locust itself accepts any text for a choice, and answers 500 to a number that is not one.
    """
    changed = dict(vars(options))
    for name in [*CHOICES, *BOUNDS]:
        if name in form:
            try:
                changed[name] = form[name] if name in CHOICES else type(changed[name])(form[name])
            except ValueError:
                return f"{_flag(name)} is {form[name]!r}: give a number"
    try:
        load_of(Namespace(**changed), users=1)
    except BadInput as error:
        return str(error)
    return None


def main(arguments: list[str]) -> int:
    """Check the arguments of a test before anything is started for it. Returns 2, after one line, if one is wrong.

    Only what needs no deployment is checked. This is a separate program, since Locust patches the standard library on
    import.
    """
    from locust.argument_parser import get_parser  # noqa: PLC0415 - the locustfile has it already

    parser = get_parser(default_config_files=[])
    add(parser)
    chosen = parser.parse_args(arguments)
    try:
        load_of(chosen, chosen.num_users or 1)
    except BadInput as error:
        print(error, file=sys.stderr)
        return BAD_INPUT
    return 0


def _require_sense(load: Load) -> None:
    if load.users is not None and load.shape not in {schedule.STEADY, schedule.SOAK}:
        raise BadInput(f"--shape is {load.shape}, and the closed load model has no arrival rate that could change",
                       "use --shape steady, or the open load model (`rig load` without --users)")
    if load.users is not None and load.seed is not None:
        raise BadInput("--arrivals is poisson, and users of the closed model have no arrivals",
                       "leave out --arrivals, or the users")
    if load.shape == schedule.KNEE and load.seconds < load.step_seconds:
        raise BadInput(f"--duration is {load.seconds:g} s and a step of find-the-knee takes {load.step_seconds:g} s",
                       "make --duration long enough for several steps")
    if sum(stage.seconds * stage.rate for stage in schedule.stages_of(load)) > MOST_ARRIVALS:
        raise BadInput(f"that is more than {MOST_ARRIVALS} DAG runs", "lower --arrival-rate or --duration")


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
