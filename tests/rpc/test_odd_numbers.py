"""Numbers that no program sends: each gets an answer or an errno, and the space stays sound."""

from __future__ import annotations

import random

import grpc
import pytest
from forkstorm.v1 import types_pb2

from tests.rpc.calls import Api

ROUNDS = 1500
PLACE = 0x10_0000_0000
TOP = 2**64 - 1
# fmt: off
ADDRESSES = [
    0, 1, 4095, 4096, PLACE, PLACE + 0x3000, PLACE + 0x3001, 0x7FFF_FFFF_E000, 0x7FFF_FFFF_F000,
    1 << 47, 1 << 56, (1 << 63) - 1, 1 << 63, TOP - 4095, TOP,
]
LENGTHS = [0, 1, 4096, 0x2800, 0x10000, 1 << 21, 1 << 40, 1 << 47, 1 << 63, TOP - 4095, TOP]
FLAGS = [0, 1, 2, 3, 4, 5, 6, 7, 0x20, 0x22, 0x32, 0x122, 0x100022, 0x4022, 1 << 31, (1 << 32) - 1]
# fmt: on
FILE = types_pb2.File(path=b"/odd", inode=1)
# What a wrong number may be answered with.
REFUSED = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.ALREADY_EXISTS,
}


def odd_call(api: Api, mm_id: int, draw: random.Random) -> None:
    """One call of any kind with numbers of the lists above."""
    pick = draw.choice
    addr, length, flags = pick(ADDRESSES), pick(LENGTHS), pick(FLAGS)
    wide = pick([flags, flags, 1 << 40, TOP])
    match draw.randrange(8):
        case 0:
            api.map(mm_id, length, addr, flags & 7, pick(FLAGS))
        case 1:
            api.map(mm_id, length, addr, 3, flags, file=FILE)
        case 2:
            # What succeeds, so that the others find something.
            api.map(mm_id, 1 << 16, PLACE, 3, 0x32)
            api.touch(mm_id, PLACE + pick([0, 4095, 0xFFFF]), types_pb2.TOUCH_ACCESS_WRITE, TOP)
        case 3:
            api.unmap(mm_id, addr, length)
        case 4:
            api.protect(mm_id, addr, length, wide)
        case 5:
            api.remap(mm_id, addr, length, pick(LENGTHS), wide, pick(ADDRESSES))
        case 6:
            api.advise(mm_id, addr, length, pick([*range(26), *FLAGS]))
        case _:
            api.set_break(mm_id, addr)
            api.touch(mm_id, addr)


@pytest.mark.parametrize("seed", range(2))
def test_odd_numbers_get_errnos(api: Api, seed: int) -> None:
    draw = random.Random(seed)
    mm_id = api.create(parameters={"start_brk": PLACE >> 1, "lsm_min_addr": 1 << 16})
    refused: list[grpc.StatusCode] = []
    for _ in range(ROUNDS):
        try:
            odd_call(api, mm_id, draw)
        except grpc.RpcError as error:
            refused.append(error.code())
    assert set(refused) <= REFUSED
    assert ROUNDS / 10 < len(refused) < ROUNDS * 0.9
    assert api.violations(mm_id) == []
    child = api.fork(mm_id).child
    assert api.vmas(child) == api.vmas(mm_id)
    for space in (child, mm_id):
        api.exit(space)
