"""The figures by topic: which stand together in a table, and which have an aim."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from forkstormd.core.types import Strategy

from forkstorm_bench.aims import Aim, at_least, at_most
from forkstorm_bench.mutation import FRACTIONS
from forkstorm_bench.mutation import SIZES as LIFE_SIZES
from forkstorm_bench.parallel import KINDS as PARALLEL_KINDS
from forkstorm_bench.parallel import LARGE as PARALLEL_LARGE
from forkstorm_bench.parallel import SIZES as PARALLEL_SMALL
from forkstorm_bench.peers import EXACT_PEERS, PEERS
from forkstorm_bench.peers import SIZES as PEER_SIZES
from forkstorm_bench.spaces import SIZES

# Where EXTENT_COPY's aims hold.
EXTENT_SIZES = (421, 1621, 6421, 65_536)
STRATEGIES = ("BULK_INSERT", "TREE_DUP", "EXTENT_COPY", "SHARE")
SOURCES = ("compact", "fresh", "aged")
BIG = 1_000_000
PARALLEL_SIZES = (*PARALLEL_SMALL[::2], *PARALLEL_LARGE)


@dataclass(frozen=True)
class Table:
    """A table of figures: `columns` are (title, key), whose {} are filled with what `rows` (label,
    *parts) say. Rows and columns of which nothing was measured are left out."""

    first: str
    rows: Sequence[tuple[str, ...]]
    columns: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Topic:
    title: str
    note: str
    tables: Sequence[Table] = ()
    aims: Sequence[Aim] = ()


# Columns by how many of a child's VMAs are written to.
WRITTEN = [
    (title, f"{{}}.{fraction}.{{}}")
    for title, fraction in zip(("none", "one", "1 %", "10 %", "all"), FRACTIONS, strict=True)
]


def by_size(sizes: Sequence[int | str]) -> list[tuple[str, ...]]:
    return [(f"{int(n):,}", str(n)) for n in sizes]


def by_strategy(key: str) -> list[tuple[str, str]]:
    """A column for each strategy, whose name takes the place of $."""
    return [(name, key.replace("$", name)) for name in STRATEGIES]


TOPICS = (
    Topic(
        "Is this run valid?",
        "shared CPUs and busy clients measure themselves",
        aims=(
            at_most("CPU time stolen by the hypervisor", "steal", 0.05),
            at_least(
                "memcpy of two processes over one", "memcpy_two_process_scaling.{}", 1.9, [421]
            ),
            at_most("busiest RPC client, in cores", "client_cpu", 0.5),
        ),
    ),
    Topic(
        "A fork's core time by size, ns per VMA (fresh source, best)",
        "MEMCPY copies the same bytes",
        [
            Table(
                "VMAs",
                by_size(SIZES),
                [
                    *by_strategy("ns_per_vma.$.{}"),
                    ("MEMCPY", "ns_per_vma.MEMCPY.{}"),
                    ("TREE÷ MEMCPY", "tree_dup_over_memcpy.{}"),
                    ("BULK÷ TREE", "old_over_new.{}"),
                    ("kernel's", "kernel.old_over_new.{}"),
                ],
            )
        ],
        [
            at_most("TREE_DUP, ns per VMA", "ns_per_vma.TREE_DUP.{}", 12, [421, 6421]),
            at_most("TREE_DUP over memcpy", "tree_dup_over_memcpy.{}", 4, [421, 6421]),
        ],
    ),
    Topic(
        "A fork of an aged or a compact source",
        "ns per VMA; EC's copy: its nodes and records alone, and ÷ a memcpy of as many bytes",
        [
            Table(
                "aged",
                by_size(SIZES),
                [
                    *by_strategy("ns_per_vma_aged.$.{}"),
                    ("compact EC", "ns_per_vma_compact.EXTENT_COPY.{}"),
                ],
            ),
            Table(
                "EC's copy",
                by_size(SIZES),
                [
                    *((what, f"extent_copy_ns_per_vma.{what}.{{}}") for what in SOURCES),
                    ("memcpy", "extent_memcpy_ns_per_vma.compact.{}"),
                    *((f"{what} ÷", f"extent_copy_over_memcpy.{what}.{{}}") for what in SOURCES),
                    ("aged÷ fresh", "extent_copy_aged_over_fresh.{}"),
                    ("25 ns÷ compact", "kernel_over_extent_copy.{}"),
                ],
            ),
        ],
        [
            at_most(
                "EXTENT_COPY over memcpy, compact",
                "extent_copy_over_memcpy.compact.{}",
                1.15,
                EXTENT_SIZES,
            ),
            at_most(
                "EXTENT_COPY over memcpy, fresh",
                "extent_copy_over_memcpy.fresh.{}",
                1.6,
                EXTENT_SIZES,
            ),
            at_most(
                "EXTENT_COPY, aged over fresh", "extent_copy_aged_over_fresh.{}", 2.5, EXTENT_SIZES
            ),
            at_least(
                "the kernel's 25 ns per VMA over EXTENT_COPY, compact",
                "kernel_over_extent_copy.{}",
                8,
                EXTENT_SIZES,
            ),
        ],
    ),
    Topic(
        "T(n) = a + b·n, up to 6,421 VMAs; the real fork up to max_map_count",
        "a whole fork also makes a task and copies page tables",
        [
            Table(
                "what",
                [
                    *((name, f"fit.{name}") for name in (*STRATEGIES, "MEMCPY")),
                    ("real fork()", "real_fork.fit.fork_ns"),
                    ("real fork, exit, wait", "real_fork.fit.exit_wait_ns"),
                ],
                [("a, ns", "{}.a_ns"), ("b, ns", "{}.b_ns"), ("worst residual", "{}.residual_max")],
            ),
            Table(
                "VMAs",
                by_size((*SIZES[:-2], 16_384, 32_768, 65_524, 65_536)),
                [
                    ("real fork(), ns", "real_fork.fork_ns.{}"),
                    ("best", "real_fork.fork_best_ns.{}"),
                    ("fork, exit, wait", "real_fork.exit_wait_ns.{}"),
                ],
            ),
        ],
    ),
    Topic(
        "Around a fork, ns",
        "cold: the first fork in a new arena; touched: all writable VMAs were written to",
        [
            Table(
                "VMAs",
                by_size(SIZES),
                [("cold fork", "cold_fork_ns.{}"), ("warm fork", "warm_fork_ns.{}")],
            ),
            Table(
                "421 VMAs",
                [(name, name) for name in STRATEGIES],
                [
                    ("core time, touched", "touched.core_ns.{}.421"),
                    ("its page tables", "touched.pages_ns.{}.421"),
                ],
            ),
            Table(
                "÷ kernel's C",
                [(name, name) for name in STRATEGIES],
                [(f"{int(n):,}", f"fidelity.{{}}.{n}") for n in (421, 6421, 65_536)],
            ),
            Table(
                "fixed",
                [("two readings of the clock", "null_loop_ns"), ("fork, n = 0", "fork_fixed_ns")],
                [("ns", "{}")],
            ),
        ],
    ),
    Topic(
        "Calls in a child that was just forked, ns (mean of 1,000 random Map and Unmap)",
        "the child's tree differs by strategy",
        [Table("VMAs", by_size(LIFE_SIZES), by_strategy("child_call_ns.$.{}"))],
    ),
    Topic(
        "SHARE and its deferred cost",
        "a whole life: fork, stores into some of the child's VMAs, exit",
        [
            Table(
                "VMAs",
                by_size(SIZES),
                [
                    ("SHARE to a visible id, ns", "share_ns.{}"),
                    ("p50", "share_ns_p50.{}"),
                    ("fork + exit", "share_fork_exit_ns.{}"),
                ],
            ),
            Table(
                "whole life, ns; written:",
                [
                    (f"{name}, {n:,}", f"life_ns.{name}", str(n))
                    for n in LIFE_SIZES
                    for name in STRATEGIES[1:]
                ],
                WRITTEN,
            ),
            Table(
                "SHARE÷eager; written:",
                [(f"{n:,}", "share_over_eager", str(n)) for n in LIFE_SIZES],
                WRITTEN,
            ),
        ],
        [
            at_most("SHARE, ns to a visible id", "share_ns.{}", 400, SIZES),
            at_most("SHARE, fork + exit without a write", "share_fork_exit_ns.{}", 1000, SIZES),
            at_most(
                "SHARE over eager, 1 % written", "share_over_eager.one_percent.{}", 1.1, LIFE_SIZES
            ),
        ],
    ),
    Topic(
        "Single steps in 6,421 VMAs, ns",
        "find and store are loops in C; calls are met with cold caches",
        [
            Table(
                "step",
                [
                    (name.replace("_", " "), f"{name}_ns")
                    for name in ("find", "store", "map", "unmap", "protect_split", "find_vma")
                ],
                [("median", "{}.6421")],
            )
        ],
        [
            at_most("lookup", "find_ns.6421", 60),
            at_most("store", "store_ns.6421", 300),
            at_most("Map", "map_ns.6421", 1500),
            at_most("Unmap", "unmap_ns.6421", 1500),
            at_most("Protect that splits", "protect_split_ns.6421", 2000),
            at_most("FindVma", "find_vma_ns.6421", 100),
        ],
    ),
    Topic(
        "Work per VMA, counted",
        "B: BULK_INSERT, T: TREE_DUP; the machine has no part in it",
        [
            Table(
                "VMAs",
                by_size((121, 421, 1621, 6421)),
                [
                    ("B climbed", "work_per_vma.BULK_INSERT.levels_climbed.{}"),
                    ("kernel's", "kernel.levels_climbed_per_vma.{}"),
                    ("B splits", "work_per_vma.BULK_INSERT.splits.{}"),
                    ("kernel's", "kernel.splits_per_vma.{}"),
                    ("B slots", "work_per_vma.BULK_INSERT.slots_written.{}"),
                    ("T slots", "work_per_vma.TREE_DUP.slots_written.{}"),
                    ("B nodes", "work_per_vma.BULK_INSERT.nodes_allocated.{}"),
                    ("T nodes", "work_per_vma.TREE_DUP.nodes_allocated.{}"),
                ],
            )
        ],
    ),
    Topic(
        "Two processes over one",
        "each with a space, or with memory, of its own; then both on one duplication",
        [
            Table(
                "421 VMAs",
                [(name, name) for name in STRATEGIES],
                [
                    ("fork + exit per s, one", "fork_exit_per_s_of.{}"),
                    ("two ÷ one", "two_process_scaling_of.{}"),
                ],
            ),
            Table(
                "VMAs",
                by_size((421, *PARALLEL_SIZES)),
                [
                    ("memcpy, two ÷ one", "memcpy_two_process_scaling.{}"),
                    *(
                        (f"{strategy.name}, {source}", f"parallel_dup_scaling_of.{key}.{{}}")
                        for source, strategy in PARALLEL_KINDS
                        for key in [f"{strategy.name}_{source}"]
                    ),
                    ("EXTENT_COPY ÷ memcpy", "parallel_dup_over_memcpy.{}"),
                ],
            ),
        ],
        [
            at_least("two processes over one, own spaces", "two_process_scaling", 1.9),
            at_least("two on one duplication", "parallel_dup_scaling.{}", 1.5, [BIG]),
            at_least("that over memcpy's", "parallel_dup_over_memcpy.{}", 0.9, [BIG]),
            at_most("VMAs from which two are faster", "parallel_break_even", 30_000),
        ],
    ),
    Topic(
        "RPCs per second, 421 VMAs",
        "a connection and a call at a time per worker; client CPU in cores",
        [
            Table(
                "call",
                [
                    ("Ping", "ping"),
                    *((f"Fork + Exit, {name}", f"fork_exit.{name}") for name in STRATEGIES),
                    ("Map + Unmap", "map_unmap"),
                    *((f"RepeatFork, {name}, forks", f"repeat_fork.{name}") for name in STRATEGIES),
                ],
                [
                    ("one worker", "rpc_per_s.one_worker.{}"),
                    ("client CPU", "rpc_client_cpu.one_worker.{}"),
                    ("two workers", "rpc_per_s.two_workers.{}"),
                    ("client CPU, each", "rpc_client_cpu.two_workers.{}"),
                ],
            )
        ],
        [
            *(
                at_least(f"Fork + Exit, {name}, over two Pings", f"fork_over_ping.{name}", bound)
                for name, bound in (
                    ("BULK_INSERT", 0.85),
                    ("TREE_DUP", 0.85),
                    ("EXTENT_COPY", 0.92),
                )
            ),
            at_least("RepeatFork, forks per s and worker", "repeat_fork_per_s", 300_000),
        ],
    ),
    Topic(
        "Batches: operations per second by the client library, one worker",
        "Map and Unmap in turn; making the batches is included",
        [
            Table(
                "operations",
                [
                    ("one a call", "unary_operations_per_s"),
                    ("Apply of 100", "apply_operations_per_s.100"),
                    ("Apply of 1,000", "apply_operations_per_s.1000"),
                    ("stream of 1,000", "apply_operations_per_s.stream_1000"),
                ],
                [("per second", "{}")],
            ),
            Table(
                "batches of 1,000",
                [
                    ("core ns per operation", "apply_core_ns_per_operation"),
                    ("client CPU", "apply_client_cpu"),
                ],
                [("", "{}")],
            ),
        ],
        [
            at_least("Apply of 100 over unary calls", "apply_over_unary.100", 45),
            at_least("Apply of 1,000 over unary calls", "apply_over_unary.1000", 130),
            at_least("a stream of these over unary calls", "apply_over_unary.stream_1000", 130),
        ],
    ),
    Topic(
        "The server and the builds",
        "",
        aims=(
            at_most("seconds until a server of two workers is ready", "server_ready_s", 2),
            at_most("resident MB of a worker, without the arena", "worker_rss_mb", 70),
            at_most("arena KiB per space of 421 VMAs", "arena_kib_per_space.421", 48),
            at_least(
                "plain Python over compiled",
                "release_over_uncompiled.{}",
                100,
                [s.name for s in Strategy],
            ),
        ),
    ),
    Topic(
        "Python libraries on the same VMAs",
        "copy: ns per VMA; store, lookup: ns; ours by Python methods; * finds exact addresses only",
        [
            Table(
                "library",
                [(name + ("*" if name in EXACT_PEERS else ""), f"peers.{name}") for name in PEERS],
                [
                    *((f"copy {int(n):,}", f"{{}}.copy_ns_per_vma.{n}") for n in PEER_SIZES),
                    ("store 6,421", "{}.store_ns.6421"),
                    ("lookup 6,421", "{}.lookup_ns.6421"),
                    ("", "{}.missing"),
                ],
            )
        ],
    ),
)
