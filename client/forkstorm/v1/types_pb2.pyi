from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ForkStrategy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FORK_STRATEGY_UNSPECIFIED: _ClassVar[ForkStrategy]
    FORK_STRATEGY_BULK_INSERT: _ClassVar[ForkStrategy]
    FORK_STRATEGY_TREE_DUP: _ClassVar[ForkStrategy]
    FORK_STRATEGY_EXTENT_COPY: _ClassVar[ForkStrategy]
    FORK_STRATEGY_SHARE: _ClassVar[ForkStrategy]

class ForkFaultSite(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FORK_FAULT_SITE_UNSPECIFIED: _ClassVar[ForkFaultSite]
    FORK_FAULT_SITE_TREE_NODE: _ClassVar[ForkFaultSite]
    FORK_FAULT_SITE_VMA_RECORD: _ClassVar[ForkFaultSite]
    FORK_FAULT_SITE_POLICY: _ClassVar[ForkFaultSite]
    FORK_FAULT_SITE_ANON_VMA: _ClassVar[ForkFaultSite]
    FORK_FAULT_SITE_COMMIT_LIMIT: _ClassVar[ForkFaultSite]
    FORK_FAULT_SITE_PAGE_TABLE: _ClassVar[ForkFaultSite]
    FORK_FAULT_SITE_DONTCOPY_ERASE: _ClassVar[ForkFaultSite]
    FORK_FAULT_SITE_FATAL_SIGNAL: _ClassVar[ForkFaultSite]

class ForkRecovery(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FORK_RECOVERY_UNSPECIFIED: _ClassVar[ForkRecovery]
    FORK_RECOVERY_TREE_END: _ClassVar[ForkRecovery]
    FORK_RECOVERY_MARKER: _ClassVar[ForkRecovery]
    FORK_RECOVERY_IMMEDIATE: _ClassVar[ForkRecovery]

class FileAccess(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FILE_ACCESS_UNSPECIFIED: _ClassVar[FileAccess]
    FILE_ACCESS_READ_WRITE: _ClassVar[FileAccess]
    FILE_ACCESS_READ_ONLY: _ClassVar[FileAccess]
    FILE_ACCESS_WRITE_ONLY: _ClassVar[FileAccess]

class TouchAccess(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TOUCH_ACCESS_UNSPECIFIED: _ClassVar[TouchAccess]
    TOUCH_ACCESS_READ: _ClassVar[TouchAccess]
    TOUCH_ACCESS_WRITE: _ClassVar[TouchAccess]
FORK_STRATEGY_UNSPECIFIED: ForkStrategy
FORK_STRATEGY_BULK_INSERT: ForkStrategy
FORK_STRATEGY_TREE_DUP: ForkStrategy
FORK_STRATEGY_EXTENT_COPY: ForkStrategy
FORK_STRATEGY_SHARE: ForkStrategy
FORK_FAULT_SITE_UNSPECIFIED: ForkFaultSite
FORK_FAULT_SITE_TREE_NODE: ForkFaultSite
FORK_FAULT_SITE_VMA_RECORD: ForkFaultSite
FORK_FAULT_SITE_POLICY: ForkFaultSite
FORK_FAULT_SITE_ANON_VMA: ForkFaultSite
FORK_FAULT_SITE_COMMIT_LIMIT: ForkFaultSite
FORK_FAULT_SITE_PAGE_TABLE: ForkFaultSite
FORK_FAULT_SITE_DONTCOPY_ERASE: ForkFaultSite
FORK_FAULT_SITE_FATAL_SIGNAL: ForkFaultSite
FORK_RECOVERY_UNSPECIFIED: ForkRecovery
FORK_RECOVERY_TREE_END: ForkRecovery
FORK_RECOVERY_MARKER: ForkRecovery
FORK_RECOVERY_IMMEDIATE: ForkRecovery
FILE_ACCESS_UNSPECIFIED: FileAccess
FILE_ACCESS_READ_WRITE: FileAccess
FILE_ACCESS_READ_ONLY: FileAccess
FILE_ACCESS_WRITE_ONLY: FileAccess
TOUCH_ACCESS_UNSPECIFIED: TouchAccess
TOUCH_ACCESS_READ: TouchAccess
TOUCH_ACCESS_WRITE: TouchAccess

class ForkFault(_message.Message):
    __slots__ = ("site", "ordinal", "recovery")
    SITE_FIELD_NUMBER: _ClassVar[int]
    ORDINAL_FIELD_NUMBER: _ClassVar[int]
    RECOVERY_FIELD_NUMBER: _ClassVar[int]
    site: ForkFaultSite
    ordinal: int
    recovery: ForkRecovery
    def __init__(self, site: _Optional[_Union[ForkFaultSite, str]] = ..., ordinal: _Optional[int] = ..., recovery: _Optional[_Union[ForkRecovery, str]] = ...) -> None: ...

class File(_message.Message):
    __slots__ = ("path", "dev_major", "dev_minor", "inode", "open_id", "access", "thp_aligned")
    PATH_FIELD_NUMBER: _ClassVar[int]
    DEV_MAJOR_FIELD_NUMBER: _ClassVar[int]
    DEV_MINOR_FIELD_NUMBER: _ClassVar[int]
    INODE_FIELD_NUMBER: _ClassVar[int]
    OPEN_ID_FIELD_NUMBER: _ClassVar[int]
    ACCESS_FIELD_NUMBER: _ClassVar[int]
    THP_ALIGNED_FIELD_NUMBER: _ClassVar[int]
    path: bytes
    dev_major: int
    dev_minor: int
    inode: int
    open_id: int
    access: FileAccess
    thp_aligned: bool
    def __init__(self, path: _Optional[bytes] = ..., dev_major: _Optional[int] = ..., dev_minor: _Optional[int] = ..., inode: _Optional[int] = ..., open_id: _Optional[int] = ..., access: _Optional[_Union[FileAccess, str]] = ..., thp_aligned: bool = ...) -> None: ...

class Vma(_message.Message):
    __slots__ = ("start", "end", "vm_flags", "offset_bytes", "name", "dev_major", "dev_minor", "inode")
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    VM_FLAGS_FIELD_NUMBER: _ClassVar[int]
    OFFSET_BYTES_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    DEV_MAJOR_FIELD_NUMBER: _ClassVar[int]
    DEV_MINOR_FIELD_NUMBER: _ClassVar[int]
    INODE_FIELD_NUMBER: _ClassVar[int]
    start: int
    end: int
    vm_flags: int
    offset_bytes: int
    name: bytes
    dev_major: int
    dev_minor: int
    inode: int
    def __init__(self, start: _Optional[int] = ..., end: _Optional[int] = ..., vm_flags: _Optional[int] = ..., offset_bytes: _Optional[int] = ..., name: _Optional[bytes] = ..., dev_major: _Optional[int] = ..., dev_minor: _Optional[int] = ..., inode: _Optional[int] = ...) -> None: ...

class VmaName(_message.Message):
    __slots__ = ("index", "name", "dev_major", "dev_minor", "inode")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    DEV_MAJOR_FIELD_NUMBER: _ClassVar[int]
    DEV_MINOR_FIELD_NUMBER: _ClassVar[int]
    INODE_FIELD_NUMBER: _ClassVar[int]
    index: int
    name: bytes
    dev_major: int
    dev_minor: int
    inode: int
    def __init__(self, index: _Optional[int] = ..., name: _Optional[bytes] = ..., dev_major: _Optional[int] = ..., dev_minor: _Optional[int] = ..., inode: _Optional[int] = ...) -> None: ...

class VmaColumns(_message.Message):
    __slots__ = ("start", "end", "vm_flags", "offset_bytes", "name_index")
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    VM_FLAGS_FIELD_NUMBER: _ClassVar[int]
    OFFSET_BYTES_FIELD_NUMBER: _ClassVar[int]
    NAME_INDEX_FIELD_NUMBER: _ClassVar[int]
    start: _containers.RepeatedScalarFieldContainer[int]
    end: _containers.RepeatedScalarFieldContainer[int]
    vm_flags: _containers.RepeatedScalarFieldContainer[int]
    offset_bytes: _containers.RepeatedScalarFieldContainer[int]
    name_index: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, start: _Optional[_Iterable[int]] = ..., end: _Optional[_Iterable[int]] = ..., vm_flags: _Optional[_Iterable[int]] = ..., offset_bytes: _Optional[_Iterable[int]] = ..., name_index: _Optional[_Iterable[int]] = ...) -> None: ...

class Timing(_message.Message):
    __slots__ = ("core_ns", "lock_wait_ns", "server_ns", "worker")
    CORE_NS_FIELD_NUMBER: _ClassVar[int]
    LOCK_WAIT_NS_FIELD_NUMBER: _ClassVar[int]
    SERVER_NS_FIELD_NUMBER: _ClassVar[int]
    WORKER_FIELD_NUMBER: _ClassVar[int]
    core_ns: int
    lock_wait_ns: int
    server_ns: int
    worker: int
    def __init__(self, core_ns: _Optional[int] = ..., lock_wait_ns: _Optional[int] = ..., server_ns: _Optional[int] = ..., worker: _Optional[int] = ...) -> None: ...

class ForkPhases(_message.Message):
    __slots__ = ("prepare_ns", "entries_ns", "seal_ns", "pages_ns")
    PREPARE_NS_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_NS_FIELD_NUMBER: _ClassVar[int]
    SEAL_NS_FIELD_NUMBER: _ClassVar[int]
    PAGES_NS_FIELD_NUMBER: _ClassVar[int]
    prepare_ns: int
    entries_ns: int
    seal_ns: int
    pages_ns: int
    def __init__(self, prepare_ns: _Optional[int] = ..., entries_ns: _Optional[int] = ..., seal_ns: _Optional[int] = ..., pages_ns: _Optional[int] = ...) -> None: ...

class WorkCounts(_message.Message):
    __slots__ = ("nodes_allocated", "slots_written", "levels_climbed", "gap_updates", "splits", "records_copied", "entries_erased")
    NODES_ALLOCATED_FIELD_NUMBER: _ClassVar[int]
    SLOTS_WRITTEN_FIELD_NUMBER: _ClassVar[int]
    LEVELS_CLIMBED_FIELD_NUMBER: _ClassVar[int]
    GAP_UPDATES_FIELD_NUMBER: _ClassVar[int]
    SPLITS_FIELD_NUMBER: _ClassVar[int]
    RECORDS_COPIED_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_ERASED_FIELD_NUMBER: _ClassVar[int]
    nodes_allocated: int
    slots_written: int
    levels_climbed: int
    gap_updates: int
    splits: int
    records_copied: int
    entries_erased: int
    def __init__(self, nodes_allocated: _Optional[int] = ..., slots_written: _Optional[int] = ..., levels_climbed: _Optional[int] = ..., gap_updates: _Optional[int] = ..., splits: _Optional[int] = ..., records_copied: _Optional[int] = ..., entries_erased: _Optional[int] = ...) -> None: ...

class SpaceParameters(_message.Message):
    __slots__ = ("task_size", "mmap_min_addr", "mmap_base", "start_brk", "max_map_count", "privileged", "thp_alignment", "overcommit", "commit_limit_pages", "linux_version", "stack_limit_bytes", "lsm_min_addr", "protection_keys")
    TASK_SIZE_FIELD_NUMBER: _ClassVar[int]
    MMAP_MIN_ADDR_FIELD_NUMBER: _ClassVar[int]
    MMAP_BASE_FIELD_NUMBER: _ClassVar[int]
    START_BRK_FIELD_NUMBER: _ClassVar[int]
    MAX_MAP_COUNT_FIELD_NUMBER: _ClassVar[int]
    PRIVILEGED_FIELD_NUMBER: _ClassVar[int]
    THP_ALIGNMENT_FIELD_NUMBER: _ClassVar[int]
    OVERCOMMIT_FIELD_NUMBER: _ClassVar[int]
    COMMIT_LIMIT_PAGES_FIELD_NUMBER: _ClassVar[int]
    LINUX_VERSION_FIELD_NUMBER: _ClassVar[int]
    STACK_LIMIT_BYTES_FIELD_NUMBER: _ClassVar[int]
    LSM_MIN_ADDR_FIELD_NUMBER: _ClassVar[int]
    PROTECTION_KEYS_FIELD_NUMBER: _ClassVar[int]
    task_size: int
    mmap_min_addr: int
    mmap_base: int
    start_brk: int
    max_map_count: int
    privileged: bool
    thp_alignment: bool
    overcommit: int
    commit_limit_pages: int
    linux_version: int
    stack_limit_bytes: int
    lsm_min_addr: int
    protection_keys: bool
    def __init__(self, task_size: _Optional[int] = ..., mmap_min_addr: _Optional[int] = ..., mmap_base: _Optional[int] = ..., start_brk: _Optional[int] = ..., max_map_count: _Optional[int] = ..., privileged: bool = ..., thp_alignment: bool = ..., overcommit: _Optional[int] = ..., commit_limit_pages: _Optional[int] = ..., linux_version: _Optional[int] = ..., stack_limit_bytes: _Optional[int] = ..., lsm_min_addr: _Optional[int] = ..., protection_keys: bool = ...) -> None: ...

class AddressSpace(_message.Message):
    __slots__ = ("mm_id", "labels", "vma_count", "version", "parameters", "brk", "total_vm_pages", "data_vm_pages", "exec_vm_pages", "stack_vm_pages", "charged_pages", "node_count", "tree_height", "ttl_ns", "page_table_count", "touched_page_count", "committed_pages")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    MM_ID_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    VMA_COUNT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    BRK_FIELD_NUMBER: _ClassVar[int]
    TOTAL_VM_PAGES_FIELD_NUMBER: _ClassVar[int]
    DATA_VM_PAGES_FIELD_NUMBER: _ClassVar[int]
    EXEC_VM_PAGES_FIELD_NUMBER: _ClassVar[int]
    STACK_VM_PAGES_FIELD_NUMBER: _ClassVar[int]
    CHARGED_PAGES_FIELD_NUMBER: _ClassVar[int]
    NODE_COUNT_FIELD_NUMBER: _ClassVar[int]
    TREE_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    TTL_NS_FIELD_NUMBER: _ClassVar[int]
    PAGE_TABLE_COUNT_FIELD_NUMBER: _ClassVar[int]
    TOUCHED_PAGE_COUNT_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_PAGES_FIELD_NUMBER: _ClassVar[int]
    mm_id: int
    labels: _containers.ScalarMap[str, str]
    vma_count: int
    version: int
    parameters: SpaceParameters
    brk: int
    total_vm_pages: int
    data_vm_pages: int
    exec_vm_pages: int
    stack_vm_pages: int
    charged_pages: int
    node_count: int
    tree_height: int
    ttl_ns: int
    page_table_count: int
    touched_page_count: int
    committed_pages: int
    def __init__(self, mm_id: _Optional[int] = ..., labels: _Optional[_Mapping[str, str]] = ..., vma_count: _Optional[int] = ..., version: _Optional[int] = ..., parameters: _Optional[_Union[SpaceParameters, _Mapping]] = ..., brk: _Optional[int] = ..., total_vm_pages: _Optional[int] = ..., data_vm_pages: _Optional[int] = ..., exec_vm_pages: _Optional[int] = ..., stack_vm_pages: _Optional[int] = ..., charged_pages: _Optional[int] = ..., node_count: _Optional[int] = ..., tree_height: _Optional[int] = ..., ttl_ns: _Optional[int] = ..., page_table_count: _Optional[int] = ..., touched_page_count: _Optional[int] = ..., committed_pages: _Optional[int] = ...) -> None: ...
