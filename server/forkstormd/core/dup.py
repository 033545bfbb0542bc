"""Duplicating an address space: what fork does to the tree and its records.

dup_mmap builds the child's tree in the transaction of task.mas[1] and its counts in
task.next. Nobody sees them before the caller publishes them, so every store is in place;
the caller holds the parent's mutex throughout, as the kernel holds mmap_lock.

    BULK_INSERT   (Linux up to 6.7)  reserve nodes by the rule of mas_expected_entries, then
                  copy each record and store it behind the last one: splits pack to the left,
                  gaps climb after every insert; the right spine is filled up at the end.
                  O(n * height)
    TREE_DUP      (since 6.8, commit d2406291483775 "fork: use __mt_dup() to duplicate maple
                  tree in dup_mmap()") clone the nodes, depth first, then walk the clone, copy
                  each record and store it over the parent's; DONTCOPY entries are erased.
                  O(n)

Both go through the same mas_store and the same allocator: nodes from a reserve or in bulk,
records one by one. Subtree counts, which no kernel keeps, are made afterwards (tree_seal) and
timed apart.

Errors: -ENOMEM, -ETIMEDOUT past task.deadline_ns; everything built is given back.
"""

import cython

if not cython.compiled:
    from errno import EINVAL, ENOMEM, ETIMEDOUT

    from forkstormd.core.atomics import *
    from forkstormd.core.heap import heap_ensure, node_free, record_alloc, record_free
    from forkstormd.core.layout import *
    from forkstormd.core.maple import *
    from forkstormd.core.owning import *
    from forkstormd.core.store import *
    from forkstormd.core.vma import VM_DONTCOPY, VM_LOCKED, VM_SPECIAL, vma_account

    BULK_INSERT = 1
    TREE_DUP = 2
    # VMAs between two looks at the clock.
    DEADLINE_VMAS = 4096


def dup_mmap(task, parent, strategy, stamp, phases):
    """Build the child of a space with this state; afterwards task.next is the child's state.

    stamp is that of the transaction, phases asks for time stamps in between. Work is
    counted in task.work.
    """
    old: MasP = task_mas(task, 0)
    child: MasP = task_mas(task, 1)
    result: cython.int
    mas_init(old, task, parent.root, parent.height)
    mas_init(child, task, 0, 0)
    child.stamp = stamp
    child.keep_records = 1
    child.deferred_counts = 1
    if parent.root == 0:
        result = 0
        task.prepared_ns = task.locked_ns
    elif strategy == BULK_INSERT:
        result = _bulk_insert(task, old, child, phases)
    elif strategy == TREE_DUP:
        result = _tree_dup(task, old, child, phases)
    else:
        result = -EINVAL
    if result != 0:
        return result
    task.filled_ns = now_ns()
    if child.height > 1:
        tree_seal(task.mem, child.root, child.height)
    if phases:
        task.sealed_ns = now_ns()
    task.next.root = child.root
    task.next.height = child.height
    return 0


def bulk_nodes(entries):
    """Nodes that the kernel sets aside for so many VMAs (mas_expected_entries): as if a gap
    followed each, two slots of every node free, and three for splits."""
    leaves: u64 = (entries * 2 + 1 + LEAF_SLOTS - 3) // (LEAF_SLOTS - 2)
    return cython.cast(u32, leaves + (leaves + INNER_SLOTS - 3) // (INNER_SLOTS - 2) + 3)


def _late(task, done):
    """Past the deadline? Looks at the clock every DEADLINE_VMAS VMAs."""
    return done & (DEADLINE_VMAS - 1) == 0 and task.deadline_ns != 0 and now_ns() > task.deadline_ns


def _copy_vma(task, record, flags):
    """The child's copy of a VMA with these flags, or 0. LOCKED is not inherited."""
    copy: u32 = record_alloc(task)
    if copy == 0:
        return 0
    copy_record(task.mem.base, copy, record)
    if flags & VM_LOCKED:
        record_at(task.mem, copy).flags = flags & ~cython.cast(u64, VM_LOCKED)
    return copy


def _leave_out(task, vma):
    """The child does not get this VMA (DONTCOPY): its counts began as the parent's."""
    pages: i64 = (vma.end - vma.start) >> PAGE_SHIFT
    vma_account(task_next(task), vma.flags, -pages)
    task.next.map_count -= 1
    task.work.entries_erased += 1


def _bulk_insert(task, old, child, phases):
    mem: MemP = task.mem
    vma: RecordP
    record: u32
    copy: u32
    done: u64 = 0
    result: cython.int = mas_reserve(child, bulk_nodes(task.next.map_count))
    if result != 0:
        return result
    if phases:
        task.prepared_ns = now_ns()
    child.bulk = 1
    record = mas_find(old, 0)
    while record != 0:
        vma = record_at(mem, record)
        if vma.flags & VM_DONTCOPY:
            _leave_out(task, vma)
        else:
            done += 1
            copy = 0 if _late(task, done) else _copy_vma(task, record, vma.flags)
            if copy == 0:
                result = -ENOMEM
                break
            result = mas_store(child, vma.start, vma.end - 1, copy, (vma.flags & VM_SPECIAL) != 0)
            if result != 0:
                record_free(task, copy)
                break
        record = mas_next(old)
    task.work.records_copied = done
    if result == 0:
        result = mas_destroy(child)
    if result != 0:
        if _late(task, 0):
            result = -ETIMEDOUT
        child.bulk = 0
        mas_destroy(child)
        tree_abandon(child, MAX_INDEX)
    return result


def _clone(child, node, levels):
    """Clone a subtree, depth first; 0 when memory ran out, and then nothing is left of it."""
    task: TaskP = child.task
    mem: MemP = task.mem
    inner: InnerP
    below: u32
    offset: cython.int
    copy: u32
    # As the kernel does, a node's children are asked for together: no half-cloned level.
    if heap_ensure(task, INNER_SLOTS + 1, 0) != 0:
        return 0
    copy = node_new(child)
    copy_node(mem.base, copy, node)
    inner = inner_at(mem, copy)
    inner.stamp = child.stamp
    task.work.slots_written += inner.end + 1
    if levels > 1:
        for offset in range(inner.end + 1):
            below = _clone(child, inner.slot[offset], levels - 1)
            if below == 0:
                _release_clone(task, copy, levels, offset)
                return 0
            inner.slot[offset] = below
    return copy


def _release_clone(task, node, levels, built):
    """Give back a clone of which the first `built` slots are cloned too; its records are the
    parent's and stay."""
    inner: InnerP = inner_at(task.mem, node)
    offset: u32
    if levels > 1:
        for offset in range(built):
            _release_clone(
                task, inner.slot[offset], levels - 1, inner_at(task.mem, inner.slot[offset]).end + 1
            )
    node_free(task, node)


def _tree_dup(task, old, child, phases):
    mem: MemP = task.mem
    vma: RecordP
    record: u32
    copy: u32
    done: u64 = 0
    result: cython.int = 0
    end: u64 = 0
    child.root = _clone(child, old.root, old.height)
    if child.root == 0:
        return -ENOMEM
    child.height = old.height
    if phases:
        task.prepared_ns = now_ns()
    record = mas_find(child, 0)
    while record != 0:
        vma = record_at(mem, record)
        end = vma.end
        if vma.flags & VM_DONTCOPY:
            _leave_out(task, vma)
            result = mas_store(child, vma.start, end - 1, 0, 0)
            if result != 0:
                end = vma.start
                break
        else:
            done += 1
            copy = 0 if _late(task, done) else _copy_vma(task, record, vma.flags)
            if copy == 0:
                result = -ENOMEM
                end = vma.start
                break
            mas_store(child, vma.start, end - 1, copy, (vma.flags & VM_SPECIAL) != 0)
        record = mas_next(child) if child.depth != 0 else mas_find(child, end)
    task.work.records_copied = done
    if result != 0:
        if _late(task, 0):
            result = -ETIMEDOUT
        tree_abandon(child, end)
    return result


def tree_seal(mem, node, levels):
    """Make the subtree counts of every inner node exact; O(nodes). Returns the nodes counted."""
    inner: InnerP = inner_at(mem, node)
    offset: cython.int
    if levels > 2:
        for offset in range(inner.end + 1):
            tree_seal(mem, inner.slot[offset], levels - 1)
    inner_recount(mem, inner, levels == 2)
    return inner.nodes


def tree_abandon(mas, limit):
    """Give back an unpublished tree: all nodes, and the records of VMAs below `limit`; those
    above are another space's."""
    if mas.root != 0:
        _abandon(mas.task, mas.root, mas.height, 0, MAX_INDEX, limit)
    mas.root = 0
    mas.height = 0
    mas.depth = 0


def _abandon(task, node, levels, min, max, limit):
    mem: MemP = task.mem
    leaf: LeafP
    inner: InnerP
    offset: cython.int
    last: u64
    if levels == 1:
        leaf = leaf_at(mem, node)
        for offset in range(leaf.end + 1):
            if leaf.slot[offset] != 0 and min < limit:
                record_free(task, leaf.slot[offset])
            min = leaf.pivot[offset] + 1 if offset < leaf.end else max
    else:
        inner = inner_at(mem, node)
        for offset in range(inner.end + 1):
            last = inner.pivot[offset] if offset < inner.end else max
            _abandon(task, inner.slot[offset], levels - 1, min, last, limit)
            min = last + 1
    node_free(task, node)
