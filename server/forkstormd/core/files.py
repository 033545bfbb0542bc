"""Interned files: what a mapping maps, as a number every process knows.

The table in the arena is append-only; each process keeps what it has read of it in a dict.
An id is the index of the entry plus 1. Ids from SHARED_OBJECT on are no entries but the
objects of shared anonymous mappings, one per mmap(2) (rule I3).
"""

from errno import ENOMEM

import cython

from forkstormd.core.errors import CoreError
from forkstormd.core.types import FileInfo

if not cython.compiled:
    from forkstormd.core.atomics import claim_file
    from forkstormd.core.layout import *
    from forkstormd.core.mutex import *

CLAIM_BYTES = 64 << 10
PATH_BYTES_MAX = 4096


class FileTable:
    """The interned files of an arena, as this process knows them. Call it with the GIL held."""

    def __init__(self, arena: object) -> None:
        self.arena = arena
        self.ids = {}
        self.known = []

    def intern(self, info: object) -> object:
        """The id of a FileInfo, the same in every process; O(1) when known.

        Raises CoreError ENOMEM, limit "files", when the table or the file system is full.
        """
        found = self.ids.get(info)
        if found is not None:
            return found
        if len(info.path) > PATH_BYTES_MAX:
            raise CoreError(ENOMEM, f"a path of {len(info.path)} bytes", "file", "path_bytes")
        header: HeaderP = self.arena.mem.header
        # Without the GIL: the thread that holds the lock may be waiting for it.
        with cython.nogil:
            mutex_wait(header.files_lock, 0)
        try:
            self.refresh()
            found = self.ids.get(info)
            if found is None:
                self.append(info)
                self.refresh()
                found = self.ids[info]
        finally:
            mutex_release(header.files_lock)
        return found

    def info(self, file: object) -> object:
        """The FileInfo behind an id. Raises KeyError for a number that is none."""
        if file >= SHARED_OBJECT:
            return FileInfo(b"/dev/zero (deleted)", 0, 1, file - SHARED_OBJECT, 0, 3, False)
        if file > len(self.known):
            self.refresh()
        if not 1 <= file <= len(self.known):
            raise KeyError(file)
        return self.known[file - 1]

    def refresh(self):
        """Read the entries that others have added."""
        header: HeaderP = self.arena.mem.header
        entry: FileEntryP
        while len(self.known) < header.file_count:
            entry = file_entry_at(self.arena.mem, len(self.known) + 1)
            path = bytes(self.arena.view(header.paths_at + entry.path_offset, entry.path_bytes))
            info = FileInfo(
                path,
                entry.dev_major,
                entry.dev_minor,
                entry.inode,
                entry.open_id,
                entry.access,
                entry.thp_aligned != 0,
            )
            self.known.append(info)
            self.ids[info] = len(self.known)

    def append(self, info: object) -> None:
        """Add an entry; the table's lock is held. The count moves last: a death in between
        leaves the entry unused."""
        header: HeaderP = self.arena.mem.header
        entry: FileEntryP
        size = len(info.path)
        self.claim(size)
        self.arena.view(header.paths_at + header.paths_used, size)[:] = info.path
        entry = file_entry_at(self.arena.mem, header.file_count + 1)
        entry.inode = info.inode
        entry.open_id = info.open_id
        entry.path_offset = header.paths_used
        entry.dev_major = info.dev_major
        entry.dev_minor = info.dev_minor
        entry.access = info.access
        entry.path_bytes = size
        entry.object = 0
        entry.thp_aligned = info.thp_aligned
        header.paths_used += size
        header.file_count += 1

    def claim(self, nbytes):
        """Room in the file for one more entry and a path of nbytes."""
        header: HeaderP = self.arena.mem.header
        full = CoreError(ENOMEM, "no room for another file name", "file", "files")
        if header.file_count >= header.file_max or header.paths_used + nbytes > header.paths_bytes:
            raise full
        if cython.cast(u64, header.file_count + 1) * FILE_STRIDE > header.files_claimed:
            if (
                claim_file(self.arena.mem.fd, header.files_at + header.files_claimed, CLAIM_BYTES)
                != 0
            ):
                raise full
            header.files_claimed += CLAIM_BYTES
        while header.paths_used + nbytes > header.paths_claimed:
            if (
                claim_file(self.arena.mem.fd, header.paths_at + header.paths_claimed, CLAIM_BYTES)
                != 0
            ):
                raise full
            header.paths_claimed += CLAIM_BYTES
