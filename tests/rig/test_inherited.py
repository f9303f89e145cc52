"""What a service inherits of the user's environment: what is named, and nothing that is meant for another program."""

import pytest

from rig.settings import PROJECT
from rig.stack import inherited

FOREIGN = {
    "PGSSLMODE": "require", "PGHOSTADDR": "192.0.2.1", "PGTARGETSESSIONATTRS": "read-only", "REDIS_URL": "redis://other",
    "REDISCLI_AUTH": "x", "LOCUST_RUN_TIME": "5s", "_JAVA_OPTIONS": "-Xmx1m", "JDK_JAVA_OPTIONS": "-Xmx1m",
    "JAVA_TOOL_OPTIONS": "-Xmx1m", "http_proxy": "http://192.0.2.1:3128", "HTTPS_PROXY": "http://192.0.2.1:3128",
    "PYTHONPATH": "/elsewhere", "PYTHONHOME": "/elsewhere", "PYTHONSTARTUP": "/elsewhere/x.py",
    "OTEL_SDK_DISABLED": "true", "CELERY_BROKER_URL": "redis://other", "FLOWER_PORT": "1",
    "AIRFLOW__CORE__EXECUTOR": "x", "NEO4J_CONF": "/elsewhere",
    "RIG_SLOTS": "3", "WORKER_INIT_SCOPE": "shared", "LD_PRELOAD": "/elsewhere.so", "FORKED_BY_MULTIPROCESSING": "1"}
OURS = {"PATH": "/bin", "HOME": "/home/ann", "LC_ALL": "C.UTF-8", "TZ": "Asia/Tokyo", "SSL_CERT_FILE": "/ca.pem"}


@pytest.mark.parametrize("name", sorted(FOREIGN))
def test_what_is_meant_for_another_program_is_not_inherited(name: str) -> None:
    assert inherited.of(FOREIGN | OURS).get(name) is None


def test_what_a_program_needs_of_the_machine_is_inherited() -> None:
    assert inherited.of(FOREIGN | OURS) == OURS


def test_a_variable_that_the_user_names_is_inherited_too() -> None:
    assert inherited.of({"MY_KEY": "k", "MY_OTHER_KEY": "o"}, ["MY_KEY", "NOT_SET"]) == {"MY_KEY": "k"}


def test_what_is_inherited_is_documented() -> None:
    example = (PROJECT / ".env.example").read_text(encoding="utf-8")
    (listed,) = [block for block in example.split("\n\n") if "# RIG_INHERIT=" in block]
    assert [name for name in (*inherited.NAMES, *inherited.PREFIXES) if name not in listed] == []
