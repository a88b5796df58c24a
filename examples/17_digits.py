# %% [markdown]
# # 17. Digits, with the trick and without it

# %% [markdown]
"""What does the trick buy on real images?

The same small model of handwritten digits is trained three times, with the same images in the same order and the same
noise; only the gradient of the encoder differs. Then many draws per image tell how far the bound lies below the
evidence.

Runs in about six seconds. Pictures: ``figures/17_digits.png`` and ``figures/17_digits_images.png``; another folder
may be named on the command line.
"""

# %% [markdown]
# 1797 digits of 8 x 8 pixels, 0 or 1. The encoder is a network of 64 hidden units that gives mean and log variance of 8
# latent numbers; the decoder is its mirror image, and gives each pixel a probability of being 1.

# %%
import itertools
import math
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import tinygrad_vae as tg
from tinygrad_vae.app.data import load

plt.style.use("tinygrad_vae.course")
figures = Path(next((arg for arg in sys.argv[1:2] if not arg.startswith("-")), "figures"))
figures.mkdir(parents=True, exist_ok=True)

images, held_out = load("digits")
print(f"{len(images)} images to train on, {len(held_out)} held out")

# %% [markdown]
# ## One loop, three gradients
#
# `tg.elbo` draws with `sample`, which blocks. Which rewrite is to open it is one word:
#
# - **pathwise**: the decoder tells the encoder in which direction to move z;
# - **score function**: the encoder hears how good a draw was, and makes good draws more probable. The bound of an image
#   is about -20 nats, good or bad, so nearly all it hears is a constant;
# - **with a baseline**: the mean of earlier bounds is taken off first. It is read before it is updated, so that it
#   knows nothing of the draw.


# %%
def pathwise(bound, baseline):
    return tg.reparameterize(bound)


def score_function(bound, baseline):
    return tg.score_function(bound)


def with_baseline(bound, baseline):
    return tg.score_function(bound, baseline)


def bounds_of(model):
    """Return the bound of each held-out image, always with the same noise."""
    return tg.elbo(model, held_out.pixels, rng=tg.noise(2), samples=5)


steps, batch, every = 400, 100, 25


def train(opened):
    model = tg.VAE.init(64, hidden=(64,), latent=8, rng=tg.noise(0))
    adam = tg.optim.Adam(3e-3)
    state = adam.init(model)
    baseline, curve = -30.0, [bounds_of(model)]
    for step in range(steps):
        rng = tg.noise(1).at(step)
        pixels = images.pixels[rng.permutation(len(images))[:batch]]
        recorded = tg.wrap(model)
        bound = tg.elbo(recorded, pixels, rng=rng)
        loss = -tg.mean(opened(bound, baseline))
        model, state = adam.update(model, tg.gradients(loss, recorded), state)
        baseline = 0.9 * baseline + 0.1 * float(bound.value.mean())
        if (step + 1) % every == 0:
            curve.append(bounds_of(model))
    return model, np.array(curve)


ESTIMATORS = {"pathwise": pathwise, "with a baseline": with_baseline, "score function": score_function}
trained = {name: train(opened) for name, opened in ESTIMATORS.items()}

# %% [markdown]
# ## How much better
#
# The three models meet the same held-out images with the same noise. So their bounds can be compared image by image,
# and most of the differences between images drop out of the standard error.

# %%


def mean_and_error(values):
    return values.mean(), values.std(ddof=1) / np.sqrt(len(values))


best = trained["pathwise"][1][-1]
print(f"held-out bound after {steps} steps, in nats per image")
for name, (_, curve) in trained.items():
    value, error = mean_and_error(curve[-1])
    behind, behind_error = mean_and_error(best - curve[-1])
    print(f"  {name:<16} {value:8.3f} +- {error:.3f}   behind pathwise by {behind:6.3f} +- {behind_error:.3f}")
    if name != "pathwise":
        assert behind > 4.5 * behind_error

# %% [markdown]
# ## The same gradient, measured
#
# Why? Here is the gradient of the bound in the biases of the encoder, at the end of training, over 200 draws for the
# same 100 images. The mean is the same, and the spread is not. The picture shows the bias with the largest gradient. (A
# hidden unit that is 0 for all images passes no gradient on, so a bias taken blindly may show nothing but zeros.)

# %%
model = trained["pathwise"][0]
pixels = held_out.pixels[:100]
gradients = {}
for name, opened in ESTIMATORS.items():
    rows = []
    for seed in range(200):
        recorded = tg.wrap(model)
        bound = tg.elbo(recorded, pixels, rng=tg.noise(3).at(seed))
        rows.append(tg.gradients(tg.mean(opened(bound, float(best.mean()))), recorded.encoder.layers[0].bias))
    gradients[name] = np.array(rows)  # one row for each draw, one column for each bias

largest = np.abs(gradients["pathwise"].mean(axis=0)).argmax()
print(f"\ngradient in bias {largest} of the encoder over 200 draws, and the standard deviation of all biases together")
for name, rows in gradients.items():
    value, error = mean_and_error(rows[:, largest])
    together = math.sqrt(rows.var(axis=0, ddof=1).sum())
    print(f"  {name:<16} {value:8.4f} +- {error:.4f}   all: {together:.4f}")
    assert error > 0
    if name != "pathwise":
        difference, difference_error = mean_and_error(rows[:, largest] - gradients["pathwise"][:, largest])
        assert abs(difference) < 4.5 * difference_error
spread = {name: math.sqrt(rows.var(axis=0, ddof=1).sum()) for name, rows in gradients.items()}
assert 0 < spread["pathwise"] < spread["with a baseline"] < spread["score function"]

# %% [markdown]
# ## Importance-weighted bounds
#
# Draw K times for each image, and weigh each draw with $w_k = p(x|z_k)\, p(z_k) / q(z_k|x)$. The mean of
#
# $$ \log \frac1K \sum_k w_k $$
#
# is a bound too. With $K = 1$ it is the one from above. It rises with K, and as K grows it comes to the evidence. How
# far it rises says how far q is from the posterior.

# %%
counts = [1, 2, 5, 10, 20, 50, 100, 200]
weighted = {}
print("\nimportance-weighted bound of the held-out images, in nats")
for name, (model, _) in trained.items():
    q, prior = model.encode(held_out.pixels), model.prior()
    z = q.sample((counts[-1],), rng=tg.noise(4))
    log_weights = model.decode(z).log_prob(held_out.pixels) + prior.log_prob(z) - q.log_prob(z)
    rows = []
    for k in counts:  # all groups of K draws among the 200
        groups = log_weights.reshape(-1, k, len(held_out))
        rows.append((tg.logsumexp(groups, axis=1) - math.log(k)).mean(axis=0))
    weighted[name] = np.array(rows)
    print(f"  {name:<16}" + "".join(f"  K = {k}: {row.mean():.2f}" for k, row in zip(counts, rows, strict=True)))
    for fewer, more in itertools.pairwise(rows):
        gain, error = mean_and_error(more - fewer)
        assert gain > -4.5 * error
    gain, error = mean_and_error(rows[-1] - rows[0])
    assert gain > 4.5 * error

# %% [markdown]
# ## The pictures

# %% jupyter={"source_hidden": true}
figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 4.0))
look = {"pathwise": ("C0", "o"), "with a baseline": ("C3", "D"), "score function": ("C1", "s")}
names = {"with a baseline": "score function with a baseline"}
for name, (_, curve) in trained.items():
    colour, marker = look[name]
    at = every * np.arange(len(curve))
    left.plot(at, curve.mean(axis=1), marker + "-", markevery=2, color=colour, label=names.get(name, name))
    rows = weighted[name]
    right.errorbar(
        counts, rows.mean(axis=1), rows.std(axis=1, ddof=1) / np.sqrt(rows.shape[1]), fmt=marker + "-", color=colour
    )
jitter = tg.noise(5).uniform((200,)) - 0.5
top = np.abs(gradients["score function"][:, largest]).max()
for k, (name, rows) in enumerate(gradients.items()):
    middle.plot(k + 0.5 * jitter, rows[:, largest], ".", color=look[name][0], markersize=3)
    label = f"sd {rows[:, largest].std(ddof=1):.2g}"
    middle.text(k, 1.08 * top, label, color=look[name][0], ha="center")
middle.set_xticks(range(3), ["pathwise", "with a\nbaseline", "score\nfunction"])
middle.set_ylim(top=1.25 * top)
middle.grid(axis="x", visible=False)
middle.set_title("The same gradient, 200 times")
middle.set_ylabel("gradient in a bias of the encoder (nats)")
left.set_ylim(-30, -19)
left.legend(loc="lower right")
left.set_title("Training")
left.set_xlabel(f"steps of {batch} images")
left.set_ylabel("held-out bound (nats per image)")
right.set_xscale("log")
right.set_title("Closer to the evidence: $K$ draws an image")
right.set_xlabel("draws $K$")
right.set_ylabel("importance-weighted bound (nats)")
figure.savefig(figures / "17_digits.png")

shown = [int(np.flatnonzero(held_out.labels == digit)[0]) for digit in range(10)]
rows = {"the image": held_out.pixels[shown]}
rows |= {names.get(name, name): model.reconstruct(held_out.pixels[shown]) for name, (model, _) in trained.items()}
figure, grid = plt.subplots(len(rows), 10, figsize=(9, 3.7))
for line, (name, pictures) in zip(grid, rows.items(), strict=True):
    for axes, picture in zip(line, pictures, strict=True):
        axes.imshow(picture.reshape(8, 8), cmap="gray_r", vmin=0, vmax=1)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
    line[0].set_ylabel(name.replace(" with", "\nwith"), rotation=0, ha="right", va="center")
figure.suptitle("Through eight numbers and back", x=0.01, ha="left")
figure.savefig(figures / "17_digits_images.png")
print(f"\nthe pictures are in {figures / '17_digits.png'} and {figures / '17_digits_images.png'}")

# %% [markdown]
# ## Predict, then run
#
# 1. Give the score function without a baseline a bound that is 20 nats higher, by counting every pixel's noise out. The
#    model is the same. Does the gradient scatter more or less?
# 2. Which part of the model has the same gradient in all three trainings, at the same weights and noise?
# 3. The score function is behind by some nats after 400 steps. Is that a matter of time?

# %% [markdown]
# ## Where to read on
#
# In the source: `tinygrad_vae/vae/model.py`, `bounds.py` and `evaluate.py`, then `tinygrad_vae/app/loop.py`, the
# loop with checkpoints. `tinygrad-vae train` runs it.
#
# In the literature:
#
# - Dayan, Hinton, Neal and Zemel 1995, The Helmholtz Machine; Hinton et al. 1995: encoders before the trick
# - Mnih and Gregor 2014, Neural Variational Inference and Learning: the score function, with baselines, on this bound
# - Kingma and Welling 2014; Rezende, Mohamed and Wierstra 2014: the trick
# - Burda, Grosse and Salakhutdinov 2016, Importance Weighted Autoencoders
# - Rainforth et al. 2018, Tighter Variational Bounds Are Not Necessarily Better
#
# ## Answers
#
# 1. Less: the bound is then near 0, and a constant that is near 0 adds little noise. This is what the baseline does.
# 2. The decoder. It stands behind the draw, between z and the bound, and every estimator lets its gradient through.
# 3. With the same learning rate, partly. The noise of the gradient sets a floor for the bound as well. Try 4000 steps,
#    and then a tenth of the learning rate.

# %% jupyter={"source_hidden": true}
recorded = tg.wrap(model)
bound = tg.elbo(recorded, pixels, rng=tg.noise(6))
decoders = [tg.gradients(tg.mean(opened(bound, 0.0)), recorded).decoder for opened in ESTIMATORS.values()]
first, *others = map(tg.trees.leaves, decoders)
for other in others:
    assert all(np.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in zip(first, other, strict=True))
spreads = []
for shift in (0.0, 20.0):
    rows = []
    for seed in range(30):
        recorded = tg.wrap(model)
        bound = tg.elbo(recorded, pixels, rng=tg.noise(7).at(seed)) + shift
        rows.append(tg.gradients(tg.mean(tg.score_function(bound)), recorded.encoder.layers[0].bias))
    spreads.append(np.var(rows, axis=0).sum())
assert spreads[0] > 4 * spreads[1] > 0
