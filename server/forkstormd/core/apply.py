"""Many calls on one space as one transaction.

A batch locks its space once, begins once and commits once. Its operations work one after the other
on the version that nobody sees yet, whose nodes are changed in place once they are copied, so what
a path copy costs is shared by all operations of a leaf. Each finds what it would find if those
before it had been calls of their own: the same results, the same map in the end.

An operation that fails leaves what Linux leaves. Then the batch goes on, or ends with it. It ends
in any case when the arena is full: that is no errno of the space, and the next operation would
meet it too. Whatever ended it, what was performed is published.

Only a batch that its deadline overtakes is taken back (_take_back). That cannot be done by walking
the new version alone, because what the copies of unshared nodes lead to was moved, not shared: so
first each node that was copied gets back its own hold on its children, and then the new version
and all that was retired are dropped like any others'. What was published is as it was.

Two things happen at once, commit or not: what is written to shared objects (objects.py), and that
files are interned. What operations retire is kept until the commit, also what the batch itself has
made: 64 bytes for each VMA that was replaced.

Cost: that of the calls, less the lock, the copies of paths and the commits of all but one.
"""

from array import array

import cython

from forkstormd.core.errors import MalformedBatch

if not cython.compiled:
    from errno import ETIMEDOUT

    from forkstormd.core.atomics import *
    from forkstormd.core.commit import *
    from forkstormd.core.extents import in_extent
    from forkstormd.core.layout import *
    from forkstormd.core.operations import *
    from forkstormd.core.owning import retired_drop_one, tree_drop
    from forkstormd.core.pages import pages_counted, pages_drop, pages_levels
    from forkstormd.core.retire import retired_index, retired_kind, retired_levels
    from forkstormd.core.space import *

    # Operations between two looks at the clock.
    DEADLINE_OPERATIONS = 64
    # What an operation does at an address; the numbers are the API's.
    ACCESS_WRITE = 2
    # Which argument of MAP is the file, and of TOUCH the access.
    FILE_COLUMN = 4
    ACCESS_COLUMN = 1

OPERATIONS_MAX = 65_536


class Batch:
    """Operations in columns.

    kinds: a byte per operation, its OP_*. columns: up to six of unsigned numbers of 64 bits,
    little-endian, one per operation or one for all; an empty one stands for zeros. files: ids of
    intern_file, to which the file of a MAP is an index from 1. skip: go on after an operation that
    failed. Raises MalformedBatch.
    """

    def __init__(
        self, kinds: bytes, columns: object, files: object = (), skip: object = False
    ) -> None:
        i: cython.int
        count: cython.Py_ssize_t = len(kinds)
        if not 0 < count <= OPERATIONS_MAX:
            raise MalformedBatch("kind", f"{count} operations; 1 to {OPERATIONS_MAX} are a batch")
        if len(columns) > CALL_WORDS:
            raise MalformedBatch("arg_6", "no operation has so many arguments")
        if not cython.compiled:
            self.words = BatchWords()
        self.kinds = kinds
        self.columns = list(columns)
        self.files = array("I", files)
        self.words.count = count
        self.words.file_count = len(self.files)
        self.skip = self.words.skip = bool(skip)
        for i in range(CALL_WORDS):
            column: bytes = self.columns[i] if i < len(self.columns) else b""
            if len(column) not in (0, 8, 8 * count):
                raise MalformedBatch(
                    f"arg_{i}", f"{len(column)} bytes are no column of {count} operations"
                )
            self.words.stride[i] = 1 if len(column) == 8 * count else 0
            if cython.compiled:
                self.words.column[i] = column_of(column) if column else self.words.nothing
            else:
                self.words.column[i] = memoryview(column or bytes(8)).cast("Q")
        if cython.compiled:
            self.words.kinds = kinds_of(kinds)
        else:
            self.words.kinds = kinds
        at: i64 = _first_malformed(self.bare())
        if at >= 0:
            raise MalformedBatch("kind", f"operation {at}, of kind {kinds[at]}, is none")

    def __len__(self) -> int:
        return self.words.count

    def bare(self):
        """The batch as it is read without the GIL."""
        if cython.compiled:
            return cython.address(self.words)
        else:
            return self.words


def _word(batch, i, column):
    return batch.column[column][i * batch.stride[column]]


def _first_malformed(batch):
    """The first operation that no call corresponds to, or -1."""
    i: u32
    kind: u32
    for i in range(batch.count):
        kind = batch.kinds[i]
        if kind < OP_MAP or kind > OP_TOUCH:
            return i
        if kind == OP_MAP and _word(batch, i, FILE_COLUMN) > batch.file_count:
            return i
        if kind == OP_TOUCH and _word(batch, i, ACCESS_COLUMN) > ACCESS_WRITE:
            return i
    return -1


def mm_apply(task, batch, mm_id):
    """Perform a batch on a space. 0, or -ESRCH or -ETIMEDOUT with nothing changed."""
    slot: SlotP
    before: StateP
    i: u32
    result: cython.int = space_lock(task, mm_id)
    batch.performed = batch.failures = batch.is_full = 0
    if result != 0:
        return result
    slot = slot_at(task.mem, task.slot_index)
    before = state_at(slot, slot.word & 1)
    space_begin(task)
    for i in range(batch.count):
        result = 0
        if (
            i & (DEADLINE_OPERATIONS - 1) == DEADLINE_OPERATIONS - 1
            and task.deadline_ns != 0
            and now_ns() > task.deadline_ns
        ):
            result = -ETIMEDOUT
        else:
            result = _perform_one(task, batch, i)
        if result == -ETIMEDOUT or (result != 0 and (batch.is_full or not batch.skip)):
            break
    task.retired_before = 0
    commit_reveal(task)
    if result == -ETIMEDOUT:
        _take_back(task, before)
    else:
        result = 0
        task.value = batch.performed
        if (
            batch.performed > batch.failures
            or task.mas[0].root != before.root
            or task.next.page_root != before.page_root
        ):
            space_commit(task)
        else:
            commit_undo(task, before)
    space_unlock(task)
    task.done_ns = now_ns()
    return result


def _perform_one(task, batch, i):
    """One operation of a batch and its result; what it returns itself."""
    column: cython.int
    operation: cython.int = batch.kinds[i]
    result: cython.int
    for column in range(CALL_WORDS):
        task.words[column] = _word(batch, i, column)
    if operation == OP_MAP and task.words[FILE_COLUMN] != 0:
        task.words[FILE_COLUMN] = batch.files[task.words[FILE_COLUMN] - 1]
    elif operation == OP_TOUCH:
        task.words[ACCESS_COLUMN] = task.words[ACCESS_COLUMN] == ACCESS_WRITE
    task.field = FIELD_NONE
    task.limit = LIMIT_NONE
    task.retired_before = task.retired_count
    result = perform(task, operation)
    if result == 0:
        batch.results[i] = task.value
    elif result != -ETIMEDOUT:
        batch.results[i] = cython.cast(u64, result) & MAX_INDEX
        batch.failed[batch.failures] = i
        batch.failures += 1
        batch.is_full = task.limit == LIMIT_ARENA
    batch.performed = i + 1
    # What is built from here on is not copied from the extent.
    space_let_go(task)
    commit_between(task, task_next(task))
    return result


def _take_back(task, before):
    """Undo the transaction: nothing of it is left, and what was there is as it was. O(what it
    copied, made and retired)."""
    mem: MemP = task.mem
    mas: MasP = task_mas(task, 0)
    state: StateP = task_next(task)
    i: cython.int
    kind: cython.int
    if mas.root != before.root and before.root != 0 and not in_extent(task, before.root):
        ref_add(mem, before.root, 1)
    if state.page_root != before.page_root and before.page_root != 0:
        ref_add(mem, before.page_root, 1)
    for i in range(task.retired_count):
        kind = retired_kind(task, i)
        if kind == DROP_SHELL:
            _hold_below(task, retired_index(task, i), retired_levels(task, i))
        elif kind == DROP_TABLE_SHELL:
            _hold_tables(task, retired_index(task, i), retired_levels(task, i))
    if mas.root != before.root and mas.root != 0:
        tree_drop(task, mas.root, mas.height)
    if state.page_root != before.page_root and state.page_root != 0:
        pages_drop(task, state.page_root, pages_levels(state.task_size))
    for i in range(task.retired_count):
        kind = retired_kind(task, i)
        if kind in (DROP_SHELL, DROP_TABLE_SHELL):
            ref_add(mem, retired_index(task, i), -1)
        else:
            retired_drop_one(task, i)
    task.retired_count = 0
    commit_undo(task, before)


def _hold_below(task, node, levels):
    """A reference on each child of a node of the VMA tree."""
    leaf: LeafP = leaf_at(task.mem, node)
    inner: InnerP = inner_at(task.mem, node)
    offset: cython.int
    below: u32
    for offset in range(leaf.end + 1):
        below = inner.slot[offset] if levels > 1 else leaf.slot[offset]
        if below != 0 and not in_extent(task, below):
            ref_add(task.mem, below, 1)


def _hold_tables(task, node, levels):
    """The same for a page tree's; and the node counts again."""
    table: TableP = table_at(task.mem, node)
    rest: u32 = table.present if levels > 1 else 0
    while rest != 0:
        ref_add(task.mem, table.child[lowest_bit(rest)], 1)
        rest &= rest - 1
    if pages_counted(levels - 1):
        page_tables_add(task.mem.header, 1)
