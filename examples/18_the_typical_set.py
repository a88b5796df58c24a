# %% [markdown]
# # 18. The typical set

# %% [markdown]
"""What does a decoder show where the noise never was?

Noise of many dimensions lies on a thin shell, far from its most likely point, and a decoder is trained on that shell
alone. Inside it pictures are grey and alike. Far outside they are sharp, and even the likeliest real image surprises
the decoder more than it expects.

Runs in about five seconds. Pictures: ``figures/18_the_typical_set.png`` and ``figures/18_the_typical_set_images.png``;
another folder may be named on the command line.
"""

# %% [markdown]
# The density of $z \sim N(0, I)$ in n dimensions is largest at 0. Yet where n is large, no draw is near 0. The squared
# length $|z|^2$ is a sum of n squares with mean 1 and variance 2, so it is n, give or take $\sqrt{2n}$. The length is
# then about $\sqrt n$, give or take 0.7, however large n is. There is little room near 0: a ball of half that radius
# has $2^{-n}$ of the volume. With $n = 2$ that is a quarter, and a fifth of the draws lie in it. With $n = 16$ it is
# one draw in a thousand.

# %%
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from scipy import stats

import tinygrad_vae as tg
from tinygrad_vae.app.data import load

plt.style.use("tinygrad_vae.course")
figures = Path(next((arg for arg in sys.argv[1:2] if not arg.startswith("-")), "figures"))
figures.mkdir(parents=True, exist_ok=True)

draws = 20_000
lengths = {}
print("   n   mean length (theory)          sd (theory)       share within half of sqrt(n)")
for n in (2, 16, 128):
    length = lengths[n] = np.sqrt((tg.noise(n).normal((draws, n)) ** 2).sum(axis=1))
    dist = stats.chi(n)
    inside = np.mean(length < np.sqrt(n) / 2)
    chance = dist.cdf(np.sqrt(n) / 2)
    print(
        f"  {n:3d}   {length.mean():7.4f} ({dist.mean():7.4f})   {length.std():12.4f} ({dist.std():.4f})"
        f"   {inside:12.5f} ({chance:.1e})"
    )
    assert abs(length.mean() - dist.mean()) < 4.5 * length.std() / np.sqrt(draws)
    assert abs(inside - chance) < 4.5 * np.sqrt(chance * (1 - chance) / draws)

# %% [markdown]
# ## A decoder, trained on the shell
#
# The model is that of lesson 17, with 16 latent numbers. In training the decoder sees draws from the encoder, and the
# encoder pays for every nat by which they differ from $N(0, I)$. So taken together the decoder sees points of about the
# length $\sqrt{16} = 4$. It has never been told anything about the rest.

# %%
images, _ = load("digits")
latent = 16
model = tg.VAE.init(64, hidden=(64,), latent=latent, rng=tg.noise(0))
adam = tg.optim.Adam(3e-3)
state = adam.init(model)
for step in range(700):
    rng = tg.noise(1).at(step)
    pixels = images.pixels[rng.permutation(len(images))[:100]]
    recorded = tg.wrap(model)
    loss = -tg.mean(tg.reparameterize(tg.elbo(recorded, pixels, rng=rng)))
    model, state = adam.update(model, tg.gradients(loss, recorded), state)

coded = model.encode(images.pixels).sample(rng=tg.noise(2))
squared = (coded**2).sum(axis=1)
print(f"\nmean squared length of the {len(images)} codes {squared.mean():.1f}; of noise {latent}")

# %% [markdown]
# ## Sure of itself
#
# Draw z from $N(0, \tau^2 I)$ and decode. How sure is the decoder of its picture, and how right? Two numbers, both in
# nats:
#
# - the *entropy* of $p(x|z)$: how surprising the decoder expects an image to be;
# - its *surprise*: $-\log p(x|z)$ of the image that surprises it least, among 500 images of the data.
#
# At 0 the decoder is unsure: it expects much surprise, and the likeliest image gives less. From there to the shell both
# numbers fall. Outside it extrapolates: the logits go on growing and the entropy goes on falling, but the surprise
# *rises*. It is smallest near the shell. From $\tau = 2$ on even the likeliest real image surprises the decoder more
# than it expects: it is sure and wrong. No training signal ever came from there to tell it so.

# %%


def mean_and_error(values):
    return values.mean(), values.std(ddof=1) / np.sqrt(len(values))


taus = np.array([0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])
e = tg.noise(3).normal((1000, latent), np.float32)
decoded = {tau: model.decode(np.float32(tau) * e) for tau in taus}


def surprise(dist):
    """Return -log p(x) of the image of the data that is likeliest under each distribution, in nats."""
    nats = [-dist.log_prob(image) for image in images.pixels[:500]]
    return np.min(nats, axis=0)


entropies = {tau: dist.entropy() for tau, dist in decoded.items()}
surprises = {tau: surprise(dist) for tau, dist in decoded.items()}
for tau, sign in ((1.0, 1), (6.0, -1)):
    margin, error = mean_and_error(sign * (entropies[tau] - surprises[tau]))
    assert margin > 4.5 * error
for tau in (0.0, 4.0):  # far inside and far outside, the surprise is larger than on the shell
    margin, error = mean_and_error(surprises[tau] - surprises[1.0])
    assert margin > 4.5 * error

# %% [markdown]
# ## Truncation
#
# With $\tau$ below 1, drawing from $N(0, \tau^2 I)$ is called truncation, and it makes pictures look better. It costs
# variety. Round each pixel to 0 or 1. *Distance*: in how many of its 64 pixels does a picture differ from the nearest
# image of the data? *Variety*: in how many pixels do two pictures differ? For the data themselves both are known.
#
# From $\tau = 1$ down to 0.25 the distance falls a little, and the variety by a quarter. At $\tau = 0$ one picture is
# left, that of $z = 0$. Its distance is one number and no mean: 4 here, and 2 or 3 in trainings from other seeds.


# %%
def differing(a, b):
    """Return in how many pixels each picture of a differs from each of b, all of 0 and 1."""
    return a @ (1 - b).T + (1 - a) @ b.T


distances, varieties = {}, {}
for tau, dist in decoded.items():
    pictures = np.round(dist.mean)
    distances[tau] = differing(pictures, images.pixels).min(axis=1)
    varieties[tau] = np.abs(pictures - np.roll(pictures, 1, axis=0)).sum(axis=1)

among_data = differing(images.pixels, images.pixels)
np.fill_diagonal(among_data, 64)
data_distance, data_variety = among_data.min(axis=1).mean(), among_data[~np.eye(len(images), dtype=bool)].mean()
print("\n   tau   entropy (nats)    surprise (nats)   distance (pixels)   variety (pixels)")
for tau in taus:
    columns = [mean_and_error(found[tau]) for found in (entropies, surprises, distances, varieties)]
    print(f"  {tau:4.2f} " + "  ".join(f"{mean:8.2f} +- {error:.2f} " for mean, error in columns))
print(f"  of the data themselves {'':24} {data_distance:.2f} {'':15} {data_variety:.2f}")

for found in (distances, varieties):  # truncated pictures are closer to the data, and to each other
    gain, error = mean_and_error(found[1.0] - found[0.25])
    assert gain > 4.5 * error

# %% [markdown]
# ## The pictures

# %% jupyter={"source_hidden": true}
figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 4.0))
for k, (n, length) in enumerate(lengths.items()):
    dist = stats.chi(n)
    grid = np.linspace(max(0, dist.mean() - 4), dist.mean() + 4, 200)
    left.plot(grid, dist.pdf(grid), color=f"C{k}")
    counts, edges = np.histogram(length, bins=np.arange(0, 16.1, 0.25))
    width = np.diff(edges)
    centres, seen = (edges[1:] + edges[:-1]) / 2, counts > 0
    error = np.sqrt(counts) / draws / width
    left.errorbar(centres[seen], (counts / draws / width)[seen], error[seen], fmt="o", color=f"C{k}", markersize=3)
    left.text(dist.mean(), dist.pdf(dist.mean()) + 0.05, f"$n = {n}$", color=f"C{k}", ha="center")
left.set_ylim(0, 0.72)
left.set_title("Noise lies on a shell")
left.set_xlabel("length $|z|$ of noise of $n$ dimensions")
left.set_ylabel("density")
curves = [
    (middle, entropies, "C4", "s", "entropy: how surprised\nit expects to be"),
    (middle, surprises, "C1", "X", "surprise at the\nlikeliest real image"),
    (right, varieties, "C0", "o", ""),
    (right, distances, "C2", "^", ""),
]
for axes, found, colour, marker, label in curves:
    values, errors = np.array([mean_and_error(found[tau]) for tau in taus]).T
    axes.errorbar(taus, values, errors, fmt=marker + "-", color=colour, label=label)
for axes in (middle, right):
    axes.axvspan(0.82, 1.18, color="#e3e9ee", linewidth=0, zorder=0)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("$\\tau$, where $z \\sim N(0, \\tau^2 I)$")
for reference, words, colour in (
    (data_variety, "two pictures", "C0"),
    (data_distance, "a picture and the nearest image", "C2"),
):
    right.axhline(reference, color=colour, linewidth=1, linestyle="--")
    right.text(6, reference + (0.35 if colour == "C0" else 1.2), words, ha="right", color=colour)
right.text(1.25, 9.3, "dashed: the data themselves", fontsize=9)
right.text(1.25, 8.1, "shaded: where it was trained", fontsize=9)
right.text(0.25, 1.2, "$\\tau = 0$: one picture", fontsize=9)
middle.legend(loc="upper right")
middle.set_title("Outside of the shell: sure and wrong")
middle.set_ylabel("nats per image")
right.set_title("Truncation: a little closer, and alike")
right.set_ylabel("pixels that differ, of 64")
right.set_ylim(0, 19)
figure.savefig(figures / "18_the_typical_set.png")

scales = [0.0, 0.5, 1.0, 2.0, 4.0]
directions = e[:10] / np.linalg.norm(e[:10], axis=1, keepdims=True) * np.float32(np.sqrt(latent))
figure, grid = plt.subplots(len(scales), 10, figsize=(9, 4.7))
for line, scale in zip(grid, scales, strict=True):
    for axes, picture in zip(line, model.decode(np.float32(scale) * directions).mean, strict=True):
        axes.imshow(picture.reshape(8, 8), cmap="gray_r", vmin=0, vmax=1)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
    where = {0.0: "the mode", 1.0: "on the shell"}.get(scale, "")
    label = f"$|z| = {scale * np.sqrt(latent):.0f}$" + (f"\n{where}" if where else "")
    line[0].set_ylabel(label, rotation=0, ha="right", va="center")
figure.suptitle("Ten directions, five lengths", x=0.01, ha="left")
figure.savefig(figures / "18_the_typical_set_images.png")
print(f"\nthe pictures are in {figures / '18_the_typical_set.png'} and {figures / '18_the_typical_set_images.png'}")

# %% [markdown]
# ## Predict, then run
#
# 1. You walk in a straight line from the code of a 3 to the code of an 8, both of length 4 in 16 dimensions. How long
#    is the vector halfway? What do you expect to see there?
# 2. How would you walk instead?
# 3. Somebody judges new images by $\log p(z)$ of their codes: the more probable, the more normal. What is the most
#    normal image by that measure?

# %% [markdown]
# ## Where to read on
#
# In the source: `generate` and `reconstruct` in `tinygrad_vae/vae/model.py`.
#
# In the literature:
#
# - Shannon 1948, theorem 3: nearly all messages are typical, and none is the likeliest
# - MacKay 2003, Information Theory, Inference, and Learning Algorithms, sections 4.4 and 29.1
# - Betancourt 2017, A Conceptual Introduction to Hamiltonian Monte Carlo, section 1
# - White 2016, Sampling Generative Networks: walk along the shell, not through it
# - Marchesi 2017; Brock, Donahue and Simonyan 2019: truncation
# - Nalisnick, Matsukawa, Teh and Lakshminarayanan 2019: likely is not typical
#
# ## Answers
#
# 1. Two codes are nearly at right angles, so the midpoint has the length $4/\sqrt2 = 2.8$: well inside the shell, where
#    pictures are grey. Part of what one takes for a blend of 3 and 8 is this.
# 2. Along the shell: shorten and lengthen so that the length stays, or turn from one direction into the other.
# 3. The picture of $z = 0$, which no draw is ever near. Likely is not typical.

# %% jupyter={"source_hidden": true}
pairs = tg.noise(12).normal((2, 20_000, latent))
halfway = np.linalg.norm(pairs.mean(axis=0), axis=1)
expected = stats.chi(latent).mean() / np.sqrt(2)
assert abs(halfway.mean() - expected) < 4.5 * halfway.std() / np.sqrt(20_000)
