"""What the command line's arguments say: numbers, sizes, names of Linux and of the API.

Each takes a text, and raises click.BadParameter or ValueError where it says nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import click
from google.protobuf.descriptor import FieldDescriptor

from forkstorm.constants import (
    PROT_EXEC,
    PROT_READ,
    PROT_WRITE,
    Advice,
    FaultSite,
    Prot,
    linux_version,
)
from forkstorm.messages import SpaceParameters

_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_PROTS = {"r": PROT_READ, "w": PROT_WRITE, "x": PROT_EXEC, "-": Prot.NONE}
_TYPE_BOOL = FieldDescriptor.TYPE_BOOL


def number(text: str) -> int:
    """An id or an address: hexadecimal with 0x, or decimal."""
    try:
        value = int(text, 0)
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a number such as 0x7f00 or 4096") from None
    if not 0 <= value < 1 << 64:
        raise click.BadParameter(f"{text!r} does not fit into 64 bits")
    return value


def size(text: str) -> int:
    """A length in bytes: 4096, 0x1000, 4K, 2MiB, 1G."""
    match = re.fullmatch(r"(\d+)([KMGT])(?:i?B)?", text, re.IGNORECASE)
    return int(match[1]) * _UNITS[match[2].upper()] if match else number(text)


def prot(text: str) -> int:
    """Protection in the letters of /proc/PID/maps: rw-, r-x."""
    if unknown := set(text) - _PROTS.keys():
        raise click.BadParameter(f"{''.join(sorted(unknown))!r} is none of r, w, x, -")
    return sum({_PROTS[letter].value for letter in text})


def advice(text: str) -> int:
    """Advice by its name in small letters, or as a number."""
    names = Advice.names()
    return names[text].value if text in names else number(text)


def fault(text: str) -> tuple[FaultSite, int]:
    """SITE@ORDINAL: vma-record@3."""
    site, at, ordinal = text.partition("@")
    if not at or not ordinal.isdecimal():
        raise click.BadParameter(f"{text!r} is not of the form SITE@ORDINAL")
    try:
        return FaultSite.parse(site), number(ordinal)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def parameter(text: str) -> tuple[str, int]:
    """NAME=NUMBER of SpaceParameters; linux_version also as a release."""
    name, equals, value = text.partition("=")
    known = SpaceParameters.DESCRIPTOR.fields_by_name
    if not equals or name not in known:
        raise click.BadParameter(f"{text!r} is not NAME=NUMBER with one of {', '.join(known)}")
    if name == "linux_version" and "." in value:
        return name, linux_version(value)
    return name, size(value)


def parameters(pairs: Sequence[tuple[str, int]]) -> SpaceParameters:
    """The parameters of these names. A number that does not fit is wrong usage."""
    params = SpaceParameters()
    for name, value in pairs:
        is_flag = SpaceParameters.DESCRIPTOR.fields_by_name[name].type == _TYPE_BOOL
        try:
            setattr(params, name, bool(value) if is_flag else value)
        except ValueError as error:
            raise click.UsageError(f"--set {name}: {error}") from None
    return params


def label(text: str) -> tuple[str, str]:
    """KEY=VALUE."""
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise click.BadParameter(f"{text!r} is not of the form KEY=VALUE")
    return key, value
