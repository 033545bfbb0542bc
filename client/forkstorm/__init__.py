"""The Forkstorm client: simulated Linux address spaces on a server, and what forking them costs.

`connect` gives a Client; client.py shows the few lines that matter. `forkstorm.aio` is the twin for
asyncio, `forkstorm.errors` draws what is raised, `forkstorm.constants` has Linux's names.
"""

from forkstorm.batch import ApplyResult, Batch
from forkstorm.client import AddressSpace, Client, connect
from forkstorm.connection import DEFAULT_ADDRESS, SharedPortWarning
from forkstorm.constants import (
    Advice,
    FaultSite,
    ForkStrategy,
    MapFlag,
    Prot,
    Recovery,
    RemapFlag,
    TouchAccess,
    VmFlag,
)
from forkstorm.errors import ForkFailure, ForkstormError
from forkstorm.maps import Vma, format_maps
from forkstorm.messages import (
    AuditReport,
    File,
    ForkBlock,
    ForkFault,
    ForkPhases,
    ForkResult,
    ServerInfo,
    SpaceInfo,
    SpaceParameters,
    Timing,
    VerifyReport,
    WorkCounts,
)

__all__ = [
    "DEFAULT_ADDRESS",
    "AddressSpace",
    "Advice",
    "ApplyResult",
    "AuditReport",
    "Batch",
    "Client",
    "FaultSite",
    "File",
    "ForkBlock",
    "ForkFailure",
    "ForkFault",
    "ForkPhases",
    "ForkResult",
    "ForkStrategy",
    "ForkstormError",
    "MapFlag",
    "Prot",
    "Recovery",
    "RemapFlag",
    "ServerInfo",
    "SharedPortWarning",
    "SpaceInfo",
    "SpaceParameters",
    "Timing",
    "TouchAccess",
    "VerifyReport",
    "VmFlag",
    "Vma",
    "WorkCounts",
    "connect",
    "format_maps",
]
