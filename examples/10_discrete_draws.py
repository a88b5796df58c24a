# %% [markdown]
# # 10. Discrete draws

# %% [markdown]
"""What if the draw is 0 or 1, and there is no path at all?

Sum over the values where there are few of them, use the probability where there are many, and know what the popular
shortcuts do: straight-through and Gumbel-softmax follow a gradient of something else.

Runs in about three seconds. Picture: ``figures/10_discrete_draws.png``; another folder may be named on the command
line.
"""

# %% [markdown]
# One toss b ~ Bernoulli(p), and the cost f(b) = (b - t)^2 with t = 0.45. By hand,
#
#     E f = p (1 - t)^2 + (1 - p) t^2        d/dp E f = (1 - t)^2 - t^2 = 1 - 2 t = +0.1.
#
# The cost is smallest at p = 0: f(0) = 0.2025, f(1) = 0.3025. It is nearly a tie, and that is what makes it hard.

# %%
import sys
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from scipy import integrate

import tinygrad_vae as tg

plt.style.use("tinygrad_vae.course")
figures = Path(next((arg for arg in sys.argv[1:2] if not arg.startswith("-")), "figures"))
figures.mkdir(parents=True, exist_ok=True)

t = 0.45
truth = 1 - 2 * t


def f(b):
    return tg.square(b - t)


# %% [markdown]
# ## By hand
#
# Each estimator is a function of p and a stream of noise, and returns a cost for each element of p.
#
# - **enumeration**: p f(1) + (1 - p) f(0). No draw, no variance, two evaluations of f. With m tosses it is 2^m.
# - **straight-through**: pretend that db/dp = 1. The gradient is then E f'(b) = 2 (p - t), at p = 0.3: -0.3. It points
#   the other way.
# - **Gumbel-softmax**: replace b by sigmoid((logit p + L) / T) with logistic noise L, a number *between* 0 and 1 that
#   has a path. As T falls it becomes b, its gradient becomes the truth, and its variance grows without end.

# %%


def enumeration(p, rng):
    return p * f(1.0) + (1 - p) * f(0.0)


def straight_through(p, rng):
    b = tg.stop_gradient(tg.Bernoulli(probs=p).sample(rng=rng, name="b"))
    return f(tg.surrogate(b, p))  # the value of the toss, the derivative of its mean


def gumbel_softmax(temperature):
    def relaxed(p, rng):
        noisy = tg.Logistic(tg.logit(p), 1.0).rsample(rng=rng)
        return f(tg.sigmoid(noisy / temperature))

    return relaxed


# %% [markdown]
# ## By the library
#
# These need a toss that is a node of the graph, and rewrite it.
#
# - **score function**: the general one. It needs no derivative of f. Its variance is
#   (1 - t)^4 / p + t^4 / (1 - p) - (1 - 2 t)^2, for a gradient of 0.1.
# - **with a baseline**: b = (1 - p) f(1) + p f(0) takes all of it away. One has to know f(0) and f(1), though.
# - **DisARM**: the toss and its mirror image, made from one uniform; unbiased, two evaluations of f for any m.
# - **REBAR**: the score function with Gumbel-softmax for a baseline, whose bias is taken back out; unbiased. It helps
#   where the relaxed cost follows the cost. Here it does not, and the spread is larger than without it.

# %%


def toss(p, rng):
    return f(tg.Bernoulli(probs=p).sample(rng=rng, name="b"))


def score_function(p, rng):
    return tg.score_function(toss(p, rng))


def with_baseline(p, rng):
    return tg.score_function(toss(p, rng), (1 - p.value) * f(1.0) + p.value * f(0.0))


def disarm(p, rng):
    return tg.estimate(toss(p, rng), {"b": "disarm"})


def rebar(p, rng):
    return tg.estimate(toss(p, rng), {"b": tg.REBAR(rng, temperature=0.5)})


def gradients_in_p(estimator, p, draws, seed):
    p = tg.Tensor(np.full(draws, p), "p")
    return tg.gradients(tg.sum(estimator(p, tg.noise(seed))), p)


# %% [markdown]
# What Gumbel-softmax expects has no closed form, but is an integral over the uniform noise u behind L = logit u.

# %%


def relaxed_moment(p, temperature, power):
    """Return the mean of the Gumbel-softmax gradient, or of its square, by quadrature."""
    centre = -np.log(p / (1 - p))  # where the relaxed toss is undecided

    def integrand(noise):
        y = 1 / (1 + np.exp((centre - noise) / temperature))
        gradient = 2 * (y - t) * y * (1 - y) / (temperature * p * (1 - p))
        density = np.exp(-abs(noise)) / (1 + np.exp(-abs(noise))) ** 2
        return gradient**power * density

    return integrate.quad(integrand, centre - 30, centre)[0] + integrate.quad(integrand, centre, centre + 30)[0]


p, draws = 0.3, 100_000
temperature = 0.5
cases = {
    "enumeration": (enumeration, truth),
    "score function": (score_function, truth),
    "with a baseline": (with_baseline, truth),
    "DisARM": (disarm, truth),
    "REBAR": (rebar, truth),
    "straight-through": (straight_through, 2 * (p - t)),
    f"Gumbel-softmax, T = {temperature}": (gumbel_softmax(temperature), relaxed_moment(p, temperature, 1)),
}
print(f"d/dp at p = {p}; the truth is {truth:+.4f}")
for name, (estimator, expected) in cases.items():
    g = gradients_in_p(estimator, p, draws, seed=0)
    error = g.std(ddof=1) / np.sqrt(draws)
    verdict = "unbiased" if expected == truth else f"biased by {expected - truth:+.4f}"
    print(f"  {name:<24} {g.mean():+.4f} +- {error:.4f}   expected {expected:+.4f}   sd {g.std():6.3f}   {verdict}")
    assert abs(g.mean() - expected) < 4.5 * error + 1e-12
    if expected != truth:
        assert abs(g.mean() - truth) > 4.5 * error  # the bias shows
    if name == "score function":
        squares = (g - g.mean()) ** 2
        variance = (1 - t) ** 4 / p + t**4 / (1 - p) - truth**2
        assert abs(squares.mean() - variance) < 4.5 * squares.std() / np.sqrt(draws)

# %% [markdown]
# ## The library's word
#
# The three that were written by hand are in the library too, and give the same gradients. There the biased ones say so:
# in `explain`, and with a warning when a gradient is taken. What is written by hand with `surrogate` is the author's
# promise, and the library takes it on trust.

# %%
by_hand = {"enumeration": enumeration, "straight-through": straight_through, "gumbel-softmax": gumbel_softmax(0.5)}
print()
for name, estimator in by_hand.items():
    probability = tg.Tensor(np.full(1000, p), "p")
    opened = tg.estimate(toss(probability, tg.noise(1)), {"b": name})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        gradient = tg.gradients(tg.sum(opened), probability)
    said = str(caught[0].message) if caught else "unbiased"
    print(f"  {name}: {said}")
    assert np.allclose(gradient, gradients_in_p(estimator, p, 1000, seed=1), rtol=1e-9)
    assert bool(caught) == (name != "enumeration")

# %% [markdown]
# ## Bias against variance, over the temperature

# %%
temperatures = np.array([0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0])
relaxed = []
for seed, temperature in enumerate(temperatures):
    g = gradients_in_p(gumbel_softmax(temperature), p, draws, seed)
    mean, mean_square = relaxed_moment(p, temperature, 1), relaxed_moment(p, temperature, 2)
    squares = g * g
    relaxed.append((g.mean(), g.std() / np.sqrt(draws), squares.mean(), squares.std() / np.sqrt(draws)))
    assert abs(g.mean() - mean) < 4.5 * relaxed[-1][1]
    assert abs(squares.mean() - mean_square) < 4.5 * relaxed[-1][3]
relaxed = np.array(relaxed).T

# %% [markdown]
# ## Where each one leads
#
# Forty walkers descend in the logit of p from p = 0.3, with the mean of 100 gradients a step. The true gradient drives
# p to 0. The straight-through gradient 2 (p - t) drives it to t, where the toss is nearly fair and costs more.

# %%
steps, rate, walkers = 400, 5.0, 40
walks = {}
print(f"\n{walkers} walkers from p = {p}, after {steps} steps")
for name in ("enumeration", "score function", "straight-through", "Gumbel-softmax, T = 0.5"):
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
    print(f"  {name:<24} p = {end.mean():.3f} +- {error:.3f}, cost {np.mean(end * f(1.0) + (1 - end) * f(0.0)):.4f}")
    if name == "score function":
        assert end.mean() < p - 4.5 * error  # the right way
    if name == "straight-through":
        assert end.mean() > p + 4.5 * error  # the wrong way

# %% [markdown]
# ## The picture

# %% jupyter={"source_hidden": true}
figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 4.0))
look = {
    "score function": ("C1", "s"),
    "straight-through": ("C3", "D"),
    "Gumbel-softmax, T = 0.5": ("C2", "^"),
    "enumeration": ("#22303c", "o"),
}
fine = np.linspace(0.06, 0.94, 60)
lines = {
    "score function": np.full(len(fine), truth),
    "straight-through": 2 * (fine - t),
    "Gumbel-softmax, T = 0.5": [relaxed_moment(q, 0.5, 1) for q in fine],
}
some = np.linspace(0.1, 0.9, 9)
left.axhline(0, color="#22303c", linewidth=0.7, linestyle=(0, (2, 3)))
for name, line in lines.items():
    colour, marker = look[name]
    left.plot(fine, line, color=colour)
    g = np.array([gradients_in_p(cases[name][0], q, 4000, seed=k) for k, q in enumerate(some)])
    left.errorbar(some, g.mean(axis=1), g.std(axis=1) / np.sqrt(g.shape[1]), fmt=marker, color=colour, label=name)
left.text(0.06, 0.135, "truth $1 - 2t$", color="C1")
left.legend(loc="upper left")
left.set_title("What each one expects")
left.set_xlabel("$p$")
left.set_ylabel("gradient in $p$ (error bars: 4000 tosses)")

fine = np.geomspace(0.045, 2.2, 60)
means = np.array([relaxed_moment(p, temperature, 1) for temperature in fine])
squares = np.array([relaxed_moment(p, temperature, 2) for temperature in fine])
middle.plot(fine, np.abs(means - truth), color="C2")
middle.errorbar(temperatures, np.abs(relaxed[0] - truth), relaxed[1], fmt="^", color="C2")
middle.plot(fine, np.sqrt(squares - means**2), color="C4")
deviation = np.sqrt(relaxed[2] - relaxed[0] ** 2)
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

for name, walk in walks.items():
    mean, error = walk.mean(axis=1), walk.std(axis=1, ddof=1)
    right.fill_between(np.arange(steps), mean - error, mean + error, color=look[name][0], alpha=0.2, linewidth=0)
    right.plot(mean, color=look[name][0], linestyle="--" if name == "enumeration" else "-")
right.text(395, 0.495, f"straight-through, towards $t = {t}$", color="C3", ha="right")
right.text(395, 0.30, "Gumbel-softmax", color="C2", ha="right")
right.text(395, 0.045, "enumeration (dashed), score function", color="C1", ha="right")
right.axhline(t, color="#22303c", linewidth=0.7, linestyle=(0, (2, 3)))
right.set_ylim(-0.02, 0.56)
right.set_title("Where each one leads (the best $p$ is 0)")
right.set_xlabel("steps, 100 tosses each")
right.set_ylabel("$p$")
figure.savefig(figures / "10_discrete_draws.png")
print(f"\nthe picture is in {figures / '10_discrete_draws.png'}")

# %% [markdown]
# ## Where to read on
#
# In the source: `tinygrad_vae/distributions/discrete.py`, where `path = None` is said, then
# `tinygrad_vae/estimators/`, a file for each kind of estimator.
#
# In the literature:
#
# - Williams 1992: networks of tosses, trained through the probability
# - Hinton 2012, in his lectures; Bengio, Leonard and Courville 2013: straight-through, and no claim to be
#   right
# - Maddison, Mnih and Teh 2017; Jang, Gu and Poole 2017: Gumbel-softmax
# - Tucker et al. 2017, REBAR, from which the cost (b - 0.45)^2 is taken; Grathwohl et al. 2018, RELAX
# - Yin and Zhou 2019, ARM; Dong, Mnih and Tucker 2020, DisARM: two evaluations, no bias
