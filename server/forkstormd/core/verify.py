"""Does it hold? Every invariant of a space, and everything alive in the arena counted twice.

verify(mm, mm_id) walks a snapshot of the space, so nobody waits for it: O(VMAs) in Python
objects. Reference counts are checked where they can be known: when no other snapshot is open,
nobody writes meanwhile and no fork has ever shared a tree.

references(mm) counts who refers to what, over all spaces: for trees that are shared.

audit(mm) counts allocated nodes and records from the free map and the magazines, and reachable
ones from the spaces; on a quiescent arena without open snapshots the two agree, or something
leaked (a process that died in the middle of an operation leaks what it held).
"""

from bisect import bisect_right

import cython

from forkstormd.core.errors import CoreError
from forkstormd.core.types import Audit

if not cython.compiled:
    from forkstormd.core.atomics import *
    from forkstormd.core.layout import *
    from forkstormd.core.layout import State
    from forkstormd.core.maple import inner_gap, leaf_gap
    from forkstormd.core.mutex import *
    from forkstormd.core.objects import object_facts
    from forkstormd.core.pages import page_tree_facts, pages_levels
    from forkstormd.core.vma import vma_account, vma_special

VIOLATIONS_MAX = 100


def verify(mm: object, mm_id: object) -> list:
    """What is wrong with a space, in words, at most 100 lines; [] when it is sound.

    Raises CoreError NO_SUCH_SPACE.
    """
    with mm.snapshot(mm_id) as snapshot:
        return _verify_snapshot(mm, snapshot)


def _verify_snapshot(mm: object, snapshot: object) -> list:
    check: TreeCheck = TreeCheck(mm)
    shot: Snapshot = snapshot
    info = snapshot.info
    check.starts = []
    check.ends = []
    alone = check.mem.header.snapshots == 1 and check.mem.header.shares == 0
    check.use_extent(shot.extent, shot.extent_blocks)
    if shot.root != 0:
        if shot.height == 0 or shot.height > HEIGHT_MAX:
            return [f"height {shot.height}"]
        check.node(shot.root, shot.height, 0, MAX_INDEX, True)
    elif shot.height != 0:
        check.wrong(0, "an empty tree has a height")
    found = check.figures()
    tables, pages = check.page_tree(shot.page_root, shot.task_size)
    found["page_tables"] = tables
    found["touched_pages"] = pages
    expected = {
        "map_count": info.vma_count,
        "total_vm": info.total_vm,
        "data_vm": info.data_vm,
        "exec_vm": info.exec_vm,
        "stack_vm": info.stack_vm,
        "charged": info.charged_pages,
        "nodes": info.node_count,
        "page_tables": info.page_table_count,
        "touched_pages": info.touched_page_count,
    }
    for name, value in expected.items():
        if found[name] != value:
            check.wrong(shot.root, f"{name} is {value}, the tree has {found[name]}")
    if alone:
        _check_references(mm, check, [root for root in (shot.root, shot.page_root) if root], info)
    return check.violations[:VIOLATIONS_MAX]


def _check_references(mm: object, check: object, roots: list, info: object) -> None:
    """Only snapshots share trees. When ours was the only one throughout, and nobody wrote to the
    space, its roots have one owner more than the space, and everything else in them just one."""
    walk: TreeCheck = check
    owners = {index: walk.mem.refs[index] + 1 for index in walk.seen}
    if walk.mem.header.snapshots != 1:
        return
    try:
        if mm.info(info.mm_id).version != info.version:
            return
    except CoreError:
        return  # It has ended meanwhile.
    for index in sorted(walk.seen):
        # Objects of an extent have no owners of their own: the extent has.
        expected = 2 if index in roots and not walk.inside(index) else 1
        if owners[index] != expected:
            walk.wrong(index, f"has {owners[index]} owners, not {expected}")


class TreeCheck:
    """One walk over one tree: its violations and its totals."""

    def __init__(self, mm: object) -> None:
        self.mm = mm
        self.violations = []
        self.seen = set()
        # Of those, the records of VMAs.
        self.records = set()
        self.objects = set()
        # Where the VMAs begin and end, ascending; None where pages are checked without VMAs.
        self.starts = None
        self.ends = None
        self.nodes = 0
        self.specials = 0
        self.mem = self.mm.arena.mem
        # The extent of the space, and its end.
        self.extent = 0
        self.extent_end = 0
        if cython.compiled:
            self.totals = cython.address(self.space)
        else:
            self.totals = self.space = State()
        self.space.map_count = self.space.total_vm = self.space.data_vm = 0
        self.space.exec_vm = self.space.stack_vm = self.space.charged = 0

    def wrong(self, node: object, what: object) -> None:
        if len(self.violations) < VIOLATIONS_MAX:
            self.violations.append(f"node {node:#x}: {what}" if node else what)

    def figures(self) -> dict:
        """What the tree adds up to."""
        return {
            "map_count": self.space.map_count,
            "total_vm": self.space.total_vm,
            "data_vm": self.space.data_vm,
            "exec_vm": self.space.exec_vm,
            "stack_vm": self.space.stack_vm,
            "charged": self.space.charged,
            "nodes": self.nodes,
        }

    def enter(self, index: object, units: object, kind: object) -> bool:
        """Whether an object lies in claimed heap, is allocated, and was not met before."""
        mem: MemP = self.mem
        block: u32 = index // BLOCK_UNITS
        mask = ((1 << units) - 1) << (index % BLOCK_UNITS)
        if index % units or not mem.header.first_block <= block < mem.header.claimed_blocks:
            self.wrong(index, "lies outside the heap")
            return False
        if mem.free[block] & mask:
            self.wrong(index, "is reachable and free")
        if self.inside(index):
            kind = KIND_EXTENT
        if mem.kind[block] != kind:
            self.wrong(index, "lies in a block of the other kind")
        if index in self.seen:
            self.wrong(index, "is reachable twice")
            return False
        self.seen.add(index)
        return True

    def use_extent(self, extent: object, blocks: object) -> None:
        """The space has this extent; 0: it has none."""
        header: ExtentP
        if extent == 0:
            return
        self.extent = extent
        self.extent_end = extent + blocks * BLOCK_UNITS
        header = extent_at(self.mem, extent)
        parts = range(min(header.part_count, EXTENT_PARTS))
        nodes = sum([header.part_nodes[part] for part in parts])
        units = EXTENT_UNITS + nodes * NODE_UNITS + header.records
        if header.blocks != blocks or nodes != header.nodes or units > blocks * BLOCK_UNITS:
            self.wrong(extent, f"an extent of {header.blocks} blocks with {units} units")
        for block in range(extent // BLOCK_UNITS, extent // BLOCK_UNITS + blocks):
            if self.mem.free[block] != 0 or self.mem.kind[block] != KIND_EXTENT:
                self.wrong(extent, f"block {block} is not in use for an extent")

    def inside(self, index):
        """Whether an object lies in the space's extent."""
        return self.extent <= index < self.extent_end

    def leads_out(self, node: object, below: object) -> bool:
        """Whether a node of the extent leads to an object outside, which must never be."""
        return self.inside(node) and not self.inside(below)

    def needs(self, start: object, end: object) -> bool:
        """Whether a VMA lies in [start, end). O(log VMAs)."""
        if self.starts is None:
            return True
        i = bisect_right(self.ends, start)
        return i < len(self.starts) and self.starts[i] < end

    def page_tree(self, root: object, task_size: object) -> tuple:
        """Check a page tree; its (tables, pages)."""
        return page_tree_facts(self.mem, self, root, pages_levels(task_size))

    def node(self, node, levels, low, high, is_root):
        """Check a subtree; its largest gap."""
        inner: InnerP
        offset: cython.int
        last: u64
        gap: u64
        best: u64 = 0
        nodes: u32
        vmas: u64
        specials: u32
        if levels == 1:
            return self.leaf(node, low, high, is_root)
        if not self.enter(node, NODE_UNITS, KIND_NODES):
            return 0
        inner = inner_at(self.mem, node)
        if inner.end >= INNER_SLOTS or inner.end < (1 if is_root else INNER_MIN_END):
            self.wrong(node, f"an inner node with {inner.end + 1} slots")
            if inner.end >= INNER_SLOTS:
                return 0
        nodes = self.nodes
        vmas = self.space.map_count
        specials = self.specials
        self.nodes += 1
        for offset in range(inner.end + 1):
            last = inner.pivot[offset] if offset < inner.end else high
            if last < low or last > high:
                self.wrong(node, f"pivot {offset} is {last:#x}, not within {low:#x}..{high:#x}")
                return 0
            if self.leads_out(node, inner.slot[offset]):
                self.wrong(node, f"slot {offset} leads out of the extent")
            gap = self.node(inner.slot[offset], levels - 1, low, last, False)
            if inner.gap[offset] != gap:
                self.wrong(node, f"gap {offset} is {inner.gap[offset]:#x}, the child has {gap:#x}")
            best = gap if gap > best else best
            low = last + 1 if last != MAX_INDEX else last
        if inner.gap_slot > inner.end or inner_gap(inner) != best:
            self.wrong(node, f"gap_slot {inner.gap_slot} does not name the largest gap")
        if inner.nodes != self.nodes - nodes:
            self.wrong(node, f"counts {inner.nodes} nodes, not {self.nodes - nodes}")
        if inner.vmas != self.space.map_count - vmas:
            self.wrong(node, f"counts {inner.vmas} VMAs, not {self.space.map_count - vmas}")
        if inner.specials != self.specials - specials:
            self.wrong(node, f"counts {inner.specials} specials, not {self.specials - specials}")
        return best

    def leaf(self, node, low, high, is_root):
        """Check a leaf and its records; its largest gap."""
        leaf: LeafP
        offset: cython.int
        last: u64
        first: u64 = low
        if not self.enter(node, NODE_UNITS, KIND_NODES):
            return 0
        leaf = leaf_at(self.mem, node)
        self.nodes += 1
        if leaf.end >= LEAF_SLOTS or (leaf.end < LEAF_MIN_END and not is_root):
            self.wrong(node, f"a leaf with {leaf.end + 1} slots")
            if leaf.end >= LEAF_SLOTS:
                return 0
        if leaf.slot[leaf.end] == 0 and high != MAX_INDEX:
            self.wrong(node, "a leaf that ends in NULL before the tree ends")
        for offset in range(leaf.end + 1):
            last = leaf.pivot[offset] if offset < leaf.end else high
            if last < low or last > high:
                self.wrong(node, f"pivot {offset} is {last:#x}, not within {low:#x}..{high:#x}")
                return 0
            if leaf.slot[offset] != 0:
                if self.leads_out(node, leaf.slot[offset]):
                    self.wrong(node, f"slot {offset} leads out of the extent")
                self.record(leaf.slot[offset], low, last, (leaf.special >> offset) & 1)
            else:
                if offset > 0 and leaf.slot[offset - 1] == 0:
                    self.wrong(node, f"two NULL ranges touch at {low:#x}")
                if (leaf.special >> offset) & 1:
                    self.wrong(node, f"slot {offset} is NULL and marked special")
            low = last + 1 if last != MAX_INDEX else last
        if leaf.special >> (leaf.end + 1):
            self.wrong(node, "slots beyond the end are marked special")
        return leaf_gap(leaf, first, high)

    def record(self, record, first, last, special):
        vma: RecordP
        if not self.enter(record, 1, KIND_RECORDS):
            return
        self.records.add(record)
        vma = record_at(self.mem, record)
        if vma.start != first or vma.end != last + 1:
            self.wrong(record, f"is {vma.start:#x}-{vma.end:#x}, stored at {first:#x}..{last:#x}")
        if (vma.start | vma.end) & (PAGE_BYTES - 1) or vma.start >= vma.end:
            self.wrong(record, f"is {vma.start:#x}-{vma.end:#x}")
        if vma_special(vma) != special:
            self.wrong(record, f"flags {vma.flags:#x}, special mark {special}")
        if self.starts is not None:
            self.starts.append(vma.start)
            self.ends.append(vma.end)
        if vma.object != 0:
            self.objects.add(vma.object)
        self.specials += special
        self.space.map_count += 1
        vma_account(self.totals, vma.flags, (vma.end - vma.start) >> PAGE_SHIFT)


def _moving(mm: object) -> tuple:
    """What changes when any call runs: lanes' call counts, open snapshots, spaces."""
    manager: Lanes = mm
    mem: MemP = manager.arena.mem
    calls = [lane_at(mem, i).in_op for i in range(mem.header.lane_max)]
    return sum(calls), any(count & 1 for count in calls), mem.header.snapshots


def audit(mm: object) -> object:
    """An Audit of the arena; O(claimed blocks + everything alive) in Python objects."""
    manager: Lanes = mm
    mem: MemP = manager.arena.mem
    header: HeaderP = mem.header
    before = _moving(mm)
    block: u32
    i: u32
    lane: LaneP
    used: u64
    nodes = 0
    records = 0
    extent_blocks = 0
    for block in range(header.first_block, header.claimed_blocks):
        used = BLOCK_UNITS - bit_count(load64(mem.free[block]))
        if mem.kind[block] == KIND_NODES:
            nodes += used // NODE_UNITS
        elif mem.kind[block] == KIND_EXTENT:
            extent_blocks += used // BLOCK_UNITS
        else:
            records += used
    for i in range(header.lane_max):
        lane = lane_at(mem, i)
        nodes -= lane.node_count
        records -= lane.record_count
        extent_blocks -= sum([lane.extents[k] & LOW32 for k in range(EXTENT_CACHE)])
    after = _moving(mm)
    check: TreeCheck
    spaces = charged = vmas = tables = 0
    reachable: set = set()
    vma_records: set = set()
    extents: dict = {}
    objects: set = set()
    shared: TreeCheck = TreeCheck(mm)
    for mm_id in mm.ids():
        try:
            with mm.snapshot(mm_id) as snapshot:
                info = snapshot.info
                check = TreeCheck(mm)
                tables += _collect(check, snapshot)
                # While the snapshot's VMAs hold them: afterwards they may be anything.
                for index in sorted(check.objects - objects):
                    object_facts(mem, shared, index)
        except CoreError as error:
            if error.reason != "NO_SUCH_SPACE":
                raise
            continue
        reachable |= check.seen
        vma_records |= check.records
        if check.extent:
            extents[check.extent] = (check.extent_end - check.extent) // BLOCK_UNITS
        objects |= check.objects
        spaces += 1
        charged += info.charged_pages
        vmas += info.vma_count
    for index in sorted(_file_objects(mem) - objects):
        object_facts(mem, shared, index)
        objects.add(index)
    reachable |= shared.seen
    reachable |= _answers(mm)
    # What an extent holds is allocated with it, and counts as far as it is reachable.
    in_extents = {index for index in reachable if mem.kind[index // BLOCK_UNITS] == KIND_EXTENT}
    records += len(in_extents & vma_records)
    nodes += len(in_extents - vma_records)
    reachable_nodes = len(in_extents - vma_records) + sum(
        1 for index in reachable if mem.kind[index // BLOCK_UNITS] == KIND_NODES
    )
    return Audit(
        spaces,
        vmas,
        nodes,
        records,
        reachable_nodes,
        len(reachable) - reachable_nodes,
        header.file_count,
        charged,
        # The walk itself makes calls in this process's lanes, so the moment is before it.
        before == after and not before[1] and before[2] == 0 and header.space_count == spaces,
        (header.claimed_blocks - header.first_block) * BLOCK_BYTES,
        header.capacity_bytes,
        header.page_tables,
        tables,
        header.objects,
        len(objects),
        extent_blocks,
        sum(extents.values()),
    )


def references(mm: object) -> list:
    """Wrong reference counts of VMA trees and extents, in words. Of an arena where nothing runs and
    no other snapshot is open; O(everything alive) in Python objects."""
    manager: Lanes = mm
    mem: MemP = manager.arena.mem
    shot: Snapshot
    owners: dict = {}
    seen: set = set()
    shots = []
    for mm_id in mm.ids():
        shots.append(mm.snapshot(mm_id))
    for shot in shots:
        inside = range(shot.extent, shot.extent + shot.extent_blocks * BLOCK_UNITS)
        # The space refers to it, and the snapshot.
        if shot.root and shot.root not in inside:
            owners[shot.root] = owners.get(shot.root, 0) + 2
        if shot.extent:
            owners[shot.extent] = owners.get(shot.extent, 0) + 2
        if shot.root:
            _refer(mem, shot.root, shot.height, inside, owners, seen)
    wrong = [
        f"node {index:#x}: has {mem.refs[index] + 1} owners, not {count}"
        for index, count in sorted(owners.items())
        if mem.refs[index] + 1 != count
    ]
    for shot in shots:
        shot.close()
    return wrong


def _refer(mem, node, levels, inside, owners, seen):
    """Count what a node outside extents refers to, once."""
    leaf: LeafP
    inner: InnerP
    offset: cython.int
    below: u32
    if node in inside or node in seen:
        return
    seen.add(node)
    if levels == 1:
        leaf = leaf_at(mem, node)
        for offset in range(leaf.end + 1):
            below = leaf.slot[offset]
            if below != 0 and below not in inside:
                owners[below] = owners.get(below, 0) + 1
        return
    inner = inner_at(mem, node)
    for offset in range(inner.end + 1):
        below = inner.slot[offset]
        if below not in inside:
            owners[below] = owners.get(below, 0) + 1
        _refer(mem, below, levels - 1, inside, owners, seen)


def _file_objects(mem):
    """The objects of files that were written to: they live as long as the file table."""
    file: u32
    found = set()
    for file in range(1, mem.header.file_count + 1):
        if file_entry_at(mem, file).object != 0:
            found.add(file_entry_at(mem, file).object)
    return found


def _answers(mm: object) -> set:
    """The nodes of long answers to requests; O(entries + nodes)."""
    manager: Lanes = mm
    mem: MemP = manager.arena.mem
    i: u32
    node: u32
    word: MutexP
    found: set = set()
    if load64(mem.header.answer_nodes) == 0:
        return found
    for i in range(mem.header.dedupe_max):
        if dedupe_at(mem, i).more == 0:
            continue
        word = mem.header.dedupe_lock[i // DEDUPE_WAYS % DEDUPE_LOCKS]
        with cython.nogil:
            mutex_wait(word, 0)
        try:
            node = dedupe_at(mem, i).more
            while node != 0:
                found.add(node)
                node = piece_at(mem, node).next
        finally:
            mutex_release(word)
    return found


def _collect(check: object, snapshot: object) -> object:
    """Everything a space holds into check.seen and check.objects; its page tables."""
    shot: Snapshot = snapshot
    walk: TreeCheck = check
    walk.use_extent(shot.extent, shot.extent_blocks)
    if shot.root != 0:
        walk.node(shot.root, shot.height, 0, MAX_INDEX, True)
    if shot.domain != 0:
        walk.seen.add(shot.domain)
    return walk.page_tree(shot.page_root, shot.task_size)[0]
