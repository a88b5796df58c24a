"""Time one training step of a VAE against the same step written by hand in NumPy.

The step: 784-400-(20, 20)-400-784, relu, float32, a batch of 128 binary images, Bernoulli likelihood on logits, KL in
closed form, fresh noise, Adam on every parameter. The one by hand has the forward pass, the derivatives and Adam
spelled out, as plain NumPy. Before anything is timed, the contenders must agree on the loss and on the parameters
after a step from the same weights with the same noise.

The contenders take turns, a few steps each, so that whatever else the machine does meets all of them; a round gives one
ratio, and the table shows the median over rounds with the quartiles.

    python tests/benchmarks/bench_step.py --rounds 15 --torch
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

import numpy as np

import tinygrad_vae as tg

RATE, BETA1, BETA2, EPSILON = 1e-3, 0.9, 0.999, 1e-8

Step = Callable[[np.ndarray, np.ndarray | None], float]
"""One step on a batch, with given noise or fresh noise; returns the loss."""


def ours(model: tg.VAE) -> tuple[Step, Callable[[], list[np.ndarray]]]:
    """Return the library's step, as a training loop writes it, and a function that returns the parameters."""
    optimizer = tg.optim.Adam(RATE, BETA1, BETA2, EPSILON)
    state = optimizer.init(model)
    stream = tg.noise(1)

    def step(x: np.ndarray, noise: np.ndarray | None) -> float:
        nonlocal model, state
        recorded = tg.wrap(model)
        bound = tg.elbo(recorded, x, rng=stream)
        loss = -tg.mean(tg.reparameterize(bound))
        if noise is not None:
            loss = tg.replay(loss, dict.fromkeys(_noise_of(loss), noise))
        model, state = optimizer.update(model, tg.gradients(loss, recorded), state)
        return float(loss.value)

    return step, lambda: tg.trees.leaves(model)


def _noise_of(loss: tg.Tensor) -> list[tg.Noise]:
    return [node for node in tg.graph.topological_order([loss]) if isinstance(node, tg.Noise)]


def by_hand(model: tg.VAE) -> tuple[Step, Callable[[], list[np.ndarray]]]:
    """Return the same step in plain NumPy, and a function that returns the parameters."""
    names = ["W1", "b1", "W_mu", "b_mu", "W_lv", "b_lv", "W2", "b2", "W3", "b3"]
    p = {name: leaf.copy() for name, leaf in zip(names, tg.trees.leaves(model), strict=True)}
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


def in_torch(model: tg.VAE) -> tuple[Step, Callable[[], list[np.ndarray]]]:
    """Return the same step in eager PyTorch, and a function that returns the parameters."""
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits, relu

    parameters = [torch.tensor(leaf, requires_grad=True) for leaf in tg.trees.leaves(model)]
    w1, b1, w_mu, b_mu, w_lv, b_lv, w2, b2, w3, b3 = parameters
    optimizer = torch.optim.Adam(parameters, lr=RATE, betas=(BETA1, BETA2), eps=EPSILON)
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


def check_agreement(contenders: dict[str, tuple[Step, Callable[[], list[np.ndarray]]]], x: np.ndarray) -> None:
    """Run one step of each with the same noise, and stop where they differ."""
    noise = np.random.default_rng(2).standard_normal((len(x), 20), dtype=np.float32)
    losses = {name: step(x, noise) for name, (step, _) in contenders.items()}
    reference = contenders["by hand"][1]()
    for name, (_, parameters) in contenders.items():
        if not np.isclose(losses[name], losses["by hand"], rtol=1e-5):
            sys.exit(f"{name} disagrees: its loss is {losses[name]}, by hand it is {losses['by hand']}")
        for a, b in zip(parameters(), reference, strict=True):
            apart = np.abs(a - b) > 0.01 * RATE  # Adam's first step has the length RATE wherever the gradient is not 0
            if apart.mean() > 1e-3:
                sys.exit(f"{name} disagrees: {apart.sum()} of {apart.size} parameters are elsewhere after a step")


def main() -> None:
    """Read the options, check, time, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="how many ratios to take the median of (default: 15)")
    parser.add_argument("--steps", type=int, default=20, help="steps of each contender in a round (default: 20)")
    parser.add_argument("--torch", action="store_true", help="time eager PyTorch too")
    parser.add_argument("--cpu", action="store_true", help="count CPU time, for a machine that others keep busy")
    parser.add_argument("--limit", type=float, help="exit with status 1 if the library's median ratio is above this")
    options = parser.parse_args()

    x = (np.random.default_rng(0).random((128, 784)) < 0.2).astype(np.float32)
    model = tg.VAE.init(784, hidden=(400,), latent=20, rng=tg.noise(0))
    contenders = {"by hand": by_hand(model), "tinygrad_vae": ours(model)}
    if options.torch:
        contenders["PyTorch eager"] = in_torch(model)
    check_agreement(contenders, x)

    clock = time.process_time if options.cpu else time.perf_counter
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(options.rounds):
        for name, (step, _) in contenders.items():
            step(x, None)  # brings its arrays back into the cache
            times = []
            for _ in range(options.steps):
                start = clock()
                step(x, None)
                times.append(clock() - start)
            seconds[name].append(float(np.median(times)))

    baseline = np.array(seconds["by hand"])
    print(f"{'':<16}{'ms a step':>10}{'ratio':>9}   quartiles of {options.rounds} rounds")
    for name, row in seconds.items():
        ratios = np.array(row) / baseline
        low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
        print(f"{name:<16}{1000 * np.median(row):>10.2f}{middle:>9.3f}   {low:.3f} to {high:.3f}")
    ratio = np.median(np.array(seconds["tinygrad_vae"]) / baseline)
    if options.limit is not None and ratio > options.limit:
        sys.exit(f"the library takes {ratio:.3f} times as long as by hand, the limit is {options.limit}")


if __name__ == "__main__":
    main()
