"""A host on every Python that is found here, in front of a real Neo4j: transactions give their connections back."""

import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path

from testing.servers import Neo4jServer, serving
from tests import pythons
from worker_init.control import find_folders, read_status


def _environments() -> Iterator[tuple[str, Path]]:
    for version, python in pythons.find().items():
        try:
            yield version, pythons.environment(version, python)
        except subprocess.CalledProcessError as error:
            warnings.warn(f"Python {version} is not tried: {error.stderr}", stacklevel=1)


def test_transactions_share_a_connection_on_every_python(server: Neo4jServer, tmp_path: Path) -> None:
    """On 3.11.2 the host once missed the end of each explicit transaction and closed its connection."""
    seen = {}
    for version, python in _environments():
        with serving(tmp_path / version, server.uri, server.auth, python=str(python)) as host:
            for number in range(20):
                with host.driver() as driver:
                    rows = driver.execute_query("UNWIND range(1, $n) AS x RETURN x, 'text ' + x", n=number * 10).records
                assert len(rows) == number * 10
            shown = read_status(find_folders(tmp_path / version)[0], 5.0)["drivers"][0]
        seen[version] = (shown["leases"], shown["connections"]["opened"], shown["connections"]["in_use"])
    assert seen == dict.fromkeys(seen, (20, 1, 0))
    assert seen
