"""Compiled loops are kept on disk: the next process does not compile them, and nothing wrong there does any harm."""

import os
import subprocess
import sys

import numpy as np
import pytest
from steps import assert_same_bits

import tinygrad_vae as tg
from tinygrad_vae.compiled import loop_cache, loops

pytest.importorskip("numba")
from numba.core.event import install_recorder

X = np.linspace(-1, 1, loops.LARGE, dtype=np.float32)


def _two_loops(x, y):
    return tg.relu(x * 3.0 + 0.5), tg.sqrt(tg.square(y) + 0.5)


def _count_compiled():
    """How many loops numba compiles for a plan, which gives the bits of its step."""
    loops._compiled.cache_clear()  # as in a new process
    with install_recorder("numba:compile") as recorder:
        run = tg.plan(_two_loops, compiled=True)
        for x in (X, X, -X):
            assert_same_bits(run(x, x.reshape(64, -1)), _two_loops(x, x.reshape(64, -1)))
    return sum(event.is_start for _, event in recorder.buffer)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    return tmp_path / "tinygrad_vae" / "loops"


def test_the_next_process_does_not_compile_again(folder):
    assert _count_compiled() == 2
    code = "import test_loop_cache; print(test_loop_cache._count_compiled())"
    path = {"PYTHONPATH": os.pathsep.join([os.path.dirname(__file__), *sys.path])}
    assert subprocess.check_output([sys.executable, "-c", code], env=os.environ | path, text=True) == "0\n"


@pytest.mark.parametrize("damage", ["no content", "half of it", "another bit"])
def test_a_damaged_file_is_compiled_and_written_again(damage, folder):
    assert _count_compiled() == 2
    for file in folder.iterdir():
        content = file.read_bytes()
        keep = {"no content": 0, "half of it": len(content) // 2, "another bit": len(content) - 1}[damage]
        file.write_bytes(content[:keep] + bytes([content[-1] ^ 1] * (damage == "another bit")))
    assert _count_compiled() == 2
    assert _count_compiled() == 0


@pytest.mark.parametrize("home", ["a file", "nowhere"])
def test_without_a_folder_to_write_to_loops_are_compiled_in_each_process(home, tmp_path, monkeypatch):
    (tmp_path / "a file").touch()
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "a file") if home == "a file" else "")
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setattr("pathlib.Path.home", lambda: {}["no home"])
    assert _count_compiled() == _count_compiled() == 2


def test_the_oldest_loops_are_removed(folder, monkeypatch):
    monkeypatch.setattr(loop_cache, "KEPT", 1)
    assert _count_compiled() == 2
    assert len(list(folder.iterdir())) == 1
