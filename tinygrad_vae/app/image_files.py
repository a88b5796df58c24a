"""Readers of image files: NumPy's, MNIST's IDX files, and folders of PNG or JPEG files."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..core import Array
from ..optional import require
from .images import DataError

LARGE = 1 << 28
"""From this many bytes on, a file that holds plain numbers is mapped into memory, not read."""

GZIP_AT_MOST = 1100
"""How many times its size a gzipped file can hold; the format allows 1032."""

NAMES_IN_NPZ = {
    "images": ("images", "x_train", "train", "x"),
    "labels": ("labels", "y_train", "train_labels", "y"),
    "held-out images": ("held_out", "x_test", "test"),
    "held-out labels": ("held_out_labels", "y_test", "test_labels"),
}
"""The names under which an array is looked for in a ``.npz`` file; the first one found counts."""

PICTURES = (".png", ".jpg", ".jpeg")


class Found(NamedTuple):
    """An array of images, its labels if there are any, and its name for messages."""

    array: Array
    labels: Array | None
    name: str


def numpy_file(path: Path) -> list[Found]:
    """Read the images of an ``.npy`` or ``.npz`` file, and those that it says are held out."""
    try:
        if path.suffix == ".npy" and path.stat().st_size >= LARGE:
            return [Found(np.load(path, mmap_mode="r", allow_pickle=False), None, str(path))]
        with path.open("rb") as file:
            content = np.load(file, allow_pickle=False)
            if not isinstance(content, np.lib.npyio.NpzFile):
                return [Found(content, None, str(path))]
            arrays = {role: _named(content, names, path) for role, names in NAMES_IN_NPZ.items()}
            available = ", ".join(content.files) or "none"
    except DataError:
        raise
    except Exception as error:  # what NumPy's readers raise for a damaged file is of many kinds
        why = "it would take running code to read it" if "pickle" in str(error) else error  # NumPy says how to do so
        raise DataError(
            f"{path}: cannot be read as a NumPy file of plain numbers, it is damaged or something else: {why}"
        ) from error
    if arrays["images"] is None:
        raise DataError(
            f"{path}: holds no array named {' or '.join(NAMES_IN_NPZ['images'])}; the arrays in it are: {available}"
        )
    found = []
    for part in ("", "held-out "):
        images, labels = arrays[f"{part}images"], arrays[f"{part}labels"]
        if images:
            found.append(Found(images[1], labels and labels[1], f"{path}: {images[0]}"))
    return found


def _named(content: np.lib.npyio.NpzFile, names: tuple[str, ...], path: Path) -> tuple[str, Array] | None:
    name = next((name for name in names if name in content.files), None)
    if name is None:
        return None
    zipped: Any = content.zip
    with zipped.open(f"{name}.npy" if f"{name}.npy" in zipped.namelist() else name) as file:
        if file.read(6) != b"\x93NUMPY":  # NumPy would unpack all of it
            raise DataError(f"{path}: {name} is no array; write the file with numpy.savez")
    return name, content[name]


def idx_images(path: Path) -> Found:
    """Read an IDX file of images, gzipped or not, and its labels if they stand beside it."""
    array = _idx(path)
    if array.ndim != 3:
        raise DataError(f"{path}: an IDX file with {array.ndim} axes; images have three: number, rows, columns")
    name = path.name.removesuffix(".gz").replace("images", "labels").replace("idx3", "idx1")
    labels = _beside(path.parent, name) if "labels" in name and "idx1" in name else None
    return Found(array, labels and _idx(labels), str(path))


def _beside(folder: Path, *names: str) -> Path | None:
    """Return the first of the files that the folder holds, gzipped or not."""
    paths = (folder / f"{name}{suffix}" for name in names for suffix in ("", ".gz"))
    return next((path for path in paths if path.exists()), None)


def _idx(path: Path) -> Array:
    """Read an IDX file: two zero bytes, the type, the number of axes, each length in four bytes, then the numbers."""
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
            mapped = not packed and size >= LARGE
            file.seek(0)
            with gzip.open(file) if packed else file as numbers:
                start, shape = _idx_header(numbers, path)
                expected, at_most = math.prod(shape), GZIP_AT_MOST * size if packed else size
                if start + expected > at_most or mapped:
                    content, found = b"", at_most
                else:
                    content = numbers.read(expected)
                    found = start + len(content) + len(numbers.read(1 << 16))
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read, it is damaged or something else: {error}") from error
    if found != start + expected:
        raise DataError(
            f"{path}: the header promises shape {shape}, which is {start + expected} bytes in all, found {found}; "
            "the file is truncated or damaged"
        )
    return np.memmap(path, np.uint8, "r", start, shape) if mapped else np.frombuffer(content, np.uint8).reshape(shape)


def _idx_header(file: Any, path: Path) -> tuple[int, tuple[int, ...]]:
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
    if 0 in shape:  # the other lengths may then be larger than any array's
        raise DataError(f"{path}: holds no images, its shape is {shape}")
    return start, shape


def folder(path: Path) -> list[Found]:
    """Read a folder: MNIST's four IDX files, or PNG and JPEG files, also in one folder for each label."""
    parts = [_beside(path, f"{part}-images-idx3-ubyte", f"{part}-images.idx3-ubyte") for part in ("train", "t10k")]
    if parts[0]:
        return [idx_images(part) for part in parts if part]
    names, labels = _pictures_in(path), None
    if not names:
        classes = [_pictures_in(inner) for inner in sorted(path.iterdir()) if inner.is_dir()]
        names = [name for inner in classes for name in inner]
        labels = np.repeat(np.arange(len(classes)), [len(inner) for inner in classes])
    if not names:
        raise DataError(
            f"{path}: a folder with neither train-images-idx3-ubyte or train-images-idx3-ubyte.gz nor PNG or JPEG "
            "files; give a folder of MNIST's IDX files, a folder of pictures, or a single file"
        )
    return [Found(_pixels_of(names), labels, str(path))]


def _pictures_in(path: Path) -> list[Path]:
    return sorted(name for name in path.iterdir() if name.suffix.lower() in PICTURES and name.is_file())


def _pixels_of(names: list[Path]) -> Array:
    """Return the grey levels of pictures, all of one size; in colour if one of them is."""
    pictures = [_picture(name) for name in names]
    for name, picture in zip(names, pictures, strict=True):
        if picture.shape[:2] != pictures[0].shape[:2]:
            sizes = [f"{p.shape[0]} x {p.shape[1]} pixels" for p in (picture, pictures[0])]
            raise DataError(f"{name}: has {sizes[0]}, {names[0].name} has {sizes[1]}; give pictures of one size")
    if any(picture.ndim == 3 for picture in pictures):
        pictures = [picture if picture.ndim == 3 else np.stack([picture] * 3, axis=-1) for picture in pictures]
    return np.stack(pictures)


def _picture(name: Path) -> Array:
    image = require("PIL.Image")
    try:
        with image.open(name) as opened:
            if opened.mode.startswith("I"):  # 16 bits a pixel
                return (np.asarray(opened) >> 8).astype(np.uint8)
            return np.asarray(opened.convert("L" if opened.mode in ("1", "L", "LA") else "RGB"))
    except Exception as error:  # what Pillow's readers raise for a damaged file is of many kinds
        raise DataError(f"{name}: cannot be read as a picture: {error}") from error
