"""What is built of worker_init and patterns, and what a user has who installs it."""

import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from rig.settings import PROJECT
from tests import pythons
from tests.packaging.distributions import NAMES, Environment, build, run, succeed

pytestmark = pytest.mark.install

# Modules that need Celery, Airflow or prometheus_client: loaded where these are.
NEED_MORE = {"airflow_connections", "airflow_plugin", "celery_plugin", "hooks", "inspection", "metrics",
             "preload_hooks", "remote_control"}


@pytest.mark.parametrize("package", NAMES)
def test_a_wheel_holds_the_package_with_its_types_and_its_licence_and_nothing_else(
        wheels: dict[str, Path], package: str) -> None:
    with zipfile.ZipFile(wheels[package]) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        about = {name.split(".dist-info/")[1] for name in archive.namelist() if ".dist-info/" in name}
    modules = {f"{package}/{path.name}" for path in (PROJECT / package).glob("*.py")}
    assert names == modules | {f"{package}/py.typed"}
    assert about >= {"METADATA", "licenses/LICENSE"}


@pytest.mark.parametrize("package", NAMES)
def test_an_sdist_holds_what_its_wheel_is_built_from_and_nothing_else(dist: Path, package: str) -> None:
    with tarfile.open(next(dist.glob(f"{NAMES[package]}-*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    others = {name for name in names if not name.endswith(".py")}
    assert names - others == {path.name for path in (PROJECT / package).glob("*.py")}
    # The build backend adds .gitignore by itself.
    assert others - {".gitignore", "CHANGELOG.md"} == {"LICENSE", "PKG-INFO", "README.md", "py.typed", "pyproject.toml"}


def test_what_is_built_can_be_uploaded(dist: Path) -> None:
    said = succeed(sys.executable, "-m", "twine", "--no-color", "check", "--strict", *dist.iterdir())
    assert said.count("PASSED") == 2 * len(NAMES)


@pytest.mark.parametrize("package", NAMES)
def test_the_licence_is_the_projects(package: str) -> None:
    assert (PROJECT / package / "LICENSE").read_bytes() == (PROJECT / "LICENSE").read_bytes()


def test_worker_init_alone_is_all_that_is_installed_and_complete(alone: Environment) -> None:
    assert alone.top_levels() == {"worker_init", "neo4j", "pytz"}
    assert "No broken requirements" in alone.pip("check")
    where = succeed(alone.python, "-c", "import worker_init; print(worker_init.__file__)")
    assert where.startswith(str(alone.folder))


def test_its_command_is_there(alone: Environment) -> None:
    said = succeed(alone.folder / "bin" / "worker-driver", "--help")
    assert "serve" in said
    assert "status" in said


def test_a_type_checker_sees_its_types(alone: Environment, tmp_path: Path) -> None:
    (tmp_path / "task.py").write_text("import worker_init\n\n\ndef nodes() -> int:\n    return worker_init.driver()\n")
    checked = run(sys.executable, "-m", "mypy", "--strict", "--config-file=", "--cache-dir", tmp_path / "cache",
                  "--python-executable", alone.python, tmp_path / "task.py")
    assert 'got "Driver", expected "int"' in checked.stdout


@pytest.mark.parametrize("version", sorted({*pythons.MINORS} - {f"3.{sys.version_info.minor}"}))
def test_it_runs_on_every_other_python_that_it_promises(wheels: dict[str, Path], tmp_path: Path, version: str) -> None:
    installed = [path for found, path in pythons.find().items() if found.startswith(f"{version}.")]
    if not installed:
        pytest.skip(f"no Python {version} is installed here")
    made = Environment(tmp_path, installed[0])
    made.install_pinned("neo4j", "pytz")
    made.install(wheels["worker_init"])
    succeed(made.python, "-c", "import pkgutil, importlib, worker_init\n"
            f"names = {{m.name for m in pkgutil.iter_modules(worker_init.__path__)}} - {NEED_MORE}\n"
            "for name in names: importlib.import_module(f'worker_init.{name}')")


def test_the_image_of_airflow_has_both_beside_each_other(wheels: dict[str, Path], tmp_path: Path) -> None:
    made = Environment(tmp_path)
    made.install_pinned("neo4j", "pytz")
    made.install(*wheels.values())
    succeed(made.python, "-c", "import patterns.workload, worker_init")
    assert made.top_levels() == {"patterns", "worker_init", "neo4j", "pytz"}


def test_the_rig_without_its_extra_says_in_one_line_what_to_install(
        wheels: dict[str, Path], tmp_path: Path) -> None:
    build(PROJECT, tmp_path / "dist", "--wheel")
    wheel = next((tmp_path / "dist").iterdir())
    made = Environment(tmp_path / "environment")
    made.install_pinned("neo4j", "pytz")
    made.install(*wheels.values(), wheel)
    with zipfile.ZipFile(wheel) as archive:
        folders = {name.split("/")[0] for name in archive.namelist() if ".dist-info/" not in name}
    assert folders == {"loadtest", "rig"}

    ended = run(made.folder / "bin" / "rig", "compare")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == ("rig: the package typer is not installed — pip install 'neo4j-airflow-connections[rig]' "
                            "installs what rig needs\n")
