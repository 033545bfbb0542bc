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

A TREE_DUP of many VMAs, and an EXTENT_COPY, may be done by several processes (jobs.py), and
gives the same. BULK_INSERT is sequential by nature: each store goes behind the last one, into the
node which that has filled.

Any of these steps may fail, for want of memory or because task.fault says so; then undo.py
leaves what was there before, and task.failure tells where it happened.

Errors: -ENOMEM, -EINTR for the signal, -ETIMEDOUT past task.deadline_ns.
"""

import cython

if not cython.compiled:
    from errno import EAGAIN, EINVAL, ENOMEM

    from forkstormd.core.atomics import *
    from forkstormd.core.clone import tree_clone
    from forkstormd.core.commit import *
    from forkstormd.core.dup_vma import *
    from forkstormd.core.dup_whole import dup_extent, dup_share, too_special
    from forkstormd.core.extents import extent_use
    from forkstormd.core.heap import record_alloc
    from forkstormd.core.jobs import *
    from forkstormd.core.layout import *
    from forkstormd.core.maple import *
    from forkstormd.core.objects import object_get
    from forkstormd.core.owning import *
    from forkstormd.core.pages import *
    from forkstormd.core.parts import *
    from forkstormd.core.store import *
    from forkstormd.core.undo import *
    from forkstormd.core.vma import (
        VM_ACCOUNT,
        VM_DONTCOPY,
        VM_LOCKED,
        vma_pages,
        vma_special,
    )


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
    task.processes = 0
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
                result = _tree_dup_together(task, parent, old, child, phases)
        elif task.strategy == BULK_INSERT:
            result = _bulk_insert(task, old, child, phases)
        elif task.strategy == TREE_DUP:
            result = _tree_dup_together(task, parent, old, child, phases)
        else:
            result = -EINVAL
    if result != 0:
        return result
    task.filled_ns = now_ns()
    task.processes = max(task.processes, 1)
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
    child.root = tree_clone(child, old.root, old.height)
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


def _tree_dup_together(task, parent, old, child, phases):
    """_tree_dup, with the help of other processes where no VMA can fail by itself and there is no
    page table to copy."""
    state: StateP = task_next(task)
    result: cython.int
    if (
        task.fault.site != 0
        or task_pages(task, 0).root != 0
        or not jobs_wanted(task, TREE_DUP, parent.map_count)
        or fork_late(task, 0)
        or (parent.charged > commit_free(state) and commit_charge(task, state, parent.charged) != 0)
    ):
        return _tree_dup(task, old, child, phases)
    if not _parts_together(task, parent, child, phases):
        commit_undo(task, state)
        return _tree_dup(task, old, child, phases)
    # Counts are exact from here on, and all that the tree has is the child's.
    child.height = parent.height
    child.deferred_counts = 0
    child.keep_records = 0
    task.work.records_copied = parent.map_count
    result = _undo_marked(task, child, 0) if fork_late(task, 0) else _marked(task, child)
    if result == 0:
        retired_drop(task)
    return result


def _parts_together(task, parent, child, phases):
    """Build child.root in parts, with other processes; False, and nothing is built, where that
    cannot be."""
    index: cython.int = job_begin(task, PART_CLONE, parent, child.stamp)
    job: JobP
    cut: cython.int
    result: cython.bint = False
    if index < 0:
        return False
    job = job_at(task.mem, index)
    cut = parts_cut(task, job, parent.root, parent.height, 0)
    if cut == PARTS_HELD:
        job_leave(task, index)
        return False
    if cut != 0:
        parts_drop(task, job)
    else:
        if phases:
            task.prepared_ns = now_ns()
        if job_run(task, index) != 0:
            return False
        child.root = job.top[0]
        result = parts_link(task, job)
        if not result:
            child.root = 0
            task.processes = 0
    job_end(task, index)
    # That was the parent's, while its reference was given up.
    extent_use(task, 0, 0)
    return result


def _marked(task, child):
    """What a fork does for the VMAs that it treats specially, in a tree of copies that hold
    nothing yet. 0, or -ENOMEM with nothing left of the child."""
    vma: RecordP
    object: u32
    end: u64
    record: u32 = mas_find_special(child, 0)
    while record != 0:
        vma = record_at(task.mem, record)
        end = vma.end
        if vma.flags & VM_DONTCOPY:
            object = vma.object
            vma.object = 0
            # The record is the child's own, and is retired.
            if mas_room(child) != 0 or mas_store(child, vma.start, end - 1, 0, 0) != 0:
                vma.object = object
                task.failure.site = FAULT_DONTCOPY_ERASE
                return _undo_marked(task, child, vma.start)
            if vma.flags & VM_ACCOUNT:
                # It was charged with the rest.
                commit_uncharge(task, task_next(task), vma_pages(vma))
            leave_out(task, vma)
            task.work.records_copied -= 1
        elif vma.object != 0:
            object_get(task, vma.object)
        record = mas_find_special(child, end)
    return 0


def _undo_marked(task, child, failing):
    """The fork fails at the VMA that starts at `failing`; those from there on hold nothing yet."""
    ordinal: u64 = mas_rank(task_mas(task, 0), failing)
    result: cython.int
    vma: RecordP
    record: u32 = mas_find_special(child, failing)
    while record != 0:
        vma = record_at(task.mem, record)
        vma.object = 0
        record = mas_find_special(child, vma.end)
    result = fork_failed(task, ordinal, task.work.records_copied)
    dup_undo(task, child, task.fault.recovery, MAX_INDEX)
    return result
