"""The three builds of the same files agree: on every answer, every map, every tree's shape.

Each build runs the same random calls in a process of its own. The builds of `make
build-checked` are looked for under build/; without them the test skips and says so.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from forkstormd.core.arena import core_build

ROOT = Path(__file__).parents[2]
AGENT = Path(__file__).with_name("agent.py")
BUILDS = {
    "release": ROOT / "server",
    "checked": ROOT / "build" / "checked",
    "uncompiled": ROOT / "build" / "uncompiled",
}


def run(build: str, seed: int, steps: int) -> list[str]:
    environment = {**os.environ, "PYTHONPATH": str(BUILDS[build])}
    result = subprocess.run(
        [sys.executable, str(AGENT), str(seed), str(steps)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    first, *lines = result.stdout.splitlines()
    assert build in first
    return lines


@pytest.mark.parametrize("seed", range(2))
def test_the_builds_agree(seed: int) -> None:
    if core_build() != "release":
        pytest.skip("compared once, from the release build's run")
    missing = [build for build, path in BUILDS.items() if not (path / "forkstormd").is_dir()]
    if missing:
        pytest.skip(f"not built: {', '.join(missing)} (make build-checked)")
    expected = run("uncompiled", seed, 120)
    assert len(expected) == 121
    assert run("checked", seed, 120) == expected
    assert run("release", seed, 120) == expected
