"""Names and numbers: Linux's where Linux has them, the API's where the API does."""

import mmap
import os
from enum import IntEnum

import pytest
from forkstorm import constants
from forkstorm.constants import Advice, FaultSite, Recovery, RemapFlag, TouchAccess, linux_version
from forkstorm.v1 import types_pb2


def test_the_numbers_of_madvise_are_those_of_this_machine() -> None:
    names = [name for name in dir(mmap) if name.startswith("MADV_")]
    assert len(names) >= 15
    for name in names:
        assert getattr(constants, name) == getattr(mmap, name)


@pytest.mark.parametrize(("kind", "prefix"), [(Advice, "MADV_"), (RemapFlag, "MREMAP_")])
def test_every_member_has_its_constant(kind: type[IntEnum], prefix: str) -> None:
    listed = {name: value for name, value in vars(constants).items() if name.startswith(prefix)}
    assert listed == {prefix + name: one for name, one in kind.__members__.items()}


@pytest.mark.parametrize(
    ("kind", "numbers"),
    [
        (FaultSite, types_pb2.ForkFaultSite.items()),
        (Recovery, types_pb2.ForkRecovery.items()),
        (TouchAccess, types_pb2.TouchAccess.items()),
        (constants.ForkStrategy, types_pb2.ForkStrategy.items()),
    ],
)
def test_an_enumeration_of_the_api_is_complete(
    kind: type[IntEnum], numbers: list[tuple[str, int]]
) -> None:
    unset = next(name for name, number in numbers if not number)
    prefix = unset.removesuffix("UNSPECIFIED")
    known = {name.removeprefix(prefix): number for name, number in numbers if number}
    assert known == {one.name: one.value for one in kind}


def test_members_have_aliases() -> None:
    assert FaultSite.parse("dontcopy-erase") is FaultSite.parse("DONTCOPY_ERASE")
    assert Advice.parse("wipeonfork") is constants.MADV_WIPEONFORK
    with pytest.raises(ValueError, match=r"no advice 'never'; there are NORMAL, .*dontfork"):
        Advice.parse("never")


@pytest.mark.parametrize(
    ("release", "number"), [("6.18", 6018), ("6.8.0-45-generic", 6008), ("7.0-rc1", 7000)]
)
def test_a_release_is_a_number(release: str, number: int) -> None:
    assert linux_version(release) == number


def test_this_kernel_has_a_number() -> None:
    assert linux_version(os.uname().release) > 2000
    with pytest.raises(ValueError, match="no release of Linux"):
        linux_version("6")
