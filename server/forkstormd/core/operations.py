"""What a core call does from lock to commit, without the GIL.

Each takes a task that has begun (space.task_begin) and returns 0 or a negative errno with nothing
changed. task.locked_ns and task.done_ns bound its work; what it found is in task.value.
"""

import cython

if not cython.compiled:
    from errno import ETIMEDOUT

    from forkstormd.core.advise import do_madvise
    from forkstormd.core.atomics import *
    from forkstormd.core.brk import do_brk
    from forkstormd.core.commit import *
    from forkstormd.core.dup import dup_mmap
    from forkstormd.core.extents import extent_settle
    from forkstormd.core.fault import do_touch
    from forkstormd.core.heap import slot_alloc, slot_free
    from forkstormd.core.layout import *
    from forkstormd.core.maple import *
    from forkstormd.core.mapping import do_mmap, do_munmap
    from forkstormd.core.owning import tree_get, tree_put
    from forkstormd.core.protect import do_mprotect
    from forkstormd.core.remap import do_mremap
    from forkstormd.core.space import *
    from forkstormd.core.undo import FAULT_COMMIT_LIMIT

    # The calls of mm_operate.
    OP_MAP = 1
    OP_UNMAP = 2
    OP_PROTECT = 3
    OP_ADVISE = 4
    OP_REMAP = 5
    OP_SET_BREAK = 6
    OP_TOUCH = 7
    # Larger parents are not locked while EXTENT_COPY copies them: that takes microseconds.
    REFERENCED_VMAS = 1024
    # What Snapshot.read says of a VMA's name; NAME_FILE is added to a file's id.
    NAME_HEAP = 1
    NAME_STACK = 2
    NAME_FILE = 2


def mm_fork(task, mm_id, strategy, expires_ns, phases):
    """Fork: task.value is the child's id. 0 or a negative errno."""
    child: u32
    result: cython.int = slot_alloc(task)
    task.alone = False
    if result != 0:
        task.limit = LIMIT_SPACES
        return result
    child = task.slot_index
    result = _duplicate(task, mm_id, strategy, phases)
    if result != 0:
        slot_free(task, child)
        return result
    extent_settle(task)
    task.value = space_publish(task, child, expires_ns)
    return 0


def _duplicate(task, mm_id, strategy, phases):
    """Lock the parent and duplicate it: task.next is the child's state, a member of its family.

    The kernel's strategies hold the parent's mutex throughout, as the kernel holds mmap_lock; so
    does SHARE, which is short. EXTENT_COPY of a large parent holds a reference on its trees
    instead: the parent goes on meanwhile.
    """
    slot: SlotP
    source: StateP = task_source(task)
    referenced: cython.bint
    result: cython.int = space_lock(task, mm_id)
    if result != 0:
        return result
    slot = slot_at(task.mem, task.slot_index)
    copy_state(source, state_at(slot, slot.word & 1))
    copy_state(task_next(task), source)
    # The parent may end before this child does, and with it their family.
    domain_get(task, source.domain)
    referenced = strategy == EXTENT_COPY and source.map_count > REFERENCED_VMAS
    if referenced:
        tree_get(task.mem, source)
        snapshots_add(task.mem.header, 1)
        space_unlock(task)
    result = dup_mmap(task, source, strategy, task_stamp(task), phases)
    if referenced:
        tree_put(task, source)
        snapshots_add(task.mem.header, -1)
    else:
        space_unlock(task)
    if result != 0:
        _fork_limit(task)
        domain_put(task, source.domain)
    return result


def _leave(task, result):
    """Publish what the call did, also before an error (mapping.py), and unlock."""
    slot: SlotP = slot_at(task.mem, task.slot_index)
    before: StateP = state_at(slot, slot.word & 1)
    if result == 0 or task.mas[0].root != before.root or task.next.page_root != before.page_root:
        space_commit(task)
    else:
        commit_undo(task, before)
    space_unlock(task)
    task.done_ns = now_ns()
    return result


def mm_operate(task, operation, mm_id):
    """One call on one space, with its arguments in task.words; the answer is in task.value."""
    result: cython.int = space_lock(task, mm_id)
    if result != 0:
        return result
    space_begin(task)
    return _leave(task, perform(task, operation))


def perform(task, operation):
    """The call itself: words as the calls take them, first to last."""
    map: MapArgsP = task_map(task)
    remap: RemapArgsP = task_remap(task)
    if operation == OP_MAP:
        map.addr = task.words[0]
        map.length = task.words[1]
        map.prot = task.words[2]
        map.flags = task.words[3]
        map.file = cython.cast(u32, task.words[4])
        map.offset = task.words[5]
        return do_mmap(task, map)
    if operation == OP_UNMAP:
        return do_munmap(task, task.words[0], task.words[1])
    if operation == OP_PROTECT:
        return do_mprotect(task, task.words[0], task.words[1], task.words[2])
    if operation == OP_ADVISE:
        return do_madvise(task, task.words[0], task.words[1], task.words[2])
    if operation == OP_REMAP:
        remap.addr = task.words[0]
        remap.old_length = task.words[1]
        remap.new_length = task.words[2]
        remap.flags = task.words[3]
        remap.new_addr = task.words[4]
        return do_mremap(task, remap)
    if operation == OP_SET_BREAK:
        return do_brk(task, task.words[0])
    return do_touch(task, task.words[0], task.words[1] != 0, task.words[2])


def mm_find(task, mm_id, addr):
    """Copy the VMA that ends above addr to task.found; task.value tells whether there is one."""
    mas: MasP = task_mas(task, 0)
    slot: SlotP
    state: StateP
    index: u32
    result: cython.int = space_lock(task, mm_id)
    if result != 0:
        return result
    slot = slot_at(task.mem, task.slot_index)
    state = state_at(slot, slot.word & 1)
    mas_init(mas, task, state.root, state.height)
    index = mas_find(mas, addr)
    task.value = index
    if index != 0:
        copy_vma(task_found(task), record_at(task.mem, index))
    # What its name depends on.
    task.next.brk = state.brk
    task.next.start_brk = state.start_brk
    task.next.start_stack = state.start_stack
    task.done_ns = now_ns()
    space_unlock(task)
    return result


def mm_look(task, mm_id, snapshot):
    """Copy what a space is, to task.next and task.labels; with snapshot, take a reference on its
    trees too: under the mutex of the space that owns them."""
    slot: SlotP
    i: u32
    result: cython.int = space_lock(task, mm_id)
    if result != 0:
        return result
    slot = slot_at(task.mem, task.slot_index)
    copy_state(task_next(task), state_at(slot, slot.word & 1))
    task.value = domain_charged(task, task.next.domain)
    task.expires_ns = slot.expires_ns
    task.label_bytes = slot.label_bytes
    for i in range(slot.label_bytes):
        task.labels[i] = slot.labels[i]
    task.tree_nodes = task.next.height
    if task.next.height > 1:
        task.tree_nodes = inner_at(task.mem, task.next.root).nodes
    if snapshot:
        tree_get(task.mem, task_next(task))
        snapshots_add(task.mem.header, 1)
    space_unlock(task)
    return 0


def _fork_limit(task):
    """What a fork that failed has run into."""
    if task.failure.injected:
        task.limit = LIMIT_FAULT
    elif task.failure.site == FAULT_COMMIT_LIMIT:
        task.limit = LIMIT_COMMIT
    elif task.failure.site != 0:
        task.limit = LIMIT_ARENA


def mm_repeat(task, mm_id, strategy, count, alone, durations):
    """Fork and exit `count` times, with children that are never published: durations[i] is the
    core time of fork i, task.exit_ns what all exits took. alone: no other process helps. The task
    has begun; each fork takes the parent's mutex anew, so that others get their turns. 0, or a
    negative errno at the first fork that fails, and -ETIMEDOUT after one that ended past the
    deadline."""
    exit_ns: u64 = 0
    began_ns: u64
    i: u64
    result: cython.int
    task.alone = alone
    for i in range(count):
        work_begin(task)
        result = _duplicate(task, mm_id, strategy, False)
        if result != 0:
            return result
        durations[i] = task.filled_ns - task.locked_ns - task.pages_ns
        began_ns = now_ns()
        space_release(task)
        exit_ns += now_ns() - began_ns
        if task.deadline_ns != 0 and task.filled_ns > task.deadline_ns:
            return -ETIMEDOUT
    task.exit_ns = exit_ns
    return 0


def name_of(record, brk, start_brk, start_stack):
    """What the last column of /proc/PID/maps shows: 0 nothing, [heap], [stack], or a file."""
    if record.file != 0:
        return record.file + NAME_FILE
    if record.start < brk and record.end > start_brk:
        return NAME_HEAP
    if record.start <= start_stack <= record.end and start_stack != 0:
        return NAME_STACK
    return 0


def offset_of(record):
    """The offset column of /proc/PID/maps: anonymous private memory shows 0."""
    return record.pgoff << PAGE_SHIFT if record.file != 0 else 0
