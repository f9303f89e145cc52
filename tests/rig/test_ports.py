"""Ports: a free one, or the one that the user set; one that is taken is named with the variable to change."""

import os
import socket
import sys
from pathlib import Path

import pytest

from rig.errors import BadInput
from rig.stack import ports

PRIVILEGED = 80


def test_a_free_one_can_be_opened() -> None:
    port = ports.choose(0, variable="RIG_REDIS_PORT")
    with socket.create_server(("127.0.0.1", port)):
        assert port > 0


def test_a_free_one_is_none_that_linux_or_macos_gives_to_an_outgoing_connection() -> None:
    assert all(ports.choose(0, variable="RIG_AIRFLOW_PORT") < 32_768 for _ in range(20))


def test_a_port_is_not_given_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    few = range(31_000, 31_050)
    monkeypatch.setattr(ports, "_NOBODY_ELSES", few)
    free = ports.choose(0, variable="RIG_AIRFLOW_PORT")
    assert ports.choose(0, variable="RIG_FLOWER_PORT", given={*few} - {free}) == free


def test_several_in_a_row_are_all_free(monkeypatch: pytest.MonkeyPatch) -> None:
    few = range(31_000, 31_050)
    monkeypatch.setattr(ports, "_NOBODY_ELSES", few)
    first = ports.choose(0, variable="RIG_AIRFLOW_PORT", in_a_row=3)
    with socket.create_server(("127.0.0.1", first + 1)):
        given = {*few} - {first, first + 2}
        with pytest.raises(BadInput, match="no 3 free ports in a row for --relay, from 31000 to 31049 on 127"):
            ports.choose(0, variable="--relay", given=given, in_a_row=3)
        assert ports.choose(0, variable="RIG_FLOWER_PORT", given=given) in {first, first + 2}


def test_a_row_does_not_go_beyond_the_range(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "_NOBODY_ELSES", range(31_000, 31_050))
    monkeypatch.setattr(ports, "_opened", lambda _, port: port)
    assert ports.choose(0, variable="--relay", in_a_row=50) == 31_000


def test_the_one_that_was_set_is_kept() -> None:
    wanted = ports.choose(0, variable="RIG_REDIS_PORT")
    assert ports.choose(wanted, variable="RIG_REDIS_PORT") == wanted


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])   # noqa: S104 - what another program may do
def test_one_in_use_names_the_port_and_the_variable(address: str) -> None:
    with socket.create_server((address, 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(BadInput) as caught:
            ports.choose(port, variable="RIG_REDIS_PORT")
    assert str(caught.value) == (f"port {port} on 127.0.0.1 cannot be opened: another program is using it — "
                                 "set RIG_REDIS_PORT to another port, or to 0 for a free one")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has all of 127.0.0.0/8 from the start")
def test_it_is_the_given_address_that_counts() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert ports.choose(port, variable="RIG_AIRFLOW_PORT", host="127.0.0.2") == port
        with pytest.raises(BadInput, match=r"on 0\.0\.0\.0 cannot be opened"):
            ports.choose(port, variable="RIG_AIRFLOW_PORT", host="0.0.0.0")    # noqa: S104 - the user may say so


def test_one_whose_server_has_just_stopped_is_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            server.accept()[0].close()      # the side that closes first keeps the port in TIME_WAIT
            assert client.recv(1) == b""
    assert ports.choose(port, variable="RIG_REDIS_PORT") == port


def test_an_address_that_is_not_this_machines_is_one_line() -> None:
    with pytest.raises(BadInput, match=r"port 0 on 192\.0\.2\.1 cannot be opened: .*assign requested address"):
        ports.choose(0, variable="RIG_AIRFLOW_PORT", host="192.0.2.1")


def may_open_every_port() -> bool:
    lowest = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
    return os.geteuid() == 0 or not lowest.exists() or int(lowest.read_text()) <= PRIVILEGED


@pytest.mark.skipif(may_open_every_port(), reason="this user may open every port here")
def test_one_that_this_user_may_not_open_is_one_line() -> None:
    with pytest.raises(BadInput, match="permission denied — set RIG_REDIS_PORT"):
        ports.choose(PRIVILEGED, variable="RIG_REDIS_PORT")
