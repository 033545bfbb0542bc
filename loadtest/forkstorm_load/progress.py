"""What the storm is doing right now, and where it may be interrupted.

A bar on a terminal, a line per stage elsewhere; on stderr. Ctrl-C must not raise KeyboardInterrupt
just anywhere: within grpc it may leave a lock locked for good, and then nothing could be cleaned
up. It is noted, and raised when a stage reports progress, several times a second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

# Takes the share of the stage that is done, 0 to 1. KeyboardInterrupt when that was asked for.
Advance = Callable[[float], None]


class StageDisplay:
    """Shows one stage at a time."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._interrupted = False

    def interrupt(self) -> None:
        """Ends the storm at its next progress; asked a second time, at once."""
        if self._interrupted:
            raise KeyboardInterrupt
        self._interrupted = True

    @contextmanager
    def stage(self, title: str) -> Iterator[Advance]:
        """Shows a stage for the time of the block; yields what moves its bar."""
        if not self._console.is_terminal:
            self._console.print(f"... {title}", highlight=False, soft_wrap=True)
            yield lambda _done: self._check()
            return
        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self._console, transient=True) as progress:
            task = progress.add_task(title, total=1.0)

            def advance(done: float) -> None:
                self._check()
                progress.update(task, completed=done)

            yield advance

    def _check(self) -> None:
        if self._interrupted:
            raise KeyboardInterrupt
