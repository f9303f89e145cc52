"""The room that clients of a host share for queries which have to be read."""

from worker_init.spool import Spool


def test_all_but_the_oldest_are_held_back_where_there_is_no_room() -> None:
    spool: Spool[str] = Spool(100)
    for name, size in (("first", 60), ("second", 30)):
        spool.add(name, size)
        assert not spool.holds_back(name)
    spool.add("second", 30)
    assert [spool.holds_back(name) for name in ("first", "second", "third")] == [False, True, True]
    spool.add("first", 1000)
    assert not spool.holds_back("first")


def test_a_client_that_ends_makes_room_and_wakes_the_others() -> None:
    spool: Spool[str] = Spool(100)
    for name in ("first", "second", "third"):
        spool.add(name, 60)
    assert [spool.holds_back(name) for name in ("second", "third")] == [True, True]
    assert set(spool.remove("first")) == {"second", "third"}
    assert [spool.holds_back(name) for name in ("second", "third")] == [False, True]
    assert spool.remove("first") == ()
    spool.remove("second")
    spool.remove("third")
    assert spool.total == 0
