"""What the core asks of the machine: atomics, copies, the clock, room in a file.

The compiled builds use the C block in atomics.pxd. This is the uncompiled side: the
uncompiled core has the arena to itself, so plain reads and writes do.
"""

import ctypes
import os
import time
from typing import Any

from forkstormd.core.layout import NODE_BYTES, UNIT_BYTES


def load64(field: int) -> int:
    """The field's value, read with acquire order."""
    return field


load32 = load64


def spaces_add(header: Any, n: int) -> int:
    """Add to the count of live spaces; returns the count before."""
    old: int = header.space_count
    header.space_count = old + n
    return old


def snapshots_add(header: Any, n: int) -> int:
    """Add to the count of open snapshots; returns the count before."""
    old: int = header.snapshots
    header.snapshots = old + n
    return old


def serial_next(header: Any) -> int:
    """A serial no space had before: the identity behind Record.writer."""
    header.serials += 1
    return int(header.serials)


def order_next(header: Any) -> int:
    """The next place in the order of requests."""
    header.dedupe_order += 1
    return int(header.dedupe_order)


def counter_add(header: Any, i: int, n: int) -> None:
    """Add to one of the shared counters."""
    header.counter[i] += n


def answer_nodes_add(header: Any, n: int) -> int:
    """Add to the nodes that long answers hold; returns their number after."""
    header.answer_nodes += n
    return int(header.answer_nodes)


def answer_hand_next(header: Any) -> int:
    """Where to look next for an answer that may be forgotten."""
    hand: int = header.answer_hand
    header.answer_hand = hand + 1
    return hand


def members_add(domain: Any, n: int) -> int:
    """Add to a commit domain's members; returns the number before."""
    old: int = domain.members
    domain.members = old + n
    return old


def charged_add(domain: Any, n: int) -> int:
    """Add to a commit domain's charged pages; returns the number before."""
    old: int = domain.charged
    domain.charged = old + n
    return old


def page_tables_add(header: Any, n: int) -> None:
    """Add to the number of page tables of all spaces."""
    header.page_tables += n


def objects_add(header: Any, n: int) -> None:
    """Add to the number of shared objects."""
    header.objects += n


def shares_add(header: Any) -> None:
    """Count a fork whose child shares its parent's tree."""
    header.shares += 1


def references_add(object: Any, n: int) -> int:
    """Add to a shared object's references; returns the number before."""
    old: int = object.references
    object.references = old + n
    return old


def object_publish(entry: Any, object: int) -> None:
    """Give a file its object, which is whole for whoever sees it."""
    entry.object = object


def free_give(mem: Any, block: int, mask: int) -> int:
    """Set free bits of a block; returns the word before."""
    old: int = mem.free[block]
    mem.free[block] = old | mask
    return old


def free_take(mem: Any, block: int, old: int, wanted: int) -> bool:
    """Replace a block's word if it is still `old`."""
    if mem.free[block] != old:
        return False
    mem.free[block] = wanted
    return True


def extent_swap(lane: Any, i: int, old: int, wanted: int) -> bool:
    """Replace an entry of a lane's free extents if it is still `old`."""
    if lane.extents[i] != old:
        return False
    lane.extents[i] = wanted
    return True


def ref_add(mem: Any, index: int, n: int) -> int:
    """Add to an object's reference count; returns the count before."""
    old: int = mem.refs[index]
    mem.refs[index] = (old + n) & 0xFFFF_FFFF
    return old


def word_publish(slot: Any, word: int) -> None:
    """The commit: everything written before is visible to whoever sees the word."""
    slot.word = word


def claimed_publish(header: Any, blocks: int) -> None:
    header.claimed_blocks = blocks


def entry_publish(entry: Any, state: int) -> None:
    entry.state = state


def job_claim(job: Any, count: int, last: bool) -> int:
    """Claim the first or the last part of `count` that nobody has claimed; its number, or count."""
    first: int = job.claimed & 0xFFFF_FFFF
    back: int = job.claimed >> 32
    if first + back >= count:
        return count
    job.claimed += 1 << 32 if last else 1
    return count - 1 - back if last else first


def job_publish(job: Any, word: int) -> None:
    job.word = word


def barrier() -> None:
    """Keeps the compiler from moving stores across: a process may be killed here."""


def copy_node(base: Any, to: int, source: int) -> None:
    base[to * UNIT_BYTES : to * UNIT_BYTES + NODE_BYTES] = base[
        source * UNIT_BYTES : source * UNIT_BYTES + NODE_BYTES
    ]


def copy_record(base: Any, to: int, source: int) -> None:
    base[to * UNIT_BYTES : (to + 1) * UNIT_BYTES] = base[
        source * UNIT_BYTES : (source + 1) * UNIT_BYTES
    ]


def copy_units(base: Any, to: int, source: int, units: int) -> None:
    base[to * UNIT_BYTES : (to + units) * UNIT_BYTES] = base[
        source * UNIT_BYTES : (source + units) * UNIT_BYTES
    ]


def zero_units(base: Any, index: int, units: int) -> None:
    base[index * UNIT_BYTES : (index + units) * UNIT_BYTES] = bytes(units * UNIT_BYTES)


def copy_state(to: Any, source: Any) -> None:
    """Copy a whole struct."""
    ctypes.memmove(ctypes.byref(to), ctypes.byref(source), ctypes.sizeof(to))


copy_vma = copy_state


def prefetch(base: Any, index: int) -> None:
    """Nothing to fetch ahead of an interpreter."""


def lowest_bit(word: int) -> int:
    return (word & -word).bit_length() - 1


def bit_count(word: int) -> int:
    return word.bit_count()


def now_ns() -> int:
    """CLOCK_MONOTONIC in nanoseconds."""
    return time.monotonic_ns()


def claim_file(fd: int, at: int, nbytes: int) -> int:
    """Allocate a range of the file; 0 or a negative errno."""
    try:
        os.posix_fallocate(fd, at, nbytes)
    except OSError as error:
        return -(error.errno or 0)
    return 0


def populate(base: Any, at: int, nbytes: int) -> None:
    """Map the pages of a range for writing, ahead of their first use (best effort)."""
