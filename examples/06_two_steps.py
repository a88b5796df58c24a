# %% [markdown]
# # 6. Two steps: z = g(noise, parameters)

# %% [markdown]
"""How can a draw have a derivative in its parameters?

It is made in two steps: noise that knows nothing of the parameters, then a function of noise and parameters. Hold the
noise fixed, and the draw moves smoothly as the parameters move.

Runs in about two seconds. Picture: ``figures/06_two_steps.png``; another folder may be named on the command line.
"""

# %% [markdown]
# Every continuous distribution of the library has such a g. There are three kinds.
#
# - **Location and scale** (Normal, Laplace, ...): $z = loc + scale \cdot e$, with e from the standard member of the
#   family.
# - **Inverse cdf** (Exponential, Logistic, ...): $z = F^{-1}(u)$, with u uniform on (0, 1). The cdf $F(z)$ is the
#   probability of a draw below z; it runs from 0 to 1, and z is where it passes u.
# - **Implicit** (Gamma, Beta, ...): $F^{-1}$ has no formula, but F has. The noise $u = F(z; a)$ stays the same while
#   the parameter a moves, so z has to move along:
#
# $$ \frac{\partial F}{\partial z}\, dz + \frac{\partial F}{\partial a}\, da = 0, \qquad \text{hence} \qquad
#    \frac{dz}{da} = -\frac{\partial F / \partial a}{p(z)}, $$
#
# because the derivative of the cdf in z is the density p(z).

# %%
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from scipy import special, stats

import tinygrad_vae as tg

plt.style.use("tinygrad_vae.course")
figures = Path(next((arg for arg in sys.argv[1:2] if not arg.startswith("-")), "figures"))
figures.mkdir(parents=True, exist_ok=True)


def report(what, g, truth):
    """Print the mean of single-draw gradients beside the truth, and compare them in standard errors."""
    error = g.std(ddof=1) / np.sqrt(len(g))
    print(f"  {what:<38} {g.mean():8.4f} +- {error:.4f}   truth {truth:.4f}")
    assert abs(g.mean() - truth) < 4.5 * error


# %% [markdown]
# ## Location and scale, and inverse cdf
#
# `sample` runs g on arrays: a number comes out. `reparameterize` runs the same g on Tensors: a graph comes out, with
# the same number at its end. There is no second formula to get wrong.

# %%
draws = 100_000
print(f"gradients through the draw, from {draws} draws")

loc, scale = tg.Tensor(np.full(draws, 1.0), "loc"), tg.Tensor(np.full(draws, 0.5), "scale")
z = tg.Normal(loc, scale).sample(rng=tg.noise(0), name="z")
assert np.array_equal(z.value, loc.value + scale.value * z.noise.value)  # z = g(noise, parameters), bit for bit
in_loc, in_scale = tg.gradients(tg.sum(tg.reparameterize(z * z)), [loc, scale])
report("Normal(1, 0.5), z^2, in loc", in_loc, 2 * 1.0)
report("Normal(1, 0.5), z^2, in scale", in_scale, 2 * 0.5)

rate = tg.Tensor(np.full(draws, 2.0), "rate")
z = tg.Exponential(rate).sample(rng=tg.noise(1), name="z")
report("Exponential(2), z^2, in rate", tg.gradients(tg.sum(tg.reparameterize(z * z)), rate), -4 / 2.0**3)

# %% [markdown]
# ## Implicit
#
# The inverse cdf of the Gamma distribution has no formula. A draw may come from anywhere; here SciPy makes it. Then we
# give it the derivative $-(\partial F/\partial a) / p$ by hand: `surrogate(value, path)` has the value of its first
# argument and the derivative of its second.

# %%


def gamma_draw(a, u):
    """Return draws of Gamma(a, 1) that belong to the uniform noise u, with the implicit derivative in a."""
    z = special.gammaincinv(a.value, u)
    step = 1e-5
    cdf_slope = (special.gammainc(a.value + step, z) - special.gammainc(a.value - step, z)) / (2 * step)
    dz_da = -cdf_slope / stats.gamma.pdf(z, a.value)
    return tg.surrogate(z, z + dz_da * (a - a.value))


shape = 1.5
a = tg.Tensor(np.full(draws, shape), "a")
z = gamma_draw(a, tg.noise(2).uniform((draws,)))
costs = {
    "Gamma(1.5), z, in a": (z, 1.0),
    "Gamma(1.5), z^2, in a": (z * z, 2 * shape + 1),
    "Gamma(1.5), log z, in a": (tg.log(z), special.polygamma(1, shape)),
}
for what, (cost, truth) in costs.items():
    report(what, tg.gradients(tg.sum(cost), a), truth)

# %% [markdown]
# The library's Gamma takes its draws from the same uniform noise and differentiates the same equation, without a
# difference quotient.

# %%
drawn = tg.Gamma(a).sample(rng=tg.noise(2), name="z")
assert np.allclose(drawn.value, z.value, rtol=1e-12)
by_hand, by_rewrite = (tg.gradients(tg.sum(cost), a) for cost in (z, tg.reparameterize(drawn)))
print(f"  the largest difference to the library's Gamma, relatively: {np.max(np.abs(by_hand / by_rewrite - 1)):.0e}")
assert np.allclose(by_hand, by_rewrite, rtol=1e-5)

# %% [markdown]
# ## What the noise is good for
#
# The noise is a node of the graph, and it can be swapped. `replay` runs the graph again with other leaves.
#
# **The same noise, another parameter: common random numbers.** A difference of two costs is far steadier if both met
# the same noise. Take $x \sim N(\theta, 1)$, the cost $x^2$, and the quotient $(f(\theta + h) - f(\theta - h)) / 2h$.
# With common noise it is $2\,(\theta + e)$ for every h: it *is* the pathwise gradient, with the variance 4. With fresh
# noise the two costs are independent, and the variance is $(2\theta^2 + 2h^2 + 1) / h^2$.

# %%
theta = tg.Tensor(np.full(draws, 2.0), "theta")
x = tg.Normal(theta, 1.0).sample(rng=tg.noise(3), name="x")
cost = x * x
fresh = x.noise.with_value(tg.noise(4).normal((draws,)))

widths = np.array([0.02, 0.05, 0.1, 0.2, 0.5, 1.0])
quotients = {"common noise": [], "fresh noise": []}
for h in widths:
    above = tg.replay(cost, {theta: theta.value + h}).value
    below = tg.replay(cost, {theta: theta.value - h}).value
    below_fresh = tg.replay(cost, {theta: theta.value - h, x.noise: fresh}).value
    quotients["common noise"].append((above - below) / (2 * h))
    quotients["fresh noise"].append((above - below_fresh) / (2 * h))
theory = {"common noise": lambda h: 4 + 0 * h, "fresh noise": lambda h: (2 * 2.0**2 + 2 * h**2 + 1) / h**2}

spread = {}
print(f"\nvariance of a difference quotient at h = {widths[0]}")
for name, rows in quotients.items():
    squares = (np.array(rows) - np.mean(rows, axis=1, keepdims=True)) ** 2
    variance, error = squares.mean(axis=1), squares.std(axis=1) / np.sqrt(draws)
    spread[name] = variance, error
    print(f"  {name:<14} {variance[0]:9.2f} +- {error[0]:.2f}, theory {theory[name](widths[0]):.2f}")
    assert np.all(np.abs(variance - theory[name](widths)) < 4.5 * error)

pathwise = tg.gradients(tg.sum(tg.reparameterize(cost)), theta)
assert np.allclose(quotients["common noise"], pathwise, rtol=1e-9)

# %% [markdown]
# **The mirrored noise: an antithetic pair.** Noise e is as likely as -e, and u as likely as 1 - u, so the mean over
# such a pair is unbiased. Write a gradient as the sum of an even and an odd function of e. Over the pair the odd part
# cancels. The even part is the same in both, so it is not averaged at all:
#
# $$ \text{independent pair: } \tfrac12 (V_{even} + V_{odd}), \qquad \text{mirrored pair: } V_{even}. $$
#
# For $x^2$ the gradient $2\,(\theta + e)$ has no even spread, and the pair is exact. For $\cos x$ at $\theta = 2$ it
# has more even spread than odd, and the pair is worse than two independent draws. Measure before you mirror.

# %%
even, odd = (1 + np.exp(-2)) / 2 - np.exp(-1), (1 - np.exp(-2)) / 2  # Var cos e and Var sin e
cases = {
    "x^2": (tg.square, 0.0, 4.0),
    "cos x": (tg.cos, np.sin(2.0) ** 2 * even, np.cos(2.0) ** 2 * odd),
}
print("\nvariance of the mean of two pathwise gradients (and in theory)")
for what, (f, even, odd) in cases.items():
    cost = tg.reparameterize(f(x))
    first, mirrored, other = (
        tg.gradients(tg.sum(tg.replay(cost, {x.noise: noise})), theta) for noise in (x.noise, x.noise.mirrored(), fresh)
    )
    print(f"  {what:<6}", end="")
    for pair, second, variance in (("independent", other, (even + odd) / 2), ("mirrored", mirrored, even)):
        mean = (first + second) / 2
        squares = (mean - mean.mean()) ** 2
        print(f"   {pair} {squares.mean():.4f} ({variance:.4f})", end="")
        if variance == 0:  # exact: no draw is off
            assert np.allclose(mean, 4.0, rtol=1e-12)
        else:
            assert abs(squares.mean() - variance) < 4.5 * squares.std() / np.sqrt(draws)
    print()

# %% [markdown]
# ## The picture

# %% jupyter={"source_hidden": true}
figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 4.0))
u = np.linspace(0.001, 0.96, 300)
before, after = tg.Exponential(1.0), tg.Exponential(0.6)
left.plot(u, before.icdf(u), color="C0")
left.plot(u, after.icdf(u), color="C2")
for v in (0.4, 0.65, 0.8, 0.9):
    low, high = before.icdf(v), after.icdf(v)
    left.annotate(
        "", (v, high), (v, low), arrowprops={"arrowstyle": "-|>", "color": "#22303c", "shrinkA": 4, "shrinkB": 3}
    )
    left.plot(v, low, "o", color="C0")
    left.plot(v, high, "o", color="C2", markerfacecolor="white")
left.text(0.74, 0.75, "rate 1", color="C0")
left.text(0.72, 3.3, "rate 0.6", color="C2", ha="right")
left.set_title("Fixed noise: the draw moves with the rate")
left.set_xlabel("noise $u$, uniform on (0, 1)")
left.set_ylabel("draw $z = -\\log(1 - u)\\,/\\,rate$")

grid = np.linspace(0, 6, 300)
for value, colour in ((1.5, "C0"), (2.2, "C2")):
    middle.plot(grid, special.gammainc(value, grid), color=colour)
for v in (0.2, 0.5, 0.8):
    low, high = special.gammaincinv(1.5, v), special.gammaincinv(2.2, v)
    middle.annotate(
        "", (high, v), (low, v), arrowprops={"arrowstyle": "-|>", "color": "#22303c", "shrinkA": 4, "shrinkB": 3}
    )
    middle.plot(low, v, "o", color="C0")
    middle.plot(high, v, "o", color="C2", markerfacecolor="white")
middle.text(1.45, 0.68, "$a = 1.5$", color="C0", ha="right")
middle.text(3.9, 0.78, "$a = 2.2$", color="C2", ha="left")
middle.set_title("Implicit: $F(z; a)$ stays, so $z$ moves")
middle.set_xlabel("draw $z$ of Gamma($a$)")
middle.set_ylabel("cdf $F(z; a)$, which is the noise $u$")

fine = np.logspace(np.log10(0.017), np.log10(1.2), 100)
for name, colour, marker in (("fresh noise", "C4", "s"), ("common noise", "C0", "o")):
    variance, error = spread[name]
    right.loglog(fine, theory[name](fine), color=colour)
    right.errorbar(widths, variance, error, fmt=marker, color=colour)
right.text(0.06, 5000, "fresh noise", color="C4")
right.text(0.02, 5.2, "common noise", color="C0")
right.set_ylim(1, 6e4)
right.set_title("Common noise: a difference that holds still")
right.set_xlabel("step $h$")
right.set_ylabel("variance of $(f(\\theta + h) - f(\\theta - h))\\,/\\,2h$")
figure.savefig(figures / "06_two_steps.png")
print(f"\nthe picture is in {figures / '06_two_steps.png'}")

# %% [markdown]
# ## Predict, then run
#
# 1. A uniform draw on (0, h) is $z = h u$. For the cost z, what is the pathwise gradient of one draw in h, what is its
#    mean, and what is its variance?
# 2. The cost is a step: 1 where $x > 0$, else 0. What does the difference quotient with *common* noise do as h shrinks?
# 3. The cost is $|x|$ with $x \sim N(0, 1)$. What does a mirrored pair say about the gradient in the mean?

# %% [markdown]
# ## Where to read on
#
# In the source: `transform` in each file of `tinygrad_vae/distributions/`, derivatives without a formula for g in
# `implicit.py`; then `Noise`, `Sample` and `replay` in `tinygrad_vae/core/`.
#
# In the literature:
#
# - Hammersley and Morton 1956, A New Monte Carlo Technique: Antithetic Variates
# - Suri and Zazanis 1988; Glasserman 1991, Gradient Estimation via Perturbation Analysis: noise held fixed
# - Glasserman and Yao 1992, Some Guidelines and Guarantees for Common Random Numbers
# - Devroye 1986, Non-Uniform Random Variate Generation: a g for every distribution
# - Figurnov, Mohamed and Mnih 2018; Jankowiak and Obermeyer 2018: implicit derivatives
#
# ## Answers
#
# 1. $dz/dh = u$. The mean is 1/2, which is the derivative of $E z = h/2$, and the variance is 1/12 for every h.
# 2. It is 0 in nearly every draw. With a probability of about $2h\, p(0)$ the step falls between the two points, and
#    the quotient is $1/2h$. Its mean is right, $p(0) = 0.3989$, but its variance grows like $p(0) / 2h$. At $h = 0$
#    nothing is left, which is why the path alone says 0.
# 3. The slope is the sign of x, an odd function of the noise. Every pair says exactly 0, the truth.

# %% jupyter={"source_hidden": true}
h = 0.05
centre = tg.Tensor(np.zeros(draws), "theta")
jump = tg.where(tg.Normal(centre, 1.0).sample(rng=tg.noise(5), name="x") > 0, 1.0, 0.0)
quotient = (tg.replay(jump, {centre: centre.value + h}).value - tg.replay(jump, {centre: centre.value - h}).value) / (
    2 * h
)
squares = (quotient - quotient.mean()) ** 2
inside = special.ndtr(h) - special.ndtr(-h)
assert abs(quotient.mean() - inside / (2 * h)) < 4.5 * quotient.std() / np.sqrt(draws)
assert abs(squares.mean() - inside * (1 - inside) / (2 * h) ** 2) < 4.5 * squares.std() / np.sqrt(draws)
