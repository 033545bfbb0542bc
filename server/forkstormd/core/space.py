"""The address-space table: finding a space by id, its mutex, its commit.

A space's slot holds two mm_states and the word generation << 2 | live << 1 | current. An
operation locks the slot, copies the current state into task.next, works there and on
unpublished nodes, and commits: the other copy is written and one release store of the word
makes it current. Exit is the same store, with live = 0 and the next generation. A process that
dies at any instant leaves the old state or the new one.

An id is shard 8 bits | generation 36 | slot 20. Generations begin at 1, so 0 is no id; a slot
whose generation is used up is never given out again.

Errors: -ESRCH for an id that names no living space, -ETIMEDOUT when the deadline passes while
waiting for the mutex. task.field and task.limit say what an error is about.
"""

import cython

if not cython.compiled:
    from errno import ESRCH, ETIMEDOUT

    from forkstormd.core.atomics import *
    from forkstormd.core.commit import *
    from forkstormd.core.extents import extent_use
    from forkstormd.core.heap import heap_populate, slot_free
    from forkstormd.core.layout import *
    from forkstormd.core.maple import mas_init
    from forkstormd.core.mutex import *
    from forkstormd.core.owning import extent_put, retired_drop, tree_put

    # What an error is about; lanes.py has the names.
    FIELD_NONE = 0
    FIELD_MM_ID = 1
    FIELD_ADDR = 2
    FIELD_LENGTH = 3
    FIELD_FLAGS = 4
    FIELD_PROT = 5
    FIELD_FILE = 6
    FIELD_OFFSET = 7
    FIELD_STRATEGY = 8
    FIELD_ADVICE = 9
    FIELD_OLD_LENGTH = 10
    FIELD_NEW_LENGTH = 11
    FIELD_NEW_ADDR = 12
    FIELD_ACCESS = 13
    FIELD_FAULT = 14
    LIMIT_NONE = 0
    LIMIT_ARENA = 1
    LIMIT_SPACES = 2
    LIMIT_MAP_COUNT = 3
    LIMIT_PLACEMENT = 4
    LIMIT_COMMIT = 5
    LIMIT_FAULT = 6
    LIMIT_STACK = 7


def task_fail(task, error, field, limit):
    """-error, with what it is about."""
    task.field = field
    task.limit = limit
    return -error


def work_begin(task):
    """Work counts and what else a fork adds up, at zero."""
    work: WorkCountP = task_work(task)
    task.retired_count = 0
    extent_use(task, 0, 0)
    task.charged = 0
    task.pages_ns = 0
    task.failure.site = 0
    work.nodes_allocated = 0
    work.slots_written = 0
    work.levels_climbed = 0
    work.gap_updates = 0
    work.splits = 0
    work.records_copied = 0
    work.entries_erased = 0


def task_begin(task, deadline_ns):
    """Begin a core call: clocks, error details and work counts at zero."""
    task.deadline_ns = deadline_ns
    task.field = FIELD_NONE
    task.limit = LIMIT_NONE
    task.exit_ns = 0
    task.locked_ns = task.prepared_ns = task.filled_ns = task.sealed_ns = 0
    work_begin(task)
    if task.mem.populated_blocks != load32(task.mem.header.claimed_blocks):
        heap_populate(task)
    # Odd while a call runs: the audit asks whether anything moved under it.
    task.lane.in_op |= 1
    task.began_ns = now_ns()


def task_end(task):
    """End a core call, also one whose arguments were refused before it began."""
    if task.lane.in_op & 1:
        task.lane.in_op += 1
    task.request_high = task.request_low = 0
    task.label_bytes = 0


def task_stamp(task):
    """A stamp no other transaction has: lane and a count that outlives the lane's owners."""
    task.lane.stamps += 1
    return cython.cast(u64, task.lane_index + 1) << 40 | task.lane.stamps


def space_lock(task, mm_id):
    """Hold a living space's mutex; task.slot_index names it. 0, -ESRCH or -ETIMEDOUT."""
    mem: MemP = task.mem
    index: u32 = cython.cast(u32, mm_id & SLOT_MASK)
    generation: u64 = (mm_id >> SLOT_BITS) & GENERATION_MAX
    slot: SlotP
    task.field = FIELD_MM_ID
    if mm_id >> SHARD_SHIFT != 0 or index >= load32(mem.header.slot_high):
        return -ESRCH
    slot = slot_at(mem, index)
    if load64(slot.word) >> 1 != (generation << 1 | 1):
        return -ESRCH
    if mutex_try(slot.lock) != 0 and mutex_wait(slot.lock, task.deadline_ns) != 0:
        task.field = FIELD_NONE
        return -ETIMEDOUT
    if load64(slot.word) >> 1 != (generation << 1 | 1):
        mutex_release(slot.lock)
        return -ESRCH
    task.field = FIELD_NONE
    task.slot_index = index
    task.locked_ns = now_ns()
    return 0


def space_unlock(task):
    mutex_release(slot_at(task.mem, task.slot_index).lock)


def space_begin(task):
    """Copy the locked space's state into task.next and stand its tree in task.mas[0]."""
    slot: SlotP = slot_at(task.mem, task.slot_index)
    mas: MasP = task_mas(task, 0)
    copy_state(task_next(task), state_at(slot, slot.word & 1))
    task.charged_before = task.next.charged
    extent_use(task, task.next.extent, task.next.extent_blocks)
    task.emptied = 0
    mas_init(mas, task, task.next.root, task.next.height)
    mas.stamp = task_stamp(task)


def space_let_go(task):
    """An empty space has no use for its extent any more, which goes with the commit."""
    if task.mas[0].root == 0 and task.next.extent != 0:
        task.emptied = task.next.extent
        task.next.extent = task.next.extent_blocks = 0


def space_commit(task):
    """Publish task.next with the tree in task.mas[0], then drop what it replaced."""
    slot: SlotP = slot_at(task.mem, task.slot_index)
    mas: MasP = task_mas(task, 0)
    space_let_go(task)
    task.next.root = mas.root
    task.next.height = mas.height
    task.next.version += 1
    task.next.request_high = task.request_high
    task.next.request_low = task.request_low
    task.next.result = task.value
    copy_state(state_at(slot, 1 - (slot.word & 1)), task_next(task))
    word_publish(slot, slot.word ^ 1)
    commit_settle(task, state_at(slot, 1 - (slot.word & 1)), task_next(task))
    retired_drop(task)
    extent_put(task, task.emptied)


def space_id(index, word):
    """The id of the space in a slot with this word."""
    return (word >> 2) << SLOT_BITS | index


def space_publish(task, index, expires_ns):
    """Make task.next a new living space in a slot of slot_alloc; returns its id."""
    slot: SlotP = slot_at(task.mem, index)
    word: u64 = slot.word
    i: u32
    if word == 0:
        word = 1 << 2
    slot.expires_ns = expires_ns
    slot.label_bytes = task.label_bytes
    for i in range(task.label_bytes):
        slot.labels[i] = task.labels[i]
    task.next.serial = serial_next(task.mem.header)
    task.next.version = 1
    task.next.request_high = task.request_high
    task.next.request_low = task.request_low
    task.next.result = space_id(index, (word >> 2) << 2 | 2)
    copy_state(state_at(slot, 0), task_next(task))
    word = (word >> 2) << 2 | 2
    word_publish(slot, word)
    return space_id(index, word)


def space_exit(task, mm_id):
    """End a space and free what it owned; O(VMAs). 0, -ESRCH or -ETIMEDOUT."""
    slot: SlotP
    index: u32
    result: cython.int = space_lock(task, mm_id)
    if result != 0:
        return result
    index = task.slot_index
    slot = slot_at(task.mem, index)
    copy_state(task_next(task), state_at(slot, slot.word & 1))
    word_publish(slot, ((slot.word >> 2) + 1) << 2)
    mutex_release(slot.lock)
    space_release(task)
    slot_free(task, index)
    return 0


def space_release(task):
    """Free what the space with the state task.next holds, and which nobody can find any more; it
    leaves its commit domain."""
    state: StateP = task_next(task)
    tree_put(task, state)
    domain_uncharge(task, state.domain, state.charged)
    domain_put(task, state.domain)
