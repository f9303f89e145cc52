"""Whose a connection is, as the samples of a window tell it one after the other."""

from rig.probe.window import Listed, Seen, Window
from rig.records import Sample
from tests.rig.builders import agent


def seen(moment: float, *ours: int, others: frozenset[int] = frozenset()) -> Seen:
    rows = [Listed(number, agent(100 + number), "127.0.0.1:5") for number in ours]
    return Seen(Sample(index=0, t=moment, open=list(ours), running=[]), rows, own=set(), others=set(others))


def test_a_connection_that_was_seen_before_it_named_itself_is_not_of_others() -> None:
    window = Window(0)
    window.add(seen(1.0, others=frozenset({7, 8})))
    window.add(seen(1.1, 7, others=frozenset({8})))
    window.add(seen(1.2, 7))

    assert window.others == {8}
    assert set(window.connections) == {7}


def test_a_connection_that_turns_out_to_be_of_others_does_not_count() -> None:
    window = Window(0)
    window.add(seen(1.0, 7))
    window.add(seen(1.1, others=frozenset({7})))

    assert window.others == {7}
    assert not window.connections
