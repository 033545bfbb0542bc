"""What tests of several folders share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.serving import Server, running_server


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """One server of two workers for all tests that do not harm it. They leave it as it was."""
    with running_server() as running:
        yield running
