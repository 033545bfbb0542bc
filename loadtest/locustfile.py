"""Locust's entry: `locust -f loadtest/locustfile.py --host HOST:PORT`. See docs/storm.md."""

from forkstorm_load.locustfile import ForkStormUser

__all__ = ["ForkStormUser"]
