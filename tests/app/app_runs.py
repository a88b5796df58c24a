"""Small runs, and what several tests of the command do with them."""

import io
import struct

import numpy as np
import pytest

import tinygrad_vae as tg
from tinygrad_vae import app
from tinygrad_vae.app import figures, seeds, step
from tinygrad_vae.app.run import CHECKPOINT

GREY = (tg.noise(0).uniform((40, 4, 4)) * 255).astype(np.uint8)
SMALL = ["--hidden", "6", "--latent", "2", "--batch", "10", "--epochs"]


def small_pictures(patch):
    """Let the pictures of a run be small: at their full size they take 3 s, which is more than the run."""
    patch.setattr(figures, "WIDEST", 100)
    patch.setattr(figures, "DPI", 30)


SMALL_PICTURES = (
    "-c",
    "from tinygrad_vae.app import cli, figures; figures.WIDEST, figures.DPI = 100, 30; exit(cli.main())",
)
"""The command with small pictures, for a process of its own."""


def begin_process_with_small_pictures(*shared):
    """Begin a process of runs side by side."""
    small_pictures(pytest.MonkeyPatch())
    seeds._begin_process(*shared)


def finished(config, folder):
    """The checkpoint of a run that was trained to its end."""
    app.train(*app.begin(config, folder))
    return (folder / CHECKPOINT).read_bytes()


def in_the_sixth_step(patch, happens):
    """Let something happen when the sixth step begins: ``happens(step, args)``."""
    whole, calls = step._step, []

    def disturbed(*args):
        calls.append(None)
        if len(calls) == 6:
            happens(whole, args)
        return whole(*args)

    patch.setattr(step, "_step", disturbed)


def content(folder):
    """The files of a folder and their bytes, ``None`` where there is no folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else None


def idx(array):
    """The bytes of an IDX file."""
    return b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def npy(array):
    """The bytes of a NumPy file."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()
