"""Duplicating an address space: what fork does to the tree, its records and its page tables.

dup_mmap builds the child's tree in the transaction of task.mas[1], its page tables in
task.pages[1] and its counts in task.next. Nobody sees them before the caller publishes them, so
every store is in place; the caller holds the parent's mutex throughout, as the kernel holds
mmap_lock.

    BULK_INSERT   (Linux up to 6.7)  reserve nodes by the rule of mas_expected_entries, then
                  copy each record and store it behind the last one: splits pack to the left,
                  gaps climb after every insert; the right spine is filled up at the end.
                  O(n * height)
    TREE_DUP      (since 6.8, commit d2406291483775 "fork: use __mt_dup() to duplicate maple
                  tree in dup_mmap()") clone the nodes, depth first, then walk the clone, copy
                  each record and store it over the parent's; DONTCOPY entries are erased.
                  O(n)
    EXTENT_COPY   and SHARE, which no kernel has: dup_whole.py

Both of the kernel's go through the same mas_store and the same allocator: nodes from a reserve or
in bulk, records one by one. Per VMA both do what the kernel does, in its order (section 13 of the
semantics): a pending signal, the commit charge, the record, its policy, its anon_vma, the store,
the page tables. A VMA without anonymous memory has its page tables left out, since faults would
build them again (vma_needs_copy). Copying page tables is timed apart (task.pages_ns), and so are
the subtree counts, which no kernel keeps (tree_seal).

Any of these steps may fail, for want of memory or because task.fault says so; then undo.py
leaves what was there before, and task.failure tells where it happened.

Errors: -ENOMEM, -EINTR for the signal, -ETIMEDOUT past task.deadline_ns.
"""

import cython

if not cython.compiled:
    from errno import EAGAIN, EINVAL, ENOMEM

    from forkstormd.core.atomics import *
    from forkstormd.core.commit import *
    from forkstormd.core.dup_vma import *
    from forkstormd.core.dup_whole import dup_extent, dup_share, too_special
    from forkstormd.core.heap import heap_ensure, node_free, record_alloc
    from forkstormd.core.layout import *
    from forkstormd.core.maple import *
    from forkstormd.core.objects import object_get
    from forkstormd.core.owning import *
    from forkstormd.core.pages import *
    from forkstormd.core.store import *
    from forkstormd.core.undo import *
    from forkstormd.core.vma import (
        VM_ACCOUNT,
        VM_DONTCOPY,
        VM_LOCKED,
        vma_pages,
        vma_special,
    )

    BULK_INSERT = 1
    TREE_DUP = 2
    EXTENT_COPY = 3
    SHARE = 4


def dup_mmap(task, parent, strategy, stamp, phases):
    """Build the child of a space with this state; afterwards task.next is the child's state.

    stamp is that of the transaction, phases asks for time stamps in between. Work is
    counted in task.work. task.strategy is the one that was used in the end: SHARE becomes
    EXTENT_COPY where too much would have to be left out, and EXTENT_COPY becomes TREE_DUP where
    the arena has no run of free blocks that is long enough.
    """
    old: MasP = task_mas(task, 0)
    child: MasP = task_mas(task, 1)
    result: cython.int
    task.strategy = strategy
    task.tree = TREE_OWN
    task.next.page_root = 0
    task.next.page_tables = task.next.touched_pages = 0
    task.next.extent = task.next.extent_blocks = 0
    pages_init(task_pages(task, 0), task, parent, 0)
    pages_init(task_pages(task, 1), task, task_next(task), stamp)
    mas_init(old, task, parent.root, parent.height)
    mas_init(child, task, 0, 0)
    child.stamp = stamp
    child.keep_records = 1
    child.deferred_counts = 1
    if parent.root == 0:
        result = 0 if BULK_INSERT <= strategy <= SHARE else -EINVAL
        task.prepared_ns = task.locked_ns
    else:
        if strategy == SHARE and too_special(task, parent):
            task.strategy = EXTENT_COPY
        if task.strategy == SHARE:
            result = dup_share(task, parent, phases)
        elif task.strategy == EXTENT_COPY:
            result = dup_extent(task, parent, phases)
            if result == -EAGAIN:
                task.strategy = TREE_DUP
                result = _tree_dup(task, old, child, phases)
        elif task.strategy == BULK_INSERT:
            result = _bulk_insert(task, old, child, phases)
        elif task.strategy == TREE_DUP:
            result = _tree_dup(task, old, child, phases)
        else:
            result = -EINVAL
    if result != 0:
        return result
    task.filled_ns = now_ns()
    if child.deferred_counts and child.height > 1:
        tree_seal(task.mem, child.root, child.height)
    if phases:
        task.sealed_ns = now_ns()
    task.next.root = child.root
    task.next.height = child.height
    pages_finish(task_pages(task, 1), task_next(task))
    # What was charged is the child's from now on.
    task.charged = 0
    return 0


def bulk_nodes(entries):
    """Nodes that the kernel sets aside for so many VMAs (mas_expected_entries): as if a gap
    followed each, two slots of every node free, and three for splits."""
    leaves: u64 = (entries * 2 + 1 + LEAF_SLOTS - 3) // (LEAF_SLOTS - 2)
    return cython.cast(u32, leaves + (leaves + INNER_SLOTS - 3) // (INNER_SLOTS - 2) + 3)


if not cython.compiled:

    def _copy_vma(task, record, vma, fault, free):
        """The child's copy of a VMA, or 0 with task.failure. Nearly all VMAs are copied word for
        word. free: pages that need no charge (commit_free)."""
        if (
            fault != 0
            or vma.object != 0
            or vma.flags & VM_LOCKED
            or (vma.flags & VM_ACCOUNT and (vma.end - vma.start) >> PAGE_SHIFT > free)
        ):
            return _copy_slowly(task, record, vma, fault)
        copy = record_alloc(task)
        if copy != 0:
            copy_record(task.mem.base, copy, record)
        else:
            task.failure.site = FAULT_VMA_RECORD
        return copy


def _copy_slowly(task, record, vma, fault):
    """_copy_vma with every step that may fail, and all that a copy has of its own: its charge, its
    hold on a shared object. LOCKED is not inherited."""
    copy: u32 = 0
    if vma_may_fail(task, record, vma, fault) != 0:
        return 0
    if fault != FAULT_VMA_RECORD:
        copy = record_alloc(task)
    if copy == 0:
        task.failure.site = FAULT_VMA_RECORD
        if vma.flags & VM_ACCOUNT:
            commit_uncharge(task, task_next(task), vma_pages(vma))
        return 0
    copy_record(task.mem.base, copy, record)
    if vma.object != 0:
        object_get(task, vma.object)
    record_at(task.mem, copy).flags = vma.flags & ~cython.cast(u64, VM_LOCKED)
    return copy


def _bulk_insert(task, old, child, phases):
    mem: MemP = task.mem
    vma: RecordP
    record: u32
    copy: u32
    fault: cython.int
    fault_at: u64 = fault_at_vma(task)
    free: u64 = commit_free(task_next(task))
    ordinal: u64 = 0
    done: u64 = 0
    tables: cython.bint = task_pages(task, 0).root != 0
    result: cython.int = mas_reserve(child, bulk_nodes(task.next.map_count))
    if result != 0:
        task.failure.site = FAULT_TREE_NODE
        return fork_failed(task, 0, 0)
    if phases:
        task.prepared_ns = now_ns()
    child.bulk = 1
    record = mas_find(old, 0)
    while record != 0 and result == 0:
        vma = record_at(mem, record)
        fault = task.fault.site if ordinal == fault_at else 0
        if vma.flags & VM_DONTCOPY:
            leave_out(task, vma)
        else:
            copy = 0 if fork_late(task, done + 1) else _copy_vma(task, record, vma, fault, free)
            if copy == 0:
                break
            if fault == FAULT_TREE_NODE:
                result = -ENOMEM
            else:
                result = mas_store(
                    child, vma.start, vma.end - 1, copy, vma_special(record_at(mem, copy))
                )
            if result != 0:
                task.failure.site = FAULT_TREE_NODE
                record_release(task, copy)
                if vma.flags & VM_ACCOUNT:
                    commit_uncharge(task, task_next(task), vma_pages(vma))
                break
            done += 1
            if tables:
                result = copy_pages(task, record, vma, fault)
        if result == 0:
            record = mas_next(old)
            ordinal += 1
    task.work.records_copied = done
    if record == 0:
        result = mas_destroy(child)
        if result == 0:
            return 0
        task.failure.site = FAULT_TREE_NODE
    result = fork_failed(task, ordinal, done)
    child.bulk = 0
    mas_destroy(child)
    # The tree holds nothing but the child's own VMAs: there is no end to mark.
    dup_undo(task, child, RECOVER_TREE_END, MAX_INDEX)
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
    if levels == 1 and task.fault.site == FAULT_TREE_NODE and _leaf_fails(task, node):
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


def _leaf_fails(task, leaf):
    """Whether the VMA that is to fail lies in this leaf; counts VMAs in task.failure.ordinal."""
    task.failure.ordinal += leaf_records(leaf_at(task.mem, leaf), LEAF_SLOTS)
    return task.failure.ordinal > task.fault.ordinal


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
    fault: cython.int
    fault_at: u64 = fault_at_vma(task)
    free: u64 = commit_free(task_next(task))
    ordinal: u64 = 0
    done: u64 = 0
    end: u64 = 0
    tables: cython.bint = task_pages(task, 0).root != 0
    result: cython.int = 0
    task.failure.ordinal = 0
    child.root = _clone(child, old.root, old.height)
    if child.root == 0:
        task.failure.site = FAULT_TREE_NODE
        return fork_failed(task, fault_at if task.failure.ordinal > fault_at else 0, 0)
    child.height = old.height
    if phases:
        task.prepared_ns = now_ns()
    record = mas_find(child, 0)
    while record != 0:
        vma = record_at(mem, record)
        fault = task.fault.site if ordinal == fault_at else 0
        if vma.flags & VM_DONTCOPY:
            end = vma.start
            if fault == FAULT_DONTCOPY_ERASE:
                result = -ENOMEM
            else:
                result = mas_store(child, vma.start, vma.end - 1, 0, 0)
            if result != 0:
                task.failure.site = FAULT_DONTCOPY_ERASE
                break
            leave_out(task, vma)
            end = vma.end
        else:
            end = vma.start
            copy = 0 if fork_late(task, done + 1) else _copy_vma(task, record, vma, fault, free)
            if copy == 0:
                break
            end = vma.end
            mas_store(child, vma.start, end - 1, copy, vma_special(record_at(mem, copy)))
            done += 1
            if tables:
                result = copy_pages(task, record, vma, fault)
                if result != 0:
                    break
        record = mas_next(child) if child.depth != 0 else mas_find(child, end)
        ordinal += 1
    task.work.records_copied = done
    if record == 0:
        return 0
    result = fork_failed(task, ordinal, done)
    dup_undo(task, child, task.fault.recovery, end)
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
