"""GetServer, Verify, Audit, health checking and reflection."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest
from forkstorm.v1 import diagnostics_pb2 as pb
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from tests.rpc.calls import NO_SPACE, TREE_DUP, Api, refused, request_id
from tests.rpc.texts import many_vmas
from tests.serving import Server, running_server

CODE = grpc.StatusCode


def test_all_workers_tell_the_same(workers: list[Api], server: Server) -> None:
    answers = [api.diagnostics.GetServer(pb.GetServerRequest()) for api in workers]
    assert [answer.worker for answer in answers] == [0, 1]
    assert len({answer.instance_id for answer in answers}) == 1
    for answer in answers:
        assert [worker.endpoint for worker in answer.workers] == server.endpoints
        assert [worker.restart_count for worker in answer.workers] == [0, 0]
        assert [worker.pinned_cpu for worker in answer.workers] == [-1, -1]
        for worker in answer.workers:
            command = Path(f"/proc/{worker.pid}/cmdline").read_bytes()
            assert b"forkstormd.worker" in command
            assert worker.cpu_seconds > 0
            assert 10 << 20 < worker.rss_bytes <= 70 << 20


def test_what_the_server_knows_of_itself(api: Api) -> None:
    answer = api.diagnostics.GetServer(pb.GetServerRequest())
    assert answer.default_strategy == TREE_DUP
    assert list(answer.strategies) == [1, 2, 3, 4]
    assert answer.core_build in ("release", "checked", "uncompiled")
    assert 0 < answer.clock_overhead_ns < 10_000
    assert answer.limits.threads_per_worker == 4
    assert answer.limits.max_label_bytes == 256
    assert answer.limits.dedupe_window_requests >= 1024
    assert answer.limits.arena_capacity_bytes >= 4 << 20
    assert (answer.host.kernel, answer.host.python) == (
        platform.release(),
        platform.python_version(),
    )
    assert answer.host.cpu_count == os.cpu_count()
    assert answer.host.cpu_model


def test_verify_one_and_all(api: Api) -> None:
    mm_id = api.create(many_vmas(500))
    api.fork(mm_id, ttl_ns=60 * 10**9)
    one = api.diagnostics.Verify(pb.VerifyRequest(mm_id=mm_id))
    assert (one.verified_space_count, list(one.violations)) == (1, [])
    every = api.diagnostics.Verify(pb.VerifyRequest())
    assert every.verified_space_count >= 2
    assert not every.violations
    with refused(CODE.NOT_FOUND, "NO_SUCH_SPACE"):
        api.diagnostics.Verify(pb.VerifyRequest(mm_id=NO_SPACE))
    api.exit(mm_id)


def test_the_audit_comes_out_even() -> None:
    with running_server() as own:
        first, second = (Api(endpoint) for endpoint in own.endpoints)
        spaces = [first.create(many_vmas(300), labels={"run": "audit"})]
        for i in range(40):
            strategy = 1 + i % 4
            spaces.append((first, second)[i % 2].fork(spaces[-1], strategy=strategy).child)
            first.map(spaces[-1], 0x1000 * (i + 1))
        for mm_id in spaces[::2]:
            second.exit(mm_id)
        audit = first.diagnostics.Audit(pb.AuditRequest())
        assert audit.quiescent
        assert audit.space_count == len(spaces) - len(spaces[::2])
        assert audit.allocated_node_count == audit.reachable_node_count > 0
        assert audit.allocated_record_count == audit.reachable_record_count > 0
        assert audit.extent_block_count == audit.reachable_extent_block_count > 0
        for mm_id in spaces[1::2]:
            first.exit(mm_id)
        audit = second.diagnostics.Audit(pb.AuditRequest())
        assert (audit.space_count, audit.vma_count, audit.charged_pages) == (0, 0, 0)
        assert (audit.allocated_node_count, audit.allocated_record_count) == (0, 0)
        assert audit.extent_block_count == audit.reachable_extent_block_count == 0
        for api in (first, second):
            api.channel.close()


@pytest.mark.parametrize("service", ["", "forkstorm.v1.AddressSpaces", "forkstorm.v1.Diagnostics"])
def test_health(api: Api, service: str) -> None:
    stub: Any = health_pb2_grpc.HealthStub(api.channel)
    answer = stub.Check(health_pb2.HealthCheckRequest(service=service))
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_health_of_an_unknown_service(api: Api) -> None:
    stub: Any = health_pb2_grpc.HealthStub(api.channel)
    with pytest.raises(grpc.RpcError) as caught:
        stub.Check(health_pb2.HealthCheckRequest(service="other"))
    assert caught.value.code() is CODE.NOT_FOUND


def test_health_says_not_serving_before_the_end() -> None:
    with running_server(workers=1) as own:
        api = Api(own.endpoints[0])
        stub: Any = health_pb2_grpc.HealthStub(api.channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest(service="forkstorm.v1.AddressSpaces"))
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        os.kill(own.pid, 15)
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        watch.cancel()
        api.channel.close()
        assert own.process.wait(20) == 0


def test_reflection_lists_services_and_their_files(api: Api) -> None:
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(api.channel)
    requests = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="forkstorm.v1.AddressSpaces"),
    ]
    services, files = stub.ServerReflectionInfo(iter(requests))
    names = {service.name for service in services.list_services_response.service}
    assert {
        "forkstorm.v1.AddressSpaces",
        "forkstorm.v1.Diagnostics",
        "grpc.health.v1.Health",
    } <= names
    packages = {
        descriptor_pb2.FileDescriptorProto.FromString(file).package
        for file in files.file_descriptor_response.file_descriptor_proto
    }
    assert packages == {"forkstorm.v1"}


def test_the_supervisor_never_imports_grpc() -> None:
    code = (
        "import sys, forkstormd.cli, forkstormd.supervisor;"
        "sys.exit(any(m == 'grpc' or m.startswith(('grpc.', 'google.')) for m in sys.modules))"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    assert subprocess.run([sys.executable, "-c", code], env=env).returncode == 0


def test_a_default_strategy_of_the_environment() -> None:
    with running_server(workers=1, env={"FORKSTORMD_DEFAULT_STRATEGY": "linux-6.7"}) as own:
        api = Api(own.address)
        mm_id = api.create(many_vmas(3), labels={"id": request_id()})
        assert api.fork(mm_id).strategy == 1
        api.channel.close()
