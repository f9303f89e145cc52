"""The plan of a comparison: blocks that each hold every cell once, in an order that the seed alone decides."""

import random
import subprocess
import sys
from dataclasses import replace

import pytest

from rig.errors import BadInput
from rig.experiment import profiles
from rig.experiment.profiles import PROFILES, Profile

MANY = replace(PROFILES["full"], repeats=20)


@pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda profile: profile.name)
def test_each_block_holds_every_cell_once(profile: Profile) -> None:
    planned, cells = profiles.plan(profile, seed=1), profiles.cells(profile)
    assert len(planned) == profile.repeats * len(cells)
    for block in range(profile.repeats):
        in_block = [run.cell for run in planned if run.block == block]
        assert sorted(map(repr, in_block)) == sorted(map(repr, cells))


@pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda profile: profile.name)
def test_cells_are_every_executor_with_every_pattern_and_driver(profile: Profile) -> None:
    cells = profiles.cells(profile)
    assert {(cell.executor, cell.pattern, cell.driver) for cell in cells} == {
        (executor, pattern, driver) for executor in profile.executors for pattern in profile.patterns
        for driver in profile.drivers}
    assert len(cells) == len(profile.executors) * len(profile.patterns) * len(profile.drivers)
    assert {(cell.tasks, cell.calls, cell.hold) for cell in cells} == {(profile.tasks, profile.calls, profile.hold)}


def test_a_block_ends_before_the_next_begins_and_the_runs_are_numbered_in_order() -> None:
    planned = profiles.plan(MANY, seed=1)
    assert [run.index for run in planned] == list(range(len(planned)))
    assert [run.block for run in planned] == sorted(run.block for run in planned)


def test_the_blocks_are_shuffled_each_in_its_own_way() -> None:
    planned, size = profiles.plan(MANY, seed=1), len(profiles.cells(MANY))
    orders = {tuple(map(repr, (run.cell for run in planned if run.block == block))) for block in range(MANY.repeats)}
    assert len(orders) > MANY.repeats / 2
    first = {repr(planned[block * size].cell) for block in range(MANY.repeats)}
    assert len(first) > size / 2, "some cells never come first"


def test_the_same_seed_gives_the_same_order_whatever_else_was_drawn() -> None:
    first = profiles.plan(MANY, seed=7)
    random.seed(99)
    random.random()
    assert profiles.plan(MANY, seed=7) == first


def test_another_process_gives_the_same_order() -> None:
    code = "from rig.experiment.profiles import *; print([run.cell for run in plan(PROFILES['full'], 7)])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str([run.cell for run in profiles.plan(PROFILES["full"], 7)])


def test_another_seed_gives_another_order() -> None:
    orders = {str(profiles.plan(MANY, seed)) for seed in range(5)}
    assert len(orders) == 5


def test_the_profiles_are_what_they_are_known_for() -> None:
    quick, default, seed, full = (PROFILES[name] for name in ("quick", "default", "seed", "full"))
    assert (quick.repeats, quick.tasks) == (1, 30)
    assert (default.repeats, default.tasks, default.calls) == (3, 100, 3)
    assert (seed.tasks, seed.calls, seed.slots) == (100, 1, 32)
    assert (full.drivers, full.tasks) == (("sync", "async"), default.tasks)
    assert {profile.slots for profile in (quick, default, full)} == {None}, "they take the setting"


@pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda profile: profile.name)
def test_a_profile_is_found_by_its_name(profile: Profile) -> None:
    assert profiles.named(profile.name) is profile


def test_an_unknown_profile_is_told_the_known_ones() -> None:
    with pytest.raises(BadInput, match=r"no profile 'fast' — take one of quick, default, seed, full"):
        profiles.named("fast")


def test_lists_are_read_as_they_are_written() -> None:
    assert profiles.executors(" celery , local,celery,") == ("CeleryExecutor", "LocalExecutor")
    assert profiles.patterns("improved") == ("improved",)


@pytest.mark.parametrize(("names", "message"), [
    ("local,kubernetes", "no executor 'kubernetes' — take some of local,celery"),
    ("LocalExecutor", "no executor 'LocalExecutor'"),
    ("", "no executor is named — take some of local,celery"),
    (" , ", "no executor is named"),
])
def test_a_bad_list_of_executors_is_told_what_there_is(names: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        profiles.executors(names)


def test_a_bad_list_of_patterns_is_told_what_there_is() -> None:
    with pytest.raises(BadInput, match=r"no pattern 'good' — take some of problematic,improved"):
        profiles.patterns("improved,good")
    with pytest.raises(BadInput, match="no pattern is named"):
        profiles.patterns("")


@pytest.mark.parametrize("value", [1, 2.5, 10])
def test_a_number_within_its_bounds_is_taken(value: float) -> None:
    profiles.within("--tasks", value, 1, 10)


@pytest.mark.parametrize("value", [0.99, 11, -1, float("inf"), float("nan")])
def test_a_number_out_of_its_bounds_is_told_them(value: float) -> None:
    with pytest.raises(BadInput, match=r"--tasks is .* — give a number from 1 to 10") as caught:
        profiles.within("--tasks", value, 1, 10)
    assert caught.value.exit_code == 2
