"""Binary images to train on: the bundled digits, NumPy files, and MNIST's IDX files.

It knows arrays and files, and nothing of models. Whatever it returns has been checked: pixels of 0 and 1 in
float32, at least one image, as many labels as images.
"""

from __future__ import annotations

import gzip
import math
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .arrays import Array, NoiseStream, describe, noise
from .extras import require

HELD_OUT = 1 / 6
"""The part of the images that is kept for evaluation, where the source brings no held-out images of its own."""

NAMES_IN_NPZ = {
    "images": ("images", "x_train", "train"),
    "labels": ("labels", "y_train", "train_labels"),
    "held-out images": ("held_out", "x_test", "test"),
    "held-out labels": ("held_out_labels", "y_test", "test_labels"),
}
"""The names under which an array is looked for in a ``.npz`` file, the first one found counts."""


class DataError(ValueError):
    """The data cannot be used; the message names the file and the part of it that is wrong."""


@dataclass(frozen=True)
class Images:
    """Binary images, one in each row.

    Args:
        pixels: 0 and 1 in float32, of shape (n, rows * columns).
        shape: (rows, columns) of one image.
        labels: a whole number for each image, of shape (n,), or ``None``.
        name: where they come from, for messages and titles.

    >>> images = Images(np.eye(4, dtype=np.float32), (2, 2))
    >>> len(images), len(images[:3])
    (4, 3)
    """

    pixels: Array
    shape: tuple[int, int]
    labels: Array | None = None
    name: str = "images"

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, chosen: Array | slice) -> Images:
        labels = None if self.labels is None else self.labels[chosen]
        return Images(self.pixels[chosen], self.shape, labels, self.name)

    def split(self, held_out: float, rng: NoiseStream) -> tuple[Images, Images]:
        """Return the images in two parts, chosen at random: ``round(n * held_out)`` of them are in the second.

        Raises:
            DataError: one of the parts would be empty.

        >>> a, b = Images(np.eye(4, dtype=np.float32), (2, 2)).split(0.25, tg.noise(0))
        >>> len(a), len(b)
        (3, 1)
        """
        kept = len(self) - round(len(self) * held_out)
        if not 0 < kept < len(self):
            raise DataError(
                f"{self.name}: {_images(len(self))}, of which {held_out:.2g} are to be held out, "
                "leave nothing to train on or nothing to evaluate; give more images"
            )
        order = rng.permutation(len(self))
        return self[order[:kept]], self[order[kept:]]


def load(source: str | Path = "digits", *, seed: int = 0) -> tuple[Images, Images]:
    """Return the images to train on and those held out.

    A pixel is 1 where its grey level reaches half of the full scale, 0 elsewhere: a fixed threshold, so that an image
    is the same in every epoch. The full scale is 16 for the bundled digits, 255 for whole numbers, and 1 for floats,
    for booleans and for whole numbers that are all 0 or 1.

    Args:
        source: one of

            - ``"digits"``: the 1797 digits of 8 x 8 pixels that come with scikit-learn;
            - an ``.npy`` file of images, of shape (n, rows, columns), or (n, pixels) for square ones;
            - an ``.npz`` file of such arrays; ``NAMES_IN_NPZ`` holds their names;
            - one of MNIST's IDX files of images, gzipped or not, with its labels beside it or not;
            - the folder of MNIST's four IDX files.

            An array of bytes of shape (n, w), where 8 w is a square number and w therefore is not, holds packed bits
            (``numpy.packbits(images, axis=1)``).
        seed: decides which images are held out, one in six, where the source does not say.

    Raises:
        DataError: there is no such file, or it does not hold images.

    >>> train, held_out = load("digits")
    >>> train.pixels.shape, held_out.pixels.shape, train.shape
    ((1497, 64), (300, 64), (8, 8))
    """
    images, held_out = _read(source)
    if held_out is None:
        return images.split(HELD_OUT, noise(seed).at("split"))
    if held_out.shape != images.shape:
        raise DataError(
            f"{source}: the training images are {images.shape[0]} x {images.shape[1]} pixels, "
            f"the held-out ones {held_out.shape[0]} x {held_out.shape[1]}"
        )
    return images, held_out


def _read(source: str | Path) -> tuple[Images, Images | None]:
    if str(source) == "digits":
        return _digits(), None
    path = Path(source)
    if not path.exists():
        raise DataError(
            f"{path}: no such file or folder; give a .npy, .npz or IDX file, a folder of MNIST's IDX files, "
            'or "digits" for the bundled ones'
        )
    if path.is_dir():
        return _idx_folder(path)
    if path.suffix in (".npy", ".npz"):
        return _numpy_file(path)
    return _idx_images(path), None


def _digits() -> Images:
    found = require("sklearn.datasets").load_digits()
    return Images((found.data >= 8).astype(np.float32), (8, 8), found.target, "digits")


# ------------------------------------------------------------------------------------- NumPy's files


def _numpy_file(path: Path) -> tuple[Images, Images | None]:
    try:
        with path.open("rb") as file:
            content = np.load(file, allow_pickle=False)
            if not isinstance(content, np.lib.npyio.NpzFile):
                return _images_from(content, None, str(path), str(path)), None
            arrays = {role: _named(content, names) for role, names in NAMES_IN_NPZ.items()}
            available = ", ".join(content.files) or "none"
    except (ValueError, EOFError, OSError, zipfile.BadZipFile, zlib.error) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: cannot be read as a NumPy file of plain numbers: {error}") from error
    parts: dict[str, Images | None] = {}
    for part in ("images", "held-out images"):
        name, array = arrays[part] or ("", None)
        _, labels = arrays[part.replace("images", "labels")] or ("", None)
        parts[part] = None if array is None else _images_from(array, labels, f"{path}: {name}", str(path))
    if parts["images"] is None:
        raise DataError(
            f"{path}: holds no array named {' or '.join(NAMES_IN_NPZ['images'])}; the arrays in it are: {available}"
        )
    return parts["images"], parts["held-out images"]


def _named(content: np.lib.npyio.NpzFile, names: tuple[str, ...]) -> tuple[str, Array] | None:
    return next(((name, content[name]) for name in names if name in content.files), None)


# --------------------------------------------------------------------------------- MNIST's IDX files


def _idx_folder(folder: Path) -> tuple[Images, Images | None]:
    found = [_beside(folder, f"{part}-images-idx3-ubyte", f"{part}-images.idx3-ubyte") for part in ("train", "t10k")]
    if found[0] is None:
        raise DataError(
            f"{folder}: a folder without train-images-idx3-ubyte or train-images-idx3-ubyte.gz; "
            "give the folder of MNIST's IDX files, or a single file"
        )
    return _idx_images(found[0]), None if found[1] is None else _idx_images(found[1])


def _beside(folder: Path, *names: str) -> Path | None:
    """Return the first of the files that the folder holds, gzipped or not."""
    paths = (folder / f"{name}{suffix}" for name in names for suffix in ("", ".gz"))
    return next((path for path in paths if path.exists()), None)


def _idx_images(path: Path) -> Images:
    array = _idx(path)
    if array.ndim != 3:
        raise DataError(f"{path}: an IDX file with {array.ndim} axes; images have three: number, rows, columns")
    name = path.name.removesuffix(".gz").replace("images", "labels").replace("idx3", "idx1")
    labels_path = _beside(path.parent, name) if "labels" in name and "idx1" in name else None
    return _images_from(array, None if labels_path is None else _idx(labels_path), str(path), str(path))


def _idx(path: Path) -> Array:
    """Read an IDX file: two zero bytes, the type, the number of axes, each length in four bytes, then the numbers."""
    try:
        content = path.read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    if len(content) < 4 or content[:3] != b"\0\0\x08" or not content[3]:
        raise DataError(
            f"{path}: starts with {content[:4].hex(' ') or 'nothing'}; an IDX file of bytes starts with 00 00 08 "
            "and its number of axes (NumPy's files are known by their suffix, .npy or .npz)"
        )
    start = 4 + 4 * content[3]
    if len(content) < start:
        raise DataError(f"{path}: ends in the middle of the header, after {len(content)} of {start} bytes")
    shape = struct.unpack(f">{content[3]}I", content[4:start])
    expected = start + math.prod(shape)
    if len(content) != expected:
        raise DataError(
            f"{path}: the header promises shape {shape}, which is {expected} bytes in all, found {len(content)}; "
            "the file is truncated or damaged"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


# ----------------------------------------------------------------------------------- what all share


def _images_from(array: Array, labels: Array | None, what: str, name: str) -> Images:
    """Check an array of grey levels or bits and its labels, and return them as ``Images``; ``what`` names them."""
    if array.dtype.kind not in "buif" or array.ndim not in (2, 3):
        raise DataError(f"{what}: expected numbers of shape (n, rows, columns) or (n, pixels), found {describe(array)}")
    if not array.size:
        raise DataError(f"{what}: holds no images, its shape is {array.shape}")
    if array.dtype == np.uint8 and array.ndim == 2 and _side(8 * array.shape[1]):
        array = np.unpackbits(array, axis=1)
    side = _side(array.shape[1])
    if array.ndim == 2 and not side:
        raise DataError(
            f"{what}: {array.shape[1]} pixels a row do not make a square image; give shape (n, rows, columns)"
        )
    shape = (side, side) if array.ndim == 2 else (array.shape[1], array.shape[2])
    full_scale = 255 if array.dtype.kind in "ui" and array.max() > 1 else 1
    outside = ~((array >= 0) & (array <= full_scale))
    if outside.any():
        place = tuple(int(i) for i in np.argwhere(outside)[0])
        raise DataError(
            f"{what}: grey levels of {array.dtype} go from 0 to {full_scale}, found {array[place]} at index {place}"
        )
    pixels = (array >= full_scale / 2).reshape(len(array), -1).astype(np.float32)
    if not pixels.any():
        raise DataError(
            f"{what}: every pixel is below half of the full scale, {full_scale}, the brightest is {array.max()}; "
            "all images would be empty. Scale the grey levels to 0..255, or to floats from 0 to 1"
        )
    if labels is not None and (labels.dtype.kind not in "ui" or labels.shape != (len(array),)):
        raise DataError(f"{what}: {_images(len(array))} need as many whole numbers as labels, found {describe(labels)}")
    return Images(pixels, shape, labels, name)


def _side(pixels: int) -> int:
    """Return the side of the square with that many pixels, 0 where there is none."""
    side = math.isqrt(pixels)
    return side if side * side == pixels else 0


def _images(count: int) -> str:
    return f"{count} image{'' if count == 1 else 's'}"
