"""The report of a run: ``summary.json`` and ``report.html``, made only from the run's folder.

The folder of a load test has the same two files, and other raw files.
"""

import json
from pathlib import Path

from rig.metrics import load, summary_of
from rig.records import COMPARISON_FILE, LOAD_FILE, REPORT_FILE, SUMMARY_FILE
from rig.report import load_comparison, load_page
from rig.report.page import html
from rig.report.terminal import table
from rig.whole_file import write_whole

_OF_LOADS = {COMPARISON_FILE: load_comparison.report, LOAD_FILE: load_page.report}

__all__ = ["table", "write"]


def write(folder: Path) -> Path:
    """Write a run's summary and its page, each completely or not at all; return the page's path.

    Raises BadInput if the folder contains no readable run.
    """
    of_loads = next((made for file, made in _OF_LOADS.items() if (folder / file).exists()), None)
    if of_loads is not None:
        load_summary, page = of_loads(folder)
        write_whole(folder / SUMMARY_FILE, json.dumps(load_summary, indent=2) + "\n")
    else:
        raw = load(folder)
        summary = summary_of(raw)
        page = html(raw, summary)
        write_whole(folder / SUMMARY_FILE, summary.model_dump_json(indent=2) + "\n")
    write_whole(folder / REPORT_FILE, page)
    return folder / REPORT_FILE
