"""Slopes of a soak: what grows is said to, what goes up and down is not, and too little is said to be too little."""

import math
import random
from pathlib import Path

import pytest

from rig import records, report
from rig.load import growth
from rig.load.records import Deployment, LoadTestRecord, Resources, Thresholds
from tests.rig.load.lines import load, run, sample

MIB = 2**20


def noisy(chance: random.Random, slope: float) -> list[growth.Point]:
    """Return an hour of a value around 100 that grows by so much per hour."""
    return [(float(t), 100 + slope * t / 3600 + chance.gauss(0, 5)) for t in range(3600)]


def test_what_grows_is_told_from_what_does_not() -> None:
    chance = random.Random(1)
    flat, growing = growth.slope(noisy(chance, 0)), growth.slope(noisy(chance, 20))
    assert flat
    assert growing
    assert (flat.verdict, growing.verdict) == ("flat", "grows")
    assert growing.low < 20 < growing.high
    assert flat.low < 0 < flat.high
    assert flat.mean == pytest.approx(100, abs=1)


def wandering(chance: random.Random) -> list[growth.Point]:
    """Return an hour of a value that does not grow, but forgets what it was only after about a minute."""
    value, points = 0.0, []
    for t in range(3600):
        value = value * math.exp(-1 / 60) + chance.gauss(0, 1)
        points.append((float(t), 100 + value))
    return points


def test_what_wanders_from_minute_to_minute_is_seldom_said_to_grow_or_fall() -> None:
    chance = random.Random(2)
    found = [growth.slope(wandering(chance)) for _ in range(200)]
    wrong = sum(each is not None and each.verdict != "flat" for each in found)
    # A 95 % interval may be wrong in one of 20.
    assert wrong <= 0.1 * len(found)


def test_one_outlier_bends_nothing() -> None:
    points = [(float(t), 50.0) for t in range(0, 1200, 10)]
    points[80] = (points[80][0], 50_000.0)
    found = growth.slope(points)
    assert found
    assert (found.per_hour, found.verdict) == (0, "flat")


def test_what_falls_is_said_to() -> None:
    found = growth.slope([(float(t), 1000.0 - t) for t in range(0, 1200, 10)])
    assert found
    assert found.per_hour == pytest.approx(-3600)
    assert found.verdict == "falls"


def test_the_start_does_not_count_and_too_little_is_none() -> None:
    start = [(float(t), 1000.0 * t) for t in range(0, 120, 10)]
    rest = [(float(t), 5.0) for t in range(120, 300, 10)]
    found = growth.slope([*start, *rest])
    assert found
    assert (found.per_hour, found.blocks) == (0, 6)
    assert growth.slope([*start, *rest[:15]]) is None
    assert growth.slope([]) is None


def test_every_measure_of_a_soak_has_a_slope_or_none() -> None:
    series = [sample(float(t), open=8, resources=Resources(processes=20, descriptors=400 + t, memory=300 * MIB,
                                                           pss=200 * MIB)) for t in range(0, 900, 10)]
    found = growth.slopes([run(float(t), 4.0 + t / 900) for t in range(0, 900, 5)], series)
    words = {name: each and each.verdict for name, each in found.items()}
    assert words == {"connections": "flat", "processes": "flat", "descriptors": "grows", "resident memory, MiB": "flat",
                     "memory (PSS), MiB": "flat", "seconds to a DAG run's end": "grows",
                     "seconds to its first task": None}


def test_the_page_of_a_soak_has_its_slopes_and_a_chart_of_the_memory(tmp_path: Path) -> None:
    (tmp_path / records.LOAD_FILE).write_text(LoadTestRecord(
        run="r", status="complete", started_at=0.0, ended_at=900.0, thresholds=Thresholds(),
        load=load(shape="soak", seconds=900.0), deployment=Deployment(airflow="http://a")).model_dump_json())
    records.append(tmp_path / records.LOAD_RUNS_FILE, [run(float(due)) for due in range(0, 890, 5)])
    records.append(tmp_path / records.SERIES_FILE, [
        sample(float(t), open=3, resources=Resources(processes=20, descriptors=400 + t, memory=300 * MIB))
        for t in range(0, 900, 10)])
    page = report.write(tmp_path).read_text("utf-8")
    assert '<th scope="row">descriptors</th><td>905</td><td>+3,600</td><td>+3,600 to +3,600</td><td>grows</td>' in page
    assert '<th scope="row">memory (PSS), MiB</th><td colspan="4">too few values</td>' in page
    assert "Memory of the stack" in page
