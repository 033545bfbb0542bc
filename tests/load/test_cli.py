"""`forkstorm-storm`: exit codes and files, on outcomes made of known numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from forkstorm_load import cli
from forkstorm_load.measure import Control
from forkstorm_load.outcome import Outcome
from forkstorm_load.server import ServerError
from forkstorm_load.stats import Interval

from .outcomes import outcome

NOISY = Control(Interval(0.2, -0.1, 0.4), 0.0)


def run(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    made: Outcome | BaseException,
    *arguments: str,
) -> Result:
    def fake(settings: object, display: object) -> Outcome:
        if isinstance(made, BaseException):
            raise made
        return made

    monkeypatch.setattr(cli, "run_storm", fake)
    # This process keeps its own handler.
    monkeypatch.setattr("signal.signal", lambda *_: None)
    return CliRunner().invoke(cli.main, ["--output", str(tmp_path), *arguments])


@pytest.mark.parametrize(
    ("made", "loose", "strict"),
    [
        (outcome(), 0, 0),
        (outcome(control=NOISY), 0, 3),
        (outcome(client_cpu=0.8), 0, 3),
        (outcome(failures=2), 1, 1),
        (outcome(faults=3, leaks={}), 0, 0),
        (outcome(faults=3, leaks={"nodes": 1}), 1, 1),
        (ServerError("no server"), 1, 1),
        (KeyboardInterrupt(), 130, 130),
    ],
    ids=["clean", "noisy", "busy", "failed", "faults", "leak", "no server", "interrupted"],
)
def test_exit_codes(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    made: Outcome | BaseException,
    loose: int,
    strict: int,
) -> None:
    assert run(monkeypatch, tmp_path, made).exit_code == loose
    assert run(monkeypatch, tmp_path, made, "--strict").exit_code == strict


def test_what_is_printed_is_also_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = outcome()
    printed = run(monkeypatch, tmp_path, made).output.splitlines()
    assert (tmp_path / "report.txt").read_text().splitlines() == printed[:-1]
    assert len(printed) <= 40
    assert json.loads((tmp_path / "summary.json").read_text())["valid"] is True
    assert (tmp_path / "t_of_n.svg").exists()


def test_the_strategies_of_the_storm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = outcome(strategies=("TREE_DUP", "SHARE"))
    assert run(monkeypatch, tmp_path, made, "--strategy", "share,tree-dup").exit_code == 0
    assert json.loads((tmp_path / "summary.json").read_text())["stormed"] == ["TREE_DUP", "SHARE"]
    refused = run(monkeypatch, tmp_path, made, "--strategy", "vfork")
    assert refused.exit_code == 2
    assert "vfork" in refused.output


def test_an_invalid_storm_still_writes_its_figures(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run(monkeypatch, tmp_path, outcome(control=NOISY))
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["valid"] is False
    assert len(summary["sizes"]) == 8
