# %% [markdown]
# # 8. Rare draws

# %% [markdown]
"""When is an estimate calm, repeatable, and wrong?

When nearly all of the expectation comes from draws that never turn up. The error bar is made of the same draws, so it
does not know either, and no gradient estimator repairs that: one has to draw elsewhere.

Runs in about two seconds. Picture: ``figures/08_rare_draws.png``; another folder may be named on the command line.
"""

# %% [markdown]
# Let $x \sim N(\mu, 1)$ with $\mu = 0$, and let the cost be $e^{kx}$. Complete the square in the exponent,
# $kx - \frac12 x^2 = \frac12 k^2 - \frac12 (x - k)^2$, and the mean can be read off:
#
# $$ E\, e^{kx} = e^{k^2/2}, \qquad \frac{d}{d\mu} E\, e^{kx} = k\, e^{k^2/2}. $$
#
# Which x matter? The square has just told us: the integrand is a bell curve around $x = k$. Among n draws of $N(0, 1)$,
# though, the largest lies near $x_{max}$, where $n\, P(x > x_{max}) = 1$. For a hundred thousand draws that is 4.26.
# Beyond $k = 4$ the estimate is an average over draws that all lie where nothing matters.

# %%
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from scipy import special

import tinygrad_vae as tg

plt.style.use("tinygrad_vae.course")
figures = Path(next((arg for arg in sys.argv[1:2] if not arg.startswith("-")), "figures"))
figures.mkdir(parents=True, exist_ok=True)

draws = 100_000


def gradients_in_mu(estimator, k, seed):
    mu = tg.Tensor(np.zeros(draws), "mu")
    x = tg.Normal(mu, 1.0).sample(rng=tg.noise(seed), name="x")
    return tg.gradients(tg.sum(estimator(tg.exp(k * x))), mu)


def mean_and_error(g):
    return g.mean(), g.std(ddof=1) / np.sqrt(len(g))


# %% [markdown]
# ## What the draws can see
#
# The mean of n draws sees the part of the integral below $x_{max}$. That is the share $\Phi(x_{max} - k)$ of the truth,
# with $\Phi$ the cdf of $N(0, 1)$: the line in the picture.
#
# Watch the error bars, as shares of the truth. Up to $k = 2$ the truth lies within about two of them. They grow up to
# $k = 4$, but too slowly: there the truth is more than six of them away. From there on they *shrink*, while the
# estimate falls to nothing.

# %%
farthest = special.ndtri(1 - 1 / draws)
ks = np.array([0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0])
shares = {}
print(f"{draws} draws; the largest is expected near {farthest:.2f}")
print("    k   pathwise / truth       score function / truth   what the draws can see")
for k in ks:
    truth = k * np.exp(k**2 / 2)
    row = []
    for estimator in (tg.reparameterize, tg.score_function):
        mean, error = mean_and_error(gradients_in_mu(estimator, k, seed=0) / truth)
        row.append((mean, error))
    shares[k] = row
    (a, da), (b, db) = row
    visible = special.ndtr(farthest - k)
    print(f"  {k:3.1f}   {a:8.4f} +- {da:6.4f}      {b:8.4f} +- {db:6.4f}      {visible:8.4f}")
    if k <= 1.5:
        assert abs(a - 1) < 4.5 * da
        assert abs(b - 1) < 4.5 * db
    if k >= 7:  # calm and wrong: by its own standard errors, the truth is out of the question
        assert 1 - a > 4.5 * da
        assert 1 - b > 4.5 * db
for which in range(2):  # pathwise, and the score function
    assert max(ks, key=lambda k: shares[k][which][1]) == 4.0

# %% [markdown]
# ## What the trick does not repair
#
# In theory the mean squares are $k^2 e^{2k^2}$ for pathwise and $(1 + 4k^2)\, e^{2k^2}$ for the score function. The
# trick gains a factor of 4 or so, where $e^{2k^2}$ is the trouble. Both fail at the same k, for the same reason: their
# draws.
#
# You cannot see the failure in the measured variance either. It is a mean of $e^{2kx}$, and the integrand of that has
# its peak at $x = 2k$: twice as far out. At $k = 3$ a hundred thousand draws see a small part of it, run after run.

# %%
k = 3.0
print(f"\nmean square at k = {k:.0f}")
for name, estimator, theory in (
    ("pathwise", tg.reparameterize, k**2 * np.exp(2 * k**2)),
    ("score function", tg.score_function, (1 + 4 * k**2) * np.exp(2 * k**2)),
):
    seen = np.array([np.mean(gradients_in_mu(estimator, k, seed) ** 2) for seed in range(20)])
    print(f"  {name:<15} theory {theory:.2e}; the median of {len(seen)} runs sees {np.median(seen):.2e}", end="")
    print(f", and {np.sum(seen < theory)} of them see less than there is")
    assert np.median(seen) < theory / 2

# %% [markdown]
# ## What does: draw elsewhere
#
# Draw x from $q = N(k, 1)$, where the integrand has its peak, and weigh each draw with
# $w = p(x) / q(x) = e^{-kx + k^2/2}$. The cost times its weight is then the same for every draw, $e^{k^2/2}$. With the
# score function, $f w\, (x - \mu) = e^{k^2/2} (x - \mu)$ has a spread, relative to the truth, of $1/k$. It *falls*.

# %%
print("\nthe score function with draws from N(k, 1), over the truth")
repaired = {}
for k in ks:
    mu = tg.Tensor(np.zeros(draws), "mu")
    x = tg.Normal(k, 1.0).sample((draws,), rng=tg.noise(1))
    log_weight = tg.Normal(0.0, 1.0).log_prob(x) - tg.Normal(k, 1.0).log_prob(x)
    weighed = np.exp(k * x + log_weight) * tg.Normal(mu, 1.0).log_prob(x)  # arrays, but for mu
    g = tg.gradients(tg.sum(weighed), mu) / (k * np.exp(k**2 / 2))
    mean, error = repaired[k] = mean_and_error(g)
    assert abs(mean - 1) < 4.5 * error
    assert abs(g.std(ddof=1) - 1 / k) < 4.5 / k / np.sqrt(2 * draws)  # the standard error of a Gaussian's spread
print("  k = 8:", f"{mean:.4f} +- {error:.4f}")

# %% [markdown]
# ## The weights have the same illness
#
# That worked since we knew where to draw. Between $N(0, 1)$ and $N(\delta, 1)$ the weight has the variance
# $e^{|\delta|^2} - 1$, and $|\delta|^2$ adds up over dimensions: with a distance of only 0.5 in each of 64, it is 16.
# The *measured* variance stays small, because it too is an average over draws that never come.

# %%
distances = np.array([0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0])
e = tg.noise(2).normal((draws,))
spread = []
for delta in distances:
    weight = np.exp(tg.Normal(delta, 1.0).log_prob(e) - tg.Normal(0.0, 1.0).log_prob(e))
    squares = (weight - weight.mean()) ** 2
    spread.append((squares.mean(), squares.std() / np.sqrt(draws)))
spread = np.array(spread)
in_theory = np.expm1(distances**2)
print("\nvariance of the weight between N(0, 1) and N(delta, 1)")
for delta, (variance, error), theory in zip(distances, spread, in_theory, strict=True):
    print(f"  delta = {delta:.1f}: measured {variance:10.2f} +- {error:8.2f}, theory {theory:12.2f}")
assert abs(spread[0, 0] - in_theory[0]) < 4.5 * spread[0, 1]
assert spread[-1, 0] + 4.5 * spread[-1, 1] < in_theory[-1]

# %% [markdown]
# ## The picture

# %% jupyter={"source_hidden": true}
figure, (left, right) = plt.subplots(1, 2, figsize=(10.5, 4.2))
fine = np.linspace(0.3, 8.2, 300)
left.axhline(1, color="#22303c", linewidth=1)
left.text(8.2, 1.03, "truth", ha="right")
left.plot(fine, special.ndtr(farthest - fine), color="C4")
left.text(5.1, 0.28, f"what draws up to {farthest:.1f}\ncan see", color="C4")
for i, (name, colour, marker, shift) in enumerate(
    (("pathwise", "C0", "o", -0.06), ("score function", "C1", "s", 0.06)),
):
    means, errors = np.array([shares[k][i] for k in ks]).T
    left.errorbar(ks + shift, means, errors, fmt=marker, color=colour, label=name)
means, errors = np.array([repaired[k] for k in ks]).T
left.errorbar(ks, means, errors, fmt="^", color="C2", label="draws from $N(k, 1)$, weighed")
left.set_ylim(-0.08, 1.5)
left.legend(loc="upper left", ncols=2)
left.set_title("Calm and wrong")
left.set_xlabel("$k$, for the cost $\\exp(k x)$")
left.set_ylabel("estimate / truth, with its own error bar")
fine = np.linspace(0.4, 4.1, 200)
right.semilogy(fine, np.expm1(fine**2), color="#22303c")
right.errorbar(distances, spread[:, 0], spread[:, 1], fmt="o", color="C2")
right.text(3.1, 1e6, "$e^{\\delta^2} - 1$", ha="right")
right.text(3.3, 30, f"measured with\n{draws:,} draws".replace(",", " "), color="C2")
right.set_title("The spread of the weights hides itself")
right.set_xlabel("distance $\\delta$ between the two bell curves")
right.set_ylabel("variance of the weight")
figure.savefig(figures / "08_rare_draws.png")
print(f"\nthe picture is in {figures / '08_rare_draws.png'}")

# %% [markdown]
# ## Predict, then run
#
# 1. How many draws of $N(0, 1)$ would it take until one lies beyond $k = 6$? What share of the truth would they see?
# 2. The estimate of $E\, e^{kx}$ itself, with draws from $N(k, 1)$ and weights: how large is its variance?
# 3. You have an estimate with an error bar of 2 % of its value, and no closed form. What could you do to find out
#    whether it has seen the draws that matter?

# %% [markdown]
# ## Where to read on
#
# In the source: `importance_weighted_bound` in `tinygrad_vae/vae/bounds.py` lives on such weights.
#
# In the literature:
#
# - Kahn and Marshall 1953, Methods of Reducing Sample Size in Monte Carlo Computations: draw where it matters
# - Siegmund 1976; Asmussen and Glynn 2007, Stochastic Simulation, chapter 6: rare events, and the shift used here
# - Glynn and Iglehart 1989, Importance Sampling for Stochastic Simulations
# - Chatterjee and Diaconis 2018, The Sample Size Required in Importance Sampling: exp of the divergence, and why the
#   variance that one measures is no diagnosis
#
# ## Answers
#
# 1. About $1 / P(x > 6)$, a billion, and then $\Phi(0)$: half of it.
# 2. Zero. Each draw gives $e^{k^2/2}$, the truth. To draw in proportion to the integrand is the ideal of importance
#    sampling, and needs the answer.
# 3. Draw elsewhere too, from a wider distribution with weights, and see whether both agree. Take ten times as many
#    draws, and see whether the estimate moves by more than its error bar. Neither is a proof.

# %% jupyter={"source_hidden": true}
assert 0.9e9 < 1 / special.ndtr(-6.0) < 1.1e9
x = tg.Normal(5.0, 1.0).sample((1000,), rng=tg.noise(3))
assert np.allclose(np.exp(5.0 * x + tg.Normal(0.0, 1.0).log_prob(x) - tg.Normal(5.0, 1.0).log_prob(x)), np.exp(12.5))
