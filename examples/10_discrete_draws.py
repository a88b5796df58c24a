# %% [markdown]
# # 10. Discrete draws

# %% [markdown]
"""What if the draw is 0 or 1, and there is no path at all?

Sum over the values where there are few of them, and use the probability where there are many. The popular shortcut,
straight-through, follows the gradient of something else, and here it leads to the wrong place.

Runs in about two seconds. Picture: ``figures/10_discrete_draws.png``; another folder may be named on the command line.
"""

# %% [markdown]
# Toss a coin, $b \sim Bernoulli(p)$, and pay $f(b) = (b - t)^2$ with $t = 0.45$. By hand,
#
# $$ E f = p\,(1 - t)^2 + (1 - p)\,t^2, \qquad \frac{d}{dp} E f = (1 - t)^2 - t^2 = 1 - 2t = +0.1. $$
#
# Tails cost $f(0) = 0.2025$, heads cost $f(1) = 0.3025$, so the best p is 0. It is nearly a tie, and that makes it
# hard.
#
# The trick has nothing to offer here. A coin can be made from noise: toss a uniform $u$, and say heads where $u < p$.
# But hold $u$ fixed and move $p$ a little, and nearly always nothing moves; now and then the coin jumps. A jump has no
# derivative.

# %%
import sys
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import tinygrad_vae as tg

plt.style.use("tinygrad_vae.course")
figures = Path(next((arg for arg in sys.argv[1:2] if not arg.startswith("-")), "figures"))
figures.mkdir(parents=True, exist_ok=True)

t = 0.45
truth = 1 - 2 * t


def f(b):
    return tg.square(b - t)


def toss(p, rng):
    return f(tg.Bernoulli(probs=p).sample(rng=rng, name="b"))


p = tg.Tensor(0.3, "p")
try:
    tg.gradients(tg.reparameterize(toss(p, tg.noise(0))), p)
    raise AssertionError("a coin was differentiated")
except tg.BlockedGradientError as error:
    print(f"{type(error).__name__}: {error}\n")

# %% [markdown]
# ## Two ways that are right
#
# - **Enumeration** writes the mean out: $p f(1) + (1 - p) f(0)$. No draw, no variance, two evaluations of f. With m
#   coins it takes $2^m$ of them.
# - **The score function** weighs the cost by the derivative of the log-probability, as in lesson 5. It asks nothing of
#   f. The derivative of $\log p$ is $1/p$ for heads and $-1/(1-p)$ for tails, so one toss gives $f(1)/p$ or
#   $-f(0)/(1-p)$, and the variance is
#
# $$ \frac{(1 - t)^4}{p} + \frac{t^4}{1 - p} - (1 - 2t)^2. $$
#
# At $p = 0.3$ that is 0.353: a standard deviation of 0.59 around a gradient of 0.1. The **baseline**
# $(1 - p) f(1) + p f(0)$ takes all of it away. (Check it: both outcomes then give $f(1) - f(0)$.) One has to know f(0)
# and f(1) for that.
#
# ## One way that is not
#
# **Straight-through** pretends that $db/dp = 1$: the value of the toss, the derivative of its mean. What it gives on
# average is $E f'(b) = 2\,(p - t)$, at $p = 0.3$ the number $-0.3$. The truth is $+0.1$. It points the other way.

# %%


def enumeration(p, rng):
    return p * f(1.0) + (1 - p) * f(0.0)


def score_function(p, rng):
    return tg.score_function(toss(p, rng))


def with_baseline(p, rng):
    return tg.score_function(toss(p, rng), (1 - p.value) * f(1.0) + p.value * f(0.0))


def straight_through(p, rng):
    b = tg.stop_gradient(tg.Bernoulli(probs=p).sample(rng=rng, name="b"))
    return f(tg.surrogate(b, p))


def gradients_in_p(estimator, p, draws, seed):
    p = tg.Tensor(np.full(draws, p), "p")
    return tg.gradients(tg.sum(estimator(p, tg.noise(seed))), p)


p, draws = 0.3, 100_000
cases = {
    "enumeration": (enumeration, truth, 0.0),
    "score function": (score_function, truth, (1 - t) ** 4 / p + t**4 / (1 - p) - truth**2),
    "with a baseline": (with_baseline, truth, 0.0),
    "straight-through": (straight_through, 2 * (p - t), 4 * p * (1 - p)),
}
print(f"d/dp at p = {p}; the truth is {truth:+.4f}")
for name, (estimator, expected, variance) in cases.items():
    g = gradients_in_p(estimator, p, draws, seed=0)
    error = g.std(ddof=1) / np.sqrt(draws)
    verdict = "unbiased" if expected == truth else f"biased by {expected - truth:+.4f}"
    print(
        f"  {name:<18} {g.mean():+.4f} +- {error:.4f}   expected {expected:+.4f}   variance {g.var():.4f}   {verdict}"
    )
    squares = (g - g.mean()) ** 2
    if variance == 0:
        assert np.allclose(g, expected, rtol=1e-12)
    else:
        assert abs(g.mean() - expected) < 4.5 * error
        assert abs(squares.mean() - variance) < 4.5 * squares.std() / np.sqrt(draws)

# %% [markdown]
# ## What the library says
#
# It knows straight-through by name, and warns when a gradient is taken through it. What you write yourself with
# `surrogate`, as above, is your own word, and the library takes it.

# %%
by_hand = {"enumeration": enumeration, "straight-through": straight_through}
print()
for name, estimator in by_hand.items():
    probability = tg.Tensor(np.full(1000, p), "p")
    opened = tg.estimate(toss(probability, tg.noise(1)), {"b": name})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        gradient = tg.gradients(tg.sum(opened), probability)
    print(f"  {name}: {caught[0].message if caught else 'unbiased'}")
    assert np.allclose(gradient, gradients_in_p(estimator, p, 1000, seed=1), rtol=1e-9)
    assert bool(caught) == (name == "straight-through")

# %% [markdown]
# ## Where each one leads
#
# Forty walkers descend in the logit of p from $p = 0.3$, with the mean of 100 gradients a step. The true gradient
# drives p to 0. The straight-through gradient $2\,(p - t)$ drives it to $t$, where the coin is nearly fair and costs
# more.

# %%
steps, rate, walkers = 400, 5.0, 40
walks = {}
print(f"\n{walkers} walkers from p = {p}, after {steps} steps")
for name in ("enumeration", "score function", "straight-through"):
    logits = np.full((walkers, 1), np.log(p / (1 - p)))
    walk = []
    for step in range(steps):
        recorded = tg.Tensor(logits, "logits")
        probability = tg.sigmoid(recorded)
        walk.append(probability.value[:, 0])
        costs = cases[name][0](tg.broadcast_to(probability, (walkers, 100)), tg.noise(2).at(step))
        logits = logits - rate * tg.gradients(tg.sum(tg.mean(costs, axis=1)), recorded)
    walks[name] = np.array(walk)
    end = walks[name][-1]
    error = end.std(ddof=1) / np.sqrt(walkers)
    print(f"  {name:<18} p = {end.mean():.3f} +- {error:.3f}, cost {np.mean(end * f(1.0) + (1 - end) * f(0.0)):.4f}")
    if name == "score function":
        assert end.mean() < p - 4.5 * error  # the right way
    if name == "straight-through":
        assert end.mean() > p + 4.5 * error  # the wrong way

# %% [markdown]
# ## The picture

# %% jupyter={"source_hidden": true}
figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 4.0))
look = {"score function": ("C1", "s"), "straight-through": ("C3", "D"), "enumeration": ("#22303c", "o")}
fine = np.linspace(0.06, 0.94, 60)
some = np.linspace(0.1, 0.9, 9)
left.axhline(0, color="#22303c", linewidth=0.7, linestyle=(0, (2, 3)))
for name, line in {"score function": np.full(len(fine), truth), "straight-through": 2 * (fine - t)}.items():
    colour, marker = look[name]
    left.plot(fine, line, color=colour)
    g = np.array([gradients_in_p(cases[name][0], q, 4000, seed=k) for k, q in enumerate(some)])
    left.errorbar(some, g.mean(axis=1), g.std(axis=1) / np.sqrt(g.shape[1]), fmt=marker, color=colour, label=name)
left.text(0.06, 0.135, "truth $1 - 2t$", color="C1")
left.legend(loc="upper left")
left.set_title("What each one expects")
left.set_xlabel("$p$")
left.set_ylabel("gradient in $p$ (error bars: 4000 tosses)")

for name, walk in walks.items():
    mean, error = walk.mean(axis=1), walk.std(axis=1, ddof=1)
    right.fill_between(np.arange(steps), mean - error, mean + error, color=look[name][0], alpha=0.2, linewidth=0)
    right.plot(mean, color=look[name][0], linestyle="--" if name == "enumeration" else "-")
right.text(395, 0.52, f"straight-through, towards $t = {t}$", color="C3", ha="right")
right.text(395, 0.045, "enumeration (dashed), score function", color="C1", ha="right")
right.axhline(t, color="#22303c", linewidth=0.7, linestyle=(0, (2, 3)))
right.set_ylim(-0.02, 0.56)
right.set_title("Where each one leads (the best $p$ is 0)")
right.set_xlabel("steps, 100 tosses each")
right.set_ylabel("$p$")
figure.savefig(figures / "10_discrete_draws.png")
print(f"\nthe picture is in {figures / '10_discrete_draws.png'}")

# %% [markdown]
# ## Predict, then run
#
# 1. For which t does straight-through lead to the best p, whatever p one starts from?
# 2. With $t = 0.5$ heads and tails cost the same. What is the true gradient, and what is the variance of the score
#    function at $p = 0.5$? What would a baseline of 0.25 do?
# 3. Twenty coins, and a cost that depends on all of them. How many evaluations does enumeration take, and how many does
#    the score function?

# %% [markdown]
# ## Where to read on
#
# Lesson 11 has three better answers for many coins, and lesson 13 one that looks at what happens when a coin flips.
#
# In the source: `tinygrad_vae/distributions/discrete.py`, where `path = None` is said, and `tinygrad_vae/estimators/`.
#
# In the literature:
#
# - Williams 1992: networks of coins, trained through the probability
# - Hinton 2012, in his lectures; Bengio, Leonard and Courville 2013: straight-through, without a claim to be right
# - Tucker et al. 2017, REBAR, from which the cost $(b - 0.45)^2$ is taken
#
# ## Answers
#
# 1. For none strictly between 0 and 1. It stops at $p = t$, and the best p is always 0 or 1. At $t = 0$ and $t = 1$
#    both agree.
# 2. The gradient is 0, and each toss gives $0.25 / 0.5 = +0.5$ or $-0.5$: a variance of 0.25, all of it useless. The
#    baseline leaves exactly 0 in every toss.
# 3. $2^{20}$, about a million. The score function takes one, whatever the number of coins. It pays in variance.

# %% jupyter={"source_hidden": true}
fair = tg.Tensor(np.full(1000, 0.5), "p")
b = tg.Bernoulli(probs=fair).sample(rng=tg.noise(3), name="b")
plain, helped = (tg.gradients(tg.sum(tg.score_function(tg.square(b - 0.5), c)), fair) for c in (None, 0.25))
assert np.allclose(np.abs(plain), 0.5)
assert np.allclose(helped, 0.0, atol=1e-15)
