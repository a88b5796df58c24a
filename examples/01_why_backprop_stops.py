# %% [markdown]
# # 1. Why backprop stops at a random node

# %% [markdown]
"""Why does backprop stop at a random node?

One random number is drawn inside a cost. We ask for the gradient, are refused, and find out why. Then two rewrites of
the very same draw give the gradient somewhere to go, and both are held against the truth.

Runs in about two seconds and needs nothing but the library. It writes a picture, ``figures/01_why_backprop_stops.svg``,
or the file that is named on the command line, and beside it a page to play with, ``01_why_backprop_stops.html``.
"""

# %% [markdown]
# ## A cost with a draw in it
#
# A sample $z$ comes from a bell curve with mean $\mu$ and width $\sigma$. The cost is
#
# $$ cost = w\,(z - 2)^2 + \mu^2 / 2, \qquad z \sim N(\mu, \sigma). $$
#
# The sample should hit 2, and mu should not go far from 0. Three parameters, in three different positions. w multiplies
# the miss. sigma acts through the sample alone. mu acts through it as well, and in a second way beside it. (A
# variational autoencoder has both terms: how far its sample misses the image, and a KL term that looks like the last.)

# %%
import sys
from pathlib import Path

import numpy as np

import tinygrad_vae as tg
from tinygrad_vae.core import BLOCKED

parameters = tg.wrap({"mu": 1.0, "sigma": 0.5, "w": 2.0})  # from here on, what is computed is recorded


def cost_of(z, p):
    return p["w"] * tg.square(z - 2) + tg.square(p["mu"]) / 2


z = tg.Normal(parameters["mu"], parameters["sigma"]).sample(rng=tg.noise(7), name="z")
cost = cost_of(z, parameters)

print(f"z = {z.value:.4f}, cost = {cost.value:.4f}\n")

# %% [markdown]
# ## What we want
#
# The cost is another number in each run, so "its gradient" cannot mean the slope of one run. We want the slope of the
# average over all draws. Write $E$ for that average. Here it can be worked out, because
# $E (z - 2)^2 = (\mu - 2)^2 + \sigma^2$:
#
# $$ E\,cost = w\,\big((\mu - 2)^2 + \sigma^2\big) + \mu^2 / 2. $$

# %%
mu, sigma, w = (float(x) for x in tg.values(parameters).values())
truth = {"mu": 2 * w * (mu - 2) + mu, "sigma": 2 * w * sigma, "w": (mu - 2) ** 2 + sigma**2}

# %% [markdown]
# ## Ask for it
#
# From one draw we would like an estimate of the truth: a number that is right on average.

# %%
try:
    tg.gradients(cost, parameters)
    raise SystemExit("a wrong gradient was handed out")
except tg.BlockedGradientError as error:
    print(f"{type(error).__name__}: {error}\n")

# %% [markdown]
# ## Why it stops
#
# Backprop multiplies derivatives along the arrows of the graph, from the cost back to the parameters. It comes back
# from the cost to z without trouble: the derivative there is $2 w (z - 2)$. Next it needs $dz/d\mu$. What is that?
#
# z is a number that came out of a random number generator. "How much would z have changed, had mu been larger?" has no
# answer yet. The distribution of z changes with mu. The number z is only one draw from it, and a number does not
# remember where it came from. The derivative of a draw is not hard to compute. It is not *defined*, until we say what
# is to stay the same while mu moves.
#
# There are two good choices, and all of the literature grows out of them:
#
# - hold the NOISE fixed. Then the draw moves along with mu, and the gradient goes through the draw;
# - hold the DRAW fixed. Then it stays where it is, becomes more or less probable, and the gradient goes through
#   its probability.

# %%
assert isinstance(z, tg.Sample)  # the node keeps its distribution, its parameters and its noise
assert z.op.vjps == (BLOCKED,)  # this stands where a derivative would: that is all there is to the cut

# %% [markdown]
# ## What happens where nobody refuses
#
# Many programs take the draw for a constant and carry on. Here is what they return. w is fine. sigma gets 0. And mu
# gets a number that looks like a gradient and is not: only its second way into the cost was open. We call that partly
# cut. It is the dangerous case: here even the sign is wrong. Training goes on, without an error, to mu = 0, where the
# average cost is higher than at the start.

# %%
silent = tg.gradients(cost_of(tg.stop_gradient(z), parameters), parameters)
print("taking the draw for a constant")
for name in parameters:
    print(f"  d/d{name:<6}{silent[name]:8.4f}   the truth is {truth[name]:.4f}")

assert silent["sigma"] == 0
assert silent["mu"] == mu
assert silent["mu"] * truth["mu"] < 0  # downhill for the one is uphill for the other

# %% [markdown]
# ## First choice: hold the noise fixed
#
# A draw from $N(\mu, \sigma)$ can be made in two steps. Draw $e$ from $N(0, 1)$, which knows nothing of mu and sigma.
# Then set
#
# $$ z = \mu + \sigma e. $$
#
# That is how z was made above, except that the second step ran outside of the graph. `reparameterize` puts it into the
# graph. Nothing is drawn again: the same numbers, one cut less.

# %%
opened = tg.reparameterize(cost)
assert opened.value == cost.value  # bit for bit

pathwise = tg.gradients(opened, parameters)

# With the noise held fixed, the gradient is an ordinary derivative. So we can move mu by hand and look.

step = 1e-4
above, below = (tg.replay(cost, {parameters["mu"]: mu + h}).value for h in (step, -step))
print(f"\nhold the noise fixed\n  moving mu by hand {(above - below) / (2 * step):.6f}, backprop {pathwise['mu']:.6f}")
assert np.isclose((above - below) / (2 * step), pathwise["mu"])

# %% [markdown]
# ## Second choice: hold the draw fixed
#
# Write $p(z)$ for the density that z was drawn from. Then $E\,cost = \int cost(z)\, p(z)\, dz$: the parameters stand in
# p, and z is a mere variable. Since $dp = p\; d\log p$,
#
# $$ \frac{d}{d\mu} E\,cost = E\Big[ cost \cdot \frac{d \log p(z)}{d\mu} \Big]
#    + E\Big[ \frac{d\,cost}{d\mu} \text{ at that fixed } z \Big]. $$
#
# `score_function` multiplies the cost by a factor that is 1 and has the derivative of $\log p(z)$. It never needs the
# derivative of the cost in z, so it works where there is none: for a coin, a word, a move in a game.

# %%
scored = tg.score_function(cost)
assert scored.value == cost.value  # bit for bit

score = tg.gradients(scored, parameters)

print("\none draw, one cost, two gradients")
for name in parameters:
    print(f"  d/d{name:<6}pathwise {pathwise[name]:9.4f}   score function {score[name]:9.4f}   truth {truth[name]:.4f}")

# %% [markdown]
# ## Are they right? Average over many draws
#
# Neither is the truth. Each is one draw of an estimate, and both must be right on average. To get an estimate from each
# of many draws at once, give each draw parameters of its own and add up the costs.

# %%
draws = 100_000
many = tg.wrap({name: np.full(draws, value) for name, value in tg.values(parameters).items()})
z = tg.Normal(many["mu"], many["sigma"]).sample(rng=tg.noise(0), name="z")
costs = cost_of(z, many)

print(f"\naverage over {draws} draws, and its standard error")
spread = {}
for title, estimator in {"pathwise": tg.reparameterize, "score function": tg.score_function}.items():
    estimates = tg.gradients(tg.sum(estimator(costs)), many)
    for name, estimate in estimates.items():
        mean, error = estimate.mean(), estimate.std(ddof=1) / np.sqrt(draws)
        spread[title, name] = estimate.var(ddof=1)
        print(f"  {title:<15} d/d{name:<6}{mean:8.4f} +- {error:.4f}   truth {truth[name]:.4f}")
        assert abs(mean - truth[name]) < 4.5 * error

# Both are right. The pathwise one needs far fewer draws, since it knows in which direction the cost falls. The score
# function only learns which draws were expensive.

ratio = {name: spread["score function", name] / spread["pathwise", name] for name in ("mu", "sigma")}
print(f"  variance, score function over pathwise: {ratio['mu']:.0f} for mu, {ratio['sigma']:.0f} for sigma")
assert min(ratio.values()) > 4

# %% [markdown]
# ## See it
#
# The same draw twice. Left, as it was sampled: red crosses where the gradient ends. Right, reparameterized.
#
# The page lets you try all of the above. Drag the bell curve while the noise is held, then while the draws are. Step
# backprop from node to node with the arrow keys and see it stop at z; switch to the other graph and see it pass. Draw a
# thousand times and compare the gradients, and let each of them lead a ball downhill.

# %%
path = Path(next((a for a in sys.argv[1:] if a.endswith(".svg")), "figures/01_why_backprop_stops.svg"))
path.parent.mkdir(parents=True, exist_ok=True)
page = path.with_suffix(".html")
titles = "sampled: backprop stops at z", "reparameterized: it passes through"
tg.draw_side_by_side(cost, opened, path, titles=titles, wrt=parameters)
tg.draw_side_by_side(cost, opened, page, titles=("sampled", "reparameterized"), wrt=parameters)
print(f"\n{tg.draw(cost, wrt=parameters, title='the graph of the cost')}\n")
print(f"the picture is in {path}, the page to play with in {page}")

# %%
tg.draw(cost, wrt=parameters)  # the value of a cell: a notebook shows the graph as it was sampled,

# %%
tg.draw(opened, wrt=parameters)  # and reparameterized

# %% [markdown]
# ## Predict, then run
#
# 1. Make w ten times as large. What does the careless program return for mu now, and what is the truth?
# 2. Take the last term, $\mu^2/2$, out of the cost. What does the careless program return for mu, and is that better or
#    worse than before?
# 3. Set sigma to 0.001. One of the two estimators barely scatters then, and the other scatters terribly. Which, and
#    why?

# %% [markdown]
# ## Where to read on
#
# Lesson 2 builds all of this from nothing. Lessons 5 and 6 take the two choices further, and lesson 7 asks which of
# them to make.
#
# In the source:
#
# - tinygrad_vae/core/          the engine: a node, an op, backprop in one loop, a random node, the trick
# - tinygrad_vae/guard/         how a cut is found before backprop meets it, and which rewrite is valid where
# - tinygrad_vae/estimators/    score_function.py and its relatives, each a rewrite of the graph
#
# In the literature:
#
# - Price 1958, A Useful Theorem for Nonlinear Devices Having Gaussian Inputs; Bonnet 1964: the noise held fixed, for
#   bell curves. Suri and Zazanis 1988, Perturbation Analysis: the same for queues, in one run of a simulation
# - Kingma and Welling 2014, Auto-Encoding Variational Bayes: the reparameterization trick, and the autoencoder
# - Rezende, Mohamed and Wierstra 2014, Stochastic Backpropagation and Approximate Inference in Deep Generative Models
# - Williams 1992, Simple Statistical Gradient-Following Algorithms for Connectionist Reinforcement Learning: REINFORCE
# - Schulman, Heess, Weber and Abbeel 2015, Gradient Estimation Using Stochastic Computation Graphs: both, in one graph
# - Mohamed, Rosca, Figurnov and Mnih 2020, Monte Carlo Gradient Estimation in Machine Learning: the whole field
#
# ## Answers
#
# 1. Still 1: it has never heard of w. The truth is $2 w (\mu - 2) + \mu = -39$.
# 2. It returns 0, as for sigma. That is better: nobody trains for long with a gradient that is always 0. A number that
#    looks plausible is the dangerous one.
# 3. The path barely scatters: all draws lie near mu, where the cost has the slope $2 w (\mu - 2)$. The score function
#    multiplies the cost by $e/\sigma$, a thousand times the noise. It has to find a slope by comparing draws that
#    hardly differ.

# %% jupyter={"source_hidden": true}
narrow = tg.wrap({"mu": np.full(1000, 1.0), "sigma": np.full(1000, 0.001), "w": np.full(1000, 20.0)})
z = tg.Normal(narrow["mu"], narrow["sigma"]).sample(rng=tg.noise(1), name="z")
by = {e: tg.gradients(tg.sum(e(cost_of(z, narrow))), narrow)["mu"] for e in (tg.reparameterize, tg.score_function)}
assert np.all(tg.gradients(tg.sum(cost_of(tg.stop_gradient(z), narrow)), narrow)["mu"] == 1)
assert abs(by[tg.reparameterize].mean() + 39) < 0.01
assert by[tg.score_function].std() > 10_000 * by[tg.reparameterize].std() > 0
