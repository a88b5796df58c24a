"""Train the VAE of Burda et al. 2016 on binarised MNIST by several objectives, here and in PyTorch, and compare.

784-200-200-50 and back, tanh, one stochastic layer, batches of 20, Adam with beta2 = 0.999 and epsilon = 1e-4, and
their schedule: eight stages, the i-th of 3^i epochs with the learning rate 0.001 * 10^(-i/7). The full schedule has
3280 epochs of 2500 steps; ``--steps`` says how many of them are made, from the first on. Both libraries begin with the
same weights and see the same images in the same order. PyTorch's weights come back at the end, and the same evaluation
measures both: the mean log-likelihood of held-out images, estimated by importance weighting, and its standard error
over the images. It holds neither that of the seed nor the part of the gap that is the estimate's own.

The data is an .npz file with the arrays train and test, each image of 784 bits packed in 98 bytes, or one byte for each
pixel.

    python tests/benchmarks/mnist_bounds.py --data binarized_mnist.npz --steps 2000
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

import tinygrad_vae as tg
from tinygrad_vae import vae
from tinygrad_vae.vae import Objective

PIXELS, HIDDEN, LATENT, BATCH, PER_EPOCH = 784, (200, 200), 50, 20, 2500
RATE, EPSILON = 1e-3, 1e-4

OBJECTIVES = {
    "VAE": Objective("elbo"),
    "IWAE k=5": Objective("iwae", samples=5),
    "IWAE k=50": Objective("iwae", samples=50),
    "DReG k=50": Objective("dreg", samples=50),
}

Step = Callable[[np.ndarray, float], None]
"""One step up the bound of a batch, with a learning rate."""


@dataclass
class Contender:
    """A step, and the model as it stands."""

    step: Step
    model: Callable[[], tg.VAE]


def images_of(path: str, name: str) -> np.ndarray:
    """Return one array of images of the file, a byte for each pixel."""
    with np.load(path) as file:
        found = file[name]
    return np.unpackbits(found, axis=1)[:, :PIXELS] if found.shape[1] == PIXELS // 8 else found


def batches(images: np.ndarray, steps: int) -> Iterator[np.ndarray]:
    """Yield the images of each step, every one once before any comes again."""
    order, start = np.empty(0, int), 0
    for step in range(steps):
        if start + BATCH > len(order):
            order, start = tg.noise(1).at("order", step).permutation(len(images)), 0
        yield images[order[start : start + BATCH]].astype(np.float32)
        start += BATCH


def ours(model: tg.VAE, objective: Objective) -> Contender:
    """Return the library's step."""
    state = tg.optim.Adam(RATE).init(model)
    stream = tg.noise(2)

    def step(x: np.ndarray, rate: float) -> None:
        nonlocal model, state
        recorded = tg.wrap(model)
        loss = -tg.mean(objective(recorded, x, rng=stream))
        optimizer = tg.optim.Adam(rate, epsilon=EPSILON)
        model, state = optimizer.update(model, tg.gradients(loss, recorded), state)

    return Contender(step, lambda: model)


def in_torch(model: tg.VAE, objective: Objective) -> Contender:
    """Return the same step in PyTorch."""
    import torch
    from torch import nn

    torch.set_num_threads(1)
    torch.manual_seed(2)

    def trunk(*sizes: int) -> nn.Sequential:
        pairs = itertools.pairwise(sizes)
        return nn.Sequential(*(layer for n, m in pairs for layer in (nn.Linear(n, m), nn.Tanh())))

    net = nn.ModuleDict(
        {
            "encoder": trunk(PIXELS, *HIDDEN),
            "posterior": nn.ModuleDict({name: nn.Linear(HIDDEN[-1], LATENT) for name in ("mean", "log_variance")}),
            "decoder": trunk(LATENT, *reversed(HIDDEN)),
            "likelihood": nn.ModuleDict({"logits": nn.Linear(HIDDEN[0], PIXELS)}),
        }
    )
    net.load_state_dict({name: torch.from_numpy(array) for name, array in vae.to_state_dict(model).items()})
    optimizer = torch.optim.Adam(net.parameters(), lr=RATE, eps=EPSILON)
    k, doubly = objective.samples, objective.bound == "dreg"

    def step(images: np.ndarray, rate: float) -> None:
        x = torch.from_numpy(images)
        h = net["encoder"](x)
        mu, log_variance = net["posterior"]["mean"](h), net["posterior"]["log_variance"](h)
        sigma = torch.exp(0.5 * log_variance)
        z = mu + sigma * torch.randn(k, *mu.shape)
        logits = net["likelihood"]["logits"](net["decoder"](z))
        fit = -nn.functional.binary_cross_entropy_with_logits(logits, x.expand_as(logits), reduction="none").sum(-1)
        if objective.bound == "elbo":
            bound = (fit - 0.5 * (mu**2 + sigma**2 - 1 - log_variance).sum(-1)).mean(0)
        else:
            centre, width = (mu.detach(), sigma.detach()) if doubly else (mu, sigma)
            log_w = fit - 0.5 * (z**2).sum(-1) + (0.5 * ((z - centre) / width) ** 2 + torch.log(width)).sum(-1)
            if doubly:
                weights = torch.softmax(log_w.detach(), 0).unsqueeze(-1)
                z.register_hook(lambda g: weights * g)
            bound = torch.logsumexp(log_w, 0)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()
        (-bound.mean()).backward()
        optimizer.step()

    return Contender(step, lambda: vae.from_state_dict(model, {name: p.detach() for name, p in net.named_parameters()}))


def main() -> None:
    """Read the options, train, print the table line by line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="an .npz file with train and test")
    parser.add_argument("--steps", type=int, default=2000, help="steps of each run (default: 2000)")
    parser.add_argument("--images", type=int, default=1000, help="how many held-out images (default: 1000)")
    parser.add_argument("--draws", type=int, default=500, help="draws an image for the log-likelihood (default: 500)")
    parser.add_argument("--only", choices=list(OBJECTIVES), help="one objective instead of all")
    parser.add_argument("--no-torch", action="store_true", help="leave PyTorch out")
    options = parser.parse_args()

    train, test = images_of(options.data, "train"), images_of(options.data, "test")[: options.images]
    first = tg.VAE.init(PIXELS, hidden=HIDDEN, latent=LATENT, activation="tanh", rng=tg.noise(0))
    libraries = {"tinygrad_vae": ours} if options.no_torch else {"tinygrad_vae": ours, "PyTorch": in_torch}
    objectives = {options.only: OBJECTIVES[options.only]} if options.only else OBJECTIVES
    print(
        f"{options.steps} steps of {BATCH} images; {len(test)} held-out images, {options.draws} draws of each\n"
        f"{'objective':<12}{'library':<14}{'log-likelihood':>16}{'bound':>18}{'active':>8}{'effective':>11}"
        f"{'s an epoch':>12}"
    )
    for name, objective in objectives.items():
        for library, make in libraries.items():
            contender = make(first, objective)
            start = time.perf_counter()
            for i, x in enumerate(batches(train, options.steps)):
                contender.step(x, RATE * tg.optim.stages(i // PER_EPOCH))
            seconds = (time.perf_counter() - start) / options.steps * PER_EPOCH
            found = vae.evaluate(contender.model(), test, rng=tg.noise(3), samples=options.draws)
            print(
                f"{name:<12}{library:<14}"
                f"{found['log_likelihood']:>9.2f} +- {found['log_likelihood_standard_error']:.2f}"
                f"{found['bound']:>11.2f} +- {found['bound_standard_error']:.2f}"
                f"{found['active_units']:>8}{found['effective_samples']:>11.1f}{seconds:>12.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
