"""What a server can be told: flags, else the environment's FORKSTORMD_*, else the defaults here.

Imports neither grpc nor the core, so `forkstormd --help` is quick.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import ByteSize, Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

#: Not gRPC's customary 50051, where something else often listens.
DEFAULT_PORT = 7077

# Every name a strategy has: the API's, the command line's, and the kernels that used it, if any.
STRATEGY_NAMES = {
    "BULK_INSERT": 1,
    "bulk-insert": 1,
    "linux-6.7": 1,
    "TREE_DUP": 2,
    "tree-dup": 2,
    "linux-6.8": 2,
    "EXTENT_COPY": 3,
    "extent-copy": 3,
    "SHARE": 4,
    "share": 4,
}


class Settings(BaseSettings):
    """A server's settings. Sizes in bytes ("64MiB" is understood too), times in seconds."""

    model_config = SettingsConfigDict(env_prefix="FORKSTORMD_", extra="ignore")

    workers: int = Field(2, ge=1, le=64)
    listen: str = f"127.0.0.1:{DEFAULT_PORT}"
    # What clients are told to dial; needed when `listen` is a wildcard behind a port mapping.
    advertise_host: str | None = None
    threads: int = Field(4, ge=2, le=16)
    pin: Literal["auto", "none"] = "auto"
    default_strategy: str = "TREE_DUP"
    # From how many VMAs on forks are shared out between idle workers; 0: never.
    parallel_vmas: Literal["auto"] | Annotated[int, Field(ge=0, lt=1 << 32)] = "auto"
    arena_bytes: ByteSize | None = Field(None, ge=4 << 20, le=224 << 30)
    arena_dir: Path = Path("/dev/shm")
    max_spaces: int = Field(65_536, ge=1, le=(1 << 20) - 1)
    max_message_bytes: ByteSize = Field(ByteSize(4 << 20), ge=64 << 10, le=1 << 30)
    drain_seconds: float = Field(5.0, ge=0, le=3600)
    announce: Path | None = None

    @field_validator("default_strategy")
    @classmethod
    def _is_strategy(cls, name: str) -> str:
        if name not in STRATEGY_NAMES:
            raise ValueError(f"no fork strategy {name!r}; there are {', '.join(STRATEGY_NAMES)}")
        return name

    @property
    def default_strategy_number(self) -> int:
        """The number of the API's enum ForkStrategy."""
        return STRATEGY_NAMES[self.default_strategy]
