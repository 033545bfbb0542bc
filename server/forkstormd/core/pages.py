"""Page tables: which pages of a space are mapped, and what its own pages hold.

A radix tree over page numbers, of ordinary 256-byte nodes. Linux's tables have 512 entries; ours
are two nodes deep, 32 times 16, so that a change of one page copies little:

    level   node          slots   one slot spans   the node is
      9     Table          32       4 PiB          the PGD, with five levels of tables
      8       half table   16     256 TiB
      7     Table          32       8 TiB          the PGD, with four; a P4D page, with five
      6       half table   16     512 GiB
      5     Table          32      16 GiB          a PUD page
      4       half table   16       1 GiB
      3     Table          32      32 MiB          a PMD page
      2       half table   16       2 MiB
      1     Table          32      64 KiB          a PTE page
      0       strip        16       4 KiB          pages, with their values

So a page-table page exists iff the Table of its level exists. PTE, PMD and PUD pages are counted,
in Pages.tables and, for the whole arena, in Header.page_tables: what mm_pgtables_bytes counts.
Half tables and strips are ours alone, and go as soon as they are empty. Tables do not: zapping
empties them, pages_free_tables frees them (section 13 of the semantics).

A page is absent; mapped and the space's own, with a value; or mapped and not its own: it shows
the object behind it, or zero. It is named by its address; ranges are half-open and of whole pages.

The tree is persistent as the VMA tree is. Published nodes are immutable; a transaction copies the
path to what it changes, edits in place what bears its stamp, and retires what it replaced. Counts
of references are biased and inherited as those of VMA trees: whoever copies a shared node takes a
reference on each child.

    pages_look          O(levels)
    pages_any           O(levels + tables in the range)
    pages_set           O(levels), at most a path is built
    pages_zap           O(strips + tables in the range)
    pages_free_tables   O(tables in the range)
    pages_copy          O(tables + strips + pages in the range), not O(its length)
    pages_move          O(tables + strips + pages in the range)
    pages_unmap         O(strips + tables in the range)
    pages_drop          O(what is freed)

Errors: -ENOMEM. Then no page has changed (pages_copy: those before the failure have), though paths
may have been copied and empty tables built or freed. The tree is whole: the transaction may go on,
and has to be committed if the root has changed. An unpublished tree is given back by pages_drop.
"""

import cython

if not cython.compiled:
    from errno import ENOMEM

    from forkstormd.core.atomics import *
    from forkstormd.core.heap import heap_ensure, node_alloc, node_free
    from forkstormd.core.layout import *
    from forkstormd.core.retire import retire_room, task_retire

    STRIP_BYTES = 65536
    # What a call may use up between two looks at the magazines, beyond what a store ensures.
    CALL_NODES = 448
    CALL_RECORDS = 32
    # Levels, with five levels of tables.
    LEVELS_MAX = 10
    # The highest level whose tables are counted: that of PUD pages.
    COUNTED_MAX = 5


def level_shift(level):
    """The lowest bit of an address that chooses among the slots of a node of this level."""
    return PAGE_SHIFT + 9 * (level >> 1) + 4 * (level & 1)


def level_slot(addr, level):
    """The slot of a node of this level that an address falls into."""
    return cython.cast(u32, (addr >> level_shift(level)) & (31 if level & 1 else 15))


def strip_mask(at, end):
    """The pages of the strip around `at` that lie in [at, end), as bits."""
    first: u32 = level_slot(at, 0)
    count: u64 = min((end - at) >> PAGE_SHIFT, STRIP_PAGES - first)
    return ((cython.cast(u32, 1) << count) - 1) << first


def pages_levels(task_size):
    """How many levels the tree of a space of this size has."""
    return LEVELS_MAX if task_size > cython.cast(u64, 1) << 47 else LEVELS_MAX - 2


def pages_init(pages, task, state, stamp):
    """Begin with a space's tree in the transaction of this stamp; 0: read only."""
    pages.task = task
    pages.mem = task.mem
    pages.stamp = stamp
    pages.root = state.page_root
    pages.levels = pages_levels(state.task_size)
    pages.tables = state.page_tables
    pages.pages = state.touched_pages
    pages.value = 0


def pages_finish(pages, state):
    """Write the tree and its counts back."""
    state.page_root = pages.root
    state.page_tables = pages.tables
    state.touched_pages = pages.pages


def pages_counted(level):
    """Whether a node of this level is a page-table page that is counted."""
    return level & 1 and level <= COUNTED_MAX


def _span(level):
    """Bytes under a node of this level."""
    return cython.cast(u64, 1) << level_shift(level + 1)


# Looking.


def _find(pages, addr, level):
    """The node of this level over an address, or 0."""
    node: u32 = pages.root
    at: cython.int = pages.levels - 1
    slot: u32
    table: TableP
    check(addr >> level_shift(pages.levels) == 0)
    while node != 0 and at > level:
        table = table_at(pages.mem, node)
        slot = level_slot(addr, at)
        node = table.child[slot] if (table.present >> slot) & 1 else 0
        at -= 1
    return node


def _seek(pages, level, at, end):
    """The lowest address from `at` on that has a node of this level; `end` if there is none
    below it."""
    node: u32
    depth: cython.int
    skip: cython.int
    slot: u32
    rest: u32
    table: TableP
    if pages.root == 0:
        return end
    while at < end:
        node = pages.root
        depth = pages.levels - 1
        while depth > level:
            table = table_at(pages.mem, node)
            slot = level_slot(at, depth)
            rest = table.present >> slot
            if rest == 0:
                break
            skip = lowest_bit(rest)
            if skip != 0:
                at = ((at >> level_shift(depth)) + skip) << level_shift(depth)
            node = table.child[slot + skip]
            depth -= 1
        if depth == level:
            return min(at, end)
        if depth == pages.levels - 1:
            return end
        # Nothing further on in this node: behind it.
        at = (at & ~(_span(depth) - 1)) + _span(depth)
    return end


def _seek_pages(pages, at, end):
    """The lowest address from `at` on in whose strip a page of [at, end) is mapped, or `end`."""
    at = _seek(pages, 0, at, end)
    while at < end:
        if strip_at(pages.mem, _find(pages, at, 0)).present & strip_mask(at, end):
            return at
        at = _seek(pages, 0, (at | (STRIP_BYTES - 1)) + 1, end)
    return end


def pages_look(pages, addr):
    """0: not mapped. 1: mapped, showing what is behind. 2: the space's own, with pages.value."""
    node: u32 = _find(pages, addr, 0)
    slot: u32 = level_slot(addr, 0)
    strip: StripP
    pages.value = 0
    if node == 0:
        return 0
    strip = strip_at(pages.mem, node)
    if not (strip.present >> slot) & 1:
        return 0
    if not (strip.own >> slot) & 1:
        return 1
    pages.value = strip.value[slot]
    return 2


def pages_any(pages, start, end):
    """Is any page of [start, end) mapped?"""
    return _seek_pages(pages, start, end) < end


# Owning.


def _new(pages, level):
    """An empty node of this level, this transaction's own; 0 without memory."""
    node: u32 = node_alloc(pages.task)
    table: TableP
    if node == 0:
        return 0
    # A strip begins with the same fields.
    table = table_at(pages.mem, node)
    table.stamp = pages.stamp
    table.present = 0
    table.moved = 0
    if pages_counted(level):
        pages.tables += 1
        page_tables_add(pages.mem.header, 1)
    return node


def _own_node(pages, node, level):
    """This transaction's own copy of a node, for the owned parent to link; 0 without memory."""
    mem: MemP = pages.mem
    table: TableP = table_at(mem, node)
    copy: u32
    rest: u32
    if table.stamp == pages.stamp:
        return node
    check(pages.stamp != 0)
    copy = node_alloc(pages.task) if retire_room(pages.task) == 0 else 0
    if copy == 0:
        return 0
    copy_node(mem.base, copy, node)
    table = table_at(mem, copy)
    table.stamp = pages.stamp
    if mem.refs[node] == 0:
        if level > 0:
            table.moved = 1
        task_retire(pages.task, DROP_TABLE_SHELL, node, level + 1)
        return copy
    if level > 0:
        table.moved = 0
        rest = table.present
        while rest != 0:
            ref_add(mem, table.child[lowest_bit(rest)], 1)
            rest &= rest - 1
    if pages_counted(level):
        page_tables_add(mem.header, 1)
    task_retire(pages.task, DROP_TABLE, node, level + 1)
    return copy


def _own(pages, addr, level):
    """Own the path down to the node of this level over an address, building what is missing. The
    node, or 0 without memory: then nothing was built."""
    task: TaskP = pages.task
    at: cython.int = pages.levels - 1
    slot: u32 = 0
    above: u32 = 0
    node: u32 = pages.root
    parent: TableP
    check(addr >> level_shift(pages.levels) == 0)
    while True:
        if node != 0:
            node = _own_node(pages, node, at)
        elif heap_ensure(task, at - level + 1, 0) == 0:
            # All that is missing below, or nothing: a half table is never empty.
            node = _new(pages, at)
        if node == 0:
            return 0
        if above == 0:
            pages.root = node
        else:
            parent = table_at(pages.mem, above)
            parent.child[slot] = node
            parent.present |= cython.cast(u32, 1) << slot
        if at == level:
            return node
        above = node
        parent = table_at(pages.mem, node)
        slot = level_slot(addr, at)
        node = parent.child[slot] if (parent.present >> slot) & 1 else 0
        at -= 1


def _own_range(pages, start, end):
    """Own whatever zapping a range changes, so that it cannot fail. 0 or -ENOMEM."""
    at: u64 = _seek_pages(pages, start, end)
    following: u64
    while at < end:
        following = (at | (STRIP_BYTES - 1)) + 1
        # A strip that loses only some pages stays.
        if _own(pages, at, 0 if at & (STRIP_BYTES - 1) or following > end else 1) == 0:
            return -ENOMEM
        at = _seek_pages(pages, following, end)
    return 0


def _discard(pages, node, level):
    """Free a node without children that leaves the tree, at once if nobody else ever saw it.
    0 or -ENOMEM."""
    table: TableP = table_at(pages.mem, node)
    if table.stamp != pages.stamp or (pages_counted(level) and table.moved):
        # A copy that took over a published table is counted until the commit, as that was.
        if retire_room(pages.task) != 0:
            return -ENOMEM
        task_retire(pages.task, DROP_TABLE, node, level + 1)
        return 0
    if pages_counted(level):
        page_tables_add(pages.mem.header, -1)
    node_free(pages.task, node)
    return 0


# Changing.


def pages_table(pages, addr):
    """Whether there is a PTE page over an address. O(levels)."""
    return _find(pages, addr, 1) != 0


def pages_next_table(pages, addr):
    """The lowest address from addr on that has a PTE page over it, MAX_INDEX for none."""
    top: u64 = cython.cast(u64, 1) << level_shift(pages.levels)
    at: u64 = _seek(pages, 1, addr, top)
    return at if at < top else MAX_INDEX


def pages_set(pages, addr, own, value):
    """Map a page, or change what it holds; 0 or -ENOMEM."""
    slot: u32 = level_slot(addr, 0)
    bit: u32 = cython.cast(u32, 1) << slot
    strip: StripP
    node: u32 = _own(pages, addr, 0)
    if node == 0:
        return -ENOMEM
    strip = strip_at(pages.mem, node)
    if not strip.present & bit:
        strip.present |= bit
        pages.pages += 1
    if own:
        strip.own |= bit
        strip.value[slot] = value
    else:
        strip.own &= ~bit
    return 0


def pages_zap(pages, start, end):
    """Unmap the pages of [start, end); tables stay (zap_page_range). 0 or -ENOMEM.

    Cannot fail where the whole tree is this transaction's own.
    """
    mem: MemP = pages.mem
    at: u64
    slot: u32
    node: u32
    gone: u32
    table: TableP
    strip: StripP
    if _own_range(pages, start, end) != 0:
        return -ENOMEM
    at = _seek_pages(pages, start, end)
    while at < end:
        table = table_at(mem, _find(pages, at, 1))
        slot = level_slot(at, 1)
        node = table.child[slot]
        strip = strip_at(mem, node)
        gone = strip.present & strip_mask(at, end)
        if strip.present == gone:
            if _discard(pages, node, 0) != 0:
                return -ENOMEM
            table.present &= ~(cython.cast(u32, 1) << slot)
        else:
            strip.present &= ~gone
            strip.own &= ~gone
        pages.pages -= bit_count(gone)
        at = _seek_pages(pages, (at | (STRIP_BYTES - 1)) + 1, end)
    return 0


def pages_free_tables(pages, addr, end, floor, ceiling):
    """Free the page tables of an unmapped [addr, end) (free_pgd_range). 0 or -ENOMEM.

    [floor, ceiling) is what no other VMA reaches into: from the end of the one below to the start
    of the one above; ceiling 0 is the end of all addresses. A table goes if some of its span lies
    in [addr, end) and all of it in [floor, ceiling). One that straddles a limit stays: some VMA
    beyond may use it, and takes it along when it goes. Hence a ceiling that is too low leaks.

    Linux frees a PTE page with whatever it still maps. Here a table that is not empty stays, so
    that wrong limits never unmap anything.
    """
    level: cython.int
    for level in range(1, pages.levels - 1, 2):
        if _free_level(pages, level, addr, end, floor, ceiling, False) != 0:
            return -ENOMEM
    return 0


def pages_unmap(pages, start, end, floor, ceiling):
    """pages_zap, then pages_free_tables. 0, or -ENOMEM with nothing changed.

    Afterwards there is room for the rest of a call (CALL_NODES), as there was before.
    """
    level: cython.int
    for level in range(1, pages.levels - 1, 2):
        if _free_level(pages, level, start, end, floor, ceiling, True) != 0:
            return -ENOMEM
    if _own_range(pages, start, end) != 0:
        return -ENOMEM
    if heap_ensure(pages.task, CALL_NODES, CALL_RECORDS) != 0:
        return -ENOMEM
    if pages_zap(pages, start, end) != 0:
        return -ENOMEM
    return pages_free_tables(pages, start, end, floor, ceiling)


def _free_level(pages, level, addr, end, floor, ceiling, prepare):
    """Free what may go of one level; to prepare: only own whatever that changes. 0 or -ENOMEM."""
    span: u64 = _span(level)
    at: u64 = addr & ~(span - 1)
    following: u64
    failed: cython.bint = False
    if at < floor:
        at = (floor + span - 1) & ~(span - 1)
    if ceiling != 0:
        end = min(end, ceiling & ~(span - 1))
    at = _seek(pages, level, at, end)
    while at < end and not failed:
        following = (at & ~(span - 1)) + span
        if prepare:
            failed = _own(pages, at, level + 1) == 0
        elif table_at(pages.mem, _find(pages, at, level)).present == 0:
            failed = _unlink(pages, at, level) != 0
        at = _seek(pages, level, following, end)
    return -ENOMEM if failed else 0


def _unlink(pages, addr, level):
    """Free the empty table of this level over an address, and the half table or the PGD that it
    leaves empty. 0 or -ENOMEM."""
    mem: MemP = pages.mem
    slot: u32
    node: u32 = _own(pages, addr, level + 1)
    table: TableP
    if node == 0:
        return -ENOMEM
    table = table_at(mem, node)
    slot = level_slot(addr, level + 1)
    if _discard(pages, table.child[slot], level) != 0:
        return -ENOMEM
    table.present &= ~(cython.cast(u32, 1) << slot)
    if pages_counted(level):
        pages.tables -= 1
    if table.present == 0:
        # Both this transaction's own, and not counted: freed at once.
        _discard(pages, node, level + 1)
        table = table_at(mem, _find(pages, addr, level + 2))
        table.present &= ~(cython.cast(u32, 1) << level_slot(addr, level + 2))
        if level + 2 == pages.levels - 1 and table.present == 0:
            _discard(pages, pages.root, pages.levels - 1)
            pages.root = 0
    return 0


# Copying and moving.


def _build(to, source, level, start, end, ahead):
    """Build in `to` the tables that `source` has of this level over [start, end), `ahead` bytes
    further up; the empty ones too, as Linux does. 0 or -ENOMEM."""
    span: u64 = _span(level)
    at: u64 = _seek(source, level, start, end)
    target: u64
    stop: u64
    while at < end:
        stop = min((at & ~(span - 1)) + span, end)
        target = at + ahead
        while target < stop + ahead:
            if _own(to, target, level) == 0:
                return -ENOMEM
            target = (target & ~(span - 1)) + span
        at = _seek(source, level, stop, end)
    return 0


def pages_copy(to, source, start, end, stop_after):
    """A fork's copy_page_range of one VMA: every page of [start, end) of `source` into `to`, with
    the page tables it lies in. 0 or -ENOMEM.

    `to` is unpublished, and changed in place. After stop_after strips there is -ENOMEM instead of
    another one (MAX_INDEX: never); what was copied stays, for the caller to undo.
    """
    mem: MemP = to.mem
    level: cython.int = source.levels - 3
    copied: u64 = 0
    at: u64
    node: u32
    table: TableP
    while level > 0:
        if _build(to, source, level, start, end, 0) != 0:
            return -ENOMEM
        level -= 2
    at = _seek_pages(source, start, end)
    while at < end:
        if copied == stop_after:
            return -ENOMEM
        table = table_at(mem, _find(source, at, 1))
        node = table.child[level_slot(at, 1)]
        if not _copy_strip(to, _find(to, at, 1), level_slot(at, 1), node, strip_mask(at, end)):
            return -ENOMEM
        copied += 1
        at = _seek_pages(source, (at | (STRIP_BYTES - 1)) + 1, end)
    return 0


def _copy_strip(to, table, slot, source, mask):
    """Copy the pages of a strip that `mask` names into a table; False without memory."""
    mem: MemP = to.mem
    parent: TableP = table_at(mem, table)
    old: StripP = strip_at(mem, source)
    new: StripP
    node: u32
    i: cython.int
    if (parent.present >> slot) & 1:
        # Two VMAs within 64 KiB.
        new = strip_at(mem, parent.child[slot])
        check(new.stamp == to.stamp and new.present & old.present & mask == 0)
        for i in range(STRIP_PAGES):
            if (mask & old.own) >> i & 1:
                new.value[i] = old.value[i]
        new.present |= old.present & mask
        new.own |= old.own & mask
    else:
        node = node_alloc(to.task)
        if node == 0:
            return False
        copy_node(mem.base, node, source)
        new = strip_at(mem, node)
        new.stamp = to.stamp
        new.present &= mask
        new.own &= mask
        parent.child[slot] = node
        parent.present |= cython.cast(u32, 1) << slot
    to.pages += bit_count(old.present & mask)
    return True


def pages_move(pages, from_addr, to_addr, length):
    """mremap's move_page_tables: the pages of a range go to another one, apart from it and empty;
    the tables they need are built there. 0, with room for the rest of a call (CALL_NODES); or
    -ENOMEM with no page moved, where tables that were built stay for the caller to free.

    Source tables stay, for unmapping to free, but where both ends are aligned to a table's span:
    Linux moves such tables as they are (move_normal_pmd, move_normal_pud).
    """
    end: u64 = from_addr + length
    ahead: u64 = to_addr - from_addr  # Modulo 2^64, as sums with it are.
    at: u64
    entry: cython.int
    level: cython.int
    # Own first what is left and what is built, so that nothing fails half way.
    result: cython.int = _own_range(pages, from_addr, end)
    for level in range(1, 5, 2):
        if result == 0:
            result = _build(pages, pages, level, from_addr, end, 0)
        if result == 0:
            result = _build(pages, pages, level, from_addr, end, ahead)
    at = _seek_pages(pages, from_addr, end)
    while result == 0 and at < end:
        entry = pages_look(pages, at)
        if entry != 0:
            result = pages_set(pages, at + ahead, entry == 2, pages.value)
        at += PAGE_BYTES
        if at & (STRIP_BYTES - 1) == 0:
            at = _seek_pages(pages, at, end)
    if result == 0:
        result = heap_ensure(pages.task, CALL_NODES, CALL_RECORDS)
    if result != 0:
        pages_zap(pages, to_addr, to_addr + length)
        return result
    result = pages_zap(pages, from_addr, end)
    for level in range(1, 5, 2):
        if result == 0 and ahead & (_span(level) - 1) == 0:
            result = _free_level(pages, level, from_addr, end, from_addr, end, False)
    return result


# Letting go.


def pages_drop(task, node, levels):
    """Give up one reference on a subtree of this many levels (1: a strip); O(what it owned
    alone)."""
    mem: MemP = task.mem
    rest: u32
    table: TableP
    if mem.refs[node] != 0:
        if ref_add(mem, node, -1) != 0:
            return
        mem.refs[node] = 0  # Another owner gave up its reference in between.
    if levels > 1:
        table = table_at(mem, node)
        rest = table.present
        while rest != 0:
            pages_drop(task, table.child[lowest_bit(rest)], levels - 1)
            rest &= rest - 1
        if pages_counted(levels - 1):
            page_tables_add(mem.header, -1)
    node_free(task, node)


# Verifying.


def page_tree_facts(mem, walk, root, levels):
    """Check a page tree node by node, for verify.TreeCheck: walk.enter(node, units, kind) says
    whether to go into a node, walk.wrong(node, what) takes a violation, walk.needs(start, end)
    whether a VMA lies there.

    Returns (tables, pages), as they are to stand in the state. In Python objects.
    """
    totals: list = [0, 0]
    if root != 0:
        _walk_node(mem, walk, root, levels - 1, 0, True, totals)
    return tuple(totals)


def _walk_node(mem, walk, node, level, at, is_root, totals):
    table: TableP
    strip: StripP
    slot: cython.int
    below: u64
    if not walk.enter(node, NODE_UNITS, KIND_NODES):
        return
    if level == 0:
        strip = strip_at(mem, node)
        if strip.present == 0:
            walk.wrong(node, "a strip without a page")
        if strip.own & ~strip.present:
            walk.wrong(node, f"owns pages {strip.own:#x}, maps {strip.present:#x}")
        for slot in range(STRIP_PAGES):
            if (strip.present >> slot) & 1 and not walk.needs(
                at + slot * PAGE_BYTES, at + (slot + 1) * PAGE_BYTES
            ):
                walk.wrong(node, f"maps {at + slot * PAGE_BYTES:#x}, where no VMA is")
        totals[1] += bit_count(strip.present)
        return
    table = table_at(mem, node)
    if pages_counted(level):
        totals[0] += 1
        if not walk.needs(at, at + _span(level)):
            walk.wrong(node, f"a table of level {level} at {at:#x}, which no VMA needs")
    if table.present == 0 and (is_root or not level & 1):
        walk.wrong(node, f"an empty node of level {level}")
    if not level & 1 and table.present >> STRIP_PAGES:
        walk.wrong(node, f"a half table with slots {table.present:#x}")
        return
    for slot in range(TABLE_SLOTS):
        if (table.present >> slot) & 1:
            below = at + slot * _span(level - 1)
            _walk_node(mem, walk, table.child[slot], level - 1, below, False, totals)
