"""What a transaction replaces: remembered while it builds, dropped after its commit.

A node or record of the published version may still be read, by a snapshot or by another space
that shares it, and it is all there is left should this process die before the commit. So nothing
is freed on the way: owning.retired_drop gives it all up once the new version is published.
"""

import cython

if not cython.compiled:
    from errno import ENOMEM

    from forkstormd.core.layout import *

    def retired_grow(task, more):
        """Make room for `more` further entries; 0, or -1 when the process has no memory."""
        task.retired.extend([0] * more)
        task.retired_max += more
        return 0

    def retired_kind(task, i):
        """What the i-th of the retired things is: a DROP_*."""
        return task.retired[i] & 255

    def retired_index(task, i):
        """Where it lies."""
        return task.retired[i] >> 32

    def retired_levels(task, i):
        """How many levels it has."""
        return (task.retired[i] >> 8) & 255


def retire_room(task):
    """Room for what any one store, or one change of pages, retires; 0 or -ENOMEM."""
    if task.retired_count + RETIRED_ROOM <= task.retired_max:
        return 0
    return -ENOMEM if retired_grow(task, task.retired_max + 2 * RETIRED_ROOM) != 0 else 0


def task_retire(task, kind, index, levels):
    """Remember one thing: a DROP_SHELL or DROP_TABLE_SHELL (a node whose children moved on),
    DROP_NODE or DROP_TABLE (a whole subtree), each of so many levels, or DROP_RECORD. retire_room
    has made sure of the room."""
    check(task.retired_count < task.retired_max)
    task.retired[task.retired_count] = cython.cast(u64, index) << 32 | levels << 8 | kind
    task.retired_count += 1
