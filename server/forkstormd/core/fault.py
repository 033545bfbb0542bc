"""Page faults: what touching memory does to a space. Sections 8 and 13 of the semantics.

A touch is one load or store of the process. It may let a GROWSDOWN area grow (expand_stack), is
refused where the process would get SIGSEGV or SIGBUS, gives a private VMA its anonymous memory at
the first write (A1), and maps the page. What a page holds is one u64:

    private, written       the space's own; a fork copies it, so later writes are not seen (CoW)
    private, only read     what lies behind: the file's page, or zero
    shared                 the object's, common to all that map it

O(height + levels of the page tree). -EFAULT for SIGSEGV, where growing may have given the area
its anonymous memory all the same; -ENOMEM (arena) with nothing changed. Conventions: mapping.py.
"""

import cython

if not cython.compiled:
    from errno import EFAULT, ENOMEM

    from forkstormd.core.anon import *
    from forkstormd.core.commit import *
    from forkstormd.core.layout import *
    from forkstormd.core.maple import *
    from forkstormd.core.mapping import call_room
    from forkstormd.core.objects import object_of, object_read, object_write
    from forkstormd.core.owning import record_release
    from forkstormd.core.pages import *
    from forkstormd.core.placement import PMD_BYTES, min_addr
    from forkstormd.core.space import *
    from forkstormd.core.vma import *

    # VM_ACCESS_FLAGS: R, W and X.
    ACCESS_FLAGS = 0x7


def do_touch(task, addr, write, value):
    """Read or write the page at addr; task.value is what it holds then."""
    state: StateP = task_next(task)
    mas: MasP = task_mas(task, 0)
    pages: PagesP = task_pages(task, 0)
    page: u64 = addr & ~cython.cast(u64, PAGE_BYTES - 1)
    vma: RecordP
    result: cython.int = fault_in(task, addr, write)
    if result != 0:
        return result
    vma = record_at(task.mem, mas_walk(mas, page))
    if write and vma.flags & VM_SHARED:
        result = object_write(task, object_of(task, vma), _object_offset(vma, page), value)
    elif write:
        pages_init(pages, task, state, mas.stamp)
        result = pages_set(pages, page, True, value)
        pages_finish(pages, state)
    task.value = value if write else _shown(task, vma, page)
    return task_fail(task, ENOMEM, FIELD_NONE, LIMIT_ARENA) if result != 0 else 0


def fault_in(task, addr, write):
    """handle_mm_fault: afterwards the page is mapped, and if write, may be written."""
    state: StateP = task_next(task)
    mas: MasP = task_mas(task, 0)
    pages: PagesP = task_pages(task, 0)
    page: u64 = addr & ~cython.cast(u64, PAGE_BYTES - 1)
    vma: RecordP
    index: u32 = vma_find(task, page)
    value: u64
    own: cython.bint
    result: cython.int
    if index == 0 or addr >= state.task_size:
        return task_fail(task, EFAULT, FIELD_ADDR, LIMIT_NONE)
    if record_at(task.mem, index).start > page:
        if call_room(task) != 0:
            return -ENOMEM
        result = _expand_stack(task, index, page)
        if result != 0:
            return result
        index = mas_walk(mas, page)
    vma = record_at(task.mem, index)
    if not vma.flags & (VM_WRITE if write else ACCESS_FLAGS) or vma.flags & VM_PKEY:
        return task_fail(task, EFAULT, FIELD_ACCESS, LIMIT_NONE)
    if (
        vma.object != 0
        and _object_offset(vma, page) >> PAGE_SHIFT >= object_at(task.mem, vma.object).pages
    ):
        # SIGBUS: mremap can make a mapping longer than its object.
        return task_fail(task, EFAULT, FIELD_ADDR, LIMIT_NONE)
    own = write and not vma.flags & VM_SHARED
    pages_init(pages, task, state, mas.stamp)
    if pages_look(pages, page) >= (2 if own else 1):
        return 0
    if call_room(task) != 0:
        return -ENOMEM
    if (own or _huge(pages, vma, page)) and anon_of(task, index) == 0:
        index = _anon_prepare(task, index)
        if index == 0:
            return task_fail(task, ENOMEM, FIELD_NONE, LIMIT_ARENA)
        vma = record_at(task.mem, index)
    # A page that becomes the space's own keeps what it showed (copy on write).
    value = _shown(task, vma, page) if own else 0
    pages_init(pages, task, state, mas.stamp)
    result = pages_set(pages, page, own, value)
    pages_finish(pages, state)
    return task_fail(task, ENOMEM, FIELD_NONE, LIMIT_ARENA) if result != 0 else 0


def _huge(pages, vma, page):
    """Whether a fault here would map a huge page: these come with anonymous memory, also where
    they are only read (do_huge_pmd_anonymous_page; transparent_hugepage=madvise)."""
    block: u64 = page & ~cython.cast(u64, PMD_BYTES - 1)
    return (
        vma.flags & VM_HUGEPAGE
        and vma.file == 0
        and block >= vma.start
        and block + PMD_BYTES <= vma.end
        and not pages_table(pages, page)
    )


def _object_offset(vma, page):
    """Where in the file or object a page lies, in bytes."""
    return (vma.pgoff << PAGE_SHIFT) + page - vma.start


def _shown(task, vma, page):
    """What a page of a VMA shows, mapped or not."""
    pages: PagesP = task_pages(task, 0)
    pages_init(pages, task, task_next(task), 0)
    if pages_look(pages, page) == 2:
        return pages.value
    if vma.file == 0:
        return 0
    return object_read(task, object_of(task, vma), _object_offset(vma, page))


def _expand_stack(task, vma, addr):
    """Let a GROWSDOWN area reach down to addr (expand_downwards). 0, -EFAULT or -ENOMEM."""
    state: StateP = task_next(task)
    mas: MasP = task_mas(task, 0)
    record: RecordP = record_at(task.mem, vma)
    before: RecordP
    index: u32
    grow: u64 = (record.start - addr) >> PAGE_SHIFT
    if not record.flags & VM_GROWSDOWN or addr < min_addr(state):
        return task_fail(task, EFAULT, FIELD_ADDR, LIMIT_NONE)
    mas_walk(mas, addr)
    index = mas_prev(mas)
    if index != 0:
        before = record_at(task.mem, index)
        if (
            not before.flags & VM_GROWSDOWN
            and before.flags & ACCESS_FLAGS
            and addr - before.end < GUARD_PAGES * PAGE_BYTES
        ):
            return task_fail(task, EFAULT, FIELD_ADDR, LIMIT_NONE)
    # Before the limits: an area that may not grow has its anonymous memory nevertheless.
    if anon_of(task, vma) == 0:
        vma = _anon_prepare(task, vma)
        if vma == 0:
            return task_fail(task, ENOMEM, FIELD_NONE, LIMIT_ARENA)
        record = record_at(task.mem, vma)
    if grow > record.pgoff or record.end - addr > state.stack_limit:
        return task_fail(task, EFAULT, FIELD_ADDR, LIMIT_STACK)
    # Whether or not the area is accounted (acct_stack_growth).
    if commit_more(task, state, grow) != 0:
        return task_fail(task, EFAULT, FIELD_ADDR, LIMIT_COMMIT)
    index = vma_part(task, vma, record.start, record.end, record.flags, anon_of(task, vma))
    record = record_at(task.mem, index)
    record.start = addr
    record.pgoff -= grow
    if vma_replace(mas, state, addr, record.end, index, MERGE_NONE) != 0:
        record_release(task, index)
        return task_fail(task, ENOMEM, FIELD_NONE, LIMIT_ARENA)
    return 0


def _anon_prepare(task, vma):
    """Give a VMA its anonymous memory: that of a neighbour it could merge with but for R, W and
    X, the next one first, else a new one (A1). The record that replaces it; 0 without memory."""
    mas: MasP = task_mas(task, 0)
    record: RecordP = record_at(task.mem, vma)
    anon: u64 = 0
    index: u32 = mas_walk(mas, record.end)
    if index != 0:
        anon = _reusable_anon(task, index, record, record_at(task.mem, index))
    if anon == 0 and record.start > 0:
        index = mas_walk(mas, record.start - 1)
        if index != 0:
            anon = _reusable_anon(task, index, record_at(task.mem, index), record)
    if anon == 0:
        anon = anon_new(task)
    index = vma_part(task, vma, record.start, record.end, record.flags, anon)
    if vma_replace(mas, task_next(task), record.start, record.end, index, MERGE_NONE) != 0:
        record_release(task, index)
        return 0
    return index


def _reusable_anon(task, near, left, right):
    """The anonymous memory of the neighbour `near`, if the two may share it and it is not
    inherited; else 0 (anon_vma_compatible, reusable_anon_vma)."""
    anon: u64
    if left.end != right.start or left.file != right.file or left.policy != right.policy:
        return 0
    if ((left.flags ^ right.flags) & ~cython.cast(u64, ACCESS_FLAGS | VM_SOFTDIRTY)) != 0:
        return 0
    if left.pgoff + ((right.start - left.start) >> PAGE_SHIFT) != right.pgoff:
        return 0
    anon = anon_of(task, near)
    return 0 if anon & 1 else anon
