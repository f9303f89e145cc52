"""A worker with more pool processes than its limit of open files allows says so."""

import logging
import resource

import pytest

from worker_init import open_files
from worker_init.lifecycle import Worker


def limit_to(monkeypatch: pytest.MonkeyPatch, soft: int) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, soft))


@pytest.mark.parametrize(("soft", "problem"), [
    (1024, "1024 open files are allowed, and a worker of 300 pool processes needs 2200"), (2200, None),
    (resource.RLIM_INFINITY, None)])
def test_the_limit_is_compared_with_the_pool(monkeypatch: pytest.MonkeyPatch, soft: int, problem: str | None) -> None:
    limit_to(monkeypatch, soft)
    assert open_files.problem(300) == problem


def test_the_worker_says_it_in_one_line_and_how_to_fix_it(monkeypatch: pytest.MonkeyPatch,
                                                           caplog: pytest.LogCaptureFixture) -> None:
    limit_to(monkeypatch, 1024)
    worker = Worker()
    worker.open(300, {"WORKER_INIT_PRELOAD": "none", "WORKER_INIT_CONNECTION_IDS": ""})
    with caplog.at_level(logging.INFO):
        worker.announce()
    assert next(record.getMessage() for record in caplog.records if record.levelno == logging.WARNING) == (
        "1024 open files are allowed, and a worker of 300 pool processes needs 2200: raise the limit "
        "(`ulimit -n 2200`, LimitNOFILE of systemd), or use fewer pool processes")
