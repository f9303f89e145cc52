"""The plan of a comparison: blocks that each hold every cell once, in an order that the seed alone decides."""

import random
import subprocess
import sys
from dataclasses import replace

import pytest

from rig.errors import BadInput
from rig.experiment import profiles
from rig.experiment.profiles import PROFILES, Profile
from rig.metrics import intervals
from rig.metrics.unsaid import unsaid
from rig.records import Cell, Relay

MANY = replace(PROFILES["full"], repeats=20)


def cells_of_block(profile: Profile, block: int) -> list[Cell]:
    return [run.cell for run in profiles.plan(profile, seed=1) if run.block == block]


@pytest.mark.parametrize(("pattern", "relay", "nameless"), [
    ("hook", "none", True), ("hook", None, True), ("hook", "process", False), ("hook", "shared", False),
    ("improved", "none", False), ("worker", None, False)])
def test_only_the_stock_hook_without_a_relay_names_nobody(pattern: str, relay: Relay | None, nameless: bool) -> None:
    assert profiles.is_nameless(pattern, relay) is nameless


@pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda profile: profile.name)
def test_each_block_holds_every_cell_once_but_those_that_are_run_once(profile: Profile) -> None:
    cells = profiles.cells(profile)
    repeated = [cell for cell in cells if (cell.pattern, cell.executor) not in profile.once]
    for block in range(profile.repeats):
        expected = repeated if block else cells
        assert sorted(map(repr, cells_of_block(profile, block))) == sorted(map(repr, expected))


@pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda profile: profile.name)
def test_every_cell_does_the_work_of_its_profile(profile: Profile) -> None:
    cells = profiles.cells(profile)
    assert {(cell.tasks, cell.calls, cell.hold) for cell in cells} == {(profile.tasks, profile.calls, profile.hold)}
    assert {cell.pattern for cell in cells} == set(profile.patterns)
    assert {cell.executor for cell in cells} == set(profile.executors)


def ways(profile: Profile) -> dict[tuple[str, str], list[str]]:
    """Return, for each executor and pattern, through which relays it is run with the sync driver."""
    found: dict[tuple[str, str], list[str]] = {}
    for cell in profiles.cells(replace(profile, drivers=("sync",))):
        found.setdefault((cell.executor.removesuffix("Executor"), cell.pattern), []).append(
            f"{cell.relay}{' warm' if cell.warm else ' again' if cell.control else ''}")
    return found


def test_a_worker_has_a_driver_for_each_process_on_celery_and_one_beside_local() -> None:
    assert ways(PROFILES["default"]) == {
        ("Local", "problematic"): ["none"], ("Local", "improved"): ["none"], ("Local", "worker"): ["shared"],
        ("Celery", "problematic"): ["none", "none warm"], ("Celery", "improved"): ["none", "none warm"],
        ("Celery", "hook"): ["none"], ("Celery", "worker"): ["process", "process warm"]}
    full = ways(PROFILES["full"])
    assert full["Local", "worker"] == ["shared", "shared warm"]
    assert full["Celery", "hook"] == ["none", "none warm", "process", "process warm"]


@pytest.mark.parametrize("name", ["default", "full"])
def test_every_pattern_that_is_repeated_has_a_warm_cell(name: str) -> None:
    profile = PROFILES[name]
    of = [cell for cell in profiles.cells(profile) if cell.executor == "CeleryExecutor" and not cell.control]
    once = {pattern for pattern, executor in profile.once if executor == "CeleryExecutor"}
    patterns = {cell.pattern for cell in of} - once
    assert patterns == {cell.pattern for cell in of if cell.warm}


def test_the_full_profile_has_six_blocks_and_a_cell_that_is_run_against_itself() -> None:
    full = PROFILES["full"]
    assert full.repeats == intervals.LEAST_BLOCKS
    assert [(cell.executor, cell.pattern) for cell in profiles.cells(full) if cell.control] == [
        ("LocalExecutor", "problematic"), ("CeleryExecutor", "problematic")]
    again = [place for place, run in enumerate(profiles.plan(full, 2)) if run.cell.control]
    twins = [place for place, run in enumerate(profiles.plan(full, 2)) if run.cell in [
        profiles.plan(full, 2)[other].cell.model_copy(update={"control": False}) for other in again]]
    assert len(again) == len(twins) == 12
    assert any(abs(one - other) > 1 for one, other in zip(again, twins, strict=True)), "each has its own place"


def test_a_warm_cell_comes_right_after_its_cold_one() -> None:
    planned = [run.cell for run in profiles.plan(MANY, seed=3)]
    before_warm = [(planned[place - 1], cell) for place, cell in enumerate(planned) if cell.warm]
    assert before_warm
    assert all(cold == warm.model_copy(update={"warm": False}) for cold, warm in before_warm)


def test_a_preloaded_cell_is_warmed_by_its_own_cold_one() -> None:
    both = [run.cell for run in profiles.plan(replace(MANY, preloads=(False, True)), seed=3)]
    warm = [(both[place - 1], cell) for place, cell in enumerate(both) if cell.warm]
    assert {cell.preload for _, cell in warm} == {False, True}
    assert all(cold == cell.model_copy(update={"warm": False}) for cold, cell in warm)


def test_the_profile_preload_has_each_cell_with_and_without_and_enough_of_them_for_a_verdict() -> None:
    preload = PROFILES["preload"]
    cells = profiles.cells(preload)
    assert [(cell.executor, cell.pattern, cell.relay) for cell in cells if cell.preload] == [
        ("LocalExecutor", "improved", "none"), ("CeleryExecutor", "improved", "none"),
        ("CeleryExecutor", "worker", "process")]
    assert [cell.model_copy(update={"preload": False}) for cell in cells if cell.preload] == [
        cell for cell in cells if not cell.preload]
    assert preload.repeats == intervals.LEAST_BLOCKS
    others = [profile for profile in PROFILES.values() if profile is not preload]
    assert not any(cell.preload for profile in others for cell in profiles.cells(profile))


def test_what_has_no_async_driver_is_run_with_the_sync_one_alone() -> None:
    both = replace(PROFILES["full"], drivers=("sync", "async"))
    drivers = {(cell.pattern, cell.driver) for cell in profiles.cells(both)}
    assert ("hook", "sync") in drivers
    assert ("hook", "async") not in drivers
    assert ("worker", "async") in drivers


def test_the_exhibit_is_off_unless_it_is_asked_for_and_on_celery_alone() -> None:
    assert not any("inherited" in profile.patterns for profile in PROFILES.values())
    asked = replace(PROFILES["quick"], patterns=profiles.patterns("inherited"))
    assert [(cell.executor, cell.relay) for cell in profiles.cells(asked)] == [("CeleryExecutor", "none")]


def test_where_no_cell_is_left_it_says_what_to_take() -> None:
    nothing = replace(PROFILES["quick"], patterns=("worker",), relays=("none",))
    with pytest.raises(BadInput, match="no cell is left of worker with relay none — the pattern worker needs a relay"):
        profiles.plan(nothing, seed=1)


def test_a_block_ends_before_the_next_begins_and_the_runs_are_numbered_in_order() -> None:
    planned = profiles.plan(MANY, seed=1)
    assert [run.index for run in planned] == list(range(len(planned)))
    assert [run.block for run in planned] == sorted(run.block for run in planned)


def test_the_blocks_are_shuffled_each_in_its_own_way() -> None:
    planned, size = profiles.plan(MANY, seed=1), len(profiles.cells(MANY))
    orders = {tuple(map(repr, (run.cell for run in planned if run.block == block))) for block in range(MANY.repeats)}
    assert len(orders) > MANY.repeats / 2
    first = {repr(planned[block * size].cell) for block in range(MANY.repeats)}
    can_come_first = [cell for cell in profiles.cells(MANY) if not cell.warm]
    assert len(first) > 0.8 * len(can_come_first), "some cells never come first"


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
    quick, default, seed, full, both = (PROFILES[name] for name in ("quick", "default", "seed", "full", "async"))
    assert (quick.repeats, quick.tasks) == (1, 30)
    assert (default.repeats, default.tasks, default.calls) == (3, 100, 3)
    assert (seed.tasks, seed.calls, seed.slots) == (100, 1, 32)
    assert (full.drivers, full.tasks, both.drivers) == (("sync",), default.tasks, ("sync", "async"))
    assert {profile.slots for profile in (quick, default, full)} == {None}, "they take the setting"


@pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda profile: profile.name)
def test_a_profile_is_found_by_its_name(profile: Profile) -> None:
    assert profiles.named(profile.name) is profile


def test_an_unknown_profile_is_told_the_known_ones() -> None:
    with pytest.raises(BadInput, match=r"no profile 'fast' — choose one of quick, default, seed, full, async"):
        profiles.named("fast")


def test_lists_are_read_as_they_are_written() -> None:
    assert profiles.executors(" celery , local,celery,") == ("CeleryExecutor", "LocalExecutor")
    assert profiles.patterns("improved") == ("improved",)


@pytest.mark.parametrize(("names", "message"), [
    ("local,kubernetes", "no executor 'kubernetes' — choose from local,celery"),
    ("LocalExecutor", "no executor 'LocalExecutor'"),
    ("", "no executor is named — choose from local,celery"),
    (" , ", "no executor is named"),
])
def test_a_bad_list_of_executors_is_told_what_there_is(names: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        profiles.executors(names)


def test_relays_are_taken_in_their_own_order() -> None:
    assert profiles.relays("shared,none") == ("none", "shared")
    with pytest.raises(BadInput, match=r"no relay 'pool' — choose from none,process,shared"):
        profiles.relays("pool")


def test_off_comes_before_on() -> None:
    assert profiles.preloads("on, off") == (False, True)
    assert profiles.preloads("on") == (True,)
    with pytest.raises(BadInput, match=r"no preload setting 'yes' — choose from off,on"):
        profiles.preloads("yes")
    with pytest.raises(BadInput, match="no preload setting is named — choose from off,on"):
        profiles.preloads(" , ")


def test_a_bad_list_of_patterns_is_told_what_there_is() -> None:
    with pytest.raises(BadInput, match=r"no pattern 'good' — choose from problematic,improved"):
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


def test_a_plan_says_beforehand_what_it_cannot_say() -> None:
    said = {name: " ".join(unsaid(profiles.plan(PROFILES[name], 1))) for name in ("quick", "default", "full")}

    assert "they need 6 DAG runs of each cell, and this has 1 at most" in said["quick"]
    assert "has 3 at most" in said["default"]
    assert ("Run only once, so it is not known how much their figures vary: hook on CeleryExecutor, improved on "
            "LocalExecutor, problematic on LocalExecutor, worker (shared) on LocalExecutor.") in said["default"]
    assert "No noise floor" in said["default"]
    assert not said["full"]
