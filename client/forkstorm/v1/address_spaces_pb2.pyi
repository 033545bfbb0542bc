from forkstorm.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ApplyKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    APPLY_KIND_UNSPECIFIED: _ClassVar[ApplyKind]
    APPLY_KIND_MAP: _ClassVar[ApplyKind]
    APPLY_KIND_UNMAP: _ClassVar[ApplyKind]
    APPLY_KIND_PROTECT: _ClassVar[ApplyKind]
    APPLY_KIND_ADVISE: _ClassVar[ApplyKind]
    APPLY_KIND_REMAP: _ClassVar[ApplyKind]
    APPLY_KIND_SET_BREAK: _ClassVar[ApplyKind]
    APPLY_KIND_TOUCH: _ClassVar[ApplyKind]

class ApplyOnError(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    APPLY_ON_ERROR_UNSPECIFIED: _ClassVar[ApplyOnError]
    APPLY_ON_ERROR_STOP: _ClassVar[ApplyOnError]
    APPLY_ON_ERROR_SKIP: _ClassVar[ApplyOnError]
APPLY_KIND_UNSPECIFIED: ApplyKind
APPLY_KIND_MAP: ApplyKind
APPLY_KIND_UNMAP: ApplyKind
APPLY_KIND_PROTECT: ApplyKind
APPLY_KIND_ADVISE: ApplyKind
APPLY_KIND_REMAP: ApplyKind
APPLY_KIND_SET_BREAK: ApplyKind
APPLY_KIND_TOUCH: ApplyKind
APPLY_ON_ERROR_UNSPECIFIED: ApplyOnError
APPLY_ON_ERROR_STOP: ApplyOnError
APPLY_ON_ERROR_SKIP: ApplyOnError

class CreateAddressSpaceRequest(_message.Message):
    __slots__ = ("request_id", "parameters", "maps_text", "labels", "ttl_ns")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    MAPS_TEXT_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    TTL_NS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    parameters: _types_pb2.SpaceParameters
    maps_text: bytes
    labels: _containers.ScalarMap[str, str]
    ttl_ns: int
    def __init__(self, request_id: _Optional[str] = ..., parameters: _Optional[_Union[_types_pb2.SpaceParameters, _Mapping]] = ..., maps_text: _Optional[bytes] = ..., labels: _Optional[_Mapping[str, str]] = ..., ttl_ns: _Optional[int] = ...) -> None: ...

class CreateAddressSpaceResponse(_message.Message):
    __slots__ = ("mm_id", "vma_count", "timing", "replayed")
    MM_ID_FIELD_NUMBER: _ClassVar[int]
    VMA_COUNT_FIELD_NUMBER: _ClassVar[int]
    TIMING_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    mm_id: int
    vma_count: int
    timing: _types_pb2.Timing
    replayed: bool
    def __init__(self, mm_id: _Optional[int] = ..., vma_count: _Optional[int] = ..., timing: _Optional[_Union[_types_pb2.Timing, _Mapping]] = ..., replayed: bool = ...) -> None: ...

class ImportAddressSpaceRequest(_message.Message):
    __slots__ = ("create", "maps_text")
    CREATE_FIELD_NUMBER: _ClassVar[int]
    MAPS_TEXT_FIELD_NUMBER: _ClassVar[int]
    create: CreateAddressSpaceRequest
    maps_text: bytes
    def __init__(self, create: _Optional[_Union[CreateAddressSpaceRequest, _Mapping]] = ..., maps_text: _Optional[bytes] = ...) -> None: ...

class ImportAddressSpaceResponse(_message.Message):
    __slots__ = ("mm_id", "vma_count", "timing", "replayed")
    MM_ID_FIELD_NUMBER: _ClassVar[int]
    VMA_COUNT_FIELD_NUMBER: _ClassVar[int]
    TIMING_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    mm_id: int
    vma_count: int
    timing: _types_pb2.Timing
    replayed: bool
    def __init__(self, mm_id: _Optional[int] = ..., vma_count: _Optional[int] = ..., timing: _Optional[_Union[_types_pb2.Timing, _Mapping]] = ..., replayed: bool = ...) -> None: ...

class GetAddressSpaceRequest(_message.Message):
    __slots__ = ("mm_id",)
    MM_ID_FIELD_NUMBER: _ClassVar[int]
    mm_id: int
    def __init__(self, mm_id: _Optional[int] = ...) -> None: ...

class GetAddressSpaceResponse(_message.Message):
    __slots__ = ("address_space",)
    ADDRESS_SPACE_FIELD_NUMBER: _ClassVar[int]
    address_space: _types_pb2.AddressSpace
    def __init__(self, address_space: _Optional[_Union[_types_pb2.AddressSpace, _Mapping]] = ...) -> None: ...

class ListAddressSpacesRequest(_message.Message):
    __slots__ = ("page_size", "page_token", "labels")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    labels: _containers.ScalarMap[str, str]
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ...) -> None: ...

class ListAddressSpacesResponse(_message.Message):
    __slots__ = ("address_spaces", "next_page_token")
    ADDRESS_SPACES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    address_spaces: _containers.RepeatedCompositeFieldContainer[_types_pb2.AddressSpace]
    next_page_token: str
    def __init__(self, address_spaces: _Optional[_Iterable[_Union[_types_pb2.AddressSpace, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class ForkRequest(_message.Message):
    __slots__ = ("request_id", "mm_id", "strategy", "labels", "ttl_ns", "with_phases", "fault")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MM_ID_FIELD_NUMBER: _ClassVar[int]
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    TTL_NS_FIELD_NUMBER: _ClassVar[int]
    WITH_PHASES_FIELD_NUMBER: _ClassVar[int]
    FAULT_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    mm_id: int
    strategy: _types_pb2.ForkStrategy
    labels: _containers.ScalarMap[str, str]
    ttl_ns: int
    with_phases: bool
    fault: _types_pb2.ForkFault
    def __init__(self, request_id: _Optional[str] = ..., mm_id: _Optional[int] = ..., strategy: _Optional[_Union[_types_pb2.ForkStrategy, str]] = ..., labels: _Optional[_Mapping[str, str]] = ..., ttl_ns: _Optional[int] = ..., with_phases: bool = ..., fault: _Optional[_Union[_types_pb2.ForkFault, _Mapping]] = ...) -> None: ...

class ForkResponse(_message.Message):
    __slots__ = ("child", "strategy", "vma_count", "timing", "work", "phases", "replayed", "process_count")
    CHILD_FIELD_NUMBER: _ClassVar[int]
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    VMA_COUNT_FIELD_NUMBER: _ClassVar[int]
    TIMING_FIELD_NUMBER: _ClassVar[int]
    WORK_FIELD_NUMBER: _ClassVar[int]
    PHASES_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    PROCESS_COUNT_FIELD_NUMBER: _ClassVar[int]
    child: int
    strategy: _types_pb2.ForkStrategy
    vma_count: int
    timing: _types_pb2.Timing
    work: _types_pb2.WorkCounts
    phases: _types_pb2.ForkPhases
    replayed: bool
    process_count: int
    def __init__(self, child: _Optional[int] = ..., strategy: _Optional[_Union[_types_pb2.ForkStrategy, str]] = ..., vma_count: _Optional[int] = ..., timing: _Optional[_Union[_types_pb2.Timing, _Mapping]] = ..., work: _Optional[_Union[_types_pb2.WorkCounts, _Mapping]] = ..., phases: _Optional[_Union[_types_pb2.ForkPhases, _Mapping]] = ..., replayed: bool = ..., process_count: _Optional[int] = ...) -> None: ...

class ExitRequest(_message.Message):
    __slots__ = ("request_id", "mm_id", "labels")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MM_ID_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    mm_id: int
    labels: Labels
    def __init__(self, request_id: _Optional[str] = ..., mm_id: _Optional[int] = ..., labels: _Optional[_Union[Labels, _Mapping]] = ...) -> None: ...

class Labels(_message.Message):
    __slots__ = ("labels",)
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    LABELS_FIELD_NUMBER: _ClassVar[int]
    labels: _containers.ScalarMap[str, str]
    def __init__(self, labels: _Optional[_Mapping[str, str]] = ...) -> None: ...

class ExitResponse(_message.Message):
    __slots__ = ("exited_count", "timing", "replayed")
    EXITED_COUNT_FIELD_NUMBER: _ClassVar[int]
    TIMING_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    exited_count: int
    timing: _types_pb2.Timing
    replayed: bool
    def __init__(self, exited_count: _Optional[int] = ..., timing: _Optional[_Union[_types_pb2.Timing, _Mapping]] = ..., replayed: bool = ...) -> None: ...

class MapRequest(_message.Message):
    __slots__ = ("request_id", "mm_id", "addr", "length_bytes", "prot", "flags", "file", "offset_bytes")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MM_ID_FIELD_NUMBER: _ClassVar[int]
    ADDR_FIELD_NUMBER: _ClassVar[int]
    LENGTH_BYTES_FIELD_NUMBER: _ClassVar[int]
    PROT_FIELD_NUMBER: _ClassVar[int]
    FLAGS_FIELD_NUMBER: _ClassVar[int]
    FILE_FIELD_NUMBER: _ClassVar[int]
    OFFSET_BYTES_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    mm_id: int
    addr: int
    length_bytes: int
    prot: int
    flags: int
    file: _types_pb2.File
    offset_bytes: int
    def __init__(self, request_id: _Optional[str] = ..., mm_id: _Optional[int] = ..., addr: _Optional[int] = ..., length_bytes: _Optional[int] = ..., prot: _Optional[int] = ..., flags: _Optional[int] = ..., file: _Optional[_Union[_types_pb2.File, _Mapping]] = ..., offset_bytes: _Optional[int] = ...) -> None: ...

class MapResponse(_message.Message):
    __slots__ = ("addr", "timing", "replayed")
    ADDR_FIELD_NUMBER: _ClassVar[int]
    TIMING_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    addr: int
    timing: _types_pb2.Timing
    replayed: bool
    def __init__(self, addr: _Optional[int] = ..., timing: _Optional[_Union[_types_pb2.Timing, _Mapping]] = ..., replayed: bool = ...) -> None: ...

class UnmapRequest(_message.Message):
    __slots__ = ("request_id", "mm_id", "addr", "length_bytes")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MM_ID_FIELD_NUMBER: _ClassVar[int]
    ADDR_FIELD_NUMBER: _ClassVar[int]
    LENGTH_BYTES_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    mm_id: int
    addr: int
    length_bytes: int
    def __init__(self, request_id: _Optional[str] = ..., mm_id: _Optional[int] = ..., addr: _Optional[int] = ..., length_bytes: _Optional[int] = ...) -> None: ...

class UnmapResponse(_message.Message):
    __slots__ = ("timing", "replayed")
    TIMING_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    timing: _types_pb2.Timing
    replayed: bool
    def __init__(self, timing: _Optional[_Union[_types_pb2.Timing, _Mapping]] = ..., replayed: bool = ...) -> None: ...

class ProtectRequest(_message.Message):
    __slots__ = ("request_id", "mm_id", "addr", "length_bytes", "prot")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MM_ID_FIELD_NUMBER: _ClassVar[int]
    ADDR_FIELD_NUMBER: _ClassVar[int]
    LENGTH_BYTES_FIELD_NUMBER: _ClassVar[int]
    PROT_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    mm_id: int
    addr: int
    length_bytes: int
    prot: int
    def __init__(self, request_id: _Optional[str] = ..., mm_id: _Optional[int] = ..., addr: _Optional[int] = ..., length_bytes: _Optional[int] = ..., prot: _Optional[int] = ...) -> None: ...

class ProtectResponse(_message.Message):
    __slots__ = ("timing", "replayed")
    TIMING_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    timing: _types_pb2.Timing
    replayed: bool
    def __init__(self, timing: _Optional[_Union[_types_pb2.Timing, _Mapping]] = ..., replayed: bool = ...) -> None: ...

class RemapRequest(_message.Message):
    __slots__ = ("request_id", "mm_id", "addr", "old_length_bytes", "new_length_bytes", "flags", "new_addr")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MM_ID_FIELD_NUMBER: _ClassVar[int]
    ADDR_FIELD_NUMBER: _ClassVar[int]
    OLD_LENGTH_BYTES_FIELD_NUMBER: _ClassVar[int]
    NEW_LENGTH_BYTES_FIELD_NUMBER: _ClassVar[int]
    FLAGS_FIELD_NUMBER: _ClassVar[int]
    NEW_ADDR_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    mm_id: int
    addr: int
    old_length_bytes: int
    new_length_bytes: int
    flags: int
    new_addr: int
    def __init__(self, request_id: _Optional[str] = ..., mm_id: _Optional[int] = ..., addr: _Optional[int] = ..., old_length_bytes: _Optional[int] = ..., new_length_bytes: _Optional[int] = ..., flags: _Optional[int] = ..., new_addr: _Optional[int] = ...) -> None: ...

class RemapResponse(_message.Message):
    __slots__ = ("addr", "timing", "replayed")
    ADDR_FIELD_NUMBER: _ClassVar[int]
    TIMING_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    addr: int
    timing: _types_pb2.Timing
    replayed: bool
    def __init__(self, addr: _Optional[int] = ..., timing: _Optional[_Union[_types_pb2.Timing, _Mapping]] = ..., replayed: bool = ...) -> None: ...

class AdviseRequest(_message.Message):
    __slots__ = ("request_id", "mm_id", "addr", "length_bytes", "advice")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MM_ID_FIELD_NUMBER: _ClassVar[int]
    ADDR_FIELD_NUMBER: _ClassVar[int]
    LENGTH_BYTES_FIELD_NUMBER: _ClassVar[int]
    ADVICE_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    mm_id: int
    addr: int
    length_bytes: int
    advice: int
    def __init__(self, request_id: _Optional[str] = ..., mm_id: _Optional[int] = ..., addr: _Optional[int] = ..., length_bytes: _Optional[int] = ..., advice: _Optional[int] = ...) -> None: ...

class AdviseResponse(_message.Message):
    __slots__ = ("timing", "replayed")
    TIMING_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    timing: _types_pb2.Timing
    replayed: bool
    def __init__(self, timing: _Optional[_Union[_types_pb2.Timing, _Mapping]] = ..., replayed: bool = ...) -> None: ...

class SetBreakRequest(_message.Message):
    __slots__ = ("request_id", "mm_id", "addr")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MM_ID_FIELD_NUMBER: _ClassVar[int]
    ADDR_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    mm_id: int
    addr: int
    def __init__(self, request_id: _Optional[str] = ..., mm_id: _Optional[int] = ..., addr: _Optional[int] = ...) -> None: ...

class SetBreakResponse(_message.Message):
    __slots__ = ("brk", "timing", "replayed")
    BRK_FIELD_NUMBER: _ClassVar[int]
    TIMING_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    brk: int
    timing: _types_pb2.Timing
    replayed: bool
    def __init__(self, brk: _Optional[int] = ..., timing: _Optional[_Union[_types_pb2.Timing, _Mapping]] = ..., replayed: bool = ...) -> None: ...

class TouchRequest(_message.Message):
    __slots__ = ("request_id", "mm_id", "addr", "access", "value")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MM_ID_FIELD_NUMBER: _ClassVar[int]
    ADDR_FIELD_NUMBER: _ClassVar[int]
    ACCESS_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    mm_id: int
    addr: int
    access: _types_pb2.TouchAccess
    value: int
    def __init__(self, request_id: _Optional[str] = ..., mm_id: _Optional[int] = ..., addr: _Optional[int] = ..., access: _Optional[_Union[_types_pb2.TouchAccess, str]] = ..., value: _Optional[int] = ...) -> None: ...

class TouchResponse(_message.Message):
    __slots__ = ("value", "timing", "replayed")
    VALUE_FIELD_NUMBER: _ClassVar[int]
    TIMING_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    value: int
    timing: _types_pb2.Timing
    replayed: bool
    def __init__(self, value: _Optional[int] = ..., timing: _Optional[_Union[_types_pb2.Timing, _Mapping]] = ..., replayed: bool = ...) -> None: ...

class ApplyColumns(_message.Message):
    __slots__ = ("kind", "arg_0", "arg_1", "arg_2", "arg_3", "arg_4", "arg_5")
    KIND_FIELD_NUMBER: _ClassVar[int]
    ARG_0_FIELD_NUMBER: _ClassVar[int]
    ARG_1_FIELD_NUMBER: _ClassVar[int]
    ARG_2_FIELD_NUMBER: _ClassVar[int]
    ARG_3_FIELD_NUMBER: _ClassVar[int]
    ARG_4_FIELD_NUMBER: _ClassVar[int]
    ARG_5_FIELD_NUMBER: _ClassVar[int]
    kind: bytes
    arg_0: bytes
    arg_1: bytes
    arg_2: bytes
    arg_3: bytes
    arg_4: bytes
    arg_5: bytes
    def __init__(self, kind: _Optional[bytes] = ..., arg_0: _Optional[bytes] = ..., arg_1: _Optional[bytes] = ..., arg_2: _Optional[bytes] = ..., arg_3: _Optional[bytes] = ..., arg_4: _Optional[bytes] = ..., arg_5: _Optional[bytes] = ...) -> None: ...

class ApplyRequest(_message.Message):
    __slots__ = ("request_id", "mm_id", "columns", "on_error", "files")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MM_ID_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    ON_ERROR_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    mm_id: int
    columns: ApplyColumns
    on_error: ApplyOnError
    files: _containers.RepeatedCompositeFieldContainer[_types_pb2.File]
    def __init__(self, request_id: _Optional[str] = ..., mm_id: _Optional[int] = ..., columns: _Optional[_Union[ApplyColumns, _Mapping]] = ..., on_error: _Optional[_Union[ApplyOnError, str]] = ..., files: _Optional[_Iterable[_Union[_types_pb2.File, _Mapping]]] = ...) -> None: ...

class ApplyResponse(_message.Message):
    __slots__ = ("performed_count", "results", "failed", "limit", "timing", "replayed")
    PERFORMED_COUNT_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    TIMING_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    performed_count: int
    results: bytes
    failed: _containers.RepeatedScalarFieldContainer[int]
    limit: str
    timing: _types_pb2.Timing
    replayed: bool
    def __init__(self, performed_count: _Optional[int] = ..., results: _Optional[bytes] = ..., failed: _Optional[_Iterable[int]] = ..., limit: _Optional[str] = ..., timing: _Optional[_Union[_types_pb2.Timing, _Mapping]] = ..., replayed: bool = ...) -> None: ...

class FindVmaRequest(_message.Message):
    __slots__ = ("mm_id", "addr")
    MM_ID_FIELD_NUMBER: _ClassVar[int]
    ADDR_FIELD_NUMBER: _ClassVar[int]
    mm_id: int
    addr: int
    def __init__(self, mm_id: _Optional[int] = ..., addr: _Optional[int] = ...) -> None: ...

class FindVmaResponse(_message.Message):
    __slots__ = ("vma", "timing")
    VMA_FIELD_NUMBER: _ClassVar[int]
    TIMING_FIELD_NUMBER: _ClassVar[int]
    vma: _types_pb2.Vma
    timing: _types_pb2.Timing
    def __init__(self, vma: _Optional[_Union[_types_pb2.Vma, _Mapping]] = ..., timing: _Optional[_Union[_types_pb2.Timing, _Mapping]] = ...) -> None: ...

class FindGapRequest(_message.Message):
    __slots__ = ("mm_id", "length_bytes", "low", "high", "bottom_up")
    MM_ID_FIELD_NUMBER: _ClassVar[int]
    LENGTH_BYTES_FIELD_NUMBER: _ClassVar[int]
    LOW_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    BOTTOM_UP_FIELD_NUMBER: _ClassVar[int]
    mm_id: int
    length_bytes: int
    low: int
    high: int
    bottom_up: bool
    def __init__(self, mm_id: _Optional[int] = ..., length_bytes: _Optional[int] = ..., low: _Optional[int] = ..., high: _Optional[int] = ..., bottom_up: bool = ...) -> None: ...

class FindGapResponse(_message.Message):
    __slots__ = ("addr", "timing")
    ADDR_FIELD_NUMBER: _ClassVar[int]
    TIMING_FIELD_NUMBER: _ClassVar[int]
    addr: int
    timing: _types_pb2.Timing
    def __init__(self, addr: _Optional[int] = ..., timing: _Optional[_Union[_types_pb2.Timing, _Mapping]] = ...) -> None: ...

class StreamVmasRequest(_message.Message):
    __slots__ = ("mm_id", "chunk_vma_count")
    MM_ID_FIELD_NUMBER: _ClassVar[int]
    CHUNK_VMA_COUNT_FIELD_NUMBER: _ClassVar[int]
    mm_id: int
    chunk_vma_count: int
    def __init__(self, mm_id: _Optional[int] = ..., chunk_vma_count: _Optional[int] = ...) -> None: ...

class StreamVmasResponse(_message.Message):
    __slots__ = ("names", "columns", "totals")
    NAMES_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    TOTALS_FIELD_NUMBER: _ClassVar[int]
    names: _containers.RepeatedCompositeFieldContainer[_types_pb2.VmaName]
    columns: _types_pb2.VmaColumns
    totals: _types_pb2.AddressSpace
    def __init__(self, names: _Optional[_Iterable[_Union[_types_pb2.VmaName, _Mapping]]] = ..., columns: _Optional[_Union[_types_pb2.VmaColumns, _Mapping]] = ..., totals: _Optional[_Union[_types_pb2.AddressSpace, _Mapping]] = ...) -> None: ...

class RepeatForkRequest(_message.Message):
    __slots__ = ("mm_id", "strategies", "forks_per_strategy", "block_fork_count", "warmup_fork_count", "share_out")
    MM_ID_FIELD_NUMBER: _ClassVar[int]
    STRATEGIES_FIELD_NUMBER: _ClassVar[int]
    FORKS_PER_STRATEGY_FIELD_NUMBER: _ClassVar[int]
    BLOCK_FORK_COUNT_FIELD_NUMBER: _ClassVar[int]
    WARMUP_FORK_COUNT_FIELD_NUMBER: _ClassVar[int]
    SHARE_OUT_FIELD_NUMBER: _ClassVar[int]
    mm_id: int
    strategies: _containers.RepeatedScalarFieldContainer[_types_pb2.ForkStrategy]
    forks_per_strategy: int
    block_fork_count: int
    warmup_fork_count: int
    share_out: bool
    def __init__(self, mm_id: _Optional[int] = ..., strategies: _Optional[_Iterable[_Union[_types_pb2.ForkStrategy, str]]] = ..., forks_per_strategy: _Optional[int] = ..., block_fork_count: _Optional[int] = ..., warmup_fork_count: _Optional[int] = ..., share_out: bool = ...) -> None: ...

class RepeatForkResponse(_message.Message):
    __slots__ = ("strategy_index", "strategy", "block", "core_ns", "work", "exit_ns", "worker")
    STRATEGY_INDEX_FIELD_NUMBER: _ClassVar[int]
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    BLOCK_FIELD_NUMBER: _ClassVar[int]
    CORE_NS_FIELD_NUMBER: _ClassVar[int]
    WORK_FIELD_NUMBER: _ClassVar[int]
    EXIT_NS_FIELD_NUMBER: _ClassVar[int]
    WORKER_FIELD_NUMBER: _ClassVar[int]
    strategy_index: int
    strategy: _types_pb2.ForkStrategy
    block: int
    core_ns: _containers.RepeatedScalarFieldContainer[int]
    work: _types_pb2.WorkCounts
    exit_ns: int
    worker: int
    def __init__(self, strategy_index: _Optional[int] = ..., strategy: _Optional[_Union[_types_pb2.ForkStrategy, str]] = ..., block: _Optional[int] = ..., core_ns: _Optional[_Iterable[int]] = ..., work: _Optional[_Union[_types_pb2.WorkCounts, _Mapping]] = ..., exit_ns: _Optional[int] = ..., worker: _Optional[int] = ...) -> None: ...

class PingRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class PingResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
