"""How often each of several servers in a row gets a request, and how long each is idle in between.

The servers are the pool processes of a Celery worker, each with the connection of its shared driver, or the connections
of one shared driver. A connection that has been idle for longer than the timeout is closed; the next request opens
another. Requests arrive at random (Poisson) at ``rate`` per second and keep their server busy for ``busy`` seconds.

Two ways to choose the server:

*In order*: the first server that is free. Celery's pool does this: it writes the next task to the first process that is
not busy, in the order of their file descriptors (``schedule_writes`` in ``celery/concurrency/asynpool.py``, Celery
5.6.3, strategy ``fair``). ``python -m benchmarks.assignment`` measures it. Server *n* gets the requests that the *n -
1* servers before it cannot take. These overflows form a renewal process, whose Laplace transform is known by a
recursion (C. Palm, *Intensitätsschwankungen im Fernsprechverkehr*, 1943; R. B. Cooper, *Introduction to Queueing
Theory*, 2nd ed. 1981, "ordered hunt")::
    phi_0(s) = rate / (rate + s)
    phi_n(s) = phi_{n-1}(s + mu) / (1 - phi_{n-1}(s) + phi_{n-1}(s + mu)),      mu = 1 / busy

The idle time of server *n* begins at the end of its own service, which began with an overflow, and lasts until the next
overflow. Service times are assumed to be memoryless, so the renewal argument at the end of the service gives the
transform of the idle time::

    gamma_n(s) = mu * (phi(s) - phi(mu)) / ((mu - s) * (1 - phi(mu))),      phi = phi_{n-1}

*At random*: any of the servers, as with an even distribution. A server's idle time is then exponential.
"""

import math
from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
from statistics import NormalDist
from typing import NamedTuple

_TERMS = 12
"""Terms of the Gaver-Stehfest inversion. In double precision, more terms make the result less exact."""

class Kept(NamedTuple):
    """Servers that keep their connections: how many are opened per second, and how many are open on average."""

    opened: float
    open: float


def erlang_b(load: float, servers: int) -> list[float]:
    """Return the share of requests that find 0, 1, … ``servers`` servers all busy (Erlang's formula B).

    ``load`` is in erlangs: the rate of requests times the time that each keeps a server busy.
    """
    lost = [1.0]
    for number in range(1, servers + 1):
        lost.append(load * lost[-1] / (number + load * lost[-1]))
    return lost


def in_order(rate: float, busy: float, servers: int, timeout: float) -> Kept:
    """Return the connections of servers that get requests in a fixed order. Times are in seconds.

    Requests that find all servers busy are left out: they wait, and then find an open connection. If the load is as
    much as the servers can handle, none of them is ever idle.
    """
    if rate * busy >= servers:
        return Kept(0.0, servers)
    lost = erlang_b(rate * busy, servers)
    rates = [rate * (before - after) for before, after in pairwise(lost)]
    idle = _idle_times(rate, busy, servers, timeout)
    return Kept(sum(of * longer for of, (longer, _) in zip(rates, idle, strict=True)),
                sum(of * (busy + kept) for of, (_, kept) in zip(rates, idle, strict=True)))


def at_random(rate: float, busy: float, servers: int, timeout: float) -> Kept:
    """Return the connections of servers that are picked at random: each is idle for an exponential time.

    With n servers and a rate of r, each gets r/n requests per second, so its mean idle time is n/r - busy.
    """
    mean = servers / rate - busy
    if mean <= 0:
        return Kept(0.0, servers)
    longer = math.exp(-timeout / mean)
    return Kept(rate * longer, rate * (busy + mean * (1 - longer)))


def in_batches(batches: float, working: float, asked: int, timeout: float) -> Kept:
    """Return the connections of servers that get work in batches, ``batches`` times per second, at random.

    ``asked`` of them work on each batch for ``working`` seconds and then wait for the next one. The wait is longer than
    the timeout with the probability exp(-batches * (timeout + working)).
    """
    longer = math.exp(-batches * (timeout + working))
    return Kept(batches * asked * longer, asked * (1 - longer))


def replaced(kept: Kept, lifetime: float) -> Kept:
    """Return the same for connections that are also replaced at an age of ``lifetime`` seconds.

    Each of the ``open`` connections is closed by the timeout ``opened / open`` times per second. Whichever comes first
    ends it, so it lives for (1 - exp(-r * lifetime)) / r on average, where r is that rate.
    """
    if kept.open <= 0:
        return kept
    ended = kept.opened / kept.open
    lives = -math.expm1(-ended * lifetime) / ended if ended * lifetime > 1e-9 else lifetime
    return Kept(kept.open / lives, kept.open)


def poisson_quantile(mean: float, share: float) -> int:
    """Return the smallest number that a Poisson variable exceeds with a probability of at most 1 - ``share``.

    It is the number of requests in progress at one moment if none has to wait (Erlang). From a mean of 500 on, the
    normal approximation is used.
    """
    if mean > 500:
        return math.ceil(mean + NormalDist().inv_cdf(share) * math.sqrt(mean))
    number, term = 0, math.exp(-mean)
    total = term
    while total < min(share, 1 - 1e-12):    # the sum does not get closer to 1
        number += 1
        term *= mean / number
        total += term
    return number


def _idle_times(rate: float, busy: float, servers: int, timeout: float) -> list[tuple[float, float]]:
    """Return for each server, in order: P(idle time > timeout), and E[min(idle time, timeout)]."""
    mu = 1 / busy
    at_mu = _overflows(rate, mu, servers, mu)

    def transforms(s: float) -> list[float]:
        s *= 1 + 1e-9 * (abs(s - mu) < 1e-9 * mu)      # the formula is 0/0 at mu, and smooth around it
        return [mu * (at_s - at) / ((mu - s) * (1 - at)) for at_s, at in
                zip(_overflows(rate, mu, servers, s), at_mu, strict=True)]

    longer = _inverted(lambda s: [(1 - gamma) / s for gamma in transforms(s)], timeout)
    kept = _inverted(lambda s: [(1 - gamma) / s ** 2 for gamma in transforms(s)], timeout)
    return [(min(max(one, 0.0), 1.0), min(max(other, 0.0), timeout)) for one, other in zip(longer, kept, strict=True)]


def _overflows(rate: float, mu: float, servers: int, s: float) -> list[float]:
    """Return phi_0(s), phi_1(s), … for all servers."""
    row = [rate / (rate + s + shift * mu) for shift in range(servers)]
    found = []
    while row:
        found.append(row[0])
        row = [later / (1 - now + later) for now, later in pairwise(row)]
    return found


def _inverted(transforms: Callable[[float], Sequence[float]], t: float) -> list[float]:
    """Return the functions with these Laplace transforms at ``t`` (H. Stehfest, CACM 13, 1970, algorithm 368)."""
    step = math.log(2) / t
    rows = [transforms(number * step) for number in range(1, _TERMS + 1)]
    return [step * sum(weight * value for weight, value in zip(_weights(), column, strict=True))
            for column in zip(*rows, strict=True)]


@cache
def _weights() -> list[float]:
    half = _TERMS // 2
    return [(-1) ** (number + half) * sum(
        one ** half * math.factorial(2 * one) / (math.factorial(half - one) * math.factorial(one) *
                                                 math.factorial(one - 1) * math.factorial(number - one) *
                                                 math.factorial(2 * one - number))
        for one in range((number + 1) // 2, min(number, half) + 1)) for number in range(1, _TERMS + 1)]
