"""What lies in the arena, and what one core call works with.

Two files say the same thing: layout.pxd as C structs for the compiled builds, this
one as ctypes structures over the mapped bytes for the uncompiled build, which is the
oracle the compiled ones are held against. tests/core/test_layout.py compares every
size and offset.

Everything in shared memory is found by an index in units of 64 bytes from the start of
the file, never by a pointer; index 0 (the header) means "none". Ranges inside the core
are inclusive, [index, last], as in the kernel's maple tree; the API above is half-open.

    Header | lanes | dedupe | jobs | slot table | files | paths | free map | kinds | refcounts |
    heap

Nodes (256 bytes, four units, naturally aligned):

    Leaf    16 slots of VMA records, 15 pivots; pivot[i] is the last index of slot i, the
            last slot ends where the node ends. `special` has a bit per slot whose VMA a
            fork treats specially (DONTCOPY or WIPEONFORK).
    Inner   10 slots of nodes, 9 pivots, and per slot the largest gap below it;
            gap_slot names the largest of those. nodes, vmas, specials count the subtree,
            this node included.

Both begin with `stamp`, the transaction that built the node: a node whose stamp is that
of the running transaction is unpublished and may be changed in place, any other is
immutable. `reserve_next` chains nodes that are reserved and not yet used.

Slot.word is the commit point of an address space: generation << 2 | live << 1 | current,
where current says which of the two State copies holds.
"""

import ctypes
from typing import Any

u8 = u16 = u32 = u64 = i64 = int

_U8, _U16, _U32, _U64 = ctypes.c_uint8, ctypes.c_uint16, ctypes.c_uint32, ctypes.c_uint64


def _words(*names: str) -> list[tuple[str, type[ctypes.c_uint64]]]:
    """Fields of 64 bits."""
    return [(name, _U64) for name in names]


MAX_INDEX = 0xFFFF_FFFF_FFFF_FFFF
LOW32 = 0xFFFF_FFFF

LAYOUT_VERSION = 4
UNIT_BYTES = 64
NODE_BYTES = 256
NODE_UNITS = 4
BLOCK_BYTES = 4096
BLOCK_UNITS = 64
CHUNK_BLOCKS = 512
LEAF_SLOTS = 16
INNER_SLOTS = 10
# A node that is not the root holds more slots than this (mt_min_slots of the kernel).
LEAF_MIN_END = 6
INNER_MIN_END = 4
HEIGHT_MAX = 16
SPLIT_MAX = 96
PIECES_MAX = 6
# What one store or one change of pages retires at most.
RETIRED_ROOM = 1024
NODE_MAGAZINE = 1024
RECORD_MAGAZINE = 2048
SLOT_MAGAZINE = 16
WARM_BLOCKS = 2048
STORE_NODES = 128
LABEL_BYTES = 256
COUNTERS = 256
KIND_NONE = 0
KIND_NODES = 1
KIND_RECORDS = 2
KIND_EXTENT = 3
DROP_SHELL = 0
DROP_NODE = 1
DROP_RECORD = 2
DROP_TABLE = 3
DROP_TABLE_SHELL = 4
# Fan-outs of the page tree (pages.py).
STRIP_PAGES = 16
TABLE_SLOTS = 32
PAGE_SHIFT = 12
PAGE_BYTES = 4096
SLOT_BITS = 20
GENERATION_BITS = 36
ANSWER_BYTES = 384
# What one node of a longer answer holds.
PIECE_BYTES = 248
DEDUPE_WAYS = 8
DEDUPE_LOCKS = 64
SLOT_STRIDE = 832
TABLE_CHUNK_BYTES = 65536
# The lowest unit of every node of a block.
NODE_BITS = 0x1111_1111_1111_1111
GENERATION_MAX = (1 << GENERATION_BITS) - 1
HEADER_BYTES = 8192
# An id: shard 8 bits | generation 36 | slot 20.
SHARD_SHIFT = 56
SLOT_MASK = (1 << SLOT_BITS) - 1
LANE_STRIDE = 28992
DEDUPE_STRIDE = 512
FILE_STRIDE = 64
# Ids of files from here on name the objects of shared anonymous mappings.
SHARED_OBJECT = 0x4000_0000
# Arguments of a call on a space, at most.
CALL_WORDS = 6
# The header of an extent, how many parts it may have, and how many free ones a lane keeps.
EXTENT_UNITS = 16
EXTENT_PARTS = 124
EXTENT_CACHE = 16
# Duplications that several processes may work on at a time; the parts of one, and the nodes above
# those.
JOBS = 4
JOB_PARTS = 123
JOB_TOPS = 64
JOB_STRIDE = 24256
# The strategies of a fork (dup.py), with the numbers of the API.
BULK_INSERT = 1
TREE_DUP = 2
EXTENT_COPY = 3
SHARE = 4
# Whose the tree is that a fork builds: nodes of its own, an extent, or the parent's.
TREE_OWN = 0
TREE_EXTENT = 1
TREE_SHARED = 2
IS_CHECKED = 0


def check(condition: bool) -> None:
    """Stop where an assumption breaks (compiled: only in the checked build)."""
    assert condition


class Leaf(ctypes.Structure):
    _fields_ = [
        ("stamp", _U64),
        ("end", _U8),
        ("gap_slot", _U8),
        ("special", _U16),
        ("reserve_next", _U32),
        ("pivot", _U64 * 15),
        ("slot", _U32 * 16),
        ("unused", _U64 * 7),
    ]


class Inner(ctypes.Structure):
    _fields_ = [
        ("stamp", _U64),
        ("end", _U8),
        ("gap_slot", _U8),
        ("unused", _U16),
        ("reserve_next", _U32),
        ("pivot", _U64 * 9),
        ("slot", _U32 * 10),
        ("gap", _U64 * 10),
        ("nodes", _U32),
        ("vmas", _U32),
        ("specials", _U32),
    ]


class Record(ctypes.Structure):
    """One VMA, [start, end) in bytes; pgoff in pages."""

    _fields_ = [
        ("start", _U64),
        ("end", _U64),
        ("flags", _U64),
        ("pgoff", _U64),
        ("writer", _U64),
        ("anon", _U64),
        ("file", _U32),
        ("object", _U32),
        ("policy", _U64),
    ]


class Extent(ctypes.Structure):
    """The header of an extent (extents.py): its length, and what lies in it. In each part the
    leaves come first; `objects` records hold a shared object."""

    _fields_ = [
        ("blocks", _U32),
        ("nodes", _U32),
        ("records", _U32),
        ("objects", _U32),
        ("part_count", _U32),
        ("unused", _U32 * 3),
        ("part_nodes", _U32 * EXTENT_PARTS),
        ("part_leaves", _U32 * EXTENT_PARTS),
    ]


class Table(ctypes.Structure):
    """An upper node of a page tree; bit i of `present` says whether child[i] is there. `moved`:
    the copy of a node that nobody shared, whose children it took over."""

    _fields_ = [
        ("stamp", _U64),
        ("present", _U32),
        ("moved", _U32),
        ("child", _U32 * 32),
    ]


class Strip(ctypes.Structure):
    """Sixteen neighbouring pages: which are mapped, which hold a value of this tree's own."""

    _fields_ = [
        ("stamp", _U64),
        ("present", _U16),
        ("own", _U16),
        ("unused", _U32),
        ("value", _U64 * 16),
    ]


class SharedObject(ctypes.Structure):
    """What shared mappings show: a page tree of its own, under a mutex of its own. `tree` is its
    root << 32 | its number of levels, so that one store changes both; `pages` is its size."""

    _fields_ = [
        ("references", _U64),
        ("lock", _U64 * 8),
        *_words("tree", "pages", "charged"),
        ("domain", _U32),
        ("unused", _U32),
    ]


class Domain(ctypes.Structure):
    """A commit domain, in pages: what one family of spaces has promised to itself."""

    _fields_ = [*_words("charged", "limit", "members"), ("unused", _U64 * 5)]


class State(ctypes.Structure):
    """An mm_state: all that one commit of an address space changes."""

    _fields_ = [
        ("root", _U32),
        ("height", _U32),
        ("page_root", _U32),
        ("domain", _U32),
        *_words(
            "page_tables",
            "touched_pages",
            "serial",
            "map_count",
            "total_vm",
            "data_vm",
            "exec_vm",
            "stack_vm",
            "charged",
            "brk",
            "start_brk",
            "start_stack",
            "task_size",
            "mmap_min_addr",
            "mmap_base",
            "lsm_min_addr",
            "max_map_count",
            "stack_limit",
            "commit_limit",
        ),
        ("linux_version", _U32),
        ("overcommit", _U8),
        ("privileged", _U8),
        ("thp_alignment", _U8),
        ("protection_keys", _U8),
        *_words("version", "request_high", "request_low", "result"),
        ("extent", _U32),
        ("extent_blocks", _U32),
    ]


class Part(ctypes.Structure):
    """One part of a duplication by several processes (parts.py): what is to be copied, [low, high]
    of the tree or a run of nodes and records, and where to; `lane` has done it. All under its
    lock."""

    _fields_ = [
        ("lock", _U64 * 8),
        *_words("low", "high", "slots_written"),
        ("node", _U32),
        ("levels", _U32),
        ("leaf", _U32),
        ("inner", _U32),
        ("record", _U32),
        ("nodes", _U32),
        ("records", _U32),
        ("link", _U32),
        ("offset", _U32),
        ("result", _U32),
        ("done", _U32),
        ("lane", _U32),
        ("unused", _U64 * 7),
    ]


class Job(ctypes.Structure):
    """A duplication by several processes (jobs.py). `word` is generation << 1 | open, `claimed`
    how many of the last parts are claimed << 32 | how many of the first, `extent` what it fills (as
    in Lane.extent_pending), `held` tells whether it has a reference on the source."""

    _fields_ = [
        ("lock", _U64 * 8),
        *_words("word", "claimed", "stamp", "extent"),
        ("kind", _U32),
        ("part_count", _U32),
        ("top_count", _U32),
        ("held", _U32),
        ("source", State),
        ("top", _U32 * JOB_TOPS),
        ("unused", _U64 * 7),
        ("part", Part * JOB_PARTS),
    ]


class Slot(ctypes.Structure):
    """An entry of the address-space table."""

    _fields_ = [
        ("word", _U64),
        ("expires_ns", _U64),
        ("next_free", _U32),
        ("label_bytes", _U32),
        ("lock", _U64 * 8),
        ("state", State * 2),
        ("labels", _U8 * 256),
        ("unused", _U8 * 56),
    ]


class Lane(ctypes.Structure):
    """What one thread of one process owns: magazines of free objects, block hints, free extents
    (first unit << 32 | blocks), and the extent that is being filled."""

    _fields_ = [
        ("owner_pid", _U64),
        ("owner_start", _U64),
        ("owner_token", _U64),
        ("stamps", _U64),
        ("node_count", _U32),
        ("record_count", _U32),
        ("slot_count", _U32),
        ("warm_node_count", _U32),
        ("warm_record_count", _U32),
        ("scan_node", _U32),
        ("scan_record", _U32),
        ("in_op", _U32),
        ("nodes", _U32 * 1024),
        ("records", _U32 * 2048),
        ("slots", _U32 * 16),
        ("warm_nodes", _U32 * 2048),
        ("warm_records", _U32 * 2048),
        ("extents", _U64 * EXTENT_CACHE),
        ("extent_pending", _U64),
        ("extent_hint", _U32),
        ("scan_extent", _U32),
        ("unused", _U64 * 6),
    ]


class FileEntry(ctypes.Structure):
    _fields_ = [
        ("inode", _U64),
        ("open_id", _U64),
        ("path_offset", _U64),
        ("dev_major", _U32),
        ("dev_minor", _U32),
        ("access", _U32),
        ("path_bytes", _U32),
        ("object", _U32),
        ("thp_aligned", _U32),
        ("unused", _U64 * 2),
    ]


class DedupeEntry(ctypes.Structure):
    _fields_ = [
        *_words(
            "request_high",
            "request_low",
            "payload",
            "state",
            "lane_token",
            "target",
            "expected",
            "order",
            "result",
        ),
        ("lane", _U32),
        ("answer_bytes", _U32),
        ("more", _U32),
        ("more_nodes", _U32),
        ("unused", _U64 * 5),
        ("answer", _U8 * 384),
    ]


class Piece(ctypes.Structure):
    """A part of an answer that is too long for its entry (answers.py)."""

    _fields_ = [("next", _U32), ("unused", _U32), ("data", _U8 * 248)]


class Header(ctypes.Structure):
    _fields_ = [
        ("magic", _U64),
        ("layout_version", _U32),
        ("lane_max", _U32),
        ("capacity_bytes", _U64),
        ("instance_high", _U64),
        ("instance_low", _U64),
        ("boot_high", _U64),
        ("boot_low", _U64),
        ("space_max", _U32),
        ("slot_max", _U32),
        ("file_max", _U32),
        ("dedupe_max", _U32),
        *_words(
            "lanes_at",
            "table_at",
            "dedupe_at",
            "files_at",
            "paths_at",
            "paths_bytes",
            "free_at",
            "kind_at",
            "refs_at",
            "heap_at",
        ),
        ("first_block", _U32),
        ("block_max", _U32),
        ("claimed_blocks", _U32),
        ("slot_high", _U32),
        ("free_slot", _U32),
        ("space_count", _U32),
        ("file_count", _U32),
        ("snapshots", _U32),
        *_words(
            "paths_used",
            "table_claimed",
            "files_claimed",
            "paths_claimed",
            "serials",
            "dedupe_order",
            "ram_pages",
            "page_tables",
            "objects",
            "shares",
        ),
        ("heap_lock", _U64 * 8),
        ("table_lock", _U64 * 8),
        ("files_lock", _U64 * 8),
        ("dedupe_lock", (_U64 * 8) * 64),
        ("counter", _U64 * 256),
        *_words("answer_nodes", "answer_hand", "jobs_at"),
        ("jobs_posted", _U32),
        ("parallel_vmas", _U32 * 5),
    ]


class Mem:
    """A process's view of the arena; its own helper, how many of others it wakes (jobs.py); from
    which length on extents are written past the caches (copying.py)."""

    __slots__ = (
        "base",
        "fd",
        "free",
        "header",
        "helper_bits",
        "helpers_max",
        "kind",
        "populated_blocks",
        "refs",
        "stream_blocks",
    )
    base: Any
    header: Any
    free: Any
    kind: Any
    refs: Any
    populated_blocks: int
    stream_blocks: int
    helper_bits: int
    helpers_max: int
    fd: int


class WorkCount:
    """What an operation did, counted (see WorkCounts in types.proto)."""

    __slots__ = (
        "entries_erased",
        "gap_updates",
        "levels_climbed",
        "nodes_allocated",
        "records_copied",
        "slots_written",
        "splits",
    )

    def __init__(self) -> None:
        for name in self.__slots__:
            setattr(self, name, 0)


class Mas:
    """A maple state: a cursor in one tree, and what a store through it needs.

    depth is the number of levels with a position (0: none; height: at an entry);
    [index, last] the range of the entry it stands at. `stamp` 0 makes it read-only.
    """

    def __init__(self) -> None:
        self.task: Any = None
        self.mem: Any = None
        self.stamp = self.root = self.height = self.depth = 0
        self.bulk = self.deferred_counts = self.keep_records = 0
        self.index = self.last = 0
        self.node = [0] * HEIGHT_MAX
        self.offset = [0] * HEIGHT_MAX
        self.min = [0] * HEIGHT_MAX
        self.max = [0] * HEIGHT_MAX
        self.reserve = self.reserve_count = 0
        self.piece_count = 0
        self.piece_last = [0] * PIECES_MAX
        self.piece_record = [0] * PIECES_MAX
        self.piece_special = [0] * PIECES_MAX


class Copying:
    """Where the next copies of one part of an extent go (copying.py)."""

    __slots__ = ("ahead", "inner", "leaf", "mem", "record", "stamp", "stream")


class Pages:
    """A transaction's view of one page tree (pages.py); `value` is what the last look found."""

    __slots__ = ("levels", "mem", "pages", "root", "stamp", "tables", "task", "value")

    def __init__(self) -> None:
        for name in self.__slots__:
            setattr(self, name, 0)


class MapArgs:
    """Arguments of one mmap(2), in bytes; file is an interned one, 0 for none."""

    __slots__ = ("addr", "file", "flags", "length", "offset", "prot")


class RemapArgs:
    """Arguments of one mremap(2), in bytes; delta is by how much they change the length."""

    __slots__ = ("addr", "delta", "flags", "new_addr", "new_length", "old_length")


class Fault:
    """Where a fork is to fail, and how it recovers (dup.py, undo.py); site 0: nowhere."""

    __slots__ = ("ordinal", "recovery", "site")

    def __init__(self) -> None:
        self.ordinal = self.site = self.recovery = 0


class Failure:
    """Where a fork failed; VMAs duplicated by then, VMAs undone, and what the undo took."""

    __slots__ = ("duplicated", "injected", "ordinal", "site", "undo_ns", "undone")

    def __init__(self) -> None:
        for name in self.__slots__:
            setattr(self, name, 0)


class Task:
    """One core call: the lane it owns, its cursors, its scratch and its clock stamps."""

    def __init__(self) -> None:
        self.mem: Any = None
        self.lane: Any = None
        self.lane_index = 0
        self.mas = [Mas(), Mas(), Mas()]
        self.work = WorkCount()
        self.retired_count = 0
        self.retired_max = 0
        self.retired: list[int] = []
        self.pages = [Pages(), Pages()]
        self.copying = Copying()
        self.big_count = 0
        self.big_last = [0] * SPLIT_MAX
        self.big_slot = [0] * SPLIT_MAX
        self.big_special = [0] * SPLIT_MAX
        self.big_gap = [0] * SPLIT_MAX
        self.grown_count = 0
        self.grown_last = [0] * 16
        self.grown_node = [0] * 16
        self.grown_gap = [0] * 16
        self.next = State()
        self.source = State()
        self.words = [0] * CALL_WORDS
        self.map = MapArgs()
        self.remap = RemapArgs()
        self.charged = self.charged_before = self.pages_ns = 0
        self.fault = Fault()
        self.failure = Failure()
        self.began_ns = self.locked_ns = self.prepared_ns = 0
        self.filled_ns = self.sealed_ns = self.done_ns = 0
        self.deadline_ns = self.exit_ns = 0
        self.found = Record()
        self.slot_index = 0
        self.field = self.limit = self.error = self.value = 0
        self.request_high = self.request_low = 0
        self.label_bytes = self.tree_nodes = self.expires_ns = 0
        self.extent = self.extent_units = self.tree = self.strategy = 0
        self.labels = bytearray(LABEL_BYTES)
        self.hidden = self.retired_before = self.emptied = 0
        self.processes = self.alone = 0


class BatchWords:
    """A batch of operations, as it is read without the GIL, and what came of it (apply.py)."""

    def __init__(self) -> None:
        self.kinds = b""
        self.column: list[Any] = [b""] * CALL_WORDS
        self.stride = [0] * CALL_WORDS
        self.files: Any = ()
        self.results: Any = ()
        self.failed: Any = ()
        self.count = self.file_count = self.skip = 0
        self.performed = self.failures = self.is_full = 0


LeafP = Leaf
InnerP = Inner
RecordP = Record
ExtentP = Extent
CopyingP = Copying
PartP = Part
JobP = Job
TableP = Table
StripP = Strip
SharedObjectP = SharedObject
DomainP = Domain
PagesP = Pages
StateP = State
SlotP = Slot
LaneP = Lane
FileEntryP = FileEntry
DedupeEntryP = DedupeEntry
HeaderP = Header
PieceP = Piece
MemP = Mem
WorkCountP = WorkCount
MasP = Mas
TaskP = Task
MapArgsP = MapArgs
RemapArgsP = RemapArgs
FaultP = Fault
BatchP = BatchWords
FailureP = Failure


def _heap_index(mem: Any, index: int) -> int:
    block = index >> 6
    check(mem.header.first_block <= block < mem.header.claimed_blocks)
    return index * UNIT_BYTES


def leaf_at(mem: Any, node: int) -> Any:
    check(node % NODE_UNITS == 0)
    return Leaf.from_buffer(mem.base, _heap_index(mem, node))


def inner_at(mem: Any, node: int) -> Any:
    check(node % NODE_UNITS == 0)
    return Inner.from_buffer(mem.base, _heap_index(mem, node))


def record_at(mem: Any, record: int) -> Any:
    return Record.from_buffer(mem.base, _heap_index(mem, record))


def table_at(mem: Any, table: int) -> Any:
    check(table % NODE_UNITS == 0)
    return Table.from_buffer(mem.base, _heap_index(mem, table))


def strip_at(mem: Any, strip: int) -> Any:
    check(strip % NODE_UNITS == 0)
    return Strip.from_buffer(mem.base, _heap_index(mem, strip))


def object_at(mem: Any, object: int) -> Any:
    check(object % NODE_UNITS == 0)
    return SharedObject.from_buffer(mem.base, _heap_index(mem, object))


def domain_at(mem: Any, domain: int) -> Any:
    return Domain.from_buffer(mem.base, _heap_index(mem, domain))


def extent_at(mem: Any, extent: int) -> Any:
    check(extent % BLOCK_UNITS == 0)
    return Extent.from_buffer(mem.base, _heap_index(mem, extent))


def piece_at(mem: Any, piece: int) -> Any:
    check(piece % NODE_UNITS == 0)
    return Piece.from_buffer(mem.base, _heap_index(mem, piece))


def slot_at(mem: Any, slot: int) -> Any:
    check(slot < mem.header.slot_max)
    return Slot.from_buffer(mem.base, mem.header.table_at + slot * SLOT_STRIDE)


def lane_at(mem: Any, lane: int) -> Any:
    check(lane < mem.header.lane_max)
    return Lane.from_buffer(mem.base, mem.header.lanes_at + lane * LANE_STRIDE)


def dedupe_at(mem: Any, entry: int) -> Any:
    check(entry < mem.header.dedupe_max)
    return DedupeEntry.from_buffer(mem.base, mem.header.dedupe_at + entry * DEDUPE_STRIDE)


def file_entry_at(mem: Any, file: int) -> Any:
    check(1 <= file <= mem.header.file_max)
    return FileEntry.from_buffer(mem.base, mem.header.files_at + (file - 1) * FILE_STRIDE)


def job_at(mem: Any, job: int) -> Any:
    check(job < JOBS)
    return Job.from_buffer(mem.base, mem.header.jobs_at + job * JOB_STRIDE)


def job_part(job: Any, part: int) -> Any:
    return job.part[part]


def job_source(job: Any) -> Any:
    return job.source


def state_at(slot: Any, copy: int) -> Any:
    return slot.state[copy]


def task_mas(task: Any, which: int) -> Any:
    return task.mas[which]


def task_work(task: Any) -> Any:
    return task.work


def task_found(task: Any) -> Any:
    return task.found


def task_map(task: Any) -> Any:
    return task.map


def task_pages(task: Any, which: int) -> Any:
    return task.pages[which]


def task_copying(task: Any) -> Any:
    return task.copying


def task_remap(task: Any) -> Any:
    return task.remap


def task_fault(task: Any) -> Any:
    return task.fault


def task_failure(task: Any) -> Any:
    return task.failure


def task_source(task: Any) -> Any:
    return task.source


def task_next(task: Any) -> Any:
    return task.next
