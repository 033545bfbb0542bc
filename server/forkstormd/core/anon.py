"""Which anonymous memory a VMA belongs to: the kernel's anon_vma, as far as it can be observed.

A VMA has none until the first write fault in it. Two VMAs can merge only if their anonymous
memory is or may become one, and what a fork inherits never may: so a value here is an id, whose
lowest bit says "inherited" (the kernel: a chain of more than one anon_vma); 0 is none.

After a fork the child's records are copies of the parent's, word for word, yet every faulted
VMA of the child has an anon_vma of its own (A3). Hence `writer`, the serial of the space that
wrote a record: seen from that space its anon is what it says; seen from any other it is
inherited, with the record's index as its id, or none where the VMA is WIPEONFORK or was never
faulted. Whoever rewrites such a record writes that id down. It stays unique: a space inherits
records only at its birth, all of different indexes, and marks these ids by a bit of their own.

The space is the one whose state is in task.next. All functions O(1).
"""

import cython

if not cython.compiled:
    from forkstormd.core.atomics import serial_next
    from forkstormd.core.layout import *

    # VM_WIPEONFORK; vma.py, which has the flags, is above this module.
    ANON_WIPEONFORK = 0x2000000
    # Marks an id that is a record's index.
    ANON_BY_INDEX = 1 << 63


def anon_of(task, record):
    """The anonymous memory of a VMA as the running transaction's space sees it."""
    vma: RecordP = record_at(task.mem, record)
    if vma.writer == task.next.serial or vma.anon == 0:
        return vma.anon
    if vma.flags & ANON_WIPEONFORK:
        return 0
    return ANON_BY_INDEX | cython.cast(u64, record) << 1 | 1


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
