"""A server that does what a test tells it to: real channels, scripted answers.

It shows what a real server does not do on command: fail once, be slow, cut a stream, be partly out
of reach. Each worker is a gRPC server in this process with a port of its own; a shared port
belongs to the first worker, as a port mapping would leave it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from forkstorm.v1 import address_spaces_pb2, diagnostics_pb2
from google.protobuf import any_pb2
from google.protobuf.message_factory import GetMessageClass
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

Answer = Callable[[Any, grpc.ServicerContext], Any]

_SERVICES = (
    address_spaces_pb2.DESCRIPTOR.services_by_name["AddressSpaces"],
    diagnostics_pb2.DESCRIPTOR.services_by_name["Diagnostics"],
)


@dataclass
class Call:
    """A call that reached a worker."""

    worker: int
    method: str
    request: Any
    #: Attempts before this one, as gRPC's retries count them.
    attempt: int


@dataclass
class FakeServer:
    """Its workers' endpoints, the calls it got, and what it answers by method name."""

    address: str = ""
    endpoints: list[str] = field(default_factory=list)
    #: What GetServer says, if not `endpoints`.
    told_endpoints: list[str] | None = None
    instance_id: str = "fake"
    answers: dict[str, Answer] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    servers: list[grpc.Server] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def of(self, method: str) -> list[Call]:
        """The calls of one method."""
        return [call for call in self.calls if call.method == method]

    def start_worker(self, index: int, address: str = "127.0.0.1:0") -> int:
        """Serves as that worker; the port."""
        server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
        for service in _SERVICES:
            handlers = {method.name: self._handler(index, method) for method in service.methods}
            generic = grpc.method_handlers_generic_handler(service.full_name, handlers)
            server.add_generic_rpc_handlers((generic,))
        port = server.add_insecure_port(address)
        if index == 0 and not self.address:
            self.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        self.servers.append(server)
        return port

    def _handler(self, worker: int, method: Any) -> grpc.RpcMethodHandler[Any, Any]:
        reply = GetMessageClass(method.output_type)

        def serve(request: Any, context: grpc.ServicerContext) -> Any:
            if method.client_streaming:
                request = list(request)
            attempt = dict(context.invocation_metadata()).get("grpc-previous-rpc-attempts", "0")
            with self.lock:
                self.calls.append(Call(worker, method.name, request, int(attempt)))
            if method.name in self.answers:
                return self.answers[method.name](request, context)
            if method.name == "GetServer":
                return self._server_info(worker)
            return iter(()) if method.server_streaming else reply()

        make = {
            (False, False): grpc.unary_unary_rpc_method_handler,
            (False, True): grpc.unary_stream_rpc_method_handler,
            (True, False): grpc.stream_unary_rpc_method_handler,
            (True, True): grpc.stream_stream_rpc_method_handler,
        }[method.client_streaming, method.server_streaming]
        return make(
            serve,
            request_deserializer=GetMessageClass(method.input_type).FromString,
            response_serializer=reply.SerializeToString,
        )

    def _server_info(self, worker: int) -> diagnostics_pb2.GetServerResponse:
        told = self.endpoints if self.told_endpoints is None else self.told_endpoints
        workers = [diagnostics_pb2.Worker(index=i, endpoint=told[i]) for i in range(len(told))]
        return diagnostics_pb2.GetServerResponse(
            version="fake", instance_id=self.instance_id, workers=workers, worker=worker
        )


@contextmanager
def fake_server(workers: int = 2) -> Iterator[FakeServer]:
    """A fake server for the time of the block."""
    fake = FakeServer()
    try:
        fake.endpoints = [f"127.0.0.1:{fake.start_worker(i)}" for i in range(workers)]
        yield fake
    finally:
        for server in fake.servers:
            server.stop(None).wait()


def refuse(
    context: grpc.ServicerContext,
    code: grpc.StatusCode,
    reason: str = "",
    *,
    domain: str = "forkstorm",
    field: str = "",
    text: str = "no",
    **metadata: str,
) -> None:
    """Ends a call as the real server does: with google.rpc details, if a reason is given."""
    number: int = code.value[0]
    status = status_pb2.Status(code=number, message=text)
    assert number in code_pb2.Code.values()
    if reason:
        info = error_details_pb2.ErrorInfo(reason=reason, domain=domain, metadata=metadata)
        _add(status, info)
    if field:
        violation = error_details_pb2.BadRequest.FieldViolation(field=field, description=text)
        _add(status, error_details_pb2.BadRequest(field_violations=[violation]))
    context.abort_with_status(rpc_status.to_status(status))


def _add(status: status_pb2.Status, detail: Any) -> None:
    packed = any_pb2.Any()
    packed.Pack(detail)
    status.details.append(packed)
