"""Starts programs under mpiexec, where mpi4py and MPICH are installed."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

MPIEXEC = shutil.which("mpiexec", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")

needs_mpi = pytest.mark.skipif(
    MPIEXEC is None or importlib.util.find_spec("mpi4py") is None, reason="mpi4py or mpiexec is not installed"
)


def start(ranks, *words, **options):
    """A running program of Python, started on a number of ranks."""
    command = [MPIEXEC, "-n", str(ranks), sys.executable, *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def run(ranks, *words, code=0, **options):
    """What a program of Python wrote to stdout and stderr on a number of ranks."""
    process = start(ranks, *words, **options)
    said, complained = process.communicate(timeout=600)
    assert process.returncode == code, said + complained
    return said, complained
