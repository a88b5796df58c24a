"""Weights under PyTorch's names and in PyTorch's shapes, in both directions. PyTorch itself is not needed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np

from ..core import Array, describe, namespace, trees, value_of
from ..devices import to_host

Model = TypeVar("Model")


def to_state_dict(model: Any) -> dict[str, Array]:
    """Return the weights as ``torch.nn.Module.load_state_dict`` takes them, once each is a ``torch.from_numpy(...)``.

    An ``MLP`` becomes a ``torch.nn.Sequential`` of layers and activations in turn: ``encoder.layers.1.weight`` is
    ``encoder.2.weight``. The weight of a ``Linear`` layer, of shape (n_in, n_out) here, is (n_out, n_in) there. All
    other names and arrays stay. ``safetensors.torch.load_file`` reads them from the file that
    ``safetensors.numpy.save_file(to_state_dict(model), path)`` writes.

    Args:
        model: a ``VAE``, or another tree of layers.

    Returns:
        NumPy arrays with memory of their own, by name.

    >>> model = tg.VAE.init(64, hidden=(32, 16), latent=2, rng=tg.noise(0))
    >>> state = to_state_dict(model)
    >>> state["encoder.2.weight"].shape, state["posterior.mean.weight"].shape
    ((16, 32), (2, 16))
    """
    return {
        _name(path): np.array(_turned(path, to_host(value_of(leaf))), order="C") for path, leaf in trees.paths(model)
    }


def from_state_dict(model: Model, state: Mapping[str, Any]) -> Model:
    """Return a model like this one with the weights of a state dict, in the dtype of this one.

    Args:
        model: for the structure and the shapes, as ``VAE.init`` makes it.
        state: arrays or PyTorch tensors by name, as ``module.state_dict()``, ``dict(module.named_parameters())``,
            ``safetensors.numpy.load_file`` or ``to_state_dict`` gives them, in any floating dtype.

    Raises:
        ValueError: a name is missing or unknown, or an array has another shape or does not hold floats.

    >>> model = tg.VAE.init(64, hidden=(16,), latent=2, rng=tg.noise(0))
    >>> other = tg.VAE.init(64, hidden=(16,), latent=2, rng=tg.noise(1))
    >>> again = from_state_dict(other, to_state_dict(model))
    >>> bool((again.encoder.layers[0].weight == model.encoder.layers[0].weight).all())
    True
    """
    places = {_name(path): (path, value_of(leaf)) for path, leaf in trees.paths(model)}
    missing, unknown = sorted(places.keys() - state.keys()), sorted(state.keys() - places.keys())
    if missing or unknown:
        raise ValueError(
            f"from_state_dict: the weights are of another model; missing: {', '.join(missing) or 'nothing'}; "
            f"not known here: {', '.join(unknown) or 'nothing'}"
        )
    new = []
    for name, (path, leaf) in places.items():
        found, expected = _as_numpy(state[name]), _turned(path, leaf).shape
        if found.shape != expected or found.dtype.kind != "f":
            raise ValueError(f"from_state_dict: {name} must be floats of shape {expected}, found {describe(found)}")
        new.append(namespace(leaf).asarray(np.array(_turned(path, found), leaf.dtype, order="C")))
    return trees.replace_leaves(model, new)


def _as_numpy(x: Any) -> Array:
    """Return a tensor of PyTorch, on any device and with or without a gradient, or an array, as a NumPy array."""
    if hasattr(x, "detach"):
        x = x.detach().cpu()
    if str(x.dtype).endswith("bfloat16"):  # NumPy has no such dtype: PyTorch's own, or one of ml_dtypes
        x = x.float() if hasattr(x, "float") else x.astype(np.float32)
    return np.asarray(x)


def _name(path: str) -> str:
    """Return PyTorch's name of a leaf: an activation follows each layer of a Sequential, and is counted too."""
    return re.sub(r"(^|\.)layers\.(\d+)\.", lambda match: f"{match[1]}{2 * int(match[2])}.", path)


def _turned(path: str, array: Array) -> Array:
    """Return the weight of a Linear layer the other way round; others as they are."""
    return array.T if path.rpartition(".")[2] == "weight" and array.ndim == 2 else array
