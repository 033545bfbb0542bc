"""The compiled core against the same files as plain Python."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import forkstormd.core
from forkstormd.core.types import SpaceParams, Strategy

from forkstorm_bench.figures import Figures
from forkstorm_bench.spaces import SMALL, own_arena, runs_of_five


def fork_p50(vma_count: int, forks: int) -> dict[str, float]:
    """Median nanoseconds per strategy, whatever build is on the path (run in a subprocess)."""
    with own_arena(64 << 20, 1) as (_, mm):
        mm_id = mm.create(SpaceParams(), runs_of_five(vma_count)).value
        return {
            strategy.name: statistics.median(mm.repeat_fork(mm_id, strategy, forks)[0])
            for strategy in Strategy
        }


def uncompiled() -> Figures:
    """Time of the uncompiled core over that of the release build, at 421 VMAs."""
    with tempfile.TemporaryDirectory(prefix="forkstorm-bench-") as folder:
        source = Path(forkstormd.core.__file__).parent
        target = Path(folder, "forkstormd", "core")
        target.mkdir(parents=True)
        (target.parent / "__init__.py").touch()
        for file in source.glob("*.py"):
            shutil.copy(file, target)
        script = (
            "import json; from forkstorm_bench.builds import fork_p50;"
            f"print(json.dumps(fork_p50({SMALL}, 3)))"
        )
        paths = [folder, *sys.path]
        answer = subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
    slow = json.loads(answer.stdout)
    fast = fork_p50(SMALL, 2000)
    return {f"release_over_uncompiled.{name}": slow[name] / fast[name] for name in sorted(fast)}
