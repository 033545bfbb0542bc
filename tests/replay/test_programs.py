"""Real programs of this machine, recorded with strace and replayed through a server."""

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import forkstorm
import pytest
from click.testing import CliRunner, Result
from forkstorm.cli import main
from forkstorm.replay import Report, ServiceMachine, Texts, parse, replay

from tests.replay.recording import CannotRecord, Recording, record
from tests.serving import Server

# The interpreter itself: in a virtual environment sys.executable is a link to it.
PYTHON = str(Path(sys.executable).resolve())

# Eight threads that map, unmap and protect (malloc's arenas, their stacks) at the same time.
THREADS = """
import mmap, threading

def work():
    for _ in range(10):
        small, large = bytearray(1 << 18), bytearray(1 << 21)
        del small
        mmap.mmap(-1, 1 << 20).close()

threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""

# A child that grows what it inherited, and a block that realloc moves.
FORKS = """
import os
kept = [bytearray(5000) for _ in range(200)]
block = bytearray(1 << 20)
child = os.fork()
more = [bytearray(5000) for _ in range(400)]
block.extend(bytes(3 << 20))
os.waitpid(child, 0) if child else None
"""

PROGRAMS = {
    "bash": ["bash", "-c", "for i in 1 2; do x=$(echo $i | cat); done; y=${x}z; true"],
    "python": [PYTHON, "-c", "import json, ssl; x = [bytes(10_000) for _ in range(1000)]"],
    "threads": [PYTHON, "-c", THREADS],
    "forks": [PYTHON, "-c", FORKS],
}


@pytest.fixture(scope="module", params=PROGRAMS)
def recording(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Recording:
    command = PROGRAMS[request.param]
    if shutil.which(command[0]) is None:
        pytest.skip(f"there is no {command[0]} here")
    try:
        return record(command, tmp_path_factory.mktemp("recording"))
    except CannotRecord as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[forkstorm.Client]:
    with forkstorm.connect(server.address, timeout=30) as connected:
        yield connected


def replayed(client: forkstorm.Client, recording: Recording, strategy: str) -> Report:
    text = recording.trace.read_text(errors="surrogateescape").splitlines()
    start, final = recording.start.read_bytes(), recording.final.read_bytes()
    with ServiceMachine(client, strategy) as machine:
        return replay(parse(text), machine, Texts({0: start}, {0: final}))


@pytest.mark.parametrize("strategy", ["bulk-insert", "tree-dup", "extent-copy", "share"])
def test_results_and_final_maps_are_the_kernel_s(
    client: forkstorm.Client, recording: Recording, strategy: str
) -> None:
    report = replayed(client, recording, strategy)
    said = "\n".join(report.lines(shown=10))
    assert report.call_count > 50
    assert (report.unreadable_line_count, report.unreadable_calls) == (0, []), said
    assert report.differences == [], said
    (agreement,) = report.agreements
    assert agreement.kernel_vma_count > 30
    assert agreement.complete, said


def run(server: Server, *arguments: object) -> Result:
    environment = {"FORKSTORM_ADDRESS": server.address}
    return CliRunner().invoke(main, ["replay", *map(str, arguments)], env=environment)


def test_the_command(server: Server, client: forkstorm.Client, recording: Recording) -> None:
    before = {info.mm_id for info in client.list()}
    texts = ["--maps", recording.start, "--final", f"{recording.pid}={recording.final}"]
    result = run(server, recording.trace, *texts)
    assert result.exit_code == 0, result.output
    assert " 0 different\n" in result.stdout
    assert f"final maps of {recording.pid}: " in result.stdout
    result = run(server, recording.trace, *texts, "--json", "--strategy", "linux-6.7")
    assert json.loads(result.stdout)["agrees"] is True
    # Without maps the beginning is guessed, and much is missing at the end.
    result = run(server, recording.trace, "--final", recording.final, "--touch", "none")
    assert result.exit_code == 1
    assert "began without maps" in result.stdout
    assert {info.mm_id for info in client.list()} == before


def test_wrong_usage(server: Server, tmp_path: Path) -> None:
    (tmp_path / "trace").write_text("1 brk(NULL) = 0x1000\n")
    assert run(server, tmp_path / "nothing").exit_code == 2
    assert run(server, tmp_path / "trace", "--maps", "5=/nowhere").exit_code == 2
    result = run(server, tmp_path / "trace", "--maps", tmp_path / "trace")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "forkstorm: there are no lines of /proc/PID/maps in it\n"
