"""``rig export``: a run's figures for other programs, as CSV with a line for each DAG run and metric."""

import csv
import io

from rig.metrics import BY_NAME, Summary

COLUMNS = ("run", "dag_run", "block", "executor", "pattern", "relay", "driver", "warm", "control", "preload", "tasks",
           "state", "metric", "unit", "value", "missing")


def as_csv(summary: Summary) -> str:
    """Return the figures of every DAG run as CSV; ``missing`` says why there is no value."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(COLUMNS)
    for run in summary.dag_runs:
        for name, value in run.figures.items():
            lines.writerow([summary.run, run.index + 1, run.block + 1, run.executor, run.pattern, run.relay, run.driver,
                            *(str(is_so).lower() for is_so in (run.warm, run.control, run.preload)), run.tasks,
                            run.state, name, BY_NAME[name].unit, value, run.missing.get(name)])
    return text.getvalue()
