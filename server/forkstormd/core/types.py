"""The values that cross the border between the core and Python: all plain and frozen.

What every call answers with is a named tuple, which is made in a third of the time.
"""

from array import array
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

TASK_SIZE = 0x7FFF_FFFF_F000
MMAP_BASE = 0x7FFF_F7FF_F000
MMAP_MIN_ADDR = 4096
MAX_MAP_COUNT = 65_530
LINUX_VERSION = 6018
STACK_LIMIT_BYTES = 8 << 20


class Strategy(IntEnum):
    """How a fork duplicates the tree; the numbers are those of the API."""

    BULK_INSERT = 1
    TREE_DUP = 2
    EXTENT_COPY = 3
    SHARE = 4


class FaultSite(IntEnum):
    """The step of a fork that fails; the numbers are those of the API."""

    TREE_NODE = 1
    VMA_RECORD = 2
    POLICY = 3
    ANON_VMA = 4
    COMMIT_LIMIT = 5
    PAGE_TABLE = 6
    DONTCOPY_ERASE = 7
    FATAL_SIGNAL = 8


class Recovery(IntEnum):
    """How a fork that failed is undone; the numbers are those of the API.

    TREE_END stops at the first VMA that was not duplicated; MARKER puts a mark in its place,
    where exit stops; IMMEDIATE tears down the range before it within the fork.
    """

    TREE_END = 1
    MARKER = 2
    IMMEDIATE = 3


class ForkFault(NamedTuple):
    """A fault to put into a fork, and how it is undone.

    ordinal is the index of the parent's VMA, ascending from 0, DONTCOPY ones counted. A fault
    whose step the fork never takes at that VMA does not fire.
    """

    site: FaultSite
    ordinal: int
    recovery: Recovery


class ForkFailure(NamedTuple):
    """Where a fork failed, what it had done by then, and the undoing of it in nanoseconds."""

    site: FaultSite
    ordinal: int
    duplicated: int
    undone: int
    undo_ns: int


@dataclass(frozen=True, slots=True)
class SpaceParams:
    """What an address space starts with: addresses in bytes, Linux's defaults.

    privileged: CAP_SYS_RAWIO, to map below mmap_min_addr. thp_alignment: mappings that can have
    huge pages are placed at 2 MiB boundaries. overcommit: 0, or 2 for a strict commit limit,
    commit_limit_pages (0: the machine's RAM and swap). linux_version: major * 1000 + minor,
    where versions differ. stack_limit_bytes: RLIMIT_STACK. lsm_min_addr: as mmap_min_addr for
    hints, placement and stack growth only, CONFIG_LSM_MMAP_MIN_ADDR (64 KiB in most kernels).
    protection_keys: the processor has them (pku), so that PROT_EXEC alone cannot be read.
    """

    task_size: int = TASK_SIZE
    mmap_min_addr: int = MMAP_MIN_ADDR
    mmap_base: int = MMAP_BASE
    start_brk: int = 0
    max_map_count: int = MAX_MAP_COUNT
    privileged: bool = False
    thp_alignment: bool = True
    overcommit: int = 0
    commit_limit_pages: int = 0
    linux_version: int = LINUX_VERSION
    stack_limit_bytes: int = STACK_LIMIT_BYTES
    lsm_min_addr: int = 0
    protection_keys: bool = False


@dataclass(frozen=True, slots=True)
class VmaSpec:
    """A VMA to begin with, [start, end); file is an id of intern_file, 0 for none."""

    start: int
    end: int
    vm_flags: int
    offset_bytes: int = 0
    file: int = 0


@dataclass(frozen=True, slots=True)
class VmaInfo:
    """A VMA as it stands; name_kind: 0 its file or nothing, 1 [heap], 2 [stack]."""

    start: int
    end: int
    vm_flags: int
    offset_bytes: int
    file: int
    name_kind: int


@dataclass(frozen=True, slots=True)
class FileInfo:
    """An interned file. access: bit 0 readable, bit 1 writable.

    thp_aligned: its file system asks for 2 MiB placement, as ext4 does and tmpfs does not.
    """

    path: bytes
    dev_major: int
    dev_minor: int
    inode: int
    open_id: int
    access: int
    thp_aligned: bool = True


@dataclass(frozen=True, slots=True)
class SpaceInfo:
    """A space at one instant. Sizes of *_vm and charged_pages in pages of 4 KiB.

    committed_pages: charged by all spaces of its commit domain, 0 without a strict limit.
    """

    mm_id: int
    labels: bytes
    vma_count: int
    version: int
    params: SpaceParams
    brk: int
    start_stack: int
    total_vm: int
    data_vm: int
    exec_vm: int
    stack_vm: int
    charged_pages: int
    node_count: int
    tree_height: int
    expires_ns: int
    page_table_count: int = 0
    touched_page_count: int = 0
    committed_pages: int = 0


class OpResult(NamedTuple):
    """value: an address, an id or a count, by operation. Times in nanoseconds."""

    value: int
    core_ns: int
    lock_wait_ns: int


class ApplyResult(NamedTuple):
    """What came of a batch. Times in nanoseconds.

    performed counts the failed operations too; results has a number of 64 bits for each, what it
    returned or -errno; failed are the indexes of those that failed. limit: "arena" when that ended
    the batch, else "".
    """

    performed: int
    results: bytes
    failed: "array[int]"
    limit: str
    core_ns: int
    lock_wait_ns: int


class Work(NamedTuple):
    """What a fork did, counted (see WorkCounts in types.proto)."""

    nodes_allocated: int
    slots_written: int
    levels_climbed: int
    gap_updates: int
    splits: int
    records_copied: int
    entries_erased: int


class ForkResult(NamedTuple):
    """A published child. seal_ns and pages_ns (copying page tables) are not part of core_ns;
    phases but pages_ns are 0 unless asked for. strategy: the one that was used in the end;
    processes: how many have worked on it (jobs.py)."""

    child: int
    vma_count: int
    core_ns: int
    lock_wait_ns: int
    work: Work
    prepare_ns: int
    entries_ns: int
    seal_ns: int
    pages_ns: int = 0
    strategy: int = 0
    processes: int = 1


@dataclass(frozen=True, slots=True)
class Audit:
    """Everything alive, from the allocator's side and from the spaces' side.

    page_table_count: allocated, in pages of 4 KiB. object_count: shared objects alive.
    extent_blocks: blocks of 4 KiB in extents; nodes and records in them count as far as they are
    reachable.
    """

    space_count: int
    vma_count: int
    allocated_nodes: int
    allocated_records: int
    reachable_nodes: int
    reachable_records: int
    file_count: int
    charged_pages: int
    quiescent: bool
    claimed_bytes: int
    capacity_bytes: int
    page_table_count: int = 0
    reachable_page_tables: int = 0
    object_count: int = 0
    reachable_objects: int = 0
    extent_blocks: int = 0
    reachable_extent_blocks: int = 0
