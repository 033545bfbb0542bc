"""What the supervisor tells a worker: one line of JSON on the socket that is its stdin.

The worker answers READY on the same socket. Its end of file is how either side learns that the
other has ended.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

READY = b"ready\n"
_LINE_BYTES_MAX = 1 << 20


@dataclass(frozen=True)
class WorkerConfig:
    """One worker of a server."""

    index: int
    supervisor_pid: int
    version: str
    arena_path: str
    #: Where it listens: the shared address, and its own.
    bind_addresses: list[str]
    #: Of all workers, by index: what clients dial, and the CPU each is pinned to.
    endpoints: list[str]
    cpus: list[int]
    threads: int
    default_strategy: int
    #: From how many VMAs on forks are shared out; 0: never, None: as measured.
    parallel_vmas: int | None
    max_message_bytes: int
    drain_seconds: float

    def to_line(self) -> bytes:
        """The configuration as a line of JSON."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> WorkerConfig:
        """The configuration of a line. ValueError or TypeError when it is none."""
        return cls(**json.loads(line))
