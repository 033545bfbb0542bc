"""A store that one leaf cannot take: too full, too empty, or over several leaves.

Level by level, from the leaves up, what is left of the left path, what grew below, and what is
left of the right path are gathered and spread over new nodes, with a neighbour's slots where
there are too few. A level that can take the change in place ends it.

`mas` is the left path, `right` the right one; they are equal above the node where they part.
What a node held is gathered in task.big_*, the node itself is freed at once (it is owned,
nobody else has seen it) and its slot in the parent set to 0, so that dropping "everything
between the paths" passes over it. What a level grows into is in task.grown_*.

In bulk mode (a fork's child that is filled from left to right) a full node keeps all but the
fewest slots and the rest may be short, because more is to come.
"""

import cython

if not cython.compiled:
    from errno import ENOMEM

    from forkstormd.core.heap import node_free
    from forkstormd.core.layout import *
    from forkstormd.core.maple import inner_gap, leaf_gap, mas_init, mas_walk
    from forkstormd.core.owning import *


def mas_rebuild(mas, first, last, settle):
    """The store in general. A level may absorb the change in place if it is <= settle; the
    level below `settle` and all further down are spread anew. Position is lost."""
    task: TaskP = mas.task
    right: MasP = task_mas(task, 2)
    level: cython.int
    keep: cython.int
    collapsed: cython.int = 0
    if mas_room(mas) != 0:
        return -ENOMEM
    mas_walk(mas, first)
    mas_own_path(mas)
    mas_init(right, task, mas.root, mas.height)
    right.stamp = mas.stamp
    right.keep_records = mas.keep_records
    mas_walk(right, last)
    keep = right.offset[mas.height - 1] + 1
    if (
        mas.piece_record[mas.piece_count - 1] == 0
        and last == right.max[mas.height - 1] != MAX_INDEX
    ):
        # A leaf may not end in NULL: the NULL belongs to the leaf after it.
        mas_walk(right, last + 1)
        keep = 0
    mas_own_path(right)
    _gather_leaves(mas, right, first, last, keep)
    level = mas.height - 1
    while True:
        if level == mas.height - 1:
            while (
                task.big_slot[task.big_count - 1] == 0
                and task.big_last[task.big_count - 1] != MAX_INDEX
            ):
                _pull(mas, right, level, True)
            while task.big_count <= LEAF_MIN_END and not mas.bulk:
                if not _pull(mas, right, level, False):
                    break
        else:
            if level <= settle and _settle(mas, right, level):
                mas.depth = 0
                return 0
            _gather_inners(mas, right, level)
            while task.big_count <= INNER_MIN_END and not mas.bulk:
                if not _pull(mas, right, level, False):
                    break
        if level < mas.height - 1 and task.big_count == 1:
            # Nothing else is left at this level: what grew below is the tree.
            collapsed += 1
            task.grown_count = 1
            task.grown_last[0] = task.big_last[0]
            task.grown_node[0] = task.big_slot[0]
            task.grown_gap[0] = task.big_gap[0]
        else:
            _emit(mas, level, mas.min[level], right.max[level])
        if level == 0:
            break
        level -= 1
    _crown(mas, collapsed)
    mas.depth = 0
    return 0


def _crown(mas, collapsed):
    """Make what the root's level grew into the tree."""
    task: TaskP = mas.task
    i: cython.int
    leaf: LeafP
    mas.height -= collapsed
    if task.grown_count == 1:
        mas.root = task.grown_node[0]
        if mas.height == 1:
            leaf = leaf_at(task.mem, mas.root)
            if leaf.end == 0 and leaf.slot[0] == 0:
                node_free(task, mas.root)
                mas.root = 0
                mas.height = 0
        return
    for i in range(task.grown_count):
        task.big_last[i] = task.grown_last[i]
        task.big_slot[i] = task.grown_node[i]
        task.big_gap[i] = task.grown_gap[i]
    mas.root = _emit_inner(mas, 0, task.grown_count, mas.height == 1)
    mas.height += 1


def _push(task, last, slot, special, gap, is_leaf):
    """Append to what is gathered; in a leaf, NULL joins NULL."""
    i: cython.int = task.big_count
    if is_leaf and slot == 0 and i > 0 and task.big_slot[i - 1] == 0:
        task.big_last[i - 1] = last
        return
    check(i < SPLIT_MAX)
    task.big_last[i] = last
    task.big_slot[i] = slot
    task.big_special[i] = special
    task.big_gap[i] = gap
    task.big_count = i + 1


def _push_node(mas, level, begin, end):
    """Append the slots begin..end-1 of the node at a level of the path."""
    mem: MemP = mas.mem
    leaf: LeafP
    inner: InnerP
    i: cython.int
    if level == mas.height - 1:
        leaf = leaf_at(mem, mas.node[level])
        for i in range(begin, end):
            _push(
                mas.task,
                leaf.pivot[i] if i < leaf.end else mas.max[level],
                leaf.slot[i],
                (leaf.special >> i) & 1,
                0,
                True,
            )
    else:
        inner = inner_at(mem, mas.node[level])
        for i in range(begin, end):
            _push(
                mas.task,
                inner.pivot[i] if i < inner.end else mas.max[level],
                inner.slot[i],
                0,
                inner.gap[i],
                False,
            )


def _consume(mas, level):
    """The node at this level of the path has been gathered: free it, empty its slot above."""
    if level > 0:
        inner_at(mas.mem, mas.node[level - 1]).slot[mas.offset[level - 1]] = 0
    node_free(mas.task, mas.node[level])


def _gather_leaves(mas, right, first, last, keep):
    """What is left of the two leaves, with the pieces between; keep: first slot of the right
    leaf that stays."""
    task: TaskP = mas.task
    level: cython.int = mas.height - 1
    leaf: LeafP = leaf_at(task.mem, mas.node[level])
    right_leaf: LeafP = leaf_at(task.mem, right.node[level])
    same: cython.bint = mas.node[level] == right.node[level]
    i: cython.int
    task.big_count = 0
    _push_node(mas, level, 0, mas.offset[level])
    if first > mas.index:
        check(leaf.slot[mas.offset[level]] == 0)
        _push(task, first - 1, 0, 0, 0, True)
    for i in range(mas.piece_count):
        _push(task, mas.piece_last[i], mas.piece_record[i], mas.piece_special[i], 0, True)
    if keep > 0 and right.last > last:
        check(right_leaf.slot[keep - 1] == 0)
        _push(task, right.last, 0, 0, 0, True)
    _push_node(right, level, keep, right_leaf.end + 1)
    for i in range(mas.offset[level], keep if same else leaf.end + 1):
        if leaf.slot[i] != 0:
            mas_retire(mas, DROP_RECORD, leaf.slot[i], 0)
    if not same:
        for i in range(keep):
            if right_leaf.slot[i] != 0:
                mas_retire(mas, DROP_RECORD, right_leaf.slot[i], 0)
        _consume(right, level)
    _consume(mas, level)


def _drop_children(mas, level, begin, end):
    """Retire the subtrees in the slots begin..end-1 of the node at this level of the path."""
    inner: InnerP = inner_at(mas.mem, mas.node[level])
    i: cython.int
    for i in range(begin, end):
        if inner.slot[i] != 0:
            mas_retire(mas, DROP_NODE, inner.slot[i], mas.height - level - 1)
            inner.slot[i] = 0


def _gather_inners(mas, right, level):
    """What is left of the two nodes at an inner level, with what grew below between."""
    task: TaskP = mas.task
    i: cython.int
    end: cython.int = inner_at(task.mem, mas.node[level]).end + 1
    right_end: cython.int = inner_at(task.mem, right.node[level]).end + 1
    same: cython.bint = mas.node[level] == right.node[level]
    task.big_count = 0
    _push_node(mas, level, 0, mas.offset[level])
    for i in range(task.grown_count):
        _push(task, task.grown_last[i], task.grown_node[i], 0, task.grown_gap[i], False)
    _push_node(right, level, right.offset[level] + 1, right_end)
    if same:
        _drop_children(mas, level, mas.offset[level] + 1, right.offset[level])
    else:
        _drop_children(mas, level, mas.offset[level] + 1, end)
        _drop_children(right, level, 0, right.offset[level])
        _consume(right, level)
    _consume(mas, level)


def _turn_right(mas, level):
    """The lowest level above `level` where the path can step right, or -1."""
    level -= 1
    while level >= 0:
        if mas.offset[level] < inner_at(mas.mem, mas.node[level]).end:
            return level
        level -= 1
    return -1


def _turn_left(mas, level):
    level -= 1
    while level >= 0:
        if mas.offset[level] > 0:
            return level
        level -= 1
    return -1


def _pull(mas, right, level, only_right):
    """Gather one more node of this level: a sibling under the same parent if there is one,
    else the next to the right or to the left. False when the level has no more."""
    right_turn: cython.int = _turn_right(right, level)
    left_turn: cython.int = -1 if only_right else _turn_left(mas, level)
    if right_turn < 0 and left_turn < 0:
        return False
    if right_turn >= left_turn:
        _pull_right(mas, right, level, right_turn)
    else:
        _pull_left(mas, right, level, left_turn)
    return True


def _pull_right(mas, right, level, turn):
    """Move the right path to the next node of this level and append that node."""
    mem: MemP = mas.mem
    inner: InnerP
    node: u32
    e: cython.int
    offset: cython.int
    for e in range(level - 1, turn, -1):
        # Left behind: everything in it is consumed or lies between the paths.
        if right.node[e] != mas.node[e]:
            _drop_children(right, e, 0, right.offset[e])
            _consume(right, e)
    for e in range(turn, level):
        inner = inner_at(mem, right.node[e])
        offset = right.offset[e] + 1 if e == turn else 0
        right.offset[e] = offset
        node = mas_own(mas, inner.slot[offset], e + 1)
        inner.slot[offset] = node
        right.node[e + 1] = node
        right.min[e + 1] = inner.pivot[offset - 1] + 1 if offset > 0 else right.min[e]
        right.max[e + 1] = inner.pivot[offset] if offset < inner.end else right.max[e]
    _push_node(right, level, 0, leaf_at(mem, right.node[level]).end + 1)
    _consume(right, level)


def _pull_left(mas, right, level, turn):
    """Move the left path to the node before on this level and put that node in front."""
    task: TaskP = mas.task
    mem: MemP = task.mem
    inner: InnerP
    node: u32
    e: cython.int
    offset: cython.int
    count: cython.int = task.big_count
    for e in range(level - 1, turn, -1):
        if right.node[e] != mas.node[e]:
            _drop_children(mas, e, mas.offset[e] + 1, inner_at(mem, mas.node[e]).end + 1)
            _consume(mas, e)
    for e in range(turn, level):
        inner = inner_at(mem, mas.node[e])
        offset = mas.offset[e] - 1 if e == turn else inner.end
        mas.offset[e] = offset
        node = mas_own(mas, inner.slot[offset], e + 1)
        inner.slot[offset] = node
        mas.node[e + 1] = node
        mas.min[e + 1] = inner.pivot[offset - 1] + 1 if offset > 0 else mas.min[e]
        mas.max[e + 1] = inner.pivot[offset] if offset < inner.end else mas.max[e]
    # A leaf that is not the tree's last never ends in NULL, so nothing joins at the seam.
    offset = leaf_at(mem, mas.node[level]).end + 1
    for e in range(count - 1, -1, -1):
        task.big_last[e + offset] = task.big_last[e]
        task.big_slot[e + offset] = task.big_slot[e]
        task.big_special[e + offset] = task.big_special[e]
        task.big_gap[e + offset] = task.big_gap[e]
    task.big_count = 0
    _push_node(mas, level, 0, offset)
    task.big_count = count + offset
    _consume(mas, level)


def _settle(mas, right, level):
    """Absorb what grew below in the one node of this level, in place, if it fits. Corrects gaps
    and counts above."""
    task: TaskP = mas.task
    mem: MemP = task.mem
    inner: InnerP = inner_at(mem, mas.node[level])
    left: cython.int = mas.offset[level]
    tail: cython.int
    move: cython.int
    end: cython.int
    i: cython.int
    before: u64 = inner_gap(inner)
    nodes: cython.int = inner.nodes
    vmas: cython.int = inner.vmas
    specials: cython.int = inner.specials
    if mas.node[level] != right.node[level]:
        return False
    move = task.grown_count - (right.offset[level] - left + 1)
    end = inner.end + move
    if end >= INNER_SLOTS or end < 1 or (end < INNER_MIN_END and level > 0 and not mas.bulk):
        return False
    _drop_children(mas, level, left + 1, right.offset[level])
    tail = inner.end - right.offset[level]
    if move > 0:
        for i in range(inner.end, inner.end - tail, -1):
            inner.slot[i + move] = inner.slot[i]
            inner.gap[i + move] = inner.gap[i]
        for i in range(inner.end - 1, inner.end - tail, -1):
            inner.pivot[i + move] = inner.pivot[i]
    elif move < 0:
        for i in range(inner.end - tail + 1, inner.end + 1):
            inner.slot[i + move] = inner.slot[i]
            inner.gap[i + move] = inner.gap[i]
        for i in range(inner.end - tail + 1, inner.end):
            inner.pivot[i + move] = inner.pivot[i]
    for i in range(task.grown_count):
        inner.slot[left + i] = task.grown_node[i]
        inner.gap[left + i] = task.grown_gap[i]
        if left + i < end:
            inner.pivot[left + i] = task.grown_last[i]
    inner.end = end
    inner.gap_slot = inner_gap_slot(inner)
    task.work.slots_written += task.grown_count + (tail if move != 0 else 0)
    task.work.gap_updates += task.grown_count
    if level > 0 and inner_gap(inner) != before:
        mas_climb(mas, level - 1, inner_gap(inner))
    if not mas.deferred_counts:
        inner_recount(mem, inner, level == mas.height - 2)
        mas_add_counts(
            mas,
            level - 1,
            cython.cast(cython.int, inner.nodes) - nodes,
            cython.cast(cython.int, inner.vmas) - vmas,
            cython.cast(cython.int, inner.specials) - specials,
        )
    return True


def _share(mas, is_leaf, left, nodes):
    """How many of the `left` gathered slots the next of `nodes` nodes takes."""
    if nodes == 1:
        return left
    if mas.bulk:
        # Packed to the left: what comes next goes to the right.
        return left - (LEAF_MIN_END if is_leaf else INNER_MIN_END)
    return (left + nodes - 1) // nodes


def _emit(mas, level, min, max):
    """Spread what is gathered over new nodes of this level, bounded by [min, max]."""
    task: TaskP = mas.task
    is_leaf: cython.bint = level == mas.height - 1
    slots: cython.int = LEAF_SLOTS if is_leaf else INNER_SLOTS
    nodes: cython.int = 1
    begin: cython.int = 0
    count: cython.int
    i: cython.int
    node: u32
    if task.big_count > slots:
        # A leaf may have to leave its last slot, a NULL, to the next: plan for one less.
        slots -= is_leaf
        nodes = (task.big_count + slots - 1) // slots
    task.work.splits += nodes - 1
    for i in range(nodes):
        count = _share(mas, is_leaf, task.big_count - begin, nodes - i)
        if is_leaf:
            if i < nodes - 1 and task.big_slot[begin + count - 1] == 0:
                count -= 1
            node = _emit_leaf(mas, begin, count, min)
            task.grown_gap[i] = leaf_gap(
                leaf_at(task.mem, node), min, task.big_last[begin + count - 1]
            )
        else:
            node = _emit_inner(mas, begin, count, level == mas.height - 2)
            task.grown_gap[i] = inner_gap(inner_at(task.mem, node))
        task.grown_node[i] = node
        begin += count
        min = task.big_last[begin - 1] + 1 if i < nodes - 1 else min
        task.grown_last[i] = task.big_last[begin - 1]
    task.grown_count = nodes
    check(task.grown_last[nodes - 1] == max)


def _emit_leaf(mas, begin, count, min):
    task: TaskP = mas.task
    node: u32 = node_new(mas)
    leaf: LeafP = leaf_at(task.mem, node)
    mask: u32 = 0
    i: cython.int
    for i in range(count):
        leaf.slot[i] = task.big_slot[begin + i]
        mask |= task.big_special[begin + i] << i
        if i < count - 1:
            leaf.pivot[i] = task.big_last[begin + i]
    leaf.end = count - 1
    leaf.special = mask
    task.work.slots_written += count
    return node


def _emit_inner(mas, begin, count, over_leaves):
    task: TaskP = mas.task
    node: u32 = node_new(mas)
    inner: InnerP = inner_at(task.mem, node)
    i: cython.int
    for i in range(count):
        inner.slot[i] = task.big_slot[begin + i]
        inner.gap[i] = task.big_gap[begin + i]
        if i < count - 1:
            inner.pivot[i] = task.big_last[begin + i]
    inner.end = count - 1
    inner.gap_slot = inner_gap_slot(inner)
    if not mas.deferred_counts:
        inner_recount(task.mem, inner, over_leaves)
    task.work.slots_written += count
    task.work.gap_updates += count
    return node
