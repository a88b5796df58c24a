# %% [markdown]
# # 21. Declarations of one page

# %% [markdown]
"""How much code is a paper?

Often a page: a distribution, a prior, a model or an estimator is one declaration, and the rest is a loop that fits any
of them. RealNVP, VampPrior, a VAE of two levels and VQ-VAE, each with a check that an exact answer passes. ReinMax is
left to you.

Runs in about nine seconds. Picture: ``figures/21_declarations_of_one_page.png``; another folder may be named on the
command line.
"""

# %%
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from scipy import special

import tinygrad_vae as tg
from tinygrad_vae.app.data import load
from tinygrad_vae.core import NORMAL
from tinygrad_vae.domains import REAL
from tinygrad_vae.nn import MLP, Layer

plt.style.use("tinygrad_vae.course")
figures = Path(next((arg for arg in sys.argv[1:2] if not arg.startswith("-")), "figures"))
figures.mkdir(parents=True, exist_ok=True)


def mean_and_error(x):
    return x.mean(axis=0), x.std(axis=0, ddof=1) / np.sqrt(len(x))


# %% [markdown]
# ## One loop for all of them
#
# A model is a tree of arrays: a dataclass, a dict, or both. So one loop trains them all, in steps that get smaller.

# %%


def fit(model, loss, steps, rate=0.01):
    """Return the model after some steps of Adam on ``loss(model, rng)``."""
    state = tg.optim.Adam().init(model)
    for step in range(steps):
        recorded = tg.wrap(model)
        gradient = tg.gradients(loss(recorded, tg.noise(1).at(step)), recorded)
        model, state = tg.optim.Adam(rate * (1 - step / steps)).update(model, gradient, state)
    return model


# %% [markdown]
# ## RealNVP
#
# Take noise in pairs $(u, v)$. A *coupling* keeps $u$ and moves $v$ to $v\, e^{t(u)} + m(u)$. Whatever the network
# says for $t$ and $m$, that can be undone, and the volume grows by $e^{t(u)}$. Swap the two and do it again. So we can
# draw, and we know the density of each draw:
#
# $$\log p(x) = \log N(u, v) - \sum t.$$
#
# As a distribution of the library that is a transform of noise, a log-density, and the words for what they take. Then
# it can be drawn from, reparameterized, and used for a posterior. Dinh, Sohl-Dickstein and Bengio 2017.

# %%


@dataclass(frozen=True, eq=False)
class RealNVP(tg.Distribution):
    """Pairs of numbers, made of two normal ones by a chain of couplings."""

    nets: tuple[MLP, ...]
    support = REAL
    noise_distribution = NORMAL
    event_shape = (2,)

    def transform(self, noise):
        u, v = noise[..., :1], noise[..., 1:]
        for net in self.nets:
            h = net(u)
            u, v = v * tg.exp(tg.tanh(h[..., :1])) + h[..., 1:], u
        return tg.concat([u, v], axis=-1)

    def log_density(self, x):
        u, v, volume = x[..., :1], x[..., 1:], 0.0
        for net in reversed(self.nets):
            h = net(v)
            stretch = tg.tanh(h[..., :1])
            u, v = v, (u - h[..., 1:]) * tg.exp(-stretch)
            volume = volume + stretch[..., 0]
        return tg.sum(tg.Normal(0.0, 1.0).log_prob(tg.concat([u, v], axis=-1)), axis=-1) - volume


def moons(n, rng):
    angle, upper = np.pi * rng.uniform((n,)), rng.uniform((n,)) < 0.5
    x = np.where(upper, np.cos(angle), 1 - np.cos(angle))
    y = np.where(upper, np.sin(angle), 0.5 - np.sin(angle))
    return np.stack([x, y], axis=1) + 0.1 * rng.normal((n, 2))


nets = [MLP.init((1, 16, 16, 2), rng=tg.noise(0).at(layer), dtype=np.float64) for layer in range(6)]
flow = fit(RealNVP(tuple(nets)), lambda flow, rng: -tg.mean(flow.log_prob(moons(128, rng))), 400)

# %% [markdown]
# Two exact answers. The density integrates to 1. And it is the density of the noise over the volume that the transform
# gives it, which is the determinant of a Jacobian that nobody had to write down.

# %%
line = np.linspace(-6, 7, 521)
square = np.stack(np.meshgrid(line, line), axis=-1)
density = np.exp(flow.log_prob(square))
integral = density.sum() * (line[1] - line[0]) ** 2
noise = tg.noise(2).normal((5, 2))
volumes = [np.log(abs(np.linalg.det(tg.jacobian(flow.transform)(pair)))) for pair in noise]
by_hand = tg.sum(tg.Normal(0.0, 1.0).log_prob(noise), axis=1) - volumes
mean, error = mean_and_error(flow.log_prob(moons(5000, tg.noise(3))))
print(f"RealNVP: the density integrates to {integral:.4f}; {mean:.3f} +- {error:.3f} nats on new moons")
assert abs(integral - 1) < 1e-3
assert np.allclose(flow.log_prob(flow.transform(noise)), by_hand, rtol=1e-10)
assert mean > -1.3  # one bell curve of the right mean and covariance has -1.9

# %% [markdown]
# ## VampPrior
#
# A variational autoencoder pays for the distance of its codes from the prior. So let the prior be where the codes are:
# the mean of the encoder's answers to $K$ images, and let these images be learned too.
#
# $$p(z) = \frac{1}{K} \sum_k q(z \mid u_k).$$
#
# `tg.elbo` takes anything that can `encode`, `decode` and has a `prior`. Tomczak and Welling 2018.

# %%


@dataclass(frozen=True, eq=False)
class Vamp(Layer):
    """A variational autoencoder whose prior is the mean of its posteriors of some images."""

    vae: tg.VAE
    pseudo: object  # the logits of the pixels of the images, of shape (K, pixels)

    def encode(self, x):
        return self.vae.encode(x)

    def decode(self, z):
        return self.vae.decode(z)

    def prior(self):
        return tg.MixtureSameFamily(np.zeros(len(self.pseudo), np.float32), self.encode(tg.sigmoid(self.pseudo)))


train, test = load("digits")


def batch(rng):
    return train.pixels[rng.permutation(len(train))[:100]]


def loss_of_vae(model, rng):
    return -tg.mean(tg.reparameterize(tg.elbo(model, batch(rng), rng=rng)))


vae = tg.VAE.init(64, hidden=(64,), latent=8, rng=tg.noise(0))
plain = fit(vae, loss_of_vae, 300)
vamp = fit(Vamp(vae, 4 * batch(tg.noise(4))[:20] - 2), loss_of_vae, 300)


def costs_of(model, prior, images):
    """Return what the code of each image costs under a prior, in nats: the mean of log q(z|x) - log p(z)."""
    q = model.encode(images)
    z = q.sample((200,), rng=tg.noise(5))
    return mean_and_error((q.log_prob(z) - prior.log_prob(z)).mean(axis=1))


before, after = (tg.elbo(model, test.pixels, rng=tg.noise(6), samples=20) for model in (plain, vamp))
gain, error = mean_and_error(after - before)
(own, own_error), (other, other_error) = (costs_of(vamp, prior, test.pixels) for prior in (vamp.prior(), plain.prior()))
print(f"VampPrior: a code costs {own:.2f} +- {own_error:.2f} nats; under N(0, I) it would cost {other:.2f}")
print(f"  the bound of new images is {gain:.2f} +- {error:.2f} nats better than without")
assert own + 4.5 * own_error < other - 4.5 * other_error

# %% [markdown]
# The exact answer: take 20 images of the data for the $u_k$. The codes of these 20 images then cost at most $\log 20$,
# since all that a code can say is which of the 20 it was. Under $N(0, I)$ the same codes cost more.

# %%
twenty = train.pixels[:20]
by_twenty = Vamp(plain, 16 * (twenty - np.float32(0.5))).prior()
for name, prior in {"their own prior": by_twenty, "N(0, I)": plain.prior()}.items():
    mean, error = costs_of(plain, prior, twenty)
    print(f"  20 codes under {name}: {mean:.3f} +- {error:.3f} nats; log 20 = {np.log(20):.3f}")
    assert (mean < np.log(20) - 4.5 * error) == (name == "their own prior")

# %% [markdown]
# ## Two levels
#
# Let $z_2$ say what is written, and $z_1$ how. The decoder goes down, $z_2 \to z_1 \to x$, and the encoder goes up,
# $x \to z_1 \to z_2$. The bound is the log-density of the way down, less the log-density of the two draws on the way
# up. One draw depends on the other; nothing else is new.

# %%


def two_levels(model, x, rng):
    """Return the bound of each x, with one draw."""
    q1 = model["x to z1"](x)
    z1 = q1.sample(rng=rng, name="z1")
    q2 = model["z1 to z2"](z1)
    z2 = q2.sample(rng=rng, name="z2")
    top = tg.sum(tg.Normal(0.0, 1.0).log_prob(z2), axis=-1)
    down = top + model["z2 to z1"](z2).log_prob(z1) + model["z1 to x"](z1).log_prob(x)
    return down - q1.log_prob(z1) - q2.log_prob(z2)


def normal(loc, scale):
    return tg.Independent(tg.Normal(loc, scale), 1)


# %% [markdown]
# The exact answer: let $z_2 \sim N(0, 1)$, $z_1 \sim N(z_2, 1)$ and $x \sim N(z_1, 1/2)$. Then $x \sim N(0, 5/2)$, and
# both posteriors are known. At the true posteriors the bound is the evidence, and for *every* draw.

# %%
linear = {
    "x to z1": lambda x: normal(0.8 * x, np.sqrt(0.4)),
    "z1 to z2": lambda z: normal(0.5 * z, np.sqrt(0.5)),
    "z2 to z1": lambda z: normal(z, 1.0),
    "z1 to x": lambda z: normal(z, np.sqrt(0.5)),
}
x = tg.noise(7).normal((5, 1))
assert np.allclose(two_levels(linear, x, tg.noise(8)), tg.Normal(0.0, np.sqrt(2.5)).log_prob(x[:, 0]), rtol=1e-12)

# %% [markdown]
# And the same function with networks, on digits:

# %%


@dataclass(frozen=True, eq=False)
class Gaussian(Layer):
    """A network that ends in a bell curve for each number."""

    net: MLP

    def __call__(self, x):
        h = self.net(x)
        n = h.shape[-1] // 2
        return normal(h[..., :n], tg.softplus(h[..., n:]) + 0.01)


@dataclass(frozen=True, eq=False)
class Pixels(Layer):
    """A network that ends in a toss for each pixel."""

    net: MLP

    def __call__(self, z):
        return tg.Independent(tg.Bernoulli(logits=self.net(z)), 1)


def net(*sizes):
    return MLP.init(sizes, rng=tg.noise(9).at(*sizes), activation="tanh")


two = {
    "x to z1": Gaussian(net(64, 64, 16)),
    "z1 to z2": Gaussian(net(8, 64, 8)),
    "z2 to z1": Gaussian(net(4, 64, 16)),
    "z1 to x": Pixels(net(8, 64, 64)),
}
two = fit(two, lambda two, rng: -tg.mean(tg.reparameterize(two_levels(two, batch(rng), rng))), 500)
mean, error = mean_and_error(np.mean([two_levels(two, test.pixels, tg.noise(seed)) for seed in range(20)], axis=0))
print(f"two levels: bound {mean:.2f} +- {error:.2f} nats; one level {before.mean():.2f}")

# %% [markdown]
# ## VQ-VAE
#
# A code is a word out of a *book* of 16: the nearest to what the encoder says. Four words an image are 16 bits. To be
# nearest is a jump, and no draw. The paper lets the gradient go straight through it, as if the word were the encoder's
# answer: `tg.surrogate(word, answer)` has the value of the one and the derivative of the other. Two more terms pull
# word and answer together. van den Oord, Vinyals and Kavukcuoglu 2017.

# %%


def words_of(vq, x):
    """Return the encoder's answers and the nearest words, of shape (images, 4, 4), and the numbers of the words."""
    answer = tg.reshape(vq["encoder"](x), (len(x), 4, 4))
    distance = tg.sum(tg.square(answer[:, :, None] - vq["book"]), axis=-1)
    number = tg.argmin(distance, axis=-1)
    return answer, tg.take(vq["book"], number, axis=0), number


def decoded(vq, words):
    return tg.Independent(tg.Bernoulli(logits=vq["decoder"](tg.reshape(words, (len(words), 16)))), 1)


def loss_of_vq(vq, x):
    answer, word, _ = words_of(vq, x)
    fit = decoded(vq, tg.surrogate(word, answer)).log_prob(x)
    book = tg.square(tg.stop_gradient(answer) - word)
    commitment = tg.square(answer - tg.stop_gradient(word))
    return tg.mean(tg.sum(book + commitment / 4, axis=(1, 2)) - fit)


vq = {"encoder": net(64, 64, 16), "book": tg.noise(10).normal((16, 4), np.float32), "decoder": net(16, 64, 64)}
vq = fit(vq, lambda vq, rng: loss_of_vq(vq, batch(rng)), 300)
_, word, number = words_of(vq, test.pixels)
mean, error = mean_and_error(-decoded(vq, word).log_prob(test.pixels))
print(f"VQ-VAE: {len(np.unique(number))} of 16 words in use; 16 bits, then {mean:.2f} +- {error:.2f} nats an image")

# %% [markdown]
# ## Its bias, said
#
# Straight through is the gradient of something else. The smallest VQ-VAE shows of what. The book is $\{-1, +1\}$, the
# answer is $e = \mu + x$ with data $x \sim N(0, 1)$, and the cost is $(\text{word} - t)^2$. With $\Phi$ for the cdf
# and $\varphi$ for the density of the bell curve, the mean word is $2 \Phi(\mu) - 1$, and
#
# $$\frac{d}{d\mu} E = -4 t\, \varphi(\mu), \qquad \text{straight through: } 2\, (2 \Phi(\mu) - 1 - t).$$
#
# At $\mu = 1$ and $t = 1/2$ they have opposite signs.

# %%
mu, t = 1.0, 0.5
answer = tg.Tensor(mu + tg.noise(11).normal((100_000,)), "answer")
slopes = tg.gradients(tg.sum(tg.square(tg.surrogate(tg.sign(answer.value), answer) - t)), answer)
mean, error = mean_and_error(slopes)
truth, straight = -4 * t * np.exp(-(mu**2) / 2) / np.sqrt(2 * np.pi), 2 * (2 * special.ndtr(mu) - 1 - t)
print(f"  straight through {mean:.4f} +- {error:.4f}, expected {straight:.4f}; the truth is {truth:.4f}")
assert abs(mean - straight) < 4.5 * error
assert truth < 0 < mean - 4.5 * error

# %% [markdown]
# If the answer is a draw of the graph, `tg.path_and_boundary` (lesson 12) adds the jump of the cost where the nearest
# word changes. That is the truth, in every draw.

# %%
means = tg.Tensor(np.full(5, mu), "mu")
answer = tg.Normal(means, 1.0).sample(rng=tg.noise(11))
nearest = tg.where(answer > 0, 1.0, -1.0)
repaired = tg.gradients(tg.sum(tg.path_and_boundary(tg.square(nearest - t))), means)
print(f"  path and boundary {repaired.round(4)}")
assert np.allclose(repaired, truth, rtol=1e-9)

# %% [markdown]
# ## The picture

# %% jupyter={"source_hidden": true}


def sheet(images, columns):
    """Return images side by side, from left to right and from top to bottom."""
    grid = np.reshape(images, (-1, columns, 8, 8))
    return np.pad(grid, ((0, 0), (0, 0), (0, 1), (0, 1))).transpose(0, 2, 1, 3).reshape(-1, 9 * columns)[:-1, :-1]


figure, axes = plt.subplots(2, 2, figsize=(9.6, 7.4))
(moon, pseudo), (levels, codes) = axes

near = slice(np.searchsorted(line, -1.8), np.searchsorted(line, 2.8))
moon.imshow(density[near, near], origin="lower", extent=(-1.8, 2.8, -1.8, 2.8), cmap="Blues")
moon.plot(*moons(300, tg.noise(12)).T, ".", color="#22303c", markersize=2)
moon.set_xlim(-1.5, 2.5)
moon.set_ylim(-1.2, 1.7)
moon.grid(visible=False)
moon.set_title("RealNVP: density, and data (dots)")

pseudo.imshow(sheet(1 / (1 + np.exp(-vamp.pseudo)), 5), cmap="gray_r")
pseudo.set_title("VampPrior: the images that the prior is made of")

seen = test.pixels[[2, 3, 5, 8]]
z1 = two["x to z1"](seen).mean
z1 = two["z2 to z1"](two["z1 to z2"](z1).mean).sample((4,), rng=tg.noise(13))
levels.imshow(sheet(np.concatenate([seen[:, None], two["z1 to x"](z1).mean.swapaxes(0, 1)], axis=1), 5), cmap="gray_r")
levels.set_title("Two levels: an image, and four draws from its $z_2$")

pairs = np.concatenate([test.pixels[:10].reshape(2, 5, 64), decoded(vq, word).mean[:10].reshape(2, 5, 64)], axis=1)
codes.imshow(sheet(pairs, 5), cmap="gray_r")
codes.set_title("VQ-VAE: images, and each from four words below")
for each in axes.flat[1:]:
    each.set_axis_off()
figure.savefig(figures / "21_declarations_of_one_page.png")
print(f"\nthe picture is in {figures / '21_declarations_of_one_page.png'}")

# %% [markdown]
# ## Predict, then run
#
# 1. ReinMax is a better way straight through. Let $b$ be a one-hot draw with the probabilities
#    $p = \text{softmax}(l)$, and $h = (p + b) / 2$ the place half-way between the two. Backwards, straight-through puts
#    the derivative of $\text{softmax}(l)$ in the place of the draw's. ReinMax puts twice the derivative of
#    $\text{softmax}(\log h + l - \text{stop}(l))$ there, less half of straight-through's. Declare it. For which costs
#    is it exact: linear, quadratic, cubic?
# 2. Leave out the swap of $u$ and $v$ in `RealNVP`. Does the density still integrate to 1? Does it still fit?
# 3. Give both autoencoders `latent=4`. Does the VampPrior still gain?

# %% [markdown]
# ## Where to read on
#
# In the source: `tinygrad_vae/vae/bounds.py`, which takes any model that encodes and decodes,
# `tinygrad_vae/distributions/distribution.py`, what a distribution declares, and `tinygrad_vae/estimators/relaxed.py`,
# where straight-through is ten lines.
#
# In the literature:
#
# - Dinh, Sohl-Dickstein and Bengio 2017, Density Estimation Using Real NVP
# - Tomczak and Welling 2018, VAE with a VampPrior; Hoffman and Johnson 2016, ELBO Surgery: the best prior there is
# - Rezende, Mohamed and Wierstra 2014; Sønderby et al. 2016, Ladder Variational Autoencoders: several levels
# - van den Oord, Vinyals and Kavukcuoglu 2017, Neural Discrete Representation Learning
# - Bengio, Léonard and Courville 2013: straight through
# - Liu, Dong, Liu, Yu and Gao 2023, Bridging Discrete and Backpropagation: ReinMax
#
# ## Answers
#
# 1. Below. It is exact for linear and quadratic costs. A difference of costs is what counts, and a quadratic cost's is
#    the mean of the slopes at both ends, times the distance: the trapezoidal rule.
# 2. It integrates to 1, whatever the networks say. But $u$ stays a bell curve, and the fit is -1.75 nats in place
#    of -1.18: for each $u$ one bell curve of $v$, where the moons have two arms.
# 3. No: the bound is 0.24 +- 0.14 nats worse. With four numbers there is less room between the codes, and so less to
#    gain: under N(0, I) a code would cost 7 nats, and not 12.
#
# Answer 1 as code:

# %% jupyter={"source_hidden": true}


class ReinMax(tg.StraightThrough):
    """The draw forwards; backwards, twice the softmax half-way between draw and mean, less half of the mean."""

    name = "reinmax"
    biased = "the mean of two slopes stands for a difference of costs: exact for quadratic costs only"

    def objection(self, z, cost):
        return None if isinstance(z.dist, tg.OneHotCategorical) else "it takes one-hot draws"

    def apply(self, z, cost, rest):
        logits = z.dist.logits
        mean = tg.softmax(logits)
        half_way = tg.log(tg.stop_gradient((mean + z) / 2))
        there = tg.softmax(half_way + logits - tg.stop_gradient(logits))
        return rest(self.noted(tg.surrogate(z, 2 * there - mean / 2), z))


logits, worth = np.array([0.5, -1.0, 0.2]), np.array([1.0, -0.5, 2.0])
p = np.exp(logits) / np.exp(logits).sum()
copies = tg.Tensor(np.tile(logits, (50_000, 1)), "logits")
b = tg.OneHotCategorical(logits=copies).sample(rng=tg.noise(15), name="b")
print("\nE (b @ worth - 0.45)^n: the gradient in the second logit")
for n in (1, 2, 3):
    costs = (worth - 0.45) ** n
    truth = p * (costs - p @ costs)
    print(f"  n = {n}   truth {truth[1]:8.4f}", end="")
    for estimator, exact_to in ((tg.StraightThrough(), 1), (ReinMax(), 2)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", tg.BiasedGradientWarning)
            slopes = tg.gradients(tg.sum(estimator((b @ worth - 0.45) ** n)), copies)
        mean, error = mean_and_error(slopes)
        print(f"   {estimator.name} {mean[1]:8.4f} +- {error[1]:.4f}", end="")
        assert np.all(abs(mean - truth) < 4.5 * error + 1e-12) == (n <= exact_to)
    print()
