"""What the core raises.

CoreError       an operation on a space failed; nothing was changed
MalformedBatch  many operations in columns that do not fit each other
ArenaError      an arena file cannot be made or attached
"""

import errno as errno_names

from forkstormd.core.types import ForkFailure


class CoreError(Exception):
    """An operation failed and changed nothing.

    errno is Linux's number, 0 where Linux has none; reason its name ("ENOMEM") or
    NO_SUCH_SPACE or DEADLINE; field the request's field at fault, or ""; limit the limit
    that was hit, or ""; detail a sentence for people. fork tells where a fork failed half way,
    None for all else.
    """

    def __init__(self, errno: int, detail: str, field: str = "", limit: str = "", reason: str = ""):
        self.errno = errno
        self.reason = reason or errno_names.errorcode.get(errno, str(errno))
        self.field = field
        self.limit = limit
        self.detail = detail
        self.fork: ForkFailure | None = None
        super().__init__(f"{self.reason}: {detail}")


class MalformedBatch(Exception):
    """A batch that is none; field is the column at fault, detail a sentence for people."""

    def __init__(self, field: str, detail: str):
        self.field = field
        self.detail = detail
        super().__init__(f"{field}: {detail}")


class ArenaError(Exception):
    """The text says which file and why."""
