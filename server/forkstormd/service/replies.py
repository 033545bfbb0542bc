"""What responses say: conversions from the core's values to messages."""

from __future__ import annotations

from time import monotonic_ns

from forkstorm.v1 import types_pb2

from forkstormd.core.mm import MemoryManager
from forkstormd.core.types import (
    ApplyResult,
    FileInfo,
    ForkResult,
    OpResult,
    SpaceInfo,
    VmaInfo,
    Work,
)
from forkstormd.service.requests import decode_labels

HEAP, STACK = b"[heap]", b"[stack]"
_NAME_BY_KIND = {1: HEAP, 2: STACK}


def fill_timing(message: types_pb2.Timing, result: OpResult | ForkResult | ApplyResult) -> None:
    """The core's part of a call's timing; the rest is added when the call ends."""
    message.core_ns = result.core_ns
    message.lock_wait_ns = result.lock_wait_ns


def fill_work(message: types_pb2.WorkCounts, work: Work) -> None:
    """The counted work of a fork. Fields are set one by one, in half of a constructor's time."""
    message.nodes_allocated = work.nodes_allocated
    message.slots_written = work.slots_written
    message.levels_climbed = work.levels_climbed
    message.gap_updates = work.gap_updates
    message.splits = work.splits
    message.records_copied = work.records_copied
    message.entries_erased = work.entries_erased


def fill_address_space(message: types_pb2.AddressSpace, info: SpaceInfo) -> None:
    """A space as it stands; its ttl_ns counts from now."""
    message.mm_id = info.mm_id
    message.labels.update(decode_labels(info.labels))
    message.vma_count = info.vma_count
    message.version = info.version
    parameters = message.parameters
    parameters.task_size = info.params.task_size
    parameters.mmap_min_addr = info.params.mmap_min_addr
    parameters.mmap_base = info.params.mmap_base
    parameters.start_brk = info.params.start_brk
    parameters.max_map_count = info.params.max_map_count
    parameters.privileged = info.params.privileged
    parameters.thp_alignment = info.params.thp_alignment
    parameters.overcommit = info.params.overcommit
    parameters.commit_limit_pages = info.params.commit_limit_pages
    parameters.linux_version = info.params.linux_version
    parameters.stack_limit_bytes = info.params.stack_limit_bytes
    parameters.lsm_min_addr = info.params.lsm_min_addr
    parameters.protection_keys = info.params.protection_keys
    message.brk = info.brk
    message.total_vm_pages = info.total_vm
    message.data_vm_pages = info.data_vm
    message.exec_vm_pages = info.exec_vm
    message.stack_vm_pages = info.stack_vm
    message.charged_pages = info.charged_pages
    message.node_count = info.node_count
    message.tree_height = info.tree_height
    message.page_table_count = info.page_table_count
    message.touched_page_count = info.touched_page_count
    message.committed_pages = info.committed_pages
    if info.expires_ns:
        # At least 1: a space whose time is up lives until the supervisor's next look.
        message.ttl_ns = max(info.expires_ns - monotonic_ns(), 1)


def fill_vma(message: types_pb2.Vma, mm: MemoryManager, info: VmaInfo) -> None:
    """One VMA with the name that /proc/PID/maps shows."""
    message.start = info.start
    message.end = info.end
    message.vm_flags = info.vm_flags
    message.offset_bytes = info.offset_bytes
    if info.file:
        file = mm.file_info(info.file)
        message.name = file.path
        message.dev_major = file.dev_major
        message.dev_minor = file.dev_minor
        message.inode = file.inode
    else:
        message.name = _NAME_BY_KIND.get(info.name_kind, b"")


def vma_name(index: int, file: FileInfo) -> types_pb2.VmaName:
    """A file as a stream's name number `index`."""
    return types_pb2.VmaName(
        index=index,
        name=file.path,
        dev_major=file.dev_major,
        dev_minor=file.dev_minor,
        inode=file.inode,
    )
