"""Images: one in each row, checked at once and turned into pixels some at a time; a large file stays on the disk."""

from __future__ import annotations

import functools
import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from ..core import Array, NoiseStream, describe

AT_ONCE = 4096
"""The most images that are read together."""


class DataError(ValueError):
    """The data cannot be used; the message names the file and the part of it that is wrong."""


@dataclass(frozen=True)
class Images:
    """Images, one in each row, whose pixels are computed when they are used.

    Args:
        levels: grey levels from 0 to ``full_scale``, of shape (n, rows, columns), or (n, rows, columns, 3) in colour;
            may be mapped into memory.
        labels: an integer for each image, of shape (n,), or ``None``.
        full_scale: the grey level that means 1.
        grey: whether pixels are grey levels, or bits.
        chosen: which rows of ``levels`` these images are, ``None`` for all.

    >>> images = Images(np.eye(4).reshape(4, 2, 2))
    >>> len(images), len(images[:3])
    (4, 3)
    >>> images[:2].pixels
    array([[1., 0., 0., 0.],
           [0., 1., 0., 0.]], dtype=float32)
    """

    levels: Array
    labels: Array | None = None
    full_scale: float = 1
    grey: bool = False
    chosen: Array | None = None

    def __len__(self) -> int:
        return len(self.levels if self.chosen is None else self.chosen)

    def __getitem__(self, part: Array | slice) -> Images:
        rows = np.arange(len(self.levels)) if self.chosen is None else self.chosen
        return replace(self, chosen=rows[part], labels=None if self.labels is None else self.labels[part])

    @property
    def shape(self) -> tuple[int, ...]:
        """(rows, columns) of one image, or (rows, columns, 3) in colour."""
        return self.levels.shape[1:]

    @property
    def size(self) -> int:
        """The number of pixels of one image; a pixel in colour counts three times."""
        return math.prod(self.shape)

    @property
    def pixels(self) -> Array:
        """The pixels in float32, of shape (n, size): grey levels from 0 to 1, or 1 from half of the full scale on."""
        levels = np.asarray(self.levels if self.chosen is None else self.levels[self.chosen]).reshape(len(self), -1)
        if self.grey:
            return levels.astype(np.float32) / np.float32(self.full_scale)
        return (levels >= self.full_scale / 2).astype(np.float32)

    def binarised(self, rng: NoiseStream) -> Images:
        """Return images of bits, drawn once with the grey levels as probabilities."""
        bits = [binarise(block, rng).astype(bool) for block in self.blocks()]
        return Images(np.concatenate(bits).reshape(-1, *self.shape), self.labels)

    def blocks(self) -> Iterator[Array]:
        """Give the pixels of all images, ``AT_ONCE`` at a time."""
        for start in range(0, len(self), AT_ONCE):
            yield self[start : start + AT_ONCE].pixels

    def fingerprint(self, begin: int = 0) -> int:
        """Return a checksum of all pixels; ``begin`` is the checksum of the images before them."""
        return functools.reduce(lambda found, block: zlib.crc32(block.tobytes(), found), self.blocks(), begin)


def binarise(pixels: Array, rng: NoiseStream) -> Array:
    """Return bits in float32, each 1 with its grey level as the probability."""
    return (rng.uniform(pixels.shape, np.float32) < pixels).astype(np.float32)


def checked(array: Array, labels: Array | None, what: str, grey: bool) -> Images:
    """Return an array and its labels as ``Images``, or raise a ``DataError`` in which ``what`` names them."""
    if array.dtype.kind not in "buif" or array.ndim not in (2, 3, 4):
        raise DataError(
            f"{what}: expected numbers of shape (n, rows, columns), (n, pixels) or (n, rows, columns, 3), "
            f"found {describe(array)}"
        )
    if not array.size:
        raise DataError(f"{what}: holds no images, its shape is {array.shape}")
    if array.ndim == 4 and array.shape[3] not in (1, 3):
        first = "; the colours come last: numpy.moveaxis(images, 1, -1)" if array.shape[1] == 3 else ""
        raise DataError(f"{what}: images in colour are of shape (n, rows, columns, 3), found {array.shape}{first}")
    if array.ndim == 4 and array.shape[3] == 1:
        array = array[..., 0]
    if array.ndim == 2:
        if array.dtype == np.uint8 and square_side(8 * array.shape[1]):
            array = np.unpackbits(array, axis=1)
        if not (side := square_side(array.shape[1])):
            raise DataError(
                f"{what}: {array.shape[1]} pixels a row do not make a square image; give shape (n, rows, columns)"
            )
    parts = [array[start : start + AT_ONCE] for start in range(0, len(array), AT_ONCE)]
    extremes = [(part.min(), part.max()) for part in parts]
    brightest = max(high for _, high in extremes)
    full_scale = 255 if array.dtype.kind in "ui" and brightest > 1 else 1
    if not all(low >= 0 and high <= full_scale for low, high in extremes):  # also where one is not a number
        raise _outside(array, full_scale, what)
    if not brightest or (not grey and brightest < full_scale / 2):
        raise DataError(
            f"{what}: every pixel is below half of the full scale, {full_scale}, the brightest is {brightest}; "
            "all images would be empty. Scale the grey levels to 0..255, or to floats from 0 to 1"
        )
    if labels is not None and (labels.dtype.kind not in "ui" or labels.shape != (len(array),)):
        raise DataError(f"{what}: {len(array)} images need as many integers as labels, found {describe(labels)}")
    return Images(array.reshape(-1, side, side) if array.ndim == 2 else array, labels, full_scale, grey)


def _outside(array: Array, full_scale: int, what: str) -> DataError:
    """Return the error that names the first grey level out of range."""
    for start in range(0, len(array), AT_ONCE):
        part = array[start : start + AT_ONCE]
        outside = np.argwhere(~((part >= 0) & (part <= full_scale)))
        if len(outside):
            index = (start + int(outside[0][0]), *map(int, outside[0][1:]))
            break
    hint = "; divide floats by 255, or keep integers" if full_scale == 1 and 1 < array[index] <= 255 else ""
    return DataError(
        f"{what}: grey levels of {array.dtype} go from 0 to {full_scale}, found {array[index]} at index {index}{hint}"
    )


def square_side(pixels: int) -> int:
    """Return the side of a square of this many pixels, or 0."""
    side = math.isqrt(pixels)
    return side if side * side == pixels else 0
