"""The dashboard in examples/: what it asks Prometheus for is what a host exports, and Grafana can read it."""

import asyncio
import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from rig.settings import PROJECT
from tests.worker_init.test_metrics import Scraped, scrape
from worker_init.measures import Gauges, Key, Measured, Totals
from worker_init.metrics import Exporter

DASHBOARD: dict[str, Any] = json.loads((PROJECT / "examples" / "grafana_dashboard.json").read_text(encoding="utf-8"))
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
EXPRESSIONS = [target["expr"] for panel in PANELS for target in panel["targets"]]
OURS = re.compile(r"\b(?:db_client|worker_init)_\w+")
GRAFANA = os.environ.get("WORKER_INIT_TEST_GRAFANA", "")


@pytest.fixture(scope="module")
def exported() -> Scraped:
    """Return what a host exports, from an exporter alone."""
    async def scraped() -> Scraped:
        key = Key("0", "bolt://db:7687")
        exporter = Exporter("127.0.0.1", 0, "celery@here", lambda: {key: Measured(Totals(), Gauges())})
        try:
            return await asyncio.get_running_loop().run_in_executor(None, scrape, exporter.address)
        finally:
            await exporter.close()
    return asyncio.run(scraped())


def metrics_in(expression: str) -> set[str]:
    """Return the metrics that an expression names: what is ours and neither a label in braces nor one after `by`."""
    return {*OURS.findall(re.sub(r"\{[^}]*\}|by \([^)]*\)", "", expression))}


def labels_in(expression: str) -> set[str]:
    found = re.findall(r"(\w+)=~?\"", expression)
    return {*found, *(label.strip() for by in re.findall(r"by \(([^)]*)\)", expression) for label in by.split(","))}


def asked_by_variables() -> Iterator[tuple[str, str]]:
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            found = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]["query"])
            assert found
            yield found[1], found[2]


def test_each_metric_on_it_is_one_that_a_host_exports(exported: Scraped) -> None:
    names = {name for name, *_ in exported.samples}
    asked = set().union(*map(metrics_in, EXPRESSIONS), {metric for metric, _ in asked_by_variables()})
    assert len(asked) > 10
    assert asked - names == set()


def test_each_metric_that_a_host_exports_is_on_it(exported: Scraped) -> None:
    shown = " ".join(EXPRESSIONS)
    assert [family.name for family in exported.families if family.name not in shown] == []


def test_each_label_on_it_is_one_that_its_metric_has(exported: Scraped) -> None:
    labels: dict[str, set[str]] = {}
    for name, *pairs in exported.samples:
        labels.setdefault(name, set()).update(label for label, _ in pairs)
    wrong = [(expression, metric, label) for expression in EXPRESSIONS for metric in metrics_in(expression)
             for label in labels_in(expression) if label not in labels[metric] | {"le"}
             and f"{label}=" in expression.split(metric, 1)[1].split("}", 1)[0]]
    by = [(expression, label) for expression in EXPRESSIONS for label in labels_in(expression)
          if not any(label in labels[metric] for metric in metrics_in(expression))]
    assert (wrong, by) == ([], [])
    assert [(metric, label) for metric, label in asked_by_variables() if label not in labels[metric]] == []


def test_each_expression_heeds_the_lists_above_the_panels() -> None:
    for expression in EXPRESSIONS:
        selectors = re.findall(r"\{([^}]*)\}", expression)
        assert selectors
        assert all('worker=~"$worker"' in one and 'upstream=~"$upstream"' in one for one in selectors), expression
    assert {panel["datasource"]["uid"] for panel in PANELS} == {"${datasource}"}


def test_the_panels_lie_side_by_side() -> None:
    taken = Counter((x, y) for panel in PANELS for grid in [panel["gridPos"]]
                    for x in range(grid["x"], grid["x"] + grid["w"]) for y in range(grid["y"], grid["y"] + grid["h"]))
    assert max(taken.values()) == 1
    assert max(x for x, _ in taken) == 23
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    assert all(panel["title"] and panel["description"] for panel in PANELS)


def test_it_has_nothing_that_grafanas_own_model_does_not_know() -> None:
    sdk = pytest.importorskip("grafana_foundation_sdk.models.dashboard",
                              reason="grafana-foundation-sdk, Grafana's model of a dashboard, is not installed")
    encoder = pytest.importorskip("grafana_foundation_sdk.cog.encoder")
    known = json.loads(json.dumps(sdk.Dashboard.from_json(DASHBOARD), cls=encoder.JSONEncoder))
    assert [*lost(DASHBOARD, known, "")] == []


def lost(mine: Any, known: Any, path: str) -> Iterator[str]:
    """Name what is in one value and not in the other."""
    if isinstance(mine, dict) and isinstance(known, dict):
        for name, value in mine.items():
            yield from lost(value, known.get(name), f"{path}/{name}")
    elif isinstance(mine, list) and isinstance(known, list) and len(mine) == len(known):
        for at, pair in enumerate(zip(mine, known, strict=True)):
            yield from lost(*pair, f"{path}/{at}")
    elif mine != known:
        yield path


@pytest.mark.skipif(not GRAFANA, reason="WORKER_INIT_TEST_GRAFANA is not set: http://user:password@host:3000 of a "
                                        "Grafana that this test may put the dashboard into")
def test_a_real_grafana_takes_it() -> None:
    with httpx.Client(base_url=GRAFANA, trust_env=False, timeout=30) as grafana:
        sent = grafana.post("/api/dashboards/db", json={"dashboard": DASHBOARD, "overwrite": True})
        assert sent.raise_for_status().json()["status"] == "success"
        kept = grafana.get(f"/api/dashboards/uid/{DASHBOARD['uid']}").raise_for_status().json()
    assert kept["dashboard"]["panels"] == PANELS
