"""What figures are held against: a copy of the same bytes, and single steps of the tree.

For the benchmark alone; no operation uses it. Every function runs its loop without the GIL and
answers nanoseconds; times include nothing of Python.
"""

from array import array

import cython

if not cython.compiled:
    from forkstormd.core.atomics import *
    from forkstormd.core.copying import copy_compact, copy_walked
    from forkstormd.core.extents import extent_alloc, extent_free
    from forkstormd.core.heap import heap_ensure, record_alloc
    from forkstormd.core.layout import *
    from forkstormd.core.maple import *
    from forkstormd.core.owning import tree_compact
    from forkstormd.core.space import *
    from forkstormd.core.store import mas_store
    from forkstormd.core.vma import vma_special


def memcpy_ns(nbytes: object, count: object) -> object:
    """`count` copies of nbytes between two warm buffers: nanoseconds each, an array 'Q'."""
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
        other = state.extent
        if not tree_compact(state):
            other = extent_alloc(task, nodes, state.map_count)
        with cython.nogil:
            for i in range(times):
                extent = extent_alloc(task, nodes, state.map_count)
                if extent == 0 or other == 0:
                    result = -1
                    break
                began = now_ns()
                if tree_compact(state):
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
        if not tree_compact(state) and other != 0:
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
    copy: u32
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
                # xorshift: Marsaglia 2003, the 64-bit triple 13, 7, 17.
                state ^= (state << 13) & MAX_INDEX
                state ^= state >> 7
                state ^= (state << 17) & MAX_INDEX
                # 24 random bits scaled to the pages of the span: a division would cost more than
                # the lookup's first levels.
                where = first + ((((state >> 40) * (span >> 12)) >> 24) << 12)
                if writing:
                    space_begin(task)
                record = mas_find(mas, where)
                found += record
                if writing and heap_ensure(task, STORE_NODES, 8) == 0:
                    copy = record_alloc(task)
                    copy_record(task.mem.base, copy, record)
                    mas_store(
                        mas,
                        mas.index,
                        mas.last,
                        copy,
                        vma_special(record_at(task.mem, copy)),
                    )
                    space_commit(task)
            ended = now_ns()
        space_unlock(task)
        if found == 0:
            raise ValueError("the space is empty")
        return cython.cast(cython.double, ended - began) / times
    finally:
        task_end(task)
        manager.idle.append(index)
