"""Locust patches the whole process when it is imported; here it must not: other tests use grpc.

The load processes that tests start are patched as always, since the variable is gone by then.
"""

from __future__ import annotations

import os

os.environ["LOCUST_SKIP_MONKEY_PATCH"] = "1"
import locust

del os.environ["LOCUST_SKIP_MONKEY_PATCH"]

__all__ = ["locust"]
