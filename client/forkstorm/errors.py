"""What the client raises.

    ForkstormError                    .code .reason .field .limit .metadata .fork
    ├── LinuxError                    also OSError: .errno .strerror
    │   ├── NoMemory                  ENOMEM, also LimitExceeded
    │   ├── TryAgain                  EAGAIN, also LimitExceeded and BlockingIOError
    │   ├── AlreadyMapped             EEXIST, also FileExistsError
    │   ├── InvalidArgument           EINVAL
    │   ├── ValueTooLarge             EOVERFLOW
    │   ├── BadAddress                EFAULT
    │   ├── BadFile                   EBADF
    │   ├── NotSupported              EOPNOTSUPP
    │   ├── Busy                      EBUSY
    │   ├── AccessDenied              EACCES, also PermissionError
    │   ├── NotPermitted              EPERM, also PermissionError
    │   └── Interrupted               EINTR, also InterruptedError
    ├── LimitExceeded                 a limit of the server, named in .limit
    ├── NoSuchSpace                   the id is unknown, or its space has ended
    ├── DeadlineExceeded              the call's timeout passed
    ├── Unavailable                   no worker answered, retries included
    ├── Cancelled                     the call was cancelled
    ├── RequestInProgress             another attempt of this request is running
    ├── RequestIdReused               another request used this id
    ├── Rejected                      refused for a reason that Linux has no errno for
    │   ├── InvalidRequest            a field that no call of Linux has
    │   └── MalformedMaps             the maps text cannot be read; .line
    └── ServerFault                   the server is at fault, or too old for the call

An error is an OSError exactly when the simulated kernel is what refused. After any error the
space is as it was before, except that

- protect, advise, remap, touch, and map with MAP_FIXED, do not take back what they did before they
  were refused, as in Linux (docs/errors.md);
- after DeadlineExceeded, Unavailable and Cancelled a mutation may or may not have happened.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Mapping
from typing import ClassVar, NamedTuple, TypeVar, cast

import grpc
from google.rpc import error_details_pb2
from grpc import StatusCode
from grpc_status import rpc_status

from forkstorm.constants import FaultSite

DOMAIN = "forkstorm"


class ForkFailure(NamedTuple):
    """Where a fork failed half way, and what its undoing was."""

    site: FaultSite
    #: Index of the parent's VMA, ascending from 0, DONTCOPY ones counted.
    ordinal: int
    duplicated_vma_count: int
    undone_vma_count: int
    undo_ns: int


class ForkstormError(Exception):
    """A call failed. The text is the reason and a sentence of the server."""

    def __init__(
        self,
        detail: str,
        *,
        code: StatusCode = StatusCode.UNKNOWN,
        reason: str = "",
        field: str = "",
        limit: str = "",
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        #: The gRPC status code.
        self.code = code
        #: ErrorInfo.reason: an errno's name or a word of the service; "" if the server sent none.
        self.reason = reason
        #: The request's field at fault, or "".
        self.field = field
        #: The limit that was hit, or "".
        self.limit = limit
        self.metadata = dict(metadata or {})

    @property
    def fork(self) -> ForkFailure | None:
        """Where a fork failed half way; None for any other error."""
        told = self.metadata
        if told.get("fault_site") not in FaultSite.__members__:
            return None
        return ForkFailure(
            FaultSite[told["fault_site"]],
            int(told["fault_ordinal"]),
            int(told["duplicated_vma_count"]),
            int(told["undone_vma_count"]),
            int(told["undo_ns"]),
        )

    def __str__(self) -> str:
        text = f"{self.reason or self.code.name}: {self.detail}"
        return f"{text} [{self.field}]" if self.field else text

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.detail), self.__dict__


def _rebuild(kind: type[ForkstormError], detail: str) -> ForkstormError:
    return kind(detail)


class LimitExceeded(ForkstormError):
    """A limit was hit, named in .limit. Exit something, or ask for less."""


class LinuxError(ForkstormError, OSError):
    """The simulated kernel refused, as Linux would: .errno, .strerror."""

    number: ClassVar[int]

    def __init__(self, detail: str, **attributes: object) -> None:
        ForkstormError.__init__(self, detail, **attributes)  # type: ignore[arg-type]
        self.errno = self.number
        self.strerror = os.strerror(self.number)


class NoMemory(LinuxError, LimitExceeded):
    """ENOMEM: no room for the mapping, too many VMAs, or the arena is full."""

    number = errno.ENOMEM


class TryAgain(LinuxError, LimitExceeded, BlockingIOError):
    """EAGAIN: a limit was hit that may pass."""

    number = errno.EAGAIN


class AlreadyMapped(LinuxError, FileExistsError):
    """EEXIST: MAP_FIXED_NOREPLACE, and something is mapped there."""

    number = errno.EEXIST


class InvalidArgument(LinuxError):
    """EINVAL: .field names the argument."""

    number = errno.EINVAL


class ValueTooLarge(LinuxError):
    """EOVERFLOW: an offset beyond what a file can have."""

    number = errno.EOVERFLOW


class BadAddress(LinuxError):
    """EFAULT: nothing is mapped there, or not for this access."""

    number = errno.EFAULT


class BadFile(LinuxError):
    """EBADF: neither a file nor MAP_ANONYMOUS."""

    number = errno.EBADF


class NotSupported(LinuxError):
    """EOPNOTSUPP: MAP_SHARED_VALIDATE with a flag unknown to it."""

    number = errno.EOPNOTSUPP


class Busy(LinuxError):
    """EBUSY."""

    number = errno.EBUSY


class AccessDenied(LinuxError, PermissionError):
    """EACCES: the file's access mode forbids the mapping, or its protection."""

    number = errno.EACCES


class NotPermitted(LinuxError, PermissionError):
    """EPERM: below mmap_min_addr."""

    number = errno.EPERM


class Interrupted(LinuxError, InterruptedError):
    """EINTR: a fatal signal ended the call."""

    number = errno.EINTR


class NoSuchSpace(ForkstormError):
    """The id is unknown, or its space has ended. Ids are never given out again."""


class DeadlineExceeded(ForkstormError):
    """The call's timeout passed. A mutation may still have happened, but for a fork."""


class Unavailable(ForkstormError):
    """No worker answered, retries included. A mutation may have happened."""


class Cancelled(ForkstormError):
    """The call was cancelled."""


class RequestInProgress(ForkstormError):
    """Another attempt of this very request is still running."""


class RequestIdReused(ForkstormError):
    """Another request came under this request id before."""


class Rejected(ForkstormError):
    """The service refused the request; Linux has no errno for it."""


class InvalidRequest(Rejected):
    """A field that no call of Linux has is wrong; .field names it."""


class MalformedMaps(Rejected):
    """The server cannot read the maps text."""

    @property
    def line(self) -> int:
        """The line at fault, from 1; 0 when the server named none."""
        return int(self.metadata.get("line", 0))


class ServerFault(ForkstormError):
    """The server failed, cut a stream short, or does not know the call."""


_K = TypeVar("_K")


def _table(
    what: str, rows: Iterable[tuple[_K, type[ForkstormError]]], wanted: set[_K]
) -> dict[_K, type[ForkstormError]]:
    """The rows as a dictionary; RuntimeError when one is missing, doubled or unknown."""
    table: dict[_K, type[ForkstormError]] = {}
    for key, kind in rows:
        if key in table:
            raise RuntimeError(f"{what} {key} stands for {table[key].__name__} and {kind.__name__}")
        table[key] = kind
    if odd := wanted ^ table.keys():
        raise RuntimeError(f"{what} without an error, or unknown: {sorted(map(str, odd))}")
    return table


_LINUX_ERRORS: tuple[type[LinuxError], ...] = (
    NoMemory,
    TryAgain,
    AlreadyMapped,
    InvalidArgument,
    ValueTooLarge,
    BadAddress,
    BadFile,
    NotSupported,
    Busy,
    AccessDenied,
    NotPermitted,
    Interrupted,
)

# The errnos of the server's table, docs/errors.md.
_BY_ERRNO = _table(
    "errno",
    ((kind.number, kind) for kind in _LINUX_ERRORS),
    {
        errno.ENOMEM,
        errno.EAGAIN,
        errno.EEXIST,
        errno.EINVAL,
        errno.EOVERFLOW,
        errno.EFAULT,
        errno.EBADF,
        errno.EOPNOTSUPP,
        errno.EBUSY,
        errno.EACCES,
        errno.EPERM,
        errno.EINTR,
    },
)

# The words of the same table for what Linux has no errno for.
_BY_REASON: dict[str, type[ForkstormError]] = _table(
    "reason",
    (
        ("NO_SUCH_SPACE", NoSuchSpace),
        ("INVALID_REQUEST", InvalidRequest),
        ("MALFORMED_MAPS", MalformedMaps),
        ("LIMIT_EXCEEDED", LimitExceeded),
        ("REQUEST_IN_PROGRESS", RequestInProgress),
        ("REQUEST_ID_REUSED", RequestIdReused),
        ("DEADLINE", DeadlineExceeded),
        ("CANCELLED", Cancelled),
        ("INTERNAL", ServerFault),
    ),
    {
        "NO_SUCH_SPACE",
        "INVALID_REQUEST",
        "MALFORMED_MAPS",
        "LIMIT_EXCEEDED",
        "REQUEST_IN_PROGRESS",
        "REQUEST_ID_REUSED",
        "DEADLINE",
        "CANCELLED",
        "INTERNAL",
    },
)

# For statuses without a known reason: from gRPC itself, a proxy, or a newer server.
_BY_CODE = _table(
    "status code",
    (
        (StatusCode.CANCELLED, Cancelled),
        (StatusCode.UNKNOWN, ServerFault),
        (StatusCode.INVALID_ARGUMENT, Rejected),
        (StatusCode.DEADLINE_EXCEEDED, DeadlineExceeded),
        (StatusCode.NOT_FOUND, NoSuchSpace),
        (StatusCode.ALREADY_EXISTS, Rejected),
        (StatusCode.PERMISSION_DENIED, Rejected),
        (StatusCode.RESOURCE_EXHAUSTED, LimitExceeded),
        (StatusCode.FAILED_PRECONDITION, Rejected),
        (StatusCode.ABORTED, Rejected),
        (StatusCode.OUT_OF_RANGE, Rejected),
        (StatusCode.UNIMPLEMENTED, ServerFault),
        (StatusCode.INTERNAL, ServerFault),
        (StatusCode.UNAVAILABLE, Unavailable),
        (StatusCode.DATA_LOSS, ServerFault),
        (StatusCode.UNAUTHENTICATED, Rejected),
    ),
    set(StatusCode) - {StatusCode.OK},
)


def from_rpc_error(error: grpc.RpcError) -> ForkstormError:
    """The typed error of a failed call, of grpc or grpc.aio."""
    call = cast(grpc.Call, error)
    info, field = _details(call)
    number = getattr(errno, info.reason, None)
    kind = (
        _BY_ERRNO.get(number) if isinstance(number, int) else _BY_REASON.get(info.reason)
    ) or _BY_CODE[call.code()]
    return kind(
        call.details() or call.code().name,
        code=call.code(),
        reason=info.reason,
        field=field,
        limit=info.metadata.get("limit", ""),
        metadata=info.metadata,
    )


def _details(call: grpc.Call) -> tuple[error_details_pb2.ErrorInfo, str]:
    """The server's ErrorInfo, empty if it sent none, and the field at fault."""
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    try:
        status = rpc_status.from_call(call)
    except ValueError:
        # Details that contradict the status are not the server's.
        return info, ""
    for detail in status.details if status is not None else ():
        if detail.Is(info.DESCRIPTOR):
            detail.Unpack(info)
        elif detail.Is(bad.DESCRIPTOR):
            detail.Unpack(bad)
    if info.domain != DOMAIN:
        info.Clear()
    field = bad.field_violations[0].field if bad.field_violations else ""
    return info, field or info.metadata.get("field", "")
