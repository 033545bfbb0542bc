"""All stages, at the smallest sizes: what they give, what the documentation says of it, the report
and the plots made of it. No figure is judged."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from forkstorm_bench import mutation, peers, plots, realfork, report, spaces
from forkstorm_bench.__main__ import main, stages
from forkstorm_bench.figures import QUICK, Figures, nested, number, write
from forkstorm_bench.topics import TOPICS
from forkstormd.core.types import Strategy
from rich.console import Console

DOCUMENTATION = Path(__file__).parents[2] / "docs" / "benchmarks.md"


def documented() -> list[re.Pattern[str]]:
    """A pattern for each key that the documentation names; <...> stands for any one part, or for
    several at the end of calls."""
    found = []
    for line in DOCUMENTATION.read_text().splitlines():
        for key in re.findall(r"`([a-z][\w.<>]*)`", line):
            pattern = re.escape(key).replace("<CALL>", r"[\w.]+")
            found.append(re.compile(re.sub(r"<[A-Z]+>|<n>", r"[^.]+", pattern)))
    return found


def test_every_figure_is_documented(found: Figures) -> None:
    patterns = documented()
    unknown = [key for key in found if not any(one.fullmatch(key) for one in patterns)]
    assert not unknown


def test_every_aim_and_column_is_documented() -> None:
    patterns = documented()
    for topic in TOPICS:
        keys = [key for aim in topic.aims for key in aim.names()]
        keys += [
            key.format(*parts)
            for table in topic.tables
            for _, key in table.columns
            for _, *parts in table.rows
        ]
        for key in keys:
            assert any(one.fullmatch(key) for one in patterns), key


@pytest.mark.parametrize(
    "key",
    [
        *(f"ns_per_vma.{s.name}.421" for s in Strategy),
        *(f"ns_per_vma_p50.{s.name}.421" for s in Strategy),
        *(f"ns_per_vma_aged.{s.name}.421" for s in Strategy),
        *(f"child_call_ns.{s.name}.421" for s in Strategy),
        *(f"fork_over_ping.{s.name}" for s in Strategy),
        *(f"release_over_uncompiled.{s.name}" for s in Strategy),
        *(f"life_ns.TREE_DUP.{fraction}.421" for fraction in mutation.FRACTIONS),
        *(f"fit.{name}.b_ns" for name in ("BULK_INSERT", "TREE_DUP", "MEMCPY")),
        *("ns_per_vma.MEMCPY.421", "tree_dup_over_memcpy.421", "old_over_new.421"),
        *("bytes.421", "fidelity.TREE_DUP.421", "work_per_vma.BULK_INSERT.splits.121"),
        *("kernel.levels_climbed_per_vma.121", "null_loop_ns", "fork_fixed_ns"),
        *("cold_fork_ns.421", "warm_fork_ns.421", "touched.pages_ns.TREE_DUP.421"),
        *("find_ns.6421", "store_ns.6421", "map_ns.6421", "unmap_ns.6421"),
        *("protect_split_ns.6421", "find_vma_ns.6421", "arena_kib_per_space.421"),
        *("two_process_scaling", "memcpy_two_process_scaling.421"),
        *("fork_exit_per_s.one_process", "rpc_per_s.one_worker.ping"),
        *("rpc_per_s.two_workers.map_unmap", "rpc_client_cpu.two_workers.map_unmap"),
        *("rpc_per_s.one_worker.repeat_fork.TREE_DUP", "client_cpu", "ping_us"),
        *(f"extent_copy_over_memcpy.{source}.421" for source in ("compact", "fresh", "aged")),
        *(f"extent_copy_ns_per_vma.{source}.421" for source in ("compact", "fresh", "aged")),
        *("extent_copy_aged_over_fresh.421", "kernel_over_extent_copy.421"),
        *("ns_per_vma_compact.EXTENT_COPY.421", "repeat_fork_per_s"),
        *(f"share_over_eager.{fraction}.421" for fraction in mutation.FRACTIONS),
        *("share_ns.421", "share_ns_p50.421", "share_fork_exit_ns.421"),
        *("apply_over_unary.100", "apply_over_unary.1000", "apply_over_unary.stream_1000"),
        *("server_ready_s", "worker_rss_mb", "machine.cpus"),
    ],
)
def test_the_stages_give_the_figure(found: Figures, key: str) -> None:
    value = number(found, key)
    assert value is not None
    # Of a fit with few points, or of work that is not done, nothing is known.
    assert value > 0 or key.startswith("fit.")


def test_the_summary_nests(found: Figures) -> None:
    # No key is both a figure and a group, also with the figures that not every version has.
    everything = dict.fromkeys(all_keys(), 1.0) | found
    assert nested(everything)


def all_keys() -> list[str]:
    """Every key of the report."""
    keys = [key for topic in TOPICS for aim in topic.aims for key in aim.names()]
    for topic in TOPICS:
        for table in topic.tables:
            for _, key in table.columns:
                keys += [key.format(*parts) for _, *parts in table.rows]
    return [key for key in keys if not key.endswith(".missing")]


def printed(figures: Figures) -> str:
    file = io.StringIO()
    report.show(Console(file=file, width=report.WIDTH, color_system=None), figures)
    return file.getvalue()


def test_the_report_fits_with_everything_in_it() -> None:
    # What takes longest, and what else there is; all of 10 or 6 digits.
    long = ("life_ns.", "real_fork.", "cold_fork", "warm_fork", "touched.")
    text = printed({key: 4e9 if key.startswith(long) else 123_456.0 for key in all_keys()})
    assert "…" not in text
    lines = text.splitlines()
    assert max(map(len, lines)) <= report.WIDTH
    # A table is as high as it has rows: nothing was broken into two lines but headings.
    for topic in TOPICS:
        assert topic.title in lines
        for table in topic.tables:
            for label, *_ in table.rows:
                assert any(line.startswith(label) for line in lines), label


def test_the_report_judges(found: Figures) -> None:
    text = printed(found | {"find_ns.6421": 10.0, "store_ns.6421": 1e6, "failed.RPCs": "no"})
    assert re.search(r"^ok +lookup ", text, re.MULTILINE)
    assert re.search(r"^falls short +store +1,000,000 +≤ 300", text, re.MULTILINE)
    assert "not measured: RPCs: no" in text
    assert re.search(r"^not measured +two on one duplication", text, re.MULTILINE)


def test_a_report_of_nothing_is_short() -> None:
    assert len(printed({}).splitlines()) < 5


@pytest.mark.parametrize("which", ["measured", "everything", "nothing"])
def test_plots_are_drawn(which: str, found: Figures, tmp_path: Path) -> None:
    everything: Figures = dict.fromkeys(all_keys(), 100.0)
    nothing: Figures = {}
    figures = {"measured": found, "everything": everything, "nothing": nothing}
    paths = plots.draw(figures[which], tmp_path)
    assert len(paths) == 2 * len(plots.PLOTS)
    assert all(path.stat().st_size > 1000 for path in paths)


def test_a_summary_is_drawn_again(found: Figures, tmp_path: Path) -> None:
    write(tmp_path / "summary.json", found)
    main(["--out", str(tmp_path), "--redraw"], standalone_mode=False)
    assert (tmp_path / "report.txt").read_text() == printed(found)


def test_stages_have_names_of_their_own() -> None:
    names = [stage.name for stage in stages(spaces.SIZES)]
    assert len(set(names)) == len(names)
    assert sum(stage.expected_s for stage in stages(spaces.SIZES)) < 300


def test_sources_have_the_same_vmas() -> None:
    with spaces.sources(130) as place:
        fresh, aged = place.mm.info(place.fresh()), place.mm.info(place.aged())
        assert fresh.vma_count == aged.vma_count == 130
        assert place.fresh() == fresh.mm_id
        assert place.mm.verify(aged.mm_id) == []
        assert place.bytes_of(fresh.mm_id) == fresh.node_count * 256 + 130 * 64


@pytest.mark.parametrize(
    ("fraction", "vmas", "stores"),
    [
        ("none", 421, 0),
        ("one_vma", 421, 1),
        ("one_percent", 21, 1),
        ("one_percent", 6421, 64),
        ("ten_percent", 421, 42),
        ("all", 421, 421),
    ],
)
def test_so_many_vmas_are_written_to(fraction: str, vmas: int, stores: int) -> None:
    assert mutation.stores_of(fraction, vmas) == stores


def test_a_library_that_is_missing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(peers.PEERS, "nobody", ("no_such_library", peers.plain_dict))
    figures = peers.one_peer("nobody", QUICK, (21,))
    assert figures == {"peers.nobody.missing": "not installed"}
    assert "not installed" in printed({"peers.lmdb.missing": "not installed"})


@pytest.mark.parametrize("name", list(peers.PEERS))
def test_libraries_hold_the_vmas(name: str) -> None:
    package, make = peers.PEERS[name]
    if package is not None:
        pytest.importorskip(package)
    specs = spaces.runs_of_five(23)
    peer = make(specs)
    try:
        peer.close(peer.copy())
        for vma in specs:
            peer.store(vma.start)
            found = repr(peer.lookup(vma.start))
            if name != "lmdb":
                assert str(vma.start) in found
                assert str(vma.end) in found
    finally:
        peer.end()


def test_the_real_fork_grows_with_vmas() -> None:
    try:
        with realfork.program() as path:
            few, many = realfork.run(path, 21, 60), realfork.run(path, 10_000, 10)
    except realfork.Unavailable as reason:
        pytest.skip(str(reason))
    assert (few.vma_count, many.vma_count) == (21, 10_000)
    assert (len(few.fork_ns), len(many.fork_ns)) == (60, 10)
    # By a factor of a hundred in truth.
    assert min(many.fork_ns) > 5 * min(few.fork_ns) > 0
    assert all(a < b for a, b in zip(few.fork_ns, few.total_ns, strict=True))


def test_without_a_compiler_there_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert realfork.real_fork(QUICK, (21,)) == {"real_fork.skipped": "there is no C compiler"}


def test_too_many_vmas_are_refused_with_a_reason() -> None:
    try:
        with realfork.program() as path, pytest.raises(realfork.Unavailable, match="mmap"):
            realfork.run(path, 10_000_000, 1)
    except realfork.Unavailable as reason:
        pytest.skip(str(reason))
