"""Time one training step of a VAE, in this library and in others.

The step: 784-400-(20, 20)-400-784, relu, float32, a batch of binary images, Bernoulli likelihood on logits, KL in
closed form, fresh noise, Adam on every parameter. The one by hand has the forward pass, the derivatives and Adam
spelled out, as plain NumPy. PyTorch, JAX and HIPS autograd take part where they are installed. Before anything is
timed, all must agree with the one by hand on the losses and the parameters of the first steps, from the same weights
with the same noise.

The contenders take turns, a few steps each, so that whatever else the machine does meets all of them; a round gives one
ratio, and the table shows the median over rounds with the quartiles.

    python tests/benchmarks/bench_step.py --batch 32 128 512
    OMP_NUM_THREADS=1 python tests/benchmarks/bench_step.py --cpu     # on a machine that others keep busy
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import tinygrad_vae as tg

NAMES = ["W1", "b1", "W_mu", "b_mu", "W_lv", "b_lv", "W2", "b2", "W3", "b3"]
RATE, BETA1, BETA2, EPSILON = 1e-3, 0.9, 0.999, 1e-8

Step = Callable[[np.ndarray, np.ndarray | None], float]
"""One step on a batch, with given noise or fresh noise; returns the loss."""

Contender = tuple[Step, Callable[[], list[np.ndarray]]]
"""A step, and a function that returns the parameters."""


class Given(tg.arrays.NoiseStream):
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


def planned(model: tg.VAE) -> Contender:
    """The library's step, run by a plan."""
    optimizer = tg.optim.Adam(RATE, BETA1, BETA2, EPSILON)
    state = optimizer.init(model)
    stream = Given(1)

    def update(model: tg.VAE, state: Any, x: np.ndarray, rng: tg.arrays.NoiseStream) -> tuple[Any, ...]:
        def loss(model: tg.VAE) -> Any:
            return -tg.mean(tg.reparameterize(tg.elbo(model, x, rng=rng)))

        value, gradient = tg.value_and_grad(loss)(model)
        return *optimizer.update(model, gradient, state), value

    run = tg.plan(update, carry=2)

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


def in_torch(model: tg.VAE, fused: bool = False) -> Contender:
    """The same step in eager PyTorch, with its default Adam or the fused one."""
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits, relu

    parameters = [torch.tensor(leaf, requires_grad=True) for leaf in tg.trees.leaves(model)]
    w1, b1, w_mu, b_mu, w_lv, b_lv, w2, b2, w3, b3 = parameters
    optimizer = torch.optim.Adam(parameters, lr=RATE, betas=(BETA1, BETA2), eps=EPSILON, fused=fused)
    torch.manual_seed(1)

    def step(images: np.ndarray, noise: np.ndarray | None) -> float:
        x = torch.from_numpy(images)
        h1 = relu(torch.addmm(b1, x, w1))
        mu, log_var = torch.addmm(b_mu, h1, w_mu), torch.addmm(b_lv, h1, w_lv)
        sigma = torch.exp(0.5 * log_var)
        z = mu + sigma * (torch.randn_like(mu) if noise is None else torch.from_numpy(noise))
        logits = torch.addmm(b3, relu(torch.addmm(b2, z, w2)), w3)
        misfit = binary_cross_entropy_with_logits(logits, x, reduction="sum")
        kl = 0.5 * (mu**2 + sigma**2 - 1 - log_var).sum()
        loss = (misfit + kl) / len(x)
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


CONTENDERS: dict[str, tuple[str, Callable[[tg.VAE], Contender]]] = {
    "PyTorch": ("torch", in_torch),
    "PyTorch, fused Adam": ("torch", lambda model: in_torch(model, fused=True)),
    "JAX": ("jax", in_jax),
    "HIPS autograd": ("autograd", in_autograd),
    "by hand": ("numpy", by_hand),
    "tinygrad_vae": ("tinygrad_vae", ours),
    "tinygrad_vae, plan": ("tinygrad_vae", planned),
}
"""Every contender by name: the package that it needs, and what makes it. The first that is there is compared with."""


def check_agreement(contenders: dict[str, Contender], x: np.ndarray) -> None:
    """Run some steps of each with the same noise, and stop where they differ from the one by hand."""
    rng = np.random.default_rng(2)
    for t in range(1, 4):  # a plan is recorded in the first two
        noise = rng.standard_normal((len(x), 20), dtype=np.float32)
        losses = {name: step(x, noise) for name, (step, _) in contenders.items()}
        reference = contenders["by hand"][1]()
        for name, (_, parameters) in contenders.items():
            if not np.isclose(losses[name], losses["by hand"], rtol=1e-4):
                sys.exit(f"{name} disagrees: the loss of step {t} is {losses[name]}, by hand {losses['by hand']}")
            for a, b in zip(parameters(), reference, strict=True):
                apart = np.abs(a - b) > 0.01 * t * RATE  # Adam moves by RATE at first wherever the gradient is not 0
                if apart.mean() > 0.01:
                    sys.exit(f"{name} disagrees: {apart.sum()} of {apart.size} parameters are elsewhere after step {t}")


def time_in_turns(
    contenders: dict[str, Contender], x: np.ndarray, rounds: int, steps: int, clock: Callable[[], float]
) -> dict[str, np.ndarray]:
    """Return the median seconds of a step, of each contender in each round."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, (step, _) in contenders.items():
            step(x, None)  # brings its arrays back into the cache
            times = []
            for _ in range(steps):
                start = clock()
                step(x, None)
                times.append(clock() - start)
            seconds[name].append(float(np.median(times)))
    return {name: np.array(row) for name, row in seconds.items()}


def main() -> None:
    """Read the options; for each batch: check, time, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, nargs="+", default=[128], help="how many images a step (default: 128)")
    parser.add_argument("--rounds", type=int, default=15, help="how many ratios to take the median of (default: 15)")
    parser.add_argument("--steps", type=int, default=20, help="steps of each contender in a round (default: 20)")
    parser.add_argument("--cpu", action="store_true", help="count CPU time, for a machine that others keep busy")
    parser.add_argument("--limit", type=float, help="exit with 1 if the ratio to the one by hand is above this")
    options = parser.parse_args()

    found = {name: make for name, (package, make) in CONTENDERS.items() if importlib.util.find_spec(package)}
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    print(f"{platform.machine()}, {os.cpu_count()} cores, {threads} threads, NumPy {np.__version__}")
    model = tg.VAE.init(784, hidden=(400,), latent=20, rng=tg.noise(0))
    for batch in options.batch:
        x = (np.random.default_rng(0).random((batch, 784)) < 0.2).astype(np.float32)
        contenders = {name: make(model) for name, make in found.items()}
        check_agreement(contenders, x)
        clock = time.process_time if options.cpu else time.perf_counter
        seconds = time_in_turns(contenders, x, options.rounds, options.steps, clock)
        first = next(iter(seconds))
        print(f"\nbatch {batch:<15}{'ms a step':>10}{'ratio':>9}   to {first}: quartiles of {options.rounds} rounds")
        for name, row in seconds.items():
            low, middle, high = np.quantile(row / seconds[first], [0.25, 0.5, 0.75])
            print(f"{name:<21}{1000 * np.median(row):>10.2f}{middle:>9.3f}   {low:.3f} to {high:.3f}")
        ratio = float(np.median(seconds["tinygrad_vae"] / seconds["by hand"]))
        if options.limit is not None and ratio > options.limit:
            sys.exit(f"the library takes {ratio:.3f} times as long as by hand, the limit is {options.limit}")


if __name__ == "__main__":
    main()
