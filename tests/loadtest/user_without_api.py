"""A program of its own, since Locust changes the whole process: one turn of a user whose API is not there."""

import json
import sys
from unittest import mock

from locust.env import Environment

from loadtest.follow import Follower
from loadtest.process import Process
from loadtest.target import of
from rig.load.records import Load

LOAD = Load(tag="load-x", pattern="worker", tasks=1, calls=1, hold=0, shape="steady", rate=1, seconds=60,
            step_seconds=45, run_limit=60, users=1)


def main(url: str) -> None:
    """Take the turn; print the states of its DAG runs, and for how long the user slept."""
    naps: list[float] = []
    with mock.patch.object(Follower, "start"), mock.patch("gevent.sleep", naps.append):
        process = Process(Environment(), of({"LOADTEST_AIRFLOW_URL": url}), LOAD, 2e9, process=0, processes=1)
        process.turn()
        process.stop("enough")
    print(json.dumps({"states": [run["state"] for run in process.report()["runs"]], "naps": naps}))


if __name__ == "__main__":
    main(sys.argv[1])
