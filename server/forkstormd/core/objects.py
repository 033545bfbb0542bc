"""Shared objects: what shared mappings show, wherever they are mapped.

One for each shared anonymous mmap(2) (rule I3), held by the VMAs that map it, and one for each
file whose pages were ever looked at, held by the file table for as long as the arena lives. Files
interned under several open_ids are one object if path, device and inode are the same.

An object holds a radix tree over offsets, of strips and tables like those of a space (pages.py),
but it is no page table: nothing counts its nodes, and it is as high as the largest offset asks
for, up to all 64 bits. A page never written is not in it and reads as zero.

Unlike anything else in the arena, an object is changed in place. It belongs to no space, so no
commit of one could publish its change, and its tree is read under its mutex alone, never through
a snapshot. Every change is one store, of a word that a reader needs, after whatever it leads to is
complete: a child's bit in `present` after the child, a page's bit after its value, SharedObject.
tree after a new root. A process that dies in between leaves a tree that can be walked, and at
most leaks the node it was about to link or free.

Lock order: space, then files_lock, then object, then allocator. Reading and writing are O(levels),
punching and the last object_put O(nodes that go).
"""

import cython

if not cython.compiled:
    from errno import ENOMEM

    from forkstormd.core.atomics import *
    from forkstormd.core.commit import domain_put, domain_uncharge
    from forkstormd.core.heap import node_alloc, node_free
    from forkstormd.core.layout import *
    from forkstormd.core.layout import FileEntry
    from forkstormd.core.mutex import *
    from forkstormd.core.pages import level_shift, level_slot

    # So many levels reach over 64 bits.
    OBJECT_LEVELS_MAX = 12


def object_new(task, pages):
    """An object of so many pages and one reference, with nothing written and nothing charged; 0
    without memory."""
    index: u32 = node_alloc(task)
    object: SharedObjectP
    if index == 0:
        return 0
    object = object_at(task.mem, index)
    object.references = 1
    object.tree = 0
    object.pages = pages
    object.charged = 0
    object.domain = 0
    mutex_init(object.lock)
    objects_add(task.mem.header, 1)
    return index


def object_get(task, object):
    """One reference more; the caller has one."""
    references_add(object_at(task.mem, object), 1)


def object_put(task, object):
    """Give up a reference; the last one frees the object, with its pages and its charge."""
    shared: SharedObjectP = object_at(task.mem, object)
    if references_add(shared, -1) != 1:
        return
    if shared.tree != 0:
        _drop(task, cython.cast(u32, shared.tree >> 32), _levels(shared) - 1)
    if shared.domain != 0:
        domain_uncharge(task, shared.domain, shared.charged)
        domain_put(task, shared.domain)
    objects_add(task.mem.header, -1)
    node_free(task, object)


def object_of(task, vma):
    """The object a VMA maps: its own, else its file's, which is made when it is first asked for.
    0: anonymous memory, or no room for an object."""
    if vma.object != 0 or vma.file == 0:
        return vma.object
    return _object_of_file(task, vma.file)


def object_read(task, object, offset_bytes):
    """What the page at an offset holds; 0 if it was never written, and for object 0."""
    mem: MemP = task.mem
    shared: SharedObjectP
    node: u32
    level: cython.int
    slot: u32
    table: TableP
    strip: StripP
    value: u64 = 0
    if object == 0:
        return 0
    shared = object_at(mem, object)
    mutex_wait(shared.lock, 0)
    node = cython.cast(u32, shared.tree >> 32)
    level = _levels(shared) - 1
    if _too_low(level + 1, offset_bytes):
        node = 0
    while node != 0 and level > 0:
        table = table_at(mem, node)
        slot = level_slot(offset_bytes, level)
        node = table.child[slot] if (table.present >> slot) & 1 else 0
        level -= 1
    if node != 0:
        strip = strip_at(mem, node)
        slot = level_slot(offset_bytes, 0)
        if (strip.present >> slot) & 1:
            value = strip.value[slot]
    mutex_release(shared.lock)
    return value


def object_write(task, object, offset_bytes, value):
    """Write the page at an offset; 0, or -ENOMEM with nothing written (object 0 too)."""
    shared: SharedObjectP
    strip: StripP
    slot: u32 = level_slot(offset_bytes, 0)
    node: u32
    if object == 0:
        return -ENOMEM
    shared = object_at(task.mem, object)
    mutex_wait(shared.lock, 0)
    node = _reach(task, shared, offset_bytes)
    if node != 0:
        strip = strip_at(task.mem, node)
        strip.value[slot] = value
        barrier()
        strip.present |= cython.cast(u32, 1) << slot
    mutex_release(shared.lock)
    return 0 if node != 0 else -ENOMEM


def object_punch(task, object, start_bytes, end_bytes):
    """The pages of [start, end) read as zero again (MADV_REMOVE)."""
    shared: SharedObjectP
    levels: cython.int
    last: u64 = end_bytes - 1
    if object == 0 or start_bytes >= end_bytes:
        return
    shared = object_at(task.mem, object)
    mutex_wait(shared.lock, 0)
    levels = _levels(shared)
    if levels != 0:
        if levels < OBJECT_LEVELS_MAX:
            last = min(last, (cython.cast(u64, 1) << level_shift(levels)) - 1)
        if start_bytes <= last:
            _punch(task, cython.cast(u32, shared.tree >> 32), levels - 1, start_bytes, last)
    mutex_release(shared.lock)


def object_facts(mem, walk, object):
    """Check an object node by node, for verify.TreeCheck, as pages.page_tree_facts does a space's
    tree. Returns its pages. In Python objects; writers wait meanwhile."""
    shared: SharedObjectP
    if not walk.enter(object, NODE_UNITS, KIND_NODES):
        return 0
    shared = object_at(mem, object)
    # Without the GIL: the thread that holds the lock may be waiting for it.
    with cython.nogil:
        mutex_wait(shared.lock, 0)
    try:
        if shared.references == 0:
            walk.wrong(object, "an object without references")
        if shared.tree == 0:
            return 0
        if not 1 <= _levels(shared) <= OBJECT_LEVELS_MAX:
            walk.wrong(object, f"an object of {_levels(shared)} levels")
            return 0
        return _walk_node(mem, walk, cython.cast(u32, shared.tree >> 32), _levels(shared) - 1)
    finally:
        mutex_release(shared.lock)


# The objects of files.


def _file_at(mem, file):
    """The entry of an interned file, by its id."""
    at: u64 = mem.header.files_at + cython.cast(u64, file - 1) * FILE_STRIDE
    if cython.compiled:
        return cython.cast(FileEntryP, mem.base + at)
    else:
        return FileEntry.from_buffer(mem.base, at)


def _object_of_file(task, file):
    """The object of an interned file, made when it is first asked for; 0 without memory. O(1), the
    first time O(files)."""
    mem: MemP = task.mem
    header: HeaderP = mem.header
    entry: FileEntryP
    other: FileEntryP
    i: u32
    object: u32 = 0
    if file > load32(header.file_count):
        return 0
    entry = _file_at(mem, file)
    object = load32(entry.object)
    if object != 0:
        return object
    mutex_wait(header.files_lock, 0)
    object = entry.object
    if object == 0:
        for i in range(1, header.file_count + 1):
            other = _file_at(mem, i)
            if other.object != 0 and _same_file(mem, entry, other):
                object = other.object
                break
        if object == 0:
            object = object_new(task, MAX_INDEX)
        object_publish(entry, object)
    mutex_release(header.files_lock)
    return object


def _same_file(mem, one, other):
    """Whether two entries, opened apart, are one file."""
    i: u32
    if one.inode != other.inode or one.path_bytes != other.path_bytes:
        return False
    if one.dev_major != other.dev_major or one.dev_minor != other.dev_minor:
        return False
    for i in range(one.path_bytes):
        if (
            mem.base[mem.header.paths_at + one.path_offset + i]
            != mem.base[mem.header.paths_at + other.path_offset + i]
        ):
            return False
    return True


# The tree.


def _levels(object):
    return cython.cast(cython.int, object.tree & 255)


def _too_low(levels, offset):
    """Whether an offset lies beyond a tree of so many levels."""
    return levels < OBJECT_LEVELS_MAX and offset >> level_shift(levels) != 0


def _new(task):
    """An empty node of any level; 0 without memory."""
    node: u32 = node_alloc(task)
    if node != 0:
        zero_units(task.mem.base, node, NODE_UNITS)
    return node


def _reach(task, object, offset):
    """The strip over an offset, built if it is missing; 0 without memory. Holds the mutex."""
    mem: MemP = task.mem
    node: u32
    child: u32
    level: cython.int
    slot: u32
    table: TableP
    if not _grow(task, object, offset):
        return 0
    node = cython.cast(u32, object.tree >> 32)
    level = _levels(object) - 1
    while level > 0:
        table = table_at(mem, node)
        slot = level_slot(offset, level)
        if not (table.present >> slot) & 1:
            child = _new(task)
            if child == 0:
                return 0
            table.child[slot] = child
            barrier()
            table.present |= cython.cast(u32, 1) << slot
        node = table.child[slot]
        level -= 1
    return node


def _grow(task, object, offset):
    """Make the tree high enough for an offset; False without memory."""
    levels: cython.int = _levels(object)
    node: u32 = cython.cast(u32, object.tree >> 32)
    below: u32
    table: TableP
    if levels == 0:
        levels = 1
        while _too_low(levels, offset):
            levels += 1
        node = _new(task)
        if node == 0:
            return False
        barrier()
        object.tree = cython.cast(u64, node) << 32 | levels
    while _too_low(levels, offset):
        below = node
        node = _new(task)
        if node == 0:
            return False
        table = table_at(task.mem, node)
        table.child[0] = below
        table.present = 1
        levels += 1
        barrier()
        object.tree = cython.cast(u64, node) << 32 | levels
    return True


def _punch(task, node, level, first, last):
    """Take the pages from `first` to `last` inclusive, offsets within this node, out of it."""
    mem: MemP = task.mem
    shift: cython.int = level_shift(level)
    table: TableP = table_at(mem, node)
    strip: StripP
    slot: u32
    child: u32
    low: u64
    high: u64
    whole: u64 = (cython.cast(u64, 1) << shift) - 1
    if level == 0:
        strip = strip_at(mem, node)
        for slot in range(cython.cast(u32, first >> shift), cython.cast(u32, last >> shift) + 1):
            strip.present &= ~(cython.cast(u32, 1) << slot)
        return
    for slot in range(cython.cast(u32, first >> shift), cython.cast(u32, last >> shift) + 1):
        if not (table.present >> slot) & 1:
            continue
        child = table.child[slot]
        low = first & whole if slot == first >> shift else 0
        high = last & whole if slot == last >> shift else whole
        if low == 0 and high == whole:
            table.present &= ~(cython.cast(u32, 1) << slot)
            barrier()
            _drop(task, child, level - 1)
        else:
            _punch(task, child, level - 1, low, high)


def _drop(task, node, level):
    """Free a subtree that nothing leads to any more."""
    table: TableP = table_at(task.mem, node)
    rest: u32
    if level > 0:
        rest = table.present
        while rest != 0:
            _drop(task, table.child[lowest_bit(rest)], level - 1)
            rest &= rest - 1
    node_free(task, node)


def _walk_node(mem, walk, node, level):
    table: TableP
    slot: cython.int
    pages = 0
    if not walk.enter(node, NODE_UNITS, KIND_NODES):
        return 0
    if level == 0:
        return bit_count(strip_at(mem, node).present)
    table = table_at(mem, node)
    for slot in range(TABLE_SLOTS):
        if (table.present >> slot) & 1:
            pages += _walk_node(mem, walk, table.child[slot], level - 1)
    return pages
