# %% [markdown]
# # 7. When the trick loses

# %% [markdown]
"""Is the gradient through the draw always the better one?

No. It multiplies by the slope of the cost, and where the slope is wilder than the cost itself, the score function wins:
for cos(k x) from k = 1.06 on, and for |x|^(1/4) by any factor you like.

Runs in about four seconds. Picture: ``figures/07_when_the_trick_loses.png``; another folder may be named on the
command line.
"""

# %% [markdown]
# Let x be drawn from $N(\mu, 1)$. Both estimators are right on average. Pathwise averages $f'(x)$, the score function
# $f(x)\,(x - \mu)$. Compare how large those are: a cost that is small and wiggles has large slopes.
#
# There is a third way, and it needs no slope either. The derivative of a density is a difference of two densities. With
# R from the Rayleigh distribution, $P(R > r) = e^{-r^2/2}$,
#
# $$ \frac{d}{d\mu} E f(x) = \frac{1}{\sqrt{2\pi}}\, E\,[f(\mu + R) - f(\mu - R)]. $$
#
# This is the measure-valued derivative. It takes two costs for each parameter: cheap for one, too much for a network.
#
# All three have the same mean, so the one with the smallest **mean square** has the smallest variance.

# %%
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from scipy import integrate, optimize, special

import tinygrad_vae as tg

plt.style.use("tinygrad_vae.course")
figures = Path(next((arg for arg in sys.argv[1:2] if not arg.startswith("-")), "figures"))
figures.mkdir(parents=True, exist_ok=True)

ESTIMATORS = {"score function": tg.score_function, "pathwise": tg.reparameterize}
THREE = ESTIMATORS | {"measure-valued": tg.MeasureValued(tg.noise(99))}
LOOK = {"score function": ("C1", "s"), "pathwise": ("C0", "o"), "measure-valued": ("C2", "^")}


def gradients_in_mu(estimator, f, mu, draws, seed):
    """Return single-draw gradients of E f(x), x ~ N(mu, 1), in mu."""
    mu = tg.Tensor(np.full(draws, mu), "mu")
    x = tg.Normal(mu, 1.0).sample(rng=tg.noise(seed), name="x")
    return tg.gradients(tg.sum(estimator(f(x))), mu)


def measure(f, truth, second_moment, ks, mu, draws=50_000):
    """Return mean squares of the gradients over k, and hold means and mean squares against their theory."""
    found = {}
    for name, estimator in THREE.items():
        rows = []
        for seed, k in enumerate(ks):
            g = gradients_in_mu(estimator, lambda x, k=k: f(x, k), mu, draws, seed)
            rows.append((np.mean(g * g), np.std(g * g) / np.sqrt(draws)))
            assert abs(g.mean() - truth(k)) < 4.5 * g.std() / np.sqrt(draws)
            assert abs(rows[-1][0] - second_moment[name](k)) < 4.5 * rows[-1][1]
        found[name] = np.array(rows).T
    return found


# %% [markdown]
# ## cos(k x)
#
# Let us derive the mean squares for this cost. One fact is needed, the mean of a cosine over a bell curve:
#
# $$ E \cos(t x) = \cos(t\mu)\, e^{-t^2/2}. $$
#
# *Pathwise.* The slope is $-k \sin(kx)$, and its square is $k^2 \sin^2(kx) = \frac{k^2}{2} (1 - \cos 2kx)$. Take the
# mean, with $t = 2k$, and call $c = \cos(2k\mu)\, e^{-2k^2}$:
#
# $$ E\,[f'(x)^2] = \frac{k^2}{2} (1 - c). $$
#
# *Score function.* The square is $\cos^2(kx)\,(x - \mu)^2 = \frac12 (1 + \cos 2kx)\,(x - \mu)^2$. The first part has
# the mean 1/2. For the second, write $x = \mu + e$. The odd part drops out, and $E[\cos(te)\, e^2]$ is minus the second
# derivative of $E \cos(te) = e^{-t^2/2}$ in t, which is $(1 - t^2)\, e^{-t^2/2}$. With $t = 2k$:
#
# $$ E\,[f(x)^2 (x - \mu)^2] = \frac12 \big(1 + (1 - 4k^2)\, c\big). $$
#
# As k grows, c vanishes. The score function stays at $1/2$, and pathwise grows like $k^2/2$. They cross once. The
# measure-valued one is below both nearly everywhere. Its mean square, $\frac2\pi \sin^2(k\mu)\, E \sin^2(kR)$, is never
# more than $2/\pi$.

# %%
mu = 1.0


def c(k):
    return np.cos(2 * k * mu) * np.exp(-2 * k**2)


cosine_theory = {
    "score function": lambda k: (1 + (1 - 4 * k**2) * c(k)) / 2,
    "pathwise": lambda k: k**2 * (1 - c(k)) / 2,
    "measure-valued": lambda k: 2 / np.pi * np.sin(k * mu) ** 2 * np.sqrt(2) * k * special.dawsn(np.sqrt(2) * k),
}
cosine_ks = np.array([0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0])
cosine = measure(
    lambda x, k: tg.cos(k * x),
    lambda k: -k * np.sin(k * mu) * np.exp(-(k**2) / 2),
    cosine_theory,
    cosine_ks,
    mu,
)
crossing = optimize.brentq(lambda k: cosine_theory["pathwise"](k) - cosine_theory["score function"](k), 0.5, 2.0)
print(f"cos(k x): the score function is the better one from k = {crossing:.4f} on")
for name, (square, error) in cosine.items():
    print(f"  {name:<15} at k = 4: {square[7]:.3f} +- {error[7]:.3f}, theory {cosine_theory[name](4.0):.3f}")

# %% [markdown]
# ## exp(-k x^2)
#
# A narrow bump of width $1/\sqrt{2k}$. Few draws meet it, and its slope is steep. The square of the bump times the
# density is again a bell curve, with the variance $v = 1/(1 + 4k)$, the mean $m = v\mu$, and the weight
# $Z = \sqrt{v}\, e^{-2k\mu^2 v}$. So the mean squares are moments of a bell curve:
#
# $$ \text{score function: } Z\,\big(v + (m - \mu)^2\big), \qquad \text{pathwise: } 4k^2 Z\,(m^2 + v). $$
#
# For the measure-valued derivative it is an ordinary integral over r.

# %%


def bump_moments(k):
    d = 1 + 4 * k
    return np.exp(-2 * k * mu**2 / d) / np.sqrt(d), mu / d, 1 / d


def bump_score(k):
    z, m, v = bump_moments(k)
    return z * (v + (m - mu) ** 2)


def bump_pathwise(k):
    z, m, v = bump_moments(k)
    return 4 * k**2 * z * (m**2 + v)


def bump_measure_valued(k):
    def square(r):
        return r * np.exp(-r * r / 2) * (np.exp(-k * (mu + r) ** 2) - np.exp(-k * (mu - r) ** 2)) ** 2 / (2 * np.pi)

    near, far = (integrate.quad(square, *ends)[0] for ends in ((0, 2 * mu), (2 * mu, 12)))
    return near + far


bump_theory = {
    "score function": bump_score,
    "pathwise": bump_pathwise,
    "measure-valued": np.vectorize(bump_measure_valued),
}
bump_ks = np.array([0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0])
bump = measure(
    lambda x, k: tg.exp(-k * x * x),
    lambda k: -2 * k * mu / (1 + 2 * k) ** 1.5 * np.exp(-k * mu**2 / (1 + 2 * k)),
    bump_theory,
    bump_ks,
    mu,
)
bump_crossing = optimize.brentq(lambda k: bump_pathwise(k) - bump_score(k), 0.1, 10)
print(f"exp(-k x^2): from k = {bump_crossing:.4f} on")

# %% [markdown]
# ## |x|^(1/4): a variance without end
#
# The best mu is 0, as for $x^2$, and one may want to descend to it. The slope of the cost is $\frac14 |x|^{-3/4}$. Its
# square, $|x|^{-3/2}/16$, has no finite integral at 0, so the pathwise gradient has a mean and no variance. The mean of
# n squares keeps growing, like $\sqrt n$, as ever smaller x turn up. The score function never looks at the slope. Its
# variance is finite, and an ordinary integral.

# %%
power, at = 0.25, 0.5


def root(x):
    return tg.pow(tg.abs(x), power)


truth = (power * at * 2 ** (power / 2) * special.gamma((power + 1) / 2) / np.sqrt(np.pi)) * special.hyp1f1(
    1 - power / 2, 1.5, -(at**2) / 2
)


def square_of_score(e):
    return abs(at + e) ** (2 * power) * e**2 * np.exp(-e * e / 2) / np.sqrt(2 * np.pi)


score_square = sum(integrate.quad(square_of_score, *ends)[0] for ends in ((-np.inf, -at), (-at, np.inf)))

runs, longest = 200, 20_000
counts = np.logspace(1, np.log10(longest), 12).astype(int)
squares = {}
print(f"|x|^(1/4) at mu = {at}, truth {truth:.5f}")
for name, estimator in ESTIMATORS.items():
    g = gradients_in_mu(estimator, root, at, runs * longest, seed=20).reshape(runs, longest)
    running = np.cumsum(g * g, axis=1)[:, counts - 1] / counts
    squares[name] = np.median(running, axis=0)
    slopes = np.log(running[:, -1] / running[:, -7]) / np.log(counts[-1] / counts[-7])
    slope, error = slopes.mean(), slopes.std(ddof=1) / np.sqrt(runs)
    expected = {"score function": 0.0, "pathwise": 0.5}[name]
    print(f"  {name:<15} mean {g.mean():.4f}; the mean square grows as n to the {slope:.3f} +- {error:.3f}", end="")
    print(f", theory {expected}")
    assert abs(slope - expected) < 4.5 * error
    if name == "score function":
        assert abs(g.mean() - truth) < 4.5 * g.std() / np.sqrt(g.size)
        assert abs(np.mean(g * g) - score_square) < 4.5 * np.std(g * g) / np.sqrt(g.size)

# %% [markdown]
# You can compute a standard error from the pathwise draws. It is a finite number, and it means nothing. This lesson
# asserts none.
#
# ## Descend to the minimum with either
#
# A thousand walkers start at mu = 1 and take 300 steps of ten draws each. With the score function they gather at 0.
# With the pathwise gradient a single step may throw one away, as far as you like, and no rate is small enough for that.

# %%
walkers, steps, rate = 1000, 300, 0.2
for name, estimator in ESTIMATORS.items():
    walker, largest = np.full(walkers, 1.0), 0.0
    for step in range(steps):
        here = tg.Tensor(walker, "mu")
        x = tg.Normal(here, 1.0).sample((10,), rng=tg.noise(30).at(step), name="x")
        g = tg.gradients(tg.sum(tg.mean(estimator(root(x)), axis=0)), here)
        walker = walker - rate * g
        largest = max(largest, float(np.abs(rate * g).max()))
    half = np.median(np.abs(walker))
    print(f"  {name:<15} half of the walkers end within {half:.2f} of 0; the largest step was {largest:.2f}")
    assert (half < 0.25, largest < 1) == (name == "score function",) * 2

# %% [markdown]
# ## The picture

# %% jupyter={"source_hidden": true}
figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 4.0))
for axes, ks, found, theory, meeting in (
    (left, cosine_ks, cosine, cosine_theory, crossing),
    (middle, bump_ks, bump, bump_theory, bump_crossing),
):
    fine = np.geomspace(ks[0], ks[-1], 300)
    for name, (square, error) in found.items():
        colour, marker = LOOK[name]
        axes.loglog(fine, theory[name](fine), color=colour)
        axes.errorbar(ks, square, error, fmt=marker, color=colour, label=name)
    axes.plot(meeting, theory["pathwise"](meeting), "o", markersize=13, markerfacecolor="none", color="#22303c")
    axes.set_xlabel("$k$")
    axes.set_ylabel("mean square of one gradient in $\\mu$")
left.text(1.2 * crossing, 1.5, f"from $k = {crossing:.2f}$ on", ha="right")
middle.text(0.5, 0.125, f"from $k = {bump_crossing:.2f}$ on", fontsize=9)
left.set_xticks(ticks := [0.25, 0.5, 1, 2, 4, 8], ticks)
left.set_xticks([], minor=True)
left.set_title("$\\cos(k x)$: it wiggles")
middle.set_title("$\\exp(-k x^2)$: a narrow bump")
middle.legend(loc="upper left")
for name, median in squares.items():
    colour, marker = LOOK[name]
    right.loglog(counts, median, marker, color=colour)
right.loglog(counts, np.full(len(counts), score_square), color="C1")
late = counts[3:]
right.loglog(late, squares["pathwise"][-1] * np.sqrt(late / counts[-1]), color="C0")
right.text(1100, 6.5, "$\\propto \\sqrt{n}$", color="C0", ha="right")
right.text(counts[-1], 1.02, f"finite: {score_square:.2f}", color="C1", ha="right", va="top")
right.set_title("$|x|^{1/4}$: a variance without end")
right.set_xlabel("number of draws $n$")
right.set_ylabel(f"mean of $n$ squares (median of {runs} runs)")
figure.savefig(figures / "07_when_the_trick_loses.png")
print(f"\nthe picture is in {figures / '07_when_the_trick_loses.png'}")

# %% [markdown]
# ## Predict, then run
#
# 1. Add 10 to the cost $\cos(kx)$ at $k = 4$, where the score function was the better one. Who wins now, and what would
#    you do about it?
# 2. For which powers does $|x|^a$ have a pathwise gradient of finite variance?
# 3. What does the measure-valued derivative say of a cost that is symmetric about mu?

# %% [markdown]
# ## Where to read on
#
# In the source: `tinygrad_vae/estimators/`, whose docstrings say what each estimator asks of f, and
# `tinygrad_vae/estimators/compare.py`, which measures them on a cost of your own.
#
# In the literature:
#
# - Mohamed, Rosca, Figurnov and Mnih 2020, section 3: variance as a function of the cost, for costs like these
# - Pflug 1989, Sampling Derivatives of Probabilities; Heidergott, Vazquez-Abad, Pflug and Farenhorst-Yuan 2010,
#   Gradient Estimation for Discrete-Event Systems by Measure-Valued Differentiation
# - Gal 2016, Uncertainty in Deep Learning, section 3.1: sin(10 x), and no winner among estimators
# - Metz, Freeman, Schoenholz and Kachman 2021, Gradients Are Not All You Need: slopes of long simulations
# - Glasserman 2003, Monte Carlo Methods in Financial Engineering, chapter 7: the same choice for option prices
#
# ## Answers
#
# 1. Pathwise. Its mean square stays 8, and the score function gains $10^2\, E\, e^2 = 100$ and a little more. A
#    baseline of 10 takes that off again: compare estimators only after giving each what it needs.
# 2. The square of the slope is $a^2 |x|^{2a - 2}$. It can be integrated at 0 if $2a - 2 > -1$, so for $a > 1/2$.
# 3. Exactly 0, in every draw: $f(\mu + R) = f(\mu - R)$. The other two are 0 on average only.

# %% jupyter={"source_hidden": true}
raised = gradients_in_mu(tg.score_function, lambda x: tg.cos(4.0 * x) + 10.0, mu, 50_000, 0)
helped = gradients_in_mu(lambda cost: tg.score_function(cost, 10.0), lambda x: tg.cos(4.0 * x) + 10.0, mu, 50_000, 0)
assert np.mean(raised**2) > 100 > cosine_theory["pathwise"](4.0) > 1 > np.mean(helped**2) > 0.4
symmetric = gradients_in_mu(tg.MeasureValued(tg.noise(98)), lambda x: tg.square(x - mu), mu, 1000, 1)
assert np.allclose(symmetric, 0.0, atol=1e-12)
