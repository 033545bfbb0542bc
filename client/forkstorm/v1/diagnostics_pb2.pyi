from forkstorm.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AuditRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class AuditResponse(_message.Message):
    __slots__ = ("space_count", "vma_count", "allocated_node_count", "allocated_record_count", "reachable_node_count", "reachable_record_count", "file_count", "charged_pages", "quiescent", "arena_claimed_bytes", "arena_capacity_bytes", "page_table_count", "reachable_page_table_count", "object_count", "reachable_object_count", "extent_block_count", "reachable_extent_block_count")
    SPACE_COUNT_FIELD_NUMBER: _ClassVar[int]
    VMA_COUNT_FIELD_NUMBER: _ClassVar[int]
    ALLOCATED_NODE_COUNT_FIELD_NUMBER: _ClassVar[int]
    ALLOCATED_RECORD_COUNT_FIELD_NUMBER: _ClassVar[int]
    REACHABLE_NODE_COUNT_FIELD_NUMBER: _ClassVar[int]
    REACHABLE_RECORD_COUNT_FIELD_NUMBER: _ClassVar[int]
    FILE_COUNT_FIELD_NUMBER: _ClassVar[int]
    CHARGED_PAGES_FIELD_NUMBER: _ClassVar[int]
    QUIESCENT_FIELD_NUMBER: _ClassVar[int]
    ARENA_CLAIMED_BYTES_FIELD_NUMBER: _ClassVar[int]
    ARENA_CAPACITY_BYTES_FIELD_NUMBER: _ClassVar[int]
    PAGE_TABLE_COUNT_FIELD_NUMBER: _ClassVar[int]
    REACHABLE_PAGE_TABLE_COUNT_FIELD_NUMBER: _ClassVar[int]
    OBJECT_COUNT_FIELD_NUMBER: _ClassVar[int]
    REACHABLE_OBJECT_COUNT_FIELD_NUMBER: _ClassVar[int]
    EXTENT_BLOCK_COUNT_FIELD_NUMBER: _ClassVar[int]
    REACHABLE_EXTENT_BLOCK_COUNT_FIELD_NUMBER: _ClassVar[int]
    space_count: int
    vma_count: int
    allocated_node_count: int
    allocated_record_count: int
    reachable_node_count: int
    reachable_record_count: int
    file_count: int
    charged_pages: int
    quiescent: bool
    arena_claimed_bytes: int
    arena_capacity_bytes: int
    page_table_count: int
    reachable_page_table_count: int
    object_count: int
    reachable_object_count: int
    extent_block_count: int
    reachable_extent_block_count: int
    def __init__(self, space_count: _Optional[int] = ..., vma_count: _Optional[int] = ..., allocated_node_count: _Optional[int] = ..., allocated_record_count: _Optional[int] = ..., reachable_node_count: _Optional[int] = ..., reachable_record_count: _Optional[int] = ..., file_count: _Optional[int] = ..., charged_pages: _Optional[int] = ..., quiescent: bool = ..., arena_claimed_bytes: _Optional[int] = ..., arena_capacity_bytes: _Optional[int] = ..., page_table_count: _Optional[int] = ..., reachable_page_table_count: _Optional[int] = ..., object_count: _Optional[int] = ..., reachable_object_count: _Optional[int] = ..., extent_block_count: _Optional[int] = ..., reachable_extent_block_count: _Optional[int] = ...) -> None: ...

class VerifyRequest(_message.Message):
    __slots__ = ("mm_id",)
    MM_ID_FIELD_NUMBER: _ClassVar[int]
    mm_id: int
    def __init__(self, mm_id: _Optional[int] = ...) -> None: ...

class VerifyResponse(_message.Message):
    __slots__ = ("verified_space_count", "violations")
    VERIFIED_SPACE_COUNT_FIELD_NUMBER: _ClassVar[int]
    VIOLATIONS_FIELD_NUMBER: _ClassVar[int]
    verified_space_count: int
    violations: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, verified_space_count: _Optional[int] = ..., violations: _Optional[_Iterable[str]] = ...) -> None: ...

class GetServerRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetServerResponse(_message.Message):
    __slots__ = ("version", "instance_id", "workers", "worker", "default_strategy", "strategies", "limits", "host", "core_build", "clock_overhead_ns", "parallel_forks")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    WORKERS_FIELD_NUMBER: _ClassVar[int]
    WORKER_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_STRATEGY_FIELD_NUMBER: _ClassVar[int]
    STRATEGIES_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    CORE_BUILD_FIELD_NUMBER: _ClassVar[int]
    CLOCK_OVERHEAD_NS_FIELD_NUMBER: _ClassVar[int]
    PARALLEL_FORKS_FIELD_NUMBER: _ClassVar[int]
    version: str
    instance_id: str
    workers: _containers.RepeatedCompositeFieldContainer[Worker]
    worker: int
    default_strategy: _types_pb2.ForkStrategy
    strategies: _containers.RepeatedScalarFieldContainer[_types_pb2.ForkStrategy]
    limits: Limits
    host: Host
    core_build: str
    clock_overhead_ns: float
    parallel_forks: ParallelForks
    def __init__(self, version: _Optional[str] = ..., instance_id: _Optional[str] = ..., workers: _Optional[_Iterable[_Union[Worker, _Mapping]]] = ..., worker: _Optional[int] = ..., default_strategy: _Optional[_Union[_types_pb2.ForkStrategy, str]] = ..., strategies: _Optional[_Iterable[_Union[_types_pb2.ForkStrategy, str]]] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ..., host: _Optional[_Union[Host, _Mapping]] = ..., core_build: _Optional[str] = ..., clock_overhead_ns: _Optional[float] = ..., parallel_forks: _Optional[_Union[ParallelForks, _Mapping]] = ...) -> None: ...

class ParallelForks(_message.Message):
    __slots__ = ("tree_dup_vmas", "extent_copy_vmas")
    TREE_DUP_VMAS_FIELD_NUMBER: _ClassVar[int]
    EXTENT_COPY_VMAS_FIELD_NUMBER: _ClassVar[int]
    tree_dup_vmas: int
    extent_copy_vmas: int
    def __init__(self, tree_dup_vmas: _Optional[int] = ..., extent_copy_vmas: _Optional[int] = ...) -> None: ...

class Worker(_message.Message):
    __slots__ = ("index", "endpoint", "pid", "rss_bytes", "restart_count", "cpu_seconds", "pinned_cpu")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    RSS_BYTES_FIELD_NUMBER: _ClassVar[int]
    RESTART_COUNT_FIELD_NUMBER: _ClassVar[int]
    CPU_SECONDS_FIELD_NUMBER: _ClassVar[int]
    PINNED_CPU_FIELD_NUMBER: _ClassVar[int]
    index: int
    endpoint: str
    pid: int
    rss_bytes: int
    restart_count: int
    cpu_seconds: float
    pinned_cpu: int
    def __init__(self, index: _Optional[int] = ..., endpoint: _Optional[str] = ..., pid: _Optional[int] = ..., rss_bytes: _Optional[int] = ..., restart_count: _Optional[int] = ..., cpu_seconds: _Optional[float] = ..., pinned_cpu: _Optional[int] = ...) -> None: ...

class Limits(_message.Message):
    __slots__ = ("arena_capacity_bytes", "max_spaces", "max_message_bytes", "max_repeat_forks", "max_label_bytes", "dedupe_window_requests", "threads_per_worker", "max_apply_operations")
    ARENA_CAPACITY_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_SPACES_FIELD_NUMBER: _ClassVar[int]
    MAX_MESSAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_REPEAT_FORKS_FIELD_NUMBER: _ClassVar[int]
    MAX_LABEL_BYTES_FIELD_NUMBER: _ClassVar[int]
    DEDUPE_WINDOW_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    THREADS_PER_WORKER_FIELD_NUMBER: _ClassVar[int]
    MAX_APPLY_OPERATIONS_FIELD_NUMBER: _ClassVar[int]
    arena_capacity_bytes: int
    max_spaces: int
    max_message_bytes: int
    max_repeat_forks: int
    max_label_bytes: int
    dedupe_window_requests: int
    threads_per_worker: int
    max_apply_operations: int
    def __init__(self, arena_capacity_bytes: _Optional[int] = ..., max_spaces: _Optional[int] = ..., max_message_bytes: _Optional[int] = ..., max_repeat_forks: _Optional[int] = ..., max_label_bytes: _Optional[int] = ..., dedupe_window_requests: _Optional[int] = ..., threads_per_worker: _Optional[int] = ..., max_apply_operations: _Optional[int] = ...) -> None: ...

class Host(_message.Message):
    __slots__ = ("cpu_model", "cpu_count", "kernel", "python", "grpcio")
    CPU_MODEL_FIELD_NUMBER: _ClassVar[int]
    CPU_COUNT_FIELD_NUMBER: _ClassVar[int]
    KERNEL_FIELD_NUMBER: _ClassVar[int]
    PYTHON_FIELD_NUMBER: _ClassVar[int]
    GRPCIO_FIELD_NUMBER: _ClassVar[int]
    cpu_model: str
    cpu_count: int
    kernel: str
    python: str
    grpcio: str
    def __init__(self, cpu_model: _Optional[str] = ..., cpu_count: _Optional[int] = ..., kernel: _Optional[str] = ..., python: _Optional[str] = ..., grpcio: _Optional[str] = ...) -> None: ...
