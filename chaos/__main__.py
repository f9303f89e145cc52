"""Cause faults during DAG runs, and print a table of what was tried, how often, and how often everything held.

    python -m chaos --short            about ten minutes: what the nightly workflow runs
    python -m chaos                    every fault on each executor, then 100 random combinations: several hours
    python -m chaos --bugs             deliberate bugs, which the suite must find
    python -m chaos --survival 10      Ctrl-C, kill -9 and a full disk for `rig compare`, at 10 random moments each

It starts its own stack in its own folder, and stops it at the end, even after Ctrl-C. The exit code is 0 if
everything held, 1 if something did not, 130 after Ctrl-C.
"""

import argparse
import os
import random
import secrets
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from chaos import proxy, survival, table
from chaos.faults import Fault, all_faults, for_the_short_form
from chaos.ground import BUG, Ground, ground
from chaos.trial import Outcome, Plan, run
from patterns.facts import EXECUTORS, Executor
from rig.errors import BROKEN, INTERRUPTED, BadInput, RigError
from rig.progress_view import end
from rig.settings import Settings
from rig.stack.airflow import WORKER
from worker_init.arguments import real, whole

ATTEMPTS = 3        # of a trial whose fault hit nothing
PATTERNS = ("worker", "improved", "hook", "problematic")
# Each bug, with the fault that reveals it.
BUGS = {"lease kept": Fault("calm", explains=0), "RESET skipped": Fault("calm", explains=0),
        "token check removed": Fault("calm", explains=0), "write repeated": Fault("calm", explains=0),
        "host not restarted": Fault("kill -9", "driver host")}


def main() -> int:
    """Run the trials that the options ask for; return the exit code."""
    options = _options()
    if options.table:
        return _print_table(options.table)
    _let_ctrl_c_through()
    proxy.prove()
    say(f"seed {options.seed}")
    found: list[tuple[str, Outcome]] = []
    code = 0
    try:
        if options.survival:
            return survival.run(options.survival, options.seed, options.only, options.out, say)
        with tempfile.TemporaryDirectory(prefix="chaos-") as name:
            folder = Path(name)
            folder.chmod(0o755)
            with ground(folder / "ground", options.slots, say) as made:
                for trial in _bugs(made, options) if options.bugs else _trials(made, options):
                    found.append(trial)     # one by one, so that after Ctrl-C there are those that were tried
                    _write(options, found)
    except KeyboardInterrupt:
        code = INTERRUPTED
    except RigError as error:
        say(f"chaos: {error}")
        code = error.exit_code
    if found:
        outcomes = [outcome for _, outcome in found]
        print(table.of_bugs(found) if options.bugs else table.of_trials(outcomes))
        say(f"written: {_write(options, found)}")
    return code or _judged([outcome for _, outcome in found], bugs=options.bugs)


def _print_table(files: Sequence[Path]) -> int:
    try:
        print(table.of_trials(table.read(files)))
    except BadInput as error:
        say(f"chaos: {error}")
        return error.exit_code
    return 0


def _write(options: argparse.Namespace, found: Sequence[tuple[str, Outcome]]) -> Path:
    trials = [{"name": name, **asdict(outcome)} for name, outcome in found]
    return table.write(options.out, {"seed": options.seed, "trials": trials})


def _let_ctrl_c_through() -> None:
    # A shell makes background jobs ignore SIGINT, and every command that must be stopped by it would inherit that.
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _judged(outcomes: Sequence[Outcome], *, bugs: bool) -> int:
    if bugs:
        return BROKEN if not all(outcome.broken for outcome in outcomes) else 0
    if never := table.never_hit(outcomes):
        say(f"chaos: struck nothing in any trial: {', '.join(never)}")
    return BROKEN if never or any(outcome.broken for outcome in outcomes) else 0


def _trials(made: Ground, options: argparse.Namespace) -> Iterator[tuple[str, Outcome]]:
    plans = list(_plans(options))
    if options.skip >= len(plans):
        raise BadInput(f"--skip {options.skip} leaves nothing of {len(plans)} trials", "give a smaller number")
    made.up(plans[0].executor, plans[0].relay)
    began = time.monotonic()
    for number, plan in enumerate(plans[options.skip:], options.skip + 1):
        for _ in range(ATTEMPTS):
            outcome = run(made, plan)
            say(f"{number}/{len(plans)} {plan}: {_in_words(outcome)} ({outcome.seconds:.0f} s; all will have ended at "
                f"about {end(began, number - options.skip, len(plans) - options.skip)})")
            yield str(plan), outcome
            if outcome.landed or outcome.broken:
                break


def _in_words(outcome: Outcome) -> str:
    if outcome.broken:
        return "; ".join(f"NOT {what}: {why}" for what, why in outcome.broken.items())
    what = "; ".join([*outcome.hit, *(f"{name} was started again" for name in outcome.started_again)])
    return f"held, {what}" if outcome.landed else f"MISSED, {'; '.join(outcome.missed)}"


def _bugs(made: Ground, options: argparse.Namespace) -> Iterator[tuple[str, Outcome]]:
    made.up("CeleryExecutor", "process")
    for bug, fault in BUGS.items():
        if options.only and options.only not in bug:
            continue
        os.environ[BUG] = bug
        made.stack.restart([WORKER])
        plan = Plan("CeleryExecutor", "worker", (fault,), options.tasks, options.hold, options.seconds, options.limit,
                    options.seed)
        outcome = run(made, plan)
        what = "; ".join(f"{name}: {why}" for name, why in outcome.broken.items())
        say(f"{bug}: {f'found, {what}' if what else 'NOT found'} ({outcome.seconds:.0f} s)")
        yield bug, outcome


def _plans(options: argparse.Namespace) -> Iterator[Plan]:
    chance = random.Random(options.seed)       # noqa: S311 - a recorded order, no secret
    faults = [fault for fault in all_faults() if not fault.refusal]
    singles: Sequence[tuple[Executor, Fault]] = for_the_short_form() if options.short else [
        (executor, fault) for executor in EXECUTORS for fault in all_faults()]
    for executor, fault in singles:
        if options.only and options.only not in str(fault):
            continue
        if fault.refusal:
            say(f"{fault} on {executor} is left out: {fault.refusal}")
            continue
        for pattern in options.patterns:
            if fault.fits(executor, pattern):
                yield _plan(options, executor, pattern, (fault,), chance)
    for _ in range(options.random):
        executor, pattern = chance.choice(EXECUTORS), chance.choice(PATTERNS)
        pair = tuple(chance.sample([fault for fault in faults if fault.fits(executor, pattern)], 2))
        yield _plan(options, executor, pattern, pair, chance)


def _plan(options: argparse.Namespace, executor: Executor, pattern: str, faults: tuple[Fault, ...],
          chance: random.Random) -> Plan:
    return Plan(executor, pattern, faults, options.tasks, options.hold, options.seconds, options.limit,
                chance.randrange(2**31))


def _patterns(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in PATTERNS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(PATTERNS)}")
    return names


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="ten minutes instead of hours")
    parser.add_argument("--bugs", action="store_true", help="switch deliberate bugs on, one after the other")
    parser.add_argument("--survival", type=whole(0), metavar="N",
                        help="stop `rig compare` at N random moments, in each way")
    parser.add_argument("--only", help="only faults, or bugs, with this text in their names, such as redis")
    parser.add_argument("--patterns", type=_patterns, help=f"some of {','.join(PATTERNS)}")
    parser.add_argument("--random", type=whole(0),
                        help="how many random combinations of two faults follow the single ones")
    parser.add_argument("--skip", type=whole(0), default=0, metavar="N",
                        help="leave out the first N trials, which an earlier run with these options and --seed did")
    parser.add_argument("--tasks", type=whole(1), help="tasks of each DAG run")
    parser.add_argument("--slots", type=whole(1), default=4, help="tasks at once (default: %(default)s)")
    parser.add_argument("--hold", type=real(0), help="seconds that each task stays in a transaction")
    parser.add_argument("--seconds", type=real(0.1), help="seconds that a fault lasts, if it ends by itself")
    parser.add_argument("--limit", type=real(1), default=600.0, help="seconds for a DAG run (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**31), help="seed of all random choices")
    parser.add_argument("--table", type=Path, nargs="+", metavar="FILE",
                        help="run nothing; print the tables of results that --out has written, of all files together")
    parser.add_argument("--out", type=Path, help="file for the results (default: chaos.json or survival.json)")
    options = parser.parse_args()
    names = list(BUGS) if options.bugs else survival.WAYS if options.survival else sorted(set(map(str, all_faults())))
    if options.only and not any(options.only in name for name in names) and not options.random:
        parser.error(f"no name holds {options.only!r}; the names are: {', '.join(names)}")
    options.out = options.out or Settings().data_dir / ("survival.json" if options.survival else "chaos.json")
    small = options.short or options.bugs
    options.tasks = options.tasks or (20 if small else 100)
    options.hold = options.hold if options.hold is not None else 2.0
    options.seconds = options.seconds or (8.0 if small else 20.0)
    options.random = options.random if options.random is not None else 0 if small or options.only else 100
    options.patterns = options.patterns or (["worker"] if small else list(PATTERNS[:2]))
    return options


def say(what: str) -> None:
    """Report progress to standard error; only the table goes to standard output."""
    print(what, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
