"""The command line against a real server, and what it prints where."""

import io
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import forkstorm
import pytest
from click.testing import CliRunner, Result
from forkstorm import printing
from forkstorm.cli import main

from tests.serving import Server

LAYOUT = Path(__file__).parents[2] / "loadtest" / "layouts" / "bash.maps"
VMA_COUNT = LAYOUT.read_bytes().count(b"\n")

Run = Callable[..., Result]


@pytest.fixture
def run(server: Server) -> Run:
    """Runs the command; `fails` is the exit code it must have."""

    def command(*arguments: object, fails: int = 0, stdin: bytes | None = None) -> Result:
        environment = {"FORKSTORM_ADDRESS": server.address}
        result = CliRunner().invoke(main, list(map(str, arguments)), input=stdin, env=environment)
        assert result.exit_code == fails, result.output
        assert not fails or "Traceback" not in result.output
        return result

    return command


@pytest.fixture
def label(server: Server) -> Iterator[str]:
    value = uuid.uuid4().hex
    yield f"test={value}"
    with forkstorm.connect(server.address) as client:
        client.exit_labelled({"test": value})


@pytest.fixture
def space(run: Run, label: str) -> str:
    return run("load", LAYOUT, "--label", label).stdout.strip()


def rows(text: str) -> dict[str, list[str]]:
    """Tab-separated lines by their first column."""
    return {line.split("\t")[0]: line.split("\t")[1:] for line in text.splitlines()}


def test_load_prints_an_id_and_maps_the_text(run: Run, space: str) -> None:
    assert space.startswith("0x")
    assert run("maps", space).stdout_bytes == LAYOUT.read_bytes()
    assert run("maps", int(space, 16)).stdout_bytes == LAYOUT.read_bytes()


def test_load_reads_standard_input_and_processes(run: Run, label: str) -> None:
    piped = run("load", "-", "-l", label, stdin=LAYOUT.read_bytes()).stdout.strip()
    assert run("maps", piped).stdout_bytes == LAYOUT.read_bytes()
    me = run("load", "--pid", os.getpid(), "-l", label).stdout.strip()
    assert os.path.realpath(sys.executable) in run("maps", me).stdout


def test_apply(run: Run, label: str) -> None:
    space = run("load", "-", "-l", label, "--set", "start_brk=0x5000000", stdin=b"").stdout.strip()
    text = b"""
        map 8K --addr 0x10000 --fixed   # a comment
        touch 0x10000 --write 7
        protect 0x11000 4096 r--
        map 4K --addr 0x10000 --fixed-noreplace
        map 4096 --prot r-x --file "/lib/a b.so" --addr 0x20000
        advise 0x10000 4K dontfork
        remap 0x20000 4K 8K --maymove
        brk 0x5001000
        unmap 0x10000 4096
    """
    told = run("apply", space, "-", "--skip", stdin=text, fails=1).stdout.split()
    first = ["0x10000", "0x7", "0x0", "EEXIST"]
    assert told == [*first, "0x20000", "0x0", "0x20000", "0x5001000", "0x0"]
    assert "/lib/a b.so" in run("maps", space).stdout
    told = run("apply", space, "-", stdin=text, fails=1).stdout.split()
    assert told == first
    assert run("apply", space, "-", stdin=b"touch 0x10000").stdout == "0x7\n"
    for wrong in (b"\nfork 1", b"\nunmap 1", b"\nunmap 1 x", b"\nmap 4096 --nonsense"):
        assert "line 2" in run("apply", space, "-", stdin=wrong, fails=2).stderr
    run("apply", space, "-", stdin=b"", fails=1)


@pytest.mark.parametrize(
    ("strategy", "name"),
    [
        ("tree-dup", "TREE_DUP"),
        ("bulk-insert", "BULK_INSERT"),
        ("linux-6.8", "TREE_DUP"),
        ("linux-6.7", "BULK_INSERT"),
        ("extent-copy", "EXTENT_COPY"),
        ("share", "SHARE"),
    ],
)
def test_fork_prints_a_table_and_exits_the_children(
    run: Run, space: str, label: str, strategy: str, name: str
) -> None:
    table = rows(run("fork", space, "--strategy", strategy, "--count", 20, "-l", label).stdout)
    assert table["strategy"] == [name]
    assert (table["forks"], table["VMAs"]) == (["20"], [str(VMA_COUNT)])
    assert table["µs"] == ["p50", "p90", "p99", "max"]
    core, wire = ([float(cell) for cell in table[row]] for row in ("core", "wire"))
    assert 0 < core[0] <= core[1] <= core[2] <= core[3] < wire[3]
    copied = 0 if name == "SHARE" else VMA_COUNT
    assert table["records_copied"] == [str(copied)]
    assert len(run("ls", "-l", label).stdout.splitlines()) == 2


def test_kept_children_are_printed_apart_from_the_table(run: Run, space: str, label: str) -> None:
    result = run("fork", space, "--count", 3, "--keep", "-l", label, "--ttl", 60)
    children = result.stdout.split()
    assert len(set(children)) == 3
    assert "core" in rows(result.stderr)
    listed = rows(run("ls", "-l", label).stdout)
    assert set(listed) == {"ID", space, *children}
    assert listed[children[0]][4] in ("59s", "60s")
    run("exit", *children)
    assert set(rows(run("ls", "-l", label).stdout)) == {"ID", space}


def test_map_and_unmap(run: Run, space: str) -> None:
    place = "0x10000000000"
    assert run("map", space, "2M", "--addr", place, "--fixed").stdout == f"{place}\n"
    line = f"{place[2:]}-10000200000 rw-p 00000000 00:00 0 \n"
    assert line in run("maps", space).stdout
    run("unmap", space, place, "2MiB")
    assert line not in run("maps", space).stdout
    run("map", space, 4096, "--addr", place, "--fixed-noreplace", "--prot", "r-x", "--shared",
        "--file", "/lib/x", "--offset", "8K")  # fmt: skip
    assert "10000000000-10000001000 r-xs 00002000 00:00 0 " in run("maps", space).stdout
    result = run("map", space, 4096, "--addr", place, "--fixed-noreplace", fails=1)
    assert result.stdout == ""
    assert result.stderr.startswith("forkstorm: EEXIST: ")
    assert result.stderr.count("\n") == 1


def test_protect_advise_and_remap(run: Run, space: str) -> None:
    place, elsewhere = "0x10000000000", "0x20000000000"
    run("map", space, "16K", "--addr", place, "--fixed")
    run("protect", space, place, "4K", "r--")
    assert "10000000000-10000001000 r--p " in run("maps", space).stdout
    assert "10000001000-10000004000 rw-p " in run("maps", space).stdout
    run("advise", space, place, 4096, "dontfork")
    run("advise", space, "0x10000003000", "4K", 18)
    moved = run("remap", space, place, "4K", "4K", "--maymove", "--fixed", "--to", elsewhere)
    assert moved.stdout == f"{elsewhere}\n"
    assert "10000001000-10000003000 rw-p " in run("maps", space).stdout
    grown = run("remap", space, "0x10000003000", "4K", "8K")
    assert grown.stdout == "0x10000003000\n"
    assert run("remap", space, elsewhere, "4K", "8K").stdout == f"{elsewhere}\n"
    run("remap", space, elsewhere, "4K", "4K", "--maymove", "--dontunmap")
    result = run("remap", space, "0x30000000000", "4K", "4K", fails=1)
    assert result.stderr.startswith("forkstorm: EFAULT: ")
    assert run("advise", space, place, "4K", 999, fails=1).stderr.startswith("forkstorm: EINVAL: ")


def test_brk_and_touch(run: Run, space: str) -> None:
    before = run("brk", space).stdout
    assert before == f"{rows(run('info', space).stdout)['brk'][0]}\n"
    grown = f"{int(before, 16) + 12345:#x}"
    assert run("brk", space, grown).stdout == f"{grown}\n"
    assert run("brk", space, 1).stdout == f"{grown}\n"
    assert run("touch", space, grown).stdout == "0x0\n"
    assert run("touch", space, grown, "--write", "0xabc").stdout == "0xabc\n"
    assert run("touch", space, grown).stdout == "0xabc\n"
    info = rows(run("info", space).stdout)
    assert (info["touched_page_count"], info["page_table_count"]) == (["1"], ["3"])
    assert run("touch", space, "0x10", fails=1).stderr.startswith("forkstorm: EFAULT: ")


def test_a_fork_that_fails_prints_what_was_undone(run: Run, space: str, label: str) -> None:
    for recovery in ("tree-end", "marker", "immediate"):
        arguments = ("fork", space, "-l", label, "--recovery", recovery, "--count", 3)
        result = run(*arguments, "--fault", "vma-record@5", fails=1)
        assert result.stderr.startswith("forkstorm: ENOMEM: ")
        told = rows(result.stdout)
        assert (told["site"], told["ordinal"]) == (["VMA_RECORD"], ["5"])
        assert told["duplicated_vma_count"] == told["undone_vma_count"] == ["5"]
        # A fault behind the last VMA does not fire.
        assert rows(run(*arguments, "--fault", "vma-record@9999").stdout)["forks"] == ["3"]
    assert len(run("ls", "-l", label).stdout.splitlines()) == 2


def test_parameters_are_set_by_their_names(run: Run, label: str) -> None:
    space = run("load", "/dev/null", "-l", label, "--set", "overcommit=2",
        "--set", "commit_limit_pages=1K", "--set", "linux_version=6.8",
        "--set", "thp_alignment=0", "--set", "mmap_base=0x70000000").stdout.strip()  # fmt: skip
    info = rows(run("info", space).stdout)
    assert (info["overcommit"], info["commit_limit_pages"]) == (["2"], ["1024"])
    assert (info["linux_version"], info["thp_alignment"]) == (["6008"], ["0"])
    assert (info["mmap_base"], info["privileged"]) == (["0x70000000"], ["0"])


def test_info_and_verify(run: Run, space: str, label: str) -> None:
    info = rows(run("info", space).stdout)
    assert (info["ID"], info["VMAs"], info["labels"]) == ([space], [str(VMA_COUNT)], [label])
    assert run("verify", space).stdout == "verified 1, violations 0\n"
    assert run("verify").stdout.endswith("violations 0\n")


def test_server_and_ping(run: Run, server: Server) -> None:
    facts = rows(run("server").stdout)
    assert facts["strategies"] == ["BULK_INSERT TREE_DUP EXTENT_COPY SHARE"]
    assert [facts[str(i)][0] for i in range(2)] == server.endpoints
    ping = rows(run("ping", "--count", 10).stdout)
    assert float(ping["ping"][0]) > 0


def test_exit_by_id_and_by_label(run: Run, space: str, label: str) -> None:
    run("exit", space)
    result = run("info", space, fails=1)
    assert result.stderr.startswith("forkstorm: NO_SUCH_SPACE: ")
    run("load", LAYOUT, "-l", label)
    run("load", LAYOUT, "-l", label)
    assert run("exit", "-l", label).stdout == "exited 2\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["exit"],
        ["exit", "1", "-l", "a=b"],
        ["exit", "-l", "ab"],
        ["load"],
        ["load", "x", "--pid", "1"],
        ["fork", "abc"],
        ["fork", "-1"],
        ["fork", "0x1ffffffffffffffff"],
        ["fork", "1", "--strategy", "vfork"],
        ["map", "1", "4Q"],
        ["map", "1", "4K", "--prot", "rq"],
        ["protect", "1", "0", "4K", "rwq"],
        ["advise", "1", "0", "4K", "never"],
        ["fork", "1", "--fault", "vma-record"],
        ["fork", "1", "--fault", "heap@1"],
        ["fork", "1", "--fault", "policy@-1"],
        ["fork", "1", "--recovery", "F4"],
        ["load", "/dev/null", "--set", "colour=1"],
        ["load", "/dev/null", "--set", "overcommit"],
        ["load", "/dev/null", "--set", "linux_version=6."],
        ["load", "/dev/null", "--set", "overcommit=0x100000000"],
    ],
)
def test_wrong_usage_is_exit_code_2(run: Run, arguments: list[str]) -> None:
    assert "Usage: " in run(*arguments, fails=2).stderr


def test_a_file_that_is_not_there_is_one_line(run: Run) -> None:
    assert run("load", "/nowhere", fails=1).stderr.startswith("forkstorm: [Errno 2]")
    assert "MALFORMED_MAPS: line 1" in run("load", "-", stdin=b"x\n", fails=1).stderr


def test_no_server_is_exit_code_3() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"
        command = [sys.executable, "-m", "forkstorm.cli", "--address", address, "ping"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("forkstorm: UNAVAILABLE: ")
    assert done.stderr.count("\n") == 1


def test_help_needs_no_server() -> None:
    for name in ["", *main.list_commands(click.Context(main))]:
        arguments = [name, "--help"] if name else ["--help"]
        result = CliRunner().invoke(main, arguments, env={"FORKSTORM_ADDRESS": "127.0.0.1:1"})
        assert result.exit_code == 0


def test_ctrl_c_prints_what_was_measured(server: Server, space: str, label: str) -> None:
    command = [sys.executable, "-m", "forkstorm.cli", "--address", server.address]
    process = subprocess.Popen(
        [*command, "fork", space, "--count", "1000000", "-l", label],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with forkstorm.connect(server.address) as client:
        parent = int(space, 16)
        selector = dict([label.split("=")])
        deadline = time.monotonic() + 20
        seen = {parent}
        while len(seen) < 3:
            seen |= {info.mm_id for info in client.list(selector)}
            assert time.monotonic() < deadline
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=10)
        assert process.returncode == 0, errors
        assert int(rows(output)["forks"][0]) >= 1
        # At most one child is left, and its time is limited.
        children = [info for info in client.list(selector) if info.mm_id != parent]
        assert len(children) <= 1
        assert all(0 < child.ttl_ns <= 60 * 10**9 for child in children)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_terminals_get_aligned_columns_and_pipes_get_tabs() -> None:
    pipe, terminal = io.StringIO(), Terminal()
    for out in (pipe, terminal):
        printing.table(["name", "ns"], [("a", 5), ("bcd", 123.45)], out)
        printing.facts([("k", "v"), ("long", 2)], out)
    assert pipe.getvalue() == "name\tns\na\t5\nbcd\t123.5\nk\tv\nlong\t2\n"
    lines = [line.rstrip() for line in terminal.getvalue().splitlines()]
    assert " a          5" in lines
    assert " bcd    123.5" in lines
    assert lines[-2:] == ["k     v", "long  2"]


def test_percentiles_are_measured_values() -> None:
    out = io.StringIO()
    printing.percentiles({"x": [3000, 1000, 2000], "y": [7000]}, out)
    assert (
        out.getvalue() == "µs\tp50\tp90\tp99\tmax\nx\t2.0\t3.0\t3.0\t3.0\ny\t7.0\t7.0\t7.0\t7.0\n"
    )
