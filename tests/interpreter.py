"""Tests of Triton kernels on a processor, by Triton's interpreter: numbers as on a GPU, one operation after another.

Triton decides for it or against it when it is imported, so that such tests have a process of their own. Their files are
called `interpreted_*.py`, which pytest does not gather by itself.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parent


def run_interpreted(*files: Path, slow: bool) -> None:
    """Run files of tests in the interpreter, or but for the slow ones; an AssertionError shows what failed there."""
    command = [sys.executable, "-m", "pytest", "-n0", "-p", "no:cacheprovider", "--tb=short", *map(str, files)]
    command += ["--slow"] if slow else ["-m", "not slow"]
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    environment.pop("PYTEST_XDIST_WORKER", None)
    ended = subprocess.run(command, env=environment, cwd=TESTS, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout[-8000:] + ended.stderr[-2000:]
    for file in files:  # each had tests to run
        assert re.search(rf"^{file.relative_to(TESTS)} \.", ended.stdout, re.MULTILINE), ended.stdout
    assert "skipped" not in ended.stdout, ended.stdout
