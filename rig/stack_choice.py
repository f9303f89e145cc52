"""Chooses the stack that a command works on."""

from typing import TYPE_CHECKING

from pydantic import SecretStr

from rig.errors import BadInput
from rig.experiment import profiles
from rig.settings import Settings

if TYPE_CHECKING:       # a command that needs no stack should not have to wait for its imports
    from rig.stack.interface import OnStep, Stack

NATIVE, COMPOSE = "native", "compose"


def named(config: Settings, on: str, on_step: "OnStep" = lambda *_: None, *, tap: bool = False) -> "Stack":
    """Return the stack of this name. If ``tap`` is set and the stack starts, it starts with a tap.

    Raises BadInput if there is no such stack, if this machine cannot run it, or if it cannot have a tap.
    """
    if tap:
        _require_place_for_a_tap(config, on)
    if on == NATIVE:
        from rig.stack.native import NativeStack  # noqa: PLC0415 - importing Celery and the servers' wheels takes a second

        return NativeStack(config, on_step, tap=tap)
    if on == COMPOSE:
        from rig.stack import compose_command  # noqa: PLC0415 - as above
        from rig.stack.compose import ComposeStack  # noqa: PLC0415 - as above

        compose_command.require()
        return ComposeStack(config, on_step)
    raise BadInput(f"there is no stack {on!r}", f"choose {NATIVE} or {COMPOSE}")


def _require_place_for_a_tap(config: Settings, on: str) -> None:
    from rig.stack import tap  # noqa: PLC0415 - as above

    if on == COMPOSE:
        raise BadInput("--tap cannot be used with --stack compose: the tap listens on this machine's 127.0.0.1, which "
                       "containers do not reach", "leave --stack compose out, or --tap")
    tap.require_one_server(config.neo4j_uri)


def existing(config: Settings, url: str, token: str | None, wanted: profiles.Profile, *, tap: bool) -> "Stack":
    """Return a deployment behind an API server.

    Raises BadInput if an option lacks what the API cannot tell, or if ``tap`` is set.
    """
    if tap:
        raise BadInput("--tap cannot be used with --airflow-url: the tasks of an existing deployment have an address "
                       "of Neo4j already, and go past the tap", "leave --tap out: the count is a lower bound then")
    from rig.stack.existing import ExistingStack  # noqa: PLC0415 - as above

    if token is None:
        raise BadInput("--airflow-url needs a token of that deployment", "give --token, or set RIG_AIRFLOW_TOKEN")
    if len(wanted.executors) != 1:
        raise BadInput("an existing deployment has one executor", "name it with --executors local or celery")
    depends = any(pattern in profiles.RELAYS_OF_PATTERN for pattern in wanted.patterns)
    if depends and len(wanted.relays) != 1:     # nobody else knows what its tasks go through
        raise BadInput("the workers of an existing deployment are as they are",
                       "say which driver its tasks find with --relays none, process or shared")
    return ExistingStack(config, url, SecretStr(token), wanted.executors[0])
