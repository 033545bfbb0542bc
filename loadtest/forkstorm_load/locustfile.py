"""What Locust loads: the user, the options, and the storm that follows Locust's events.

grpc must be told about gevent before it is used, and only in the process that will use it: with
`--processes` Locust forks after it has read this file, so that happens in Locust's init event.
"""

from __future__ import annotations

import signal
from typing import Any

import gevent
import grpc.experimental.gevent as grpc_gevent
import locust

from forkstorm_load import locust_stats, options
from forkstorm_load.run import Storm
from forkstorm_load.users import ForkStormUser

__all__ = ["ForkStormUser"]

locust_stats.install()


def _interrupt() -> None:
    """Raises KeyboardInterrupt in Locust's main greenlet.

    Python would raise it in whatever runs just then, also within grpc and under grpc's locks, which
    nobody would ever release.
    """
    gevent.get_hub().handle_system_error(KeyboardInterrupt, KeyboardInterrupt())


def _on_init(environment: Any, **_: Any) -> None:
    grpc_gevent.init_gevent()
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        gevent.signal_handler(signal.SIGINT, _interrupt)
    ForkStormUser.storm = Storm(environment)


# Locust's event hooks are not annotated.
_events: Any = locust.events
_events.init_command_line_parser.add_listener(options.add_arguments)
_events.init.add_listener(_on_init)
