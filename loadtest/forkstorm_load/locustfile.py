"""What Locust loads: the user, the options, and the storm that follows Locust's events.

grpc must be told about gevent before it is used, and only in the process that will use it: with
`--processes` Locust forks after it has read this file, so that happens in Locust's init event.
"""

from __future__ import annotations

from typing import Any

import grpc.experimental.gevent as grpc_gevent
import locust

from forkstorm_load import locust_stats, options
from forkstorm_load.run import Storm
from forkstorm_load.users import ForkStormUser

__all__ = ["ForkStormUser"]

locust_stats.install()


def _on_init(environment: Any, **_: Any) -> None:
    grpc_gevent.init_gevent()
    ForkStormUser.storm = Storm(environment)


# Locust's event hooks are not annotated.
_events: Any = locust.events
_events.init_command_line_parser.add_listener(options.add_arguments)
_events.init.add_listener(_on_init)
