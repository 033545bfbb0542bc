"""What an RPC fails with: one table from reason to gRPC code. docs/errors.md explains the rows.

A reason is Linux's name of an errno where the simulated kernel refused, else a word of the
service. It travels in google.rpc.ErrorInfo {domain "forkstorm", reason, metadata}: metadata has
`errno` (the number) where Linux has one, and `limit`, `line`, ... where they apply; of a fork that
failed half way, what was done and undone. What the caller got wrong is named in
google.rpc.BadRequest too.

The table checks itself when this module is imported.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable
from typing import NoReturn, Protocol

import grpc
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from forkstormd.core.errors import CoreError
from forkstormd.core.types import ForkFailure

DOMAIN = "forkstorm"

# fmt: off
# What the simulated kernel can answer (the semantics' section 12, and fork's).
_ERRNO_NAMES = (
    "EPERM", "EINTR", "EBADF", "EAGAIN", "ENOMEM", "EACCES",
    "EFAULT", "EBUSY", "EEXIST", "EINVAL", "EOVERFLOW", "EOPNOTSUPP",
)
# What the service refuses, or fails at, itself.
_SERVICE_REASONS = (
    "NO_SUCH_SPACE", "INVALID_REQUEST", "MALFORMED_MAPS", "LIMIT_EXCEEDED",
    "REQUEST_IN_PROGRESS", "REQUEST_ID_REUSED", "DEADLINE", "CANCELLED", "INTERNAL",
)
# fmt: on

_ROWS: tuple[tuple[str, int], ...] = (
    ("ENOMEM", code_pb2.RESOURCE_EXHAUSTED),
    ("EAGAIN", code_pb2.RESOURCE_EXHAUSTED),
    ("EEXIST", code_pb2.ALREADY_EXISTS),
    ("EINVAL", code_pb2.INVALID_ARGUMENT),
    ("EOVERFLOW", code_pb2.INVALID_ARGUMENT),
    ("EFAULT", code_pb2.FAILED_PRECONDITION),
    ("EBADF", code_pb2.FAILED_PRECONDITION),
    ("EOPNOTSUPP", code_pb2.FAILED_PRECONDITION),
    ("EBUSY", code_pb2.FAILED_PRECONDITION),
    ("EACCES", code_pb2.PERMISSION_DENIED),
    ("EPERM", code_pb2.PERMISSION_DENIED),
    ("EINTR", code_pb2.ABORTED),
    ("NO_SUCH_SPACE", code_pb2.NOT_FOUND),
    ("INVALID_REQUEST", code_pb2.INVALID_ARGUMENT),
    ("MALFORMED_MAPS", code_pb2.INVALID_ARGUMENT),
    ("LIMIT_EXCEEDED", code_pb2.RESOURCE_EXHAUSTED),
    ("REQUEST_IN_PROGRESS", code_pb2.ABORTED),
    ("REQUEST_ID_REUSED", code_pb2.FAILED_PRECONDITION),
    ("DEADLINE", code_pb2.DEADLINE_EXCEEDED),
    ("CANCELLED", code_pb2.CANCELLED),
    ("INTERNAL", code_pb2.INTERNAL),
)


def check_table(rows: Iterable[tuple[str, int]], wanted: Iterable[str]) -> dict[str, int]:
    """The rows as a dictionary. RuntimeError when one is missing, doubled or unknown, has a code
    that no failure has, or UNIMPLEMENTED, which is for RPCs that do not exist."""
    table: dict[str, int] = {}
    for reason, code in rows:
        if reason in table:
            raise RuntimeError(f"{reason} stands in the table twice")
        if code in (code_pb2.OK, code_pb2.UNIMPLEMENTED) or code not in code_pb2.Code.values():
            raise RuntimeError(f"{reason} has the code {code}")
        table[reason] = code
    if odd := set(wanted) ^ table.keys():
        raise RuntimeError(f"missing from the table, or unknown: {', '.join(sorted(odd))}")
    return table


CODES = check_table(_ROWS, [*_ERRNO_NAMES, *_SERVICE_REASONS])
ERRNOS: dict[str, int] = {name: getattr(errno, name) for name in _ERRNO_NAMES}
# By number, because an errno may have two names (EOPNOTSUPP and ENOTSUP are 95).
_NAMES = {number: name for name, number in ERRNOS.items()}


class Refusal(Exception):
    """The service refuses a request. `reason` is one of the table's; metadata adds to ErrorInfo."""

    def __init__(
        self, reason: str, detail: str, *, field: str = "", limit: str = "", **metadata: str
    ) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.field = field
        self.limit = limit
        self.metadata = metadata


def invalid(field: str, detail: str) -> Refusal:
    """The refusal of a request's field."""
    return Refusal("INVALID_REQUEST", detail, field=field)


def limit_exceeded(limit: str, detail: str, field: str = "") -> Refusal:
    """The refusal that names a limit of the service."""
    return Refusal("LIMIT_EXCEEDED", detail, field=field, limit=limit)


class Abortable(Protocol):
    """The part of a ServicerContext that ends a call."""

    def abort_with_status(self, status: grpc.Status) -> NoReturn: ...


def abort(context: Abortable, error: CoreError | Refusal) -> NoReturn:
    """End the call with the status of an error."""
    context.abort_with_status(rpc_status.to_status(status_of(error)))


def status_of(error: CoreError | Refusal) -> status_pb2.Status:
    """The google.rpc.Status of an error, details included."""
    if isinstance(error, Refusal):
        reason, metadata = error.reason, dict(error.metadata)
    else:
        reason, metadata = _NAMES.get(error.errno, error.reason), _undone(error.fork)
    if reason not in CODES:
        reason = "INTERNAL"
    if reason in ERRNOS:
        metadata["errno"] = str(ERRNOS[reason])
    if error.limit:
        metadata["limit"] = error.limit
    if error.field:
        metadata["field"] = error.field
    details = [
        _packed(error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN, metadata=metadata))
    ]
    if error.field and CODES[reason] == code_pb2.INVALID_ARGUMENT:
        bad = error_details_pb2.BadRequest()
        bad.field_violations.add(field=error.field, description=error.detail)
        details.append(_packed(bad))
    return status_pb2.Status(code=CODES[reason], message=error.detail, details=details)


def _undone(failure: ForkFailure | None) -> dict[str, str]:
    """What is to be told of a fork that failed half way."""
    if failure is None:
        return {}
    return {
        "fault_site": failure.site.name,
        "fault_ordinal": str(failure.ordinal),
        "duplicated_vma_count": str(failure.duplicated),
        "undone_vma_count": str(failure.undone),
        "undo_ns": str(failure.undo_ns),
    }


def _packed(message: error_details_pb2.ErrorInfo | error_details_pb2.BadRequest) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed
