"""Cloning the nodes of a tree, whose records stay another's (TREE_DUP).

    tree_clone    all nodes of a subtree, depth first; O(nodes), and no half-cloned level is left
                  behind when memory runs out
    clone_free    a clone that nobody sees, with those of its records that are copied already

Errors: 0 instead of a node when the arena is full, or where task.fault says so.
"""

import cython

if not cython.compiled:
    from forkstormd.core.atomics import copy_node
    from forkstormd.core.heap import heap_ensure, node_free, record_free
    from forkstormd.core.layout import *
    from forkstormd.core.maple import leaf_records
    from forkstormd.core.owning import node_new
    from forkstormd.core.undo import FAULT_TREE_NODE


def tree_clone(child, node, levels):
    """Clone a subtree, depth first; 0 when memory ran out, and then nothing is left of it."""
    task: TaskP = child.task
    mem: MemP = task.mem
    inner: InnerP
    below: u32
    offset: cython.int
    copy: u32
    # As the kernel does, a node's children are asked for together: no half-cloned level.
    if heap_ensure(task, INNER_SLOTS + 1, 0) != 0:
        return 0
    if levels == 1 and task.fault.site == FAULT_TREE_NODE and _leaf_fails(task, node):
        return 0
    copy = node_new(child)
    copy_node(mem.base, copy, node)
    inner = inner_at(mem, copy)
    inner.stamp = child.stamp
    task.work.slots_written += inner.end + 1
    if levels > 1:
        for offset in range(inner.end + 1):
            below = tree_clone(child, inner.slot[offset], levels - 1)
            if below == 0:
                _release(task, copy, levels, offset)
                return 0
            inner.slot[offset] = below
    return copy


def _leaf_fails(task, leaf):
    """Whether the VMA that is to fail lies in this leaf; counts VMAs in task.failure.ordinal."""
    task.failure.ordinal += leaf_records(leaf_at(task.mem, leaf), LEAF_SLOTS)
    return task.failure.ordinal > task.fault.ordinal


def _release(task, node, levels, built):
    """Give back a clone of which the first `built` slots are cloned too; its records are the
    parent's and stay."""
    inner: InnerP = inner_at(task.mem, node)
    offset: u32
    if levels > 1:
        for offset in range(built):
            _release(
                task, inner.slot[offset], levels - 1, inner_at(task.mem, inner.slot[offset]).end + 1
            )
    node_free(task, node)


def clone_free(task, node, levels, records):
    """Give back a clone, and the first `records` of its records, which hold nothing yet. How many
    of those there were not."""
    leaf: LeafP
    inner: InnerP
    offset: cython.int
    if levels == 1:
        leaf = leaf_at(task.mem, node)
        for offset in range(leaf.end + 1):
            if leaf.slot[offset] != 0 and records != 0:
                record_free(task, leaf.slot[offset])
                records -= 1
    else:
        inner = inner_at(task.mem, node)
        for offset in range(inner.end + 1):
            records = clone_free(task, inner.slot[offset], levels - 1, records)
    node_free(task, node)
    return records
