"""A fork that failed half way: leaving exactly what was there before.

The child's tree then holds VMAs of its own below `tree_end`, and, after a tree duplication,
the parent's above it, which must not be touched. Under EXTENT_COPY those above are copies that
hold nothing yet, under SHARE all are the parent's; their nodes and records go with the extent, or
with the reference on the parent's tree. Linux has solved that in three ways, and the fork says
which one to use (section 13 of the semantics):

    TREE_END    the exit path is told where to stop: it walks to tree_end, while page tables are
                freed as in any exit, up to the top of the address space (the review's third
                version; taken up again in 2026)
    MARKER      the first entry that is the parent's is replaced by a marker, and the exit path
                stops there by itself (6.8, XA_ZERO_ENTRY)
    IMMEDIATE   the range below tree_end is torn down inside the fork, and the exit path is left
                an empty tree (2026)

TREE_END_V3 is TREE_END as it was first posted, for tests only: with tree_end not only where the
walk stops but also the ceiling up to which page tables may be freed. A table that straddles it
is then kept, and nobody is left to free it.

Nothing here allocates or fails. O(VMAs duplicated + pages copied + nodes).
"""

import cython

if not cython.compiled:
    from forkstormd.core.atomics import now_ns
    from forkstormd.core.commit import *
    from forkstormd.core.extents import extent_free, in_extent
    from forkstormd.core.heap import node_free
    from forkstormd.core.layout import *
    from forkstormd.core.maple import *
    from forkstormd.core.objects import object_put
    from forkstormd.core.owning import *
    from forkstormd.core.pages import *
    from forkstormd.core.store import *
    from forkstormd.core.vma import VM_ACCOUNT, vma_pages

    # Where a fork can fail, with the numbers of the API.
    FAULT_TREE_NODE = 1
    FAULT_VMA_RECORD = 2
    FAULT_POLICY = 3
    FAULT_ANON_VMA = 4
    FAULT_COMMIT_LIMIT = 5
    FAULT_PAGE_TABLE = 6
    FAULT_DONTCOPY_ERASE = 7
    FAULT_FATAL_SIGNAL = 8
    RECOVER_TREE_END = 1
    RECOVER_MARKER = 2
    RECOVER_IMMEDIATE = 3
    RECOVER_TREE_END_V3 = 4
    # An entry that is no record.
    MARKER = 0xFFFF_FFFF


def dup_undo(task, child, recovery, tree_end):
    """Give back the unpublished child in task.mas[1] and task.pages[1]: its VMAs below tree_end,
    their charges and pages, and all nodes. Counts and times it in task.failure."""
    pages: PagesP = task_pages(task, 1)
    began: u64 = now_ns()
    if recovery == RECOVER_MARKER and tree_end != MAX_INDEX and task.tree != TREE_SHARED:
        mas_walk(child, tree_end)
        if (
            child.depth != 0
            and leaf_at(child.mem, child.node[child.height - 1]).slot[
                child.offset[child.height - 1]
            ]
            == 0
        ):
            mas_next(child)
        if child.depth != 0:
            # One slot of a node that is this fork's own, under whichever of its stamps.
            child.stamp = leaf_at(child.mem, child.node[child.height - 1]).stamp
            mas_store(child, child.index, child.last, MARKER, _special_here(child))
        tree_end = MAX_INDEX
    if recovery == RECOVER_IMMEDIATE:
        _tear_down(task, child, tree_end)
    else:
        _exit_mmap(task, child, tree_end, tree_end if recovery == RECOVER_TREE_END_V3 else 0)
    if task.tree == TREE_SHARED:
        tree_drop(task, child.root, child.height)
        child.root = 0
        child.height = 0
    else:
        tree_abandon(child, 0)
    retired_drop(task)
    if task.tree == TREE_EXTENT:
        extent_free(task, task.extent)
    elif task.tree == TREE_SHARED:
        extent_put(task, task.extent)
    # Of what was charged as a whole, the part of VMAs that were not come to.
    commit_undo(task, task_next(task))
    if pages.root != 0:
        node_free(task, pages.root)
        pages.root = 0
    task.failure.undo_ns = now_ns() - began


def _special_here(child):
    """The mark of the slot that the cursor stands at, so that a store changes nothing else."""
    level: cython.int = child.height - 1
    return (leaf_at(child.mem, child.node[level]).special >> child.offset[level]) & 1


def _first(child, tree_end):
    """The child's first VMA below tree_end and any marker, or 0."""
    record: u32 = mas_find(child, 0)
    return record if record != MARKER and child.index < tree_end else 0


def _next(child, tree_end):
    record: u32 = mas_next(child)
    return record if record != MARKER and child.index < tree_end else 0


def _exit_mmap(task, child, tree_end, ceiling):
    """The exit path, in its three walks: unmap pages, free page tables, remove VMAs. A table
    goes with the last VMA in its span: the next one's start is the ceiling of each but the
    last, whose ceiling is that of the whole (0: none)."""
    mem: MemP = task.mem
    pages: PagesP = task_pages(task, 1)
    vma: RecordP
    record: u32
    following: u32
    if pages.root != 0:
        record = _first(child, tree_end)
        while record != 0:
            pages_zap(pages, record_at(mem, record).start, record_at(mem, record).end)
            record = _next(child, tree_end)
        record = _first(child, tree_end)
        while record != 0:
            vma = record_at(mem, record)
            following = _next(child, tree_end)
            pages_free_tables(
                pages,
                vma.start,
                vma.end,
                0,
                record_at(mem, following).start if following != 0 else ceiling,
            )
            record = following
    record = _first(child, tree_end)
    while record != 0:
        following = _next(child, tree_end)
        _remove_vma(task, record)
        record = following


def _tear_down(task, child, tree_end):
    """The same in one walk: what is torn down is nobody else's any more."""
    mem: MemP = task.mem
    pages: PagesP = task_pages(task, 1)
    vma: RecordP
    following: u32
    record: u32 = _first(child, tree_end)
    while record != 0:
        vma = record_at(mem, record)
        following = _next(child, tree_end)
        if pages.root != 0:
            pages_zap(pages, vma.start, vma.end)
            pages_free_tables(
                pages,
                vma.start,
                vma.end,
                0,
                record_at(mem, following).start if following != 0 else 0,
            )
        _remove_vma(task, record)
        record = following


def _remove_vma(task, record):
    """remove_vma: the charge, the hold on an object, the record."""
    vma: RecordP = record_at(task.mem, record)
    if vma.flags & VM_ACCOUNT:
        commit_uncharge(task, task_next(task), vma_pages(vma))
    if task.tree == TREE_OWN or (task.tree == TREE_EXTENT and not in_extent(task, record)):
        record_release(task, record)
    elif task.tree == TREE_EXTENT and vma.object != 0:
        object_put(task, vma.object)
    task.failure.undone += 1


def tree_abandon(mas, limit):
    """Give back an unpublished tree: all nodes, and the records of VMAs below `limit`; those
    above are another space's."""
    if mas.root != 0:
        _abandon_node(mas.task, mas.root, mas.height, 0, MAX_INDEX, limit)
    mas.root = 0
    mas.height = 0
    mas.depth = 0


def _abandon_node(task, node, levels, min, max, limit):
    mem: MemP = task.mem
    leaf: LeafP
    inner: InnerP
    offset: cython.int
    last: u64
    if in_extent(task, node):
        return
    if levels == 1:
        leaf = leaf_at(mem, node)
        for offset in range(leaf.end + 1):
            if leaf.slot[offset] != 0 and min < limit:
                record_release(task, leaf.slot[offset])
            min = leaf.pivot[offset] + 1 if offset < leaf.end else max
    else:
        inner = inner_at(mem, node)
        for offset in range(inner.end + 1):
            last = inner.pivot[offset] if offset < inner.end else max
            _abandon_node(task, inner.slot[offset], levels - 1, min, last, limit)
            min = last + 1
    node_free(task, node)
