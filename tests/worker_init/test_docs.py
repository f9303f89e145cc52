"""What the page for operators says is what the package does."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from testing.servers import Serving
from worker_init.control import find_folders, read_status
from worker_init.settings import PREFIX, VARIABLES

CHECKOUT = Path(__file__).resolve().parents[2]
PAGE = (CHECKOUT / "docs" / "worker_init.md").read_text(encoding="utf-8")
STATUS = (CHECKOUT / "docs" / "reference" / "status.md").read_text(encoding="utf-8")


def test_the_table_of_options_is_the_settings() -> None:
    rows = re.findall(rf"^\| `{PREFIX}(\w+)` \| `?(.*?)`? \| (.*) \|$", PAGE, re.MULTILINE)
    assert rows == [(variable.name, variable.default, variable.meaning) for variable in VARIABLES]


def test_the_setting_for_airflow_can_be_read() -> None:
    (text,) = set(re.findall(r"AIRFLOW__CELERY__EXTRA_CELERY_CONFIG='(.*)'", PAGE))
    assert json.loads(text) == {"imports": ["worker_init.hooks"]}


@pytest.mark.neo4j
def test_every_field_of_the_status_is_explained(host: Serving) -> None:
    status = read_status(find_folders(host.folder)[0], 5.0)
    names = {name for name in names_in(status) if name != "drivers"}
    assert [name for name in sorted(names) if f"`{name}`" not in STATUS] == []


def names_in(value: Any) -> set[str]:
    if isinstance(value, dict):
        return set(value).union(*map(names_in, value.values()))
    return set().union(*map(names_in, value)) if isinstance(value, list) else set()
