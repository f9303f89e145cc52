"""What the problematic pattern alone promises: it keeps every driver."""

import pytest

from patterns.problematic import ProblematicDatabaseConnection

pytestmark = pytest.mark.neo4j


@pytest.mark.usefixtures("_closed_afterwards")
def test_drivers_outlive_the_object_that_made_them(environ: dict[str, str], alias: str) -> None:
    driver = ProblematicDatabaseConnection(environ).get_driver(alias)
    assert any(kept is driver for kept in ProblematicDatabaseConnection.kept)
