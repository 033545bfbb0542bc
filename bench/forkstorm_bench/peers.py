"""Python libraries that can hold a map of ranges, doing what a space's tree does.

Each is given the same VMAs and does three things: a copy that can be changed by itself, which is
what a fork is; a store that replaces the VMA at a random address; a lookup of the VMA at a random
address, or the next above it; what a peer cannot do, its note says.

Our own figures beside them are of the Python methods of the core, argument conversion included,
since that is what a Python program would call.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from forkstormd.core.mm import MemoryManager
from forkstormd.core.types import Strategy, VmaSpec

from forkstorm_bench.figures import Effort, Figures
from forkstorm_bench.spaces import (
    PAGE,
    PLACE,
    capacity_for,
    own_arena,
    params_for,
    runs_of_five,
)

SIZES = (421, 6421, 65_536)
# How long one kind of step is repeated.
PATIENCE_S = 0.4
# A size is left out when building it would take longer, were building quadratic.
BUILD_PATIENCE_S = 15
STEPS = 200

# What a peer's note says when it can find a VMA by its first address only.
EXACT = "finds exact first addresses only: no ranges, no order"

Value = tuple[int, int, int]


@dataclass(frozen=True)
class Peer:
    """A map of ranges: what can be done with it, and what that is worth.

    copy answers something that `close` ends; store and lookup take an address within a VMA.
    """

    copy: Callable[[], Any]
    store: Callable[[int], None]
    lookup: Callable[[int], Any]
    note: str = ""
    close: Callable[[Any], Any] = lambda _: None
    end: Callable[[], Any] = lambda: None


def values(specs: Sequence[VmaSpec]) -> list[tuple[int, Value]]:
    """The last address of each VMA, and the VMA: the first key that is not below an address is
    that of its VMA, or of the next."""
    return [(vma.end - 1, (vma.start, vma.end, vma.vm_flags)) for vma in specs]


def plain_dict(specs: Sequence[VmaSpec]) -> Peer:
    held = {start: (start, end, flags) for _, (start, end, flags) in values(specs)}

    def store(addr: int) -> None:
        start, end, flags = held[addr]
        held[addr] = (start, end, flags)

    return Peer(held.copy, store, held.get, EXACT)


def sorted_dict(specs: Sequence[VmaSpec]) -> Peer:
    held = importlib.import_module("sortedcontainers").SortedDict(values(specs))

    def find(addr: int) -> tuple[int, Value]:
        found: tuple[int, Value] = held.peekitem(held.bisect_left(addr))
        return found

    def store(addr: int) -> None:
        key, (start, end, flags) = find(addr)
        held[key] = (start, end, flags)

    return Peer(held.copy, store, find)


def interval_tree(specs: Sequence[VmaSpec]) -> Peer:
    module = importlib.import_module("intervaltree")
    held = module.IntervalTree.from_tuples((vma.start, vma.end, vma.vm_flags) for vma in specs)

    def store(addr: int) -> None:
        (found,) = held[addr]
        held.remove(found)
        held.addi(found.begin, found.end, found.data)

    return Peer(held.copy, store, held.__getitem__, "a lookup in a gap finds nothing")


def portion_dict(specs: Sequence[VmaSpec]) -> Peer:
    module = importlib.import_module("portion")
    # Neighbours with equal values would become one, so the value is the whole VMA.
    held = module.IntervalDict(
        [
            (module.closedopen(start, end), (start, end, flags))
            for _, (start, end, flags) in values(specs)
        ]
    )

    def store(addr: int) -> None:
        start, end, flags = held[addr]
        held[module.closedopen(start, end)] = (start, end, flags)

    return Peer(held.copy, store, held.get, "a lookup in a gap finds nothing")


def b_tree(specs: Sequence[VmaSpec]) -> Peer:
    kind = importlib.import_module("BTrees.LOBTree").LOBTree
    held = kind(values(specs))

    def find(addr: int) -> tuple[int, Value]:
        key: int = held.minKey(addr)
        return key, held[key]

    def store(addr: int) -> None:
        key, (start, end, flags) = find(addr)
        held[key] = (start, end, flags)

    return Peer(lambda: kind(held), store, find)


def immutable_map(specs: Sequence[VmaSpec]) -> Peer:
    module = importlib.import_module("immutables")
    held = [module.Map((start, (start, end, flags)) for _, (start, end, flags) in values(specs))]

    def store(addr: int) -> None:
        start, end, flags = held[0][addr]
        held[0] = held[0].set(addr, (start, end, flags))

    return Peer(
        lambda: module.Map(held[0]),
        store,
        lambda addr: held[0].get(addr),
        f"copies share, as SHARE does; {EXACT}",
    )


def lmdb_store(specs: Sequence[VmaSpec]) -> Peer:
    module = importlib.import_module("lmdb")
    folder = tempfile.TemporaryDirectory(prefix="forkstorm-bench-", dir=PLACE)
    # In memory like the arena, and as little careful about the disk.
    env = module.open(
        folder.name,
        map_size=max(16 << 20, len(specs) * 400),
        max_dbs=2,
        writemap=True,
        sync=False,
        metasync=False,
        lock=False,
    )
    parent, child = env.open_db(b"parent"), env.open_db(b"child")
    items = [
        (last.to_bytes(8, "big"), b"".join(word.to_bytes(8, "little") for word in value))
        for last, value in values(specs)
    ]
    with env.begin(write=True, db=parent) as txn, txn.cursor() as cursor:
        cursor.putmulti(items)

    def copy() -> None:
        with (
            env.begin(write=True) as txn,
            txn.cursor(parent) as source,
            txn.cursor(child) as target,
        ):
            source.first()
            target.putmulti(source.iternext(), append=True)

    def close(_: None) -> None:
        with env.begin(write=True) as txn:
            txn.drop(child, delete=False)

    def store(addr: int) -> None:
        with env.begin(write=True, db=parent) as txn, txn.cursor() as cursor:
            cursor.set_range(addr.to_bytes(8, "big"))
            cursor.put(cursor.key(), cursor.value())

    def lookup(addr: int) -> tuple[bytes, bytes]:
        with env.begin(db=parent) as txn, txn.cursor() as cursor:
            cursor.set_range(addr.to_bytes(8, "big"))
            found: tuple[bytes, bytes] = cursor.item()
            return found

    def end() -> None:
        env.close()
        folder.cleanup()

    return Peer(copy, store, lookup, "a transaction each, in memory, not synced", close, end)


def ours(specs: Sequence[VmaSpec]) -> Peer:
    """The core through its Python methods; a store is mmap() over the VMA."""
    opened = own_arena(capacity_for(len(specs)))
    mm: MemoryManager = opened.__enter__()[1]
    mm_id = mm.create(params_for(len(specs)), specs).value
    prots = {vma.start: vma.vm_flags & 7 for vma in specs}

    def store(addr: int) -> None:
        mm.map(mm_id, addr, PAGE, prots[addr], 0x32)

    return Peer(
        lambda: mm.fork(mm_id, Strategy.EXTENT_COPY).child,
        store,
        lambda addr: mm.find_vma(mm_id, addr),
        "EXTENT_COPY; shared between processes; a lookup also takes a lock and times itself",
        mm.exit,
        lambda: opened.__exit__(None, None, None),
    )


PEERS: dict[str, tuple[str | None, Callable[[Sequence[VmaSpec]], Peer]]] = {
    "forkstorm": (None, ours),
    "dict": (None, plain_dict),
    "sortedcontainers": ("sortedcontainers", sorted_dict),
    "intervaltree": ("intervaltree", interval_tree),
    "portion": ("portion", portion_dict),
    "BTrees": ("BTrees", b_tree),
    "immutables": ("immutables", immutable_map),
    "lmdb": ("lmdb", lmdb_store),
}

# Those that can find a VMA by its first address only.
EXACT_PEERS = ("dict", "immutables")


def best_ns(act: Callable[[], Any], rounds: int, close: Callable[[Any], Any]) -> float:
    """The best of several, as long as patience lasts; closing is not timed."""
    best, began = float("inf"), time.perf_counter()
    for _ in range(rounds):
        at = time.perf_counter_ns()
        made = act()
        best = min(best, time.perf_counter_ns() - at)
        close(made)
        if time.perf_counter() - began > PATIENCE_S:
            break
    return best


def step_ns(act: Callable[[int], Any], addresses: Sequence[int]) -> float:
    """The median of single steps, one per address, as long as patience lasts."""
    times, began = [], time.perf_counter()
    for addr in addresses:
        at = time.perf_counter_ns()
        act(addr)
        times.append(time.perf_counter_ns() - at)
        if time.perf_counter() - began > PATIENCE_S:
            break
    return statistics.median(times)


def one_peer(name: str, effort: Effort, sizes: Sequence[int] = SIZES) -> Figures:
    """A peer at all sizes that it can be built for; or that it is not installed."""
    package, make = PEERS[name]
    found: Figures = {}
    if package is not None:
        try:
            importlib.import_module(package)
            found[f"peers.{name}.version"] = importlib.metadata.version(package)
        except ImportError:
            return {f"peers.{name}.missing": "not installed"}
    rng = random.Random(1)
    built_s, built_n = 0.0, 1
    for n in sizes:
        if built_s * (n / built_n) ** 2 > BUILD_PATIENCE_S:
            break
        specs = runs_of_five(n)
        began = time.perf_counter()
        peer = make(specs)
        built_s, built_n = time.perf_counter() - began, n
        try:
            found[f"peers.{name}.note"] = peer.note
            took = best_ns(peer.copy, effort.rounds, peer.close)
            found[f"peers.{name}.copy_ns_per_vma.{n}"] = took / n
            addresses = [rng.choice(specs).start for _ in range(effort.rounds * STEPS)]
            found[f"peers.{name}.store_ns.{n}"] = step_ns(peer.store, addresses)
            found[f"peers.{name}.lookup_ns.{n}"] = step_ns(peer.lookup, addresses)
        finally:
            peer.end()
    return found


def peers(effort: Effort, sizes: Sequence[int] = SIZES) -> Figures:
    """All of them."""
    found: Figures = {}
    for name in PEERS:
        found.update(one_peer(name, effort, sizes))
    return found
