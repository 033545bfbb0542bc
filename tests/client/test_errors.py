"""Statuses of a server become the errors that errors.py draws."""

import errno
import os
import pickle
from typing import Any

import grpc
import pytest
from forkstorm import Client, errors
from forkstorm.constants import FaultSite
from forkstorm.errors import ForkstormError, LinuxError, _table
from grpc import StatusCode

from tests.client.fake import FakeServer, refuse

# The server's table: errno and gRPC status.
ERRNOS = [
    ("ENOMEM", StatusCode.RESOURCE_EXHAUSTED, errors.NoMemory),
    ("EAGAIN", StatusCode.RESOURCE_EXHAUSTED, errors.TryAgain),
    ("EEXIST", StatusCode.ALREADY_EXISTS, errors.AlreadyMapped),
    ("EINVAL", StatusCode.INVALID_ARGUMENT, errors.InvalidArgument),
    ("EOVERFLOW", StatusCode.INVALID_ARGUMENT, errors.ValueTooLarge),
    ("EFAULT", StatusCode.FAILED_PRECONDITION, errors.BadAddress),
    ("EBADF", StatusCode.FAILED_PRECONDITION, errors.BadFile),
    ("EOPNOTSUPP", StatusCode.FAILED_PRECONDITION, errors.NotSupported),
    ("EBUSY", StatusCode.FAILED_PRECONDITION, errors.Busy),
    ("EACCES", StatusCode.PERMISSION_DENIED, errors.AccessDenied),
    ("EPERM", StatusCode.PERMISSION_DENIED, errors.NotPermitted),
    ("EINTR", StatusCode.ABORTED, errors.Interrupted),
]


def failure(fake: FakeServer, client: Client, *status: Any, **details: Any) -> ForkstormError:
    """What the client raises when a Map ends so."""
    fake.answers["Map"] = lambda request, context: refuse(context, *status, **details)
    with pytest.raises(ForkstormError) as caught:
        client.get(1).map(4096)
    assert isinstance(caught.value.__cause__, grpc.RpcError)
    return caught.value


@pytest.mark.parametrize(("name", "code", "kind"), ERRNOS)
def test_an_errno_is_an_oserror(
    fake: FakeServer, fake_client: Client, name: str, code: StatusCode, kind: type[LinuxError]
) -> None:
    number = getattr(errno, name)
    error = failure(fake, fake_client, code, name, text="why", field="addr", errno=name)
    assert type(error) is kind
    assert isinstance(error, LinuxError)
    assert (error.errno, error.strerror) == (number, os.strerror(number))
    assert (error.code, error.reason, error.field, error.detail) == (code, name, "addr", "why")
    assert str(error) == f"{name}: why [addr]"
    # Where Python has a class of its own for the errno, it is that too.
    builtin = type(OSError(number, ""))
    assert builtin in type(error).__mro__


def test_every_errno_of_the_table_has_its_class() -> None:
    assert {kind for _, _, kind in ERRNOS} == set(errors._LINUX_ERRORS)


@pytest.mark.parametrize(
    ("reason", "code", "kind"),
    [
        ("NO_SUCH_SPACE", StatusCode.NOT_FOUND, errors.NoSuchSpace),
        ("INVALID_REQUEST", StatusCode.INVALID_ARGUMENT, errors.InvalidRequest),
        ("MALFORMED_MAPS", StatusCode.INVALID_ARGUMENT, errors.MalformedMaps),
        ("LIMIT_EXCEEDED", StatusCode.RESOURCE_EXHAUSTED, errors.LimitExceeded),
        ("DEADLINE", StatusCode.DEADLINE_EXCEEDED, errors.DeadlineExceeded),
        ("CANCELLED", StatusCode.CANCELLED, errors.Cancelled),
        ("INTERNAL", StatusCode.INTERNAL, errors.ServerFault),
        ("REQUEST_IN_PROGRESS", StatusCode.ABORTED, errors.RequestInProgress),
        ("REQUEST_ID_REUSED", StatusCode.FAILED_PRECONDITION, errors.RequestIdReused),
    ],
)
def test_a_word_of_the_service_is_no_oserror(
    fake: FakeServer,
    fake_client: Client,
    reason: str,
    code: StatusCode,
    kind: type[ForkstormError],
) -> None:
    error = failure(fake, fake_client, code, reason)
    assert type(error) is kind
    assert not isinstance(error, OSError)


def test_a_limit_is_named(fake: FakeServer, fake_client: Client) -> None:
    error = failure(
        fake, fake_client, StatusCode.RESOURCE_EXHAUSTED, "ENOMEM", limit="max_map_count"
    )
    assert isinstance(error, errors.LimitExceeded)
    assert error.limit == "max_map_count"
    assert error.metadata == {"limit": "max_map_count"}
    code = StatusCode.RESOURCE_EXHAUSTED
    error = failure(fake, fake_client, code, "LIMIT_EXCEEDED", limit="waiters")
    assert type(error) is errors.LimitExceeded
    assert error.limit == "waiters"


@pytest.mark.parametrize("code", sorted(set(StatusCode) - {StatusCode.OK}, key=str))
def test_a_status_without_details_is_no_oserror(
    fake: FakeServer, fake_client: Client, code: StatusCode
) -> None:
    error = failure(fake, fake_client, code)
    assert error.code is code
    assert not isinstance(error, OSError)
    assert type(error) is not ForkstormError


def test_malformed_maps_name_the_line(fake: FakeServer, fake_client: Client) -> None:
    error = failure(fake, fake_client, StatusCode.INVALID_ARGUMENT, "MALFORMED_MAPS", line="7")
    assert isinstance(error, errors.MalformedMaps)
    assert error.line == 7


def test_details_of_another_domain_do_not_count(fake: FakeServer, fake_client: Client) -> None:
    error = failure(fake, fake_client, StatusCode.NOT_FOUND, "ENOMEM", domain="example.com")
    assert type(error) is errors.NoSuchSpace
    assert error.reason == ""


def test_a_reason_that_names_something_else_in_errno_is_no_errno(
    fake: FakeServer, fake_client: Client
) -> None:
    error = failure(fake, fake_client, StatusCode.INTERNAL, "errorcode")
    assert type(error) is errors.ServerFault


def test_details_that_contradict_the_status_do_not_count(
    fake: FakeServer, fake_client: Client
) -> None:
    def contradict(request: Any, context: grpc.ServicerContext) -> Any:
        context.set_trailing_metadata((("grpc-status-details-bin", b"\x08\x08"),))
        context.abort(StatusCode.NOT_FOUND, "gone")

    fake.answers["Map"] = contradict
    with pytest.raises(errors.NoSuchSpace, match="NOT_FOUND: gone"):
        fake_client.get(1).map(4096)


def test_a_failed_fork_tells_what_was_undone(fake: FakeServer, fake_client: Client) -> None:
    code = StatusCode.RESOURCE_EXHAUSTED
    told = {
        "fault_site": "VMA_RECORD",
        "fault_ordinal": "17",
        "duplicated_vma_count": "16",
        "undone_vma_count": "15",
        "undo_ns": "1234",
    }
    error = failure(fake, fake_client, code, "ENOMEM", limit="fault", **told)
    assert error.fork == (FaultSite.VMA_RECORD, 17, 16, 15, 1234)
    assert error.fork is not None
    assert error.fork.site.alias == "vma-record"
    assert error.limit == "fault"
    assert pickle.loads(pickle.dumps(error)).fork == error.fork
    # Any other error, and a site that only a newer server knows.
    assert failure(fake, fake_client, code, "ENOMEM", limit="arena").fork is None
    newer = failure(fake, fake_client, code, "ENOMEM", fault_site="RMAP", fault_ordinal="1")
    assert newer.fork is None
    assert newer.metadata["fault_ordinal"] == "1"


def test_errors_survive_pickling(fake: FakeServer, fake_client: Client) -> None:
    error = failure(fake, fake_client, StatusCode.RESOURCE_EXHAUSTED, "ENOMEM", limit="arena")
    again = pickle.loads(pickle.dumps(error))
    assert isinstance(again, errors.NoMemory)
    assert (again.errno, again.limit, str(again)) == (errno.ENOMEM, "arena", str(error))


def test_a_table_with_a_hole_or_a_double_is_refused() -> None:
    rows = [("a", errors.Busy), ("b", errors.BadFile)]
    assert _table("letter", rows, {"a", "b"}) == dict(rows)
    with pytest.raises(RuntimeError, match="letter a stands for Busy and BadFile"):
        _table("letter", [("a", errors.Busy), ("a", errors.BadFile)], {"a"})
    with pytest.raises(RuntimeError, match=r"letter without an error.*'c'"):
        _table("letter", rows, {"a", "b", "c"})
    with pytest.raises(RuntimeError, match=r"unknown.*'b'"):
        _table("letter", rows, {"a"})


def test_the_drawing_shows_every_class() -> None:
    drawing = errors.__doc__ or ""
    for name, kind in vars(errors).items():
        if isinstance(kind, type) and issubclass(kind, ForkstormError):
            assert f" {name} " in f"{drawing} "
