"""Where a mapping goes: section 3 of the semantics, for mmap and for mremap.

L1  a hint is taken exactly, if it is free and respects the guard of the VMA behind, or not at all
L2  else the highest gap below mmap_base, its top end
L3  else the lowest gap from a third of the task size on
L4  a GROWSDOWN VMA keeps 256 pages below it free: a search whose gap ends there goes on below
L5  what could use huge pages is first tried at an address that suits them: 2 MiB more than needed
    is looked for, and the place within chosen so that file offset and address agree
    (__thp_get_unmapped_area of Linux; the space's thp_alignment switches it)

MAP_32BIT searches the second GiB from below, MAP_ABOVE4G nothing below 4 GiB (arch/x86
sys_x86_64.c; the random part of the first is left out).

O(height) per search, more where guards are met. Errors are those of get_unmapped_area in Linux.
"""

import cython

if not cython.compiled:
    from errno import EINVAL, ENOMEM, EPERM

    from forkstormd.core.layout import *
    from forkstormd.core.maple import *
    from forkstormd.core.space import *
    from forkstormd.core.vma import *

    MAP_FIXED = 0x10
    MAP_32BIT = 0x40
    MAP_ABOVE4G = 0x80
    PMD_BYTES = 0x200000
    # MAX_ERRNO.
    ERRNO_MAX = 4095
    LOW_2G_START = 0x4000_0000
    LOW_2G_END = 0x8000_0000
    ABOVE_4G = 0x1_0000_0000
    # Who asks for L5: shared anonymous memory never, private anonymous memory only without a
    # hint, files of most file systems always.
    THP_NEVER = 0
    THP_WITHOUT_HINT = 1
    THP_ALWAYS = 2


def page_align(length):
    """Rounded up to pages; 0 when that overflows."""
    if length > MAX_INDEX - (PAGE_BYTES - 1):
        return 0
    return (length + PAGE_BYTES - 1) & ~cython.cast(u64, PAGE_BYTES - 1)


def round_hint_to_min(state, hint):
    """A hint of mmap(2): down to its page, and not below mmap_min_addr."""
    hint &= ~cython.cast(u64, PAGE_BYTES - 1)
    if hint != 0 and hint < min_addr(state):
        return page_align(min_addr(state))
    return hint


def min_addr(state):
    """Below this nothing is placed, no hint honoured, and no stack grows. Linux has two limits:
    vm.mmap_min_addr, which also decides what MAP_FIXED may do, and CONFIG_LSM_MMAP_MIN_ADDR."""
    return max(state.mmap_min_addr, state.lsm_min_addr)


def thp_of_file(mem, file):
    """Whether mappings of a file ask for L5: its file system's choice."""
    if file >= SHARED_OBJECT:
        return THP_NEVER
    return THP_ALWAYS if file_entry_at(mem, file).thp_aligned else THP_NEVER


def get_unmapped_area(task, addr, length, flags, thp, offset):
    """Where `length` bytes (whole pages, not 0) go: task.value; 0 or a negative errno.

    flags are those of mmap; thp is one of THP_*, offset that of the file (0 without one).
    """
    state: StateP = task_next(task)
    mas: MasP = task_mas(task, 0)
    if length > state.task_size:
        return task_fail(task, ENOMEM, FIELD_LENGTH, LIMIT_NONE)
    if not flags & MAP_FIXED:
        if not state.thp_alignment or (
            thp == THP_WITHOUT_HINT and (addr != 0 or length & (PMD_BYTES - 1))
        ):
            thp = THP_NEVER
        if not (
            (thp != THP_NEVER and _aligned_area(mas, state, addr, length, flags, offset))
            or _unmapped_area(mas, state, addr, length, flags)
        ):
            return task_fail(task, ENOMEM, FIELD_LENGTH, LIMIT_PLACEMENT)
        addr = mas.index
    elif addr > MAX_INDEX - ERRNO_MAX:
        # Linux takes such an address for an error that the search has returned.
        return task_fail(
            task, cython.cast(cython.int, MAX_INDEX - addr + 1), FIELD_ADDR, LIMIT_NONE
        )
    if addr > state.task_size - length:
        return task_fail(task, ENOMEM, FIELD_ADDR, LIMIT_NONE)
    if addr & (PAGE_BYTES - 1):
        return task_fail(task, EINVAL, FIELD_ADDR, LIMIT_NONE)
    if addr < state.mmap_min_addr and not state.privileged:
        return task_fail(task, EPERM, FIELD_ADDR, LIMIT_NONE)
    task.value = addr
    return 0


def _aligned_area(mas, state, hint, length, flags, offset):
    """L5: whether there is a place for it; then mas.index."""
    first: u64 = (offset + PMD_BYTES - 1) & ~cython.cast(u64, PMD_BYTES - 1)
    shift: u64
    # The range has to contain a whole huge page of the file.
    if offset + length <= first or offset + length - first < PMD_BYTES:
        return False
    if not _unmapped_area(mas, state, hint, length + PMD_BYTES, flags):
        return False
    if mas.index == hint:
        return True
    shift = (offset - mas.index) & (PMD_BYTES - 1)
    # Top-down, an aligned gap still leaves the padding below, not above.
    mas.index += shift if shift != 0 else PMD_BYTES
    return True


def _unmapped_area(mas, state, hint, length, flags):
    """L1 to L4: whether there is a place; then mas.index."""
    index: u32
    low: u64 = page_align(state.task_size // 3)
    high: u64 = state.task_size
    hint &= ~cython.cast(u64, PAGE_BYTES - 1)
    if length > state.task_size:
        return False
    if flags & MAP_32BIT:
        low = LOW_2G_START
        high = LOW_2G_END
    if length > high:
        return False
    if hint != 0 and hint <= high - length:
        index = mas_find(mas, hint)
        if index == 0 or hint + length <= vma_guard_start(record_at(mas.mem, index)):
            mas.index = hint
            return True
    if not flags & MAP_32BIT and _top_down(
        mas,
        max(min_addr(state), ABOVE_4G if flags & MAP_ABOVE4G else PAGE_BYTES),
        state.mmap_base,
        length,
    ):
        return True
    return _bottom_up(mas, max(low, min_addr(state)), high, length)


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
        guard = vma_guard_start(record_at(mas.mem, index))
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
        record = record_at(mas.mem, index)
        if vma_guard_start(record) >= start + length:
            return True
        low = record.end
    return False
