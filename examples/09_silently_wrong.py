# %% [markdown]
# # 9. Silently wrong

# %% [markdown]
"""How can a gradient be wrong without anything looking wrong?

It has the right shape, a sensible size and a small error bar, and training goes on. Here are four ways to get one, the
number that comes out, the truth, and what the library says instead.

Runs in about two seconds. Picture: ``figures/09_silently_wrong.png``; another folder may be named on the command line.
"""

# %% [markdown]
# Each case below is computed three times: in the wrong way, past the library's refusal; in the way that the library
# advises; and in closed form.

# %%
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import tinygrad_vae as tg

plt.style.use("tinygrad_vae.course")
figures = Path(next((arg for arg in sys.argv[1:2] if not arg.startswith("-")), "figures"))
figures.mkdir(parents=True, exist_ok=True)

draws = 100_000
results = {}


def refusal_of(attempt):
    """Return the error that the library raises instead of a wrong number."""
    try:
        attempt()
    except (tg.GradientRefusedError, ValueError) as error:
        return error
    raise AssertionError("a wrong gradient was handed out")


def compare(case, error, wrong, expected_wrong, right, truth):
    """Print the three numbers, and hold each mean against its theory in standard errors."""
    print(f"\n{case}\n  the library: {type(error).__name__}: {error}\n")
    row = []
    for what, g, theory in (("wrong", wrong, expected_wrong), ("right", right, truth)):
        spread = g.std(ddof=1) / np.sqrt(len(g))
        print(f"  {what}: {g.mean():8.4f} +- {spread:.4f}   theory {theory:8.4f}")
        if spread == 0:  # some wrong gradients are the same in every draw
            assert np.all(g == theory)
        else:
            assert abs(g.mean() - theory) < 4.5 * spread
        row.append((g.mean() / truth, spread / abs(truth)))
    assert spread > 0
    assert abs(wrong.mean() - truth) > 4.5 * spread
    results[case] = row


# %% [markdown]
# ## A step after a path
#
# The cost is 1 where $x > 0$ and 0 elsewhere, with $x \sim N(\mu, 1)$. Its slope is 0 at almost every x, so the path
# through the draw carries 0. But the chance of $x > 0$ does grow with mu: it is the cdf of $N(0, 1)$ at mu, whose
# derivative at 0 is $1/\sqrt{2\pi} = 0.3989$. All of the gradient sits at the one point where there is no slope.

# %%
mu = tg.Tensor(np.zeros(draws), "mu")
x = tg.Normal(mu, 1.0).sample(rng=tg.noise(0), name="x")
step = tg.where(x > 0, 1.0, 0.0)

error = refusal_of(lambda: tg.gradients(tg.sum(tg.reparameterize(step)), mu))
wrong = tg.gradients(tg.sum(tg.where(tg.stop_gradient(x > 0), 1.0, 0.0)), mu)
right = tg.gradients(tg.sum(tg.score_function(step)), mu)
compare("a step after a path", error, wrong, 0.0, right, 1 / np.sqrt(2 * np.pi))

# %% [markdown]
# ## A support that moves
#
# Let x be uniform on (0, h) with $h = 2$, and let it be the cost. $E x = h/2$, so the truth is $1/2$. Inside the
# support $\log p = -\log h$, so the score is $-1/h$, and the score function says $E[-x/h] = -1/2$: the opposite
# direction. What is missing is the new ground that the support gains at its end, worth $p(h)\, f(h) = 1$.

# %%
h = tg.Tensor(np.full(draws, 2.0), "h")
x = tg.Uniform(0.0, h).sample(rng=tg.noise(1), name="x")

error = refusal_of(lambda: tg.gradients(tg.sum(tg.score_function(x)), h))
wrong = tg.gradients(tg.sum(x.value * -tg.log(h)), h)
right = tg.gradients(tg.sum(tg.reparameterize(x)), h)
compare("a support that moves", error, wrong, -0.5, right, 0.5)

# %% [markdown]
# ## A baseline that knows the draw
#
# The score function may subtract any number that does not depend on the draw. The mean of a batch of K costs is a
# popular choice. It contains each draw's own cost with the weight $1/K$, and so it takes away $1/K$ of the gradient. At
# $\theta = 2$, for the cost $x^2$ and $K = 4$, it leaves 3 of 4. The mean of the *other* costs is free of that.
#
# The library can refuse a Tensor. An array has forgotten where it came from. That is how the wrong number is made here.

# %%
batch = 4
theta = tg.Tensor(np.full((batch, draws // batch), 2.0), "theta")
x = tg.Normal(theta, 1.0).sample(rng=tg.noise(2), name="x")
cost = x * x
batch_mean = tg.mean(cost, axis=0, keepdims=True)

error = refusal_of(lambda: tg.score_function(cost, baseline=batch_mean))
wrong = tg.gradients(tg.sum(tg.score_function(cost, baseline=batch_mean.value)), theta).mean(axis=0)
right = tg.gradients(tg.sum(tg.estimate(cost, {"x": "leave-one-out"})), theta).mean(axis=0)
compare("a baseline that knows the draw", error, wrong, 4 * (1 - 1 / batch), right, 4.0)

# %% [markdown]
# ## Partly cut
#
# Theta acts on the cost $x^2 + \theta^2/2$ through a draw, $x \sim N(\theta, 1)$, and beside it. Where sampling cuts
# the gradient without a word, the second term still trains theta, towards the wrong place. The truth at $\theta = 2$ is
# $4 + 2 = 6$; what is left is 2. In a variational autoencoder the second term is the divergence from the prior.

# %%
theta = tg.Tensor(np.full(draws, 2.0), "theta")
x = tg.Normal(theta, 1.0).sample(rng=tg.noise(3), name="x")


def cost_of(x):
    return x * x + theta * theta / 2


error = refusal_of(lambda: tg.gradients(tg.sum(cost_of(x)), theta))
wrong = tg.gradients(tg.sum(cost_of(tg.stop_gradient(x))), theta)
right = tg.gradients(tg.sum(tg.reparameterize(cost_of(x))), theta)
compare("partly cut", error, wrong, 2.0, right, 6.0)

# %% [markdown]
# ## The picture

# %% jupyter={"source_hidden": true}
figure, axes = plt.subplots(figsize=(8.2, 3.9))
names = list(results)
for k, name in enumerate(names):
    (wrong, wrong_error), (right, right_error) = results[name]
    axes.annotate(
        "", (wrong, k), (1, k), arrowprops={"arrowstyle": "-", "color": "C1", "linewidth": 1, "linestyle": ":"}
    )
    axes.errorbar(wrong, k, xerr=4.5 * wrong_error, fmt="X", color="C1", markersize=9)
    axes.errorbar(right, k, xerr=4.5 * right_error, fmt="o", color="C0", markersize=7)
    label = axes.text(
        wrong, k - 0.2, f"{wrong:.2f}".replace("-", "\N{MINUS SIGN}"), color="C1", ha="center", va="bottom"
    )
    label.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 1})
axes.axvline(1, color="#22303c", linewidth=1)
axes.axvline(0, color="#22303c", linewidth=0.7, linestyle=(0, (2, 3)))
axes.text(1, -0.62, "truth", ha="center", va="bottom")
axes.text(0, -0.62, "no gradient", ha="center", va="bottom", fontsize=9)
axes.text(-0.5, -0.62, "uphill", ha="center", va="bottom", fontsize=9)
axes.set_yticks(range(len(names)), names)
axes.tick_params(axis="y", length=0)
axes.grid(axis="y", visible=False)
axes.set_ylim(len(names) - 0.6, -0.65)
axes.set_xlim(-1.2, 1.25)
axes.set_xlabel("mean gradient / truth, with 4.5 standard errors")
axes.set_title("Without a refusal (crosses), and with its advice (dots)", pad=18)
figure.savefig(figures / "09_silently_wrong.png")
print(f"\nthe picture is in {figures / '09_silently_wrong.png'}")

# %% [markdown]
# ## Predict, then run
#
# 1. The batch mean with $K = 2$ takes away half of the gradient. How large must a batch be until it takes less than
#    1 %? Does training notice the missing part at all?
# 2. x is uniform on (0, h), and the cost is $x^2$. What does the score function say at $h = 2$, and what is the truth?
# 3. Which of the four cases could a unit test on the *value* of the cost have found?

# %% [markdown]
# ## Where to read on
#
# `python examples/museum` runs more than thirty such programs, in PyTorch, JAX and NumPy.
#
# In the source: `tinygrad_vae/guard/`. The whole check is one walk over the graph, before any derivative is computed.
#
# In the literature:
#
# - L'Ecuyer 1990, A Unified View of the IPA, SF, and LR Gradient Estimation Techniques: what each one needs
# - Glasserman 1991, and Gong and Ho 1987, Smoothed Perturbation Analysis: costs that jump
# - Flanders 1973, Differentiation Under the Integral Sign: the term from a support that moves
# - Mnih and Rezende 2016; Kool, van Hoof and Welling 2019: the mean of the others as a baseline
# - Foerster et al. 2018, and Schulman et al. 2015: surrogate costs, and how they go wrong
#
# ## Answers
#
# 1. More than 100. With plain gradient descent the step is shorter by that part, and nothing else. With Adam even that
#    drops out. This is the mildest of the four; it bites where several terms are added up.
# 2. It says $E[-x^2/h] = -h/3 = -2/3$. The truth is the derivative of $h^2/3$, which is $+4/3$. The difference is
#    $p(h)\, f(h) = h = 2$.
# 3. None. All values are right. That is what silent means.

# %% jupyter={"source_hidden": true}
h = tg.Tensor(np.full(draws, 2.0), "h")
x = tg.Uniform(0.0, h).sample(rng=tg.noise(4), name="x")
wrong = tg.gradients(tg.sum(x.value**2 * -tg.log(h)), h)
right = tg.gradients(tg.sum(tg.reparameterize(x * x)), h)
for g, theory in ((wrong, -2 / 3), (right, 4 / 3)):
    assert abs(g.mean() - theory) < 4.5 * g.std() / np.sqrt(draws)
