"""mmap(2) and munmap(2) on a space, as Linux 6.18 does them.

Every call of this kind (protect.py, advise.py, remap.py, brk.py and fault.py are the others) takes
the raw Linux arguments, works on task.mas[0] and task.next of a space that is locked and begun
(space.py), and returns 0 or a negative errno; task.field names the argument at fault, task.limit
the limit that was hit, task.value the answer. The order of the checks is the kernel's, since it
decides which errno a call with several faults gets. mmap and munmap that fail change nothing;
of the others, some stop half way, as Linux does, and what they did stays.
"""

import cython

if not cython.compiled:
    from errno import EACCES, EBADF, EEXIST, EINVAL, ENOMEM, EOPNOTSUPP, EOVERFLOW

    from forkstormd.core.atomics import serial_next
    from forkstormd.core.commit import *
    from forkstormd.core.heap import heap_ensure
    from forkstormd.core.layout import *
    from forkstormd.core.maple import *
    from forkstormd.core.objects import object_new, object_put
    from forkstormd.core.pages import *
    from forkstormd.core.placement import *
    from forkstormd.core.retire import *
    from forkstormd.core.space import *
    from forkstormd.core.vma import *

    # Flags of mmap(2), with the values of x86-64.
    MAP_SHARED = 0x1
    MAP_PRIVATE = 0x2
    MAP_SHARED_VALIDATE = 0x3
    MAP_DROPPABLE = 0x8
    MAP_TYPE = 0xF
    MAP_ANONYMOUS = 0x20
    MAP_GROWSDOWN = 0x100
    MAP_NORESERVE = 0x4000
    MAP_STACK = 0x20000
    MAP_SYNC = 0x80000
    MAP_FIXED_NOREPLACE = 0x100000
    # What MAP_SHARED_VALIDATE knows (LEGACY_MAP_MASK of the kernel).
    MAP_VALIDATED = 0x7E07F9F3
    ACCESS_READ = 1
    ACCESS_WRITE = 2
    # The largest file, in bytes (MAX_LFS_FILESIZE): pages beyond it cannot be mapped.
    FILE_BYTES_MAX = 0x7FFF_FFFF_FFFF_FFFF


def call_room(task):
    """Memory for a call that must not fail once it has begun to change things; 0 or -ENOMEM."""
    if heap_ensure(task, CALL_NODES, CALL_RECORDS) != 0 or retire_room(task) != 0:
        return task_fail(task, ENOMEM, FIELD_NONE, LIMIT_ARENA)
    return 0


def do_mmap(task, args):
    """mmap(2): task.value is the address. Rules: semantics of section 2, checks 1 to 11."""
    state: StateP = task_next(task)
    mas: MasP = task_mas(task, 0)
    anonymous: cython.bint = (args.flags & MAP_ANONYMOUS) != 0
    thp: cython.int
    flags: u64
    addr: u64
    end: u64
    pages: u64
    present: u64
    record: u32
    object: u32 = 0
    result: cython.int
    if args.offset & (PAGE_BYTES - 1):
        return task_fail(task, EINVAL, FIELD_OFFSET, LIMIT_NONE)
    if not anonymous and not 0 < args.file <= task.mem.header.file_count:
        return task_fail(task, EBADF, FIELD_FILE, LIMIT_NONE)
    if args.length == 0:
        return task_fail(task, EINVAL, FIELD_LENGTH, LIMIT_NONE)
    if args.flags & MAP_FIXED_NOREPLACE:
        args.flags |= MAP_FIXED
    if not args.flags & MAP_FIXED:
        args.addr = round_hint_to_min(state, args.addr)
    args.length = page_align(args.length)
    if args.length == 0:
        return task_fail(task, ENOMEM, FIELD_LENGTH, LIMIT_NONE)
    if state.map_count > state.max_map_count:
        return task_fail(task, ENOMEM, FIELD_NONE, LIMIT_MAP_COUNT)
    if anonymous:
        thp = THP_NEVER if args.flags & MAP_TYPE == MAP_SHARED else THP_WITHOUT_HINT
        args.offset = 0
    else:
        thp = thp_of_file(task.mem, args.file)
    result = get_unmapped_area(task, args.addr, args.length, args.flags, thp, args.offset)
    if result != 0:
        return result
    addr = task.value
    end = addr + args.length
    if args.flags & MAP_FIXED_NOREPLACE and range_mapped(mas, addr, end):
        return task_fail(task, EEXIST, FIELD_ADDR, LIMIT_NONE)
    flags = _anonymous_flags(task, args) if anonymous else _file_flags(task, args)
    if flags == 0:
        return -task.error
    if state.map_count >= state.max_map_count and vma_splits_one(mas, addr, end):
        return task_fail(task, ENOMEM, FIELD_NONE, LIMIT_MAP_COUNT)
    pages = args.length >> PAGE_SHIFT
    if call_room(task) != 0:
        return -ENOMEM
    if flags & VM_ACCOUNT:
        # What the new mapping replaces was promised already.
        present = _accounted(task, addr, end)
        if pages > present and commit_more(task, state, pages - present) != 0:
            # The edges of what it would have replaced have been cut by then.
            if _cut(task, addr) != 0 or _cut(task, end) != 0:
                return -ENOMEM
            return task_fail(task, ENOMEM, FIELD_LENGTH, LIMIT_COMMIT)
    elif anonymous and flags & VM_SHARED:
        if not flags & VM_NORESERVE and commit_more(task, state, pages) != 0:
            # The object is made last, when what was there has gone already.
            if range_mapped(mas, addr, end) and unmap_range(task, addr, end) != 0:
                return -ENOMEM
            return task_fail(task, ENOMEM, FIELD_LENGTH, LIMIT_COMMIT)
        object = _new_object(task, pages, not flags & VM_NORESERVE)
        if object == 0:
            return task_fail(task, ENOMEM, FIELD_NONE, LIMIT_ARENA)
    if unmap_pages(task, addr, end) != 0:
        if object != 0:
            object_put(task, object)
        return task_fail(task, ENOMEM, FIELD_NONE, LIMIT_ARENA)
    record = vma_new(task, addr, end, flags, args.offset >> PAGE_SHIFT, args.file)
    if object != 0:
        record_at(task.mem, record).object = object
    result = vma_replace(mas, state, addr, end, record, MERGE_BOTH)
    check(result == 0)
    return result


def _cut(task, at):
    """Split the VMA around an address, if it lies within one; 0 or -ENOMEM (arena)."""
    mas: MasP = task_mas(task, 0)
    index: u32 = mas_walk(mas, at)
    if index == 0 or record_at(task.mem, index).start == at:
        return 0
    return vma_split(mas, task_next(task), index, at)


def _new_object(task, pages, charged):
    """The object behind a shared anonymous mapping; it takes over what was charged for it."""
    state: StateP = task_next(task)
    index: u32 = object_new(task, pages)
    object: SharedObjectP
    if index == 0:
        return 0
    object = object_at(task.mem, index)
    if charged and state.domain != 0:
        domain_get(task, state.domain)
        object.domain = state.domain
        object.charged = pages
        task.charged -= pages
    return index


def range_mapped(mas, start, end):
    """Whether any VMA lies in [start, end)."""
    index: u32 = mas_find(mas, start)
    return index != 0 and record_at(mas.mem, index).start < end


def _accounted(task, start, end):
    """Pages of ACCOUNT VMAs in [start, end); O(VMAs there)."""
    mas: MasP = task_mas(task, 0)
    record: RecordP
    pages: u64 = 0
    index: u32 = mas_find(mas, start)
    while index != 0:
        record = record_at(task.mem, index)
        if record.start >= end:
            break
        if record.flags & VM_ACCOUNT:
            pages += (min(record.end, end) - max(record.start, start)) >> PAGE_SHIFT
        index = mas_next(mas)
    return pages


def _common_flags(state, flags, map_flags):
    """What flags of mmap say of any kind of mapping; and ACCOUNT. Strict overcommit ignores
    MAP_NORESERVE."""
    if map_flags & MAP_STACK:
        flags |= VM_NOHUGEPAGE
    if map_flags & MAP_SYNC:
        flags |= VM_SYNC
    if map_flags & MAP_NORESERVE and state.overcommit != OVERCOMMIT_NEVER:
        flags |= VM_NORESERVE
    if (flags & (VM_SHARED | VM_WRITE | VM_NORESERVE)) == VM_WRITE:
        flags |= VM_ACCOUNT
    return flags


def _file_flags(task, args):
    """vm_flags of a file mapping, or 0 with task.error. Check 9."""
    kind: u64 = args.flags & MAP_TYPE
    access: u32 = file_entry_at(task.mem, args.file).access
    flags: u64 = access_flags(task_next(task), args.prot)
    flags |= VM_MAYREAD | VM_MAYWRITE | VM_MAYEXEC
    task.error = 0
    if args.offset >> PAGE_SHIFT > (FILE_BYTES_MAX - args.length) >> PAGE_SHIFT:
        task.error = -task_fail(task, EOVERFLOW, FIELD_OFFSET, LIMIT_NONE)
    elif kind == MAP_SHARED_VALIDATE and args.flags & ~cython.cast(u64, MAP_VALIDATED):
        task.error = -task_fail(task, EOPNOTSUPP, FIELD_FLAGS, LIMIT_NONE)
    elif kind != MAP_SHARED and kind != MAP_PRIVATE and kind != MAP_SHARED_VALIDATE:
        task.error = -task_fail(task, EINVAL, FIELD_FLAGS, LIMIT_NONE)
    elif kind != MAP_PRIVATE and flags & VM_WRITE and not access & ACCESS_WRITE:
        task.error = -task_fail(task, EACCES, FIELD_PROT, LIMIT_NONE)
    elif not access & ACCESS_READ:
        task.error = -task_fail(task, EACCES, FIELD_FILE, LIMIT_NONE)
    elif args.flags & MAP_GROWSDOWN:
        task.error = -task_fail(task, EINVAL, FIELD_FLAGS, LIMIT_NONE)
    if task.error != 0:
        return 0
    if kind != MAP_PRIVATE:
        flags |= VM_SHARED | VM_MAYSHARE
        if not access & ACCESS_WRITE:
            # I2: a shared mapping of a file opened read-only can never become writable.
            flags &= ~cython.cast(u64, VM_MAYWRITE | VM_SHARED)
    return _common_flags(task_next(task), flags, args.flags)


def _anonymous_flags(task, args):
    """vm_flags of an anonymous mapping, or 0 with task.error; sets file and offset (I3)."""
    kind: u64 = args.flags & MAP_TYPE
    flags: u64 = access_flags(task_next(task), args.prot)
    flags |= VM_MAYREAD | VM_MAYWRITE | VM_MAYEXEC
    args.file = 0
    args.offset = task.value
    task.error = 0
    if kind != MAP_SHARED and kind != MAP_PRIVATE and kind != MAP_DROPPABLE:
        task.error = -task_fail(task, EINVAL, FIELD_FLAGS, LIMIT_NONE)
        return 0
    if args.flags & MAP_GROWSDOWN and kind != MAP_PRIVATE:
        task.error = -task_fail(task, EINVAL, FIELD_FLAGS, LIMIT_NONE)
        return 0
    if kind == MAP_SHARED:
        flags |= VM_SHARED | VM_MAYSHARE
        args.offset = 0
        args.file = SHARED_OBJECT + cython.cast(u32, serial_next(task.mem.header) % SHARED_OBJECT)
    elif kind == MAP_DROPPABLE:
        flags |= VM_DROPPABLE | VM_NORESERVE | VM_WIPEONFORK | VM_DONTDUMP
    if args.flags & MAP_GROWSDOWN:
        flags |= VM_GROWSDOWN
    return _common_flags(task_next(task), flags, args.flags)


def do_munmap(task, addr, length):
    """munmap(2): section 4. Nothing mapped in the range is no error."""
    state: StateP = task_next(task)
    mas: MasP = task_mas(task, 0)
    task.value = 0
    if addr & (PAGE_BYTES - 1) or addr > state.task_size:
        return task_fail(task, EINVAL, FIELD_ADDR, LIMIT_NONE)
    if length > state.task_size - addr:
        return task_fail(task, EINVAL, FIELD_LENGTH, LIMIT_NONE)
    length = page_align(length)
    if length == 0:
        return task_fail(task, EINVAL, FIELD_LENGTH, LIMIT_NONE)
    if not range_mapped(mas, addr, addr + length):
        return 0
    if state.map_count >= state.max_map_count and vma_splits_one(mas, addr, addr + length):
        return task_fail(task, ENOMEM, FIELD_NONE, LIMIT_MAP_COUNT)
    return unmap_range(task, addr, addr + length)


def unmap_range(task, start, end):
    """Remove everything in [start, end), whatever the limit; 0, or -ENOMEM with nothing changed."""
    if call_room(task) != 0:
        return -ENOMEM
    if (
        unmap_pages(task, start, end) != 0
        or vma_replace(task_mas(task, 0), task_next(task), start, end, 0, MERGE_NONE) != 0
    ):
        return task_fail(task, ENOMEM, FIELD_NONE, LIMIT_ARENA)
    return 0


def unmap_pages(task, start, end):
    """The pages of [start, end) go, and the tables that no VMA around it can need any more
    (unmap_region). 0, or -ENOMEM with nothing changed; there is room for the rest of a call."""
    state: StateP = task_next(task)
    pages: PagesP = task_pages(task, 0)
    result: cython.int
    if state.page_root == 0:
        return 0
    pages_init(pages, task, state, task_mas(task, 0).stamp)
    result = pages_unmap(pages, start, end, table_floor(task, start), table_ceiling(task, end))
    pages_finish(pages, state)
    return result


def table_floor(task, start):
    """Down to where a table over what is unmapped from `start` on belongs to nobody else: the end
    of the VMA before it."""
    mas: MasP = task_mas(task, 0)
    index: u32
    if start == 0:
        return 0
    index = mas_walk(mas, start - 1)
    if index == 0 and mas.depth != 0:
        index = mas_prev(mas)
    return min(record_at(task.mem, index).end, start) if index != 0 else 0


def table_ceiling(task, end):
    """The same upwards: the start of the VMA behind `end`; 0 for none."""
    index: u32 = mas_find(task_mas(task, 0), end)
    return max(record_at(task.mem, index).start, end) if index != 0 else 0
