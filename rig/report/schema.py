"""The published schema of ``summary.json``. ``python -m rig.report.schema`` writes it."""

import json
from typing import Any

from rig.metrics import Summary
from rig.settings import PROJECT
from rig.whole_file import write_whole

FILE = PROJECT / "docs" / "summary.schema.json"


def schema() -> dict[str, Any]:
    """Return the JSON schema of a summary in the present format."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema",
            **Summary.model_json_schema(mode="serialization", by_alias=True)}


def text() -> str:
    """Return the schema in the form of its file."""
    return json.dumps(schema(), indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    write_whole(FILE, text())
