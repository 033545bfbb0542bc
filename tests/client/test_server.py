"""The client against a real server."""

import asyncio
import errno
import itertools
import os
import signal
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import forkstorm
import psutil
import pytest
from forkstorm import (
    Client,
    FaultSite,
    ForkFault,
    ForkStrategy,
    Recovery,
    SpaceParameters,
    TouchAccess,
    aio,
)
from forkstorm.constants import (
    MADV_DONTFORK,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_FIXED_NOREPLACE,
    MAP_PRIVATE,
    MAP_SHARED,
    MREMAP_MAYMOVE,
    PAGE_SIZE,
    PROT_READ,
    VM_ACCOUNT,
    VM_DONTCOPY,
    VM_READ,
    VM_WRITE,
)
from forkstorm.errors import (
    AlreadyMapped,
    BadAddress,
    BadFile,
    Interrupted,
    InvalidArgument,
    InvalidRequest,
    MalformedMaps,
    NoMemory,
    NoSuchSpace,
    NotPermitted,
)
from forkstorm.messages import IMPORT_PIECE_BYTES

from tests.serving import Server, running_server

LAYOUTS = sorted(Path(__file__).parents[2].glob("loadtest/layouts/*.maps"))
PLACE = 0x10_0000_0000


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[Client]:
    with forkstorm.connect(server.address) as connected:
        yield connected


@pytest.fixture
def labels(client: Client) -> Iterator[dict[str, str]]:
    """Labels of this test's own; what carries them ends with it."""
    mine = {"test": uuid.uuid4().hex}
    yield mine
    client.exit_labelled(mine)


@pytest.mark.parametrize("path", LAYOUTS, ids=lambda path: path.stem)
def test_layouts_come_back_byte_for_byte(
    client: Client, labels: dict[str, str], path: Path
) -> None:
    with client.load(path, labels=labels) as space:
        assert space.maps() == path.read_bytes()
        for strategy in ForkStrategy:
            with space.fork(strategy, labels=labels).child as child:
                assert child.maps() == path.read_bytes()


def test_this_process_comes_back_byte_for_byte(client: Client, labels: dict[str, str]) -> None:
    text = Path("/proc/self/maps").read_bytes()
    with client.create(text, labels=labels) as space:
        assert space.maps() == text


def test_smaps_come_back_as_maps_with_their_flags(client: Client, labels: dict[str, str]) -> None:
    smaps = Path("/proc/self/smaps").read_text()
    # Every first area becomes one that a fork does not copy.
    smaps = smaps.replace("VmFlags: rd ", "VmFlags: rd dc ", 1)
    headers = [line for line in smaps.splitlines() if line.split(" ", 1)[0].count("-") == 1]
    with client.create(smaps.encode(), labels=labels) as space:
        assert space.maps().decode().splitlines() == headers
        vmas = space.vmas()
        assert sum(bool(vma.vm_flags & VM_DONTCOPY) for vma in vmas) == smaps.count(" dc ")
        for strategy in ForkStrategy:
            with space.fork(strategy, labels=labels).child as child:
                kept = [vma for vma in vmas if not vma.vm_flags & VM_DONTCOPY]
                assert child.vmas() == kept


def test_a_text_too_long_for_a_message_is_imported(client: Client, labels: dict[str, str]) -> None:
    count = 40_000
    text = b"".join(
        b"%08x-%08x %s 00000000 00:00 0 \n"
        % (PLACE + i * PAGE_SIZE, PLACE + (i + 1) * PAGE_SIZE, (b"r--p", b"rw-p")[i % 2])
        for i in range(count)
    )
    assert len(text) > IMPORT_PIECE_BYTES
    with client.create(text, labels=labels, ttl_s=60) as space:
        info = space.info()
        assert info.vma_count == count
        assert dict(info.labels) == labels
        assert 0 < info.ttl_ns <= 60 * 10**9
        assert space.maps() == text


def test_map_and_unmap_change_what_vmas_shows(client: Client, labels: dict[str, str]) -> None:
    with client.create(labels=labels) as space:
        addr = space.map(8 * PAGE_SIZE)
        assert [(vma.start, vma.end) for vma in space.vmas()] == [(addr, addr + 8 * PAGE_SIZE)]
        space.unmap(addr + PAGE_SIZE, PAGE_SIZE)
        first, second = space.vmas()
        assert (first.end, second.start) == (addr + PAGE_SIZE, addr + 2 * PAGE_SIZE)
        assert first.vm_flags & (VM_READ | VM_WRITE) == VM_READ | VM_WRITE
        assert space.find_vma(addr + PAGE_SIZE) == second
        assert space.find_vma(second.end) is None
        assert space.find_gap(PAGE_SIZE) == addr + PAGE_SIZE
        assert space.find_gap(PAGE_SIZE, low=PLACE, bottom_up=True) == PLACE


def test_a_space_changes_as_a_process_does(client: Client, labels: dict[str, str]) -> None:
    with client.create(params=SpaceParameters(start_brk=PLACE), labels=labels) as space:
        assert space.set_break() == PLACE
        assert space.set_break(PLACE + 10 * PAGE_SIZE) == PLACE + 10 * PAGE_SIZE
        space.protect(PLACE, PAGE_SIZE, PROT_READ)
        space.advise(PLACE + PAGE_SIZE, PAGE_SIZE, MADV_DONTFORK)
        assert [vma.name for vma in space.vmas()] == ["[heap]"] * 3
        assert space.touch(PLACE + 2 * PAGE_SIZE, "write", 42) == 42
        moved = space.remap(PLACE + 2 * PAGE_SIZE, PAGE_SIZE, 2 * PAGE_SIZE, MREMAP_MAYMOVE)
        assert space.touch(moved) == 42
        with pytest.raises(BadAddress):
            space.touch(PLACE, TouchAccess.WRITE)
        with pytest.raises(BadAddress):
            space.remap(PLACE + 2 * PAGE_SIZE, PAGE_SIZE, PAGE_SIZE)
        child = space.fork(labels=labels).child
        assert child.find_vma(PLACE + PAGE_SIZE) == child.find_vma(PLACE + 3 * PAGE_SIZE)
        assert child.touch(moved) == 42
        assert space.info().touched_page_count == 1


def test_a_failed_fork_tells_where(client: Client, labels: dict[str, str]) -> None:
    with client.load(LAYOUTS[0], labels=labels) as space:
        charged = [bool(vma.vm_flags & VM_ACCOUNT) for vma in space.vmas()].index(True, 3)
        for strategy in ForkStrategy:
            for recovery in Recovery:
                site = FaultSite.VMA_RECORD
                if strategy in (ForkStrategy.EXTENT_COPY, ForkStrategy.SHARE):
                    # No step of theirs: a VMA's record comes with all others, or is the parent's.
                    space.fork(strategy, labels=labels, fault=ForkFault(site, 3, recovery))
                    site = FaultSite.COMMIT_LIMIT
                with pytest.raises(NoMemory) as caught:
                    space.fork(strategy, fault=ForkFault(site, charged, recovery))
                failure = caught.value.fork
                assert failure is not None
                assert failure[:4] == (site, charged, charged, charged)
                assert failure.undo_ns > 0
                with pytest.raises(Interrupted):
                    space.fork(strategy, fault=ForkFault(FaultSite.FATAL_SIGNAL, 0, recovery))
        assert not client.verify(space.id).violations


def test_parameters_reach_the_space(client: Client, labels: dict[str, str]) -> None:
    base = 0x5000_0000_0000
    params = SpaceParameters(mmap_base=base, max_map_count=2)
    with client.create(params=params, labels=labels) as space:
        assert space.map(PAGE_SIZE) == base - PAGE_SIZE
        assert space.info().parameters.max_map_count == 2


def test_errors_are_those_of_linux(client: Client, labels: dict[str, str]) -> None:
    anonymous = MAP_PRIVATE | MAP_ANONYMOUS
    with client.create(labels=labels) as space:
        space.map(PAGE_SIZE, addr=PLACE, flags=anonymous | MAP_FIXED)
        version = space.info().version
        with pytest.raises(AlreadyMapped):
            space.map(PAGE_SIZE, addr=PLACE, flags=anonymous | MAP_FIXED_NOREPLACE)
        with pytest.raises(InvalidArgument):
            space.map(PAGE_SIZE, addr=PLACE + 1, flags=anonymous | MAP_FIXED)
        with pytest.raises(InvalidArgument):
            space.map(0)
        with pytest.raises(NotPermitted):
            space.map(PAGE_SIZE, addr=0, flags=anonymous | MAP_FIXED)
        with pytest.raises(BadFile):
            space.map(PAGE_SIZE, flags=MAP_PRIVATE)
        with pytest.raises(NoMemory):
            space.map(1 << 60)
        with pytest.raises(InvalidArgument) as caught:
            space.unmap(PLACE + 1, PAGE_SIZE)
        assert caught.value.field == "addr"
        assert space.info().version == version


def test_a_limit_is_named(client: Client, labels: dict[str, str]) -> None:
    with client.create(params=SpaceParameters(max_map_count=1), labels=labels) as space:
        # Linux checks before it maps, so one more than the limit fits.
        for i in range(2):
            space.map(PAGE_SIZE, PROT_READ * (i % 2), addr=PLACE + 2 * i * PAGE_SIZE)
        with pytest.raises(NoMemory) as caught:
            space.map(PAGE_SIZE)
        assert caught.value.limit == "max_map_count"


def test_malformed_text_names_its_line(client: Client) -> None:
    good = b"00400000-00401000 r--p 00000000 00:00 0 \n"
    with pytest.raises(MalformedMaps) as caught:
        client.create(good + b"rubbish\n")
    assert caught.value.line == 2
    assert caught.value.field == "maps_text"


def test_a_space_that_has_ended_is_unknown(client: Client) -> None:
    space = client.create()
    child = space.fork().child
    space.exit()
    for call in (space.info, space.exit, space.fork, space.vmas, lambda: space.map(PAGE_SIZE)):
        with pytest.raises(NoSuchSpace):
            call()
    child.exit()
    with pytest.raises(NoSuchSpace):
        client.get(0).info()


def test_labels_select(client: Client, labels: dict[str, str]) -> None:
    made = {client.create(labels={**labels, "n": str(i % 2)}).id for i in range(5)}
    assert {info.mm_id for info in client.list(labels)} == made
    assert len(list(client.list({**labels, "n": "1"}))) == 2
    assert client.exit_labelled({**labels, "n": "1"}) == 2
    assert len(list(client.list(labels))) == 3
    with pytest.raises(InvalidRequest):
        client.create(labels={"": "x" * 10_000})


def test_listing_goes_over_several_pages(client: Client, labels: dict[str, str]) -> None:
    made = {client.create(labels=labels).id for _ in range(1100)}
    assert {info.mm_id for info in client.list(labels)} == made


def test_repeat_fork_interleaves(client: Client, labels: dict[str, str]) -> None:
    with client.load(LAYOUTS[0], labels=labels) as space:
        blocks = list(space.repeat_fork(["tree-dup", "bulk-insert"], 12, block_fork_count=3))
    assert "".join("AB"[block.strategy_index] for block in blocks) == "ABBAABBA"
    for block in blocks:
        assert block.strategy.alias == ("tree-dup", "bulk-insert")[block.strategy_index]
        assert len(block.core_ns) == 3
        assert min(block.core_ns) > 0
        assert block.work.records_copied == LAYOUTS[0].read_bytes().count(b"\n")


def test_repeat_fork_interleaves_all_strategies(client: Client, labels: dict[str, str]) -> None:
    with client.load(LAYOUTS[0], labels=labels) as space:
        blocks = list(space.repeat_fork(list(ForkStrategy), 6, block_fork_count=2))
    assert "".join("ABCD"[block.strategy_index] for block in blocks) == "ABCDDCBAABCD"
    assert [block.strategy for block in blocks[:4]] == list(ForkStrategy)


def test_the_strategy_used_is_told(client: Client, labels: dict[str, str]) -> None:
    with client.create(labels=labels) as space:
        for _ in range(2):
            # Shared memory: nothing but VMAs that a fork treats specially.
            space.map(PAGE_SIZE, flags=MAP_SHARED | MAP_ANONYMOUS)
        result = space.fork("share", labels=labels)
        assert result.strategy is ForkStrategy.EXTENT_COPY
        assert result.child.vmas() == space.vmas()
        assert client.audit().extent_block_count >= 1


def test_phases_come_when_asked_for(client: Client, labels: dict[str, str]) -> None:
    with client.load(LAYOUTS[0], labels=labels) as space:
        assert space.fork(labels=labels).phases is None
        result = space.fork(labels=labels, with_phases=True)
        assert result.phases is not None
        assert 0 < result.phases.entries_ns <= result.timing.core_ns
        assert result.timing.core_ns <= result.timing.server_ns


def test_the_server_is_sound(client: Client, labels: dict[str, str]) -> None:
    with client.load(LAYOUTS[0], labels=labels) as space:
        child = space.fork(labels=labels).child
        assert client.verify(child.id).verified_space_count == 1
    report = client.verify()
    assert not report.violations
    audit = client.audit()
    assert audit.space_count == report.verified_space_count


def test_batches(client: Client, labels: dict[str, str]) -> None:
    with client.create(labels=labels) as space:
        batch = forkstorm.Batch()
        flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED
        for i in range(500):
            batch.map(PAGE_SIZE, flags=flags, addr=PLACE + 2 * i * PAGE_SIZE)
        first = batch.touch(PLACE, "write", 5)
        batch.map(PAGE_SIZE, flags=flags | MAP_FIXED_NOREPLACE, addr=PLACE)
        batch.unmap(PLACE + 2 * PAGE_SIZE, PAGE_SIZE)
        outcome = space.apply(batch)
        assert len(outcome.results) == 502
        assert outcome.results[first] == 5
        assert outcome.failed == {501: errno.EEXIST}
        assert space.info().vma_count == 500
        results = list(space.apply_stream([batch, batch], "skip"))
        assert [len(result.results) for result in results] == [503, 503]
        assert space.info().vma_count == 499
        assert not client.verify(space.id).violations


def test_every_worker_serves(client: Client, server: Server) -> None:
    found = client.server()
    assert [worker.endpoint for worker in found.workers] == server.endpoints
    deadline, seen = time.monotonic() + 5, set[int]()
    while len(seen) < len(server.endpoints) and time.monotonic() < deadline:
        seen.add(client.server().worker)
    counts = Counter(client.server().worker for _ in range(100))
    assert counts == {0: 50, 1: 50}


def test_the_twin_does_the_same(server: Server, labels: dict[str, str]) -> None:
    async def storm() -> None:
        async with await aio.connect(server.address) as client:
            async with await client.load(LAYOUTS[0], labels=labels) as space:
                results = await asyncio.gather(
                    *(space.fork(s, labels=labels) for s in list(ForkStrategy) * 8)
                )
                children = [result.child for result in results]
                for child in children[:2]:
                    assert await child.maps() == LAYOUTS[0].read_bytes()
                addr = await children[0].map(PAGE_SIZE)
                await children[0].unmap(addr, PAGE_SIZE)
                with pytest.raises(InvalidArgument):
                    await children[0].unmap(1, PAGE_SIZE)
                await asyncio.gather(*(child.exit() for child in children))
                blocks = [b async for b in space.repeat_fork(["tree-dup"], 4, block_fork_count=2)]
                assert sum(len(block.core_ns) for block in blocks) == 4
            assert [info async for info in client.list(labels)] == []

    asyncio.run(storm())


def test_no_call_fails_when_a_worker_is_killed() -> None:
    with running_server() as server, forkstorm.connect(server.address) as client:
        with client.load(LAYOUTS[0]) as space:
            victim, other = client.server().workers
            # Both connections stand, so that calls are on their way to the victim.
            deadline = time.monotonic() + 10
            while {client.server().worker for _ in range(4)} != {0, 1}:
                assert time.monotonic() < deadline
            for i in range(200):
                if i == 20:
                    os.kill(victim.pid, signal.SIGKILL)
                space.fork(ttl_s=60).child.exit()
            deadline = time.monotonic() + 10
            found = client.server()
            while found.workers[0].restart_count == 0 or found.worker != 0:
                assert time.monotonic() < deadline
                time.sleep(0.05)
                found = client.server()
            # It came back at its own port, and the client found it.
            assert {client.server().worker for _ in range(50)} == {0, 1}
            restarted = found.workers[0]
            assert restarted.pid not in (victim.pid, other.pid)
            assert psutil.pid_exists(restarted.pid)
        assert client.audit().space_count == 0
        assert not client.verify().violations


def test_killed_again_and_again_no_fork_happens_twice() -> None:
    with running_server() as server, forkstorm.connect(server.address, timeout=10) as client:
        space = client.load(LAYOUTS[0])
        label = {"storm": "x"}
        made = []
        kills = itertools.count()
        ends = time.monotonic() + 4
        next_kill = time.monotonic()
        while time.monotonic() < ends:
            if time.monotonic() >= next_kill:
                victim = client.server().workers[next(kills) % 2]
                os.kill(victim.pid, signal.SIGKILL)
                next_kill = time.monotonic() + 1.5
            made.append(space.fork(labels=label, ttl_s=60).child.id)
        assert len(set(made)) == len(made)
        # A fork whose answer was lost got it again under its request id: no second child.
        assert {info.mm_id for info in client.list(label)} == set(made)
        assert client.exit_labelled(label) == len(made)
