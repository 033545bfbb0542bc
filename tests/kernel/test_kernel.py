"""The core against the running kernel: results, errnos and maps, call by call.

The first tests draw new sequences (see generator.py); the others replay short ones, most of
them found that way. `make fuzz-kernel SECONDS=600` looks for more.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Protocol

import pytest
from forkstormd.core.types import Strategy

from .batched_simulation import BatchedSimulation
from .calls import PAGE, Call, Simulation
from .core_simulation import CoreSimulation
from .machine import Machine
from .sequences import Totals, run_calls, run_generated

CALLS = 10_000  # of each of the two long tests


class Replay(Protocol):
    def __call__(self, *calls: tuple[int | str, ...], privileged: bool = True) -> None: ...


@pytest.fixture(scope="module")
def cores() -> Iterator[Mapping[str, Simulation]]:
    """The core under each strategy, and with its calls in batches: all must answer alike."""
    with ExitStack() as stack:
        simulations: dict[str, Simulation] = {
            strategy.name: stack.enter_context(CoreSimulation(strategy)) for strategy in Strategy
        }
        simulations["batches"] = stack.enter_context(BatchedSimulation(Strategy.TREE_DUP))
        yield simulations


@pytest.fixture
def replay(machine: Machine, cores: Mapping[str, Simulation]) -> Replay:
    """Make calls, each (process, name, arguments), and fail where the core disagrees."""

    def run(*calls: tuple[int | str, ...], privileged: bool = True) -> None:
        made = [
            Call(int(process), str(name), tuple(int(word) for word in args))
            for process, name, *args in calls
        ]
        found = run_calls(machine, cores, made, privileged)
        assert found is None, str(found)

    return run


@pytest.mark.parametrize("first", [1, time.time_ns() // 1_000_000], ids=["fixed", "fresh"])
def test_random_sequences(machine: Machine, cores: Mapping[str, Simulation], first: int) -> None:
    totals, seed = Totals(), first
    while totals.count < CALLS:
        found = run_generated(machine, cores, seed, totals)
        assert found is None, f"seed {seed}: {found}"
        seed += 1


def test_huge_pages_that_are_only_read(machine: Machine, cores: Mapping[str, Simulation]) -> None:
    """With them a read decides what may merge."""
    totals, seed = Totals(), 1
    while totals.count < CALLS // 5:
        found = run_generated(machine, cores, seed, totals, kind="thp")
        assert found is None, f"seed {seed}: {found}"
        seed += 1


def test_near_max_map_count(machine: Machine, cores: Mapping[str, Simulation]) -> None:
    found = run_generated(machine, cores, 7, kind="limit")
    assert found is None, str(found)


def test_a_mapping_below_64_kib(replay: Replay) -> None:
    replay(
        (0, "map", 0x67D0, 0x1000, 0, 0x22, -1, 0),
        (0, "map", 0x17000, 0x1000, 0, 0x132, -1, 0),
        (0, "touch", 0xE000, 1, 1),
        privileged=False,
    )


def test_dontunmap_to_a_fixed_place(replay: Replay) -> None:
    replay(
        (0, "map", 0x7FFFF7FEA000, 0x2000, 0, 0x32, -1, 0),
        (0, "remap", 0x7FFFF7FEA000, 0x1000, 0x1000, 7, 0x7FFFF7FA4000),
    )


def test_an_inherited_area_split_and_whole_again(replay: Replay) -> None:
    replay(
        (0, "map", 0x1_0000_0000, 0x3000, 3, 0x32, -1, 0),
        (0, "touch", 0x1_0000_0000, 1, 1),
        (0, "fork"),
        (1, "advise", 0x1_0000_0000, 0x1000, 10),
        (1, "advise", 0x1_0000_0000, 0x1000, 11),
    )


def test_the_order_of_refusals_of_a_file(replay: Replay) -> None:
    replay(
        (0, "map", 0x20014000, 0xFFFFFFFFFFFFF000, 0, 0x11, 5, 0x13000),
        (0, "map", 0, 0x13000, 0, 0x22, -1, 0),
        (0, "map", 0x7FFFF7FE4000, 0x1000, 0, 0x100001, 0, 0xFFFFFFFFFFFFF000),
        (0, "map", 0x7FFFF7FE4000, 0x1000, 0, 2, -1, 1),
    )


def test_an_address_that_is_an_error(replay: Replay) -> None:
    # get_unmapped_area() hands a fixed address on, where the last page's pass for errnos.
    replay(
        (0, "map", 0xFFFFFFFFFFFFFFFF, 0x1000, 0, 0x32, -1, 0),
        (0, "map", 0xFFFFFFFFFFFFF001, 0x1000, 0, 0x32, -1, 0),
        (0, "map", 0xFFFFFFFFFFFFF000, 0x1000, 0, 0x32, -1, 0),
    )


def test_areas_for_sync_do_not_merge(replay: Replay) -> None:
    replay(
        (0, "map", 0x1_0000_0000, 0x1000, 3, 0x80032, -1, 0),
        (0, "map", 0x1_0000_1000, 0x1000, 3, 0x32, -1, 0),
        (0, "map", 0x1_0000_2000, 0x1000, 3, 0x80031, -1, 0),
        (0, "map", 0x1_0000_3000, 0x1000, 0, 0x80038, -1, 0),
    )


def test_what_grows_a_stack(replay: Replay) -> None:
    low = 0x1_0000_0000
    replay(
        (0, "map", low - 300 * PAGE, PAGE, 3, 0x32, -1, 0),
        (0, "map", low, 4 * PAGE, 3, 0x132, -1, 0),
        (0, "touch", low - 44 * PAGE, 1, 1),
        (0, "touch", low - 43 * PAGE, 1, 1),
        (0, "map", low + 4096 * PAGE, PAGE, 0, 0x132, -1, 0),
        (0, "touch", low + 4095 * PAGE, 0, 0),
        (0, "protect", low + 4096 * PAGE, PAGE, 1),
        (0, "map", low + 8192 * PAGE, 4 * PAGE, 3, 0x132, -1, 0),
        (0, "touch", low + 6148 * PAGE, 1, 1),
        (0, "touch", low + 6147 * PAGE, 1, 1),
        (0, "protect", low + 8190 * PAGE, PAGE, 0x1000001),
    )


def test_values_of_private_and_shared_pages_of_a_file(replay: Replay) -> None:
    shared, private = 0x1_0000_0000, 0x1_0000_1000
    replay(
        (0, "map", shared, PAGE, 3, 0x11, 0, 0),
        (0, "touch", shared, 1, 5),
        (0, "map", private, PAGE, 3, 0x12, 2, 0),
        (0, "touch", private, 0, 0),
        (0, "touch", private, 1, 6),
        (0, "fork"),
        (1, "touch", shared, 1, 9),
        (1, "touch", private, 0, 0),
        (0, "touch", private, 0, 0),
        (0, "advise", private, PAGE, 4),
        (0, "touch", private, 0, 0),
        (1, "touch", private, 0, 0),
        (0, "advise", shared, PAGE, 4),
        (0, "touch", shared, 0, 0),
    )


def test_a_wiped_area_has_nothing_that_it_could_inherit(replay: Replay) -> None:
    low = 0x1_0000_0000
    replay(
        (0, "map", low, 19 * PAGE, 3, 0x32, -1, 0),
        (0, "advise", low + 15 * PAGE, 2 * PAGE, 18),
        (0, "protect", low + 16 * PAGE, PAGE, 1),
        (0, "touch", low + 15 * PAGE, 1, 1),
        (0, "fork"),
        (1, "protect", low + 16 * PAGE, PAGE, 3),
        (1, "protect", low + 15 * PAGE, PAGE, 0),
    )


def test_what_the_commit_limit_refuses_has_cut_its_edges(replay: Replay) -> None:
    # Far more than RAM and swap, so that the limit is certain to refuse it.
    low, length = 0x1_0000_0000, 1 << 44
    replay(
        (0, "map", low, 7 * PAGE, 0, 0x32, -1, 0),
        (0, "map", low + length, 7 * PAGE, 0, 0x32, -1, 0),
        (0, "map", low + 3 * PAGE, length, 3, 0x32, -1, 0),
        (0, "map", low + 5 * PAGE, length, 3, 0x31, -1, 0),
    )


def test_populating_needs_the_right_to_read(replay: Replay) -> None:
    low = 0x1_0000_0000
    replay(
        (0, "map", low, 2 * PAGE, 2, 0x32, -1, 0),
        (0, "advise", low, PAGE, 22),
        (0, "advise", low, PAGE, 23),
        (0, "map", low + 2 * PAGE, PAGE, 4, 0x32, -1, 0),
        (0, "advise", low, 3 * PAGE, 22),
        (0, "advise", low, 3 * PAGE, 23),
        (0, "advise", low, 4 * PAGE, 23),
    )


def test_growth_in_place_of_an_inherited_area_merges_with_the_next(replay: Replay) -> None:
    # vma_merge_extend() asks nobody for the length of the chain.
    low = 0x1_0000_0000
    replay(
        (0, "map", low, 4 * PAGE, 3, 0x32, -1, 0),
        (0, "touch", low, 1, 1),
        (0, "fork"),
        (1, "map", low + 6 * PAGE, 2 * PAGE, 3, 0x32, -1, 0),
        (1, "remap", low, 4 * PAGE, 6 * PAGE, 0, 0),
    )


def test_a_move_that_shrinks_is_charged_the_difference(replay: Replay) -> None:
    # Two halves that are one VMA, together more than RAM (and some swap), each by itself less.
    low, half = 0x1_0000_0000, os.sysconf("SC_PHYS_PAGES") * 3 // 4 * PAGE
    replay(
        (0, "map", low, half, 3, 0x32, -1, 0),
        (0, "map", low + half, half, 3, 0x32, -1, 0),
        (0, "remap", low, 2 * half, PAGE, 3, low + 4 * half),
    )


def test_memory_for_nothing_but_execution(replay: Replay) -> None:
    # With protection keys it has one, unless PROT_SEM or a bit that nobody knows stands beside.
    low = 0x1_0000_0000
    replay(
        (0, "map", low, 2 * PAGE, 4, 0x32, -1, 0),
        (0, "touch", low, 0, 0),
        (0, "map", low + 2 * PAGE, 2 * PAGE, 5, 0x32, -1, 0),
        (0, "touch", low + 2 * PAGE, 0, 0),
        (0, "protect", low + 2 * PAGE, PAGE, 12),
        (0, "touch", low + 2 * PAGE, 0, 0),
        (0, "protect", low + 3 * PAGE, PAGE, 4),
        (0, "protect", low + 2 * PAGE, PAGE, 4),
        (0, "touch", low + 2 * PAGE, 0, 0),
        (0, "map", low + 4 * PAGE, PAGE, 0x14, 0x32, -1, 0),
        (0, "touch", low + 4 * PAGE, 0, 0),
        (0, "fork"),
        (1, "touch", low, 0, 0),
        (1, "protect", low, PAGE, 1),
        (1, "touch", low, 0, 0),
        (0, "touch", low, 0, 0),
    )


def test_droppable_pages_go_when_they_are_paged_out(replay: Replay) -> None:
    low = 0x1_0000_0000
    replay(
        (0, "map", low, 4 * PAGE, 3, 0x38, -1, 0),
        (0, "touch", low, 1, 5),
        (0, "touch", low + PAGE, 1, 6),
        (0, "advise", low, PAGE, 21),
        (0, "touch", low, 0, 0),
        (0, "touch", low + PAGE, 0, 0),
        (0, "advise", low, 4 * PAGE, 20),
        (0, "touch", low + PAGE, 0, 0),
    )
