"""Which file a mapping is of: what the trace says of descriptors.

Two mappings have one file only if they come from one opening of it. With open and close in the
trace that is known. Without, a descriptor is the same file as long as `strace -y` prints the same
path; without paths, until it is mapped without MAP_FIXED again, since that is how a loader maps the
parts of a library.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field

from forkstorm.messages import File
from forkstorm.replay.calls import MAP_FIXED, Descriptor, FileAccess, Map
from forkstorm.replay.maps import UNKNOWN_NAME, Line
from forkstorm.v1 import types_pb2

# Where no file system lies that asks for 2 MiB boundaries: devices, tmpfs, kernel objects.
_UNALIGNED = ("/dev/", "/proc/", "/sys/", "/memfd:", "/SYSV", "anon_inode:", "socket:", "pipe:")

_MAP_TYPE, _MAP_PRIVATE, _PROT_WRITE = 0xF, 0x2, 0x2


class Placing:
    """Whether a file's mappings are placed at 2 MiB boundaries.

    Known of the files in the texts of maps: a file system on a block device does so, tmpfs and
    overlayfs have devices with the major number 0. Of others the path tells. What no path is known
    of counts as a regular file.
    """

    def __init__(self) -> None:
        self._known: dict[str, bool] = {}

    def learn(self, lines: list[Line]) -> None:
        """Takes the devices of a text of maps."""
        for line in lines:
            if line.name.startswith("/"):
                self._known[line.name] = line.dev_major != 0

    def is_aligned(self, path: str | None) -> bool:
        """Whether mappings of that file are placed so."""
        if path is None:
            return True
        if path in self._known:
            return self._known[path]
        return path.startswith("/") and not path.startswith(_UNALIGNED)


@dataclass(eq=False)
class OpenFile:
    """One opening of a file."""

    open_id: int
    path: str | None
    access: FileAccess | None
    #: Its opening is in the trace.
    traced: bool


@dataclass
class Descriptors:
    """The descriptors of a process."""

    placing: Placing
    _ids: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _open: dict[int, OpenFile] = field(default_factory=dict)

    def copy(self) -> Descriptors:
        """Those of a forked child."""
        return Descriptors(self.placing, self._ids, dict(self._open))

    def opened(self, number: int, path: str | None, access: FileAccess) -> None:
        """A file was opened."""
        self._open[number] = OpenFile(next(self._ids), path, access, traced=True)

    def duplicated(self, old: int, new: int) -> None:
        """A descriptor was duplicated."""
        if old in self._open:
            self._open[new] = self._open[old]
        else:
            self._open.pop(new, None)

    def closed(self, number: int) -> None:
        """A descriptor was closed."""
        self._open.pop(number, None)

    def file_of(self, mapping: Map, error: str) -> File | None:
        """The file of a mmap, which ended with that error; None for a descriptor that is none."""
        if error == "EBADF":
            return None
        opened = self._lookup(mapping.descriptor, bool(mapping.flags & MAP_FIXED))
        if opened.access is None:
            opened.access = _likely_access(mapping, error)
        name = UNKNOWN_NAME if opened.path is None else opened.path
        return File(
            path=name.encode("utf-8", "surrogateescape"),
            open_id=opened.open_id,
            access=types_pb2.FileAccess.Name(opened.access),
            thp_aligned=self.placing.is_aligned(opened.path),
        )

    def _lookup(self, descriptor: Descriptor, fixed: bool) -> OpenFile:
        number, path = descriptor
        known = self._open.get(number)
        if known is not None:
            if path is not None and known.path is None:
                known.path = path
            if known.path == path if path is not None else known.traced or fixed:
                return known
        found = self._open[number] = OpenFile(next(self._ids), path, None, traced=False)
        return found


def _likely_access(mapping: Map, error: str) -> FileAccess:
    """How a file was opened whose opening is not in the trace, from its first mapping.

    A file that is mapped shared is mapped for writing if it can be.
    """
    if mapping.flags & _MAP_TYPE == _MAP_PRIVATE:
        return FileAccess.READ_WRITE
    if mapping.prot & _PROT_WRITE and error != "EACCES":
        return FileAccess.READ_WRITE
    return FileAccess.READ_ONLY
