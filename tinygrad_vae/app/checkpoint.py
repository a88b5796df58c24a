"""Checkpoints: one file holds one state, all of it or nothing.

The arrays stand in the safetensors format, the facts in its header. Reading one runs no code.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ..core import Array, trees
from ..devices import to_host
from ..optional import require

Tree = TypeVar("Tree")

FORMAT, VERSION = "tinygrad_vae checkpoint", 1
"""The key of the header in the metadata of the safetensors file, and the version of its content."""

INSTEAD = "put a copy in its place, or begin anew in another folder"


class CheckpointError(ValueError):
    """A file is not a checkpoint of this library, is damaged, or belongs to another model."""


def write_atomically(path: str | Path, content: bytes | Iterable[bytes]) -> None:
    """Write a file so that it holds either its old content or all of the new content, whatever happens.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "wb") as file:
            file.writelines([content] if isinstance(content, bytes) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:  # the error of a full disk names no file
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(folder: Path, names: Iterable[str]) -> None:
    """Remove the temporary files of processes that were killed while they wrote; no other may be writing there."""
    for name in names:
        for leftover in folder.glob(f".{name}.*"):
            leftover.unlink(missing_ok=True)


def save(path: str | Path, tree: Any, facts: dict[str, Any]) -> None:
    """Write a tree of arrays, each under its path such as ``model.mean.bias``, and facts for JSON to one file.

    Raises:
        OSError: the file cannot be written.
        TypeError, ValueError: JSON cannot hold the facts.
    """
    arrays = {name: np.asarray(to_host(leaf), order="C") for name, leaf in trees.paths(tree)}
    written = json.dumps(facts, allow_nan=False)
    header = json.dumps({"version": VERSION, "checksum": _checksum(arrays, written), "facts": written})
    write_atomically(path, require("safetensors.numpy").save(arrays, metadata={FORMAT: header}))


def load(path: str | Path) -> tuple[dict[str, Array], dict[str, Any]]:
    """Return the arrays of a checkpoint by their paths, and the facts.

    Raises:
        CheckpointError: there is no such file, it is damaged, or something else wrote it.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(f"{folder}/last.safetensors", {"w": np.ones(2)}, {"step": 7})
    ...     load(f"{folder}/last.safetensors")
    ({'w': array([1., 1.])}, {'step': 7})
    """
    safetensors = require("safetensors")
    if Path(path).exists() and not Path(path).is_file():  # reading a pipe may take for ever
        raise CheckpointError(f"{path}: cannot be read as a checkpoint, it is not a file; {INSTEAD}")
    try:
        with safetensors.safe_open(str(path), framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is no dict
        if FORMAT not in metadata:
            raise CheckpointError(f"{path}: a safetensors file, but not a checkpoint that this library wrote")
        header = json.loads(metadata[FORMAT])
        version, checksum, written = header["version"], header["checksum"], header["facts"]
        if version != VERSION:
            raise CheckpointError(
                f"{path}: a checkpoint of version {version}, this library reads version {VERSION}; "
                "use the release that wrote it"
            )
        if checksum != _checksum(arrays, written):
            raise CheckpointError(f"{path}: the content does not match its checksum, the file is damaged; {INSTEAD}")
        return arrays, json.loads(written)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such checkpoint") from None
    except CheckpointError:
        raise
    except (OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(
            f"{path}: cannot be read as a checkpoint, it is damaged or something else: {error}; {INSTEAD}"
        ) from None
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: the header cannot be read, the file is damaged: {error}; {INSTEAD}") from None


def _checksum(arrays: dict[str, Array], written: str) -> int:
    value = zlib.crc32(written.encode())
    for name in sorted(arrays):
        value = zlib.crc32(arrays[name].tobytes(), zlib.crc32(name.encode(), value))
    return value


def fill(template: Tree, arrays: dict[str, Array], path: str | Path) -> Tree:
    """Return a tree like the template with the arrays of a checkpoint in it.

    Raises:
        CheckpointError: an array is missing, is too many, or has another shape or dtype; the message names ``path``.
    """
    expected = {name: np.asarray(to_host(leaf)) for name, leaf in trees.paths(template)}
    for name in sorted(expected.keys() ^ arrays.keys()):
        state = "is missing" if name in expected else "has no place in this model"
        raise CheckpointError(f"{path}: the array {name} {state}; the checkpoint is of another model")
    for name, like in expected.items():
        found = arrays[name]
        if (found.shape, found.dtype) != (like.shape, like.dtype):
            raise CheckpointError(
                f"{path}: {name} is {found.dtype} of shape {found.shape}, "
                f"this model has {like.dtype} of shape {like.shape}; the checkpoint is of another model"
            )
    return trees.replace_leaves(template, [arrays[name] for name in expected])
