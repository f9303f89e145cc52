"""A plugin of the ``celery`` command (entry point ``celery.commands``) that adds the package's remote control commands.

The ``celery`` command refuses a name that it does not know before it asks any worker. It loads neither the app's
``imports`` nor the modules that the workers have loaded. A plugin must be a command; this one is Celery's own
``control``, unchanged.
"""

from celery.bin.control import control

from worker_init import remote_control

__all__ = ["control", "remote_control"]
