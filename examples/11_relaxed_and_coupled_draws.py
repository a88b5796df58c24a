# %% [markdown]
# # 11. Relaxed and coupled draws

# %% [markdown]
"""How does one train many coins at once, when enumeration is too long and the score function too noisy?

Three ideas. Replace each coin by a number between 0 and 1, which has a path, and accept a bias (Gumbel-softmax). Use
that number as a baseline, and take the bias back out (REBAR). Or toss each coin twice, from the same noise mirrored,
and look only at the pairs that differ (DisARM).

Runs in about four seconds. Picture: ``figures/11_relaxed_and_coupled_draws.png``; another folder may be named on the
command line.
"""

# %% [markdown]
# The cost is that of lesson 10: $b \sim Bernoulli(p)$, $f(b) = (b - t)^2$ with $t = 0.45$. The truth is
# $d/dp\,E f = 1 - 2t = 0.1$, and at $p = 0.3$ the score function has a variance of 0.353.

# %%
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from scipy import integrate

import tinygrad_vae as tg

plt.style.use("tinygrad_vae.course")
figures = Path(next((arg for arg in sys.argv[1:2] if not arg.startswith("-")), "figures"))
figures.mkdir(parents=True, exist_ok=True)

t, p, draws = 0.45, 0.3, 100_000
truth = 1 - 2 * t


def f(b):
    return tg.square(b - t)


def gradients_in_p(estimator, draws, seed):
    probability = tg.Tensor(np.full(draws, p), "p")
    return tg.gradients(tg.sum(estimator(probability, tg.noise(seed))), probability)


def variance_and_error(g):
    squares = (g - g.mean()) ** 2
    return squares.mean(), squares.std() / np.sqrt(len(g))


# %% [markdown]
# ## Relax: Gumbel-softmax
#
# A coin can be made from logistic noise L: heads where $\log\frac{p}{1-p} + L > 0$. Replace the jump by a smooth step,
#
# $$ y = \mathrm{sigmoid}\Big(\frac{\log\frac{p}{1-p} + L}{T}\Big), $$
#
# and there is a path through it. The temperature T says how smooth. As T falls, y becomes the coin, and the gradient of
# $E f(y)$ becomes the truth. But the step becomes steep as well: few draws lie on it, and they have huge slopes. The
# bias goes and the variance comes.
#
# Both have no closed form, but they are integrals over L. The measurements are held against those.

# %%


def gumbel_softmax(temperature):
    def relaxed(p, rng):
        noisy = tg.Logistic(tg.logit(p), 1.0).rsample(rng=rng)
        return f(tg.sigmoid(noisy / temperature))

    return relaxed


def relaxed_moment(temperature, power):
    """Return the mean of the Gumbel-softmax gradient, or of its square, by quadrature."""
    centre = -np.log(p / (1 - p))  # where the relaxed coin is undecided

    def integrand(noise):
        y = 1 / (1 + np.exp((centre - noise) / temperature))
        gradient = 2 * (y - t) * y * (1 - y) / (temperature * p * (1 - p))
        density = np.exp(-abs(noise)) / (1 + np.exp(-abs(noise))) ** 2
        return gradient**power * density

    return integrate.quad(integrand, centre - 30, centre)[0] + integrate.quad(integrand, centre, centre + 30)[0]


temperatures = np.array([0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0])
relaxed = []
print("Gumbel-softmax     bias (in theory)         variance (in theory)")
for seed, temperature in enumerate(temperatures):
    g = gradients_in_p(gumbel_softmax(temperature), draws, seed)
    mean, square = relaxed_moment(temperature, 1), relaxed_moment(temperature, 2)
    error, (variance, variance_error) = g.std() / np.sqrt(draws), variance_and_error(g)
    relaxed.append((g.mean(), error, variance, variance_error))
    assert abs(g.mean() - mean) < 4.5 * error
    assert abs(variance - (square - mean**2)) < 4.5 * variance_error
    if temperature in (0.1, 0.5, 2.0):
        print(f"  T = {temperature:<10} {g.mean() - truth:+.4f} ({mean - truth:+.4f})", end="")
        print(f"   {variance:15.4f} ({square - mean**2:.4f})")
relaxed = np.array(relaxed).T
assert relaxed[2, 0] > 10 * relaxed[2, -1] > 0  # the variance rises as T falls

# %% [markdown]
# ## Take the bias back out: REBAR
#
# A relaxed coin knows roughly what the coin will do. So use the relaxed cost as a *baseline* of the score function, and
# add what it takes away, whose gradient has a path. Nothing is left of the bias, at any temperature.
#
# It helps as much as the relaxed cost resembles the cost. For one coin and this cost it does not: f has its minimum
# between 0 and 1, where only the relaxed coin ever is.
#
# ## Couple: DisARM
#
# Toss a second coin from the mirrored noise. If the first was heads where $u < p$, the second is heads where
# $1 - u < p$. For $p < 1/2$ there are three cases: heads and tails, with probability p; tails and heads, with
# probability p; tails twice. Average the estimate over the coins that could have had this pair:
#
# - the pair differs: $\dfrac{f(1) - f(0)}{2p}$. It is the same number, whichever of the two is heads;
# - the pair agrees: 0. There is nothing to compare.
#
# The mean is $2p \cdot \frac{f(1) - f(0)}{2p}$, the truth. The variance is
#
# $$ 2p\,\Big(\frac{f(1) - f(0)}{2p}\Big)^2 - (f(1) - f(0))^2 = (f(1) - f(0))^2 \Big(\frac{1}{2p} - 1\Big). $$
#
# At $p = 0.3$ that is 0.0067, for two evaluations of f. The score function had 0.353 for one. What both sides of a pair
# have in common drops out, without any baseline.

# %%


def toss(p, rng):
    return tg.Bernoulli(probs=p).sample(rng=rng, name="b")


def score_function(cost_of):
    return lambda p, rng: tg.score_function(cost_of(toss(p, rng)))


def rebar(cost_of):
    return lambda p, rng: tg.estimate(cost_of(toss(p, rng)), {"b": tg.REBAR(rng, temperature=0.5)})


def disarm(cost_of):
    return lambda p, rng: tg.estimate(cost_of(toss(p, rng)), {"b": "disarm"})


print(f"\none coin, d/dp at p = {p}; the truth is {truth:+.4f}")
single = {"score function": score_function(f), "REBAR": rebar(f), "DisARM": disarm(f)}
theory = {
    "score function": (1 - t) ** 4 / p + t**4 / (1 - p) - truth**2,
    "DisARM": truth**2 * (1 / (2 * p) - 1),
}
for name, estimator in single.items():
    g = gradients_in_p(estimator, draws, seed=0)
    error, (variance, variance_error) = g.std() / np.sqrt(draws), variance_and_error(g)
    print(f"  {name:<15} {g.mean():+.4f} +- {error:.4f}   variance {variance:.4f} +- {variance_error:.4f}", end="")
    print(f"   theory {theory[name]:.4f}" if name in theory else "")
    assert abs(g.mean() - truth) < 4.5 * error
    if name in theory:
        assert abs(variance - theory[name]) < 4.5 * variance_error

# %% [markdown]
# ## Many coins
#
# Now m coins at once, $f(b) = \frac1m (\sum_i b_i - t m)^2$. The sum has the mean $mp$ and the variance $mp(1-p)$, so
# $E f = \frac1m (\sum p_i (1 - p_i) + (\sum p_i - tm)^2)$, and the gradient in one of the p is
#
# $$ \frac{1 - 2p}{m} + 2\,(p - t). $$
#
# Each gradient hears the cost of all coins. The score function cannot tell its own coin from the noise of the others.
# Coupling helps less than for one coin: in a pair the other coins differ as well. And REBAR comes into its own, because
# a sum of many relaxed coins is very much like the sum of the coins.

# %%


def total(b):
    m = b.shape[1]
    return tg.square(tg.sum(b, axis=1) - t * m) / m


coins = [1, 2, 4, 8, 16, 32]
many = {"score function": score_function(total), "DisARM": disarm(total), "REBAR": rebar(total)}
variances = {name: [] for name in many}
print("\nvariance of the gradient in one p, of m coins")
for m in coins:
    expected = (1 - 2 * p) / m + 2 * (p - t)
    for name, estimator in many.items():
        probability = tg.Tensor(np.full((10_000, m), p), "p")
        g = tg.gradients(tg.sum(estimator(probability, tg.noise(m))), probability)[:, 0]
        variances[name].append(variance_and_error(g))
        assert abs(g.mean() - expected) < 4.5 * g.std(ddof=1) / np.sqrt(len(g))
for name, rows in variances.items():
    print(
        f"  {name:<15}" + "".join(f"   m = {m}: {variance:.3f}" for m, (variance, _) in zip(coins, rows, strict=True))
    )
for name in ("DisARM", "REBAR"):
    (plain, plain_error), (better, error) = variances["score function"][-1], variances[name][-1]
    assert plain - better > 4.5 * np.hypot(plain_error, error) > 0

# %% [markdown]
# ## The picture

# %% jupyter={"source_hidden": true}
figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 4.0))
noise = np.linspace(-3, 4.5, 400)
for temperature, colour in ((1.0, "C2"), (0.5, "C0"), (0.1, "C4")):
    left.plot(noise, 1 / (1 + np.exp(-(np.log(p / (1 - p)) + noise) / temperature)), color=colour)
left.step([-3, -np.log(p / (1 - p)), 4.5], [0, 0, 1], color="#22303c", linewidth=1, linestyle=(0, (4, 3)))
left.text(-2.9, 0.3, "T = 1", color="C2")
left.text(-2.9, 0.4, "T = 0.5", color="C0")
left.text(-2.9, 0.5, "T = 0.1", color="C4")
left.text(1.0, 0.03, "the coin (dashed)")
left.set_title("A coin, and three relaxed ones")
left.set_xlabel("logistic noise $L$")

fine = np.geomspace(0.045, 2.2, 60)
means = np.array([relaxed_moment(temperature, 1) for temperature in fine])
squares = np.array([relaxed_moment(temperature, 2) for temperature in fine])
middle.plot(fine, np.abs(means - truth), color="C2")
middle.errorbar(temperatures, np.abs(relaxed[0] - truth), relaxed[1], fmt="^", color="C2")
middle.plot(fine, np.sqrt(squares - means**2), color="C4")
deviation = np.sqrt(relaxed[2])
middle.errorbar(temperatures, deviation, relaxed[3] / (2 * deviation), fmt="v", color="C4")
middle.text(0.06, 1.9, "standard deviation", color="C4")
middle.text(0.75, 0.085, "bias", color="C2")
middle.set_xscale("log")
middle.set_yscale("log")
middle.set_ylim(0.003, 4)
middle.set_xticks(ticks := [0.05, 0.1, 0.2, 0.5, 1, 2], ticks)
middle.set_xticks([], minor=True)
middle.set_title("Gumbel-softmax: one or the other")
middle.set_xlabel("temperature $T$")
middle.set_ylabel(f"spread and bias of one gradient, $p = {p}$")

for name, (colour, marker) in {"score function": ("C1", "s"), "REBAR": ("C2", "^"), "DisARM": ("C3", "D")}.items():
    variance, error = np.array(variances[name]).T
    right.errorbar(coins, variance, error, fmt=marker + "-", color=colour)
    right.text(36, variance[-1], name, color=colour, va="center")
right.set_xscale("log", base=2)
right.set_yscale("log")
right.set_xticks(coins, coins)
right.set_xlim(0.9, 110)
right.set_title("Many coins, one cost")
right.set_xlabel("coins $m$")
right.set_ylabel("variance of the gradient in one $p$")
figure.savefig(figures / "11_relaxed_and_coupled_draws.png")
print(f"\nthe picture is in {figures / '11_relaxed_and_coupled_draws.png'}")

# %% [markdown]
# ## Predict, then run
#
# 1. At $p = 1/2$ the formula for DisARM gives the variance 0. Why is there nothing left to chance?
# 2. A friend trains with Gumbel-softmax at $T = 0.5$ and reports a smaller standard deviation than the score function
#    has. Is the gradient better?
# 3. DisARM evaluates the cost twice. What would be a fair comparison with the score function, and who wins it at
#    $m = 32$?

# %% [markdown]
# ## Where to read on
#
# In the source: `tinygrad_vae/estimators/`, a file for each kind of estimator. `tg.compare_estimators` measures them
# all on a cost of your own.
#
# In the literature:
#
# - Maddison, Mnih and Teh 2017; Jang, Gu and Poole 2017: Gumbel-softmax
# - Tucker et al. 2017, REBAR; Grathwohl et al. 2018, RELAX
# - Yin and Zhou 2019, ARM; Dong, Mnih and Tucker 2020, DisARM
#
# ## Answers
#
# 1. Then $u < 1/2$ or $1 - u < 1/2$, but never both: the pair always differs, and always says $f(1) - f(0)$.
# 2. Not here. It is biased by more than the truth is long, and points the other way. More draws do not help: a bias
#    does not average out.
# 3. The mean of two score functions, which has half of the variance of one. For one coin DisARM wins by a factor of 26.
#    For 32 coins it is nearly a draw: what varies then is mostly the other coins.

# %% jupyter={"source_hidden": true}
probability = tg.Tensor(np.full(1000, 0.5), "p")
assert np.allclose(tg.gradients(tg.sum(disarm(f)(probability, tg.noise(0))), probability), truth, rtol=1e-12)
assert relaxed_moment(0.5, 1) < 0 < truth
assert variances["score function"][0][0] / 2 > 20 * variances["DisARM"][0][0] > 0
assert 0.8 < variances["score function"][-1][0] / 2 / variances["DisARM"][-1][0] < 1.4
