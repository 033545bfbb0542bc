"""The layouts a storm forks."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest
from forkstorm_load.layouts import (
    layout_label,
    layout_text,
    live_layout,
    parse_names,
    real_layouts,
    seed_layout,
)
from forkstorm_load.seed import SAVED_NS_PER_VMA, STRATEGIES, VMA_COUNTS, seed_fit

LINE = re.compile(rb"([0-9a-f]+)-([0-9a-f]+) ([r-][w-][x-][ps]) [0-9a-f]{8,} \S+ \d+ *(.*)")


def areas(text: bytes) -> list[tuple[int, int, bytes, bytes]]:
    matches = [LINE.fullmatch(line) for line in text.splitlines()]
    assert all(matches)
    return [(int(m[1], 16), int(m[2], 16), m[3], m[4]) for m in matches if m]


@pytest.mark.parametrize("vma_count", [*VMA_COUNTS, 22, 26, 27])
def test_a_seed_layout_has_its_count_in_ascending_unmergeable_areas(vma_count: int) -> None:
    found = areas(seed_layout(vma_count))
    assert len(found) == vma_count
    for (_, end, prot, name), (start, _, next_prot, next_name) in pairwise(found):
        assert end <= start
        if end == start and not name and not next_name:
            assert prot != next_prot


def test_the_extra_areas_stand_in_runs_of_five() -> None:
    base = areas(seed_layout(21))
    extra = [area for area in areas(seed_layout(6421)) if area not in base]
    assert len(extra) == 6400
    runs = 1 + sum(a[1] != b[0] for a, b in pairwise(extra))
    assert runs == 6400 / 5


def test_a_seed_layout_cannot_be_smaller_than_its_base() -> None:
    with pytest.raises(ValueError, match="at least 21"):
        seed_layout(20)


def test_real_layouts_are_maps_of_processes() -> None:
    layouts = real_layouts()
    assert set(layouts) == {"bash", "chromium_renderer", "java17", "node", "python3"}
    for text in layouts.values():
        assert any(name == b"[stack]" for *_, name in areas(text))


def test_the_live_layout_is_this_process() -> None:
    assert any(name == b"[stack]" for *_, name in areas(live_layout()))


def test_layouts_are_found_by_name(tmp_path: Path) -> None:
    file = tmp_path / "mine.maps"
    file.write_bytes(seed_layout(21))
    assert layout_text("java17") == real_layouts()["java17"]
    assert layout_text("seed:121") == seed_layout(121)
    assert layout_text(str(file)) == seed_layout(21)
    assert layout_label(str(file)) == "mine"
    assert layout_label("seed:121") == "seed:121"
    assert parse_names("java17, self,java17", "21,121") == ["java17", "self", "seed:21", "seed:121"]


@pytest.mark.parametrize(
    ("name", "says"),
    [("nothing", "python3"), ("seed:x", "'x'"), ("seed:3", "21"), ("/no/such", "No such file")],
)
def test_an_unknown_layout_says_what_is_wrong(name: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        layout_text(name)


def test_the_seeds_table_gives_the_fits_that_were_published() -> None:
    old, new = (seed_fit(strategy) for strategy in STRATEGIES)
    assert (round(old.a / 1e3, 1), round(old.b)) == (77.6, 486)
    assert (round(new.a / 1e3, 1), round(new.b)) == (79.1, 317)
    assert round(max(old.residual_max, new.residual_max), 3) == 0.029
    assert [round(SAVED_NS_PER_VMA[n]) for n in (121, 821)] == [134, 177]
