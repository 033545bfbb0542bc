from collections.abc import Iterator

import pytest
from forkstorm import Client, connect

from tests.client.fake import FakeServer, fake_server


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    with fake_server() as server:
        yield server


@pytest.fixture
def fake_client(fake: FakeServer) -> Iterator[Client]:
    with connect(fake.address) as client:
        fake.calls.clear()
        yield client
