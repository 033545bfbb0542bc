from array import array
from types import TracebackType

from forkstormd.core.types import SpaceInfo

class Snapshot:
    @property
    def info(self) -> SpaceInfo: ...
    def __enter__(self) -> Snapshot: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...
    def close(self) -> None: ...
    def read(
        self, limit: int
    ) -> tuple[array[int], array[int], array[int], array[int], array[int]]: ...
