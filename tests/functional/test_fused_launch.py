"""How kernels of `fused` are started: what a driver is given, by a library that stands in for it.

The real `cuda.bindings` load it and the real NVRTC compiles, in a process of its own (`started_kernels`).
"""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests import emulator

SOURCE = Path(__file__).parents[1] / "fake_driver.cpp"
START = """
import sys
packages = ("triton", "cuda", "cuda.bindings")
sys.modules.update(dict.fromkeys(packages))  # as if not installed: until a kernel is started none is asked for
from tests.functional import started_kernels
for name in packages:
    del sys.modules[name]
started_kernels.main()
"""


@pytest.fixture
def driver(tmp_path: Path) -> Path:
    """Folder of a libcuda.so.1."""
    if not (find_spec("cuda") and find_spec("cuda.bindings")):
        pytest.skip("cuda-bindings is not installed")
    if (compiler := emulator.compiler()) is None:
        pytest.skip("no C++ compiler here to build a driver's stand-in with")
    library = tmp_path / "libcuda.so.1"
    subprocess.run([compiler, "-shared", "-fPIC", f"-Wl,-soname,{library.name}", SOURCE, "-o", library], check=True)
    return tmp_path


def test_a_driver_is_given_what_the_kernel_takes(driver: Path) -> None:
    added = {"LD_LIBRARY_PATH": driver, "PYTHONPATH": SOURCE.parents[1]}
    paths = {name: os.pathsep.join(filter(None, (str(path), os.environ.get(name)))) for name, path in added.items()}
    ended = subprocess.run(
        [sys.executable, "-c", START], env=os.environ | paths, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.split() == ["arrange", "energy", "energy", "energy"]
