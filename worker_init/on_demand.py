"""The upstreams that tasks ask for: opened at the first request, shared by equal ones, closed when not needed.

A task that was given an address may use it until the task ends, however long it pauses in between. So the host watches
the processes that have asked, and an upstream stays open for as long as one of them lives.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Awaitable, Callable
from itertools import count
from typing import NamedTuple
from urllib.parse import urlsplit

from worker_init.address_request import AddressRequest, NoAddress
from worker_init.errors import BadSetting
from worker_init.relay import Relay
from worker_init.targets import Address, Credentials, Target

log = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
# The upstreams of the worker's environment are counted from 0.
_FIRST = 2 ** 16


class Demand(NamedTuple):
    """What an upstream is opened for. Two equal requests share it."""

    slot: int
    target: Target


class Served:
    """An upstream that has been opened, the processes that may use it, and the timer that ends it."""

    def __init__(self, at: int, relay: Relay, address: Address, sock: socket.socket) -> None:
        self.at = at
        self.sock = sock
        self.relay = relay
        self.address = address
        self.users: dict[int, int] = {}
        self.timer: asyncio.TimerHandle | None = None

    @property
    def is_needed(self) -> bool:
        """Whether a process that knows the address is alive, or a client is connected."""
        return bool(self.users) or self.relay.has_clients

    def forget_users(self) -> None:
        """Stop watching all processes."""
        for descriptor in self.users.values():
            _let_go(descriptor)
        self.users.clear()

    def stop_timer(self) -> None:
        """Cancel the timer: the upstream stays for now."""
        if self.timer:
            self.timer.cancel()
            self.timer = None


Open = Callable[[int, int, Target, Credentials, socket.socket], Awaitable[Relay]]
Close = Callable[[int, int, socket.socket], None]


class OnDemand:
    """One host's upstreams on demand. At most ``most`` are open; each is kept ``keep`` seconds after its last user."""

    def __init__(self, most: int, keep: float, open_relay: Open, close_relay: Close) -> None:
        self._most = most
        self._keep = keep
        self._open_relay = open_relay
        self._close_relay = close_relay
        self._fixed: dict[Demand, Address] = {}
        self._served: dict[Demand, Served] = {}
        self._opening = asyncio.Lock()
        self._numbers = count(_FIRST)

    def add_fixed(self, slot: int, target: Target, address: Address) -> None:
        """Note an upstream of the worker's environment, which stays for as long as the host lives."""
        self._fixed[Demand(slot, target)] = address

    def restore(self, slot: int, at: int, relay: Relay, sock: socket.socket, credentials: Credentials) -> None:
        """Note an upstream that an earlier host opened. Its users are unknown, so it stays until it is idle."""
        demand = Demand(slot, relay.target)
        served = self._served[demand] = Served(at, relay, Address.of(sock, credentials), sock)
        self._numbers = count(max(at, next(self._numbers)) + 1)
        self._start_timer(demand, served)

    async def address(self, request: AddressRequest, pid: int) -> Address | None:
        """Return an upstream's address for a process, or None if the process asks with a local relay's address.

        Raises NoAddress with the reason if there can be none.
        """
        demand = Demand(*request)
        if self._is_local(demand.target):
            return None
        if fixed := self._fixed.get(demand):
            return fixed
        async with self._opening:
            served = self._served.get(demand) or await self._open(demand)
        self._watch(demand, served, pid)
        return served.address

    def relay_for(self, request: AddressRequest) -> Relay | None:
        """Return the relay that is open because a task asked for it; None if there is none."""
        served = self._served.get(Demand(*request))
        return served.relay if served else None

    def drop(self, target: Target) -> None:
        """Close an upstream that cannot be shared, even while tasks that asked for it are alive."""
        for demand, served in [*self._served.items()]:
            if demand.target == target:
                served.forget_users()
                self._retire(demand)

    def close(self) -> None:
        """Stop watching all processes."""
        for served in self._served.values():
            served.stop_timer()
            served.forget_users()

    def _is_local(self, target: Target) -> bool:
        addresses = [*self._fixed.values(), *(served.address for served in self._served.values())]
        parts = urlsplit(target.uri)
        return any((parts.hostname, parts.port, target.username, target.password)
                   == (address.host, address.port, *address.credentials) for address in addresses)

    async def _open(self, demand: Demand) -> Served:
        self._make_room(demand.target)
        number, credentials = next(self._numbers), Credentials.random()
        sock = socket.socket()
        try:
            sock.bind((LOOPBACK, 0))
            relay = await self._open_relay(demand.slot, number, demand.target, credentials, sock)
        except (OSError, BadSetting) as error:
            sock.close()
            raise NoAddress(str(error)) from error
        served = self._served[demand] = Served(number, relay, Address.of(sock, credentials), sock)
        log.info("slot %d, %r: opened for a task, at %s", demand.slot, demand.target, relay.address)
        return served

    def _make_room(self, target: Target) -> None:
        """Close an unneeded upstream if there are as many as allowed. Raises NoAddress if all of them are needed."""
        while len(targets := self._targets()) >= self._most and target not in targets:
            spare = next((each for each in self._served.values()
                          if not any(one.is_needed for one in self._of(each.relay.target))), None)
            if not spare:
                raise NoAddress(f"it serves {len(targets)} upstreams, and WORKER_INIT_MAX_UPSTREAMS={self._most} "
                                "allows no more")
            for demand in [demand for demand in self._served if demand.target == spare.relay.target]:
                self._retire(demand)

    def _targets(self) -> set[Target]:
        return {demand.target for demand in (*self._fixed, *self._served)}

    def _of(self, target: Target) -> list[Served]:
        return [served for demand, served in self._served.items() if demand.target == target]

    def _watch(self, demand: Demand, served: Served, pid: int) -> None:
        """Keep an upstream for as long as a process lives. If the process cannot be watched, keep it for a while."""
        served.stop_timer()
        if pid in served.users:
            return
        descriptor = _descriptor_of(pid)
        if descriptor is None:
            self._start_timer(demand, served)
        else:
            served.users[pid] = descriptor
            asyncio.get_running_loop().add_reader(descriptor, self._ended, demand, served, pid)

    def _ended(self, demand: Demand, served: Served, pid: int) -> None:
        _let_go(served.users.pop(pid))
        if not served.users:
            self._start_timer(demand, served)

    def _start_timer(self, demand: Demand, served: Served) -> None:
        served.stop_timer()
        keep = 0.0 if self._is_superseded(demand, served) else self._keep
        served.timer = asyncio.get_running_loop().call_later(keep, self._time_is_up, demand, served)

    def _is_superseded(self, demand: Demand, served: Served) -> bool:
        """Whether the same user has since logged on to the same server with another password."""
        slot, target = demand
        return any(other.at > served.at and other.relay.server is not None
                   and (slot, target.uri, target.username) == (one.slot, one.target.uri, one.target.username)
                   for one, other in self._served.items())

    def _time_is_up(self, demand: Demand, served: Served) -> None:
        served.timer = None
        if not served.is_needed:
            self._retire(demand)
        elif not served.users:      # a client whose process was not watched
            served.timer = asyncio.get_running_loop().call_later(self._keep, self._time_is_up, demand, served)

    def _retire(self, demand: Demand) -> None:
        served = self._served.pop(demand)
        served.stop_timer()
        log.info("slot %d, %r: no task uses it any more, closed", demand.slot, demand.target)
        self._close_relay(demand.slot, served.at, served.sock)


def _descriptor_of(pid: int) -> int | None:
    """Return a descriptor that becomes readable when a process ends; None if there is none, or no such process."""
    if not pid or not hasattr(os, "pidfd_open"):
        return None
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None


def _let_go(descriptor: int) -> None:
    asyncio.get_running_loop().remove_reader(descriptor)
    os.close(descriptor)
