# %% [markdown]
# # 13. A coin that flips

# %% [markdown]
"""What becomes of a program if one of its coins falls on the other side?

A coin has no derivative, but it has another side. A small change of p flips it with a small probability, and then the
cost jumps by a finite amount. The product of the two is a gradient with little variance, also through a long program
of coins: run it twice, the second time with one coin flipped.

Runs in about five seconds. Picture: ``figures/13_a_coin_that_flips.png``; another folder may be named on the command
line.
"""

# %% [markdown]
# Toss a coin with a uniform number $u$: heads where $u > 1 - p$. Hold $u$ fixed and raise $p$ by $dp$. Nearly always
# nothing happens. With probability $dp$ the number $u$ lay in between, and tails become heads: the cost jumps from
# f(0) to f(1). So
#
# $$ \frac{d}{dp} E f = \frac{\text{chance of a flip}}{dp} \cdot \text{jump} = f(1) - f(0). $$
#
# A path sees only the many draws where nothing happens. It has to be told of the flip. That takes three things, a
# **triple**: the value z, another value z', and a weight w, such that
#
# $$ \frac{d}{d\theta} E f(z) = E\,\big[\,w\,(f(z') - f(z))\,\big] \quad \text{for every } f. $$

# %%
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from scipy import stats

import tinygrad_vae as tg

plt.style.use("tinygrad_vae.course")
figures = Path(next((arg for arg in sys.argv[1:2] if not arg.startswith("-")), "figures"))
figures.mkdir(parents=True, exist_ok=True)

draws = 100_000


def variance_and_error(g):
    squares = (g - g.mean()) ** 2
    return squares.mean(), squares.std() / np.sqrt(len(g))


# %% [markdown]
# ## One line for each distribution
#
# - **Bernoulli(p)**: the other side, with the weight $+1$ for tails and $-1$ for heads. Whichever comes, it says
#   $f(1) - f(0)$, the truth. There is no variance.
# - **Poisson(r)**: one event more, with the weight 1. Differentiate $e^{-r} r^k / k!$ by hand, and you find
#   $\frac{d}{dr} E f(k) = E f(k + 1) - E f(k)$.
# - **Geometric(p)**: one failure more, with the weight $-(k + 1) / p$.
# - **Categorical**: the class that came second in the same draw.
#
# For $f(k) = k^2$ and a Poisson draw, $(k + 1)^2 - k^2 = 2k + 1$. Its mean is $2r + 1$, the truth, and its variance
# $4r$. The score function $k^2 (k / r - 1)$ has the same mean, and a variance that is a sum over k.

# %%
r = 3.0
counts = np.arange(80)
chances = stats.poisson(r).pmf(counts)
in_theory = {
    "score function": chances @ (counts**2 * (counts / r - 1)) ** 2 - (2 * r + 1) ** 2,
    "triples": 4 * r,
}

rate = tg.Tensor(np.full(draws, r), "r")
k = tg.Poisson(rate).sample(rng=tg.noise(0), name="k")
print(f"k^2 of Poisson({r:g}): the gradient is {2 * r + 1:g}")
for name, estimator in {"score function": tg.score_function, "triples": tg.Triples()}.items():
    g = tg.gradients(tg.sum(estimator(k**2)), rate)
    variance, error = variance_and_error(g)
    spread = g.std() / np.sqrt(draws)
    print(f"  {name:<15} {g.mean():.4f} +- {spread:.4f}   variance {variance:.2f} +- {error:.2f}", end="")
    print(f"   theory {in_theory[name]:.2f}")
    assert abs(g.mean() - (2 * r + 1)) < 4.5 * spread
    assert abs(variance - in_theory[name]) < 4.5 * error

# %% [markdown]
# ## A program of coins
#
# A walker starts at 0 and takes n steps. At x it goes right with the probability $e^{-|x| / p}$, else left: far out it
# tends to come back. What is $\frac{d}{dp} E x^2$ after 100 steps, at $p = 200$? Every coin depends on all coins before
# it, so there are $2^{100}$ ways.
#
# But the walker forgets how it came to x, so a table of places is enough. Let $V_i(x)$ be the mean of the final $x^2$
# from x on, and $P_i(x)$ the probability to be there, before step i. With $q = e^{-|x|/p}$,
#
# $$ V_i(x) = q\,V_{i+1}(x + 1) + (1 - q)\,V_{i+1}(x - 1), \qquad
# \frac{d}{dp_i} E x^2 = \sum_x P_i(x)\,\frac{dq}{dp}\,\big(V_{i+1}(x + 1) - V_{i+1}(x - 1)\big), $$
#
# for a p of its own in every step. The gradient in a common p is the sum.

# %%
n, p = 100, 200.0


def exact(p, n):
    """Return the mean of x^2 after n steps, and its derivative in the p of every step."""
    x = np.arange(-n - 1, n + 2)
    q = np.exp(-np.abs(x) / p)
    worth = [x**2.0]
    for _ in range(n):
        right, left = np.roll(worth[-1], -1), np.roll(worth[-1], 1)
        worth.append(q * right + (1 - q) * left)
    worth.reverse()
    place, slopes = (x == 0).astype(float), []
    for i in range(n):
        step = np.roll(worth[i + 1], -1) - np.roll(worth[i + 1], 1)
        slopes.append(np.sum(place * q * np.abs(x) / p**2 * step))
        place = np.roll(place * q, 1) + np.roll(place * (1 - q), -1)
    return np.sum(place * x**2), np.array(slopes)


def walk(p, n, rng):
    """Return the place after n steps; p has a number for each walker, or one for each walker and step."""
    x = np.zeros(p.shape[0])
    for i in range(n):
        q = tg.exp(-tg.abs(x) / (p if p.ndim == 1 else p[:, i]))
        x = x + 2 * tg.Bernoulli(probs=q).sample(rng=rng, name=f"step {i}") - 1
    return x


mean, slopes = exact(p, n)
truth = slopes.sum()
print(f"\nx^2 after {n} steps: mean {mean:.3f}, d/dp {truth:.4f}")

# %% [markdown]
# ## Run it twice
#
# Flip one coin, and let all later ones fall as they will, **with the same noise**: each later $u$ is compared with its
# new threshold. Most of them fall as before. So the second walk runs beside the first one, two places away, and often
# meets it again. That is why the difference of the costs is calm.
#
# Which coin? Choose one at random. If coin i is chosen with probability $c_i$, divide by it:
#
# $$ \frac{w_i}{c_i}\,\big(f(\text{one coin flipped}) - f(\text{as it came})\big). $$
#
# The mean over the choice is the sum over all coins, whatever the $c_i$ are. It is calm if coins that weigh more, those
# near $q = 1/2$, are chosen more often. Two runs of the program give the gradient in all parameters, however many coins
# there are. Every walker of the batch chooses a coin of its own.

# %%
walkers = 4000
estimators = {
    "score function": tg.score_function,
    "with a baseline": tg.ScoreFunction(float(mean)),
    "one coin flipped": tg.PrunedTriples(tg.noise(9)),
}
common = tg.Tensor(np.full(walkers, p), "p")
cost = walk(common, n, tg.noise(1)) ** 2
spreads = {}
for name, estimator in estimators.items():
    g = tg.gradients(tg.sum(estimator(cost)), common)
    spreads[name] = g.std()
    print(f"  {name:<17} {g.mean():7.3f} +- {g.std() / np.sqrt(walkers):.3f}   standard deviation {g.std():.1f}")
    assert abs(g.mean() - truth) < 4.5 * g.std() / np.sqrt(walkers)
assert spreads["one coin flipped"] < 9.5
assert spreads["with a baseline"] > 2 * spreads["one coin flipped"]
assert spreads["score function"] > 8 * spreads["one coin flipped"]

# %% [markdown]
# ## A hundred parameters at once
#
# Now each step has a p of its own. The same two runs give all hundred gradients.

# %%
many = tg.Tensor(np.full((walkers, n), p), "p of each step")
g = tg.gradients(tg.sum(tg.PrunedTriples(tg.noise(10))(walk(many, n, tg.noise(2)) ** 2)), many)
errors = g.std(axis=0) / np.sqrt(walkers)
away = (g.mean(axis=0) - slopes)[20:] / errors[20:]  # the first coins hardly ever fall on the left, or are chosen
print(f"\n{n} parameters: the largest distance is {np.abs(away).max():.1f} standard errors")
assert np.abs(away).max() < 4.5
assert abs(g.sum(axis=1).mean() - truth) < 4.5 * g.sum(axis=1).std() / np.sqrt(walkers)

# %% [markdown]
# ## The picture
#
# On the left one walk, and what becomes of it if a coin is flipped: the same noise, on arrays. It is drawn at $p = 20$,
# where the walker soon turns back, so that the two often meet again.

# %% jupyter={"source_hidden": true}


def walked(noise, flipped=None):
    x = [0]
    for i, u in enumerate(noise):
        right = u > 1 - np.exp(-abs(x[-1]) / 20)
        x.append(x[-1] + (1 if right != (i == flipped) else -1))
    return np.array(x)


figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 4.0))
noise = np.random.default_rng(4).random(n)
left.plot(walked(noise), color="C0", linewidth=1.8)
for flipped, colour, height in ((3, "C1", 1.0), (30, "C2", 7.4), (70, "C3", 10.4)):
    other = walked(noise, flipped)
    left.plot(np.arange(flipped, n + 1), other[flipped:], color=colour, linewidth=1.4, linestyle=(0, (3, 1.5)))
    left.plot(flipped, other[flipped], "o", color=colour)
    left.text(flipped + 5, height, f"coin {flipped}", color=colour)
left.set_title("A walk, and with one coin flipped")
left.set_xlabel("step")
left.set_ylabel("place $x$")

steps = np.arange(n)
middle.errorbar(steps, g.mean(axis=0), errors, fmt="o", color="C0", markersize=3, linewidth=0.8, capsize=0)
middle.plot(steps, slopes, color="#22303c", linewidth=1.4)
middle.text(1, slopes.max() * 1.3, "dots: two runs of 4000 walkers\nline: exact", va="top")
middle.set_ylim(-0.02, slopes.max() * 1.34)
middle.set_title("A hundred gradients at once")
middle.set_xlabel("step $i$")
middle.set_ylabel("$d\\,E x^2 / dp_i$")

bars = right.barh(list(spreads), list(spreads.values()), color=["C1", "C2", "C0"], height=0.55)
for bar, spread in zip(bars, spreads.values(), strict=True):
    right.text(spread * 1.05, bar.get_y() + bar.get_height() / 2, f"{spread:.1f}", va="center")
right.axvline(truth, color="#22303c", linewidth=1)
right.text(truth * 1.04, 2.52, f"the gradient, {truth:.1f}", va="center")
right.set_xscale("log")
right.set_xlim(4, 200)
right.set_ylim(-0.5, 2.75)
right.set_xticks(ticks := [5, 10, 20, 50, 100], ticks)
right.set_xticks([], minor=True)
right.set_title("One walker: how noisy is $d\\,E x^2 / dp$?")
right.set_xlabel("standard deviation")
right.grid(axis="y", visible=False)
figure.savefig(figures / "13_a_coin_that_flips.png")
print(f"\nthe picture is in {figures / '13_a_coin_that_flips.png'}")

# %% [markdown]
# ## Predict, then run
#
# 1. The cost is the count itself, $f(k) = k$, of a Poisson draw. How noisy is the gradient by triples?
# 2. A coin has $p = 0$, so that it always shows tails. What does its triple say about $d/dp$?
# 3. `tg.Triples()` flips every coin, one after the other, and adds up: n + 1 runs in place of two. For a walk of ten
#    steps, which of the two is better for the same number of runs?

# %% [markdown]
# ## Where to read on
#
# In the source: `tinygrad_vae/estimators/triples.py`, and `alternative` in `tinygrad_vae/distributions/counts.py` and
# `tinygrad_vae/distributions/discrete.py`. `tg.check_distribution` tests the line of a distribution of your own.
#
# In the literature:
#
# - Arya, Schauer, Schäfer and Rackauckas 2022, Automatic Differentiation of Programs with Discrete Randomness: triples,
#   in forward mode, and this walk
# - Gong and Ho 1987, Smoothed Perturbation Analysis; Pflug 1989, weak derivatives: what they grew from
# - Kool, van Hoof and Welling 2020: drawing without replacement, behind the line of Categorical
#
# ## Answers
#
# 1. Not at all: $(k + 1) - k = 1$, whatever k was.
# 2. $f(1) - f(0)$, as for any other p. The other side never came, and need not: the program is run with it.
# 3. Two runs. Flipping all ten coins is a little calmer, but not by so much that eleven runs would pay.

# %% jupyter={"source_hidden": true}
assert np.array_equal(tg.gradients(tg.sum(tg.Triples()(k)), rate), np.ones(draws))
never = tg.Tensor(np.zeros(5), "p")
toss = tg.Bernoulli(probs=never).sample(rng=tg.noise(3))
assert np.allclose(tg.gradients(tg.sum(tg.Triples()((toss - 0.45) ** 2)), never), 0.1, rtol=1e-12)
short = tg.Tensor(np.full(walkers, 20.0), "p")
tens = walk(short, 10, tg.noise(4)) ** 2
every, one = (tg.gradients(tg.sum(e(tens)), short).var() for e in (tg.Triples(), tg.PrunedTriples(tg.noise(5))))
assert every < one < 11 / 2 * every
