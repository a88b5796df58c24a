"""Images to train on: the bundled digits, NumPy files, MNIST's IDX files, and well-known sets from the net.

It knows arrays and files, and nothing of models. Whatever it returns has been checked: grey levels within their
scale, at least one image, as many labels as images. Pixels are read where they are asked for, so that a large file
may stay on the disk.
"""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import numpy as np

from ..core import Array, NoiseStream, describe, noise
from ..optional import require

HELD_OUT = 1 / 6
"""The part of the images that is kept for evaluation, where the source brings no held-out images of its own."""

BINARISATIONS = ("threshold", "fixed", "fresh", "none")
"""How grey levels become pixels, see ``load``."""

LARGE = 1 << 28
"""From this many bytes on a file that holds plain numbers is mapped into memory, not read."""

AT_ONCE = 4096
"""How many images are looked at together where all of them are."""

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
    """Images, one in each row, whose pixels are read when they are asked for.

    Args:
        levels: grey levels from 0 to ``full_scale``, of shape (n, rows, columns) or (n, rows * columns). It may be
            mapped into memory.
        shape: (rows, columns) of one image.
        labels: a whole number for each image, of shape (n,), or ``None``.
        name: where they come from, for messages and titles.
        full_scale: the grey level that means 1.
        grey: whether pixels are grey levels, or bits.
        chosen: which rows of ``levels`` these images are, ``None`` for all.

    >>> images = Images(np.eye(4), (2, 2))
    >>> len(images), len(images[:3])
    (4, 3)
    >>> images[:2].pixels
    array([[1., 0., 0., 0.],
           [0., 1., 0., 0.]], dtype=float32)
    """

    levels: Array
    shape: tuple[int, int]
    labels: Array | None = None
    name: str = "images"
    full_scale: float = 1
    grey: bool = False
    chosen: Array | None = None

    def __len__(self) -> int:
        return len(self.levels if self.chosen is None else self.chosen)

    def __getitem__(self, part: Array | slice) -> Images:
        rows = np.arange(len(self.levels)) if self.chosen is None else self.chosen
        return replace(self, chosen=rows[part], labels=None if self.labels is None else self.labels[part])

    @property
    def size(self) -> int:
        """The number of pixels of one image."""
        return self.shape[0] * self.shape[1]

    @property
    def pixels(self) -> Array:
        """The pixels in float32, of shape (n, rows * columns): grey levels from 0 to 1, or 1 from half of 1 on."""
        levels = np.asarray(self.levels if self.chosen is None else self.levels[self.chosen]).reshape(len(self), -1)
        if self.grey:
            return levels.astype(np.float32) / np.float32(self.full_scale)
        return (levels >= self.full_scale / 2).astype(np.float32)

    def split(self, held_out: float, rng: NoiseStream) -> tuple[Images, Images]:
        """Return the images in two parts, chosen at random: ``round(n * held_out)`` of them are in the second.

        Raises:
            DataError: one of the parts would be empty.

        >>> a, b = Images(np.eye(4), (2, 2)).split(0.25, tg.noise(0))
        >>> len(a), len(b)
        (3, 1)
        """
        kept = len(self) - round(len(self) * held_out)
        if not 0 < kept < len(self):
            raise DataError(
                f"{self.name}: {_images(len(self))}, of which {held_out:.0%} are to be held out, "
                "leave nothing to train on or nothing to evaluate; give more images"
            )
        order = rng.permutation(len(self))
        return self[order[:kept]], self[order[kept:]]

    def binarised(self, rng: NoiseStream) -> Images:
        """Return images of bits, drawn once with the grey levels for probabilities.

        >>> Images(np.array([[0.0, 1.0, 1.0, 0.0]]), (2, 2), grey=True).binarised(tg.noise(0)).pixels
        array([[0., 1., 1., 0.]], dtype=float32)
        """
        bits = np.empty((len(self), self.size), bool)
        for rows, block in self.blocks():
            bits[rows] = binarise(block, rng)
        return Images(bits, self.shape, self.labels, self.name)

    def blocks(self) -> Iterator[tuple[slice, Array]]:
        """Give the pixels of all images, ``AT_ONCE`` at a time, each with the rows that it holds."""
        for start in range(0, len(self), AT_ONCE):
            rows = slice(start, min(start + AT_ONCE, len(self)))
            yield rows, self[rows].pixels

    def fingerprint(self, begin: int = 0) -> int:
        """Return a checksum of all pixels, which goes on from that of other images."""
        for _, block in self.blocks():
            begin = zlib.crc32(block.tobytes(), begin)
        return begin


def binarise(pixels: Array, rng: NoiseStream) -> Array:
    """Return bits in float32, each 1 with the probability that its grey level says.

    A level of 0 is always 0, a level of 1 always 1.

    >>> binarise(np.array([0.0, 1.0]), tg.noise(0))
    array([0., 1.], dtype=float32)
    """
    return (rng.uniform(pixels.shape, np.float32) < pixels).astype(np.float32)


def load(source: str | Path = "digits", *, seed: int = 0, binarise: str = "threshold") -> tuple[Images, Images]:
    """Return the images to train on and those held out.

    The full scale of a grey level is 16 for the bundled digits, 255 for whole numbers, and 1 for floats, for booleans
    and for whole numbers that are all 0 or 1.

    Args:
        source: one of

            - ``"digits"``: the 1797 digits of 8 x 8 pixels that come with scikit-learn;
            - a name in ``DATASETS``, such as ``"mnist"``: fetched when first asked for;
            - an ``.npy`` file of images, of shape (n, rows, columns), or (n, pixels) for square ones;
            - an ``.npz`` file of such arrays; ``NAMES_IN_NPZ`` holds their names;
            - one of MNIST's IDX files of images, gzipped or not, with its labels beside it or not;
            - the folder of MNIST's four IDX files.

            An array of bytes of shape (n, w), where 8 w is a square number and w therefore is not, holds packed bits
            (``numpy.packbits(images, axis=1)``).
        seed: decides which images are held out, one in six, where the source does not say, and draws the bits.
        binarise: how grey levels become pixels:

            - ``"threshold"``: 1 from half of the full scale on, 0 below;
            - ``"fixed"``: bits drawn once, 1 with the grey level for probability;
            - ``"fresh"``: the same, but the images to train on keep their grey levels, for whoever trains to draw
              from them each time anew (``data.binarise``), as Burda, Grosse and Salakhutdinov (2016) do;
            - ``"none"``: grey levels from 0 to 1.

    Raises:
        DataError: there is no such file, or it does not hold images, or ``binarise`` has another value.

    >>> train, held_out = load("digits")
    >>> train.pixels.shape, held_out.pixels.shape, train.shape
    ((1497, 64), (300, 64), (8, 8))
    """
    if binarise not in BINARISATIONS:
        raise DataError(f"binarise: expected {' or '.join(BINARISATIONS)}, found {binarise!r}")
    try:
        images, held_out = _read(source, grey=binarise != "threshold")
    except (OSError, MemoryError) as error:
        raise DataError(f"{source}: cannot be read: {error}") from error
    rng = noise(seed)
    if held_out is None:
        images, held_out = images.split(HELD_OUT, rng.at("split"))
    elif held_out.shape != images.shape:
        raise DataError(
            f"{source}: the training images are {images.shape[0]} x {images.shape[1]} pixels, "
            f"the held-out ones {held_out.shape[0]} x {held_out.shape[1]}"
        )
    if binarise in ("fixed", "fresh"):
        held_out = held_out.binarised(rng.at("bits", "held-out"))
    return (images.binarised(rng.at("bits")) if binarise == "fixed" else images), held_out


def _read(source: str | Path, grey: bool = False) -> tuple[Images, Images | None]:
    if str(source) == "digits":
        return _digits(grey), None
    if str(source) in DATASETS:
        return _idx_folder(download(str(source)), grey)
    path = Path(source)
    if "\0" in str(path):
        raise DataError(f"{str(path)!r}: a null character is in no path")
    if not path.exists():
        raise DataError(
            f"{path}: no such file or folder; give a .npy, .npz or IDX file, a folder of MNIST's IDX files, "
            f'"digits" for the bundled ones, or the name of a set to download: {", ".join(DATASETS)}'
        )
    if path.is_dir():
        return _idx_folder(path, grey)
    if not path.is_file():  # reading a pipe may take for ever
        raise DataError(f"{path}: neither a file nor a folder")
    if path.suffix in (".npy", ".npz"):
        return _numpy_file(path, grey)
    return _idx_images(path, grey), None


def _digits(grey: bool) -> Images:
    found = require("sklearn.datasets").load_digits()
    return Images(found.data, (8, 8), found.target, "digits", 16, grey)


# ------------------------------------------------------------------------------------- NumPy's files


def _numpy_file(path: Path, grey: bool) -> tuple[Images, Images | None]:
    try:
        if path.suffix == ".npy" and path.stat().st_size >= LARGE:
            mapped = np.load(path, mmap_mode="r", allow_pickle=False)
            return _images_from(mapped, None, str(path), str(path), grey), None
        with path.open("rb") as file:
            content = np.load(file, allow_pickle=False)
            if not isinstance(content, np.lib.npyio.NpzFile):
                return _images_from(content, None, str(path), str(path), grey), None
            arrays = {role: _named(content, names, path) for role, names in NAMES_IN_NPZ.items()}
            available = ", ".join(content.files) or "none"
    except DataError:
        raise
    except Exception as error:  # what NumPy's readers raise for a damaged file is of many kinds
        why = "it would take running code to read it" if "pickle" in str(error) else error  # NumPy says how to do so
        raise DataError(
            f"{path}: cannot be read as a NumPy file of plain numbers, it is damaged or something else: {why}"
        ) from error
    parts: dict[str, Images | None] = {}
    for part in ("images", "held-out images"):
        name, array = arrays[part] or ("", None)
        _, labels = arrays[part.replace("images", "labels")] or ("", None)
        parts[part] = None if array is None else _images_from(array, labels, f"{path}: {name}", str(path), grey)
    if parts["images"] is None:
        raise DataError(
            f"{path}: holds no array named {' or '.join(NAMES_IN_NPZ['images'])}; the arrays in it are: {available}"
        )
    return parts["images"], parts["held-out images"]


def _named(content: np.lib.npyio.NpzFile, names: tuple[str, ...], path: Path) -> tuple[str, Array] | None:
    name = next((name for name in names if name in content.files), None)
    if name is None:
        return None
    array = content[name]
    if not isinstance(array, np.ndarray):  # NumPy gives the bytes of a member that is no array
        raise DataError(f"{path}: {name} is no array; write the file with numpy.savez")
    return name, array


# --------------------------------------------------------------------------------- MNIST's IDX files


def _idx_folder(folder: Path, grey: bool) -> tuple[Images, Images | None]:
    found = [_beside(folder, f"{part}-images-idx3-ubyte", f"{part}-images.idx3-ubyte") for part in ("train", "t10k")]
    if found[0] is None:
        raise DataError(
            f"{folder}: a folder without train-images-idx3-ubyte or train-images-idx3-ubyte.gz; "
            "give the folder of MNIST's IDX files, or a single file"
        )
    return _idx_images(found[0], grey), None if found[1] is None else _idx_images(found[1], grey)


def _beside(folder: Path, *names: str) -> Path | None:
    """Return the first of the files that the folder holds, gzipped or not."""
    paths = (folder / f"{name}{suffix}" for name in names for suffix in ("", ".gz"))
    return next((path for path in paths if path.exists()), None)


def _idx_images(path: Path, grey: bool) -> Images:
    array = _idx(path)
    if array.ndim != 3:
        raise DataError(f"{path}: an IDX file with {array.ndim} axes; images have three: number, rows, columns")
    name = path.name.removesuffix(".gz").replace("images", "labels").replace("idx3", "idx1")
    labels_path = _beside(path.parent, name) if "labels" in name and "idx1" in name else None
    return _images_from(array, None if labels_path is None else _idx(labels_path), str(path), str(path), grey)


def _idx(path: Path) -> Array:
    """Read an IDX file: two zero bytes, the type, the number of axes, each length in four bytes, then the numbers."""
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            if packed:
                with gzip.open(file) as unpacked:
                    return _numbers(unpacked, path, at_most=GZIP_AT_MOST * size)
            if size < LARGE:
                return _numbers(file, path, at_most=size)
            start, shape = _idx_header(file, path)
            _check_length(path, start, shape, size)
            return np.memmap(path, np.uint8, "r", start, shape)
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read, it is damaged or something else: {error}") from error


GZIP_AT_MOST = 1100
"""How many times its size a gzipped file can hold; the format allows 1032."""


def _idx_header(file: IO[bytes] | gzip.GzipFile, path: Path) -> tuple[int, tuple[int, ...]]:
    """Return where the numbers begin, and their shape."""
    head = file.read(4)
    if len(head) < 4 or head[:3] != b"\0\0\x08" or not head[3]:
        raise DataError(
            f"{path}: starts with {head.hex(' ') or 'nothing'}; an IDX file of bytes starts with 00 00 08 "
            "and its number of axes (NumPy's files are known by their suffix, .npy or .npz)"
        )
    start = 4 + 4 * head[3]
    lengths = file.read(start - 4)
    if len(lengths) < start - 4:
        raise DataError(f"{path}: ends in the middle of the header, after {4 + len(lengths)} of {start} bytes")
    shape = struct.unpack(f">{head[3]}I", lengths)
    if 0 in shape:  # beside a 0, lengths may be such as no array can have
        raise DataError(f"{path}: holds no images, its shape is {shape}")
    return start, shape


def _numbers(file: IO[bytes] | gzip.GzipFile, path: Path, at_most: int) -> Array:
    """Read the whole file, which can hold so many bytes: memory for more is not even asked for."""
    start, shape = _idx_header(file, path)
    expected = math.prod(shape)
    if start + expected > at_most:
        _check_length(path, start, shape, at_most)
    content = file.read(expected)
    _check_length(path, start, shape, start + len(content) + len(file.read()))
    return np.frombuffer(content, np.uint8).reshape(shape)


def _check_length(path: Path, start: int, shape: tuple[int, ...], found: int) -> None:
    expected = start + math.prod(shape)
    if found != expected:
        raise DataError(
            f"{path}: the header promises shape {shape}, which is {expected} bytes in all, found {found}; "
            "the file is truncated or damaged"
        )


# --------------------------------------------------------------------------------- sets from the net


@dataclass(frozen=True)
class Dataset:
    """Where the four IDX files of a set of images are, gzipped, and the SHA-256 of each.

    Args:
        url: of the folder that holds them.
        checksums: by the names of the files.
    """

    url: str
    checksums: dict[str, str]


def _dataset(url: str, *checksums: str) -> Dataset:
    names = [f"{part}-{kind}-ubyte.gz" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]
    return Dataset(url, dict(zip(names, checksums, strict=True)))


DATASETS = {
    "mnist": _dataset(
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    ),
    "fashion-mnist": _dataset(
        "https://fashion-mnist.s3.eu-central-1.amazonaws.com/",
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    ),
    "kmnist": _dataset(
        "https://codh.rois.ac.jp/kmnist/dataset/kmnist/",
        "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
        "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
        "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
        "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
    ),
}
"""MNIST (LeCun, Cortes and Burges 1998), Fashion-MNIST (Xiao, Rasul and Vollgraf 2017), Kuzushiji-MNIST (Clanuwat
et al. 2018): 60 000 images of 28 x 28 pixels to train on, 10 000 held out."""

FOLDER_VARIABLE = "TINYGRAD_VAE_DATA"
"""The environment variable that says where downloaded files are kept; by default where the system keeps such."""


def download(name: str, folder: str | Path | None = None) -> Path:
    """Return the folder that holds the files of a set, after fetching those that are missing or damaged.

    Each file is checked against its SHA-256, and takes its name only after that.

    Args:
        name: one of ``DATASETS``.
        folder: where to keep the files, by default a folder in that of ``FOLDER_VARIABLE``.

    Raises:
        DataError: there is no such set, or a file cannot be fetched, or is not the one that it should be.
        MissingExtraError: pooch is not installed.

    >>> download("mnist", "data/mnist")  # doctest: +SKIP
    PosixPath('data/mnist')
    """
    if name not in DATASETS:
        raise DataError(f"{name!r}: no set of that name; expected {' or '.join(DATASETS)}")
    pooch, found = require("pooch"), DATASETS[name]
    pooch.get_logger().setLevel("WARNING")
    folder = Path(folder or Path(os.environ.get(FOLDER_VARIABLE) or pooch.os_cache("tinygrad_vae")) / name)
    registry = {file: f"sha256:{checksum}" for file, checksum in found.checksums.items()}
    store = pooch.create(path=folder, base_url=found.url, registry=registry)
    for file in registry:
        try:
            store.fetch(file)
        except (OSError, ValueError) as error:
            raise DataError(
                f"{name}: {found.url}{file} cannot be had: {error}. "
                f"Try again, or put the file into {folder} yourself; what is there already is kept"
            ) from error
    return folder


# ----------------------------------------------------------------------------------- what all share


def _images_from(array: Array, labels: Array | None, what: str, name: str, grey: bool) -> Images:
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
    extremes = [(block.min(), block.max()) for _, block in _blocks(array)]
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
        raise DataError(f"{what}: {_images(len(array))} need as many whole numbers as labels, found {describe(labels)}")
    return Images(array, shape, labels, name, full_scale, grey)


def _blocks(array: Array) -> Iterator[tuple[int, Array]]:
    for start in range(0, len(array), AT_ONCE):
        yield start, array[start : start + AT_ONCE]


def _outside(array: Array, full_scale: int, what: str) -> DataError:
    """Say which grey level is out of range first."""
    for start, block in _blocks(array):
        outside = np.argwhere(~((block >= 0) & (block <= full_scale)))
        if len(outside):
            within = tuple(int(i) for i in outside[0])
            place = (start + within[0], *within[1:])
            break
    return DataError(
        f"{what}: grey levels of {array.dtype} go from 0 to {full_scale}, found {array[place]} at index {place}"
    )


def _side(pixels: int) -> int:
    """Return the side of the square with that many pixels, 0 where there is none."""
    side = math.isqrt(pixels)
    return side if side * side == pixels else 0


def _images(count: int) -> str:
    return f"{count} image{'' if count == 1 else 's'}"
