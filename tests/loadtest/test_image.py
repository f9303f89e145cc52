"""The container of the load test: what Locust's side imports is copied into it and installed there."""

import json
import re
import subprocess
import sys
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from rig.settings import PROJECT
from tests.imports import imported

pytestmark = pytest.mark.install

LOADED = """
import json, sys
import loadtest.locustfile
print(json.dumps([module.__file__ for module in sys.modules.values() if getattr(module, "__file__", None)]))
"""


@cache
def files() -> list[Path]:
    """Return our own files that a process has loaded after it has read the locustfile."""
    said = subprocess.run([sys.executable, "-c", LOADED], cwd=PROJECT, capture_output=True, text=True, timeout=60,
                          check=True).stdout
    return [path for path in map(Path, json.loads(said))
            if path.is_relative_to(PROJECT) and "site-packages" not in path.parts]


def test_each_of_our_packages_is_copied_into_the_image() -> None:
    dockerfile = (PROJECT / "docker" / "loadtest.Dockerfile").read_text()
    copied = set(re.findall(r"^COPY (\w+) \1$", dockerfile, re.MULTILINE))
    assert {"loadtest", "rig"} <= {path.relative_to(PROJECT).parts[0] for path in files()} <= copied


def test_each_distribution_that_they_import_is_installed_in_the_image() -> None:
    lock = (PROJECT / "requirements" / "loadtest.txt").read_text()
    locked = set(re.findall(r"^([a-z0-9._-]+)==", lock, re.MULTILINE))
    modules = {module.split(".")[0] for path in files() for _, module in imported(path)}
    needed = {name.lower() for module in modules if not (PROJECT / module).is_dir()
              for name in packages_distributions().get(module, [])}
    assert "locust" in needed
    assert needed <= locked
