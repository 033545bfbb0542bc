"""The harness itself: it repeats, it notices a lie, and it makes a long sequence short."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .calls import ANON, PAGE, SPECIAL, Area, Call, Outcome
from .generator import Generator, harmless, own_memory
from .machine import Machine, Unavailable
from .sequences import Totals, run_calls, run_generated
from .shrinking import as_test, shrink, without
from .twin import Twin

ANONYMOUS_FIXED = 0x32


@pytest.fixture
def twin(machine: Machine) -> Iterator[Twin]:
    twin = Twin(machine)
    yield twin
    twin.close()


@pytest.fixture
def liar(machine: Machine) -> Iterator[Twin]:
    liar = Twin(machine, lies=True)
    yield liar
    liar.close()


@pytest.mark.parametrize(
    ("status", "reason"),
    [(4, r"personality\(ADDR_NO_RANDOMIZE\) is refused"), (77, "ended with 77")],
)
def test_where_it_cannot_run_there_is_a_reason(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, status: int, reason: str
) -> None:
    script = tmp_path / "executor"
    script.write_text(f"#!/bin/sh\nexit {status}\n")
    script.chmod(0o700)
    monkeypatch.setattr(machine, "executor", str(script))
    with pytest.raises(Unavailable, match=reason):
        machine.start(privileged=True)


def test_two_processes_of_one_kernel_agree(machine: Machine, twin: Twin) -> None:
    totals = Totals()
    for seed in range(12):
        assert run_generated(machine, {"twin": twin}, seed, totals) is None
    assert totals.count > 1500


def test_most_calls_succeed_and_every_call_is_made(machine: Machine) -> None:
    totals = Totals()
    for seed in range(30):
        run_generated(machine, {}, seed, totals)
    succeeded = sum(count for (_, errno), count in totals.errnos.items() if errno == 0)
    assert succeeded / totals.count > 0.7
    assert {"map", "unmap", "protect", "remap", "advise", "brk", "touch", "fork", "exit"} <= set(
        totals.calls
    )
    for errno in (1, 9, 12, 13, 14, 17, 22):
        assert any(found == errno for _, found in totals.errnos)


def test_a_lie_is_noticed_and_shrunk(machine: Machine, liar: Twin) -> None:
    liars = {"liar": liar}
    found = next(f for seed in range(20) if (f := run_generated(machine, liars, seed)))
    calls = shrink(
        found.calls,
        lambda calls: run_calls(machine, liars, calls, found.privileged) is not None,
        seconds=20,
    )
    final = run_calls(machine, liars, calls, found.privileged)
    assert final is not None
    assert calls[-1].name == "unmap"
    assert len(calls) <= 8
    text = as_test(calls, found.privileged, final.what)
    assert f'"unmap", {hex(calls[-1].args[0])}' in text
    compile(text, "pasted", "exec")


def test_an_exception_in_a_simulation_is_a_disagreement(machine: Machine, twin: Twin) -> None:
    class Broken(Twin):
        def run(self, call: Call) -> Outcome:
            raise NotImplementedError

    broken = Broken(machine)
    found = run_calls(machine, {"twin": twin, "broken": broken}, [Call(0, "brk", (0,))])
    broken.close()
    assert found is not None
    assert found.simulation == "broken"
    assert "NotImplementedError" in str(found)


def test_a_sequence_is_its_seed(machine: Machine) -> None:
    kernel, start = machine.start(privileged=True)
    kernel.close()
    areas = {0: list(start.areas)}
    first, again, other = (Generator(seed, start) for seed in (5, 5, 6))
    drawn = [first.next_call(areas) for _ in range(50)]
    assert drawn == [again.next_call(areas) for _ in range(50)]
    assert drawn != [other.next_call(areas) for _ in range(50)]


def test_the_start_is_known(machine: Machine) -> None:
    kernel, start = machine.start(privileged=False)
    with kernel:
        top = kernel.run(Call(0, "map", (0, PAGE, 0, 0x22, -1, 0)))
        brk = kernel.run(Call(0, "brk", (start.brk + 5,)))
    assert (
        top.value
        < start.params.mmap_base
        == max(area.end for area in start.areas if area.file == SPECIAL)
    )
    assert start.params.start_brk == start.brk
    assert brk.value == start.brk + 5


def test_touch(machine: Machine) -> None:
    kernel, start = machine.start(privileged=False)
    low = start.brk + (1 << 20) & -PAGE
    with kernel:
        kernel.run(Call(0, "map", (low, 2 * PAGE, 3, ANONYMOUS_FIXED, ANON, 0)))
        assert kernel.run(Call(0, "touch", (low, 0, 7))) == Outcome(0)
        assert kernel.run(Call(0, "touch", (low, 1, 7))) == Outcome(7)
        assert kernel.run(Call(0, "fork")) == Outcome(1)
        assert kernel.run(Call(1, "touch", (low, 1, 8))) == Outcome(8)
        assert kernel.run(Call(0, "touch", (low, 0, 0))) == Outcome(7)
        assert kernel.run(Call(0, "touch", (low - PAGE, 0, 0))) == Outcome(0, 14)
        assert kernel.run(Call(1, "exit")) == Outcome()
        assert kernel.processes() == [0]
        assert Area(low, low + 2 * PAGE, 0x100073, 0, ANON) in kernel.areas(0)


def test_no_call_may_harm_the_executor(machine: Machine) -> None:
    kernel, start = machine.start(privileged=True)
    kernel.close()
    own = own_memory(start)
    program, stack = start.areas[0].start, start.areas[-1].end
    assert not harmless(Call(0, "unmap", (0, 1 << 46)), own)
    assert not harmless(Call(0, "touch", (program, 1, 0)), own)
    assert not harmless(Call(0, "map", (stack - PAGE, PAGE, 0, ANONYMOUS_FIXED, ANON, 0)), own)
    assert not harmless(Call(0, "remap", (0x7000_0000, PAGE, PAGE, 3, program)), own)
    assert harmless(Call(0, "unmap", (0, 1 << 63)), own)
    assert harmless(Call(0, "remap", (0x7000_0000, PAGE, PAGE, 1, program)), own)


def test_shrinking_leaves_out_the_children_of_a_fork() -> None:
    calls = [
        Call(0, "fork"),
        Call(1, "brk", (1,)),
        Call(0, "fork"),
        Call(1, "fork"),
        Call(3, "brk", (3,)),
        Call(2, "brk", (2,)),
    ]
    assert without(calls, 0, 1) == [Call(0, "fork"), Call(1, "brk", (2,))]
    assert without(calls, 2, 1) == [
        Call(0, "fork"),
        Call(1, "brk", (1,)),
        Call(1, "fork"),
        Call(2, "brk", (3,)),
    ]


def test_shrinking_finds_the_calls_that_matter() -> None:
    calls = [Call(0, "brk", (number,)) for number in range(100)]
    wanted = {17, 18, 80}
    left = shrink(calls, lambda some: wanted <= {call.args[0] for call in some})
    assert {call.args[0] for call in left} == wanted
