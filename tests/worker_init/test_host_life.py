"""The life of a driver host as a machine: what the table says, and what it never lets happen."""

import random
from collections.abc import Callable
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
# Tasks may connect, and wait until they are served.
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


def slow() -> HostLife:
    return after(started(), Event.TIME)


def after(life: HostLife, *events: Event) -> HostLife:
    for event in events:
        life.feed(event, 20)
    return life


# A life in each of its states.
IN: dict[State, Callable[[], HostLife]] = {
    State.NEW: lambda: HostLife(PATIENCE),
    State.STARTING: started,
    State.SLOW: slow,
    State.SERVING: serving,
    State.ENDING: lambda: after(serving(), Event.CHANNEL_CLOSED),
    State.DEAD: lambda: after(started(), Event.FAILED),
    State.DOWN: lambda: after(started(), Event.FAILED_TOO_OFTEN),
    State.TRYING: lambda: after(started(), Event.FAILED_TOO_OFTEN, Event.TIME, Event.SPAWNED),
    State.DROPPED: lambda: after(IN[State.TRYING](), Event.TIME),
    State.UNFIT: lambda: after(started(), Event.FOUND_UNFIT),
    State.BROKEN: lambda: after(started(), Event.TROUBLE),
    State.STOPPING: lambda: after(serving(), Event.STOP),
    State.KILLED: lambda: after(serving(), Event.KILL),
    State.STOPPED: lambda: after(HostLife(PATIENCE), Event.STOP)}
# A host serves, or is about to; it should end; there is none, and one may come; none will come; the end was asked for.
LIVING = {State.STARTING, State.SLOW, State.TRYING, State.SERVING}
DOOMED = {State.ENDING, State.DROPPED}
WITHOUT = {State.NEW, State.DEAD, State.DOWN}
OVER = {State.UNFIT, State.BROKEN}
LEAVING = {State.STOPPING, State.KILLED}
ENDS = (Event.EXITED, Event.FAILED, Event.FAILED_TOO_OFTEN, Event.FOUND_UNFIT)
in_every_state = pytest.mark.parametrize("state", IN)


def test_each_state_is_tried() -> None:
    assert set(IN) == set(State)
    assert {make().state for make in IN.values()} == set(State)


@in_every_state
def test_a_worker_that_stops_lets_transactions_end_if_a_host_serves(state: State) -> None:
    life = IN[state]()
    done = life.feed(Event.STOP, 30)
    if state in LIVING:
        assert (done, life.state) == ((Action.TELL_STOP,), State.STOPPING)
    elif state in DOOMED:
        assert (done, life.state) == ((Action.KILL,), State.KILLED)
    elif state in WITHOUT | OVER:
        assert (done, life.state) == ((Action.END,), State.STOPPED)
    else:
        assert (done, life.state) == ((), state)


@in_every_state
def test_a_worker_that_has_no_time_kills_the_host(state: State) -> None:
    life = IN[state]()
    done = life.feed(Event.KILL, 30)
    if state in LIVING | DOOMED | {State.STOPPING}:
        assert (done, life.state) == ((Action.KILL,), State.KILLED)
    elif state in WITHOUT | OVER:
        assert (done, life.state) == ((Action.END,), State.STOPPED)
    else:
        assert (done, life.state) == ((), state)


@pytest.mark.parametrize("last", [*ENDS, Event.TIME])
@pytest.mark.parametrize("state", sorted(LEAVING, key=str))
def test_the_end_is_tidied_up_once_the_host_is_gone_or_given_up(state: State, last: Event) -> None:
    life = IN[state]()
    if (state, last) == (State.STOPPING, Event.TIME):
        assert life.feed(last, 100) == (Action.KILL,)
        assert life.state is State.KILLED
    assert life.feed(last, 200) == (Action.END,)
    assert life.state is State.STOPPED


@pytest.mark.parametrize("event", Event)
def test_nothing_happens_after_the_end(event: Event) -> None:
    life = IN[State.STOPPED]()
    assert life.feed(event, 100) == ()
    assert (life.state, life.deadline) == (State.STOPPED, None)


@in_every_state
def test_a_pool_that_grows_has_its_new_endpoints_served_or_refused(state: State) -> None:
    life = IN[state]()
    wanted = (Action.ANNOUNCE,) if state in LIVING else (Action.REFUSE,) if state in {State.DOWN, *OVER} else ()
    assert life.feed(Event.GROWN, 30) == wanted
    assert life.state is state


@pytest.mark.parametrize("state", [state for state in IN if state is not State.NEW])
def test_a_folder_that_is_gone_is_made_again_where_it_will_be_used(state: State) -> None:
    life = IN[state]()
    wanted = (Action.MOVE,) if state in LIVING | {State.DEAD, State.DOWN} else ()
    assert life.feed(Event.FOLDER_GONE, 30) == wanted
    assert life.state is state


@in_every_state
def test_a_supervisor_that_fails_leaves_no_host_and_no_task_that_waits(state: State) -> None:
    life = IN[state]()
    done = life.feed(Event.TROUBLE, 30)
    if state in LIVING | DOOMED | WITHOUT:
        assert (done, life.state) == ((Action.REFUSE, Action.KILL), State.BROKEN)
    elif state in LEAVING:
        assert (done, life.state) == ((Action.KILL, Action.END), State.STOPPED)
    else:
        assert (done, life.state) == ((), state)


@pytest.mark.parametrize("event", [*ENDS, Event.CHANNEL_CLOSED, Event.FOLDER_GONE])
@pytest.mark.parametrize("state", sorted(OVER, key=str))
def test_where_no_host_will_be_nothing_begins_again(state: State, event: Event) -> None:
    life = IN[state]()
    assert life.feed(event, 30) == ()
    assert (life.state, life.deadline) == (state, None)


def may_end(state: State) -> set[Event]:
    """Return what the end of a host can be: only one that was ready exits, only one that was not fails to start."""
    failures = {Event.FAILED, Event.FAILED_TOO_OFTEN}
    return {Event.FOUND_UNFIT, *({Event.EXITED} if state is State.SERVING else failures),
            *({Event.EXITED} if state is State.ENDING else ())}


@pytest.mark.parametrize(("state", "event"), [(state, event) for state in IN if state in LIVING | DOOMED
                                              for event in ENDS if event in may_end(state)])
def test_a_host_that_ends_is_followed_by_another_unless_it_is_unfit_or_others_have_failed(
        state: State, event: Event) -> None:
    life = IN[state]()
    done = life.feed(event, 30)
    if event is Event.FOUND_UNFIT:
        assert (done, life.state) == ((Action.REFUSE,), State.UNFIT)
    elif event is Event.FAILED_TOO_OFTEN or state in (State.TRYING, State.DROPPED):
        assert (done, life.state) == ((Action.REFUSE,), State.DOWN)
    else:
        assert (done, life.state) == ((), State.DEAD)


@pytest.mark.parametrize("state", sorted(LIVING | DOOMED | LEAVING, key=str))
def test_a_host_that_closes_its_channel_should_end(state: State) -> None:
    life = IN[state]()
    assert life.feed(Event.CHANNEL_CLOSED, 30) == ()
    assert life.state is {State.TRYING: State.DROPPED}.get(state, State.ENDING if state in LIVING else state)


@pytest.mark.parametrize("state", sorted(LIVING | DOOMED | LEAVING | {State.BROKEN}, key=str))
def test_a_host_that_is_ready_serves_unless_it_should_end(state: State) -> None:
    life = IN[state]()
    assert life.feed(Event.READY, 30) == ((Action.LISTEN,) if state is State.TRYING else ())
    assert life.state is (State.SERVING if state in LIVING else state)


@pytest.mark.parametrize(("state", "done", "then"), [
    (State.STARTING, (), State.SLOW), (State.SLOW, (Action.KILL,), State.ENDING),
    (State.TRYING, (Action.KILL,), State.DROPPED), (State.ENDING, (Action.KILL,), State.ENDING),
    (State.DROPPED, (Action.KILL,), State.DROPPED), (State.DEAD, (Action.SPAWN,), State.STARTING),
    (State.DOWN, (Action.SPAWN,), State.TRYING)])
def test_no_wait_is_without_end(state: State, done: tuple[Action, ...], then: State) -> None:
    life = IN[state]()
    assert life.deadline is not None
    assert life.feed(Event.TIME, life.deadline) == done
    assert life.state is then
    assert life.deadline is not None


@pytest.mark.parametrize("state", [State.STARTING, State.SLOW, State.TRYING])
def test_a_process_that_was_started_is_told_what_to_serve(state: State) -> None:
    life = IN[state]()
    assert life.feed(Event.SPAWNED, 30) == (Action.INTRODUCE,)
    assert life.state is state


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
