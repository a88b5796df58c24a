"""The training step that the benchmarks time, in this library, in others, and by hand.

The step: 784-400-(20, 20)-400-784, relu, float32, a batch of binary images, Bernoulli likelihood on logits, KL in
closed form, fresh noise, Adam on every parameter. ``CONTENDERS`` has it in every way that is measured here, each as a
function from a model to a step. The reference is the one in plain NumPy, in which the forward pass, the derivatives and
Adam are spelled out.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

import tinygrad_vae as tg
from tinygrad_vae.core import NoiseStream

NAMES = ["W1", "b1", "W_mu", "b_mu", "W_lv", "b_lv", "W2", "b2", "W3", "b3"]
RATE, BETA1, BETA2, EPSILON = 1e-3, 0.9, 0.999, 1e-8

Step = Callable[[np.ndarray, np.ndarray | None], float]
"""One step on a batch, with given noise or fresh noise; returns the loss."""

Contender = tuple[Step, Callable[[], list[np.ndarray]]]
"""A step, and a function that returns the parameters."""


class AbsentError(Exception):
    """A contender cannot take part on this machine."""


class Given(NoiseStream):
    """A stream that gives the noise that it was told to give."""

    told: np.ndarray | None = None

    def normal(self, shape: tuple[int, ...] = (), dtype: Any = np.float64) -> np.ndarray:
        """Return what it was told, or else draw."""
        return super().normal(shape, dtype) if self.told is None else self.told


def ours(model: tg.VAE) -> Contender:
    """The library's step, as a training loop writes it."""
    optimizer = tg.optim.Adam(RATE, BETA1, BETA2, EPSILON)
    state = optimizer.init(model)
    stream = Given(1)

    def step(x: np.ndarray, noise: np.ndarray | None) -> float:
        nonlocal model, state
        stream.told = noise
        recorded = tg.wrap(model)
        loss = -tg.mean(tg.reparameterize(tg.elbo(recorded, x, rng=stream)))
        model, state = optimizer.update(model, tg.gradients(loss, recorded), state)
        return float(loss.value)

    return step, lambda: tg.trees.leaves(model)


def without_compiler(model: tg.VAE) -> Contender:
    """The library's step where numba is not installed: Adam is never one loop."""
    from tinygrad_vae import adam_loop

    adam_loop.FIRST = 2**62
    return ours(model)


def plan_of(optimizer: tg.optim.Adam, compiled: bool | None = None) -> Any:
    """The library's step as a plan: a function of the model, the optimizer's state, the images and a stream."""

    def update(model: tg.VAE, state: Any, x: np.ndarray, rng: NoiseStream) -> tuple[Any, ...]:
        def loss(model: tg.VAE) -> Any:
            return -tg.mean(tg.reparameterize(tg.elbo(model, x, rng=rng)))

        value, gradient = tg.value_and_grad(loss)(model)
        return *optimizer.update(model, gradient, state), value

    return tg.plan(update, carry=2, compiled=compiled)


def planned(model: tg.VAE, compiled: bool | None = None) -> Contender:
    """The library's step, run by a plan: with loops compiled by numba where that is installed, or with NumPy alone."""
    if compiled and importlib.util.find_spec("numba") is None:
        raise AbsentError("numba is not installed")
    optimizer = tg.optim.Adam(RATE, BETA1, BETA2, EPSILON)
    state = optimizer.init(model)
    stream = Given(1)
    run = plan_of(optimizer, compiled)

    def step(x: np.ndarray, noise: np.ndarray | None) -> float:
        nonlocal model, state
        stream.told = noise
        model, state, loss = run(model, state, x, stream)
        return float(loss)

    return step, lambda: tg.trees.leaves(model)


def by_hand(model: tg.VAE) -> Contender:
    """The same step in plain NumPy."""
    p = {name: leaf.copy() for name, leaf in zip(NAMES, tg.trees.leaves(model), strict=True)}
    m = {name: np.zeros_like(array) for name, array in p.items()}
    v = {name: np.zeros_like(array) for name, array in p.items()}
    t = 0
    rng = np.random.default_rng(1)

    def step(x: np.ndarray, noise: np.ndarray | None) -> float:
        nonlocal t
        n = len(x)

        # the bound
        a1 = x @ p["W1"] + p["b1"]
        h1 = np.maximum(a1, 0)
        mu = h1 @ p["W_mu"] + p["b_mu"]
        log_var = h1 @ p["W_lv"] + p["b_lv"]
        sigma = np.exp(0.5 * log_var)
        e = rng.standard_normal(mu.shape, dtype=np.float32) if noise is None else noise
        z = mu + sigma * e
        a2 = z @ p["W2"] + p["b2"]
        h2 = np.maximum(a2, 0)
        logits = h2 @ p["W3"] + p["b3"]
        misfit = np.maximum(logits, 0) - logits * x + np.log1p(np.exp(-np.abs(logits)))
        kl = 0.5 * (mu**2 + sigma**2 - 1 - log_var)
        loss = (misfit.sum() + kl.sum()) / n

        # its derivatives
        g = {}
        d_logits = (1 / (1 + np.exp(-logits)) - x) / n
        g["W3"], g["b3"] = h2.T @ d_logits, d_logits.sum(axis=0)
        d_a2 = (d_logits @ p["W3"].T) * (a2 > 0)
        g["W2"], g["b2"] = z.T @ d_a2, d_a2.sum(axis=0)
        d_z = d_a2 @ p["W2"].T
        d_mu = d_z + mu / n
        d_log_var = d_z * e * sigma * 0.5 + 0.5 * (sigma**2 - 1) / n
        g["W_mu"], g["b_mu"] = h1.T @ d_mu, d_mu.sum(axis=0)
        g["W_lv"], g["b_lv"] = h1.T @ d_log_var, d_log_var.sum(axis=0)
        d_a1 = (d_mu @ p["W_mu"].T + d_log_var @ p["W_lv"].T) * (a1 > 0)
        g["W1"], g["b1"] = x.T @ d_a1, d_a1.sum(axis=0)

        # Adam
        t += 1
        for name in p:
            m[name] = BETA1 * m[name] + (1 - BETA1) * g[name]
            v[name] = BETA2 * v[name] + (1 - BETA2) * g[name] ** 2
            m_hat = m[name] / (1 - BETA1**t)
            v_hat = v[name] / (1 - BETA2**t)
            p[name] = p[name] - RATE * m_hat / (np.sqrt(v_hat) + EPSILON)
        return float(loss)

    return step, lambda: list(p.values())


BLOCK_ROWS, BLOCK = 16, 2**14
"""How many images, and how many parameters, the one tuned by hand takes at a time, to stay within a core's cache."""


def by_hand_tuned(model: tg.VAE, threads: int = 1) -> Contender:
    """The same step in NumPy as someone would write it who knows how NumPy spends its time, and has a day for it.

    Every array is made once. The two heads of the encoder are one product. The bound and its gradient share an
    exponential, and Adam a flat array; both go through it in blocks that fit the cache. What has become denormal is
    flushed to 0. With two threads the second one takes half of the blocks, and half of Adam's while products run.
    """
    leaves = dict(zip(NAMES, tg.trees.leaves(model), strict=True))
    heads = {f"{k}_h": np.concatenate([leaves[f"{k}_mu"], leaves[f"{k}_lv"]], axis=-1) for k in "Wb"}
    start = {name: (leaves | heads)[name] for name in ("W1", "b1", "W_h", "b_h", "W2", "b2", "W3", "b3")}
    parameters, gradient, mean, square = (np.zeros(sum(a.size for a in start.values()), np.float32) for _ in range(4))
    p: dict[str, np.ndarray] = {}
    g: dict[str, np.ndarray] = {}
    at: dict[str, slice] = {}
    end = 0
    for name, array in start.items():
        at[name] = slice(end, end := end + array.size)
        p[name], g[name] = (flat[at[name]].reshape(array.shape) for flat in (parameters, gradient))
        p[name][...] = array
    scratch = [np.empty(BLOCK, np.float32) for _ in range(threads)]
    workers = ThreadPoolExecutor(threads - 1) if threads > 1 else None
    rng = np.random.default_rng(1)
    buffers: dict[str, np.ndarray] = {}
    coarse = np.float32(2 * np.finfo(np.float32).tiny / np.finfo(np.float32).eps)
    t = 0

    def adam(first: int, last: int, worker: int = 0) -> None:
        """Update the parameters from number ``first`` on; the moments are kept without the factors 1 - beta."""
        rate = np.float32(RATE * (1 - BETA1) / (1 - BETA1**t))
        scale = np.float32(((1 - BETA2) / (1 - BETA2**t)) ** 0.5 / rate)
        shift = np.float32(EPSILON / rate)
        for k in range(first, last, BLOCK):
            part = slice(k, min(k + BLOCK, last))
            x, dx, m, v = parameters[part], gradient[part], mean[part], square[part]
            step = scratch[worker][: len(x)]
            m *= np.float32(BETA1)
            m += dx
            m += coarse
            m -= coarse
            v *= np.float32(BETA2)
            np.square(dx, out=dx)
            v += dx
            v += coarse
            v -= coarse
            np.sqrt(v, out=step)
            step *= scale
            step += shift
            np.divide(m, step, out=step)
            x -= step

    def bound(x: np.ndarray, first: int, last: int) -> float:
        """Return the misfit of some images, and put its gradient in the place of their logits."""
        total = 0.0
        for k in range(first, last, BLOCK_ROWS):
            part = slice(k, min(k + BLOCK_ROWS, last))
            logits, u, pixels = buffers["logits"][part], buffers["u"][part], x[part]
            np.abs(logits, out=u)
            total += 0.5 * float(u.sum()) - float(np.vdot(logits, pixels)) + 0.5 * float(logits.sum())
            np.negative(u, out=u)
            np.exp(u, out=u)
            u += np.float32(1)
            np.reciprocal(u, out=u)  # the sigmoid of |logits|
            np.subtract(u, np.float32(0.5), out=buffers["v"][part])
            np.copysign(buffers["v"][part], logits, out=logits)
            logits += np.float32(0.5)
            logits -= pixels
            logits *= np.float32(1 / len(x))
            np.log(u, out=u)
            total -= float(u.sum())
        return total

    def step(x: np.ndarray, noise: np.ndarray | None) -> float:
        nonlocal t, buffers
        n = len(x)
        if not buffers or len(buffers["h1"]) != n:
            widths = {"h1": 400, "h2": 400, "d1": 400, "d2": 400, "heads": 40, "d_heads": 40}
            widths |= dict.fromkeys(("logits", "u", "v"), 784) | dict.fromkeys(("e", "z", "d_z", "sigma"), 20)
            buffers = {name: np.empty((n, width), np.float32) for name, width in widths.items()}
            buffers["on"] = np.empty((n, 400), np.bool_)
        h1, h2, d1, d2, e, z, d_z, sigma = (buffers[k] for k in ("h1", "h2", "d1", "d2", "e", "z", "d_z", "sigma"))
        out, d_heads, logits, on = (buffers[k] for k in ("heads", "d_heads", "logits", "on"))
        mu, log_var = out[:, :20], out[:, 20:]

        # the bound, and the gradient of the logits in their place
        np.matmul(x, p["W1"], out=h1)
        h1 += p["b1"]
        np.maximum(h1, 0, out=h1)
        np.matmul(h1, p["W_h"], out=out)
        out += p["b_h"]
        np.multiply(log_var, np.float32(0.5), out=sigma)
        np.exp(sigma, out=sigma)
        if noise is None:
            rng.standard_normal(dtype=np.float32, out=e)
        else:
            e[...] = noise
        np.multiply(sigma, e, out=z)
        z += mu
        np.matmul(z, p["W2"], out=h2)
        h2 += p["b2"]
        np.maximum(h2, 0, out=h2)
        np.matmul(h2, p["W3"], out=logits)
        logits += p["b3"]
        if workers is None:
            misfit = bound(x, 0, n)
        else:
            other = workers.submit(bound, x, n // 2, n)
            misfit = bound(x, 0, n // 2) + other.result()
        kl = 0.5 * (np.vdot(mu, mu) + np.vdot(sigma, sigma) - mu.size - log_var.sum())

        # the derivatives
        t += 1
        np.matmul(h2.T, logits, out=g["W3"])
        logits.sum(axis=0, out=g["b3"])
        np.matmul(logits, p["W3"].T, out=d2)
        behind = workers.submit(adam, at["W3"].start, end, 1) if workers else None
        d2 *= np.greater(h2, 0, out=on)
        np.matmul(z.T, d2, out=g["W2"])
        d2.sum(axis=0, out=g["b2"])
        np.matmul(d2, p["W2"].T, out=d_z)
        d_mu, d_log_var = d_heads[:, :20], d_heads[:, 20:]
        np.multiply(mu, np.float32(1 / n), out=d_mu)
        d_mu += d_z
        np.multiply(d_z, e, out=d_log_var)
        d_log_var *= sigma
        np.square(sigma, out=sigma)
        sigma -= np.float32(1)
        sigma *= np.float32(1 / n)
        d_log_var += sigma
        d_log_var *= np.float32(0.5)
        np.matmul(h1.T, d_heads, out=g["W_h"])
        d_heads.sum(axis=0, out=g["b_h"])
        np.matmul(d_heads, p["W_h"].T, out=d1)
        d1 *= np.greater(h1, 0, out=on)
        np.matmul(x.T, d1, out=g["W1"])
        d1.sum(axis=0, out=g["b1"])
        adam(0, at["W3"].start if behind else end)
        if behind:
            behind.result()
        return (misfit + float(kl)) / n

    def current() -> list[np.ndarray]:
        w, b = p["W_h"], p["b_h"]
        whole = p | {"W_mu": w[:, :20], "W_lv": w[:, 20:], "b_mu": b[:20], "b_lv": b[20:]}
        return [whole[name].copy() for name in NAMES]

    return step, current


def products(model: tg.VAE) -> dict[str, Callable[[np.ndarray], None]]:
    """Return the matrix products of the step, by name, each a function of the images: what no NumPy step can save."""
    w1, _, w_mu, _, w_lv, _, w2, _, w3, _ = tg.trees.leaves(model)
    rng, w_h = np.random.default_rng(0), np.concatenate([w_mu, w_lv], axis=1)

    @functools.cache
    def array(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape, dtype=np.float32)

    def product(a: Callable[[int], np.ndarray], b: Callable[[int], np.ndarray]) -> Callable[[np.ndarray], None]:
        made: dict[int, np.ndarray] = {}

        def run(x: np.ndarray) -> None:
            left, right = a(len(x)), b(len(x))
            if len(x) not in made:
                made[len(x)] = np.empty((len(left), right.shape[1]), np.float32)
            np.matmul(left, right, out=made[len(x)])

        return run

    return {
        "x W1": product(lambda n: array(n, 784), lambda n: w1),
        "h1 W_h": product(lambda n: array(n, 400), lambda n: w_h),
        "z W2": product(lambda n: array(n, 20), lambda n: w2),
        "h2 W3": product(lambda n: array(n, 400), lambda n: w3),
        "h2' dlogits": product(lambda n: array(n, 400).T, lambda n: array(n, 784)),
        "dlogits W3'": product(lambda n: array(n, 784), lambda n: w3.T),
        "z' da2": product(lambda n: array(n, 20).T, lambda n: array(n, 400)),
        "da2 W2'": product(lambda n: array(n, 400), lambda n: w2.T),
        "h1' dh": product(lambda n: array(n, 400).T, lambda n: array(n, 40)),
        "dh W_h'": product(lambda n: array(n, 40), lambda n: w_h.T),
        "x' da1": product(lambda n: array(n, 784).T, lambda n: array(n, 400)),
    }


def only_products(model: tg.VAE) -> Contender:
    """The matrix products of the step and nothing else, the two heads as one: what no step on this BLAS can save."""
    runs = list(products(model).values())

    def step(x: np.ndarray, noise: np.ndarray | None) -> float:
        for run in runs:
            run(x)
        return float("nan")

    return step, list


def loss_in_torch() -> Callable[..., Any]:
    """Return the loss as a function of images, noise and parameters in PyTorch."""
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits, relu

    def loss_of(x: Any, noise: Any, w1: Any, b1: Any, w_mu: Any, b_mu: Any, w_lv: Any, b_lv: Any, *decoder: Any) -> Any:
        w2, b2, w3, b3 = decoder
        h1 = relu(torch.addmm(b1, x, w1))
        mu, log_var = torch.addmm(b_mu, h1, w_mu), torch.addmm(b_lv, h1, w_lv)
        sigma = torch.exp(0.5 * log_var)
        logits = torch.addmm(b3, relu(torch.addmm(b2, mu + sigma * noise, w2)), w3)
        misfit = binary_cross_entropy_with_logits(logits, x, reduction="sum")
        return (misfit + 0.5 * (mu**2 + sigma**2 - 1 - log_var).sum()) / len(x)

    return loss_of


def in_torch(model: tg.VAE, fused: bool = False, compiled: bool = False) -> Contender:
    """The same step in PyTorch: eager or with a compiled loss and gradient, with its default Adam or the fused one."""
    import torch

    if compiled:
        try:
            torch.compile(lambda x: x + 1)(torch.zeros(2))
        except Exception as error:  # of many kinds: there is no C++ compiler, or none that it can use
            raise AbsentError(f"torch.compile fails here: {str(error).strip().splitlines()[0]}") from error
    parameters = [torch.tensor(leaf, requires_grad=True) for leaf in tg.trees.leaves(model)]
    optimizer = torch.optim.Adam(parameters, lr=RATE, betas=(BETA1, BETA2), eps=EPSILON, fused=fused)
    torch.manual_seed(1)

    loss_function = torch.compile(loss_in_torch()) if compiled else loss_in_torch()

    def step(images: np.ndarray, noise: np.ndarray | None) -> float:
        drawn = torch.randn(len(images), model.latent) if noise is None else torch.from_numpy(noise)
        loss = loss_function(torch.from_numpy(images), drawn, *parameters)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step, lambda: [p.detach().numpy() for p in parameters]


def _loss(xp: Any, p: dict[str, Any], x: Any, noise: Any) -> Any:
    """Return the loss in a module with the functions of NumPy."""
    h1 = xp.maximum(x @ p["W1"] + p["b1"], 0)
    mu, log_var = h1 @ p["W_mu"] + p["b_mu"], h1 @ p["W_lv"] + p["b_lv"]
    sigma = xp.exp(0.5 * log_var)
    h2 = xp.maximum((mu + sigma * noise) @ p["W2"] + p["b2"], 0)
    logits = h2 @ p["W3"] + p["b3"]
    misfit = xp.maximum(logits, 0) - logits * x + xp.log1p(xp.exp(-xp.abs(logits)))
    kl = 0.5 * (mu**2 + sigma**2 - 1 - log_var)
    return (xp.sum(misfit) + xp.sum(kl)) / len(x)


def _adam(xp: Any, t: Any, p: Any, m: Any, v: Any, g: Any) -> tuple[Any, Any, Any]:
    """Return one parameter and its moments after step t, in a module with the functions of NumPy."""
    m = BETA1 * m + (1 - BETA1) * g
    v = BETA2 * v + (1 - BETA2) * g**2
    return p - RATE * (m / (1 - BETA1**t)) / (xp.sqrt(v / (1 - BETA2**t)) + EPSILON), m, v


def in_autograd(model: tg.VAE) -> Contender:
    """The same step in HIPS autograd."""
    import autograd.numpy as anp
    from autograd import value_and_grad

    p = dict(zip(NAMES, tg.trees.leaves(model), strict=True))
    m, v = ({name: np.zeros_like(array) for name, array in p.items()} for _ in range(2))
    both = value_and_grad(lambda p, x, noise: _loss(anp, p, x, noise))
    rng, t = np.random.default_rng(1), 0

    def step(x: np.ndarray, noise: np.ndarray | None) -> float:
        nonlocal t
        t += 1
        loss, g = both(p, x, rng.standard_normal((len(x), model.latent), np.float32) if noise is None else noise)
        for name in p:
            p[name], m[name], v[name] = _adam(np, t, p[name], m[name], v[name], g[name])
        return float(loss)

    return step, lambda: list(p.values())


def in_mygrad(model: tg.VAE) -> Contender:
    """The same step in MyGrad."""
    import mygrad

    p = {name: leaf.copy() for name, leaf in zip(NAMES, tg.trees.leaves(model), strict=True)}
    m, v = ({name: np.zeros_like(array) for name, array in p.items()} for _ in range(2))
    rng, t = np.random.default_rng(1), 0

    def step(x: np.ndarray, noise: np.ndarray | None) -> float:
        nonlocal t
        t += 1
        recorded = {name: mygrad.tensor(array, copy=False) for name, array in p.items()}
        drawn = rng.standard_normal((len(x), model.latent), np.float32) if noise is None else noise
        loss = _loss(mygrad, recorded, x, drawn)
        loss.backward()
        for name in p:
            p[name], m[name], v[name] = _adam(np, t, p[name], m[name], v[name], recorded[name].grad)
        return float(loss)

    return step, lambda: list(p.values())


def in_jax(model: tg.VAE) -> Contender:
    """The same step in JAX, compiled, with the buffers of parameters and moments handed over."""
    import jax
    import jax.numpy as jnp

    p = dict(zip(NAMES, map(jnp.array, tg.trees.leaves(model)), strict=True))
    state = p, jax.tree.map(jnp.zeros_like, p), jax.tree.map(jnp.zeros_like, p), jnp.float32(0), jax.random.key(1)

    def update(state: Any, x: Any, noise: Any) -> tuple[Any, Any]:
        p, m, v, t, key = state
        if noise is None:
            key, now = jax.random.split(key)
            noise = jax.random.normal(now, (len(x), model.latent), jnp.float32)
        loss, g = jax.value_and_grad(lambda p: _loss(jnp, p, x, noise))(p)
        rows = {name: _adam(jnp, t + 1, p[name], m[name], v[name], g[name]) for name in p}
        p, m, v = ({name: row[k] for name, row in rows.items()} for k in range(3))
        return (p, m, v, t + 1, key), loss

    run = jax.jit(update, donate_argnums=0)

    def step(x: np.ndarray, noise: np.ndarray | None) -> float:
        nonlocal state
        state, loss = run(state, x, noise)
        return float(loss)

    return step, lambda: [np.asarray(state[0][name]) for name in NAMES]


ONLY_PRODUCTS = "only the matrix products"

CONTENDERS: dict[str, Callable[[tg.VAE], Contender]] = {
    "PyTorch eager": in_torch,
    "PyTorch eager, fused Adam": lambda model: in_torch(model, fused=True),
    "torch.compile, fused Adam": lambda model: in_torch(model, fused=True, compiled=True),
    "JAX jit, buffers donated": in_jax,
    "HIPS autograd": in_autograd,
    "MyGrad": in_mygrad,
    "NumPy by hand, plain": by_hand,
    "NumPy by hand, tuned": by_hand_tuned,
    "NumPy by hand, tuned, two threads": lambda model: by_hand_tuned(model, threads=2),
    ONLY_PRODUCTS: only_products,
    "tinygrad_vae eager, NumPy alone": without_compiler,
    "tinygrad_vae eager": ours,
    "tinygrad_vae plan, NumPy alone": lambda model: planned(model, compiled=False),
    "tinygrad_vae plan": lambda model: planned(model, compiled=True),
}
"""Every contender by name. The first that is there is compared with."""

REFERENCE = "NumPy by hand, plain"
"""The contender that the others must agree with."""


def images(batch: int) -> np.ndarray:
    """Return the batch that the benchmarks train on: a fifth of the pixels is 1, as in binarised digits."""
    return (np.random.default_rng(0).random((batch, 784)) < 0.2).astype(np.float32)


def new_model() -> tg.VAE:
    """Return the model before the first step."""
    return tg.VAE.init(784, hidden=(400,), latent=20, rng=tg.noise(0))


def first_steps(contender: Contender, x: np.ndarray, steps: int = 4) -> tuple[list[float], list[np.ndarray]]:
    """Return the losses of some steps with noise that is the same for all contenders, and the parameters after them."""
    step, parameters = contender
    rng = np.random.default_rng(2)
    losses = [step(x, rng.standard_normal((len(x), 20), dtype=np.float32)) for _ in range(steps)]
    return losses, parameters()


def disagreements(found: dict[str, tuple[list[float], list[np.ndarray]]]) -> list[str]:
    """Say which contenders made other first steps than the reference: a step that computes something else is not timed.

    Adam moves a parameter by RATE at first wherever its gradient is not 0, so that where a gradient is rounding and
    nothing else, two contenders go apart by a whole step; that may happen to a few.
    """
    losses, parameters = found[REFERENCE]
    complaints = []
    for name in found.keys() - {ONLY_PRODUCTS}:
        if not np.allclose(found[name][0], losses, rtol=1e-4):
            complaints.append(f"{name} disagrees: the losses of the first steps are {found[name][0]}, by hand {losses}")
            continue
        for a, b in zip(found[name][1], parameters, strict=True):
            apart = np.abs(a - b) > 0.01 * len(losses) * RATE
            if apart.mean() > 0.01:
                complaints.append(f"{name} disagrees: {apart.sum()} of {apart.size} parameters are elsewhere")
    return complaints
