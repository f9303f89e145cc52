"""Models of neomodel on the shared driver: one line says which driver they use.

Call :func:`remember` in a task.
"""

from neomodel import StringProperty, StructuredNode, get_config

import worker_init


class Person(StructuredNode):
    """A node with a name."""

    name = StringProperty(unique_index=True)


def remember(name: str) -> int:
    """Store a person; return how many there are."""
    # In the task and not at the import: each task's process has its own driver object. neomodel opens none then.
    get_config().driver = worker_init.driver()
    Person(name=name).save()
    return len(Person.nodes)
