"""The life of a driver host as a machine: what the table says, and what it never lets happen."""

import random
from itertools import product
from pathlib import Path

import pytest

from worker_init.errors import Unforeseen
from worker_init.host_life import (
    HEALTHY_SECONDS,
    HUNG_SECONDS,
    LONGEST_PAUSE,
    REFUSING,
    SHORTEST_PAUSE,
    TABLE,
    TRIES,
    Action,
    Event,
    HostLife,
    Patience,
    State,
    documentation,
)

PAGE = Path(__file__).resolve().parents[2] / "docs" / "relay.md"
PATIENCE = Patience(start=10, drain=30)
# Tasks may connect, and wait for whoever serves them.
WAITING = (State.STARTING, State.SLOW, State.ENDING, State.DEAD)


def started() -> HostLife:
    life = HostLife(PATIENCE)
    assert life.feed(Event.START, 0) == (Action.SPAWN,)
    assert life.feed(Event.SPAWNED, 0) == (Action.INTRODUCE,)
    return life


def serving() -> HostLife:
    life = started()
    life.feed(Event.READY, 1)
    assert (life.state, life.deadline) == (State.SERVING, None)
    return life


def fail_to_start(life: HostLife, now: float) -> tuple[Action, ...]:
    """Let its pause end, and the next host end before it is ready."""
    life.feed(Event.TIME, now)
    life.feed(Event.SPAWNED, now)
    return life.feed(life.ended(now), now)


def test_no_pair_of_state_and_event_has_two_rows() -> None:
    pairs = [pair for row in TABLE for pair in product(row.states, row.events)]
    assert len(pairs) == len(set(pairs))


def test_what_is_not_in_the_table_is_an_error_and_changes_nothing() -> None:
    life = started()
    with pytest.raises(Unforeseen, match="start asked while starting"):
        life.feed(Event.START, 1)
    assert (life.state, life.deadline) == (State.STARTING, 10)


def test_a_host_that_has_served_is_replaced_at_the_same_addresses() -> None:
    life = serving()
    assert life.feed(life.ended(100), 100) == ()
    assert (life.state, life.deadline) == (State.DEAD, 100 + SHORTEST_PAUSE)
    assert life.feed(Event.TIME, 101) == (Action.SPAWN,)
    assert life.feed(Event.SPAWNED, 101) == (Action.INTRODUCE,)
    life.feed(Event.READY, 102)
    assert (life.state, life.restarts) == (State.SERVING, 1)


def test_the_pause_grows_while_hosts_die_young_and_starts_again_with_one_that_lives() -> None:
    life, now, pauses = serving(), 2.0, []
    for _ in range(9):
        life.feed(life.ended(now), now)
        pauses.append(life.pause)
        now += life.pause
        for event in (Event.TIME, Event.SPAWNED, Event.READY):
            life.feed(event, now)
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (2 * SHORTEST_PAUSE, LONGEST_PAUSE)
    life.feed(life.ended(now + HEALTHY_SECONDS + 1), now + HEALTHY_SECONDS + 1)
    assert life.pause == SHORTEST_PAUSE


def test_a_worker_whose_first_hosts_all_fail_is_not_kept_waiting() -> None:
    life = started()
    assert life.feed(life.ended(0.5), 0.5) == ()
    assert fail_to_start(life, 1) == ()
    assert fail_to_start(life, 1.5) == (Action.REFUSE,)
    assert life.state is State.DOWN


def test_tasks_wait_as_long_as_a_start_may_take_before_they_are_refused() -> None:
    life = serving()
    life.feed(life.ended(100), 100)
    for _ in range(TRIES):
        assert fail_to_start(life, 100 + PATIENCE.start - 1) == ()
    assert life.state is State.DEAD
    assert fail_to_start(life, 100 + PATIENCE.start) == (Action.REFUSE,)
    assert life.is_refusing


def test_where_tasks_are_refused_hosts_are_tried_for_ever_and_one_that_serves_ends_it() -> None:
    life = started()
    life.feed(life.ended(0), 0)
    for now in range(1, 50):
        fail_to_start(life, now)
    assert (life.state, life.pause) == (State.DOWN, LONGEST_PAUSE)
    for event in (Event.TIME, Event.SPAWNED):
        life.feed(event, 60)
    assert life.feed(Event.READY, 61) == (Action.LISTEN,)
    assert (life.state, life.is_refusing) == (State.SERVING, False)


def test_a_slow_start_is_waited_for_and_a_hung_one_is_ended() -> None:
    life = started()
    life.feed(Event.TIME, 10)
    assert (life.state, life.is_refusing) == (State.SLOW, False)
    assert life.deadline == 10 + HUNG_SECONDS
    assert life.feed(Event.TIME, 70) == (Action.KILL,)
    assert life.ended(71) is Event.FAILED_TOO_OFTEN     # nobody waits for another such host


@pytest.mark.parametrize("state", [State.STARTING, State.SLOW, State.SERVING])
def test_no_end_but_a_failed_test_makes_a_host_unfit(state: State) -> None:
    life = {State.STARTING: started, State.SLOW: started, State.SERVING: serving}[state]()
    if state is State.SLOW:
        life.feed(Event.TIME, 10)
    assert life.state is state
    assert life.ended(11) in (Event.EXITED, Event.FAILED)
    assert life.feed(life.ended(11, unfit=True), 11) == (Action.REFUSE,)
    assert (life.state, life.deadline) == (State.UNFIT, None)


class World:
    """A supervisor's surroundings: any interleaving that processes, clocks and Celery can bring about."""

    def __init__(self, seed: int) -> None:
        self.life = HostLife(PATIENCE)
        self.choose = random.Random(seed)
        self.now = 0.0
        self.lives = self.listens = False
        self.channel_is_open = False
        self.has_ended = False
        self.spawn_works = self.choose.random() < 0.7
        self.listens = True
        self.feed(Event.START)

    def feed(self, event: Event) -> None:
        actions = list(self.life.feed(event, self.now))
        while actions:
            actions += self.act(actions.pop(0))
        self.check()

    def act(self, action: Action) -> tuple[Action, ...]:
        if action is Action.SPAWN:
            assert not self.lives, "two hosts at once"
            if self.choose.random() < 0.2:
                return self.life.feed(self.life.ended(self.now), self.now)
            self.lives = self.channel_is_open = True
            return self.life.feed(Event.SPAWNED, self.now)
        if action is Action.REFUSE:
            self.listens = False
        elif action is Action.LISTEN:
            self.listens = True
        elif action is Action.END:
            self.has_ended, self.listens = True, False
        return ()

    def happen(self) -> None:
        self.now += self.choose.choice((0.01, 0.3, 3, 40))
        events = [Event.GROWN, Event.FOLDER_GONE]
        ends = self.choose.random() < 0.3
        if self.life.deadline is not None and self.now >= self.life.deadline:
            events = [Event.TIME]
        elif self.lives:
            events += [Event.CHANNEL_CLOSED] * self.channel_is_open
            events += [Event.READY] * (self.channel_is_open and self.spawn_works)
        if self.choose.random() < 0.03:
            events = [self.choose.choice((Event.STOP, Event.KILL, Event.TROUBLE))]
        elif self.lives and ends:
            self.lives = self.channel_is_open = False
            events = [self.life.ended(self.now, unfit=self.choose.random() < 0.1)]
        event = self.choose.choice(events)
        if event is Event.CHANNEL_CLOSED:
            self.channel_is_open = False
        self.feed(event)

    def check(self) -> None:
        state = self.life.state
        if state in WAITING:
            assert self.listens, "tasks that may wait are refused"
            assert self.life.deadline is not None, "tasks wait for nothing"
        if state in REFUSING:
            assert not self.listens, "tasks wait in sockets that nobody serves"
        if state is State.SERVING:
            assert self.listens
        if self.lives and state not in (State.SERVING, State.UNFIT, State.BROKEN, State.STOPPED):
            assert self.life.deadline is not None, "a host that hangs is waited for in vain"


@pytest.mark.parametrize("seed", range(20))
def test_in_every_interleaving_tasks_are_served_or_wait_with_an_end_or_are_refused(seed: int) -> None:
    for number in range(100):
        world = World(1000 * seed + number)
        for _ in range(60):
            world.happen()
        world.feed(Event.KILL)
        world.now += 100
        if world.life.state is not State.STOPPED:
            world.feed(Event.TIME)
        assert world.life.state is State.STOPPED
        assert world.has_ended


def test_the_page_about_the_relay_shows_the_table() -> None:
    page = PAGE.read_text(encoding="utf-8")
    shown = page.split("<!-- host_life: begin -->\n")[1].split("<!-- host_life: end -->")[0]
    assert shown == documentation(), "replace the section by what `python -m worker_init.host_life` prints"
