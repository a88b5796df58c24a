"""Time one training step of a VAE on a GPU: this library eager and captured as a CUDA graph, beside PyTorch and JAX.

The step is that of bench_step.py: 784-400-(20, 20)-400-784, relu, float32 without TF32, Bernoulli bound on logits, KL
in closed form, fresh noise in every step, Adam on every parameter. The batch lies on the GPU already, and the loss
stays there. PyTorch is measured eager, with fused Adam, and compiled with mode="reduce-overhead", which captures CUDA
graphs too; JAX compiled, with the buffers of parameters and moments handed over. Before anything is timed, all must
agree with plain NumPy on the losses and the parameters of the first steps.

The contenders take turns; a turn is timed from an idle GPU to an idle GPU, and gives the mean over its steps. A round
of turns gives one ratio to the first contender, and the table shows the median over rounds with the quartiles.

    python tests/benchmarks/bench_gpu.py
    python tests/benchmarks/bench_gpu.py --batch 128 512 --rounds 30 > table.md
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from training_step import BETA1, BETA2, EPSILON, NAMES, RATE, Given, _adam, _loss, by_hand, loss_in_torch

import tinygrad_vae as tg
from tinygrad_vae.core import NoiseStream

Step = Callable[[np.ndarray | None], Any]
"""One step on a batch that lies on the GPU, with given noise or fresh noise; returns the loss, which may be pending."""

Contender = tuple[Step, Callable[[], list[np.ndarray]]]
"""A step, and a function that returns the parameters. ``float(loss)`` waits for the GPU."""


def ours(model: tg.VAE, images: np.ndarray, captured: bool) -> Contender:
    """The library's step, captured by a plan or eager."""
    optimizer = tg.optim.Adam(RATE, BETA1, BETA2, EPSILON)
    model, x = tg.to_device(model), tg.to_device(images)
    state, stream = optimizer.init(model), Given(1)

    def update(model: tg.VAE, state: Any, x: Any, rng: NoiseStream) -> tuple[Any, ...]:
        def loss(model: tg.VAE) -> Any:
            return -tg.mean(tg.reparameterize(tg.elbo(model, x, rng=rng)))

        value, gradient = tg.value_and_grad(loss)(model)
        return *optimizer.update(model, gradient, state), value

    run = tg.plan(update, carry=2) if captured else update

    def step(noise: np.ndarray | None) -> Any:
        nonlocal model, state
        stream.told = noise
        model, state, loss = run(model, state, x, stream)
        return loss

    return step, lambda: tg.trees.leaves(tg.to_host(model))


def in_torch(model: tg.VAE, images: np.ndarray, fused: bool = False, compiled: bool = False) -> Contender:
    """The same step in PyTorch."""
    import torch

    parameters = [torch.tensor(leaf, device="cuda", requires_grad=True) for leaf in tg.trees.leaves(model)]
    optimizer = torch.optim.Adam(parameters, lr=RATE, betas=(BETA1, BETA2), eps=EPSILON, fused=fused)
    x = torch.tensor(images, device="cuda")
    torch.manual_seed(1)

    loss_of = loss_in_torch()
    loss_function = torch.compile(loss_of, mode="reduce-overhead") if compiled else loss_of

    def step(noise: np.ndarray | None) -> Any:
        if compiled:
            torch.compiler.cudagraph_mark_step_begin()
        drawn = torch.randn((len(x), 20), device="cuda") if noise is None else torch.tensor(noise, device="cuda")
        loss = loss_function(x, drawn, *parameters)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step, lambda: [p.detach().cpu().numpy() for p in parameters]


def in_jax(model: tg.VAE, images: np.ndarray) -> Contender:
    """The same step in JAX, compiled."""
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_default_matmul_precision", "float32")
    p = dict(zip(NAMES, map(jnp.array, tg.trees.leaves(model)), strict=True))
    state = p, jax.tree.map(jnp.zeros_like, p), jax.tree.map(jnp.zeros_like, p), jnp.float32(0), jax.random.key(1)
    x = jnp.array(images)

    def update(state: Any, x: Any, noise: Any) -> tuple[Any, Any]:
        p, m, v, t, key = state
        if noise is None:
            key, now = jax.random.split(key)
            noise = jax.random.normal(now, (len(x), 20), jnp.float32)
        loss, g = jax.value_and_grad(lambda p: _loss(jnp, p, x, noise))(p)
        rows = {name: _adam(jnp, t + 1, p[name], m[name], v[name], g[name]) for name in p}
        p, m, v = ({name: row[k] for name, row in rows.items()} for k in range(3))
        return (p, m, v, t + 1, key), loss

    run = jax.jit(update, donate_argnums=0)

    def step(noise: np.ndarray | None) -> Any:
        nonlocal state
        state, loss = run(state, x, noise)
        return loss

    return step, lambda: [np.asarray(state[0][name]) for name in NAMES]


def _torch_sees_a_gpu() -> bool:
    if importlib.util.find_spec("torch") is None:
        return False
    import torch

    return torch.cuda.is_available()


def _jax_sees_a_gpu() -> bool:
    if importlib.util.find_spec("jax") is None:
        return False
    import jax

    return jax.default_backend() == "gpu"


CONTENDERS: dict[str, tuple[Callable[[], bool], Callable[[tg.VAE, np.ndarray], Contender]]] = {
    "PyTorch eager": (_torch_sees_a_gpu, in_torch),
    "PyTorch eager, fused Adam": (_torch_sees_a_gpu, lambda *given: in_torch(*given, fused=True)),
    "torch.compile, reduce-overhead": (_torch_sees_a_gpu, lambda *given: in_torch(*given, fused=True, compiled=True)),
    "JAX jit": (_jax_sees_a_gpu, in_jax),
    "tinygrad_vae eager": (lambda: True, lambda *given: ours(*given, captured=False)),
    "tinygrad_vae captured": (lambda: True, lambda *given: ours(*given, captured=True)),
}
"""Every contender by name: whether it can run here, and what makes it. The first that is there is compared with."""


def hardware() -> str:
    """Return the name of the GPU, with the versions that the numbers depend on; stop where there is none."""
    try:
        import cupy

        if not cupy.cuda.runtime.getDeviceCount():
            sys.exit("no GPU here: CUDA counts 0 devices")
        name = cupy.cuda.runtime.getDeviceProperties(0)["name"].decode()
        cuda = cupy.cuda.runtime.runtimeGetVersion()
    except ImportError as error:
        sys.exit(f"no GPU here: CuPy cannot be imported ({error}); pip install 'tinygrad-vae[cuda12]'")
    except RuntimeError as error:
        sys.exit(f"no GPU here: {error}")
    packages = [d for d in ("cupy-cuda12x", "cupy-cuda13x", "torch", "jax", "numpy") if _version(d)]
    return f"{name}, CUDA {cuda // 1000}.{cuda % 1000 // 10}, " + ", ".join(f"{d} {_version(d)}" for d in packages)


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def check_agreement(contenders: dict[str, Contender], model: tg.VAE, images: np.ndarray) -> None:
    """Run some steps of each with the same noise, and stop where they differ from plain NumPy."""
    rng, (reference, weights) = np.random.default_rng(2), by_hand(model)
    for t in range(1, 5):  # a plan is recorded in the first two
        noise = rng.standard_normal((len(images), 20), dtype=np.float32)
        expected = reference(images, noise)
        for name, (step, parameters) in contenders.items():
            found = float(step(noise))
            if not np.isclose(found, expected, rtol=1e-4):
                sys.exit(f"{name} disagrees: the loss of step {t} is {found}, by hand {expected}")
            for a, b in zip(parameters(), weights(), strict=True):
                apart = np.abs(a - b) > 0.01 * t * RATE  # Adam moves by RATE at first wherever the gradient is not 0
                if apart.mean() > 0.01:
                    sys.exit(f"{name} disagrees: {apart.sum()} of {apart.size} parameters are elsewhere after step {t}")


def time_in_turns(contenders: dict[str, Contender], rounds: int, steps: int) -> dict[str, np.ndarray]:
    """Return the seconds of a step, of each contender in each round."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for done in range(rounds + 1):  # the first round warms up
        for name, (step, _) in contenders.items():
            float(step(None))
            start = time.perf_counter()
            for _ in range(steps):
                loss = step(None)
            float(loss)
            if done:
                seconds[name].append((time.perf_counter() - start) / steps)
        print(f"\r{done} of {rounds} rounds", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return {name: np.array(row) for name, row in seconds.items()}


def main() -> None:
    """Read the options; for each batch: check, time, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, nargs="+", default=[128, 512], help="images a step (default: 128 512)")
    parser.add_argument("--rounds", type=int, default=20, help="how many ratios to take the median of (default: 20)")
    parser.add_argument("--steps", type=int, default=200, help="steps of each contender in a round (default: 200)")
    options = parser.parse_args()

    print(hardware())
    found = {name: make for name, (is_there, make) in CONTENDERS.items() if is_there()}
    for name in CONTENDERS.keys() - found.keys():
        print(f"{name} is not here, or sees no GPU", file=sys.stderr)
    model = tg.VAE.init(784, hidden=(400,), latent=20, rng=tg.noise(0))
    for batch in options.batch:
        images = (np.random.default_rng(0).random((batch, 784)) < 0.2).astype(np.float32)
        contenders = {name: make(model, images) for name, make in found.items()}
        check_agreement(contenders, model, images)
        seconds = time_in_turns(contenders, options.rounds, options.steps)
        first = next(iter(seconds))
        print(f"\n| batch {batch} | ms a step | ratio to {first} | quartiles of {options.rounds} rounds |")
        print("|---|---|---|---|")
        for name, row in seconds.items():
            low, middle, high = np.quantile(row / seconds[first], [0.25, 0.5, 0.75])
            print(f"| {name} | {1000 * np.median(row):.3f} | {middle:.3f} | {low:.3f} to {high:.3f} |")


if __name__ == "__main__":
    main()
