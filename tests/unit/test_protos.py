"""The committed protobuf code is what `make protos` makes of protos/."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[2]
GENERATED = ROOT / "client" / "forkstorm" / "v1"


def test_the_generated_code_is_up_to_date(tmp_path: Path) -> None:
    # With this very Python, whose environment exists: --assume-old keeps make from making one.
    command = ["make", "--assume-old=.venv/installed", "protos", f"PROTOS_OUT={tmp_path}"]
    command.append(f"BIN={Path(sys.executable).parent}")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    made = {path.name: path.read_text() for path in (tmp_path / "forkstorm" / "v1").iterdir()}
    committed = {path.name: path.read_text() for path in GENERATED.glob("*_pb2*.py*")}
    assert len(made) == 9
    assert made.keys() == committed.keys()
    for name, text in made.items():
        assert committed[name] == text, f"{name}: run `make protos`"


def test_the_floor_of_grpcio_is_its_generator() -> None:
    # Generated code refuses a runtime that is older than its generator.
    generator = version("grpcio-tools")
    text = (ROOT / "pyproject.toml").read_text()
    assert f'"grpcio-tools=={generator}"' in text
    assert f'"grpcio>={generator.removesuffix(".0")}"' in text
    for stub in GENERATED.glob("*_pb2_grpc.py"):
        assert f"GRPC_GENERATED_VERSION = '{generator}'" in stub.read_text()
