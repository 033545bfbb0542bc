"""What figures are held against: a copy of the same bytes, single steps of the tree, and whole
lives of children; and ageing, which makes a tree what a long-running process has.

For the benchmark, and for what a server measures at its start; no operation uses it. Every function
runs its loop without the GIL; times are in nanoseconds and include nothing of Python.
"""

from array import array

import cython

if not cython.compiled:
    from errno import ENOMEM

    from forkstormd.core.atomics import *
    from forkstormd.core.copying import copy_compact, copy_walked
    from forkstormd.core.dup import dup_mmap
    from forkstormd.core.extents import extent_alloc, extent_free, extent_settle
    from forkstormd.core.heap import heap_ensure, record_alloc
    from forkstormd.core.layout import *
    from forkstormd.core.maple import *
    from forkstormd.core.mapping import MAP_ANONYMOUS, MAP_PRIVATE
    from forkstormd.core.mm import MemoryManager
    from forkstormd.core.operations import OP_MAP, OP_UNMAP, mm_find, mm_fork, mm_operate
    from forkstormd.core.owning import tree_compact, tree_put
    from forkstormd.core.placement import MAP_FIXED
    from forkstormd.core.space import *
    from forkstormd.core.store import mas_store
    from forkstormd.core.undo import RECOVER_MARKER
    from forkstormd.core.vma import vma_special

    # Ageing: replacements of a record per VMA, and VMAs per pair of Unmap and Map.
    STORES_PER_VMA = 5
    VMAS_PER_PAIR = 10


def memcpy_ns(nbytes: object, count: object) -> object:
    """`count` copies of nbytes between two warm buffers: nanoseconds each, an array 'Q'. 0 bytes
    leave the two readings of the clock, the floor of every time here."""
    size: u64 = nbytes
    times: cython.int = count
    durations = array("Q", bytes(8 * times))
    out: cython.ulonglong[::1] = durations
    i: cython.int
    began: u64
    if cython.compiled:
        source: cython.p_char = cython.cast(cython.p_char, malloc(size))
        target: cython.p_char = cython.cast(cython.p_char, malloc(size))
        if source == cython.NULL or target == cython.NULL:
            c_free(source)
            c_free(target)
            raise MemoryError
        memset(source, 1, size)
        memset(target, 2, size)
        with cython.nogil:
            for i in range(times):
                began = now_ns()
                memcpy(target, source, size)
                barrier()
                out[i] = now_ns() - began
        c_free(source)
        c_free(target)
    else:
        here = bytearray(size)
        there = bytearray(size)
        for i in range(times):
            began = now_ns()
            there[:] = here
            out[i] = now_ns() - began
    return durations


def copy_ns(mm: object, mm_id: object, count: object) -> tuple:
    """`count` times in turn: the copy that an EXTENT_COPY of a space makes of its nodes and records
    and a memcpy of as many bytes to where the next copy would go, from the space's own extent
    (where it has none that holds its whole tree: from another extent). Two arrays 'Q' of ns each,
    two readings of the clock included. Extents are taken and given back as forks do, untimed."""
    manager: Lanes = mm
    index: cython.int = manager.begin(None, b"")
    task: TaskP = manager.task(index)
    state: StateP = task_next(task)
    mem: MemP = task.mem
    times: cython.int = count
    copies = array("Q", bytes(8 * times))
    memcpies = array("Q", bytes(8 * times))
    copied: cython.ulonglong[::1] = copies
    moved: cython.ulonglong[::1] = memcpies
    i: cython.int
    extent: u32
    other: u32
    nodes: u32
    units: u64
    compact: cython.bint
    stamp: u64
    began: u64
    try:
        task_begin(task, 0)
        result: cython.int = space_lock(task, mm_id)
        if result != 0:
            raise manager.failed(index, result, mm_id)
        space_begin(task)
        stamp = task_stamp(task)
        nodes = tree_nodes(mem, state.root, state.height)
        units = cython.cast(u64, nodes) * NODE_UNITS + state.map_count
        compact = tree_compact(state)
        other = state.extent
        if not compact:
            other = extent_alloc(task, nodes, state.map_count)
        with cython.nogil:
            for i in range(times):
                extent = extent_alloc(task, nodes, state.map_count)
                if extent == 0 or other == 0:
                    result = -1
                    break
                began = now_ns()
                if compact:
                    copy_compact(mem, extent, state.extent, stamp)
                else:
                    copy_walked(task, extent, state.root, state.height, stamp)
                copied[i] = now_ns() - began
                extent_free(task, extent)
                extent = extent_alloc(task, nodes, state.map_count)
                began = now_ns()
                copy_units(mem.base, extent + EXTENT_UNITS, other + EXTENT_UNITS, units)
                moved[i] = now_ns() - began
                extent_free(task, extent)
        if not compact and other != 0:
            extent_free(task, other)
        space_unlock(task)
        if result != 0:
            raise MemoryError
        return copies, memcpies
    finally:
        task_end(task)
        manager.idle.append(index)


def find_ns(mm: object, mm_id: object, count: object) -> object:
    """Mean nanoseconds of mas_find at random addresses between a space's first and last VMA."""
    return _walk(mm, mm_id, count, False)


def store_ns(mm: object, mm_id: object, count: object) -> object:
    """Mean nanoseconds of a store into a published tree: a random VMA's record is replaced by a
    copy, which copies the path from the root, is committed, and frees what it replaced."""
    return _walk(mm, mm_id, count, True)


def shared_out_ns(
    mm: object, params: object, vmas: object, strategy: object, count: object, warm_up: object
) -> tuple:
    """`count` times in turn: a fork of a space with these VMAs by this process alone, and one with
    the help of others (jobs.py). Nobody else sees the space. Two arrays 'Q' of core ns, and with
    how many of the second others helped. Before that up to `warm_up` times until somebody helps,
    who has to map the memory first. Leaves Header.parallel_vmas as it was."""
    manager: MemoryManager = mm
    index: cython.int = manager.begin(None, b"")
    task: TaskP = manager.task(index)
    header: HeaderP = task.mem.header
    source: StateP = task_source(task)
    how: cython.int = strategy
    times: cython.int = count
    warm: cython.int = warm_up
    i: cython.int = 0
    result: cython.int = 0
    helped: cython.int = 0
    before: u32 = header.parallel_vmas[how]
    durations = (array("Q", bytes(8 * times)), array("Q", bytes(8 * times)))
    alone: cython.ulonglong[::1] = durations[0]
    together: cython.ulonglong[::1] = durations[1]
    try:
        task_begin(task, 0)
        task.fault.site = 0
        task.alone = False
        manager.fill(index, params, vmas, 0, 0)
        with cython.nogil:
            copy_state(source, task_next(task))
            while i < 2 * times:
                header.parallel_vmas[how] = cython.cast(u32, source.map_count) if i & 1 else 0
                work_begin(task)
                copy_state(task_next(task), source)
                task.locked_ns = now_ns()
                result = dup_mmap(task, source, how, task_stamp(task), False)
                if result != 0:
                    break
                if i & 1:
                    together[i // 2] = task.filled_ns - task.locked_ns
                    helped += task.processes > 1
                else:
                    alone[i // 2] = task.filled_ns - task.locked_ns
                extent_settle(task)
                tree_put(task, task_next(task))
                i += 1
                if i == 2 and warm > 0:
                    # Once more from the start, whether or not there will be another warm-up.
                    warm = warm - 1 if helped == 0 else 0
                    i = helped = 0
            header.parallel_vmas[how] = before
            tree_put(task, source)
        if result != 0:
            raise manager.failed(index, result)
        return *durations, helped
    finally:
        task_end(task)
        manager.idle.append(index)


def _walk(mm: object, mm_id: object, count: object, stores: object) -> float:
    manager: Lanes = mm
    index: cython.int = manager.begin(None, b"")
    task: TaskP = manager.task(index)
    mas: MasP = task_mas(task, 0)
    writing: cython.bint = stores
    times: cython.int = count
    _i: cython.int
    space: u64 = mm_id
    first: u64
    span: u64
    where: u64
    state: u64 = 88172645463325252
    found: u64 = 0
    record: u32
    began: u64
    ended: u64
    try:
        task_begin(task, 0)
        result: cython.int = space_lock(task, space)
        if result != 0:
            raise manager.failed(index, result, mm_id)
        space_begin(task)
        mas_find(mas, 0)
        first = mas.index
        mas_walk(mas, MAX_INDEX)
        span = mas.index - first
        with cython.nogil:
            began = now_ns()
            for _i in range(times):
                state = _random(state)
                # 24 random bits scaled to the pages of the span: a division would cost more than
                # the lookup's first levels.
                where = first + ((((state >> 40) * (span >> 12)) >> 24) << 12)
                if writing:
                    space_begin(task)
                record = mas_find(mas, where)
                found += record
                if writing and heap_ensure(task, STORE_NODES, 8) == 0:
                    _replace(task, record)
                    space_commit(task)
            ended = now_ns()
        space_unlock(task)
        if found == 0:
            raise ValueError("the space is empty")
        return cython.cast(cython.double, ended - began) / times
    finally:
        task_end(task)
        manager.idle.append(index)


def _replace(task, record):
    """Store a copy of the record that the cursor stands at in its place; there is room."""
    mas: MasP = task_mas(task, 0)
    copy: u32 = record_alloc(task)
    copy_record(task.mem.base, copy, record)
    mas_store(mas, mas.index, mas.last, copy, vma_special(record_at(task.mem, copy)))


def _random(state):
    """The next number of xorshift: Marsaglia 2003, the 64-bit triple 13, 7, 17. Never 0."""
    state ^= (state << 13) & MAX_INDEX
    state ^= state >> 7
    state ^= (state << 17) & MAX_INDEX
    return state


def age(mm: object, mm_id: object, seed: object) -> None:
    """What a long life does to a tree: 5n times a random record is replaced, as store_ns does, and
    n/10 times a random VMA is unmapped and mapped again, evenly in between; one call each.

    The space has the same n VMAs afterwards. They must be private anonymous memory that no
    neighbour can merge with. O(n log n).
    """
    starts = _starts(mm, mm_id, 1, 1)
    manager: Lanes = mm
    index: cython.int = manager.begin(None, b"")
    task: TaskP = manager.task(index)
    where: cython.ulonglong[::1] = starts
    space: u64 = mm_id
    vmas: u64 = len(starts)
    stores: u64 = vmas * STORES_PER_VMA
    pair_stores: u64 = STORES_PER_VMA * VMAS_PER_PAIR
    done: u64
    state: u64 = seed * 2 + 1
    result: cython.int = 0
    try:
        task_begin(task, 0)
        with cython.nogil:
            for done in range(stores):
                state = _random(state)
                result = _store_at(task, space, where[state % vmas])
                if result == 0 and done % pair_stores == 0:
                    state = _random(state)
                    result = _pair_at(task, space, where[state % vmas])
                if result != 0:
                    break
        if result != 0:
            raise manager.failed(index, result, mm_id)
    finally:
        task_end(task)
        manager.idle.append(index)


def pair_ns(mm: object, mm_id: object, pairs: object, seed: object) -> object:
    """Unmap a random VMA and map it again, as age does: nanoseconds of each pair, an array 'Q'."""
    starts = _starts(mm, mm_id, 1, 1)
    if not starts:
        raise ValueError("the space is empty")
    manager: Lanes = mm
    index: cython.int = manager.begin(None, b"")
    task: TaskP = manager.task(index)
    where: cython.ulonglong[::1] = starts
    space: u64 = mm_id
    vmas: u64 = len(starts)
    state: u64 = seed * 2 + 1
    times: cython.int = pairs
    i: cython.int
    began: u64
    result: cython.int = 0
    durations = array("Q", bytes(8 * times))
    out: cython.ulonglong[::1] = durations
    try:
        with cython.nogil:
            for i in range(times):
                state = _random(state)
                began = now_ns()
                result = _pair_at(task, space, where[state % vmas])
                out[i] = now_ns() - began
                if result != 0:
                    break
        if result != 0:
            raise manager.failed(index, result, mm_id)
        return durations
    finally:
        task_end(task)
        manager.idle.append(index)


def life_ns(mm: object, mm_id: object, strategy: object, stores: object, count: object) -> tuple:
    """`count` lives of a child: the fork up to a visible id, a store into `stores` of its VMAs
    (evenly spread, in random order, each a call of its own), the exit. Three arrays 'Q'.

    The stores are at most as many as the VMAs that the child gets.
    """
    wanted: u64 = stores
    total: u64 = mm.info(mm_id).vma_count
    if wanted > total:
        raise ValueError("more stores than VMAs")
    starts = _starts(mm, mm_id, total // wanted if wanted else total + 1, 0)
    manager: Lanes = mm
    index: cython.int = manager.begin(None, b"")
    task: TaskP = manager.task(index)
    where: cython.ulonglong[::1] = starts
    parent: u64 = mm_id
    child: u64
    how: cython.int = strategy
    times: cython.int = count
    i: cython.int
    j: u64
    began: u64
    forked: u64
    stored: u64
    result: cython.int = 0
    forks = array("Q", bytes(8 * times))
    writes = array("Q", bytes(8 * times))
    exits = array("Q", bytes(8 * times))
    fork_out: cython.ulonglong[::1] = forks
    write_out: cython.ulonglong[::1] = writes
    exit_out: cython.ulonglong[::1] = exits
    try:
        with cython.nogil:
            for i in range(times):
                began = now_ns()
                task_begin(task, 0)
                task.fault.site = 0
                task.fault.recovery = RECOVER_MARKER
                result = mm_fork(task, parent, how, 0, False)
                forked = now_ns()
                if result != 0:
                    break
                child = task.value
                for j in range(wanted):
                    if result == 0:
                        result = _store_at(task, child, where[j])
                stored = now_ns()
                task_begin(task, 0)
                if space_exit(task, child) != 0 or result != 0:
                    break
                exit_out[i] = now_ns() - stored
                fork_out[i] = forked - began
                write_out[i] = stored - forked
        if result != 0:
            raise manager.failed(index, result, mm_id)
        return forks, writes, exits
    finally:
        task_end(task)
        manager.idle.append(index)


def _starts(mm: object, mm_id: object, step: object, ordered: object) -> object:
    """Where every step-th VMA of a space begins, an array 'Q'; in random order unless ordered."""
    starts = array("Q", bytes(8 * mm.info(mm_id).vma_count))
    manager: Lanes = mm
    index: cython.int = manager.begin(None, b"")
    task: TaskP = manager.task(index)
    mas: MasP = task_mas(task, 0)
    out: cython.ulonglong[::1] = starts
    room: u64 = len(starts)
    space: u64 = mm_id
    each: u64 = step
    shuffled: cython.bint = not ordered
    state: u64 = 88172645463325252
    seen: u64 = 0
    found: u64 = 0
    other: u64
    record: u32
    try:
        task_begin(task, 0)
        result: cython.int = space_lock(task, space)
        if result != 0:
            raise manager.failed(index, result, mm_id)
        with cython.nogil:
            space_begin(task)
            record = mas_find(mas, 0)
            while record != 0 and seen < room:
                if seen % each == 0:
                    out[found] = record_at(task.mem, record).start
                    found += 1
                seen += 1
                record = mas_next(mas)
            space_unlock(task)
            # Fisher and Yates.
            for seen in range(found - 1, 0, -1):
                if shuffled:
                    state = _random(state)
                    other = state % (seen + 1)
                    out[seen], out[other] = out[other], out[seen]
        return starts[:found]
    finally:
        task_end(task)
        manager.idle.append(index)


def _store_at(task, space, where):
    """Replace the record of the VMA at an address by a copy, as a call of its own; 0 or a negative
    errno."""
    mas: MasP = task_mas(task, 0)
    result: cython.int = space_lock(task, space)
    if result != 0:
        return result
    space_begin(task)
    if heap_ensure(task, STORE_NODES, 8) != 0:
        result = task_fail(task, ENOMEM, FIELD_NONE, LIMIT_ARENA)
    else:
        _replace(task, mas_find(mas, where))
        space_commit(task)
    space_unlock(task)
    return result


def _pair_at(task, space, where):
    """Unmap the VMA at an address and map it again; 0 or a negative errno."""
    vma: RecordP = task_found(task)
    start: u64
    length: u64
    prot: u64
    result: cython.int
    task_begin(task, 0)
    result = mm_find(task, space, where)
    if result != 0:
        return result
    start = vma.start
    length = vma.end - start
    prot = vma.flags & 7
    task_begin(task, 0)
    task.words[0] = start
    task.words[1] = length
    result = mm_operate(task, OP_UNMAP, space)
    if result != 0:
        return result
    task_begin(task, 0)
    task.words[0] = start
    task.words[1] = length
    task.words[2] = prot
    task.words[3] = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED
    task.words[4] = task.words[5] = 0
    return mm_operate(task, OP_MAP, space)
