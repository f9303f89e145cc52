"""The name under which other programs know :mod:`testing.servers`."""

from testing.servers import Neo4jServer, Serving, redis_server, serving

__all__ = ["Neo4jServer", "Serving", "redis_server", "serving"]
