"""The kernel to compare with, for all tests of this folder; without one they are skipped."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .machine import Machine, Unavailable


@pytest.fixture(scope="session")
def machine() -> Iterator[Machine]:
    try:
        machine = Machine()
    except Unavailable as reason:
        pytest.skip(f"the kernel cannot be asked: {reason}")
    with machine:
        yield machine
