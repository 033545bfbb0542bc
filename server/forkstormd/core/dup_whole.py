"""Duplicating a tree as a whole: the two strategies that no kernel has.

    EXTENT_COPY   copy all nodes and records into one extent (copying.py). O(n), at the speed of
                  memory; the child is one run of memory, and so is what its own children copy
    SHARE         take a reference on the parent's tree; whoever writes first copies the path to
                  what it changes. O(1), and what is saved is paid for by later writes

What a fork has to do for single VMAs remains. Those that it treats specially are found by the
marks of the leaves and the counts of the inner nodes: DONTCOPY is erased from the child, LOCKED
comes off, an object gets one more holder; page tables are found by the parent's page tables; what
is charged is charged at once. So the cost of all that is in the number of such VMAs, not in n.
Where a VMA might fail by itself (a fault is asked for, or the commit limit is near) everything is
done VMA by VMA, in the kernel's order, so that the one that fails is the one that would.

The erased, and what else a child changes before it is published, is written by a transaction of
its own: nodes of an extent never lead out of it (extents.py), and those of a shared tree are the
parent's too.

The caller holds the parent's mutex, or a reference on its trees (owning.tree_get).
Errors: as dup.py; -EAGAIN from dup_extent where the arena has no extent for so many.
"""

import cython

if not cython.compiled:
    from errno import EAGAIN, ENOMEM

    from forkstormd.core.atomics import *
    from forkstormd.core.commit import *
    from forkstormd.core.copying import *
    from forkstormd.core.dup_vma import *
    from forkstormd.core.extents import *
    from forkstormd.core.heap import record_alloc, record_free
    from forkstormd.core.jobs import *
    from forkstormd.core.layout import *
    from forkstormd.core.maple import *
    from forkstormd.core.objects import object_get
    from forkstormd.core.owning import *
    from forkstormd.core.pages import *
    from forkstormd.core.parts import *
    from forkstormd.core.placement import PMD_BYTES
    from forkstormd.core.space import task_stamp
    from forkstormd.core.store import *
    from forkstormd.core.undo import *
    from forkstormd.core.vma import *

    # SHARE does not pay where more than one in so many VMAs is special.
    SPECIAL_SHARE = 64


def too_special(task, parent):
    """Whether so many of a space's VMAs are special that SHARE would copy most of its tree."""
    specials: u64 = tree_specials(task.mem, parent.root, parent.height)
    return specials * SPECIAL_SHARE > parent.map_count


def dup_extent(task, parent, phases):
    """EXTENT_COPY of a parent that has VMAs."""
    mem: MemP = task.mem
    child: MasP = task_mas(task, 1)
    nodes: u32 = tree_nodes(mem, parent.root, parent.height)
    extent: u32
    result: cython.int
    if task.fault.site == FAULT_TREE_NODE and task.fault.ordinal < parent.map_count:
        # Nodes and records come together, before there is a VMA of the child's.
        task.failure.site = FAULT_TREE_NODE
        return fork_failed(task, task.fault.ordinal, 0)
    if fork_late(task, 0):
        return fork_failed(task, 0, 0)
    extent = extent_alloc(task, nodes, parent.map_count)
    if extent == 0:
        return -EAGAIN
    if phases:
        task.prepared_ns = now_ns()
    if jobs_wanted(task, EXTENT_COPY, parent.map_count):
        extent = _copy_together(task, parent, extent)
    if extent != 0 and task.processes == 0:
        _copy_alone(task, parent, extent)
    if extent == 0:
        return -EAGAIN
    task.tree = TREE_EXTENT
    task.next.extent = extent
    task.next.extent_blocks = extent_at(mem, extent).blocks
    extent_use(task, extent, task.next.extent_blocks)
    child.root = extent_root(mem, extent)
    child.height = parent.height
    task.work.nodes_allocated += nodes
    task.work.records_copied = parent.map_count
    if fork_late(task, 0):
        result = fork_failed(task, 0, 0)
        dup_undo(task, child, RECOVER_TREE_END, 0)
        return result
    return _finish(task, parent)


def _copy_alone(task, parent, extent):
    stamp: u64 = task.mas[1].stamp
    if tree_compact(parent):
        copy_compact(task.mem, extent, parent.extent, stamp)
    else:
        copy_walked(task, extent, parent.root, parent.height, stamp)


def _copy_together(task, parent, extent):
    """Copy the parent's tree with the help of other processes, which task.processes counts. 0 of
    them where there was nothing to share out, or somebody who took part was stopped; then the copy
    goes to the extent that is the answer, another one if need be (0: there is none)."""
    mem: MemP = task.mem
    compact: cython.bint = tree_compact(parent)
    nodes: u32 = extent_at(mem, extent).nodes
    job: JobP
    result: cython.int
    index: cython.int = job_begin(
        task, PART_MOVE if compact else PART_COPY, parent, task.mas[1].stamp
    )
    if index < 0:
        return extent
    job = job_at(mem, index)
    job_fill(task, index)
    if compact:
        copy_parts(mem, extent, parent.extent)
        result = parts_move(job, nodes, parent.map_count)
    else:
        result = parts_cut(task, job, parent.root, parent.height, extent)
    if result == PARTS_HELD:
        job_leave(task, index)
    if result == PARTS_HELD or (result == 0 and job_run(task, index) != 0):
        return extent_alloc(task, nodes, parent.map_count)
    job_end(task, index)
    if result != 0:
        extent_one_part(mem, extent)
    return extent


def dup_share(task, parent, phases):
    """SHARE of a parent that has VMAs."""
    child: MasP = task_mas(task, 1)
    if fork_late(task, 0):
        return fork_failed(task, 0, 0)
    if phases:
        task.prepared_ns = now_ns()
    tree_share(task.mem, parent)
    shares_add(task.mem.header)
    task.tree = TREE_SHARED
    task.next.extent = parent.extent
    task.next.extent_blocks = parent.extent_blocks
    extent_use(task, parent.extent, parent.extent_blocks)
    child.root = parent.root
    child.height = parent.height
    return _finish(task, parent)


def _finish(task, parent):
    """What remains to be done for single VMAs of a child whose tree is complete."""
    child: MasP = task_mas(task, 1)
    state: StateP = task_next(task)
    charged: u64 = parent.charged
    result: cython.int
    # What is written from here on copies what it changes.
    child.stamp = task_stamp(task)
    child.keep_records = 0
    child.deferred_counts = 0
    # What can be charged at once cannot fail at a single VMA.
    if task.fault.site != 0 or (
        charged > commit_free(state) and commit_charge(task, state, charged) != 0
    ):
        result = _step_by_step(task)
    else:
        result = _marked(task)
        if result == 0 and task_pages(task, 0).root != 0:
            result = _copy_tables(task)
    if result == 0:
        retired_drop(task)
    return result


def _marked(task):
    """What is done for the VMAs that are marked; 0, or -ENOMEM with nothing left of the child."""
    child: MasP = task_mas(task, 1)
    vma: RecordP
    record: u32 = mas_find_special(child, 0)
    end: u64
    while record != 0:
        vma = record_at(task.mem, record)
        end = vma.end
        if vma.flags & VM_DONTCOPY and vma.flags & VM_ACCOUNT:
            # It was charged with the rest.
            commit_uncharge(task, task_next(task), vma_pages(vma))
        if _own_special(task, record) != 0:
            return _undo_at(task, vma.start, vma.start)
        record = mas_find_special(child, end)
    return 0


def _own_special(task, record):
    """Make a marked VMA of the child's tree the child's own; 0, or -ENOMEM with it unchanged."""
    child: MasP = task_mas(task, 1)
    vma: RecordP = record_at(task.mem, record)
    first: u64 = vma.start
    last: u64 = vma.end - 1
    copy: u32
    if vma.flags & VM_DONTCOPY:
        if mas_store(child, first, last, 0, 0) != 0:
            task.failure.site = FAULT_DONTCOPY_ERASE
            return -ENOMEM
        leave_out(task, vma)
        if task.tree == TREE_EXTENT:
            vma.object = 0
        return 0
    if vma.flags & VM_LOCKED:
        copy = record_alloc(task)
        if copy != 0:
            copy_record(task.mem.base, copy, record)
            record_at(task.mem, copy).flags = vma.flags & ~cython.cast(u64, VM_LOCKED)
            if mas_store(child, first, last, copy, vma_special(record_at(task.mem, copy))) != 0:
                record_free(task, copy)
                copy = 0
        if copy == 0:
            task.failure.site = FAULT_VMA_RECORD
            return -ENOMEM
        if vma.object != 0:
            object_get(task, vma.object)
            if task.tree == TREE_EXTENT:
                vma.object = 0
    elif vma.object != 0 and task.tree == TREE_EXTENT:
        object_get(task, vma.object)
        extent_at(task.mem, task.extent).objects += 1
    return 0


def _copy_tables(task):
    """copy_page_range for the VMAs of a parent that has page tables, found by these: O(VMAs that
    have any). 0, or -ENOMEM with nothing left of the child."""
    old: MasP = task_mas(task, 0)
    pages: PagesP = task_pages(task, 0)
    vma: RecordP
    record: u32
    at: u64 = pages_next_table(pages, 0)
    while at != MAX_INDEX:
        record = mas_find(old, at)
        if record == 0:
            break
        vma = record_at(task.mem, record)
        if vma.start >= (at & ~cython.cast(u64, PMD_BYTES - 1)) + PMD_BYTES:
            # An empty table that nobody but a VMA further down has needed.
            at = pages_next_table(pages, vma.start)
            continue
        if not vma.flags & VM_DONTCOPY and copy_pages(task, record, vma, 0) != 0:
            return _undo_at(task, vma.start, vma.end)
        at = pages_next_table(pages, vma.end)
    return 0


def _step_by_step(task):
    """Everything for each VMA of the parent, ascending, where one may fail by itself. 0, or a
    negative errno with nothing left of the child."""
    mem: MemP = task.mem
    old: MasP = task_mas(task, 0)
    child: MasP = task_mas(task, 1)
    vma: RecordP
    fault: cython.int
    ordinal: u64 = 0
    done: u64 = 0
    end: u64 = 0
    copies: u64 = task.work.records_copied
    tables: cython.bint = task_pages(task, 0).root != 0
    result: cython.int = 0
    record: u32 = mas_find(old, 0)
    while record != 0:
        vma = record_at(mem, record)
        fault = task.fault.site if ordinal == fault_at_vma(task) else 0
        if task.tree == TREE_SHARED and fault in (FAULT_POLICY, FAULT_ANON_VMA):
            fault = 0  # Put off, like all that a VMA has of its own.
        end = vma.start
        if vma.flags & VM_DONTCOPY:
            if fault == FAULT_DONTCOPY_ERASE:
                task.failure.site = fault
                result = -ENOMEM
            else:
                result = _own_special(task, mas_walk(child, vma.start))
            if result != 0:
                break
            end = vma.end
        else:
            if fork_late(task, done + 1) or vma_may_fail(task, record, vma, fault) != 0:
                result = -ENOMEM
            elif vma_special(vma):
                result = _own_special(task, mas_walk(child, vma.start))
                if result != 0 and vma.flags & VM_ACCOUNT:
                    commit_uncharge(task, task_next(task), vma_pages(vma))
            if result != 0:
                break
            end = vma.end
            done += 1
            if tables:
                result = copy_pages(task, record, vma, fault)
                if result != 0:
                    break
        record = mas_next(old)
        ordinal += 1
    if result == 0:
        return 0
    result = fork_failed(task, ordinal, done)
    task.work.records_copied = min(done, copies)
    dup_undo(task, child, task.fault.recovery, end)
    return result


def _undo_at(task, failing, end):
    """The fork failed at the VMA that starts at `failing`, its VMAs below `end` are done: leave
    nothing of the child. -ENOMEM."""
    ordinal: u64 = mas_rank(task_mas(task, 0), failing)
    result: cython.int = fork_failed(
        task, ordinal, ordinal + (end > failing) - task.work.entries_erased
    )
    dup_undo(task, task_mas(task, 1), task.fault.recovery, end)
    return result
