"""The output of ``rig status``."""

from pydantic import SecretStr
from rich.table import Column, Table
from rich.text import Text

from rig.console import console
from rig.settings import Settings
from rig.stack import lock
from rig.stack.interface import ServiceStatus
from rig.stack.state import StackState


def show(config: Settings, state: StackState, services: list[ServiceStatus]) -> None:
    """Print every service, its address, whether it serves, and how to log in."""
    table = Table("service", "pid", Column("where", overflow="fold"), Column("health", overflow="fold"), box=None)
    for service in services:
        table.add_row(service.name, str(service.pid), service.url or "",
                      Text("serves", "green") if service.healthy else Text(str(service.problem), "red"))
    through = "" if state.relay == "none" else f", tasks reach Neo4j through shared drivers, scope {state.relay}"
    preloaded = ", with modules preloaded" if state.preload else ""
    console.print(Text.assemble("Airflow on ", (state.executor, "bold"),
                                f", {state.slots} tasks at once{preloaded}{through}"))
    console.print(table)
    if holder := lock.holder_of(config.data_dir):
        console.print(Text(f"{holder} is using this stack, and may be starting or stopping a service just now."))
    where = {service.name: service.url for service in services}
    secrets = state.secrets
    if "airflow-apiserver" in where:    # not yet, while the stack starts; never, if that start was killed
        _login("Airflow:", where["airflow-apiserver"], config.airflow_username, secrets.airflow)
    if "flower" in where:
        _login("Flower: ", where["flower"], config.airflow_username, secrets.flower)
    _login("Neo4j:  ", state.neo4j_uri, state.neo4j_username, secrets.neo4j if state.own_neo4j else None)


def _login(what: str, where: str | None, user: str, password: SecretStr | None) -> None:
    said = Text.assemble(f"{what} {where}  user ", (user, "bold"))
    if password is not None:
        said.append(", password ").append(password.get_secret_value(), "bold")
    console.print(said, soft_wrap=True)
