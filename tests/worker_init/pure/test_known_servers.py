"""What clients are offered while the members of a cluster speak different versions of Bolt."""

from worker_init.handshake import Version
from worker_init.known_servers import KnownServers, Server

OLD, NEW = Version(5, 8), Version(6, 1)


def server(version: Version) -> Server:
    return Server(version, f"Neo4j of {version}", {})


def test_nothing_is_known_at_first() -> None:
    known = KnownServers()
    assert known.oldest(0.0) is None
    assert known.newest is None


def test_one_server_is_offered_as_it_is_however_old_the_news() -> None:
    known = KnownServers()
    known.learn("one", server(NEW), 0.0)
    assert known.oldest(1e6) == server(NEW)
    known.learn("one", server(OLD), 1e6)
    assert known.oldest(1e6) == server(OLD)
    assert known.newest == OLD


def test_the_oldest_member_decides() -> None:
    known = KnownServers()
    known.learn("one", server(NEW), 0.0)
    known.learn("two", server(OLD), 0.0)
    assert known.oldest(1.0) == server(OLD)
    assert known.newest == NEW, "a client of the older version has to ask for it"


def test_a_member_may_have_been_upgraded_since() -> None:
    known = KnownServers()
    known.learn("one", server(NEW), 0.0)
    known.learn("two", server(OLD), 0.0)
    assert known.oldest(59.0) == server(OLD)
    assert known.oldest(61.0) == server(NEW)
    known.learn("two", server(NEW), 62.0)
    assert known.oldest(62.0) == server(NEW)
    assert known.newest == NEW
