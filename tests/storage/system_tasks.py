"""The tasks that storages run beside their callers."""

from collections import Counter

import trio


def system_tasks() -> Counter[str]:
    """How many of trio's system tasks have each name."""
    root = trio.lowlevel.current_root_task()
    assert root is not None
    return Counter(task.name for nursery in root.child_nurseries for task in nursery.child_tasks)
