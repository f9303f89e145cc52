"""A user agent says whose a connection is, and only ours are taken for ours."""

import os
import socket

import pytest

from patterns.identity import Identity, parse, user_agent

IDENTITY = Identity("0.1.0", "improved", "root", "worker-1.example", 12, 345)
AGENT = "neo4j-airflow-connections/0.1.0 (pattern=improved; alias=root; worker=worker-1.example:12; task=345)"


def test_the_format_is_the_documented_one() -> None:
    assert user_agent(IDENTITY) == AGENT


@pytest.mark.parametrize("identity", [IDENTITY, IDENTITY._replace(host="fe80::1"),
                                      IDENTITY._replace(version="1.2rc1+x")])
def test_what_was_stated_is_read_back(identity: Identity) -> None:
    assert parse(user_agent(identity)) == identity


@pytest.mark.parametrize("agent", [None, "", "neo4j-python/6.4.1 Python/3.11", "neo4j-browser", AGENT + " x",
                                   "x " + AGENT, AGENT.replace("task=345", "task=x"),
                                   AGENT.replace("neo4j-airflow", "other")])
def test_other_clients_are_none_of_ours(agent: str | None) -> None:
    assert parse(agent) is None


def test_the_parent_of_a_tasks_process_is_its_worker() -> None:
    identity = Identity.of_this_process("improved", "root")
    assert identity.worker == f"{socket.gethostname()}:{os.getppid()}"
    assert identity.task_pid == os.getpid()
