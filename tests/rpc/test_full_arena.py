"""No room: in the arena, in the table of spaces, in the file system. Nothing is harmed."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from forkstorm.v1 import address_spaces_pb2 as pb
from forkstorm.v1 import diagnostics_pb2

from tests.rpc.calls import BULK_INSERT, EXTENT_COPY, SHARE, TREE_DUP, Api, refused
from tests.rpc.texts import many_vmas
from tests.serving import running_server

FULL = grpc.StatusCode.RESOURCE_EXHAUSTED


def fork_until_full(api: Api, mm_id: int, limit: str, strategy: int = TREE_DUP) -> list[int]:
    """Children until a fork is refused for this limit."""
    children: list[int] = []
    with refused(FULL, "ENOMEM", limit=limit, errno="12") as told:
        while len(children) < 5000:
            children.append(api.fork(mm_id, strategy=strategy).child)
    assert children
    # Without a slot a fork does not begin; what it ran out of half way is told.
    if limit == "arena":
        assert told.metadata["fault_site"] in ("TREE_NODE", "VMA_RECORD", "PAGE_TABLE")
        done, undone = (
            int(told.metadata[f"{what}_vma_count"]) for what in ("duplicated", "undone")
        )
        # A VMA is the child's before its page tables are copied.
        assert done == undone <= int(told.metadata["fault_ordinal"]) + 1
    else:
        assert "fault_site" not in told.metadata
    return children


def check_unharmed(api: Api, mm_id: int, text: bytes, children: list[int]) -> None:
    """The parent is as it was, an Exit makes room, and nothing leaked."""
    assert api.maps_text(mm_id) == text
    for child in children[:5]:
        api.exit(child)
    children[:5] = [api.fork(mm_id).child]
    for child in children:
        api.exit(child)
    verified = api.diagnostics.Verify(diagnostics_pb2.VerifyRequest())
    assert (verified.verified_space_count, list(verified.violations)) == (1, [])
    assert api.leaks() == {}


@pytest.fixture
def small() -> Iterator[Api]:
    with running_server("--arena-bytes", "8MiB", workers=1) as server:
        api = Api(server.address)
        yield api
        api.channel.close()


@pytest.mark.parametrize("strategy", [BULK_INSERT, TREE_DUP, EXTENT_COPY])
def test_a_full_arena(small: Api, strategy: int) -> None:
    text = many_vmas(1000)
    mm_id = small.create(text)
    children = fork_until_full(small, mm_id, "arena", strategy)
    check_unharmed(small, mm_id, text, children)


def test_a_full_arena_has_no_extents_and_still_shares(small: Api) -> None:
    text = many_vmas(1000)
    mm_id = small.create(text)
    children: list[int] = []
    used: list[int] = []
    with refused(FULL, "ENOMEM", limit="arena"):
        while len(children) < 5000:
            answer = small.fork(mm_id, strategy=EXTENT_COPY)
            children.append(answer.child)
            used.append(answer.strategy)
    assert used[0] == EXTENT_COPY
    # What takes no room needs none.
    shared = small.fork(mm_id, strategy=SHARE)
    assert shared.strategy == SHARE
    # Extents among single nodes and records: with holes, but no run that is long enough.
    for child in children[::3]:
        small.exit(child)
    again = [small.fork(mm_id, strategy=TREE_DUP).child]
    again.append(small.fork(mm_id, strategy=EXTENT_COPY).child)
    small.exit(shared.child)
    del children[::3]
    check_unharmed(small, mm_id, text, children + again)


def test_without_a_run_of_blocks_an_extent_copy_is_a_tree_dup(small: Api) -> None:
    text = many_vmas(1000)
    mm_id = small.create(text)
    children = fork_until_full(small, mm_id, "arena", TREE_DUP)
    # Every other one goes: half of the arena is free, in pieces.
    for child in children[::2]:
        small.exit(child)
    del children[::2]
    used = []
    for _ in range(3):
        answer = small.fork(mm_id, strategy=EXTENT_COPY)
        used.append(answer.strategy)
        children.append(answer.child)
        assert small.maps_text(answer.child) == text
    assert TREE_DUP in used
    check_unharmed(small, mm_id, text, children)


def test_a_full_arena_refuses_everything_that_needs_room(small: Api) -> None:
    mm_id = small.create(many_vmas(1000))
    children = fork_until_full(small, mm_id, "arena")
    # What is left over from a fork that did not fit is used up by smaller things.
    with refused(FULL, "ENOMEM", limit="arena"):
        for _ in range(5000):
            small.create(many_vmas(20))
    before = small.vmas(mm_id)
    with refused(FULL, "ENOMEM", limit="arena"):
        for i in range(5000):
            small.map(mm_id, addr=0x5000_0000 + i * 0x2000)
    with refused(FULL, "ENOMEM", limit="arena"):
        list(
            small.spaces.RepeatFork(
                pb.RepeatForkRequest(
                    mm_id=mm_id,
                    strategies=[BULK_INSERT, TREE_DUP, EXTENT_COPY],
                    forks_per_strategy=10,
                )
            )
        )
    assert small.vmas(mm_id)[: len(before)] == before
    # Looking and ending need none.
    small.spaces.FindVma(pb.FindVmaRequest(mm_id=mm_id, addr=0))
    for child in children:
        small.exit(child)
    small.exit(small.fork(mm_id).child)
    assert not small.diagnostics.Verify(diagnostics_pb2.VerifyRequest()).violations


@pytest.mark.parametrize("strategy", [BULK_INSERT, TREE_DUP, SHARE])
def test_no_room_for_page_tables(small: Api, strategy: int) -> None:
    text = b"".join(
        b"%08x-%08x rw-p 00000000 00:00 0 \n" % (at, at + 0x2000)
        for at in range(0x4000_0000, 0x4000_0000 + 300 * 0x20_0000, 0x20_0000)
    )
    mm_id = small.create(text)
    for vma in small.vmas(mm_id):
        small.write(mm_id, vma.start, vma.start)
    # A page table for each VMA is more than the VMA itself.
    children = fork_until_full(small, mm_id, "arena", strategy)
    with refused(FULL, "ENOMEM", limit="arena"):
        for child in children:
            for vma in small.vmas(mm_id):
                small.write(child, vma.start + 0x1000, 1)
    small.exit(children.pop())
    for mapped in small.vmas(mm_id)[::50]:
        assert small.touch(mm_id, mapped.start) == mapped.start
    check_unharmed(small, mm_id, text, children)


def test_a_full_table_of_spaces() -> None:
    with running_server("--max-spaces", "20", workers=1) as server:
        api = Api(server.address)
        text = many_vmas(5)
        mm_id = api.create(text)
        children = fork_until_full(api, mm_id, "spaces")
        assert len(children) == 19
        with refused(FULL, "ENOMEM", limit="spaces"):
            api.create()
        check_unharmed(api, mm_id, text, children)
        api.channel.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small tmpfs needs root")
def test_a_full_file_system(tmp_path: Path) -> None:
    """The arena promises more than its tmpfs has: an error, never SIGBUS."""
    folder = tmp_path / "shm"
    folder.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)], capture_output=True
    )
    if mount.returncode != 0:
        pytest.skip(f"cannot mount a tmpfs: {mount.stderr.decode().strip()}")
    try:
        with running_server("--arena-dir", str(folder), workers=1) as server:
            api = Api(server.address)
            text = many_vmas(2000)
            mm_id = api.create(text)
            # Others fill what the server thought it could have.
            hog = folder / "hog"
            with hog.open("wb") as file:
                stat = os.statvfs(folder)
                os.posix_fallocate(file.fileno(), 0, stat.f_bavail * stat.f_frsize)
            children = fork_until_full(api, mm_id, "arena")
            hog.unlink()
            more = api.fork(mm_id).child
            check_unharmed(api, mm_id, text, [*children, more])
            api.channel.close()
    finally:
        subprocess.run(["umount", str(folder)], check=True)
