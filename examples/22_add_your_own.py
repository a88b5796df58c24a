# %% [markdown]
# # 22. Add your own

# %% [markdown]
"""What does it take to add an op, a distribution or an estimator of one's own, and how does one know that it is right?

One declaration each, and one call that tests all that the declaration promises.

Runs in about two seconds. Picture: ``figures/22_add_your_own.png``; another folder may be named on the command line.
"""

# %% [markdown]
# The library is three open lists: `tg.OPS`, `tg.DISTRIBUTIONS` and `tg.ESTIMATORS`. A declaration adds to its list.
# From then on the new member is what the others are: it is recorded, differentiated to any order, drawn, explained.
#
# Who checks it? A wrong derivative trains too, only worse. So each list has its check, and a check is one call:
# `check_op`, `check_distribution`, `check_estimator`.

# %%
import math
import sys
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import tinygrad_vae as tg
from tinygrad_vae.checks import CheckError
from tinygrad_vae.domains import POSITIVE

plt.style.use("tinygrad_vae.course")
figures = Path(next((arg for arg in sys.argv[1:2] if not arg.startswith("-")), "figures"))
figures.mkdir(parents=True, exist_ok=True)


def mistake_found(check, *declared):
    """Return what a check says of a declaration with a mistake in it."""
    try:
        check(*declared)
    except CheckError as error:
        return str(error)
    raise AssertionError("the mistake was not found")


# %% [markdown]
# ## An op
#
# $\log\cosh x$ is $|x| - \log 2$ far away from 0 and $x^2/2$ near it: a distance that is smooth. Its derivative is
# $\tanh x$.
#
# - The function works on arrays. It must be accurate. $\cosh 800$ is more than a float holds, so it is not
#   `log(cosh(x))`.
# - The derivative is a formula. Given g, the derivative of the cost in the output y, it returns the derivative in x. It
#   is written in the library's own functions, not in NumPy's. So it can be recorded, and differentiated again.
# - The docstring has an example. It is run too.

# %%


@tg.elementwise(lambda g, y, x: g * tg.tanh(x))
def log_cosh(x, /):
    """``log cosh x``; derivative ``tanh x``.

    >>> float(log_cosh(0.0))
    0.0
    """
    return np.abs(x) + np.log1p(np.exp(-2 * np.abs(x))) - math.log(2)


tg.check_op(log_cosh)  # derivatives of first and second order, dtypes, broadcasting, recording, the example

x = tg.Tensor(np.array([-800.0, -1.0, 0.0, 1.0, 800.0]), "x")
slope = tg.gradients(tg.sum(log_cosh(x)), x, record=True)
curvature = tg.gradients(tg.sum(slope), x)
rows = {"x": x.value, "log cosh x": log_cosh(x).value, "slope": slope.value, "curvature": curvature}
for name, row in rows.items():
    print(f"{name:<12}" + "".join(f"{number:10.4f}" for number in row))
assert np.allclose(slope.value, np.tanh(x.value), rtol=1e-15)
assert np.allclose(curvature, 1 - np.tanh(x.value) ** 2, rtol=1e-12)

# %% [markdown]
# ## The same op with a mistake
#
# A slip of the pen: tan for tanh. The check differentiates the function by differences, and names the place where the
# two part.

# %%


@tg.elementwise(lambda g, y, x: g * tg.tan(x))
def log_cosh_with_a_slip(x, /):
    """``log cosh x``, with a derivative that is not its own.

    >>> float(log_cosh_with_a_slip(0.0))
    0.0
    """
    return np.abs(x) + np.log1p(np.exp(-2 * np.abs(x))) - math.log(2)


found = mistake_found(tg.check_op, log_cosh_with_a_slip)
print(f"\ntan for tanh\n{found}")
assert "wrong gradient in x" in found

# %% [markdown]
# ## A distribution
#
# The length of a draw from a two-dimensional bell curve of width s follows the Rayleigh distribution:
#
# $$ p(x) = \frac{x}{s^2}\, e^{-x^2/2s^2}, \qquad F(x) = 1 - e^{-x^2/2s^2}, \qquad x > 0. $$
#
# A declaration says what the parameter is and where it may lie, the support, the density, and how noise becomes a draw.
# Here uniform noise becomes a draw by the inverse of F. Moments, cdf and entropy are optional.

# %%


@dataclass(frozen=True, eq=False)
class Rayleigh(tg.Distribution):
    """The length of a vector of two draws of N(0, scale^2)."""

    scale: object = tg.parameter(POSITIVE)
    support = POSITIVE

    def log_density(self, x):
        return tg.log(x) - 2 * tg.log(self.scale) - tg.square(x / self.scale) / 2

    def cdf(self, x):
        return -tg.expm1(-tg.square(x / self.scale) / 2)

    def icdf(self, p):
        return self.scale * tg.sqrt(-2 * tg.log1p(-p))

    @property
    def mean(self):
        return math.sqrt(math.pi / 2) * self.scale

    @property
    def variance(self):
        return (2 - math.pi / 2) * tg.square(self.scale)

    def entropy(self):
        return tg.log(self.scale) + (1 - math.log(2) / 2 + np.euler_gamma / 2)


tg.check_distribution(Rayleigh)  # shapes, dtypes, support, density, cdf, moments, the path, refusals

# %% [markdown]
# It has both gradients at once. $E x^2 = 2s^2$, so the truth is $4s$, at $s = 1.5$: 6.

# %%
draws, s = 100_000, 1.5
scale = tg.Tensor(np.full(draws, s), "scale")
length = Rayleigh(scale).sample(rng=tg.noise(0), name="length")
print(f"\nRayleigh: d/ds E x^2 at s = {s}, the truth is {4 * s}")
for estimator in (tg.reparameterize, tg.score_function):
    estimates = tg.gradients(tg.sum(estimator(tg.square(length))), scale)
    mean, error = estimates.mean(), estimates.std(ddof=1) / math.sqrt(draws)
    print(f"  {estimator.__name__:<15}{mean:8.4f} +- {error:.4f}")
    assert abs(mean - 4 * s) < 4.5 * error

# %% [markdown]
# Two mistakes that are easily made. The first is the mean of another distribution, $|x|$ of a bell curve in *one*
# dimension. The second is a square lost in the density, which then integrates to s in place of 1. The entropy gives it
# away.

# %%


@dataclass(frozen=True, eq=False)
class MeanOfAnother(Rayleigh):
    """A Rayleigh distribution that claims the mean of a half normal one."""

    @property
    def mean(self):
        return math.sqrt(2 / math.pi) * self.scale


@dataclass(frozen=True, eq=False)
class LostSquare(Rayleigh):
    """A Rayleigh distribution whose density has s where it should have s^2."""

    def log_density(self, x):
        return tg.log(x) - tg.log(self.scale) - tg.square(x / self.scale) / 2


for family, word in ((MeanOfAnother, "mean"), (LostSquare, "entropy")):
    found = mistake_found(tg.check_distribution, family)
    print(f"\n{found}")
    assert word in found

# %% [markdown]
# ## An estimator
#
# An estimator says what to do at a random node z. It is given `rest`: everything from z to the cost, as a function. It
# may call that as often as it likes.
#
# This one looks at a draw and at its mirror image, made from the mirrored noise. For $N(\mu, s)$ these are $\mu + se$
# and $\mu - se$. Both follow the distribution, so the mean of their two score functions is unbiased. What a large cost
# adds to both alike drops out, without any baseline.
#
# `weight` is a factor of value 1 with the derivative of $\log p$: that is all of the score function. Nothing may
# differentiate through a draw, so the draws are stopped. And `check_estimator` tries it on smooth costs and costs that
# jump, on seven distributions, alone and below another draw.

# %%


class Mirrored(tg.ScoreFunction):
    """``(w(z) K(z) + w(z') K(z')) / 2``, where z' is made from the mirror image of the noise of z."""

    name = "mirrored"

    def apply(self, z, cost, rest):
        pair = (z, z.dist.transform(z.noise.mirrored()))
        here, there = (self.weight(z, cost, draw) * rest(draw) for draw in map(tg.stop_gradient, pair))
        return (here + there) / 2


tg.check_estimator(Mirrored)

# %% [markdown]
# ## The same estimator with a mistake
#
# "Take the cost of the mirror image for a baseline." It sounds right, and many programs do it with a second draw. But a
# baseline must not know the draw, and the mirror image is made from it. In the mean of a bell curve the gradient comes
# out twice as long.

# %%


class MirrorAsBaseline(tg.ScoreFunction):
    """``w(z) K(z) + (1 - w(z)) K(z')``: wrong, because z' is no other draw."""

    name = "mirror-as-baseline"

    def apply(self, z, cost, rest):
        draw, mirror = map(tg.stop_gradient, (z, z.dist.transform(z.noise.mirrored())))
        weight = self.weight(z, cost, draw)
        return weight * rest(draw) + (1 - weight) * tg.stop_gradient(rest(mirror))


found = mistake_found(tg.check_estimator, MirrorAsBaseline)
print(f"\n{found}")
assert "standard errors" in found

# %% [markdown]
# ## What it is worth
#
# Take the cost of lesson 4 again, $E x^2$ with $x \sim N(\theta, 1)$. A pair gives
# $\frac12 [(\theta + e)^2 e - (\theta - e)^2 e] = 2\theta e^2$, with the variance $8\theta^2$. It takes two costs, so
# the fair comparison is with the mean of two single draws: $\frac12 (\theta^4 + 14\theta^2 + 15)$. The mirror wins at
# every theta, and at $\theta = 0$ it leaves no variance at all. Two paths have the variance 2: less from $\theta = 1/2$
# on.

# %%
thetas = np.linspace(0, 3, 7)
theory = {"mirrored": lambda t: 8 * t**2, "score function": lambda t: (t**4 + 14 * t**2 + 15) / 2}
runs = {"mirrored": Mirrored(), "score function": tg.ScoreFunction()}
variances = {}
print(f"\nvariance of one estimate from two costs, {draws} estimates")
for name, estimator in runs.items():
    rows = []
    for t in thetas:
        theta = tg.Tensor(np.full((draws, 1 if name == "mirrored" else 2), t), "theta")
        x = tg.Normal(theta, 1.0).sample(rng=tg.noise(1), name="x")
        estimates = tg.gradients(tg.sum(estimator(tg.square(x))), theta).mean(axis=1)
        error = estimates.std(ddof=1) / math.sqrt(draws)
        if theory[name](t) == 0:  # the two of a pair cancel
            assert np.all(np.abs(estimates) < 1e-12)
        else:
            assert abs(estimates.mean() - 2 * t) < 4.5 * error
        variance, square = estimates.var(ddof=1), (estimates - estimates.mean()) ** 2
        rows.append((variance, square.std() / math.sqrt(draws)))
        if theory[name](t) > 0:
            assert abs(variance - theory[name](t)) < 4.5 * rows[-1][1]
    variances[name] = np.array(rows)
    print(f"  {name:<15}" + "".join(f"{v:9.2f}" for v, _ in rows) + "   measured")
    print(" " * 17 + "".join(f"{theory[name](t):9.2f}" for t in thetas) + "   theory")

# %% [markdown]
# ## The picture

# %% jupyter={"source_hidden": true}
figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 4.0))

x = tg.Tensor(np.linspace(-4, 4, 201), "x")
y = log_cosh(x)
slope = tg.gradients(tg.sum(y), x, record=True)
lines = {"value": y.value, "slope": slope.value, "curvature": tg.gradients(tg.sum(slope), x)}
for (name, line), colour, style, at in zip(
    lines.items(), ("C0", "C2", "C3"), ("-", "--", "-."), ((-3.9, 1.9), (2.3, 0.68), (-3.9, 0.13)), strict=True
):
    left.plot(x.value, line, style, color=colour)
    left.text(*at, name, color=colour)
left.set_title("An op: log cosh $x$")
left.set_xlabel("$x$")

for s, colour, marker, at in ((0.7, "C0", "o", (0.95, 0.82)), (1.5, "C2", "s", (2.3, 0.37))):
    dist = Rayleigh(s)
    drawn = dist.sample((draws,), rng=tg.noise(2))
    edges = np.linspace(0, 6, 31)
    counts, _ = np.histogram(drawn, edges)
    width = edges[1] - edges[0]
    centres = (edges[1:] + edges[:-1]) / 2
    grid = np.linspace(1e-3, 6, 300)
    middle.plot(grid, np.exp(dist.log_prob(grid)), color=colour)
    middle.errorbar(
        centres, counts / (draws * width), np.sqrt(counts) / (draws * width), fmt=marker, color=colour, markersize=3.5
    )
    middle.text(*at, f"$s = {s}$", color=colour)
middle.set_ylim(bottom=0)
middle.set_title("A distribution: Rayleigh($s$)")
middle.set_xlabel("draw $x$ (dots: 100 000 of them)")
middle.set_ylabel("density")

fine = np.linspace(0, 3, 200)
for name, colour, marker in (("score function", "C1", "s"), ("mirrored", "C3", "D")):
    right.plot(fine, theory[name](fine), color=colour)
    right.errorbar(thetas, variances[name][:, 0], 2 * variances[name][:, 1], fmt=marker, color=colour)
right.text(1.35, 37, "two score functions", color="C1", ha="right")
right.text(1.85, 17, "one mirrored pair", color="C3", ha="left")
right.axhline(2, color="C0")
right.text(3, 3.5, "two paths", color="C0", ha="right")
right.set_title("An estimator: the draw and its mirror image")
right.set_xlabel(r"$\theta$, for the cost $x^2$")
right.set_ylabel("variance of one gradient from two costs")
figure.savefig(figures / "22_add_your_own.png")
print(f"\nthe picture is in {figures / '22_add_your_own.png'}")

# %% [markdown]
# ## Predict, then run
#
# 1. In `log_cosh`, write the derivative as `g * np.tanh(x)`, with NumPy's function. The first derivative on arrays
#    stays right. What will the check complain about?
# 2. In `Rayleigh`, forget `- 2 * tg.log(self.scale)`. Which gradient comes out wrong, the path or the score function?
# 3. For which costs is a mirrored pair worse than two independent draws?

# %% [markdown]
# ## Where to read on
#
# In the source: `tinygrad_vae/ops/elementwise.py`, `tinygrad_vae/distributions/` and
# `tinygrad_vae/estimators/score_function.py`, declarations of all three kinds. Then `tinygrad_vae/checks/`, which
# tests them.
#
# In the literature:
#
# - Hammersley and Morton 1956, A New Monte Carlo Technique: Antithetic Variates
# - Rayleigh 1880, On the Resultant of a Large Number of Vibrations: the distribution
# - Salimans, Ho, Chen, Sidor and Sutskever 2017, Evolution Strategies: mirrored draws at large
# - Griewank and Walther 2008, Evaluating Derivatives, section 3.2: what a derivative rule has to provide
#
# ## Answers
#
# 1. That it cannot be recorded: NumPy knows no Tensors, so there is no second derivative.
# 2. The score function: it differentiates the density. The path only uses the inverse cdf. An estimator can be right
#    while the density is wrong, which is why the check compares the density with the draws.
# 3. For costs f where $f(\theta + e)\, e$ is mostly even in e. For $x^2$ at large theta the odd part of f dominates,
#    and that makes the product even: $2\theta e^2$. There the pair averages nothing, but the single draw scatters even
#    more.


# %% jupyter={"source_hidden": true}
@tg.elementwise(lambda g, y, x: g * np.tanh(x))
def log_cosh_in_numpy(x, /):
    """``log cosh x``, with a derivative that cannot be recorded.

    >>> float(log_cosh_in_numpy(0.0))
    0.0
    """
    return np.abs(x) + np.log1p(np.exp(-2 * np.abs(x))) - math.log(2)


try:
    tg.check_op(log_cosh_in_numpy)
except (CheckError, TypeError) as error:
    print(f"answer 1: {str(error).splitlines()[0]}")
else:
    raise AssertionError("a derivative that cannot be recorded went through")
