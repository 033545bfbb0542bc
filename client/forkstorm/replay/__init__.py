"""Replays what strace recorded of real programs, and compares with what the kernel did.

trace = strace.parse(open("trace"))
with forkstorm.connect() as client, ServiceMachine(client) as machine:
    report = replay(trace, machine, Texts(start={0: start_maps}, final={0: final_maps}))
print(*report.lines(), sep="\\n")

text ── strace ──▶ events ── order ──▶ moments ── replayer ──▶ memory ──▶ space
                                                   calls, files            maps, report
"""

from forkstorm.replay.replayer import FIRST_PROCESS, Texts, replay
from forkstorm.replay.report import Report
from forkstorm.replay.space import Machine, ServiceMachine, Space
from forkstorm.replay.strace import Trace, parse

__all__ = [
    "FIRST_PROCESS",
    "Machine",
    "Report",
    "ServiceMachine",
    "Space",
    "Texts",
    "Trace",
    "parse",
    "replay",
]
