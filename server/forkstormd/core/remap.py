"""mremap(2) on a space: section 7 of the semantics.

    FIXED, same length      every VMA of the range moves, holes kept (since Linux 6.17)
    FIXED or DONTUNMAP      the destination is emptied (FIXED) or found (DONTUNMAP), a tail that is
                            too long cut off, the rest moved
    same length, shrinking  in place; shrinking unmaps whatever lies in the tail
    growing                 in place if the VMA ends there and the space behind is free, else moved

A move makes a new VMA at the destination, which merges there with whatever it matches (also with
its own source), moves the pages, and unmaps the source, unless DONTUNMAP.

Not atomic, as in Linux: an error leaves the destination unmapped, or the VMAs before moved.
O(height) per VMA, and O(pages) for a VMA that has some. Conventions: mapping.py.
"""

import cython

if not cython.compiled:
    from errno import EFAULT, EINVAL, ENOMEM

    from forkstormd.core.anon import *
    from forkstormd.core.commit import *
    from forkstormd.core.layout import *
    from forkstormd.core.maple import *
    from forkstormd.core.mapping import *
    from forkstormd.core.pages import *
    from forkstormd.core.placement import *
    from forkstormd.core.space import *
    from forkstormd.core.vma import *

    MREMAP_MAYMOVE = 1
    MREMAP_FIXED = 2
    MREMAP_DONTUNMAP = 4
    MREMAP_KNOWN = 7
    # Since which versions (major * 1000 + minor): FIXED moves more than one VMA; a VMA that
    # DONTUNMAP has emptied gets the page offset of an untouched one.
    LINUX_MOVES_MANY = 6017
    LINUX_RESETS_PGOFF = 7000


def do_mremap(task, args):
    """mremap(2): task.value is the address."""
    state: StateP = task_next(task)
    result: cython.int
    args.old_length = page_align(args.old_length)
    args.new_length = page_align(args.new_length)
    args.delta = max(args.old_length, args.new_length) - min(args.old_length, args.new_length)
    result = _check(task, args)
    if result != 0:
        return result
    if not args.flags & (MREMAP_FIXED | MREMAP_DONTUNMAP):
        return _in_place(task, args)
    if (
        args.flags & MREMAP_FIXED
        and args.old_length == args.new_length
        and state.linux_version >= LINUX_MOVES_MANY
    ):
        return _move_many(task, args)
    return _move_to(task, args)


def _check(task, args):
    """What is wrong with the arguments by themselves (check_mremap_params)."""
    state: StateP = task_next(task)
    if args.flags & ~cython.cast(u64, MREMAP_KNOWN):
        return task_fail(task, EINVAL, FIELD_FLAGS, LIMIT_NONE)
    if args.addr & (PAGE_BYTES - 1):
        return task_fail(task, EINVAL, FIELD_ADDR, LIMIT_NONE)
    if args.new_length == 0 or args.new_length > state.task_size:
        return task_fail(task, EINVAL, FIELD_NEW_LENGTH, LIMIT_NONE)
    if not args.flags & (MREMAP_FIXED | MREMAP_DONTUNMAP):
        return 0
    if args.new_addr > state.task_size - args.new_length or args.new_addr & (PAGE_BYTES - 1):
        return task_fail(task, EINVAL, FIELD_NEW_ADDR, LIMIT_NONE)
    if not args.flags & MREMAP_MAYMOVE:
        return task_fail(task, EINVAL, FIELD_FLAGS, LIMIT_NONE)
    if args.flags & MREMAP_DONTUNMAP and args.old_length != args.new_length:
        return task_fail(task, EINVAL, FIELD_NEW_LENGTH, LIMIT_NONE)
    if args.addr + args.old_length > args.new_addr and args.new_addr + args.new_length > args.addr:
        return task_fail(task, EINVAL, FIELD_NEW_ADDR, LIMIT_NONE)
    if state.map_count + 5 >= state.max_map_count:
        return task_fail(task, ENOMEM, FIELD_NONE, LIMIT_MAP_COUNT)
    return 0


def _check_vma(task, args, vma):
    """Whether the VMA at the source can be moved or grown so (check_prep_vma)."""
    record: RecordP
    length: u64 = args.old_length
    moves: cython.bint = (args.flags & (MREMAP_FIXED | MREMAP_DONTUNMAP)) != 0
    if vma == 0:
        return task_fail(task, EFAULT, FIELD_ADDR, LIMIT_NONE)
    if args.new_length <= args.old_length and not moves:
        return 0
    record = record_at(task.mem, vma)
    # Length 0 asks for a second mapping of the same pages, which only shared ones can have.
    if length == 0 and not record.flags & (VM_SHARED | VM_MAYSHARE):
        return task_fail(task, EINVAL, FIELD_OLD_LENGTH, LIMIT_NONE)
    if args.flags & MREMAP_DONTUNMAP and record.flags & (VM_DONTEXPAND | VM_PFNMAP):
        return task_fail(task, EINVAL, FIELD_FLAGS, LIMIT_NONE)
    if args.new_length < length:
        length = args.new_length
    if length > record.end - args.addr:
        return task_fail(task, EFAULT, FIELD_OLD_LENGTH, LIMIT_NONE)
    if args.new_length > length and record.flags & (VM_DONTEXPAND | VM_PFNMAP):
        return task_fail(task, EFAULT, FIELD_NEW_LENGTH, LIMIT_NONE)
    return 0


def _move_many(task, args):
    """FIXED with equal lengths: every VMA of the range goes, each by itself (remap_move)."""
    start: u64 = args.addr
    end: u64 = args.addr + args.old_length
    to: u64 = args.new_addr
    at: u64 = start
    record: RecordP
    index: u32 = vma_find(task, start)
    result: cython.int
    if index == 0 or record_at(task.mem, index).start > start:
        return task_fail(task, EFAULT, FIELD_ADDR, LIMIT_NONE)
    while index != 0:
        record = record_at(task.mem, index)
        if record.start >= end:
            break
        args.addr = max(record.start, at)
        args.old_length = min(record.end, end) - args.addr
        args.new_length = args.old_length
        args.new_addr = to + (args.addr - start)
        result = _move_to(task, args)
        if result != 0:
            return result
        at = args.addr + args.old_length
        if at == end:
            break
        index = vma_find(task, at)
    task.value = to
    return 0


def _move_to(task, args):
    """FIXED or DONTUNMAP: one VMA, or part of one, to a place that is asked for (mremap_to)."""
    index: u32 = vma_lookup(task, args.addr)
    flags: u64 = 0
    result: cython.int = _check_vma(task, args, index)
    if result != 0:
        return result
    if args.flags & MREMAP_FIXED:
        flags = MAP_FIXED
        result = do_munmap(task, args.new_addr, args.new_length)
        if result != 0:
            return result
        index = vma_lookup(task, args.addr)
        if index == 0:
            return task_fail(task, EFAULT, FIELD_ADDR, LIMIT_NONE)
    if args.new_length < args.old_length:
        result = _unmap_tail(task, args)
        if result != 0:
            return result
        args.old_length = args.new_length
        index = vma_lookup(task, args.addr)
        if index == 0:
            return task_fail(task, EFAULT, FIELD_ADDR, LIMIT_NONE)
    result = _place(task, args, index, args.new_addr, flags)
    return _move(task, args, task.value) if result == 0 else result


def _unmap_tail(task, args):
    """Shrinking: what lies behind the new length goes (shrink_vma)."""
    return do_munmap(task, args.addr + args.new_length, args.old_length - args.new_length)


def _in_place(task, args):
    """Neither FIXED nor DONTUNMAP (mremap_at)."""
    result: cython.int
    index: u32 = vma_lookup(task, args.addr)
    result = _check_vma(task, args, index)
    if result != 0:
        return result
    if args.new_length > args.old_length:
        return _expand(task, args, index)
    if args.new_length < args.old_length:
        result = _unmap_tail(task, args)
    if result == 0:
        task.value = args.addr
    return result


def _expand(task, args, vma):
    """Grow a VMA where it is, or move it (expand_vma)."""
    state: StateP = task_next(task)
    mas: MasP = task_mas(task, 0)
    record: RecordP = record_at(task.mem, vma)
    delta: u64 = args.new_length - args.old_length
    end: u64 = record.end
    index: u32
    result: cython.int
    if (
        args.old_length == end - args.addr
        and delta <= state.task_size - end
        and (record.start >= state.mmap_min_addr or state.privileged)
        and not range_mapped(mas, end, end + delta)
    ):
        if call_room(task) != 0:
            return -ENOMEM
        if record.flags & VM_ACCOUNT and commit_more(task, state, delta >> PAGE_SHIFT) != 0:
            return task_fail(task, ENOMEM, FIELD_NEW_LENGTH, LIMIT_COMMIT)
        index = vma_part(task, vma, record.start, end, record.flags, anon_of(task, vma))
        record_at(task.mem, index).end = end + delta
        # The VMA with its new end replaces itself, and may join the next one.
        task.value = args.addr
        result = vma_replace(
            mas, state, record.start, end + delta, index, MERGE_RIGHT | MERGE_GROWN
        )
        check(result == 0)
        return result
    if not args.flags & MREMAP_MAYMOVE:
        return task_fail(task, ENOMEM, FIELD_NEW_LENGTH, LIMIT_NONE)
    result = _place(task, args, vma, 0, 0)
    return _move(task, args, task.value) if result == 0 else result


def _place(task, args, vma, addr, flags):
    """Where the moved VMA goes: task.value (vrm_set_new_addr)."""
    record: RecordP = record_at(task.mem, vma)
    thp: cython.int = THP_WITHOUT_HINT
    offset: u64 = 0
    if record.file != 0:
        thp = thp_of_file(task.mem, record.file)
        offset = (record.pgoff << PAGE_SHIFT) + args.addr - record.start
    return get_unmapped_area(task, addr, args.new_length, flags, thp, offset)


def _move(task, args, to):
    """Move old_length bytes of the VMA at the source to a free place, new_length long there
    (move_vma)."""
    state: StateP = task_next(task)
    mas: MasP = task_mas(task, 0)
    pages: PagesP = task_pages(task, 0)
    vma: u32 = mas_walk(mas, args.addr)
    record: RecordP = record_at(task.mem, vma)
    new: RecordP
    index: u32
    anon: u64
    charge: u64 = args.new_length
    result: cython.int = 0
    if state.map_count + 3 >= state.max_map_count:
        return task_fail(task, ENOMEM, FIELD_NONE, LIMIT_MAP_COUNT)
    if call_room(task) != 0:
        return -ENOMEM
    if record.flags & VM_ACCOUNT:
        if not args.flags & MREMAP_DONTUNMAP:
            # Also of one that has shrunk first: Linux 6.18 charges the difference then too.
            charge = args.delta
        if commit_more(task, state, charge >> PAGE_SHIFT) != 0:
            return task_fail(task, ENOMEM, FIELD_NEW_LENGTH, LIMIT_COMMIT)
    # The pages first: this is what may fail, and nothing else has changed yet.
    if state.page_root != 0:
        pages_init(pages, task, state, mas.stamp)
        result = pages_move(pages, args.addr, to, args.old_length)
        if result != 0:
            pages_free_tables(
                pages,
                to,
                to + args.old_length,
                table_floor(task, to),
                table_ceiling(task, to + args.old_length),
            )
        pages_finish(pages, state)
        if result != 0:
            return task_fail(task, ENOMEM, FIELD_NONE, LIMIT_ARENA)
        vma = mas_walk(mas, args.addr)
        record = record_at(task.mem, vma)
    anon = anon_of(task, vma)
    index = vma_part(task, vma, args.addr, record.end, record.flags, anon)
    new = record_at(task.mem, index)
    new.start = to
    new.end = to + args.new_length
    if record.file == 0 and anon == 0:
        # I3: never written, so nothing ties it to its old offset.
        new.pgoff = to >> PAGE_SHIFT
    vma_replace(mas, state, to, to + args.new_length, index, MERGE_BOTH)
    task.value = to
    if args.flags & MREMAP_DONTUNMAP:
        return _leave_source(task, args, to)
    if args.old_length != 0:
        result = _unmap_source(task, args.addr, args.addr + args.old_length)
    return result


def _unmap_source(task, start, end):
    """unmap_range of what has no pages any more: it needs no more than the room there is."""
    state: StateP = task_next(task)
    pages: PagesP = task_pages(task, 0)
    if state.page_root != 0:
        pages_init(pages, task, state, task_mas(task, 0).stamp)
        # A table that cannot be freed for want of memory stays for the next unmap around it.
        pages_free_tables(pages, start, end, table_floor(task, start), table_ceiling(task, end))
        pages_finish(pages, state)
    return vma_replace(task_mas(task, 0), state, start, end, 0, MERGE_NONE)


def _leave_source(task, args, to):
    """DONTUNMAP: a VMA that was moved whole has lost its anonymous memory (dontunmap_complete)."""
    state: StateP = task_next(task)
    mas: MasP = task_mas(task, 0)
    vma: u32 = mas_walk(mas, args.addr)
    record: RecordP = record_at(task.mem, vma)
    index: u32
    if (
        record.start != args.addr
        or record.end != args.addr + args.old_length
        or anon_of(task, vma) == 0
    ):
        return 0
    index = vma_part(task, vma, record.start, record.end, record.flags, 0)
    if state.linux_version >= LINUX_RESETS_PGOFF and record.file == 0:
        record_at(task.mem, index).pgoff = record.start >> PAGE_SHIFT
    return vma_replace(mas, state, record.start, record.end, index, MERGE_NONE)
