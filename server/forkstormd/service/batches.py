"""Apply and ApplyStream: many operations in one message.

The columns go to the core as they come, and its results go back as they are: nothing here loops
over operations. A stream holds a thread of its worker, so it takes a long turn (state.py); it takes
a request when the answer to the one before has been sent, so a caller that does not read holds up
nobody else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import grpc
from forkstorm.v1 import address_spaces_pb2 as pb

from forkstormd.core.apply import OPERATIONS_MAX, Batch
from forkstormd.core.dedupe import Ticket
from forkstormd.core.errors import CoreError, MalformedBatch
from forkstormd.core.mm import MemoryManager
from forkstormd.errors import Refusal, abort, invalid, limit_exceeded
from forkstormd.service import replies
from forkstormd.service.requests import file_of
from forkstormd.service.state import Turn, WorkerState

# What an answer takes beside its results and failures, generously; up to three bytes tell which
# operation failed.
_ANSWER_BYTES = 128
_RESULT_BYTES = 8
_FAILED_BYTES = 3
_ON_ERROR = {
    pb.APPLY_ON_ERROR_UNSPECIFIED: False,
    pb.APPLY_ON_ERROR_STOP: False,
    pb.APPLY_ON_ERROR_SKIP: True,
}

Once = Callable[[pb.ApplyRequest, Turn], pb.ApplyResponse]


def apply(
    mm: MemoryManager,
    request: pb.ApplyRequest,
    response: pb.ApplyResponse,
    turn: Turn,
    ticket: Ticket | None,
) -> None:
    """One batch, and what came of it."""
    batch = _batch_of(mm, request)
    if ticket is not None:
        # Before anything happens: afterwards there must be room for the answer.
        each = _RESULT_BYTES + _FAILED_BYTES * batch.skip
        ticket.reserve(_ANSWER_BYTES + each * len(batch))
    result = mm.apply(request.mm_id, batch, deadline_ns=turn.deadline_ns, request=ticket)
    response.performed_count = result.performed
    response.results = result.results
    if result.failed:
        response.failed.extend(result.failed)
    if result.limit:
        response.limit = result.limit
    replies.fill_timing(response.timing, result)


def _batch_of(mm: MemoryManager, request: pb.ApplyRequest) -> Batch:
    columns = request.columns
    kinds = columns.kind
    if len(kinds) > OPERATIONS_MAX:
        raise limit_exceeded(
            "apply_operations", f"a batch has at most {OPERATIONS_MAX} operations", "columns.kind"
        )
    if request.on_error not in _ON_ERROR:
        raise invalid("on_error", f"there is no {request.on_error}")
    if len(request.files) > len(kinds):
        raise invalid("files", "there are more files than operations")
    files = [file_of(mm, file, "files") for file in request.files] if request.files else ()
    try:
        return Batch(
            kinds,
            (
                columns.arg_0,
                columns.arg_1,
                columns.arg_2,
                columns.arg_3,
                columns.arg_4,
                columns.arg_5,
            ),
            files,
            _ON_ERROR[request.on_error],
        )
    except MalformedBatch as error:
        raise invalid(f"columns.{error.field}", error.detail) from None


def apply_stream(
    state: WorkerState,
    requests: Iterable[pb.ApplyRequest],
    context: grpc.ServicerContext,
    once: Once,
) -> Iterator[pb.ApplyResponse]:
    """One batch after the other; `once` performs each once per request id."""
    try:
        with state.long_turn(context) as turn:
            for request in requests:
                if turn.is_cancelled():
                    return
                yield once(request, turn)
    except (CoreError, Refusal) as error:
        abort(context, error)
