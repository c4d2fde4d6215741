"""Stages killed at random moments: they end in time, and another run leaves what it should."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "kills.py"

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux")


def kill(kills: int, *stages: str, longest_s: int = 600) -> None:
    command = [sys.executable, str(SCRIPT), "--kills", str(kills), "--no-results"]
    command += ["--stages", *stages] if stages else []
    done = subprocess.run(command, capture_output=True, text=True, timeout=longest_s)
    assert done.returncode == 0, done.stdout + done.stderr


def test_tiles_and_cells() -> None:
    kill(6, "tile", "cells")


@pytest.mark.slow
def test_every_stage() -> None:
    kill(60, longest_s=7200)
