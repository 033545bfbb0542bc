"""System calls of a trace as what they ask of an address space, or of descriptors.

strace prints symbols; here they become the numbers of x86-64 again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from typing import NamedTuple

from forkstorm.constants import Advice, MapFlag, Prot, RemapFlag
from forkstorm.replay.strace import Call


class FileAccess(IntEnum):
    """How a file was opened; the numbers are those of the API."""

    READ_WRITE = 1
    READ_ONLY = 2
    WRITE_ONLY = 3


class Descriptor(NamedTuple):
    """A file descriptor as an argument: its number, and with `strace -y` its path."""

    number: int
    path: str | None


class Map(NamedTuple):
    """mmap(2). The descriptor is -1 for anonymous memory."""

    addr: int
    length: int
    prot: int
    flags: int
    descriptor: Descriptor
    offset: int


class Unmap(NamedTuple):
    """munmap(2)."""

    addr: int
    length: int


class Protect(NamedTuple):
    """mprotect(2), or pkey_mprotect(2) with the default key."""

    addr: int
    length: int
    prot: int


class Remap(NamedTuple):
    """mremap(2)."""

    addr: int
    old_length: int
    new_length: int
    flags: int
    new_addr: int


class Advise(NamedTuple):
    """madvise(2)."""

    addr: int
    length: int
    advice: int


class SetBreak(NamedTuple):
    """brk(2)."""

    addr: int


class Clone(NamedTuple):
    """fork(2), vfork(2), clone(2), clone3(2)."""

    shares_memory: bool
    shares_descriptors: bool
    same_process: bool


class Exec(NamedTuple):
    """execve(2), execveat(2)."""

    path: str


class Exit(NamedTuple):
    """_exit(2) of one thread, or exit_group(2) of all."""

    whole_process: bool


class Open(NamedTuple):
    """open(2), openat(2), memfd_create(2): the result is a new open file."""

    path: str
    access: FileAccess


class Duplicate(NamedTuple):
    """dup(2), dup2(2), dup3(2): the result is the same open file."""

    descriptor: Descriptor


class Close(NamedTuple):
    """close(2)."""

    descriptor: Descriptor


class Ignored(NamedTuple):
    """A call that is not replayed. `may_change_maps`: Linux's maps may have changed by it."""

    may_change_maps: bool


MemoryCall = Map | Unmap | Protect | Remap | Advise | SetBreak
Request = MemoryCall | Clone | Exec | Exit | Open | Duplicate | Close | Ignored


class Unreadable(Exception):
    """The arguments of a call cannot be read."""


MAP_FIXED = int(MapFlag.FIXED)
MAP_ANONYMOUS = int(MapFlag.ANONYMOUS)
MREMAP_MAYMOVE, MREMAP_FIXED = int(RemapFlag.MAYMOVE), int(RemapFlag.FIXED)

_PROTS = {f"PROT_{name}": int(flag) for name, flag in Prot.__members__.items()}
_MAP_FLAGS = {
    **{f"MAP_{name}": int(flag) for name, flag in MapFlag.__members__.items()},
    "MAP_FILE": 0,
    "MAP_32BIT": 0x40,
    "MAP_ABOVE4G": 0x80,
    "MAP_HUGE_SHIFT": 26,
    "MAP_UNINITIALIZED": 0x4000000,
}
_REMAP_FLAGS = {f"MREMAP_{name}": int(flag) for name, flag in RemapFlag.__members__.items()}
_ADVICE = {f"MADV_{name}": int(advice) for name, advice in Advice.__members__.items()}
# include/uapi/linux/sched.h
_CLONE_VM, _CLONE_FILES, _CLONE_THREAD = 0x100, 0x400, 0x10000
_CLONES = {"CLONE_VM": _CLONE_VM, "CLONE_FILES": _CLONE_FILES, "CLONE_THREAD": _CLONE_THREAD}

# What locks, sets policies or keys, or attaches memory: flags and boundaries of VMAs may change.
_CHANGING = {
    "map_shadow_stack", "mbind", "mlock", "mlock2", "mlockall", "mseal", "munlock", "munlockall",
    "remap_file_pages", "shmat", "shmdt",
}  # fmt: skip

_DESCRIPTOR = re.compile(r"(-?\d+)(?:<(.*)>(?:\(deleted\))?)?", re.DOTALL)
_COMMENT = re.compile(r"/\*.*?\*/")
_SHIFTED = re.compile(r"(\w+)<<(\w+)")
_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"')
_ESCAPE = re.compile(r"\\([0-7]{1,3}|x[0-9a-f]{2}|.)")
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "v": "\v", "f": "\f"}
_FLAGS_OF_CLONE = re.compile(r"flags=([^,}]*)")
# Of a device, -yy says what it is behind its path.
_DEVICE = re.compile(r"<(?:char|block) \d+:\d+>$")


def request_of(call: Call) -> Request:
    """What a call asks for. Unreadable when its arguments are not as strace prints them."""
    try:
        return _READERS[call.name](call.arguments) if call.name in _READERS else _other(call)
    except (IndexError, ValueError) as error:
        raise Unreadable(f"line {call.line}: {call.name}: {error}") from None


def number(text: str, names: Mapping[str, int] | None = None) -> int:
    """The value of an expression such as PROT_READ|PROT_WRITE, 0x7f00, NULL or 21<<SHIFT.

    ValueError for a symbol that is not in `names`.
    """
    total = 0
    for part in _COMMENT.sub("", text).split("|"):
        word = part.strip()
        if shifted := _SHIFTED.fullmatch(word):
            total |= number(shifted[1], names) << number(shifted[2], names)
        elif word == "NULL":
            continue
        elif names is not None and word in names:
            total |= names[word]
        else:
            total |= int(word, 0)
    return total


def descriptor(text: str) -> Descriptor:
    """A descriptor with or without its path. ValueError when it is none."""
    match = _DESCRIPTOR.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no file descriptor")
    path = match[2]
    if path is not None:
        path = _unescaped(_DEVICE.sub("", path)).removesuffix(" (deleted)")
    return Descriptor(int(match[1]), path)


def string(text: str) -> str:
    """A string in C's quotes. ValueError when it is none."""
    match = _STRING.match(text)
    if match is None:
        raise ValueError(f"{text!r} is no string")
    return _unescaped(match[1])


def _unescaped(text: str) -> str:
    def character(match: re.Match[str]) -> str:
        word = str(match[1])
        if word[0] in "01234567":
            return chr(int(word, 8))
        if word[0] == "x" and len(word) > 1:
            return chr(int(word[1:], 16))
        return _ESCAPED.get(word, word)

    # Beyond ASCII strace escapes byte by byte.
    plain = _ESCAPE.sub(character, text)
    return plain.encode("latin-1", "ignore").decode("utf-8", "surrogateescape")


def _map(a: Sequence[str]) -> Map:
    prot, flags = number(a[2], _PROTS), number(a[3], _MAP_FLAGS)
    return Map(number(a[0]), number(a[1]), prot, flags, descriptor(a[4]), number(a[5]))


def _unmap(a: Sequence[str]) -> Unmap:
    return Unmap(number(a[0]), number(a[1]))


def _protect(a: Sequence[str]) -> Protect:
    return Protect(number(a[0]), number(a[1]), number(a[2], _PROTS))


def _pkey_protect(a: Sequence[str]) -> Protect | Ignored:
    # Other keys are flags of a VMA that a simulated space does not have.
    return _protect(a) if number(a[3]) in (-1, 0) else Ignored(may_change_maps=True)


def _remap(a: Sequence[str]) -> Remap:
    flags = number(a[3], _REMAP_FLAGS)
    new_addr = number(a[4]) if len(a) > 4 else 0
    return Remap(number(a[0]), number(a[1]), number(a[2]), flags, new_addr)


def _advise(a: Sequence[str]) -> Advise:
    return Advise(number(a[0]), number(a[1]), number(a[2], _ADVICE))


def _set_break(a: Sequence[str]) -> SetBreak:
    return SetBreak(number(a[0]))


def _fork(_: Sequence[str]) -> Clone:
    return Clone(False, False, False)


def _vfork(_: Sequence[str]) -> Clone:
    return Clone(True, False, False)


def _clone(a: Sequence[str]) -> Clone:
    match = _FLAGS_OF_CLONE.search(", ".join(a))
    if match is None:
        raise ValueError("has no flags")
    flags = 0
    for word in _COMMENT.sub("", match[1]).split("|"):
        # Signals and namespaces stand among the flags and do not matter here.
        flags |= _CLONES.get(word.strip(), 0)
        if word.strip().startswith("0x"):
            flags |= int(word, 16)
    return Clone(bool(flags & _CLONE_VM), bool(flags & _CLONE_FILES), bool(flags & _CLONE_THREAD))


def _exec(a: Sequence[str]) -> Exec:
    return Exec(string(a[0]))


def _execveat(a: Sequence[str]) -> Exec:
    return Exec(string(a[1]))


def _exit(_: Sequence[str]) -> Exit:
    return Exit(whole_process=False)


def _exit_group(_: Sequence[str]) -> Exit:
    return Exit(whole_process=True)


def _opened(path: str, flags: str) -> Open:
    if "O_RDWR" in flags:
        return Open(path, FileAccess.READ_WRITE)
    return Open(path, FileAccess.WRITE_ONLY if "O_WRONLY" in flags else FileAccess.READ_ONLY)


def _open(a: Sequence[str]) -> Open:
    return _opened(string(a[0]), a[1])


def _openat(a: Sequence[str]) -> Open:
    return _opened(string(a[1]), a[2])


def _memfd_create(a: Sequence[str]) -> Open:
    return Open(f"/memfd:{string(a[0])}", FileAccess.READ_WRITE)


def _duplicate(a: Sequence[str]) -> Duplicate:
    return Duplicate(descriptor(a[0]))


def _close(a: Sequence[str]) -> Close:
    return Close(descriptor(a[0]))


def _other(call: Call) -> Ignored:
    return Ignored(may_change_maps=call.name in _CHANGING and not call.error)


_READERS: dict[str, Callable[[Sequence[str]], Request]] = {
    "brk": _set_break,
    "clone": _clone,
    "clone3": _clone,
    "close": _close,
    "dup": _duplicate,
    "dup2": _duplicate,
    "dup3": _duplicate,
    "execve": _exec,
    "execveat": _execveat,
    "exit": _exit,
    "exit_group": _exit_group,
    "fork": _fork,
    "madvise": _advise,
    "memfd_create": _memfd_create,
    "mmap": _map,
    "mprotect": _protect,
    "mremap": _remap,
    "munmap": _unmap,
    "open": _open,
    "openat": _openat,
    "pkey_mprotect": _pkey_protect,
    "vfork": _vfork,
}
