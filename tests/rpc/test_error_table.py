"""The table of errors: complete, without doubles, and as docs/errors.md says."""

from __future__ import annotations

import errno
import re
from pathlib import Path

import pytest
from forkstormd.core.errors import CoreError
from forkstormd.core.types import FaultSite, ForkFailure
from forkstormd.errors import CODES, ERRNOS, Refusal, check_table, status_of
from google.rpc import code_pb2, error_details_pb2

PAGE = Path(__file__).parents[2] / "docs" / "errors.md"


def test_the_page_has_exactly_the_table() -> None:
    rows = re.findall(r"^\| `([A-Z_]+)` \| ([A-Z_]+) \|", PAGE.read_text(), re.MULTILINE)
    assert len(rows) == len(dict(rows)), "a reason stands there twice"
    assert dict(rows) == {reason: code_pb2.Code.Name(code) for reason, code in CODES.items()}


def test_the_page_has_the_limits_that_the_service_names() -> None:
    page = PAGE.read_text()
    sources = (Path(__file__).parents[2] / "server" / "forkstormd").rglob("*.py")
    text = "".join(path.read_text() for path in sources)
    limits = set(re.findall(r'limit_exceeded\(\s*"([a-z_]+)"', text))
    assert limits >= {"threads", "label_bytes", "repeat_forks"}
    assert not {limit for limit in limits if f"`{limit}`" not in page}


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([("ENOMEM", 8)], "missing"),
        ([("ENOMEM", 8), ("EINVAL", 3), ("ENOMEM", 8)], "twice"),
        ([("ENOMEM", 8), ("EINVAL", 3), ("EXTRA", 3)], "EXTRA"),
        ([("ENOMEM", 8), ("EINVAL", 0)], "code 0"),
        ([("ENOMEM", 8), ("EINVAL", 12)], "code 12"),
        ([("ENOMEM", 8), ("EINVAL", 99)], "code 99"),
    ],
)
def test_a_bad_table_fails(rows: list[tuple[str, int]], says: str) -> None:
    with pytest.raises(RuntimeError, match=says):
        check_table(rows, ["ENOMEM", "EINVAL"])


def test_every_errno_has_its_number() -> None:
    for name, number in ERRNOS.items():
        status = status_of(CoreError(number, "text", field="addr", limit="arena"))
        assert status.code == CODES[name]
        info = error_details_pb2.ErrorInfo()
        assert status.details[0].Unpack(info)
        assert info.reason == name
        assert dict(info.metadata) == {
            "errno": str(getattr(errno, name)),
            "field": "addr",
            "limit": "arena",
        }
        assert len(status.details) == (2 if status.code == code_pb2.INVALID_ARGUMENT else 1)


def test_a_failed_fork_is_told() -> None:
    error = CoreError(errno.ENOMEM, "text", limit="fault")
    error.fork = ForkFailure(FaultSite.PAGE_TABLE, 9, 8, 7, 123)
    info = error_details_pb2.ErrorInfo()
    assert status_of(error).details[0].Unpack(info)
    assert dict(info.metadata) == {
        "errno": "12",
        "limit": "fault",
        "fault_site": "PAGE_TABLE",
        "fault_ordinal": "9",
        "duplicated_vma_count": "8",
        "undone_vma_count": "7",
        "undo_ns": "123",
    }
    page = PAGE.read_text()
    assert all(f"| `{name}` |" in page for name in info.metadata)


def test_what_nobody_knows_is_the_server_s_fault() -> None:
    for error in (CoreError(errno.EIO, "text"), Refusal("NEVER_HEARD_OF", "text")):
        assert status_of(error).code == code_pb2.INTERNAL
