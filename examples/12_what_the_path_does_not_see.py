# %% [markdown]
# # 12. What the path does not see

# %% [markdown]
"""A draw decides something: above the threshold or below. What is the gradient of a cost that jumps?

Along the path of a single draw nothing happens, until it crosses. Of many draws, a few cross at every nudge. There are
three repairs: smooth the step, weigh with the score function, or count the draws at the boundary.

Runs in about four seconds. Picture: ``figures/12_what_the_path_does_not_see.png``; another folder may be named on the
command line.
"""

# %% [markdown]
# The smallest example. Let $x \sim N(\mu, 1)$, and let the cost be 1 where $x > 0$ and 0 elsewhere. Its mean is a
# probability, and its derivative a density:
#
# $$ E\, 1[x > 0] = \Phi(\mu), \qquad \frac{d}{d\mu}\, \Phi(\mu) = \varphi(\mu) = 0.3989 \text{ at } \mu = 0. $$
#
# Now take the path: $x = \mu + e$, with the noise e held fixed. Nudge $\mu$ by a little. The draw moves, and the cost
# stays 0 or 1. Its derivative is 0 for every single draw, so the mean of these derivatives is 0, too: the path says
# that $\mu$ does not matter.

# %% jupyter={"source_hidden": true}
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from scipy import stats

import tinygrad_vae as tg

plt.style.use("tinygrad_vae.course")
figures = Path(next((arg for arg in sys.argv[1:2] if not arg.startswith("-")), "figures"))
figures.mkdir(parents=True, exist_ok=True)

draws = 20_000


def report(what, g, truth):
    """Print the mean and the variance of single-draw gradients, and compare the mean in standard errors."""
    error = g.std(ddof=1) / np.sqrt(len(g))
    print(f"  {what:<34} {g.mean():9.4f} +- {error:.4f}   truth {truth:8.4f}   variance {g.var():.3g}")
    assert abs(g.mean() - truth) < 4.5 * error + 1e-9


# %% [markdown]
# ## A few draws cross
#
# What the path does not see is this: if $\mu$ grows by a small $\delta$, the draws between $-\delta$ and 0 cross the
# threshold. That is the share $\delta\, p(0)$ of all draws, and each of them changes the cost by 1. Count them, and
# divide by $\delta$.

# %%
mu = tg.Tensor(np.zeros(draws), "mu")
x = tg.Normal(mu, 1.0).sample(rng=tg.noise(0), name="x")
density = stats.norm.pdf(0)
delta = 0.05
crossed = np.mean((x.value <= 0) & (x.value + delta > 0))
print(f"a nudge by {delta} carries {crossed:.2%} of the draws across; divided by it, {crossed / delta:.3f}")
assert abs(crossed / delta - density) < 4.5 * np.sqrt(density / delta / draws) + delta / 10

# %% [markdown]
# The library does not let you take the path here. It names the jump, and what is valid instead.

# %%
cost = tg.where(x > 0, 1.0, 0.0)
print(tg.explain(tg.mean(cost), [mu]))
try:
    tg.gradients(tg.mean(tg.reparameterize(cost)), mu)
except tg.InvalidGradientError as error:
    refused = str(error)
assert "jumps with a random value" in refused

# %% [markdown]
# ## Three repairs
#
# **Smooth the step.** Put $\Phi(x / t)$ in the place of $1[x > 0]$. There is a path now, of another cost: its mean is
# $\Phi(\mu / \sqrt{1 + t^2})$, and the derivative at 0 is $\varphi(0) / \sqrt{1 + t^2}$. A small *t* makes that nearly
# right, and noisy: the derivative is $1/t$ for a few draws near 0, and nothing for all others. At $\mu = 0$,
#
# $$ \mathrm{variance} = \frac{1}{2 \pi} \Big( \frac{1}{t \sqrt{t^2 + 2}} - \frac{1}{1 + t^2} \Big), $$
#
# which grows without bound as $t \to 0$. You choose between wrong and noisy.
#
# **Weigh with the score function.** It does not look at the slope of the cost at all: $1[x > 0]\,(x - \mu)$. It is
# right, and its variance at $\mu = 0$ is $\frac12 - \frac{1}{2 \pi} = 0.341$: every draw pays for a jump that only
# those near 0 know of.
#
# **Add the boundary.** Keep the path, and add what it misses: the jump of the cost, times the rate at which
# probability crosses. If F is the cdf of the draw and $x^*$ the place of the jump J, the share of draws above it
# changes at the rate $-\frac{d}{d\theta} F(x^*; \theta)$, so that
#
# $$ \frac{d}{d\theta}\, E\, K = E\,[\mathrm{path}] - J\, \frac{d}{d\theta} F(x^*; \theta). $$
#
# Here the path is 0, J is 1, and $-dF/d\mu$ is the density at 0. Nothing random is left: the variance is 0.

# %%
temperatures = np.array([0.03, 0.1, 0.3, 1.0])
print(f"\nd/dmu of P(x > 0), from {draws} draws")
smoothed = {}
for t in temperatures:
    slope = tg.gradients(tg.sum(tg.reparameterize(tg.ndtr(x / t))), mu)
    report(f"smoothed, t = {t}", slope, density / np.sqrt(1 + t**2))
    smoothed[t] = slope.var()
scores = tg.gradients(tg.sum(tg.score_function(cost)), mu)
report("score function", scores, density)
boundary = tg.gradients(tg.sum(tg.path_and_boundary(cost)), mu)
report("path and boundary", boundary, density)
assert np.allclose(boundary, density, rtol=1e-14)


def variance_smoothed(t):
    return (1 / (t * np.sqrt(t**2 + 2)) - 1 / (1 + t**2)) / (2 * np.pi)


for t, variance in smoothed.items():  # the fourth moment of the slope is 1 / (4 pi^2 t^3 sqrt(t^2 + 4))
    error = np.sqrt(1 / (4 * np.pi**2 * t**3 * np.sqrt(t**2 + 4)) / draws)
    assert abs(variance - variance_smoothed(t)) < 4.5 * error

# %% [markdown]
# ## Path *and* boundary
#
# Most costs do both: they slope, and they jump. Let the cost be $x^2$ above 1 and $-x$ below, with $\mu = 0.3$ and
# $\sigma = 0.8$. The jump at 1 is $1 - (-1) = 2$. Cut the comparison on purpose, and the path alone is what is left.
# Neither part is the truth; their sum is.

# %%
print("\nd/dmu of E where(x > 1, x^2, -x)")
mu, sigma = tg.Tensor(np.full(draws, 0.3), "mu"), tg.Tensor(np.full(draws, 0.8), "sigma")
x = tg.Normal(mu, sigma).sample(rng=tg.noise(1), name="x")
above, at_1 = stats.norm.sf(1, 0.3, 0.8), stats.norm.pdf(1, 0.3, 0.8)
path = 2 * (0.3 * above + 0.8**2 * at_1) - (1 - above)  # E [2 x where x > 1, -1 elsewhere]
cut = tg.where(tg.stop_gradient(x > 1.0), x * x, -x)
report("the path alone", tg.gradients(tg.sum(tg.reparameterize(cut)), mu), path)
cost = tg.where(x > 1.0, x * x, -x)
both = tg.gradients(tg.sum(tg.path_and_boundary(cost)), mu)
report("path and boundary", both, path + 2 * at_1)
report("score function", tg.gradients(tg.sum(tg.score_function(cost)), mu), path + 2 * at_1)

# %% [markdown]
# The threshold may be what you want to learn. No score function sees it, since the draws do not depend on it. Of
# $E\, x\, 1[x > c]$ the derivative in c is $-c\, p(c)$.

# %%
c = tg.Tensor(np.full(draws, 0.7), "c")
kept = tg.where(x > c, x, 0.0)
report(
    "where(x > c, x, 0), in c",
    tg.gradients(tg.sum(tg.path_and_boundary(kept)), c),
    -0.7 * stats.norm.pdf(0.7, 0.3, 0.8),
)

# %% [markdown]
# ## Many draws decide together
#
# Let $S = x_1 + \ldots + x_d$, each from $N(0, 1)$, and the cost be $1[S > 0]$. Hold all draws fixed but the last: the
# comparison flips where $x_d = -(x_1 + \ldots + x_{d-1})$, and the density of $x_d$ there is the gradient. It depends
# on the others now, so it has a variance, but a small one:
#
# $$ E = \frac{\varphi(0)}{\sqrt d}, \qquad
#    \mathrm{variance} = \frac{1}{2 \pi} \Big( \frac{1}{\sqrt{2 d - 1}} - \frac1d \Big), $$
#
# where the score function has $\frac12 - \frac{1}{2 \pi d}$. This conditioning on all numbers but one is what makes
# the repair work for whole programs: the library goes through the comparisons of your cost, solves each one in the
# latest draw that decides it, and computes the cost on both sides.

# %%
print("\nd/dmu of P(x_1 + ... + x_d > 0)")
dimensions = np.array([1, 2, 5, 10, 20, 50])
measured = []
for d in dimensions:
    mu = tg.Tensor(np.zeros((4000, d)), "mu")
    cost = tg.where(tg.sum(tg.Normal(mu, 1.0).sample(rng=tg.noise(2), name="x"), axis=1) > 0, 1.0, 0.0)
    found = tg.gradients(tg.sum(tg.path_and_boundary(cost)), mu)[:, 0]
    report(f"path and boundary, d = {d}", found, density / np.sqrt(d))
    weighed = tg.gradients(tg.sum(tg.score_function(cost)), mu)[:, 0]
    measured.append((weighed.std() / density * np.sqrt(d), found.std() / density * np.sqrt(d)))
    assert 10 * found.var() < weighed.var()
measured = np.array(measured)


def in_theory(d):
    """Return the spread of both estimators, over the truth."""
    truth = density / np.sqrt(d)
    squares = 0.5 - 1 / (2 * np.pi * d), (1 / np.sqrt(2 * d - 1) - 1 / d) / (2 * np.pi)
    return np.sqrt(squares[0]) / truth, np.sqrt(np.maximum(squares[1], 0)) / truth


assert np.allclose(measured, np.transpose(in_theory(dimensions)), rtol=0.06, atol=1e-6)

# %% [markdown]
# ## An option that dies at a barrier
#
# A call on a share pays $\max(S - 100, 0)$ after a year, unless the price has been below 90 at the end of one of twelve
# months. A bank wants to know how its value moves with the price today (*delta*) and with the volatility (*vega*). The
# path sees the payoff, and not that a lower price kills more options: it is a quarter off, and does not know. There is
# no formula for the truth, but the density of the price can be carried from month to month on a fine grid.

# %%
rate, dates, spot, volatility = 0.02, 12, 100.0, 0.2


def payoff(s0, sigma, compare):
    """Return the discounted payoff of each path of the price; ``compare`` says whether the option is alive."""
    s0, sigma, dt = tg.expand_dims(s0, axis=1), tg.expand_dims(sigma, axis=1), 1 / dates
    start = tg.log(s0) * np.eye(1, dates)
    steps = tg.Normal(start + (rate - sigma**2 / 2) * dt, sigma * np.sqrt(dt) * np.ones(dates))
    prices = tg.cumulative_sum(steps.sample(rng=tg.noise(3), name="steps"), axis=1)
    alive = tg.prod(tg.where(compare(prices), 1.0, 0.0), axis=1)
    return np.exp(-rate) * alive * tg.relu(tg.exp(prices[:, -1]) - 100.0)


def value(s0, sigma):
    """Return the value of the option, by the density of log S above the barrier, from date to date."""
    drift, spread = (rate - sigma**2 / 2) / dates, sigma / np.sqrt(dates)
    nodes, weights = np.polynomial.legendre.leggauss(400)
    low, high = np.log(90.0), np.log(s0) + 7 * sigma
    grid, weights = (high + low) / 2 + (high - low) / 2 * nodes, (high - low) / 2 * weights
    here = stats.norm.pdf(grid, np.log(s0) + drift, spread)
    step = stats.norm.pdf(grid[:, None], grid + drift, spread) * weights
    for _ in range(dates - 1):
        here = step @ here
    gain = np.exp(-rate) * np.maximum(np.exp(grid) - 100.0, 0.0)
    return np.sum(weights * here * gain)


h = 0.01
truths = (
    (value(spot + h, volatility) - value(spot - h, volatility)) / (2 * h),
    (value(spot, volatility + h / 100) - value(spot, volatility - h / 100)) / (2 * h / 100),
)
s0, sigma = tg.Tensor(np.full(draws, spot), "s0"), tg.Tensor(np.full(draws, volatility), "sigma")
cost = payoff(s0, sigma, lambda prices: prices > np.log(90.0))
cut = payoff(s0, sigma, lambda prices: tg.stop_gradient(prices > np.log(90.0)))
greeks = {
    "score function": tg.gradients(tg.sum(tg.score_function(cost)), [s0, sigma]),
    "path and boundary": tg.gradients(tg.sum(tg.path_and_boundary(cost)), [s0, sigma]),
}
alone = tg.gradients(tg.sum(tg.reparameterize(cut)), [s0, sigma])
for i, name in enumerate(("delta", "vega")):
    print(f"\n{name} of the option, from {draws} paths: the path alone says {alone[i].mean():.3f}")
    assert abs(alone[i].mean() / truths[i] - 1) > 0.2
    for estimator, found in greeks.items():
        report(estimator, found[i], truths[i])

# %% [markdown]
# ## The picture

# %% jupyter={"source_hidden": true}
figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 4.1))
fine = np.linspace(-3.2, 3.2, 400)
left.plot(fine, stats.norm.pdf(fine), color="#22303c")
strip = np.linspace(-0.35, 0, 50)
left.fill_between(strip, stats.norm.pdf(strip), color="C3", alpha=0.8)
left.step([-3.2, 0, 3.2], [0.02, 0.02, 0.3], where="pre", color="C0")
left.annotate("these draws\ncross at a nudge", (-0.2, 0.3), (-3.1, 0.31), arrowprops={"arrowstyle": "-"}, color="C3")
left.text(1.35, 0.315, "the cost", color="C0")
left.set_ylim(0, 0.44)
left.set_title("The path sees no draw cross")
left.set_xlabel("$x$")
left.set_yticks([])
fine = np.geomspace(0.02, 1.5, 200)
middle.plot(fine, np.sqrt(variance_smoothed(fine)) / density, color="C1")
middle.plot(fine, 1 - 1 / np.sqrt(1 + fine**2), color="C1", linestyle="--")
middle.plot(temperatures, [np.sqrt(v) / density for v in smoothed.values()], "s", color="C1")
middle.axhline(scores.std() / density, color="C2")
middle.axhline(0, color="C0", linewidth=3)
middle.text(0.07, 3.3, "smoothed: spread", color="C1")
middle.text(0.17, 0.3, "smoothed: bias", color="C1")
middle.text(0.021, scores.std() / density - 0.2, "score function: spread", color="C2")
middle.text(0.021, 0.1, "path and boundary", color="C0")
middle.set_xscale("log")
middle.set_ylim(-0.1, 4.2)
middle.set_title("Three repairs of one step")
middle.set_xlabel("temperature $t$ of the smooth step")
middle.set_ylabel("spread and bias, over the truth")
fine = np.linspace(1, 52, 300)
for i, (name, colour) in enumerate((("score function", "C2"), ("path and boundary", "C0"))):
    right.plot(fine, in_theory(fine)[i], color=colour)
    right.plot(dimensions, measured[:, i], "o", color=colour)
    right.text(52, in_theory(52.0)[i] - (3.2, 1.2)[i], name, color=colour, ha="right")
right.set_title("Many draws decide together")
right.set_xlabel("$d$, for the cost $1[x_1 + \\ldots + x_d > 0]$")
right.set_ylabel("spread over the truth")
figure.savefig(figures / "12_what_the_path_does_not_see.png")
print(f"\nthe picture is in {figures / '12_what_the_path_does_not_see.png'}")

# %% [markdown]
# ## Predict, then run
#
# 1. Of $1[x > 0]$ with $x \sim N(\mu, \sigma^2)$, how large is the variance of the gradient in $\sigma$?
# 2. The cost is `tg.where(x > 0, x, 0.0)`. How large is the boundary part?
# 3. `tg.path_and_boundary(tg.where(x**2 > 1, 1.0, 0.0))` is refused. Why? Can you write the same cost in a way that is
#    not?

# %% [markdown]
# ## Where to read on
#
# In the source: `tinygrad_vae/estimators/path_and_boundary.py` is the estimator, `tinygrad_vae/estimators/roots.py`
# finds where a comparison flips, and `tinygrad_vae/guard/conditions.py` refuses the path.
#
# In the literature:
#
# - Glasserman 1991, Gradient Estimation via Perturbation Analysis; and his 2004, Monte Carlo Methods in Financial
#   Engineering, chapter 7: options
# - Gong and Ho 1987, Smoothed Perturbation Analysis; Fu and Hu 1997, Conditional Monte Carlo: given all numbers but one
# - Lee, Yu and Yang 2018, Reparameterization Gradient for Non-Differentiable Models
# - Li, Aittala, Durand and Lehtinen 2018, Differentiable Monte Carlo Ray Tracing: the edges of things in pictures
#
# ## Answers
#
# 1. Zero. One draw decides, and no other random number is left: each gradient is $-\mu\, \varphi(\mu / \sigma) /
#    \sigma^2$.
# 2. Zero: the cost does not jump at 0, it bends. The path is right there, and both estimators agree.
# 3. It flips twice, at -1 and at 1, and the library looks for one root. Two comparisons with one root each are fine:
#    `tg.logical_or(x > 1, x < -1)`.

# %% jupyter={"source_hidden": true}
mu, sigma = tg.Tensor(np.full(100, 0.5), "mu"), tg.Tensor(np.full(100, 0.8), "sigma")
x = tg.Normal(mu, sigma).sample(rng=tg.noise(4), name="x")
in_sigma = tg.gradients(tg.sum(tg.path_and_boundary(tg.where(x > 0, 1.0, 0.0))), sigma)
assert np.allclose(in_sigma, -0.5 / 0.8**2 * stats.norm.pdf(0.5 / 0.8))
ramp = tg.where(x > 0, x, 0.0)
found = tg.gradients(tg.sum(tg.path_and_boundary(ramp)), mu)
assert np.array_equal(found, tg.gradients(tg.sum(tg.reparameterize(tg.relu(x))), mu))
try:
    tg.path_and_boundary(tg.where(x**2 > 1, 1.0, 0.0))
except tg.InvalidGradientError as error:
    refused = str(error)
assert "several roots" in refused
outside = tg.where(tg.logical_or(x > 1, x < -1), 1.0, 0.0)
in_mu = tg.gradients(tg.sum(tg.path_and_boundary(outside)), mu)
assert np.allclose(in_mu, stats.norm.pdf(1, 0.5, 0.8) - stats.norm.pdf(-1, 0.5, 0.8))
