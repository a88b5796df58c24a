"""Noise that is spread more evenly than chance: scrambled Sobol sequences (Sobol 1967, Matousek 1998)."""

from __future__ import annotations

import importlib
import math
from typing import Any

import numpy as np

from ..core import NORMAL, Array, Noise, NoiseStream, namespace, special


def sobol_points(rng: NoiseStream, shape: tuple[int, ...], dtype: Any = np.float64, *, normal: bool = False) -> Array:
    """Return points of a scrambled Sobol sequence in the open unit cube, or their images under ``ndtri``.

    The first axis counts the points, all others together are the coordinates. Each number by itself is uniform on
    (0, 1), or N(0, 1), and different coordinates are independent; the points are not, since they keep out of each
    other's way. ``scipy.stats.qmc`` makes them; a power of 2 is the best number of points.

    Raises:
        ValueError: there is no axis to count the points.

    >>> sobol_points(tg.noise(0), (256, 3)).shape
    (256, 3)
    """
    if not shape:
        raise ValueError("a Sobol sequence needs an axis that counts its points, found shape ()")
    qmc = importlib.import_module("scipy.stats.qmc")  # only here: importing it takes most of a second
    coordinates = math.prod(shape[1:])
    points = np.zeros((shape[0], coordinates))
    if points.size:
        sequence = qmc.Sobol(coordinates, scramble=True, rng=rng.generator())
        points = sequence.random_base2(math.ceil(math.log2(shape[0])))[: shape[0]]
    steps = 2.0**23 if np.dtype(dtype) == np.float32 else 2.0**30
    u = ((np.floor(points * steps) + 0.5) / steps).reshape(shape)
    return (special(u).ndtri(u) if normal else u).astype(dtype)


class SobolNoise(Noise):
    """Noise whose draws along the first axis are points of a Sobol sequence, and so depend on each other."""

    __slots__ = ()
    dependent_draws = True

    def redrawn(self, rng: NoiseStream) -> Noise:
        return sobol(self, rng)


def sobol(noise: Noise, rng: NoiseStream) -> Noise:
    """Return noise of the same distribution and shape, with draws along the first axis that are spread more evenly.

    They are the points of a scrambled Sobol sequence, one coordinate for each number that a draw takes. A mean over n
    of them has an error that falls faster than n^(-1/2) for smooth costs. They are not independent, so their spread
    does not tell this error: repeat the estimate with other scrambles. Estimators that need independent draws refuse
    them.

    Raises:
        ValueError: no axis counts draws, so that there is only one.

    >>> z = tg.Normal(tg.Tensor(2.0, "mu"), 1.0).sample((1024,), rng=tg.noise(0))
    >>> cost = tg.mean(z**2)
    >>> even = tg.replay(cost, {z.noise: z.noise.sobol(tg.noise(1))})
    >>> bool(abs(even.value - 5) < abs(cost.value - 5))
    True
    """
    if noise.draw_axes < 1:
        raise ValueError(
            f"{noise.name or 'this noise'} of shape {noise.shape} has no axis that counts draws; "
            "draw with sample((n,), ...)"
        )
    key = rng.key
    points = rng.sobol(noise.shape, noise.dtype, normal=noise.dist is NORMAL)  # type: ignore[attr-defined]
    points = namespace(noise.value).asarray(points)
    return SobolNoise(points, noise.dist, noise.name, origin=key, draw_axes=noise.draw_axes)


NoiseStream.sobol = sobol_points  # type: ignore[attr-defined]
Noise.sobol = sobol
