"""The parts of one duplication: how a tree is cut for several processes, and what each does.

    PART_MOVE    a run of nodes and a run of records of a compact source, for EXTENT_COPY
    PART_COPY    a subtree of any source, copied into a part of the extent that is its own
    PART_CLONE   a subtree for TREE_DUP: its nodes are cloned and its records copied one by one, as
                 dup.py does, from the magazines of whoever does it

A tree is cut by its subtree counts (parts_cut): an inner node with no more than a wanted number of
VMAs below it is a part, whatever its level; the nodes above, the tops, are the leader's. So parts
are of a size, and an extent has room for each before anybody begins. O(parts) to cut, O(nodes +
records of the part) to do.

Doing a part touches nothing but its copy, and of the source nothing is changed: whoever finds it
half done may do it again (jobs.py). All VMAs of a PART_CLONE are copied, and hold nothing yet:
what a fork does for single VMAs follows for the whole tree (dup.py).

Errors: a PART_CLONE for which there is no memory has no result, and leaves nothing.
"""

import cython

if not cython.compiled:
    from forkstormd.core.atomics import *
    from forkstormd.core.clone import *
    from forkstormd.core.copying import *
    from forkstormd.core.heap import heap_ensure, node_alloc, node_free, record_alloc
    from forkstormd.core.layout import *
    from forkstormd.core.maple import *
    from forkstormd.core.mutex import *
    from forkstormd.core.owning import *
    from forkstormd.core.store import mas_store
    from forkstormd.core.vma import VM_LOCKED, vma_special

    PART_MOVE = 1
    PART_COPY = 2
    PART_CLONE = 3
    # VMAs of a part, at least: some microseconds of work.
    PART_VMAS = 1024
    # So many parts, if a tree is large enough: whoever ends last keeps the others waiting for half
    # a part.
    PARTS_WANTED = 64
    # How long to wait for the end of a part: then the work is done without that process. Parts of a
    # million VMAs take less than a millisecond.
    PATIENCE_NS = 20_000_000
    PARTS_HELD = -2


def part_new(job):
    """The next part of a job that is not open yet, with its lock held; NULL where a process that
    was stopped does not let go of it."""
    part: PartP = job_part(job, job.part_count)
    if mutex_try(part.lock) != 0 and mutex_wait(part.lock, now_ns() + PATIENCE_NS) != 0:
        return cython.NULL
    part.done = part.result = 0
    part.slots_written = 0
    # What is counted is whole, for whoever comes after a death.
    barrier()
    job.part_count += 1
    return part


def parts_move(job, nodes, records):
    """Cut the copy of a compact source into runs of nodes and records; 0 or PARTS_HELD."""
    parts: u64 = min(cython.cast(u64, PARTS_WANTED), records // PART_VMAS + 1)
    part: PartP
    i: u64
    for i in range(parts):
        part = part_new(job)
        if part == cython.NULL:
            return PARTS_HELD
        part.node = cython.cast(u32, nodes * i // parts)
        part.nodes = cython.cast(u32, nodes * (i + 1) // parts) - part.node
        part.record = cython.cast(u32, records * i // parts)
        part.records = cython.cast(u32, records * (i + 1) // parts) - part.record
        mutex_release(part.lock)
    return 0


def parts_cut(task, job, root, height, extent):
    """Cut a tree into subtrees, and build the nodes above them: in the extent, or, where that is 0,
    from the magazine. The new root is job.top[0]. 0; -1 where the tree is too small or memory is
    short; PARTS_HELD where a process that was stopped holds a part of an earlier job."""
    mem: MemP = task.mem
    copying: CopyingP = task_copying(task)
    header: ExtentP
    wanted: u64 = PART_VMAS
    counts: u64
    tops: u32
    if height < 3 or inner_at(mem, root).vmas <= wanted:
        return -1
    wanted = max(wanted, inner_at(mem, root).vmas // PARTS_WANTED)
    counts = _count(mem, root, wanted)
    while counts >> 32 > JOB_TOPS or counts & LOW32 > JOB_PARTS:
        wanted *= 2
        counts = _count(mem, root, wanted)
    tops = cython.cast(u32, counts >> 32)
    copying.inner = 0
    if extent != 0:
        header = extent_at(mem, extent)
        header.part_count = 1
        header.part_nodes[0] = tops
        header.part_leaves[0] = 0
        copying.leaf = extent + EXTENT_UNITS + tops * NODE_UNITS
        copying.inner = copying.leaf - NODE_UNITS
        copying.record = extent + EXTENT_UNITS + header.nodes * NODE_UNITS
    elif heap_ensure(task, tops, 0) != 0:
        return -1
    return 0 if _cut(task, job, root, height, 0, MAX_INDEX, wanted) != 0 else PARTS_HELD


def _count(mem, node, wanted):
    """Into how many parts a subtree falls, and, times 2^32, how many tops it has."""
    inner: InnerP = inner_at(mem, node)
    offset: cython.int
    counts: u64 = cython.cast(u64, 1) << 32
    if inner.vmas <= wanted:
        return 1
    for offset in range(inner.end + 1):
        counts += _count(mem, inner.slot[offset], wanted)
    return counts


def _cut(task, job, node, levels, low, high, wanted):
    """Copy a top and those below it, and make parts of what is below them; its copy, or 0."""
    mem: MemP = task.mem
    copying: CopyingP = task_copying(task)
    old: InnerP = inner_at(mem, node)
    new: InnerP
    part: PartP
    offset: cython.int
    last: u64
    top: u32 = copying.inner
    if top != 0:
        copying.inner = top - NODE_UNITS
    else:
        top = node_alloc(task)
    job.top[job.top_count] = top
    barrier()
    job.top_count += 1
    copy_node(mem.base, top, node)
    new = inner_at(mem, top)
    new.stamp = job.stamp
    for offset in range(old.end + 1):
        last = old.pivot[offset] if offset < old.end else high
        if inner_at(mem, old.slot[offset]).vmas > wanted:
            new.slot[offset] = _cut(task, job, old.slot[offset], levels - 1, low, last, wanted)
            if new.slot[offset] == 0:
                return 0
        else:
            part = part_new(job)
            if part == cython.NULL:
                return 0
            part.node = old.slot[offset]
            part.levels = levels - 1
            part.low = low
            part.high = last
            part.link = top
            part.offset = offset
            part.nodes = inner_at(mem, part.node).nodes
            if job.kind == PART_COPY:
                _give_room(task, job, part)
                # Inner nodes are filled in from the end, and the subtree's root is the first.
                new.slot[offset] = part.inner
            mutex_release(part.lock)
        low = last + 1
    return top


def _give_room(task, job, part):
    """A part of the extent for a subtree."""
    copying: CopyingP = task_copying(task)
    header: ExtentP = extent_at(task.mem, cython.cast(u32, job.extent >> 32))
    part.leaf = copying.leaf
    part.inner = part.leaf + (part.nodes - 1) * NODE_UNITS
    part.record = copying.record
    copying.leaf += part.nodes * NODE_UNITS
    copying.record += inner_at(task.mem, part.node).vmas
    header.part_nodes[job.part_count] = part.nodes
    header.part_count = job.part_count + 1


def part_do(task, job, index):
    """Do a part of a job; its lock is held."""
    part: PartP = job_part(job, index)
    source: u32 = job_source(job).extent
    extent: u32 = cython.cast(u32, job.extent >> 32)
    copying: CopyingP = task_copying(task)
    leaves: u32
    if job.kind == PART_MOVE:
        copy_nodes(task.mem, extent, source, part.node, part.node + part.nodes, job.stamp)
        copy_records(task.mem, extent, source, part.record, part.record + part.records)
    elif job.kind == PART_COPY:
        copying.mem = task.mem
        copying.stamp = job.stamp
        copying.ahead = 1
        copying.stream = streams(task.mem, extent)
        copying.leaf = part.leaf
        copying.inner = part.inner
        copying.record = part.record
        copy_subtree(copying, part.node, part.levels)
        leaves = (copying.leaf - part.leaf) // NODE_UNITS
        extent_at(task.mem, extent).part_leaves[index + 1] = leaves
    else:
        _do_clone(task, job, part)
    stream_end()
    part.lane = task.lane_index
    barrier()
    part.done = 1


def _do_clone(task, job, part):
    """A PART_CLONE: clone the nodes, then replace each record by a copy, in one walk."""
    mem: MemP = task.mem
    mas: MasP = task_mas(task, 2)
    work: WorkCountP = task_work(task)
    vma: RecordP
    record: u32
    copy: u32
    done: u64 = 0
    slots: u64 = work.slots_written
    nodes: u64 = work.nodes_allocated
    mas_init(mas, task, 0, part.levels)
    mas.stamp = job.stamp
    mas.keep_records = 1
    mas.deferred_counts = 1
    mas.root = tree_clone(mas, part.node, part.levels)
    if mas.root != 0:
        record = mas_first(mas, part.low, part.high)
        if record == 0:
            record = mas_next(mas)
        while record != 0:
            vma = record_at(mem, record)
            copy = record_alloc(task)
            if copy == 0:
                clone_free(task, mas.root, part.levels, done)
                mas.root = 0
                break
            copy_record(mem.base, copy, record)
            record_at(mem, copy).flags = vma.flags & ~cython.cast(u64, VM_LOCKED)
            mas_store(mas, vma.start, vma.end - 1, copy, vma_special(record_at(mem, copy)))
            done += 1
            record = mas_next(mas)
    if mas.root != 0:
        tree_seal(mem, mas.root, part.levels)
    part.result = mas.root
    # Counted by whoever forks.
    part.slots_written = work.slots_written - slots
    work.slots_written = slots
    work.nodes_allocated = nodes


def parts_link(task, job):
    """Hang the parts of a PART_CLONE into their tops, and count those. False where one of them
    failed; then everything is given back."""
    mem: MemP = task.mem
    part: PartP
    i: cython.int
    for i in range(job.part_count):
        if job_part(job, i).result == 0:
            parts_drop(task, job)
            return False
    for i in range(job.part_count):
        part = job_part(job, i)
        inner_at(mem, part.link).slot[part.offset] = part.result
        task.work.slots_written += part.slots_written
    # Those below come after those above.
    for i in range(job.top_count - 1, -1, -1):
        inner_recount(mem, inner_at(mem, job.top[i]), False)
        task.work.slots_written += inner_at(mem, job.top[i]).end + 1
    task.work.nodes_allocated += inner_at(mem, job.top[0]).nodes
    return True


def parts_drop(task, job):
    """Give back what a PART_CLONE job has built and nobody sees. Each is forgotten before it is
    freed: a death in between leaks."""
    part: PartP
    root: u32
    i: cython.int
    for i in range(job.part_count):
        part = job_part(job, i)
        root = part.result
        part.result = 0
        barrier()
        if root != 0:
            clone_free(task, root, part.levels, MAX_INDEX)
    while job.top_count != 0:
        root = job.top[job.top_count - 1]
        job.top_count -= 1
        barrier()
        node_free(task, root)
