"""Channels to the server that all tests share, and a space of each test's own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.rpc.calls import Api
from tests.serving import Server


@pytest.fixture(scope="session")
def workers(server: Server) -> Iterator[list[Api]]:
    """One connection to each worker's own port."""
    apis = [Api(endpoint) for endpoint in server.endpoints]
    yield apis
    for api in apis:
        api.channel.close()


@pytest.fixture
def api(workers: list[Api]) -> Api:
    return workers[0]


@pytest.fixture
def space(api: Api) -> Iterator[int]:
    """An empty space."""
    mm_id = api.create()
    yield mm_id
    api.exit(mm_id)
