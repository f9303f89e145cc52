"""Which programs are servers, and the mark of the tests that may start them.

A driver host is one. The project's other programs (Locust's processes, ``rig`` itself) are none: a test may start them
where it likes, and what they start in turn counts again.
"""

from collections.abc import Sequence
from pathlib import Path

MARKS = {
    "broker": "needs Redis, and a Celery worker where the test starts one",
    "browser": "shows a page in Chromium; skips with its reason where there is none",
    "compose": "runs containers; skips with its reason where no Docker engine or image is",
    "host": "starts driver hosts, in front of scripted servers or of none",
    "install": "installs packages into an environment of its own, from an index where they are not there yet",
    "neo4j": "needs a real Neo4j, started for the session",
    "postgres": "needs a real Postgres",
    "stack": "needs the whole native stack, or the rig that starts it",
}
PROGRAMS = {"java": "neo4j", "postgres": "postgres", "redis-server": "broker", "chromium": "browser",
            "chromium-browser": "browser", "google-chrome": "browser", "chrome": "browser"}
# A program that is a server by one of its words: (the program, the word) → mark.
WORDS = {
    "airflow": (("api-server", "dag-processor", "scheduler", "standalone", "triggerer"), "stack"),
    "celery": (("flower", "worker"), "broker"),
    "worker-driver": (("serve",), "host"),
    "worker_init.cli": (("serve",), "host"),
    "docker": (("create", "run", "start", "up"), "compose"),
}


def mark_of(command: Sequence[str]) -> str | None:
    """Return the mark that a test needs to start this command, or None where it is no server.

    A program is known by the name of its file, or by the name of the module that ``python -m`` runs.
    """
    names = [Path(word).name for word in command]
    if names and names[0] in PROGRAMS:
        return PROGRAMS[names[0]]
    for at, name in enumerate(names[:3]):       # python, -m, celery; or celery itself; or python, its script
        words, mark = WORDS.get(name, ((), ""))
        if set(words) & set(names[at + 1:]):
            return mark
    return None
