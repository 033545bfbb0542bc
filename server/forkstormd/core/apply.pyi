from collections.abc import Iterable, Sequence

OPERATIONS_MAX: int

class Batch:
    kinds: bytes
    skip: bool
    def __init__(
        self,
        kinds: bytes,
        columns: Sequence[bytes],
        files: Iterable[int] = (),
        skip: bool = False,
    ) -> None: ...
    def __len__(self) -> int: ...
