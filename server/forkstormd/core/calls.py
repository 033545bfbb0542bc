"""mmap(2) and munmap(2) on a space, as Linux 6.18 does them.

Each takes the raw Linux arguments, works on task.mas[0] and task.next of a space that is
locked and begun (space.py), and returns 0 or a negative errno with nothing changed; task.field
names the argument at fault, task.limit the limit that was hit. do_mmap leaves the address in
task.value. The order of the checks is the kernel's, since it decides which errno a call with
several faults gets.
"""

import cython

if not cython.compiled:
    from errno import (
        EACCES,
        EBADF,
        EBUSY,
        EEXIST,
        EINVAL,
        ENOMEM,
        EOPNOTSUPP,
        EOVERFLOW,
        EPERM,
    )

    from forkstormd.core.atomics import serial_next
    from forkstormd.core.heap import heap_ensure, record_free
    from forkstormd.core.layout import *
    from forkstormd.core.maple import *
    from forkstormd.core.space import *
    from forkstormd.core.vma import *

    # Flags of mmap(2), with the values of x86-64.
    MAP_SHARED = 0x1
    MAP_PRIVATE = 0x2
    MAP_SHARED_VALIDATE = 0x3
    MAP_DROPPABLE = 0x8
    MAP_TYPE = 0xF
    MAP_FIXED = 0x10
    MAP_ANONYMOUS = 0x20
    MAP_GROWSDOWN = 0x100
    MAP_NORESERVE = 0x4000
    MAP_STACK = 0x20000
    MAP_FIXED_NOREPLACE = 0x100000
    # What MAP_SHARED_VALIDATE knows (LEGACY_MAP_MASK of the kernel).
    MAP_VALIDATED = 0x7E07F9F3
    ACCESS_READ = 1
    ACCESS_WRITE = 2
    # The largest file, in bytes (MAX_LFS_FILESIZE): pages beyond it cannot be mapped.
    FILE_BYTES_MAX = 0x7FFF_FFFF_FFFF_FFFF
    # Ids of files from here on are objects of shared anonymous mappings.
    SHARED_OBJECT = 0x40000000


def _fail(task, error, field, limit):
    task.field = field
    task.limit = limit
    return -error


def _page_align(length):
    """Rounded up to pages; 0 when that overflows."""
    if length > MAX_INDEX - (PAGE_BYTES - 1):
        return 0
    return (length + PAGE_BYTES - 1) & ~cython.cast(u64, PAGE_BYTES - 1)


def do_mmap(task, args):
    """mmap(2): task.value is the address. Rules: semantics of section 2, checks 1 to 11."""
    state: StateP = task_next(task)
    mas: MasP = task_mas(task, 0)
    flags: u64
    record: u32
    result: cython.int
    if args.offset & (PAGE_BYTES - 1):
        return _fail(task, EINVAL, FIELD_OFFSET, LIMIT_NONE)
    if not args.flags & MAP_ANONYMOUS and args.file == 0:
        return _fail(task, EBADF, FIELD_FILE, LIMIT_NONE)
    if args.length == 0:
        return _fail(task, EINVAL, FIELD_LENGTH, LIMIT_NONE)
    if args.flags & MAP_FIXED_NOREPLACE:
        args.flags |= MAP_FIXED
    args.length = _page_align(args.length)
    if args.length == 0:
        return _fail(task, ENOMEM, FIELD_LENGTH, LIMIT_NONE)
    if state.map_count > state.max_map_count:
        return _fail(task, ENOMEM, FIELD_NONE, LIMIT_MAP_COUNT)
    result = _place(task, args)
    if result != 0:
        return result
    flags = _anonymous_flags(task, args) if args.flags & MAP_ANONYMOUS else _file_flags(task, args)
    if flags == 0:
        return -task.error
    if state.map_count >= state.max_map_count and vma_splits_one(
        mas, task.value, task.value + args.length
    ):
        return _fail(task, ENOMEM, FIELD_NONE, LIMIT_MAP_COUNT)
    if (
        flags & VM_ACCOUNT or (args.flags & MAP_ANONYMOUS and flags & VM_SHARED)
    ) and args.length >> PAGE_SHIFT > task.mem.header.ram_pages:
        return _fail(task, ENOMEM, FIELD_LENGTH, LIMIT_RAM)
    if heap_ensure(task, STORE_NODES, 8) != 0:
        return _fail(task, ENOMEM, FIELD_NONE, LIMIT_ARENA)
    record = vma_new(
        task,
        task.value,
        task.value + args.length,
        flags,
        args.offset >> PAGE_SHIFT,
        args.file,
    )
    result = vma_replace(mas, state, task.value, task.value + args.length, record)
    if result != 0:
        record_free(task, record)
        return _fail(task, ENOMEM, FIELD_NONE, LIMIT_ARENA)
    return 0


def _place(task, args):
    """Where the mapping goes: task.value. Checks 7 and 8."""
    state: StateP = task_next(task)
    mas: MasP = task_mas(task, 0)
    index: u32
    if args.length > state.task_size:
        return _fail(task, ENOMEM, FIELD_LENGTH, LIMIT_NONE)
    if not args.flags & MAP_FIXED:
        if unmapped_area(mas, state, args.addr, args.length) != 0:
            return _fail(task, ENOMEM, FIELD_LENGTH, LIMIT_PLACEMENT)
        task.value = mas.index
        return 0
    if args.addr > state.task_size - args.length:
        return _fail(task, ENOMEM, FIELD_ADDR, LIMIT_NONE)
    if args.addr & (PAGE_BYTES - 1):
        return _fail(task, EINVAL, FIELD_ADDR, LIMIT_NONE)
    if args.addr < state.mmap_min_addr:
        return _fail(task, EPERM, FIELD_ADDR, LIMIT_NONE)
    task.value = args.addr
    if args.flags & MAP_FIXED_NOREPLACE:
        index = mas_find(mas, args.addr)
        if index != 0 and record_at(task.mem, index).start < args.addr + args.length:
            return _fail(task, EEXIST, FIELD_ADDR, LIMIT_NONE)
    return 0


def _file_flags(task, args):
    """vm_flags of a file mapping, or 0 with task.error. Check 9."""
    kind: u64 = args.flags & MAP_TYPE
    flags: u64 = args.prot & (VM_READ | VM_WRITE | VM_EXEC)
    flags |= VM_MAYREAD | VM_MAYWRITE | VM_MAYEXEC
    task.error = 0
    if args.length > FILE_BYTES_MAX or args.offset > FILE_BYTES_MAX - args.length:
        task.error = -_fail(task, EOVERFLOW, FIELD_OFFSET, LIMIT_NONE)
    elif kind == MAP_SHARED_VALIDATE and args.flags & ~cython.cast(u64, MAP_VALIDATED):
        task.error = -_fail(task, EOPNOTSUPP, FIELD_FLAGS, LIMIT_NONE)
    elif kind != MAP_SHARED and kind != MAP_PRIVATE and kind != MAP_SHARED_VALIDATE:
        task.error = -_fail(task, EINVAL, FIELD_FLAGS, LIMIT_NONE)
    elif kind != MAP_PRIVATE and flags & VM_WRITE and not args.access & ACCESS_WRITE:
        task.error = -_fail(task, EACCES, FIELD_PROT, LIMIT_NONE)
    elif not args.access & ACCESS_READ:
        task.error = -_fail(task, EACCES, FIELD_FILE, LIMIT_NONE)
    elif args.flags & MAP_GROWSDOWN:
        task.error = -_fail(task, EINVAL, FIELD_FLAGS, LIMIT_NONE)
    if task.error != 0:
        return 0
    if kind != MAP_PRIVATE:
        flags |= VM_SHARED | VM_MAYSHARE
        if not args.access & ACCESS_WRITE:
            # I2: a shared mapping of a file opened read-only can never become writable.
            flags &= ~cython.cast(u64, VM_MAYWRITE | VM_SHARED)
    if args.flags & MAP_NORESERVE:
        flags |= VM_NORESERVE
    elif (flags & (VM_SHARED | VM_WRITE)) == VM_WRITE:
        flags |= VM_ACCOUNT
    if args.flags & MAP_STACK:
        flags |= VM_NOHUGEPAGE
    return flags


def _anonymous_flags(task, args):
    """vm_flags of an anonymous mapping, or 0 with task.error; sets file and offset (I3)."""
    kind: u64 = args.flags & MAP_TYPE
    flags: u64 = args.prot & (VM_READ | VM_WRITE | VM_EXEC)
    flags |= VM_MAYREAD | VM_MAYWRITE | VM_MAYEXEC
    args.file = 0
    args.offset = task.value
    task.error = 0
    if kind != MAP_SHARED and kind != MAP_PRIVATE and kind != MAP_DROPPABLE:
        task.error = -_fail(task, EINVAL, FIELD_FLAGS, LIMIT_NONE)
        return 0
    if args.flags & MAP_GROWSDOWN and kind != MAP_PRIVATE:
        task.error = -_fail(task, EINVAL, FIELD_FLAGS, LIMIT_NONE)
        return 0
    if kind == MAP_SHARED:
        flags |= VM_SHARED | VM_MAYSHARE
        args.offset = 0
        args.file = SHARED_OBJECT + cython.cast(u32, serial_next(task.mem.header) % SHARED_OBJECT)
    elif kind == MAP_DROPPABLE:
        flags |= VM_DROPPABLE | VM_NORESERVE | VM_WIPEONFORK | VM_DONTDUMP
    if args.flags & MAP_GROWSDOWN:
        flags |= VM_GROWSDOWN
    if args.flags & MAP_NORESERVE:
        flags |= VM_NORESERVE
    if (flags & (VM_SHARED | VM_WRITE | VM_NORESERVE)) == VM_WRITE:
        flags |= VM_ACCOUNT
    if args.flags & MAP_STACK:
        flags |= VM_NOHUGEPAGE
    return flags


def unmapped_area(mas, state, hint, length):
    """Section 3, L1 to L4: mas.index is where `length` bytes (whole pages) go; 0 or -EBUSY.

    A hint is taken exactly or not at all; else the highest gap below mmap_base; else the lowest
    from a third of the task size on.
    """
    record: RecordP
    index: u32
    hint &= ~cython.cast(u64, PAGE_BYTES - 1)
    if hint != 0 and hint < state.mmap_min_addr:
        hint = _page_align(state.mmap_min_addr)
    if hint != 0 and length <= state.task_size and hint <= state.task_size - length:
        index = mas_find(mas, hint)
        if index == 0:
            mas.index = hint
            return 0
        record = record_at(mas.task.mem, index)
        if hint + length <= vma_guard_start(record):
            mas.index = hint
            return 0
    if _top_down(mas, max(state.mmap_min_addr, PAGE_BYTES), state.mmap_base, length):
        return 0
    if _bottom_up(mas, _page_align(state.task_size // 3), state.task_size, length):
        return 0
    return -EBUSY


def _top_down(mas, low, high, length):
    """The highest gap in [low, high). L4: where it ends at a GROWSDOWN VMA whose guard it would
    enter, the search goes on below that guard."""
    index: u32
    start: u64
    guard: u64
    while high > low:
        if mas_empty_area_rev(mas, low, high - 1, length) != 0:
            return False
        start = mas.index
        index = mas_find(mas, start)
        mas.index = start
        if index == 0:
            return True
        guard = vma_guard_start(record_at(mas.task.mem, index))
        if guard >= start + length:
            return True
        high = guard
    return False


def _bottom_up(mas, low, high, length):
    """The lowest gap in [low, high), guards respected: a gap that ends at one is passed over."""
    index: u32
    start: u64
    record: RecordP
    while high > low:
        if mas_empty_area(mas, low, high - 1, length) != 0:
            return False
        start = mas.index
        index = mas_find(mas, start)
        mas.index = start
        if index == 0:
            return True
        record = record_at(mas.task.mem, index)
        if vma_guard_start(record) >= start + length:
            return True
        low = record.end
    return False


def do_munmap(task, addr, length):
    """munmap(2): section 4. Nothing mapped in the range is no error."""
    state: StateP = task_next(task)
    mas: MasP = task_mas(task, 0)
    index: u32
    if addr & (PAGE_BYTES - 1) or addr > state.task_size:
        return _fail(task, EINVAL, FIELD_ADDR, LIMIT_NONE)
    if length > state.task_size - addr:
        return _fail(task, EINVAL, FIELD_LENGTH, LIMIT_NONE)
    length = _page_align(length)
    if length == 0:
        return _fail(task, EINVAL, FIELD_LENGTH, LIMIT_NONE)
    index = mas_find(mas, addr)
    if index == 0 or record_at(task.mem, index).start >= addr + length:
        return 0
    if state.map_count >= state.max_map_count and vma_splits_one(mas, addr, addr + length):
        return _fail(task, ENOMEM, FIELD_NONE, LIMIT_MAP_COUNT)
    if vma_replace(mas, state, addr, addr + length, 0) != 0:
        return _fail(task, ENOMEM, FIELD_NONE, LIMIT_ARENA)
    return 0
