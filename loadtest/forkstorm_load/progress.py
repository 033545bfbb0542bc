"""What the storm is doing right now: a bar on a terminal, a line per stage elsewhere. On stderr."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

# Takes the share of the stage that is done, 0 to 1.
Advance = Callable[[float], None]


class StageDisplay:
    """Shows one stage at a time."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)

    @contextmanager
    def stage(self, title: str) -> Iterator[Advance]:
        """Shows a stage for the time of the block; yields what moves its bar."""
        if not self._console.is_terminal:
            self._console.print(f"... {title}", highlight=False, soft_wrap=True)
            yield lambda _done: None
            return
        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self._console, transient=True) as progress:
            task = progress.add_task(title, total=1.0)
            yield lambda done: progress.update(task, completed=done)
