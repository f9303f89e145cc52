"""What a worker imports before its pool forks, and what its tasks then have and have not."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from testing.workers import CHECKOUT
from worker_init.preload import MODULES


def run(script: str, folder: Path, **environment: str) -> Any:
    """Run a script in a new interpreter, with an Airflow of its own; return what it printed last, as JSON."""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=120,
                           env={**os.environ, "AIRFLOW_HOME": str(folder), "PYTHONPATH": f"{CHECKOUT}:{folder}",
                                "AIRFLOW__CORE__LOAD_EXAMPLES": "False", **environment})
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout.strip().splitlines()[-1])


def preloaded(*own: str) -> str:
    return f"import json, sys; from worker_init.preload import preload; notes = list(preload({own!r}))\n"


def test_none_imports_nothing(tmp_path: Path) -> None:
    found = run(preloaded("none") + "print(json.dumps([notes, sorted(sys.modules)]))", tmp_path)
    assert found[0] == []
    assert not {name.partition(".")[0] for name in found[1]} & {"neo4j", "airflow"}


def test_every_module_of_the_list_is_there_in_this_version_of_airflow(tmp_path: Path) -> None:
    missing = run(preloaded() + f"print(json.dumps(sorted(set({MODULES!r}) - set(sys.modules))))", tmp_path)
    assert missing == []


def test_a_module_of_the_user_that_cannot_be_imported_is_a_line_and_no_error(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("raise RuntimeError('not today')")
    (tmp_path / "fine.py").write_text("")
    script = preloaded("nowhere.to_be_found", "broken", "fine") + "print(json.dumps([notes, 'fine' in sys.modules]))"
    found = run(script, tmp_path)
    assert found[1] is True
    assert [note.split(" cannot be imported")[0] for note in found[0]] == [
        "WORKER_INIT_PRELOAD: nowhere.to_be_found", "WORKER_INIT_PRELOAD: broken"]
    assert "RuntimeError: not today" in found[0][1]


def test_a_module_that_starts_a_thread_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "threaded.py").write_text(
        "import threading; ended = threading.Event(); threading.Thread(target=ended.wait, daemon=True).start()")
    (note,) = run(preloaded("threaded") + "import threaded; threaded.ended.set(); print(json.dumps(notes))", tmp_path)
    assert "importing threaded starts a thread" in note


def test_the_list_starts_no_thread_and_opens_no_file_or_connection(tmp_path: Path) -> None:
    # What the worker has by itself is there before: the provider's own module, with it Airflow's settings, and what the
    # provider preloads, as numpy where it is installed, whose OpenBLAS starts threads and knows of forks.
    held = ("held = lambda: [len(os.listdir('/proc/self/task')), "
            "sorted(os.readlink(f'/proc/self/fd/{fd}') for fd in os.listdir('/proc/self/fd') if int(fd) != 3)]\n")
    before, after, notes = run(
        "import os, json, airflow.providers.celery.executors.celery_executor_utils as provider\n"
        "provider.on_celery_import_modules()\n" + held + "before = held()\n"
        + preloaded() + "print(json.dumps([before, held(), notes]))", tmp_path)
    assert notes == []
    assert after == before


def in_tasks(folder: Path, *dag_files: str, own: str = "json") -> list[dict[str, Any]]:
    """Do what Airflow does in a task's process before its first line, for each of these DAG files in turn."""
    found: list[dict[str, Any]] = run(preloaded(own) + f"""
import os
from pathlib import Path
from worker_init.preload import imported_since, remember

remember()
file = Path({str(folder / "a_dag.py")!r})


def task():
    from airflow.dag_processing.dagbag import BundleDagBag
    from airflow.sdk.execution_time import task_runner
    bag = BundleDagBag(dag_folder=str(file), safe_mode=False, load_op_links=False, bundle_path=file.parent,
                       bundle_name="dags-folder")
    from airflow.providers.neo4j.hooks.neo4j import Neo4jHook
    return {{"dags": sorted(bag.dags), "errors": bag.import_errors, "imported": imported_since()}}


def forked():
    read, write = os.pipe()
    if not os.fork():
        os.write(write, json.dumps(task()).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        return json.loads(answer.read())


def each(dag_files):
    for text in dag_files:
        file.write_text(text)
        yield forked()


print(json.dumps(list(each({dag_files!r}))))
""", folder)
    return found


A_DAG = """
from airflow.sdk import DAG, task
with DAG({name!r}, schedule=None):
    @task
    def one():
        pass
    one()
"""


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Return what four tasks of one worker found: starting it takes seconds."""
    return in_tasks(tmp_path_factory.mktemp("worker"), A_DAG.format(name="a_dag"), "raise RuntimeError('broken DAG')",
                    A_DAG.format(name="first"), A_DAG.format(name="changed"))


def test_a_task_imports_its_dag_file_and_nothing_else(tasks: list[dict[str, Any]]) -> None:
    """Fails where a new version of Airflow, of its Neo4j provider or of the driver leaves something to import."""
    assert tasks[0]["dags"] == ["a_dag"]
    assert [name for name in tasks[0]["imported"] if not name.startswith("unusual_prefix_")] == []


def test_without_the_list_a_task_imports_far_more(tmp_path: Path) -> None:
    (found,) = in_tasks(tmp_path, A_DAG.format(name="a_dag"), own="none")
    assert {"airflow.dag_processing.dagbag", "neo4j"} <= set(found["imported"])


def test_a_task_finds_the_error_in_its_dag_file(tasks: list[dict[str, Any]]) -> None:
    assert tasks[1]["dags"] == []
    assert "broken DAG" in json.dumps(tasks[1]["errors"])


def test_a_task_reads_the_dag_file_as_it_is_then(tasks: list[dict[str, Any]]) -> None:
    assert [found["dags"] for found in tasks[2:]] == [["first"], ["changed"]]


# LocalExecutor: the scheduler preloads, by a plugin

def starts_a_job(command: str) -> str:
    """Return a script that is to Airflow a process of this command, which starts a job."""
    return (f"import json, sys; sys.argv[1:] = [{command!r}]\nfrom airflow.jobs.job import Job; Job()\n"
            "print(json.dumps(['neo4j' in sys.modules, 'of_the_users' in sys.modules]))")


@pytest.mark.parametrize(("command", "settings", "expected"), [
    ("scheduler", {}, [True, True]),
    ("scheduler", {"WORKER_INIT_PRELOAD": "none"}, [False, False]),
    ("scheduler", {"WORKER_INIT_PRELOAD": "no module"}, [False, False]),
    ("triggerer", {}, [False, False])], ids=["scheduler", "turned off", "a bad setting", "another process"])
def test_the_plugin_preloads_in_the_scheduler_alone(command: str, settings: dict[str, str], expected: list[bool],
                                                    tmp_path: Path) -> None:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "preload.py").write_text("from worker_init.airflow_plugin import PreloadPlugin\n")
    (tmp_path / "of_the_users.py").write_text("")
    found = run(starts_a_job(command), tmp_path, **{"WORKER_INIT_PRELOAD": "of_the_users"} | settings)
    assert found == expected
