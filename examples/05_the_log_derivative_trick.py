# %% [markdown]
# # 5. The log-derivative trick

# %% [markdown]
"""Can a random node be trained after all where nothing can be differentiated through it?

Yes: the parameters change how probable each draw is, and that has a derivative. What it costs is variance, and what
helps is to tell the estimator what every draw has in common (a baseline) and what a draw did not cause (credit).

Runs in about two seconds. Picture: ``figures/05_the_log_derivative_trick.png``; another folder may be named on the
command line.
"""

# %% [markdown]
# The density $p(x; \mu)$ of a draw depends on the parameter $\mu$. Since $\log p$ has the derivative $dp / p$, one may
# write $dp = p\; d\log p$. Hence
#
# $$ \frac{d}{d\mu} E f(x) = \int f(x)\, p(x; \mu)\, \frac{d\log p}{d\mu}\, dx = E\Big[f(x)\, \frac{d\log p}{d\mu}\Big].
# $$
#
# Nowhere does f have to be differentiated. It may be a game, a compiler, a person who answers yes or no.

# %%
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import tinygrad_vae as tg

plt.style.use("tinygrad_vae.course")
figures = Path(next((arg for arg in sys.argv[1:2] if not arg.startswith("-")), "figures"))
figures.mkdir(parents=True, exist_ok=True)

# %% [markdown]
# ## From blocked to trained, by hand
#
# A draw has no derivative, and the library refuses to make one up. But $f \cdot \log p$, with f and the draw held
# fixed, has a derivative like any other formula, and it is what stands in the brackets above. `surrogate(value, path)`
# has the value of its first argument and the derivative of its second.

# %%
mu = tg.Tensor(np.array([0.5, -1.0]), "mu")
x = tg.Normal(mu, 1.0).sample(rng=tg.noise(0), name="x")
cost = tg.sum(x * x)
try:
    tg.gradients(cost, mu)
    raise AssertionError("a blocked gradient was handed out")
except tg.BlockedGradientError as error:
    print(f"{type(error).__name__}: {error}\n")

log_prob = tg.sum(tg.Normal(mu, 1.0).log_prob(tg.stop_gradient(x)))
by_hand = tg.gradients(tg.surrogate(cost, tg.stop_gradient(cost) * log_prob), mu)
by_rewrite = tg.gradients(tg.score_function(cost), mu)
print(f"cost {cost.value:.6f}; gradient by hand {by_hand}, by score_function {by_rewrite}")
assert np.allclose(by_hand, by_rewrite, rtol=1e-14)
assert np.allclose(by_hand, cost.value * (x.value - mu.value), rtol=1e-14)

# %% [markdown]
# ## The price, and two ways to pay less
#
# Let x have n independent coordinates, and let $f(x) = \sum x_i^2$. The gradient in one $\mu_i$ hears the cost of *all*
# coordinates, of which it caused one. At $\mu = 0$, where the truth is 0, the estimate is $f x_i$, and its variance is
# $E[f^2 x_i^2] = (n + 2)(n + 4)$.
#
# - **A baseline.** The score $s = d\log p / d\mu$ is 0 on average, so any number b may be taken off the cost without
#   changing the mean of $(f - b)\,s$. The variance is a parabola in b, with its minimum at $E[f s^2] / E[s^2]$. Here
#   that is $n + 2$, and it leaves $2\,(n + 2)$.
# - **Credit.** The other costs do not depend on $x_i$, so they may be left out. That leaves 15, whatever n is.
# - **Both** leave 6. **Pathwise**, which knows the slope of f, has 4.
#
# Credit needs no call of its own. If the cost has one element for each coordinate, each element is weighed by itself,
# where the graph shows that element i depends on draw i alone.

# %%


def score(cost_of, baseline=None):
    return lambda x: tg.score_function(cost_of(x), baseline)


def total(x):
    return tg.sum(x * x, axis=1)  # one cost for the n coordinates of a draw


def each(x):
    return x * x  # one cost for each coordinate


def estimators(n):
    """Return the name, the rewritten cost and the theory of the variance, for n dimensions."""
    return [
        ("score function", score(total), (n + 2) * (n + 4)),
        ("its best baseline", score(total, n + 2.0), 2 * (n + 2)),
        ("only its own cost", score(each), 15),
        ("both", score(each, 3.0), 6),
        ("pathwise", lambda x: tg.reparameterize(total(x)), 4),
    ]


def first_coordinate(rewritten, n, draws, seed):
    """Return the gradient in mu_1 at mu = 0, one single-draw estimate for each row."""
    mu = tg.Tensor(np.zeros((draws, n)), "mu")
    x = tg.Normal(mu, 1.0).sample(rng=tg.noise(seed), name="x")
    return tg.gradients(tg.sum(rewritten(x)), mu)[:, 0]


dimensions = [1, 2, 4, 8, 16, 32]
draws = 20_000
found = {}
print(f"\nvariance of one estimate from {draws} draws, +- its standard error, and in theory")
print(f"  {'':<18}" + "".join(f"{'n = ' + str(n):>24}" for n in dimensions[::2]))
for n in dimensions:
    for name, rewritten, theory in estimators(n):
        g = first_coordinate(rewritten, n, draws, seed=n)
        squares = (g - g.mean()) ** 2
        variance, error = squares.mean(), squares.std() / np.sqrt(draws)
        found.setdefault(name, []).append((variance, error, theory))
        assert abs(g.mean()) < 4.5 * np.sqrt(variance / draws)
        assert abs(variance - theory) < 4.5 * error
for name, rows in found.items():
    shown = [f"{variance:9.2f} +- {error:5.2f} ({theory:4d})" for variance, error, theory in rows[::2]]
    print(f"  {name:<18}" + "".join(f"{text:>24}" for text in shown))

# %% [markdown]
# ## The picture

# %% jupyter={"source_hidden": true}
figure, axes = plt.subplots(figsize=(7.6, 4.6))
styles = {
    "score function": ("C1", "s", "$(n + 2)(n + 4)$"),
    "its best baseline": ("C3", "D", "$2\\,(n + 2)$"),
    "only its own cost": ("C2", "^", "$15$"),
    "both": ("C4", "v", "$6$"),
    "pathwise": ("C0", "o", "$4$"),
}
fine = np.logspace(0, np.log10(32), 100)
for name, (colour, marker, formula) in styles.items():
    variance, error, _ = np.array(found[name]).T
    theory = [next(v for other, _, v in estimators(n) if other == name) for n in fine]
    axes.plot(fine, theory, color=colour)
    axes.errorbar(dimensions, variance, error, fmt=marker, color=colour)
    axes.text(35, variance[-1], f"{name}  {formula}", color=colour, va="center")
axes.set_xscale("log", base=2)
axes.set_yscale("log")
axes.set_xticks(dimensions, dimensions)
axes.set_xlabel("dimensions $n$")
axes.set_ylabel("variance of one gradient in $\\mu_1$")
axes.set_title("What a single draw says about one parameter among $n$")
figure.savefig(figures / "05_the_log_derivative_trick.png")
print(f"\nthe picture is in {figures / '05_the_log_derivative_trick.png'}")

# %% [markdown]
# ## Predict, then run
#
# 1. A baseline of $n + 2$ is the best one. What does a baseline of $2\,(n + 2)$ do, compared with none?
# 2. Does credit help if the cost is $(\sum x_i)^2$?
# 3. Somebody takes the cost of the very same draw for a baseline, $b = f(x)$. What is the variance? What is wrong?

# %% [markdown]
# ## Where to read on
#
# In the source: `tinygrad_vae/estimators/score_function.py`, and `tinygrad_vae/guard/`, which
# reads off the graph what a draw can have caused.
#
# In the literature:
#
# - Aleksandrov, Sysoyev and Shemeneva 1968, Stochastic Optimization; Rubinstein 1969, his thesis
# - Glynn 1990, Likelihood Ratio Gradient Estimation for Stochastic Systems
# - Williams 1992, section 5: the baseline. Weaver and Tao 2001; Greensmith, Bartlett and Baxter 2004: the best one
# - Ranganath, Gerrish and Blei 2014, Black Box Variational Inference: only the terms that a draw can have caused
# - Schulman, Heess, Weber and Abbeel 2015: the same for any graph
#
# ## Answers
#
# 1. Nothing. The parabola is symmetric about its minimum, so twice the best baseline is as bad as 0.
# 2. No. Every draw takes part in every term once the square is multiplied out as one number, and there is one element.
# 3. The variance is 0, and so is the gradient, whatever the truth. A baseline must not know the draw; lesson 9 meets
#    this mistake again in a form that is harder to see.

# %% jupyter={"source_hidden": true}
g = first_coordinate(score(total, 2 * (4 + 2.0)), 4, draws, seed=50)
squares = (g - g.mean()) ** 2
assert abs(squares.mean() - (4 + 2) * (4 + 4)) < 4.5 * squares.std() / np.sqrt(draws)
