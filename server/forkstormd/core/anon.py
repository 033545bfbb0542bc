"""Which anonymous memory a VMA belongs to: the kernel's anon_vma, as far as it can be observed.

A VMA has none until the first write fault in it. Two VMAs can merge only if their anonymous
memory is or may become one, and what a fork inherits never may: so a value here is an id, whose
lowest bit says "inherited" (the kernel: a chain of more than one anon_vma); 0 is none.

After a fork the child's records are copies of the parent's, word for word, yet every faulted
VMA of the child has an anon_vma of its own (A3). Hence `writer`, the serial of the space that
wrote a record: seen from that space its anon is what it says; seen from any other it is
inherited, with the record itself as its identity, or none where the VMA is WIPEONFORK or was
never faulted. Whoever rewrites a record of another's takes an id for it first (anon_own).

The space is the one whose state is in task.next. All functions O(1).
"""

import cython

if not cython.compiled:
    from forkstormd.core.atomics import serial_next
    from forkstormd.core.layout import *

    # VM_WIPEONFORK; vma.py, which has the flags, is above this module.
    ANON_WIPEONFORK = 0x2000000
    # Marks the identity of a record that has no id of this space yet.
    ANON_UNWRITTEN = 1 << 63


def anon_of(task, record):
    """The anonymous memory of a VMA as the running transaction's space sees it."""
    vma: RecordP = record_at(task.mem, record)
    if vma.writer == task.next.serial or vma.anon == 0:
        return vma.anon
    if vma.flags & ANON_WIPEONFORK:
        return 0
    return ANON_UNWRITTEN | cython.cast(u64, record) << 1 | 1


def anon_own(task, record):
    """anon_of with an id that outlives the record: for what is rewritten or split."""
    anon: u64 = anon_of(task, record)
    if anon & ANON_UNWRITTEN:
        return anon_new(task) | 1
    return anon


def anon_new(task):
    """An id nobody else has, not inherited."""
    return serial_next(task.mem.header) << 1


def anon_mergeable(one, other):
    """A2: may two VMAs with this anonymous memory be one?"""
    if one == other:
        return True
    if one == 0 or other == 0:
        return ((one | other) & 1) == 0
    return False


def anon_joinable(one, other):
    """I5: may both neighbours of a VMA, each of which it can join, become one with it?"""
    return one == other or one == 0 or other == 0
