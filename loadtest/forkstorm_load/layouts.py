"""Address-space layouts to fork, as text of /proc/PID/maps.

A layout is named by the file in loadtest/layouts ("java17"), a path to another file of maps, "self"
for the live map of this process, or "seed:N" for the seed table's process with N VMAs.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from forkstorm_load.seed import BASE_VMA_COUNT

_PAGE = 4096
# Far from both the program and the libraries of the base process.
_RUNS_START = 0x7E0000000000
_RUN_LENGTH = 5

SELF = "self"
SEED_PREFIX = "seed:"

# The 21 VMAs of a small process: program, heap, libc, loader, anonymous pieces, stack.
_BASE = """\
555555554000-555555556000 r--p 00000000 fe:00 1201 /usr/bin/storm
555555556000-55555555b000 r-xp 00002000 fe:00 1201 /usr/bin/storm
55555555b000-55555555d000 r--p 00007000 fe:00 1201 /usr/bin/storm
55555555d000-55555555e000 r--p 00008000 fe:00 1201 /usr/bin/storm
55555555e000-55555555f000 rw-p 00009000 fe:00 1201 /usr/bin/storm
55555555f000-555555580000 rw-p 00000000 00:00 0 [heap]
7ffff7a00000-7ffff7ceb000 r--p 00000000 fe:00 1202 /usr/lib/locale/locale-archive
7ffff7d9a000-7ffff7d9d000 rw-p 00000000 00:00 0
7ffff7d9d000-7ffff7dc3000 r--p 00000000 fe:00 1203 /usr/lib/x86_64-linux-gnu/libc.so.6
7ffff7dc3000-7ffff7f18000 r-xp 00026000 fe:00 1203 /usr/lib/x86_64-linux-gnu/libc.so.6
7ffff7f18000-7ffff7f6b000 r--p 0017b000 fe:00 1203 /usr/lib/x86_64-linux-gnu/libc.so.6
7ffff7f6b000-7ffff7f6f000 r--p 001ce000 fe:00 1203 /usr/lib/x86_64-linux-gnu/libc.so.6
7ffff7f6f000-7ffff7f71000 rw-p 001d2000 fe:00 1203 /usr/lib/x86_64-linux-gnu/libc.so.6
7ffff7f71000-7ffff7f7e000 rw-p 00000000 00:00 0
7ffff7fbd000-7ffff7fbf000 rw-p 00000000 00:00 0
7ffff7fc9000-7ffff7fca000 r--p 00000000 fe:00 1204 /usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2
7ffff7fca000-7ffff7ff0000 r-xp 00001000 fe:00 1204 /usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2
7ffff7ff0000-7ffff7ffa000 r--p 00027000 fe:00 1204 /usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2
7ffff7ffb000-7ffff7ffd000 r--p 00031000 fe:00 1204 /usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2
7ffff7ffd000-7ffff7fff000 rw-p 00033000 fe:00 1204 /usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2
7ffffffde000-7ffffffff000 rw-p 00000000 00:00 0 [stack]
"""


def seed_layout(vma_count: int) -> bytes:
    """Maps text of the seed's process: 21 VMAs, and the rest in runs of five.

    The VMAs of a run touch but cannot merge (their protections alternate); between runs lies a gap.
    ValueError below 21 VMAs. O(vma_count).
    """
    extra = vma_count - BASE_VMA_COUNT
    if extra < 0:
        raise ValueError(f"a seed layout has at least {BASE_VMA_COUNT} VMAs, not {vma_count}")
    base = _BASE.splitlines(keepends=True)
    below = [line for line in base if int(line.split("-", 1)[0], 16) < _RUNS_START]
    return "".join([*below, *_runs(extra), *base[len(below) :]]).encode()


def _runs(vma_count: int) -> Iterator[str]:
    for i in range(vma_count):
        start = _RUNS_START + (i + i // _RUN_LENGTH) * _PAGE
        prot = "r--p" if i % 2 else "rw-p"
        yield f"{start:x}-{start + _PAGE:x} {prot} 00000000 00:00 0\n"


def real_layouts() -> dict[str, bytes]:
    """The maps of real processes that come with Forkstorm, by name; FileNotFoundError if lost."""
    # Beside the package in a checkout, under share/ in an installation.
    places = (
        Path(__file__).resolve().parent.parent / "layouts",
        Path(sys.prefix) / "share" / "forkstorm" / "layouts",
    )
    for place in places:
        files = sorted(place.glob("*.maps"))
        if files:
            return {file.stem: file.read_bytes() for file in files}
    raise FileNotFoundError(f"no *.maps in {' or '.join(map(str, places))}")


def live_layout() -> bytes:
    """The maps of this process, now."""
    return Path("/proc/self/maps").read_bytes()


def parse_names(names: str, vma_counts: str = "") -> list[str]:
    """The layouts of two comma-separated options: names, and VMA counts of seed layouts."""
    listed = [name.strip() for name in names.split(",") if name.strip()]
    listed += [SEED_PREFIX + count.strip() for count in vma_counts.split(",") if count.strip()]
    return list(dict.fromkeys(listed))


def layout_label(name: str) -> str:
    """What a layout is called in names and tables: a path by its file's stem."""
    return Path(name).stem if "/" in name else name


def layout_text(name: str) -> bytes:
    """The maps text of a named layout; ValueError says what there is when the name is unknown."""
    if name == SELF:
        return live_layout()
    if "/" in name:
        try:
            return Path(name).read_bytes()
        except OSError as error:
            raise ValueError(f"layout {name!r}: {error.strerror}") from error
    if name.startswith(SEED_PREFIX):
        count = name.removeprefix(SEED_PREFIX)
        if not count.isdecimal():
            raise ValueError(f"layout {name!r}: {count!r} is not a number of VMAs")
        return seed_layout(int(count))
    known = real_layouts()
    if name not in known:
        raise ValueError(f"no layout {name!r}; there are {', '.join(known)}, self and seed:N")
    return known[name]
