"""Small runs, and what several tests of the command do with them."""

import io
import struct

import numpy as np

import tinygrad_vae as tg
from tinygrad_vae import app
from tinygrad_vae.app.run import CHECKPOINT

GREY = (tg.noise(0).uniform((40, 4, 4)) * 255).astype(np.uint8)
SMALL = ["--hidden", "6", "--latent", "2", "--batch", "10", "--epochs"]


def finished(config, folder):
    """The checkpoint of a run that was trained to its end."""
    app.train(*app.begin(config, folder))
    return (folder / CHECKPOINT).read_bytes()


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
