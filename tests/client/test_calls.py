"""What the methods send, and what they make of the answers."""

import inspect
import itertools
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import forkstorm
import grpc
import pytest
from forkstorm import (
    AddressSpace,
    Client,
    FaultSite,
    File,
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
    MAP_PRIVATE,
    MAP_SHARED,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    PROT_GROWSDOWN,
    PROT_READ,
)
from forkstorm.errors import NoMemory, NoSuchSpace, ServerFault
from forkstorm.messages import IMPORT_PIECE_BYTES
from forkstorm.v1 import address_spaces_pb2 as pb
from forkstorm.v1 import types_pb2

from tests.client.fake import FakeServer, refuse

MM_ID = 0xFE00000000100007


@pytest.fixture
def space(fake_client: Client) -> AddressSpace:
    return fake_client.get(MM_ID)


def sent(fake: FakeServer, method: str) -> Any:
    """The only request of a method."""
    (call,) = fake.of(method)
    return call.request


def test_create_sends_everything(fake: FakeServer, fake_client: Client) -> None:
    fake.answers["CreateAddressSpace"] = lambda request, _: pb.CreateAddressSpaceResponse(
        mm_id=MM_ID
    )
    space = fake_client.create(
        b"text", params=SpaceParameters(mmap_base=1 << 40), labels={"a": "b"}, ttl_s=1.5
    )
    assert space.id == MM_ID
    assert repr(space) == "<AddressSpace 0xfe00000000100007>"
    request = sent(fake, "CreateAddressSpace")
    assert (request.maps_text, request.ttl_ns) == (b"text", 1_500_000_000)
    assert (dict(request.labels), request.parameters.mmap_base) == ({"a": "b"}, 1 << 40)
    assert not request.parameters.HasField("task_size")
    assert len(request.request_id) == 36


def test_long_texts_travel_in_pieces(fake: FakeServer, fake_client: Client) -> None:
    fake.answers["ImportAddressSpace"] = lambda request, _: pb.ImportAddressSpaceResponse(
        mm_id=MM_ID
    )
    text = bytes(range(256)) * (IMPORT_PIECE_BYTES // 256) * 2 + b"end"
    assert fake_client.create(text, labels={"a": "b"}, ttl_s=2).id == MM_ID
    messages = sent(fake, "ImportAddressSpace")
    assert dict(messages[0].create.labels) == {"a": "b"}
    assert messages[0].create.ttl_ns == 2_000_000_000
    assert messages[0].create.request_id
    assert b"".join(message.maps_text for message in messages) == text
    assert max(len(message.maps_text) for message in messages) == IMPORT_PIECE_BYTES
    assert not fake.of("CreateAddressSpace")


def test_load_reads_a_file_or_a_process(
    fake: FakeServer, fake_client: Client, tmp_path: Path
) -> None:
    path = tmp_path / "maps"
    path.write_bytes(b"00400000-00401000 r--p 00000000 00:00 0 \n")
    fake_client.load(path)
    fake_client.load(str(path))
    texts = [call.request.maps_text for call in fake.of("CreateAddressSpace")]
    assert texts == [path.read_bytes()] * 2
    fake_client.load(os.getpid())
    assert b"\nVmFlags: " in fake.of("CreateAddressSpace")[-1].request.maps_text
    with pytest.raises(FileNotFoundError):
        fake_client.load(tmp_path / "missing")
    with pytest.raises(FileNotFoundError):
        fake_client.load(2**22 + 1)


def test_fork(fake: FakeServer, space: AddressSpace) -> None:
    fake.answers["Fork"] = lambda request, _: pb.ForkResponse(
        child=9,
        strategy=request.strategy or types_pb2.FORK_STRATEGY_TREE_DUP,
        vma_count=21,
        timing=types_pb2.Timing(core_ns=1, lock_wait_ns=2, server_ns=3, worker=4),
        work=types_pb2.WorkCounts(nodes_allocated=5),
        phases=types_pb2.ForkPhases(seal_ns=6) if request.with_phases else None,
    )
    result = space.fork()
    assert (result.child.id, result.vma_count, result.strategy) == (9, 21, ForkStrategy.TREE_DUP)
    assert (result.timing.core_ns, result.work.nodes_allocated) == (1, 5)
    assert result.phases is None
    assert not result.replayed
    result = space.fork("linux-6.7", labels={"a": "b"}, ttl_s=1, with_phases=True)
    assert result.strategy is ForkStrategy.BULK_INSERT
    assert result.phases is not None
    assert result.phases.seal_ns == 6
    first, second = (call.request for call in fake.of("Fork"))
    assert (first.mm_id, first.strategy, first.ttl_ns) == (MM_ID, 0, 0)
    assert (second.strategy, dict(second.labels), second.ttl_ns) == (1, {"a": "b"}, 10**9)
    assert first.request_id != second.request_id


@pytest.mark.parametrize("name", ["tree-dup", "TREE_DUP", "linux-6.8", ForkStrategy.TREE_DUP])
def test_a_strategy_has_several_names(fake: FakeServer, space: AddressSpace, name: str) -> None:
    fake.answers["Fork"] = lambda request, _: pb.ForkResponse(strategy=request.strategy)
    assert space.fork(name).strategy is ForkStrategy.TREE_DUP


@pytest.mark.parametrize("strategy", ForkStrategy)
def test_every_strategy_has_a_name_and_an_alias(
    fake: FakeServer, space: AddressSpace, strategy: ForkStrategy
) -> None:
    fake.answers["Fork"] = lambda request, _: pb.ForkResponse(strategy=request.strategy)
    for name in (strategy, strategy.name, strategy.alias):
        assert space.fork(name).strategy is strategy


def test_an_unknown_strategy_is_refused_before_it_is_sent(
    fake: FakeServer, space: AddressSpace
) -> None:
    with pytest.raises(ValueError, match=r"no fork strategy 'vfork'.*tree-dup"):
        space.fork("vfork")
    with pytest.raises(ValueError, match="ttl_s"):
        space.fork(ttl_s=-1)
    assert not fake.calls


def test_a_strategy_of_a_newer_server_is_only_a_number(
    fake: FakeServer, space: AddressSpace
) -> None:
    fake.answers["Fork"] = lambda request, _: pb.ForkResponse(strategy=77)  # type: ignore[arg-type]
    strategy = space.fork().strategy
    assert strategy == 77
    assert strategy.name == "STRATEGY_77"


@pytest.mark.parametrize(
    ("fault", "numbers"),
    [
        (ForkFault(FaultSite.VMA_RECORD, 7), (2, 7, 2)),
        (ForkFault("tree-node", 0, "tree-end"), (1, 0, 1)),
        (ForkFault("FATAL_SIGNAL", 1 << 40, Recovery.IMMEDIATE), (8, 1 << 40, 3)),
    ],
)
def test_a_fault_is_sent(
    fake: FakeServer, space: AddressSpace, fault: ForkFault, numbers: tuple[int, int, int]
) -> None:
    fake.answers["Fork"] = lambda *_: pb.ForkResponse(child=9)
    space.fork(fault=fault)
    told = sent(fake, "Fork").fault
    assert (told.site, told.ordinal, told.recovery) == numbers


def test_no_fault_unless_asked_for(fake: FakeServer, space: AddressSpace) -> None:
    fake.answers["Fork"] = lambda *_: pb.ForkResponse(child=9)
    space.fork()
    assert not sent(fake, "Fork").HasField("fault")
    with pytest.raises(ValueError, match=r"no fault site 'heap'; there are .*vma-record"):
        space.fork(fault=ForkFault("heap", 0))
    with pytest.raises(ValueError, match="no recovery 'F4'"):
        space.fork(fault=ForkFault("policy", 0, "F4"))
    assert len(fake.calls) == 1


def test_map(fake: FakeServer, space: AddressSpace) -> None:
    fake.answers["Map"] = lambda request, _: pb.MapResponse(addr=0x7F0000000000)
    assert space.map(4096) == 0x7F0000000000
    file = File(path=b"/lib/x", inode=7)
    space.map(8192, PROT_READ, file=file, offset=4096)
    space.map(4096, 0, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, addr=0x10000)
    plain, mapped, fixed = (call.request for call in fake.of("Map"))
    assert (plain.prot, plain.flags, plain.length_bytes, plain.addr) == (3, 0x22, 4096, 0)
    assert not plain.HasField("file")
    assert (mapped.prot, mapped.flags, mapped.offset_bytes) == (1, MAP_PRIVATE, 4096)
    assert mapped.file == file
    assert (fixed.prot, fixed.flags, fixed.addr) == (0, 0x31, 0x10000)


def test_unmap_and_exit(fake: FakeServer, space: AddressSpace) -> None:
    space.unmap(0x1000, 4096)
    space.exit()
    unmap = sent(fake, "Unmap")
    assert (unmap.mm_id, unmap.addr, unmap.length_bytes) == (MM_ID, 0x1000, 4096)
    assert sent(fake, "Exit").mm_id == MM_ID


def test_protect_remap_and_advise(fake: FakeServer, space: AddressSpace) -> None:
    fake.answers["Remap"] = lambda *_: pb.RemapResponse(addr=0x9000)
    space.protect(0x1000, 8192, PROT_READ | PROT_GROWSDOWN)
    assert space.remap(0x1000, 4096, 8192) == 0x9000
    assert space.remap(0x1000, 0, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, 0x9000) == 0x9000
    space.advise(0x1000, 4096, MADV_DONTFORK)
    space.advise(0x1000, 4096, -1)
    protect = sent(fake, "Protect")
    assert (protect.mm_id, protect.addr, protect.length_bytes) == (MM_ID, 0x1000, 8192)
    assert protect.prot == 0x01000001
    plain, fixed = (call.request for call in fake.of("Remap"))
    assert (plain.mm_id, plain.addr, plain.old_length_bytes) == (MM_ID, 0x1000, 4096)
    assert (plain.new_length_bytes, plain.flags, plain.new_addr) == (8192, 0, 0)
    assert (fixed.old_length_bytes, fixed.flags, fixed.new_addr) == (0, 3, 0x9000)
    advise, unknown = (call.request for call in fake.of("Advise"))
    assert (advise.mm_id, advise.addr, advise.length_bytes) == (MM_ID, 0x1000, 4096)
    assert (advise.advice, unknown.advice) == (10, 0xFFFF_FFFF)
    ids = {call.request.request_id for call in fake.calls}
    assert len(ids) == 5
    assert {len(one) for one in ids} == {36}


def test_set_break_and_touch(fake: FakeServer, space: AddressSpace) -> None:
    fake.answers["SetBreak"] = lambda request, _: pb.SetBreakResponse(brk=request.addr or 0x5000)
    fake.answers["Touch"] = lambda request, _: pb.TouchResponse(value=request.value or 5)
    assert space.set_break() == 0x5000
    assert space.set_break(0x5001) == 0x5001
    assert space.touch(0x1234) == 5
    assert space.touch(0x1234, TouchAccess.WRITE, (1 << 64) - 1) == (1 << 64) - 1
    assert space.touch(0x1234, "write", 7) == 7
    assert [call.request.mm_id for call in fake.calls] == [MM_ID] * 5
    touches = [call.request for call in fake.of("Touch")]
    assert [(one.addr, one.access, one.value) for one in touches] == [
        (0x1234, types_pb2.TOUCH_ACCESS_READ, 0),
        (0x1234, types_pb2.TOUCH_ACCESS_WRITE, (1 << 64) - 1),
        (0x1234, types_pb2.TOUCH_ACCESS_WRITE, 7),
    ]
    with pytest.raises(ValueError, match=r"no touch access 'execute'; there are .*write"):
        space.touch(0x1234, "execute")


def test_a_block_ends_its_space(fake: FakeServer, space: AddressSpace) -> None:
    with space:
        pass
    with pytest.raises(KeyError), space:
        raise KeyError
    assert [call.request.mm_id for call in fake.of("Exit")] == [MM_ID, MM_ID]


def test_a_block_forgives_a_space_that_has_ended_and_hides_no_error(
    fake: FakeServer, space: AddressSpace
) -> None:
    fake.answers["Exit"] = lambda request, context: refuse(
        context, grpc.StatusCode.NOT_FOUND, "NO_SUCH_SPACE"
    )
    with space:
        pass
    fake.answers["Exit"] = lambda request, context: refuse(
        context, grpc.StatusCode.RESOURCE_EXHAUSTED, "ENOMEM"
    )
    with pytest.raises(NoMemory), space:
        pass
    with pytest.raises(KeyError), space:
        raise KeyError
    with pytest.raises(NoMemory):
        space.exit()


def test_exit_labelled(fake: FakeServer, fake_client: Client) -> None:
    fake.answers["Exit"] = lambda request, _: pb.ExitResponse(exited_count=3)
    assert fake_client.exit_labelled({"run": "x"}) == 3
    request = sent(fake, "Exit")
    assert request.WhichOneof("target") == "labels"
    assert dict(request.labels.labels) == {"run": "x"}
    with pytest.raises(ValueError, match="at least one"):
        fake_client.exit_labelled({})


def test_find_vma_and_gap(fake: FakeServer, space: AddressSpace) -> None:
    assert space.find_vma(1) is None
    vma = types_pb2.Vma(start=4096, end=8192, vm_flags=3, name=b"/x\xff", dev_major=8, inode=5)
    fake.answers["FindVma"] = lambda request, _: pb.FindVmaResponse(vma=vma)
    assert space.find_vma(1) == (4096, 8192, 3, 0, "/x\udcff", 8, 0, 5)
    fake.answers["FindGap"] = lambda request, _: pb.FindGapResponse(addr=0x5000)
    assert space.find_gap(4096, low=1, high=2, bottom_up=True) == 0x5000
    gap = sent(fake, "FindGap")
    assert (gap.length_bytes, gap.low, gap.high, gap.bottom_up) == (4096, 1, 2, True)


def chunk(*starts: int, total: int = 0, names: tuple[str, ...] = ()) -> pb.StreamVmasResponse:
    """VMAs of a page from these starts, the n-th with the n-th name."""
    return pb.StreamVmasResponse(
        names=[
            types_pb2.VmaName(index=i + 1, name=name.encode(), inode=9)
            for i, name in enumerate(names)
        ],
        columns=types_pb2.VmaColumns(
            start=starts,
            end=[start + 4096 for start in starts],
            vm_flags=[1] * len(starts),
            offset_bytes=[0] * len(starts),
            name_index=range(len(starts)),
        ),
        totals=types_pb2.AddressSpace(vma_count=total) if total else None,
    )


def test_vmas_come_in_chunks_that_share_names(fake: FakeServer, space: AddressSpace) -> None:
    fake.answers["StreamVmas"] = lambda *_: iter(
        [chunk(0x1000, 0x2000, names=("/a",)), chunk(0x3000, 0x4000, total=4)]
    )
    assert [(vma.start, vma.name, vma.inode) for vma in space.vmas()] == [
        (0x1000, "", 0),
        (0x2000, "/a", 9),
        (0x3000, "", 0),
        (0x4000, "/a", 9),
    ]
    assert space.maps().count(b"\n") == 4


def test_a_stream_that_was_cut_off_is_no_answer(fake: FakeServer, space: AddressSpace) -> None:
    fake.answers["StreamVmas"] = lambda *_: iter([chunk(0x1000)])
    with pytest.raises(ServerFault, match="without totals"):
        space.vmas()
    fake.answers["StreamVmas"] = lambda *_: iter([chunk(0x1000, total=2)])
    with pytest.raises(ServerFault, match="1 VMAs came of 2"):
        space.vmas()


def test_a_stream_may_fail_in_its_middle(fake: FakeServer, space: AddressSpace) -> None:
    def fail(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        yield chunk(0x1000)
        refuse(context, grpc.StatusCode.NOT_FOUND, "NO_SUCH_SPACE")

    fake.answers["StreamVmas"] = fail
    with pytest.raises(NoSuchSpace):
        space.vmas()


def test_list_follows_the_page_tokens(fake: FakeServer, fake_client: Client) -> None:
    def page(request: Any, _: Any) -> Any:
        at = int(request.page_token or "0")
        return pb.ListAddressSpacesResponse(
            address_spaces=[types_pb2.AddressSpace(mm_id=at + i) for i in range(2)],
            next_page_token=str(at + 2) if at < 4 else "",
        )

    fake.answers["ListAddressSpaces"] = page
    assert [info.mm_id for info in fake_client.list({"a": "b"})] == [0, 1, 2, 3, 4, 5]
    assert {tuple(call.request.labels) for call in fake.of("ListAddressSpaces")} == {("a",)}


def test_repeat_fork_gives_blocks_as_they_come(fake: FakeServer, space: AddressSpace) -> None:
    ended = threading.Event()

    def blocks(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        context.add_callback(ended.set)
        for i in itertools.count():
            yield pb.RepeatForkResponse(
                strategy_index=i % 2, strategy=request.strategies[i % 2], block=i, core_ns=[5, 6]
            )

    fake.answers["RepeatFork"] = blocks
    stream = space.repeat_fork(["tree-dup", "bulk-insert"], 10, block_fork_count=2)
    first = next(stream)
    assert (first.strategy, first.block, list(first.core_ns)) == (ForkStrategy.TREE_DUP, 0, [5, 6])
    assert next(stream).strategy is ForkStrategy.BULK_INSERT
    request = sent(fake, "RepeatFork")
    assert (request.forks_per_strategy, request.block_fork_count) == (10, 2)
    # Whoever stops reading stops the server.
    del stream
    assert ended.wait(5)


def test_the_diagnostics(fake: FakeServer, fake_client: Client) -> None:
    assert len(fake_client.server().workers) == 2
    assert fake_client.audit().space_count == 0
    fake_client.verify(5)
    assert sent(fake, "Verify").mm_id == 5


@pytest.mark.parametrize("name", ["Client", "AddressSpace", "connect"])
def test_the_twins_have_the_same_names_and_arguments(name: str) -> None:
    def shape(thing: Any) -> Any:
        if inspect.isclass(thing):
            methods = vars(thing).items()
            return {
                key.replace("__a", "__"): shape(value)
                for key, value in methods
                if inspect.isfunction(value)
            }
        return [
            (parameter.name, parameter.kind, parameter.default, parameter.annotation)
            for parameter in inspect.signature(thing).parameters.values()
        ]

    assert shape(getattr(forkstorm, name)) == shape(getattr(aio, name))
