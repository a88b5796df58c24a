"""Where images come from: the bundled digits, files and folders of many kinds, and sets to download."""

from __future__ import annotations

import contextlib
import importlib.util
from pathlib import Path

import numpy as np

from ..core import Array, noise
from ..optional import require
from .downloads import DATASETS, download
from .image_files import folder, idx_images, numpy_file
from .images import DataError, Images, checked

HELD_OUT = 1 / 6
"""The part of the images that is held out, if the source has no held-out images of its own."""

BINARISATIONS = ("threshold", "fixed", "fresh", "none")


def load(source: str | Path = "digits", *, seed: int = 0, binarise: str = "threshold") -> tuple[Images, Images]:
    """Return the images to train on and those held out.

    The full scale of a grey level is 16 for the bundled digits, 255 for integers, and 1 for floats, for booleans and
    for integers that are all 0 or 1.

    Args:
        source: one of

            - ``"digits"``: the 1797 digits of 8 x 8 pixels that come with scikit-learn;
            - a name in ``DATASETS``, such as ``"mnist"``: downloaded when first used;
            - an ``.npy`` file of images, of shape (n, rows, columns), (n, pixels) if they are square, or (n, rows,
              columns, 3) in colour;
            - an ``.npz`` file of such arrays; ``image_files.NAMES_IN_NPZ`` holds their names;
            - one of MNIST's IDX files of images, gzipped or not, with its labels beside it or not;
            - the folder of MNIST's four IDX files;
            - a folder of PNG or JPEG files of one size, or of such folders, one for each label.

            An array of bytes of shape (n, w), where 8 w is a square number and w therefore is not, holds packed bits
            (``numpy.packbits(images, axis=1)``).
        seed: decides which images are held out, one in six, where the source does not say, and draws the bits.
        binarise: how grey levels become pixels:

            - ``"threshold"``: 1 from half of the full scale on, 0 below;
            - ``"fixed"``: bits drawn once, with the grey level as the probability of 1;
            - ``"fresh"``: the same for held-out images; the images to train on keep their grey levels, so that each
              step can draw new bits (``images.binarise``; Burda, Grosse and Salakhutdinov 2016);
            - ``"none"``: grey levels from 0 to 1.

    Raises:
        DataError: there is no such file, it does not hold images, or ``binarise`` has another value.

    >>> train, held_out = load("digits")
    >>> train.pixels.shape, held_out.pixels.shape, train.shape
    ((1497, 64), (300, 64), (8, 8))
    """
    if binarise not in BINARISATIONS:
        raise DataError(f"binarise: expected {' or '.join(BINARISATIONS)}, found {binarise!r}")
    try:
        images, held_out = read(source, grey=binarise != "threshold")
    except (OSError, MemoryError) as error:
        raise DataError(f"{source}: cannot be read: {error}") from error
    rng = noise(seed)
    if held_out is None:
        order, kept = rng.at("split").permutation(len(images)), len(images) - round(len(images) * HELD_OUT)
        if not 0 < kept < len(images):
            found = f"{len(images)} image" + ("s are" if len(images) > 1 else " is")
            raise DataError(f"{source}: {found} too few to hold out one in six; give more images")
        images, held_out = images[order[:kept]], images[order[kept:]]
    elif held_out.shape != images.shape:
        sizes = [" x ".join(map(str, part.shape)) for part in (images, held_out)]
        raise DataError(f"{source}: the training images are {sizes[0]} pixels, the held-out ones {sizes[1]}")
    elif {images.full_scale, held_out.full_scale} == {1, 255} and images.levels.dtype == held_out.levels.dtype:
        ends = [f"from 0 to {part.full_scale}" for part in (images, held_out)]
        raise DataError(
            f"{source}: integers {ends[0]} to train on, {ends[1]} held out: grey levels or bits? "
            "Save both as floats from 0 to 1"
        )
    if binarise in ("fixed", "fresh"):
        held_out = held_out.binarised(rng.at("bits", "held-out"))
    return (images.binarised(rng.at("bits")) if binarise == "fixed" else images), held_out


def _digits() -> tuple[Array, Array]:
    """Return the digits of scikit-learn and their labels, from its file: to import scikit-learn takes a second."""
    package = importlib.util.find_spec("sklearn")
    for root in (package and package.submodule_search_locations) or ():
        with contextlib.suppress(OSError):
            table = np.loadtxt(Path(root, "datasets", "data", "digits.csv.gz"), delimiter=",")
            return table[:, :-1], table[:, -1].astype(int)
    found = require("sklearn.datasets").load_digits()
    return found.data, found.target


def read(source: str | Path, grey: bool = False) -> tuple[Images, Images | None]:
    """Return all images of a source, and those that it says are held out."""
    if str(source) == "digits":
        pixels, labels = _digits()
        return Images(pixels.reshape(-1, 8, 8), labels, 16, grey), None
    path = download(str(source)) if str(source) in DATASETS else Path(source)
    if "\0" in str(path):
        raise DataError(f"{str(path)!r}: a null character is in no path")
    if not path.exists():
        raise DataError(
            f"{path}: a link that leads nowhere"
            if path.is_symlink()
            else f"{path}: no such file or folder; give a .npy, .npz or IDX file, a folder of MNIST's IDX files or of "
            f'pictures, "digits" for the bundled ones, or the name of a set to download: {", ".join(DATASETS)}'
        )
    if not (path.is_dir() or path.is_file()):  # reading a pipe may take for ever
        raise DataError(f"{path}: neither a file nor a folder")
    if path.is_dir():
        parts = folder(path)
    else:
        parts = numpy_file(path) if path.suffix in (".npy", ".npz") else [idx_images(path)]
    images, *held_out = (checked(*part, grey) for part in parts)
    return images, held_out[0] if held_out else None
