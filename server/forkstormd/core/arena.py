"""The arena: one file, mapped by every process, that holds all spaces.

    Arena.create(path, capacity_bytes)    a new file, mode 0600
    Arena.attach(path)                    an existing one
    default_capacity(directory)           what a server asks for when nobody says

The whole capacity is mapped once and the mapping never moves, because robust mutexes are
known by their address. The file is sparse; room is claimed in chunks (heap.py), so a full
disk or a small /dev/shm is an error and never a SIGBUS. Every process that has the arena
open holds a shared flock on it.

Errors: ArenaError for a file that cannot be made or is no arena of this layout.
"""

import contextlib
import fcntl
import mmap
import os
import secrets
import shutil

import cython

from forkstormd.core.errors import ArenaError

if not cython.compiled:
    import ctypes

    from forkstormd.core.atomics import *
    from forkstormd.core.layout import *
    from forkstormd.core.layout import Extent, Header, Inner, Job, Leaf, Part, Record, Slot
    from forkstormd.core.mutex import *

MAGIC = int.from_bytes(b"FORKSTRM", "little")
CAPACITY_MIN = 4 << 20
# Indexes are 32 bits of 64-byte units from the start of the file: 256 GiB with all tables.
CAPACITY_MAX = 224 << 30
CAPACITY_DEFAULT = 1 << 30
FILES_MAX = 65_536
PATHS_BYTES = 16 << 20


def default_capacity(directory: str, configured: object = None) -> int:
    """The arena's size in bytes: the least of what is configured (1 GiB), half of the free
    space in `directory`, and half of the cgroup's memory.max; at least 4 MiB."""
    wanted = CAPACITY_DEFAULT if configured is None else int(configured)
    wanted = min(wanted, shutil.disk_usage(directory).free // 2)
    memory_max = _cgroup_memory_max()
    if memory_max is not None:
        wanted = min(wanted, memory_max // 2)
    return max(CAPACITY_MIN, min(wanted, CAPACITY_MAX)) // BLOCK_BYTES * BLOCK_BYTES


def _cgroup_memory_max():
    """memory.max of this process's cgroup (version 2), or None when there is no limit."""
    try:
        with open("/proc/self/cgroup", encoding="ascii") as lines:
            own = next(line.split("::", 1)[1].strip() for line in lines if line.startswith("0::"))
        limits = []
        folder = "/sys/fs/cgroup" + own
        while folder.startswith("/sys/fs/cgroup"):
            try:
                with open(folder + "/memory.max", encoding="ascii") as file:
                    text = file.read().strip()
                if text != "max":
                    limits.append(int(text))
            except FileNotFoundError:
                pass
            folder = os.path.dirname(folder)
        return min(limits, default=None)
    except (OSError, StopIteration, ValueError):
        return None


def geometry(capacity_bytes: int, max_spaces: int, lanes: int, dedupe_entries: int) -> dict:
    """Where everything lies in a file whose heap holds capacity_bytes.

    Offsets in bytes, page-aligned. The parts before the heap are sparse: the capacity counts
    what the heap may hold, and the file is longer than that.
    """
    blocks = capacity_bytes // BLOCK_BYTES
    # Lanes keep free slots in hand, so the table is a little longer than the limit.
    slots = min(max_spaces + lanes * SLOT_MAGAZINE, 1 << SLOT_BITS)
    ahead = 0  # blocks before the heap; the maps by block are indexed from the file's start
    while True:
        sizes = {
            "lanes_at": lanes * LANE_STRIDE,
            "dedupe_at": dedupe_entries * DEDUPE_STRIDE,
            "jobs_at": JOBS * JOB_STRIDE,
            "table_at": slots * SLOT_STRIDE + TABLE_CHUNK_BYTES,
            "files_at": FILES_MAX * FILE_STRIDE,
            "paths_at": PATHS_BYTES,
            "free_at": (ahead + blocks) * 8,
            "kind_at": ahead + blocks,
            "refs_at": (ahead + blocks) * BLOCK_UNITS * 4,
        }
        places = {}
        at = HEADER_BYTES
        for name, nbytes in sizes.items():
            places[name] = at
            at += (nbytes + PAGE_BYTES - 1) // PAGE_BYTES * PAGE_BYTES
        places["heap_at"] = at
        if at // BLOCK_BYTES <= ahead:
            break
        ahead = at // BLOCK_BYTES
    return {
        **places,
        "capacity_bytes": capacity_bytes,
        "paths_bytes": PATHS_BYTES,
        "slot_max": slots,
        "space_max": max_spaces,
        "lane_max": lanes,
        "dedupe_max": dedupe_entries,
        "file_max": FILES_MAX,
        "first_block": at // BLOCK_BYTES,
        "block_max": at // BLOCK_BYTES + blocks,
    }


def _boot_id() -> int:
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return int(file.read().strip().replace("-", ""), 16)


def _ram_pages() -> int:
    """Pages of RAM and swap: what the kernel's heuristic overcommit refuses to exceed."""
    kib = 0
    with open("/proc/meminfo", encoding="ascii") as lines:
        for line in lines:
            if line.startswith(("MemTotal:", "SwapTotal:")):
                kib += int(line.split()[1])
    return kib // 4


def _cache_bytes() -> int:
    """The size of the third-level cache; 32 MiB where the system does not tell."""
    try:
        with open("/sys/devices/system/cpu/cpu0/cache/index3/size", encoding="ascii") as file:
            return int(file.read().strip().removesuffix("K")) << 10
    except (OSError, ValueError):
        return 32 << 20


def struct_sizes() -> dict:
    """Size in bytes of every struct in the arena, as this build lays them out."""
    if cython.compiled:
        return {
            "Leaf": cython.sizeof(Leaf),
            "Inner": cython.sizeof(Inner),
            "Record": cython.sizeof(Record),
            "Table": cython.sizeof(Table),
            "Strip": cython.sizeof(Strip),
            "SharedObject": cython.sizeof(SharedObject),
            "Domain": cython.sizeof(Domain),
            "Extent": cython.sizeof(Extent),
            "State": cython.sizeof(State),
            "Slot": cython.sizeof(Slot),
            "Lane": cython.sizeof(Lane),
            "FileEntry": cython.sizeof(FileEntry),
            "DedupeEntry": cython.sizeof(DedupeEntry),
            "Part": cython.sizeof(Part),
            "Job": cython.sizeof(Job),
            "Header": cython.sizeof(Header),
        }
    else:
        structs = (Leaf, Inner, Record, Extent, State, Slot, Lane, FileEntry, DedupeEntry, Header)
        structs += (Part, Job)
        return {struct.__name__: ctypes.sizeof(struct) for struct in structs}


def core_build() -> str:
    """Which build of the core this is: release, checked or uncompiled."""
    if not cython.compiled:
        return "uncompiled"
    return "checked" if IS_CHECKED else "release"


class Arena:
    """One mapped arena file. Not for use by two threads while it opens or closes."""

    def __init__(self) -> None:
        if cython.compiled:
            self.mem = cython.cast(MemP, calloc(1, cython.sizeof(Mem)))
            if self.mem == cython.NULL:
                raise MemoryError
        else:
            self.mem = Mem()
        self.mem.fd = -1
        self.is_open = False

    def __dealloc__(self) -> None:
        c_free(self.mem)

    @staticmethod
    def create(
        path: str,
        capacity_bytes: object,
        max_spaces: object = 65_536,
        lanes: object = 64,
        dedupe_entries: object = None,
    ) -> object:
        """Make and attach a new arena file, mode 0600.

        capacity_bytes is what the heap of nodes and records may grow to (4 MiB to 224 GiB,
        rounded down to 4 KiB); dedupe_entries the number of request ids that are remembered
        (default: one per 8 KiB of capacity, at most 65,536). Raises ArenaError when the file
        exists, the file system is full, or a number is out of range.
        """
        if not CAPACITY_MIN <= capacity_bytes <= CAPACITY_MAX:
            raise ArenaError(f"capacity {capacity_bytes} is not within 4 MiB and 224 GiB")
        if not 1 <= max_spaces <= (1 << SLOT_BITS) - 1 or not 1 <= lanes <= 4096:
            raise ArenaError("max_spaces must be 1 to 1,048,575 and lanes 1 to 4,096")
        if dedupe_entries is None:
            dedupe_entries = min(65_536, capacity_bytes // 8192)
        dedupe_entries = max(DEDUPE_WAYS * DEDUPE_LOCKS, dedupe_entries)
        dedupe_entries = dedupe_entries // DEDUPE_WAYS * DEDUPE_WAYS
        arena: Arena = Arena()
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ArenaError(f"cannot make the arena {path}: {error.strerror}") from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            places = geometry(
                capacity_bytes // BLOCK_BYTES * BLOCK_BYTES, max_spaces, lanes, dedupe_entries
            )
            os.ftruncate(fd, places["block_max"] * BLOCK_BYTES)
            # Header, lanes, dedupe table and jobs are used whole, so they are allocated now.
            os.posix_fallocate(fd, 0, places["table_at"])
            arena._map_file(fd, places["block_max"] * BLOCK_BYTES)
            arena._format(places)
            fcntl.flock(fd, fcntl.LOCK_SH)
        except OSError as error:
            os.unlink(path)
            arena.close()
            raise ArenaError(f"cannot make the arena {path}: {error.strerror}") from error
        arena.path = path
        return arena

    @staticmethod
    def attach(path: str) -> object:
        """Map an existing arena. Raises ArenaError when it is none, or of another layout."""
        arena: Arena = Arena()
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as error:
            raise ArenaError(f"cannot open the arena {path}: {error.strerror}") from error
        try:
            fcntl.flock(fd, fcntl.LOCK_SH)
            size = os.fstat(fd).st_size
            if size < HEADER_BYTES:
                raise ArenaError(f"{path} is no arena: {size} bytes")
            arena._map_file(fd, size)
            arena._accept(path, size)
        except OSError as error:
            arena.close()
            raise ArenaError(f"cannot attach the arena {path}: {error.strerror}") from error
        except ArenaError:
            arena.close()
            raise
        arena.path = path
        return arena

    def _map_file(self, fd, capacity):
        self.mem.fd = fd
        self._map = mmap.mmap(fd, capacity, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        if cython.compiled:
            # The view keeps the mapping from being closed while pointers into it exist.
            self._view = memoryview(self._map)
            whole: cython.uchar[::1] = self._view
            self.mem.base = cython.cast(cython.p_char, cython.address(whole[0]))
            self.mem.header = cython.cast(HeaderP, self.mem.base)
        else:
            self.mem.base = self._map
            self.mem.header = Header.from_buffer(self._map)
        self.is_open = True

    def _find_maps(self) -> None:
        """Point at the free map, the kinds and the refcounts of an accepted header."""
        mem: MemP = self.mem
        if cython.compiled:
            mem.free = cython.cast(cython.pointer(u64), mem.base + mem.header.free_at)
            mem.kind = cython.cast(cython.pointer(u8), mem.base + mem.header.kind_at)
            mem.refs = cython.cast(cython.pointer(u32), mem.base + mem.header.refs_at)
        else:
            blocks = mem.header.block_max
            mem.free = (ctypes.c_uint64 * blocks).from_buffer(mem.base, mem.header.free_at)
            mem.kind = (ctypes.c_uint8 * blocks).from_buffer(mem.base, mem.header.kind_at)
            mem.refs = (ctypes.c_uint32 * (blocks * BLOCK_UNITS)).from_buffer(
                mem.base, mem.header.refs_at
            )
        mem.populated_blocks = mem.header.first_block
        mem.stream_blocks = _cache_bytes() // 2 // BLOCK_BYTES
        mem.helper_bits = 0
        mem.helpers_max = len(os.sched_getaffinity(0)) - 1
        populate(mem.base, 0, mem.header.table_at)
        populate(mem.base, mem.header.table_at, mem.header.table_claimed)

    def _format(self, places):
        header: HeaderP = self.mem.header
        i: cython.int
        for i in range(DEDUPE_LOCKS):
            mutex_init(header.dedupe_lock[i])
        mutex_init(header.heap_lock)
        mutex_init(header.table_lock)
        mutex_init(header.files_lock)
        header.layout_version = LAYOUT_VERSION
        header.lane_max = places["lane_max"]
        header.capacity_bytes = places["capacity_bytes"]
        header.instance_high = secrets.randbits(64)
        header.instance_low = secrets.randbits(64)
        boot = _boot_id()
        header.boot_high = boot >> 64
        header.boot_low = boot & MAX_INDEX
        header.space_max = places["space_max"]
        header.slot_max = places["slot_max"]
        header.file_max = places["file_max"]
        header.dedupe_max = places["dedupe_max"]
        header.lanes_at = places["lanes_at"]
        header.table_at = places["table_at"]
        header.dedupe_at = places["dedupe_at"]
        header.jobs_at = places["jobs_at"]
        header.files_at = places["files_at"]
        header.paths_at = places["paths_at"]
        header.paths_bytes = places["paths_bytes"]
        header.free_at = places["free_at"]
        header.kind_at = places["kind_at"]
        header.refs_at = places["refs_at"]
        header.heap_at = places["heap_at"]
        header.first_block = places["first_block"]
        header.block_max = places["block_max"]
        header.claimed_blocks = places["first_block"]
        header.ram_pages = _ram_pages()
        self._find_maps()
        self._format_jobs()
        header.magic = MAGIC

    def _format_jobs(self) -> None:
        job: JobP
        i: cython.int
        part: cython.int
        for i in range(JOBS):
            job = job_at(self.mem, i)
            mutex_init(job.lock)
            for part in range(JOB_PARTS):
                mutex_init(job_part(job, part).lock)

    def _accept(self, path: str, size: object) -> None:
        """Refuse what is no arena, or none of this layout, before anything is believed."""
        header: HeaderP = self.mem.header
        if header.magic != MAGIC:
            raise ArenaError(f"{path} is no arena")
        if header.layout_version != LAYOUT_VERSION:
            raise ArenaError(
                f"{path} has layout {header.layout_version}, this server has {LAYOUT_VERSION}"
            )
        expected = geometry(
            header.capacity_bytes, header.space_max, header.lane_max, header.dedupe_max
        )
        found = {
            "table_at": header.table_at,
            "free_at": header.free_at,
            "refs_at": header.refs_at,
            "heap_at": header.heap_at,
            "block_max": header.block_max,
        }
        if any(expected[name] != value for name, value in found.items()):
            raise ArenaError(f"{path} has a header that contradicts itself")
        if size != header.block_max * BLOCK_BYTES:
            raise ArenaError(f"{path} is {size} bytes long, not {header.block_max * BLOCK_BYTES}")
        self._find_maps()

    def close(self) -> None:
        """Unmap; the file stays. Nothing that was made on this arena may be used after."""
        if self.mem.fd < 0:
            return
        fd = self.mem.fd
        self.mem.fd = -1
        self.is_open = False
        if cython.compiled:
            if self._view is not None:
                self._view.release()
            if self._map is not None:
                self._map.close()
        self._view = self._map = None
        os.close(fd)

    def unlink(self) -> None:
        """Remove the file; mappings of it live on. Nothing happens when it is gone."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)

    def view(self, at: object, nbytes: object) -> object:
        """Bytes of the file as a writable memoryview. Release it before close()."""
        return memoryview(self._map)[at : at + nbytes]

    @property
    def instance_id(self) -> str:
        """32 hex digits, chosen when the arena was made."""
        return f"{self.mem.header.instance_high:016x}{self.mem.header.instance_low:016x}"

    @property
    def build(self) -> str:
        """As core_build()."""
        return core_build()

    def stream_from(self, nbytes: object) -> None:
        """Let this process write copies of extents of more than so many bytes past the caches
        (copying.py); half of the largest cache unless told. Results are the same."""
        self.mem.stream_blocks = nbytes // BLOCK_BYTES

    def usage(self) -> dict:
        """Bytes and limits: claimed_bytes and free_bytes count the heap, free_bytes also what
        is not claimed yet; what lies in magazines is not free. O(claimed blocks)."""
        mem: MemP = self.mem
        header: HeaderP = mem.header
        block: u32
        units: u64 = 0
        for block in range(header.first_block, header.claimed_blocks):
            units += bit_count(mem.free[block])
        unclaimed = header.block_max - header.claimed_blocks
        return {
            "claimed_bytes": (header.claimed_blocks - header.first_block) * BLOCK_BYTES,
            "capacity_bytes": header.capacity_bytes,
            "free_bytes": units * UNIT_BYTES + unclaimed * BLOCK_BYTES,
            "max_spaces": header.space_max,
            "spaces": header.space_count,
            "dedupe_entries": header.dedupe_max,
            "lanes": header.lane_max,
            "files": header.file_count,
        }

    def counter(self, i: cython.int) -> object:
        """A shared counter, 0 <= i < 256; what they mean is the server's affair."""
        if not 0 <= i < COUNTERS:
            raise IndexError(i)
        return self.mem.header.counter[i]

    def add_counter(self, i: cython.int, n: object) -> None:
        """Add to a shared counter, atomically; n may be negative (modulo 2**64)."""
        if not 0 <= i < COUNTERS:
            raise IndexError(i)
        counter_add(self.mem.header, i, n & MAX_INDEX)
