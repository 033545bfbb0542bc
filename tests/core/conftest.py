"""Fixtures for the core: a fresh arena for each test, under whichever build is on the path."""

import os
import tempfile
from collections.abc import Iterator

import pytest
from forkstormd.core.arena import Arena, core_build
from forkstormd.core.mm import MemoryManager


@pytest.fixture
def arena_path() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="forkstorm-test-", dir="/dev/shm") as folder:
        yield os.path.join(folder, "arena")


@pytest.fixture
def arena(arena_path: str) -> Iterator[Arena]:
    arena = Arena.create(arena_path, 64 << 20, max_spaces=256, lanes=16)
    yield arena
    arena.close()


@pytest.fixture
def mm(arena: Arena) -> Iterator[MemoryManager]:
    manager = MemoryManager(arena, 2)
    yield manager
    manager.close()


@pytest.fixture
def effort(arena: Arena) -> int:
    """How many times as much as the slowest build this one can do in the same time."""
    return {"uncompiled": 6, "checked": 60, "release": 100}[arena.build]


def pytest_report_header() -> str:
    return f"core: {core_build()}"
