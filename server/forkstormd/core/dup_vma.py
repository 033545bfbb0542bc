"""What a fork does for each VMA, in the kernel's order, under every strategy: section 13 of the
semantics. And how it fails: task.failure tells where, task.fault may have asked for it.

O(1) each, copy_pages O(pages and page tables of the VMA).
"""

import cython

if not cython.compiled:
    from errno import EINTR, ENOMEM, ETIMEDOUT

    from forkstormd.core.anon import anon_of
    from forkstormd.core.atomics import now_ns
    from forkstormd.core.commit import *
    from forkstormd.core.layout import *
    from forkstormd.core.pages import *
    from forkstormd.core.undo import *
    from forkstormd.core.vma import (
        VM_ACCOUNT,
        VM_WIPEONFORK,
        vma_account,
        vma_pages,
    )

    # VMAs between two looks at the clock.
    DEADLINE_VMAS = 4096

    def fork_late(task, done):
        """Past the deadline? Looks at the clock every DEADLINE_VMAS VMAs."""
        return (
            done & (DEADLINE_VMAS - 1) == 0
            and task.deadline_ns != 0
            and now_ns() > task.deadline_ns
        )


def vma_may_fail(task, record, vma, fault):
    """What else may go wrong with one VMA: a signal, its charge, its policy, its anon_vma. 0, or
    -1 with task.failure.site, and nothing charged."""
    state: StateP = task_next(task)
    if fault == FAULT_FATAL_SIGNAL:
        task.failure.site = fault
        return -1
    if vma.flags & VM_ACCOUNT and (
        fault == FAULT_COMMIT_LIMIT or commit_charge(task, state, vma_pages(vma)) != 0
    ):
        task.failure.site = FAULT_COMMIT_LIMIT
        return -1
    if fault == FAULT_POLICY or (
        fault == FAULT_ANON_VMA and not vma.flags & VM_WIPEONFORK and anon_of(task, record) != 0
    ):
        task.failure.site = fault
        if vma.flags & VM_ACCOUNT:
            commit_uncharge(task, state, vma_pages(vma))
        return -1
    return 0


def copy_pages(task, record, vma, fault):
    """copy_page_range of one VMA of a parent that has page tables; 0 or -ENOMEM.

    Half of the pages stay behind an injected failure, for the undo to find.
    """
    parent: PagesP = task_pages(task, 0)
    began: u64
    result: cython.int = 0
    if vma.flags & VM_WIPEONFORK or anon_of(task, record) == 0:
        return 0
    if not pages_any(parent, vma.start, vma.end):
        return 0
    began = now_ns()
    result = pages_copy(
        task_pages(task, 1),
        parent,
        vma.start,
        vma.end,
        1 if fault == FAULT_PAGE_TABLE else MAX_INDEX,
    )
    task.pages_ns += now_ns() - began
    if result == 0 and fault == FAULT_PAGE_TABLE:
        # There was no more than what was to be left behind.
        result = -ENOMEM
    if result != 0:
        task.failure.site = FAULT_PAGE_TABLE
    return result


def leave_out(task, vma):
    """The child does not get this VMA (DONTCOPY): its counts began as the parent's."""
    vma_account(task_next(task), vma.flags, -cython.cast(i64, vma_pages(vma)))
    task.next.map_count -= 1
    task.work.entries_erased += 1


def fault_at_vma(task):
    """The ordinal of the VMA that is to fail, or one that no VMA has."""
    return task.fault.ordinal if task.fault.site != 0 else MAX_INDEX


def fork_failed(task, ordinal, done):
    """The result of a fork that failed at this VMA, with `done` VMAs duplicated."""
    task.failure.ordinal = ordinal
    task.failure.duplicated = done
    task.failure.undone = task.failure.undo_ns = 0
    task.failure.injected = task.failure.site != 0 and ordinal == fault_at_vma(task)
    if task.failure.site == 0:
        return -ETIMEDOUT
    return -EINTR if task.failure.site == FAULT_FATAL_SIGNAL else -ENOMEM
