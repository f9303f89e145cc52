"""What ``rig status`` shows of a stack."""

from rich.table import Column, Table
from rich.text import Text

from rig.console import console
from rig.settings import Settings
from rig.stack.interface import ServiceStatus
from rig.stack.state import StackState


def show(config: Settings, state: StackState, services: list[ServiceStatus]) -> None:
    """Print every service, where it listens, whether it serves, and how to log in."""
    table = Table("service", "pid", Column("where", overflow="fold"), Column("health", overflow="fold"), box=None)
    for service in services:
        table.add_row(service.name, str(service.pid), service.url or "",
                      Text("serves", "green") if service.healthy else Text(str(service.problem), "red"))
    through = "" if state.relay == "none" else f", tasks reach Neo4j through shared drivers, scope {state.relay}"
    console.print(f"Airflow on [bold]{state.executor}[/bold], {state.slots} tasks at once{through}")
    console.print(table)
    where = {service.name: service.url for service in services}
    console.print(f"Airflow: {where['airflow-apiserver']}  user [bold]{config.airflow_username}[/bold], password "
                  f"[bold]{state.secrets.airflow.get_secret_value()}[/bold]", soft_wrap=True)
    if "flower" in where:
        console.print(f"Flower:  {where['flower']}  user [bold]{config.airflow_username}[/bold], password "
                      f"[bold]{state.secrets.flower.get_secret_value()}[/bold]", soft_wrap=True)
    own = f", password [bold]{state.secrets.neo4j.get_secret_value()}[/bold]" if state.own_neo4j else ""
    console.print(f"Neo4j:   {state.neo4j_uri}  user [bold]{state.neo4j_username}[/bold]{own}", soft_wrap=True)
