"""What deploy/ says agrees with what the commands take, and the health check tells the truth."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from forkstormd.cli import serve
from forkstormd.settings import DEFAULT_PORT

from tests.serving import Server

DEPLOY = Path(__file__).parents[2] / "deploy"
HEALTH = DEPLOY / "health.py"


def health(address: str) -> tuple[int, str]:
    result = subprocess.run(
        [sys.executable, str(HEALTH), address], capture_output=True, text=True, timeout=20
    )
    return result.returncode, result.stdout.strip()


def test_the_health_check_of_a_server_that_serves(server: Server) -> None:
    assert health(server.address) == (0, "SERVING")
    for endpoint in server.endpoints:
        assert health(endpoint) == (0, "SERVING")


def test_the_health_check_where_nothing_listens() -> None:
    code, said = health("127.0.0.1:1")
    assert code == 1
    assert said in ("UNAVAILABLE", "DEADLINE_EXCEEDED")


def serve_commands() -> list[list[str]]:
    """The words after `forkstormd serve` in the Dockerfile and in compose.yaml."""
    found = re.search(r"^CMD (\[.*\])$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    assert found
    commands = [json.loads(found[1])]
    compose = (DEPLOY / "compose.yaml").read_text()
    found = re.search(r"^    command: \[(forkstormd, .*)\]$", compose, re.MULTILINE)
    assert found
    commands.append([word.strip(' "') for word in found[1].split(",")])
    return commands


@pytest.mark.parametrize("command", serve_commands())
def test_the_server_is_started_with_flags_it_has(command: list[str]) -> None:
    assert command[:2] == ["forkstormd", "serve"]
    help_text = CliRunner().invoke(serve, ["--help"]).output
    flags = [word for word in command if word.startswith("--")]
    assert flags
    assert all(flag in help_text for flag in flags)
    assert f"0.0.0.0:{DEFAULT_PORT}" in command


def test_one_port_everywhere() -> None:
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    assert f"EXPOSE {DEFAULT_PORT}" in dockerfile
    assert f"127.0.0.1:{DEFAULT_PORT}" in dockerfile
    assert f"server:{DEFAULT_PORT}" in (DEPLOY / "compose.yaml").read_text()
