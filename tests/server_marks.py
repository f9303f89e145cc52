"""A pytest plugin: a test is marked by the servers that its fixtures start, and one without a mark can start none.

A test with one of the marks of ``tests.server_programs`` is marked ``server`` as well, so that ``-m "not server"``
selects every test that needs none.
"""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import pytest

from tests.server_programs import MARKS, mark_of

Fixture = TypeVar("Fixture", bound=Callable[..., Any])

_STARTED_BY: dict[Callable[..., Any], str] = {}


def starts(mark: str) -> Callable[[Fixture], Fixture]:
    """Say, under ``@pytest.fixture``, which server a fixture starts: every test that uses it gets the mark."""
    def note(function: Fixture) -> Fixture:
        _STARTED_BY[function] = mark
        return function
    return note


class _Guard:
    """Sees each program that this process starts. An audit hook cannot be taken away again: there is one."""

    forbidden = False

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.forbidden or event not in {"subprocess.Popen", "os.exec", "os.posix_spawn"}:
            return
        command = _words(arguments[1])
        if mark := mark_of(command):
            # Not an Exception: no `except` on the way may swallow it.
            pytest.fail(f"a test without the mark {mark!r} starts a server: {' '.join(command)[:200]}\n"
                        "Mark the test, or the fixture with @starts.")


_GUARD = _Guard()


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marks, and look at every program that is started from now on."""
    for name, meaning in MARKS.items():
        config.addinivalue_line("markers", f"{name}: {meaning}")
    config.addinivalue_line("markers", "server: has one of the marks of a server; given by itself")
    sys.addaudithook(_GUARD)


@pytest.hookimpl(tryfirst=True)     # before pytest itself selects by -m
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test by the fixtures that it uses, directly or through others."""
    for item in items:
        for mark in _marks_of_fixtures(item):
            item.add_marker(mark)
        if any(item.get_closest_marker(name) for name in MARKS):
            item.add_marker("server")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Forbid servers from the first fixture of a test to the end of its last one, unless it is marked."""
    _GUARD.forbidden = item.get_closest_marker("server") is None
    try:
        return (yield)
    finally:
        _GUARD.forbidden = False


def _marks_of_fixtures(item: pytest.Item) -> set[str]:
    # pytest has no public way to the fixtures of a test but by name, and names are used twice.
    found = item._fixtureinfo.name2fixturedefs if isinstance(item, pytest.Function) else {}
    return {mark for definitions in found.values() for each in definitions if (mark := _STARTED_BY.get(each.func))}


def _words(arguments: str | bytes | Sequence[str | bytes | os.PathLike[str]]) -> list[str]:
    if isinstance(arguments, str | bytes):
        return os.fsdecode(arguments).split()
    return [os.fsdecode(word) for word in arguments]
