"""Writing to a maple tree.

One store replaces the range [first, last] by one to PIECES_MAX pieces (records or NULL). Its
ends must be the ends of entries, or lie within NULL: a VMA is never cut by the tree, because
its record would have to change too.

Published nodes are immutable. A store first makes the path from the root to its leaf its own
(copies what another transaction built, mas_own_path) and from there on changes nodes in place;
a tree under construction is owned already, so the same code is both the path-copying store
and the transient mode of a fork. What the copies replace is retired and dropped only after the
new root is published (retired_drop): the order is take references, commit, drop.

    exact range, record over record     one slot                                  O(1)
    fits its leaf                       slots move within the leaf, gaps climb    O(height)
    leaf too full, too empty, or        mas_rebuild: per level, what is left of the  O(height)
    range over several leaves           left path, what grew below, what is left
                                        of the right path, spread over new nodes

References are biased: a count of 0 means one owner. Copying a shared node takes a reference
on each child, so that "shared" is found again one level further down, and gives up the one on
the node itself; copying an unshared one moves the children and leaves an empty shell.

Locks: the caller holds the space's mutex, or owns the whole tree (a fork's child).
Errors: -ENOMEM before anything is changed.
"""

import cython

if not cython.compiled:
    from errno import ENOMEM

    from forkstormd.core.atomics import *
    from forkstormd.core.heap import node_alloc, node_free
    from forkstormd.core.layout import *
    from forkstormd.core.maple import leaf_gap, mas_walk
    from forkstormd.core.owning import *
    from forkstormd.core.rebuild import mas_rebuild


if not cython.compiled:

    def mas_store(mas, first, last, record, special):
        """Store one record, or NULL (0), over [first, last]; special: a fork treats it specially.

        Returns 0 or -ENOMEM. Where the cursor stands at exactly this range, and a record of the
        same kind is there, one slot of a node that is owned is all that changes.
        """
        level = mas.height - 1
        if mas.index == first and mas.last == last and mas.depth != 0 and record != 0:
            leaf = leaf_at(mas.mem, mas.node[level])
            offset = mas.offset[level]
            if (
                leaf.stamp == mas.stamp
                and leaf.slot[offset] != 0
                and (leaf.special >> offset) & 1 == special
            ):
                if not mas.keep_records:
                    mas_retire(mas, DROP_RECORD, leaf.slot[offset], 0)
                leaf.slot[offset] = record
                mas.task.work.slots_written += 1
                return 0
        return mas_store_range(mas, first, last, record, special)


def mas_store_range(mas, first, last, record, special):
    """mas_store in general."""
    mas.piece_count = 1
    mas.piece_last[0] = last
    mas.piece_record[0] = record
    mas.piece_special[0] = special
    return mas_store_pieces(mas, first, last)


def mas_store_pieces(mas, first, last):
    """Replace [first, last] by mas.piece_*: ascending, the last one ending at `last`, no two
    NULL pieces touching. Returns 0 or -ENOMEM."""
    mem: MemP = mas.mem
    leaf: LeafP
    root: u32
    level: cython.int
    if mas.height == 0:
        if mas_room(mas) != 0:
            return -ENOMEM
        root = node_new(mas)
        leaf = leaf_at(mem, root)
        leaf.end = 0
        leaf.special = 0
        leaf.slot[0] = 0
        mas.root = root
        mas.height = 1
        mas.depth = 0
    level = mas.height - 1
    if mas.depth == 0 or first < mas.min[level] or first > mas.max[level]:
        mas_walk(mas, first)
    if last > mas.max[level] or (
        last == mas.max[level] and last != MAX_INDEX and mas.piece_record[mas.piece_count - 1] == 0
    ):
        return mas_rebuild(mas, first, last, mas.height)
    if leaf_at(mem, mas.node[level]).stamp != mas.stamp:
        if mas_room(mas) != 0:
            return -ENOMEM
        mas_own_path(mas)
    return _store_leaf(mas, first, last)


def mas_reserve(mas, nodes):
    """Set nodes aside for this tree, so that stores need no other; 0 or -ENOMEM, and then
    none are set aside. mas_destroy gives back what is left."""
    node: u32
    while mas.reserve_count < nodes:
        node = node_alloc(mas.task)
        if node == 0:
            mas_destroy(mas)
            return -ENOMEM
        leaf_at(mas.mem, node).reserve_next = mas.reserve
        mas.reserve = node
        mas.reserve_count += 1
    return 0


def mas_destroy(mas):
    """End a bulk store: fill up the right spine, give back what was reserved.

    Bulk stores leave the last node of each level short, because they expect more to come.
    Returns 0 or -ENOMEM (the tree is valid then, but for the short nodes).
    """
    mem: MemP = mas.mem
    level: cython.int
    short: cython.int
    leaf: LeafP
    record: u32
    result: cython.int = 0
    while mas.bulk and mas.height > 1:
        record = mas_walk(mas, MAX_INDEX)
        leaf = leaf_at(mem, mas.node[mas.height - 1])
        short = -1
        for level in range(1, mas.height - 1):
            if inner_at(mem, mas.node[level]).end < INNER_MIN_END:
                short = level
                break
        if short < 0 and leaf.end < LEAF_MIN_END:
            short = mas.height - 1
        if short < 0:
            break
        mas.piece_count = 1
        mas.piece_last[0] = MAX_INDEX
        mas.piece_record[0] = record
        mas.piece_special[0] = (leaf.special >> leaf.end) & 1
        mas.bulk = 0
        result = mas_rebuild(mas, mas.index, MAX_INDEX, short - 1)
        mas.bulk = 1
        if result != 0:
            break
    mas.bulk = 0
    while mas.reserve_count != 0:
        record = mas.reserve
        mas.reserve = leaf_at(mem, record).reserve_next
        mas.reserve_count -= 1
        node_free(mas.task, record)
    return result


def _store_leaf(mas, first, last):
    """The store when the range lies within the current leaf, which is owned."""
    mem: MemP = mas.mem
    task: TaskP = mas.task
    level: cython.int = mas.height - 1
    leaf: LeafP = leaf_at(mem, mas.node[level])
    end: cython.int = leaf.end
    left: cython.int = mas.offset[level] if first >= mas.index else 0
    right: cython.int
    count: cython.int = 0
    tail: cython.int
    i: cython.int
    left_min: u64
    right_max: u64
    pieces: cython.int = mas.piece_count
    null_changed: cython.bint = False
    vmas: cython.int = 0
    specials: cython.int = 0
    mask: u32
    while left < end and first > leaf.pivot[left]:
        left += 1
    right = left
    while right < end and last > leaf.pivot[right]:
        right += 1
    left_min = leaf.pivot[left - 1] + 1 if left > 0 else mas.min[level]
    right_max = leaf.pivot[right] if right < end else mas.max[level]
    check(first == left_min or leaf.slot[left] == 0)
    check(last == right_max or leaf.slot[right] == 0)
    # The slots that replace left..right, NULL joined with NULL.
    if first > left_min:
        if mas.piece_record[0] != 0:
            task.big_last[0] = first - 1
            task.big_slot[0] = 0
            task.big_special[0] = 0
            count = 1
    elif mas.piece_record[0] == 0 and left > 0 and leaf.slot[left - 1] == 0:
        left -= 1
    for i in range(pieces):
        task.big_last[count] = mas.piece_last[i]
        task.big_slot[count] = mas.piece_record[i]
        task.big_special[count] = mas.piece_special[i]
        count += 1
    if last < right_max:
        if task.big_slot[count - 1] == 0:
            task.big_last[count - 1] = right_max
        else:
            task.big_last[count] = right_max
            task.big_slot[count] = 0
            task.big_special[count] = 0
            count += 1
    elif task.big_slot[count - 1] == 0 and right < end and leaf.slot[right + 1] == 0:
        right += 1
        task.big_last[count - 1] = leaf.pivot[right] if right < end else mas.max[level]
    tail = end - right
    end = left + count + tail - 1
    if end >= LEAF_SLOTS or (end < LEAF_MIN_END and level > 0 and not mas.bulk):
        return mas_rebuild(mas, first, last, mas.height)

    for i in range(left, right + 1):
        if leaf.slot[i] == 0:
            null_changed = True
        else:
            vmas -= 1
            specials -= (leaf.special >> i) & 1
            mas_retire(mas, DROP_RECORD, leaf.slot[i], 0)
    mask = leaf.special & ((1 << left) - 1)
    mask |= cython.cast(u32, leaf.special >> (right + 1)) << (left + count)
    i = left + count - right - 1  # by how much the tail moves
    if i > 0:
        for right in range(leaf.end, leaf.end - tail, -1):
            leaf.slot[right + i] = leaf.slot[right]
        for right in range(leaf.end - 1, leaf.end - tail, -1):
            leaf.pivot[right + i] = leaf.pivot[right]
        task.work.slots_written += tail
    elif i < 0:
        for right in range(leaf.end - tail + 1, leaf.end + 1):
            leaf.slot[right + i] = leaf.slot[right]
        for right in range(leaf.end - tail + 1, leaf.end):
            leaf.pivot[right + i] = leaf.pivot[right]
        task.work.slots_written += tail
    for i in range(count):
        leaf.slot[left + i] = task.big_slot[i]
        if left + i < end:
            leaf.pivot[left + i] = task.big_last[i]
        if task.big_slot[i] == 0:
            null_changed = True
        else:
            vmas += 1
            specials += task.big_special[i]
            mask |= task.big_special[i] << (left + i)
    leaf.end = end
    leaf.special = mask
    task.work.slots_written += count
    # Stand at the last slot that was written: the next store often follows it.
    left += count - 1
    mas.offset[level] = left
    mas.index = leaf.pivot[left - 1] + 1 if left > 0 else mas.min[level]
    mas.last = leaf.pivot[left] if left < end else mas.max[level]
    if level == 0:
        if end == 0 and leaf.slot[0] == 0:
            node_free(task, mas.root)
            mas.root = 0
            mas.height = 0
            mas.depth = 0
        return 0
    if null_changed:
        mas_climb(mas, level - 1, leaf_gap(leaf, mas.min[level], mas.max[level]))
    if not mas.deferred_counts and (vmas != 0 or specials != 0):
        mas_add_counts(mas, level - 1, 0, vmas, specials)
    return 0
