"""The values that cross the border between the core and Python: all plain and frozen.

What every call answers with is a named tuple, which is made in a third of the time.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

TASK_SIZE = 0x7FFF_FFFF_F000
MMAP_BASE = 0x7FFF_F7FF_F000
MMAP_MIN_ADDR = 4096
MAX_MAP_COUNT = 65_530


class Strategy(IntEnum):
    """How a fork duplicates the tree; the numbers are those of the API."""

    BULK_INSERT = 1
    TREE_DUP = 2


@dataclass(frozen=True, slots=True)
class SpaceParams:
    """What an address space starts with: addresses in bytes, Linux's defaults."""

    task_size: int = TASK_SIZE
    mmap_min_addr: int = MMAP_MIN_ADDR
    mmap_base: int = MMAP_BASE
    start_brk: int = 0
    max_map_count: int = MAX_MAP_COUNT


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
    """An interned file. access: bit 0 readable, bit 1 writable."""

    path: bytes
    dev_major: int
    dev_minor: int
    inode: int
    open_id: int
    access: int


@dataclass(frozen=True, slots=True)
class SpaceInfo:
    """A space at one instant. Sizes of *_vm and charged_pages in pages of 4 KiB."""

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


class OpResult(NamedTuple):
    """value: an address, an id or a count, by operation. Times in nanoseconds."""

    value: int
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
    """A published child. seal_ns is not part of core_ns; phases are 0 unless asked for."""

    child: int
    vma_count: int
    core_ns: int
    lock_wait_ns: int
    work: Work
    prepare_ns: int
    entries_ns: int
    seal_ns: int


@dataclass(frozen=True, slots=True)
class Audit:
    """Everything alive, from the allocator's side and from the spaces' side."""

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
