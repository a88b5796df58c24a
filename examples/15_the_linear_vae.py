# %% [markdown]
# # 15. The linear Gaussian VAE

# %% [markdown]
"""What goes wrong in a variational autoencoder whose gradient is cut at the draw, and why does nobody notice?

In the smallest one, where everything is known in closed form, the cut gradient trains on without a complaint, and its
code comes to say nothing about the data: posterior collapse. The repaired gradient finds the exact posterior.

Runs in about two seconds. Picture: ``figures/15_the_linear_vae.png``; another folder may be named on the command line.
"""

# %% [markdown]
# The model has a hidden $z \sim N(0, 1)$, and we see $x \sim N(wz, s_2)$ with $w = 1.5$ and the variance $s_2 = 0.25$.
# Given x, what was z? For this model the answer is known. The logarithm of $p(z)\, p(x|z)$ is a parabola in z,
# $-\frac12 z^2 - \frac{1}{2 s_2}(x - wz)^2$, so the posterior is a bell curve. Its curvature $1 + w^2/s_2$ gives the
# variance, and its peak gives the mean:
#
# $$ p(z|x) = N(slope \cdot x,\, sd^2), \qquad slope = \frac{w}{w^2 + s_2} = 0.6, \qquad
#    sd = \sqrt{\frac{s_2}{w^2 + s_2}} = 0.3162. $$
#
# We let an encoder $q(z|x) = N(ax, \sigma^2)$ find it, by climbing the evidence lower bound of lesson 14,
#
# $$ E_q[\log p(x|z)] - KL(q(z|x)\,\|\,N(0, 1)) \;\le\; \log p(x). $$
#
# The second term is the rate: how much the code says about x, in nats.

# %%
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import tinygrad_vae as tg

plt.style.use("tinygrad_vae.course")
figures = Path(next((arg for arg in sys.argv[1:2] if not arg.startswith("-")), "figures"))
figures.mkdir(parents=True, exist_ok=True)

w, s2 = 1.5, 0.25
slope, sd = w / (w**2 + s2), np.sqrt(s2 / (w**2 + s2))

# %% [markdown]
# ## The bound, in four lines
#
# `encoder` holds a and log sigma. Called on arrays, `bound` computes; called on Tensors, it records.

# %%


def bound(encoder, x, rng):
    """Return the bound of each x, of the shape of x."""
    q = tg.Normal(encoder["a"] * x, tg.exp(encoder["log_sigma"]) + 0.0 * x)
    z = q.sample(rng=rng, name="z")
    return tg.Normal(w * z, np.sqrt(s2)).log_prob(x) - tg.kl_divergence(q, tg.Normal(0.0, 1.0))


def data(rng, shape):
    z = tg.Normal(0.0, 1.0).sample(shape, rng=rng)
    return tg.Normal(w * z, np.sqrt(s2)).sample(rng=rng)


# %% [markdown]
# ## What the library says
#
# `a` and `log_sigma` reach the bound in two ways: through the draw, and through the divergence. Only the first is
# blocked. That is the dangerous case, *partly cut*: there is a gradient, but it is not the gradient of the bound.

# %%
encoder = tg.wrap({"a": np.array(0.3), "log_sigma": np.array(-0.5)})
x = data(tg.noise(0), (5,))
objective = tg.mean(bound(encoder, x, tg.noise(1)))
print(tg.explain(objective, encoder))
try:
    tg.gradients(objective, encoder)
    raise AssertionError("a partly cut gradient was handed out")
except tg.BlockedGradientError:
    print("gradients(...) refuses\n")

# %% [markdown]
# ## Train twice
#
# Once reparameterized, once with the draw taken for a constant, as most frameworks do without a word. Ten encoders
# train side by side in one array, so that the spread between them says how sure the result is.


# %%
def cut(objective):
    """Take every draw for a constant, which is what sampling means where nothing is recorded."""
    return tg.rewrite(objective, lambda node, inputs: tg.Tensor(node.value) if isinstance(node, tg.Sample) else None)


def train(estimator, steps=600, encoders=10, batch=100):
    parameters = {"a": np.full((encoders, 1), 0.3), "log_sigma": np.full((encoders, 1), -0.5)}
    history = []
    for step in range(steps):
        rng = tg.noise(2).at(step)
        x = data(rng, (encoders, batch))
        recorded = tg.wrap(parameters)
        objective = estimator(tg.sum(tg.mean(bound(recorded, x, rng), axis=1)))
        optimizer = tg.optim.SGD(0.05 / (1 + step / 60))
        loss_gradient = tg.gradients(-objective, recorded)
        parameters, _ = optimizer.update(parameters, loss_gradient, {})
        history.append([parameters["a"][:, 0], np.exp(parameters["log_sigma"][:, 0])])
    return np.array(history)  # step, (a, sigma), encoder


histories = {"reparameterized": train(tg.reparameterize), "cut": train(cut)}

# %% [markdown]
# ## What they found
#
# If the draw is a constant, only the divergence from the prior is left to train the encoder. It is smallest, namely 0,
# where the encoder ignores x: $a = 0$, $\sigma = 1$. Everything converged, nothing diverged, and the code is empty.
# This is called **posterior collapse**.
#
# How much the code says about x is the rate, the mean divergence from the prior. At the posterior it is the mutual
# information of x and z, $\frac12 \log\frac{w^2 + s_2}{s_2} = 1.1513$ nats. The bound lies below the evidence by
# exactly $KL(q\,\|\,posterior)$. Both are in closed form, so that no draw blurs the picture.

# %%
variance_of_x = w**2 + s2
evidence = -0.5 * np.log(2 * np.pi * np.e * variance_of_x)  # the mean of log p(x)
information = 0.5 * np.log(variance_of_x / s2)


def rate_of(a, sigma):
    return (sigma**2 + a**2 * variance_of_x - 1) / 2 - np.log(sigma)


def bound_of(a, sigma):
    gap = np.log(sd / sigma) + (sigma**2 + (a - slope) ** 2 * variance_of_x) / (2 * sd**2) - 0.5
    return evidence - gap


for name, history in histories.items():
    a, sigma = history[-1]
    print(f"{name}: bound {bound_of(a, sigma).mean():.4f} nats, rate {rate_of(a, sigma).mean():.4f} nats")
    for what, final, expected in (("a", a, slope), ("sigma", sigma, sd)):
        error = final.std(ddof=1) / np.sqrt(len(final))
        print(f"  {what:<6} {final.mean():.4f} +- {error:.4f}   the posterior's is {expected:.4f}")
        if name == "reparameterized":
            assert abs(final.mean() - expected) < 4.5 * error
        else:
            assert abs(final.mean() - expected) > 100 * error
print(f"evidence {evidence:.4f} nats, information {information:.4f} nats")
assert rate_of(*histories["cut"][-1]).max() < 1e-4 * information  # the code is empty
assert bound_of(*histories["cut"][-1]).max() < evidence - 5  # and costs more than five nats

# %% [markdown]
# ## The picture

# %% jupyter={"source_hidden": true}
figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 4.0))
steps = np.arange(1, 601)
for name, colour in (("cut", "C1"), ("reparameterized", "C0")):
    a, sigma = histories[name].transpose(1, 0, 2)
    left.plot(steps, a.mean(axis=1), color=colour)
    left.plot(steps, sigma.mean(axis=1), color=colour, linestyle="--")
    middle.plot(steps, bound_of(a, sigma).mean(axis=1), color=colour, label=name)
for value, what in ((slope, "slope"), (sd, "sd")):
    left.axhline(value, color="#22303c", linewidth=1)
    left.text(600, value + 0.012, f"{what} of the posterior", ha="right", va="bottom")
left.text(600, 0.03, "$a$, cut", color="C1", ha="right")
left.text(600, 0.94, "$\\sigma$, cut", color="C1", ha="right")
left.text(600, slope - 0.055, "$a$, reparameterized", color="C0", ha="right")
left.text(600, sd - 0.055, "$\\sigma$, reparameterized", color="C0", ha="right")
left.set_xscale("log")
left.set_title("The encoder $q(z\\mid x) = N(a x, \\sigma^2)$")
left.set_xlabel("steps")
left.set_ylabel("$a$ (solid) and $\\sigma$ (dashed)")

middle.axhline(evidence, color="#22303c", linewidth=1)
middle.text(1, evidence + 0.25, "evidence, $\\log p(x)$")
middle.text(600, bound_of(*histories["cut"][-1]).mean() + 0.3, "cut", color="C1", ha="right")
middle.text(600, evidence - 0.65, "reparameterized", color="C0", ha="right")
middle.set_xscale("log")
middle.set_ylim(None, evidence + 1.2)
middle.set_title("The bound: one climbs, one falls")
middle.set_xlabel("steps")
middle.set_ylabel("bound (nats per $x$)")

seen = 2.0
grid = np.linspace(-3, 3, 500)
right.fill_between(grid, np.exp(tg.Normal(slope * seen, sd).log_prob(grid)), color="#22303c", alpha=0.15, linewidth=0)
for name, colour in (("cut", "C1"), ("reparameterized", "C0")):
    a, sigma = histories[name][-1, :, 0]
    right.plot(grid, np.exp(tg.Normal(a * seen, sigma).log_prob(grid)), color=colour)
right.text(0.62, 1.1, "reparameterized,\non the posterior (grey)", color="C0", ha="right", va="center")
right.text(-1.0, 0.33, "cut: the prior,\nwhatever $x$ is", color="C1", ha="right")
right.set_ylim(0, 1.4)
right.set_title(f"What the code says about $x = {seen:.0f}$")
right.set_xlabel("$z$")
right.set_ylabel("density $q(z\\mid x)$")
figure.savefig(figures / "15_the_linear_vae.png")
print(f"\nthe picture is in {figures / '15_the_linear_vae.png'}")

# %% [markdown]
# ## Predict, then run
#
# 1. Let the noise be large, $s_2 = 4$. Where do the two encoders end now, and is the cut one still eight nats worse?
# 2. Start the cut training at the exact posterior, $a = 0.6$ and $\sigma = 0.3162$. Will it stay there?
# 3. Somebody watches only the training curve of the cut encoder: the divergence, which it makes smaller in every step.
#    What would reveal the mistake?

# %% [markdown]
# ## Where to read on
#
# In the source: `tinygrad_vae/vae/bounds.py`, where the same bound is written for any model, and
# `tinygrad_vae/guard/`, which found the partly cut path.
#
# In the literature:
#
# - Tipping and Bishop 1999, Probabilistic Principal Component Analysis: this model, in any dimension
# - Kingma and Welling 2014; Rezende, Mohamed and Wierstra 2014: the bound and the trick
# - Bowman et al. 2016, Generating Sentences from a Continuous Space: collapse, named and fought
# - Lucas, Tucker, Grosse and Norouzi 2019, Don't Blame the ELBO!: collapse in linear models, from other causes
#
# ## Answers
#
# 1. The repaired one ends at the posterior, $a = 1.5/6.25 = 0.24$ and $\sigma = 0.8$. The cut one ends where it always
#    does, at $a = 0$ and $\sigma = 1$. It loses a third of a nat, where it lost almost eight. Where x says little about
#    z, there is little to lose.
# 2. No. The gradient that is left points to the prior from everywhere.
# 3. The bound itself, which falls. Or the rate: a code of 0 nats says nothing. Or a reconstruction, which does not
#    depend on its input.

# %% jupyter={"source_hidden": true}
at_the_posterior = {"a": np.full((1, 1000), slope), "log_sigma": np.full((1, 1000), np.log(sd))}
recorded = tg.wrap(at_the_posterior)
left_over = tg.gradients(tg.sum(cut(bound(recorded, data(tg.noise(4), (1, 1000)), tg.noise(5)))), recorded)
assert left_over["a"].mean() < -0.5 < 0.5 < left_over["log_sigma"].mean()  # towards a = 0 and sigma = 1


def lost(s2):
    variance, slope = w**2 + s2, w / (w**2 + s2)
    x = tg.Normal(0.0, np.sqrt(variance)).sample((100_000,), rng=tg.noise(6))
    return tg.kl_divergence(tg.Normal(0.0, 1.0), tg.Normal(slope * x, np.sqrt(s2 / variance))).mean()


assert 0.3 < lost(4.0) < 0.4 < 7.7 < lost(0.25) < 8.0
