"""Compiles the core. Everything else about the package is in pyproject.toml.

FORKSTORM_BUILD selects the build: release (default), checked (array bounds trap, assumptions
abort), or uncompiled (only the Python files).
"""

import os

from Cython.Build import cythonize
from setuptools import Extension, setup

BUILD = os.environ.get("FORKSTORM_BUILD", "release")
MODULES = (
    "arena",
    "heap",
    "extents",
    "copying",
    "maple",
    "retire",
    "pages",
    "commit",
    "objects",
    "anon",
    "owning",
    "rebuild",
    "store",
    "vma",
    "undo",
    "clone",
    "parts",
    "jobs",
    "dup_vma",
    "dup_whole",
    "dup",
    "space",
    "placement",
    "mapping",
    "fault",
    "protect",
    "advise",
    "remap",
    "brk",
    "files",
    "lanes",
    "operations",
    "apply",
    "snapshot",
    "mm",
    "verify",
    "probe",
    "answers",
    "dedupe",
    "yardstick",
)
FLAGS = {
    "release": ["-O3", "-fno-semantic-interposition", "-fno-plt"],
    "checked": [
        "-O1",
        "-g",
        "-DFORKSTORM_CHECKED",
        "-fsanitize=bounds,shift",
        "-fsanitize-undefined-trap-on-error",
    ],
}

extensions = []
if BUILD != "uncompiled":
    extensions = cythonize(
        [
            Extension(
                f"forkstormd.core.{name}",
                [f"server/forkstormd/core/{name}.py"],
                extra_compile_args=[
                    *FLAGS[BUILD],
                    "-std=gnu11",
                    "-Wno-unused-function",
                    "-Wno-sign-compare",
                ],
            )
            for name in MODULES
        ],
        build_dir=f"build/cython-{BUILD}",
        include_path=["server"],
        language_level=3,
        compiler_directives={
            "boundscheck": BUILD == "checked",
            "wraparound": False,
            "initializedcheck": False,
            "cdivision": True,
            "auto_pickle": False,
        },
    )

setup(ext_modules=extensions)
