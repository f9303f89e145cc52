"""A plugin of the ``celery`` command (entry point ``celery.commands``): it makes the package's remote control known.

The command refuses a name that it does not know before it asks any worker, and it loads neither the app's ``imports``
nor what its workers have. A plugin has to be a command; this one is Celery's own ``control`` as it is.
"""

from celery.bin.control import control

from worker_init import remote_control

__all__ = ["control", "remote_control"]
