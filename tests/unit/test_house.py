"""The house stands: imports point downwards, the supervisor stays small, exports are as listed."""

import ast
import mmap
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import forkstorm
import pytest
from forkstorm import constants

ROOT = Path(__file__).parents[2]
SOURCES = [ROOT / "client", ROOT / "server", ROOT / "loadtest"]
OURS = ("forkstorm", "forkstormd", "forkstorm_load")

# What a part of the house may import besides itself; the longest name that fits counts.
BELOW = {
    "forkstorm_load": ("forkstorm",),
    "forkstormd": ("forkstormd.core", "forkstorm.v1"),
    "forkstormd.core": (),
    "forkstorm": ("forkstorm.v1",),
    "forkstorm.v1": (),
}
# Within the server, from the top: each imports none of those before it.
FLOORS = ["forkstormd.cli", "forkstormd.supervisor", "forkstormd.worker", "forkstormd.service"]

# MemoryManager.verify() and .audit() stand for a checker that itself looks through a manager.
CALLS_UP = {("forkstormd.core.mm", "forkstormd.core.verify")}

_CIMPORT = re.compile(r"^\s*from\s+(forkstormd[\w.]*)\s+cimport", re.MULTILINE)


def within(name: str, part: str) -> bool:
    """Whether a module is that package or module, or in it."""
    return name == part or name.startswith(part + ".")


def modules() -> dict[str, list[Path]]:
    """The files of every module of ours: Python, and Cython's declarations beside it."""
    found: dict[str, list[Path]] = {}
    for source in SOURCES:
        for package in (source / name for name in OURS):
            for path in sorted([*package.rglob("*.py"), *package.rglob("*.pxd")]):
                parts = path.relative_to(source).with_suffix("").parts
                name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
                found.setdefault(name, []).append(path)
    return found


MODULES = modules()


def imports(name: str) -> Iterator[str]:
    """The modules of ours that a module imports, at any depth of its code."""
    for path in MODULES[name]:
        text = path.read_text()
        if path.suffix == ".pxd":
            yield from _CIMPORT.findall(text)
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names if alias.name.split(".")[0] in OURS)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}: a relative import"
                module = node.module or ""
                if module.split(".")[0] in OURS:
                    # `from package import module` imports the module.
                    names = (f"{module}.{alias.name}" for alias in node.names)
                    yield from (name if name in MODULES else module for name in names)


IMPORTS = {name: {one for one in imports(name) if one != name} for name in MODULES}


def part_of(name: str) -> str:
    return max((part for part in BELOW if within(name, part)), key=len)


def test_all_parts_of_the_house_are_looked_at() -> None:
    assert {part_of(name) for name in MODULES} == set(BELOW)
    assert all(IMPORTS[floor] for floor in FLOORS[:3])
    assert "forkstormd.core.layout" in IMPORTS["forkstormd.core.maple"]


@pytest.mark.parametrize("name", sorted(MODULES))
def test_imports_point_downwards(name: str) -> None:
    part = part_of(name)
    for imported in IMPORTS[name]:
        to = part_of(imported)
        allowed = to == part or any(within(imported, below) for below in BELOW[part])
        assert allowed, f"{name} imports {imported}"
    for i, floor in enumerate(FLOORS):
        if within(name, floor):
            above = [one for one in IMPORTS[name] for up in FLOORS[:i] if within(one, up)]
            assert not above, f"{name} imports {above}"


def test_no_module_imports_itself_by_a_detour() -> None:
    # A package's own file may gather what lies in it.
    graph = {
        name: {to for to in IMPORTS[name] if not within(name, to) and (name, to) not in CALLS_UP}
        for name in MODULES
    }
    assert list(TopologicalSorter(graph).static_order())


@pytest.mark.parametrize("module", ["forkstormd.supervisor", "forkstormd.cli"])
def test_the_supervisor_does_not_import_grpc(module: str) -> None:
    code = f"import sys, {module}; sys.exit('grpc' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_client_exports_what_it_lists() -> None:
    names = {name for name in vars(forkstorm) if not name.startswith("_")}
    submodules = {name for name in names if f"forkstorm.{name}" in sys.modules}
    assert names - submodules == set(forkstorm.__all__)
    assert {"connect", "Client", "AddressSpace", "ForkStrategy", "ForkstormError"} <= names
    # The records of the API are documented in protos/.
    for name in forkstorm.__all__:
        thing = getattr(forkstorm, name)
        assert thing.__doc__ or thing.__module__.endswith("_pb2")


def test_numbers_of_mmap_are_those_of_this_machine() -> None:
    # MAP_ANON is the old name of MAP_ANONYMOUS.
    names = [n for n in dir(mmap) if n.startswith(("PROT_", "MAP_")) and n != "MAP_ANON"]
    assert len(names) >= 10
    for name in names:
        assert getattr(constants, name) == getattr(mmap, name)


def test_flag_names_and_their_constants_agree() -> None:
    for kind, prefix in (
        (constants.Prot, "PROT_"),
        (constants.MapFlag, "MAP_"),
        (constants.VmFlag, "VM_"),
    ):
        for name, flag in kind.__members__.items():
            assert getattr(constants, prefix + name) is flag
        listed = {name for name in vars(constants) if name.startswith(prefix)}
        assert listed == {prefix + name for name in kind.__members__}
