"""A plugin of Airflow's API server: tasks are denied one connection, with the status that Airflow documents."""

from typing import Any

from airflow.plugins_manager import AirflowPlugin

DENIED = "/execution/connections/neo4j_denied"


class _Denying:
    """Answers the execution API's question for one connection with 403, and leaves everything else alone."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["path"] != DENIED:
            await self._app(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 403, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": b'{"detail": {"reason": "access_denied"}}'})


class DenyingPlugin(AirflowPlugin):
    """Denies ``neo4j_denied``."""

    name = "denying"
    fastapi_root_middlewares = [{"middleware": _Denying, "args": [], "kwargs": {}, "name": "denying"}]  # noqa: RUF012
