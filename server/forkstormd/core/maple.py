"""Reading a maple tree.

A tree maps ranges of indexes to VMA records; what no record covers is NULL, and NULL ranges
are ranges of the tree like any other:

    Inner     pivot:      p0        p1        p2
              slot:   [n0]      [n1]      [n2]      [n3]        up to 10 slots, 9 pivots
              gap:     g0        g1        g2        g3         largest NULL range below

    Leaf      slot:   [NULL][r0][r1][NULL][r2] ...              up to 16 slots, 15 pivots

slot[i] covers (pivot[i-1], pivot[i]], both indices inclusive at the entry's level; the first
slot begins where the node begins and the last ends where it ends, so a node's bounds are not
in it: a cursor carries them. There are no parent pointers.

Invariants (verify.py checks them all):
    pivots ascend; a node but the root has more than LEAF_MIN_END / INNER_MIN_END + 1 slots
    two NULL ranges never touch: a leaf ends in NULL only where the tree ends
    gap[i] is exact, gap_slot names the largest; nodes, vmas, specials are exact
    a root of 0 is the empty tree

| operation                         | cost            | notes                              |
| mas_walk                          | O(height)       | any index                          |
| mas_next, mas_prev                | O(1) amortised  | skip NULL; *_slot do not           |
| mas_find                          | O(height)       | walk, then next                    |
| mas_find_special, mas_rank        | O(height)       | by the subtree counts              |
| mas_empty_area, mas_empty_area_rev| O(height)       | more where a gap is cut by bounds  |

The caller holds the space's mutex or a snapshot. Nothing here allocates or fails but the two
searches, which return -EBUSY when there is no such gap.
"""

import cython

if not cython.compiled:
    from errno import EBUSY

    from forkstormd.core.atomics import bit_count, lowest_bit
    from forkstormd.core.layout import *


def mas_init(mas, task, root, height):
    """Begin with a tree, at no position, read-only."""
    mas.task = task
    mas.mem = task.mem
    mas.stamp = 0
    mas.root = root
    mas.height = height
    mas.depth = 0
    mas.bulk = 0
    mas.deferred_counts = 0
    mas.keep_records = 0
    mas.reserve = 0
    mas.reserve_count = 0


def _set_range(mas, leaf, offset):
    """Stand at a slot of the current leaf; returns its record."""
    level: cython.int = mas.height - 1
    mas.offset[level] = offset
    mas.index = leaf.pivot[offset - 1] + 1 if offset > 0 else mas.min[level]
    mas.last = leaf.pivot[offset] if offset < leaf.end else mas.max[level]
    return leaf.slot[offset]


def _down(mas, inner, offset):
    """Step from the level mas.depth into a child."""
    level: cython.int = mas.depth
    mas.offset[level] = offset
    mas.min[level + 1] = inner.pivot[offset - 1] + 1 if offset > 0 else mas.min[level]
    mas.max[level + 1] = inner.pivot[offset] if offset < inner.end else mas.max[level]
    mas.node[level + 1] = inner.slot[offset]
    mas.depth = level + 1


def mas_walk(mas, index):
    """Stand at the range that contains index; returns its record, 0 for NULL."""
    mem: MemP = mas.mem
    inner: InnerP
    leaf: LeafP
    offset: cython.int
    end: cython.int
    level: cython.int
    node: u32 = mas.root
    low: u64 = 0
    high: u64 = MAX_INDEX
    if mas.height == 0:
        mas.depth = 0
        mas.index = 0
        mas.last = MAX_INDEX
        return 0
    for level in range(mas.height - 1):
        inner = inner_at(mem, node)
        end = inner.end
        offset = 0
        while offset < end and index > inner.pivot[offset]:
            offset += 1
        mas.node[level] = node
        mas.offset[level] = offset
        mas.min[level] = low
        mas.max[level] = high
        if offset > 0:
            low = inner.pivot[offset - 1] + 1
        if offset < end:
            high = inner.pivot[offset]
        node = inner.slot[offset]
    level = mas.height - 1
    mas.node[level] = node
    mas.min[level] = low
    mas.max[level] = high
    mas.depth = mas.height
    leaf = leaf_at(mem, node)
    end = leaf.end
    offset = 0
    while offset < end and index > leaf.pivot[offset]:
        offset += 1
    return _set_range(mas, leaf, offset)


def _first_leaf(mas):
    """Go down along first slots to a leaf, from the level mas.depth."""
    while mas.depth < mas.height - 1:
        _down(mas, inner_at(mas.mem, mas.node[mas.depth]), 0)
    mas.depth = mas.height


def _last_leaf(mas):
    inner: InnerP
    while mas.depth < mas.height - 1:
        inner = inner_at(mas.mem, mas.node[mas.depth])
        _down(mas, inner, inner.end)
    mas.depth = mas.height


def mas_first(mas, low, high):
    """Stand at the first range of a tree that is the part [low, high] of another, and stay within
    it; returns its record, 0 for NULL."""
    mas.node[0] = mas.root
    mas.min[0] = low
    mas.max[0] = high
    mas.depth = 0
    _first_leaf(mas)
    return _set_range(mas, leaf_at(mas.mem, mas.node[mas.height - 1]), 0)


def mas_next_slot(mas):
    """The range after the current one; returns its record, 0 for NULL or at the tree's end,
    where the position is lost (depth 0)."""
    mem: MemP = mas.mem
    level: cython.int = mas.height - 1
    leaf: LeafP = leaf_at(mem, mas.node[level])
    inner: InnerP
    offset: cython.int = mas.offset[level] + 1
    if offset <= leaf.end:
        mas.offset[level] = offset
        mas.index = mas.last + 1
        mas.last = leaf.pivot[offset] if offset < leaf.end else mas.max[level]
        return leaf.slot[offset]
    while level > 0:
        level -= 1
        inner = inner_at(mem, mas.node[level])
        if mas.offset[level] < inner.end:
            mas.depth = level
            _down(mas, inner, mas.offset[level] + 1)
            _first_leaf(mas)
            return _set_range(mas, leaf_at(mem, mas.node[mas.height - 1]), 0)
    mas.depth = 0
    return 0


def mas_prev_slot(mas):
    """The range before the current one, as mas_next_slot."""
    mem: MemP = mas.mem
    level: cython.int = mas.height - 1
    leaf: LeafP
    inner: InnerP
    if mas.offset[level] > 0:
        return _set_range(mas, leaf_at(mem, mas.node[level]), mas.offset[level] - 1)
    while level > 0:
        level -= 1
        if mas.offset[level] > 0:
            mas.depth = level
            inner = inner_at(mem, mas.node[level])
            _down(mas, inner, mas.offset[level] - 1)
            _last_leaf(mas)
            leaf = leaf_at(mem, mas.node[mas.height - 1])
            return _set_range(mas, leaf, leaf.end)
    mas.depth = 0
    return 0


def mas_next_leaf(mas):
    """mas_next when the next record is not, or not for sure, in the same leaf."""
    record: u32 = mas_next_slot(mas)
    if record == 0 and mas.depth != 0:
        record = mas_next_slot(mas)
    return record


if not cython.compiled:

    def mas_next(mas):
        """The next record, or 0 at the end (depth 0). Two NULL ranges never touch, so by far the
        most frequent is a neighbour in the same leaf, perhaps behind a gap."""
        level = mas.height - 1
        leaf = leaf_at(mas.mem, mas.node[level])
        offset = mas.offset[level] + 1
        if offset < leaf.end:
            record = leaf.slot[offset]
            if record != 0:
                mas.index = mas.last + 1
                mas.offset[level] = offset
                mas.last = leaf.pivot[offset]
                return record
            if offset + 1 < leaf.end:
                mas.index = leaf.pivot[offset] + 1
                mas.offset[level] = offset + 1
                mas.last = leaf.pivot[offset + 1]
                return leaf.slot[offset + 1]
        return mas_next_leaf(mas)


def mas_prev(mas):
    """The record before, or 0 at the beginning (depth 0)."""
    record: u32 = mas_prev_slot(mas)
    if record == 0 and mas.depth != 0:
        record = mas_prev_slot(mas)
    return record


def mas_find(mas, index):
    """The record that contains index, else the next above it; 0 when there is none."""
    record: u32 = mas_walk(mas, index)
    if record == 0 and mas.depth != 0:
        record = mas_next_slot(mas)
    return record


def mas_find_special(mas, index):
    """The record that a fork treats specially which contains index, else the next such above it;
    0 when there is none (depth 0)."""
    mem: MemP = mas.mem
    level: cython.int = mas.height - 1
    offset: cython.int
    inner: InnerP
    leaf: LeafP
    rest: u32
    mas_walk(mas, index)
    if mas.depth == 0:
        return 0
    leaf = leaf_at(mem, mas.node[level])
    rest = leaf.special >> mas.offset[level]
    if rest != 0:
        return _set_range(mas, leaf, mas.offset[level] + lowest_bit(rest))
    while level > 0:
        level -= 1
        inner = inner_at(mem, mas.node[level])
        offset = mas.offset[level] + 1
        while offset <= inner.end and _specials(mas, inner.slot[offset], level + 1) == 0:
            offset += 1
        if offset <= inner.end:
            mas.depth = level
            _down(mas, inner, offset)
            return _first_special(mas)
    mas.depth = 0
    return 0


def _specials(mas, node, level):
    """How many VMAs below a node of this level a fork treats specially (of a leaf: their bits)."""
    if level == mas.height - 1:
        return leaf_at(mas.mem, node).special
    return inner_at(mas.mem, node).specials


def _first_special(mas):
    """Go down from the level mas.depth, below which there are some, to the first of them."""
    inner: InnerP
    leaf: LeafP
    offset: cython.int
    while mas.depth < mas.height - 1:
        inner = inner_at(mas.mem, mas.node[mas.depth])
        offset = 0
        while _specials(mas, inner.slot[offset], mas.depth + 1) == 0:
            offset += 1
        _down(mas, inner, offset)
    mas.depth = mas.height
    leaf = leaf_at(mas.mem, mas.node[mas.height - 1])
    return _set_range(mas, leaf, lowest_bit(leaf.special))


def mas_rank(mas, index):
    """How many records lie below index. The subtree counts must be exact."""
    inner: InnerP
    level: cython.int
    offset: cython.int
    count: u64 = 0
    mas_walk(mas, index)
    for level in range(mas.depth):
        if level == mas.height - 1:
            count += leaf_records(leaf_at(mas.mem, mas.node[level]), mas.offset[level])
            break
        inner = inner_at(mas.mem, mas.node[level])
        for offset in range(mas.offset[level]):
            if level == mas.height - 2:
                count += leaf_records(leaf_at(mas.mem, inner.slot[offset]), LEAF_SLOTS)
            else:
                count += inner_at(mas.mem, inner.slot[offset]).vmas
    return count


def leaf_records(leaf, before):
    """How many of a leaf's slots before this one hold a record."""
    count: u32 = 0
    offset: cython.int
    for offset in range(min(before, leaf.end + 1)):
        count += leaf.slot[offset] != 0
    return count


def tree_nodes(mem, root, height):
    """How many nodes a tree has, of which the counts are exact."""
    return inner_at(mem, root).nodes if height > 1 else height


def tree_specials(mem, root, height):
    """How many VMAs of a tree a fork treats specially."""
    if height > 1:
        return inner_at(mem, root).specials
    return bit_count(leaf_at(mem, root).special) if height == 1 else 0


def leaf_gap(leaf, min, max):
    """The largest NULL range of a leaf with these bounds, in indexes; O(16)."""
    best: u64 = 0
    size: u64
    offset: cython.int
    end: cython.int = leaf.end
    for offset in range(end):
        if leaf.slot[offset] == 0:
            size = leaf.pivot[offset] - min + 1
            if size > best:
                best = size
        min = leaf.pivot[offset] + 1
    if leaf.slot[end] == 0:
        size = max - min + 1
        if size > best:
            best = size
    return best


def inner_gap(inner):
    """The largest gap below an inner node."""
    return inner.gap[inner.gap_slot]


def mas_empty_area(mas, low, high, size):
    """The lowest NULL range of `size` indexes within [low, high]: mas.index is where it begins.

    0, or -EBUSY when there is none. The position is lost.
    """
    mem: MemP = mas.mem
    inner: InnerP
    leaf: LeafP
    offset: cython.int
    level: cython.int = 0
    first: u64
    last: u64
    mas.depth = 0
    if size == 0 or high < low or high - low < size - 1:
        return -EBUSY
    if mas.height == 0:
        mas.index = low
        return 0
    mas.node[0] = mas.root
    mas.offset[0] = 0
    mas.min[0] = 0
    mas.max[0] = MAX_INDEX
    while level >= 0:
        offset = mas.offset[level]
        first = mas.min[level]
        if level == mas.height - 1:
            leaf = leaf_at(mem, mas.node[level])
            for offset in range(leaf.end + 1):
                last = leaf.pivot[offset] if offset < leaf.end else mas.max[level]
                if first > high:
                    return -EBUSY
                if leaf.slot[offset] == 0 and last >= low:
                    first = max(first, low)
                    if min(last, high) >= first and min(last, high) - first >= size - 1:
                        mas.index = first
                        return 0
                first = last + 1
        else:
            inner = inner_at(mem, mas.node[level])
            while offset <= inner.end:
                first = inner.pivot[offset - 1] + 1 if offset > 0 else mas.min[level]
                last = inner.pivot[offset] if offset < inner.end else mas.max[level]
                if first > high:
                    return -EBUSY
                if last >= low and inner.gap[offset] >= size:
                    break
                offset += 1
            if offset <= inner.end:
                mas.depth = level
                _down(mas, inner, offset)
                level += 1
                mas.offset[level] = 0
                continue
        level -= 1
        if level >= 0:
            mas.offset[level] += 1
    mas.depth = 0
    return -EBUSY


def mas_empty_area_rev(mas, low, high, size):
    """The highest NULL range of `size` indexes within [low, high]: mas.index is where it begins.

    0, or -EBUSY when there is none. The position is lost.
    """
    mem: MemP = mas.mem
    inner: InnerP
    leaf: LeafP
    offset: cython.int
    level: cython.int = 0
    first: u64
    last: u64
    mas.depth = 0
    if size == 0 or high < low or high - low < size - 1:
        return -EBUSY
    if mas.height == 0:
        mas.index = high - (size - 1)
        return 0
    mas.node[0] = mas.root
    mas.min[0] = 0
    mas.max[0] = MAX_INDEX
    mas.offset[0] = inner_at(mem, mas.root).end
    while level >= 0:
        offset = mas.offset[level]
        if level == mas.height - 1:
            leaf = leaf_at(mem, mas.node[level])
            for offset in range(leaf.end, -1, -1):
                first = leaf.pivot[offset - 1] + 1 if offset > 0 else mas.min[level]
                last = leaf.pivot[offset] if offset < leaf.end else mas.max[level]
                if last < low:
                    return -EBUSY
                if leaf.slot[offset] == 0 and first <= high:
                    last = min(last, high)
                    first = max(first, low)
                    if last >= first and last - first >= size - 1:
                        mas.index = last - (size - 1)
                        return 0
        else:
            inner = inner_at(mem, mas.node[level])
            while offset >= 0:
                first = inner.pivot[offset - 1] + 1 if offset > 0 else mas.min[level]
                last = inner.pivot[offset] if offset < inner.end else mas.max[level]
                if last < low:
                    return -EBUSY
                if first <= high and inner.gap[offset] >= size:
                    break
                offset -= 1
            if offset >= 0:
                mas.depth = level
                _down(mas, inner, offset)
                level += 1
                mas.offset[level] = inner_at(mem, mas.node[level]).end
                continue
        level -= 1
        if level >= 0:
            mas.offset[level] -= 1
    mas.depth = 0
    return -EBUSY
