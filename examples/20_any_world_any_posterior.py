# %% [markdown]
# # 20. Any world, any posterior

# %% [markdown]
"""What does a gradient need to know about the world?

If you learn by trying, only how probable your own choices were: a policy learns to balance a pole in a simulator that
has no derivative. If you ask what the world is like, you write it down as a formula, and its derivatives find the
posterior. Each is a page of code, held against an exact answer.

Runs in about six seconds. Picture: ``figures/20_any_world_any_posterior.png``; another folder may be named on the
command line.
"""

# %%
import sys
import time
from itertools import product
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import tinygrad_vae as tg

plt.style.use("tinygrad_vae.course")
figures = Path(next((arg for arg in sys.argv[1:2] if not arg.startswith("-")), "figures"))
figures.mkdir(parents=True, exist_ok=True)


def mean_and_error(x):
    return x.mean(axis=0), x.std(axis=0, ddof=1) / np.sqrt(len(x))


# %% [markdown]
# ## A world
#
# A pole stands on a cart. Fifty times a second we push the cart to the right or to the left, always with the same
# force. The pole has fallen when it leans by more than 12 degrees, or when the cart is more than 2.4 m from where it
# began. 200 pushes without a fall are a full score. Barto, Sutton and Anderson 1983; `CartPole-v0` in Gym.
#
# The world is a function of NumPy arrays, here for many carts at once. It might as well call a game, a robot or another
# language.
#
# A state is position, speed, angle, angular speed, and 1 for a pole that stands. All is 0 after a fall.

# %%


def cartpole(state, push):
    """Return the states a fiftieth of a second later, of shape (carts, 5); push is above 0 for a push to the right."""
    x, speed, angle, spin, stands = state.T
    force = np.where(push > 0, 10.0, -10.0)
    thrust = (force + 0.05 * spin**2 * np.sin(angle)) / 1.1
    spin_up = (9.8 * np.sin(angle) - np.cos(angle) * thrust) / (2 / 3 - np.cos(angle) ** 2 / 22)
    speed_up = thrust - np.cos(angle) * spin_up / 22
    stands = stands * (np.abs(x) < 2.4) * (np.abs(angle) < np.radians(12))
    new = [x + speed / 50, speed + speed_up / 50, angle + spin / 50, spin + spin_up / 50, np.ones_like(x)]
    return np.stack(new, axis=1) * stands[:, None]


# %% [markdown]
# ## A policy
#
# Four numbers, the `weights`. They turn a state into the chance of a push to the right. How long the pole stands is
# the sum of the last column.
#
# `tg.outside` asks the world and records what its answer depends on: the draws behind the pushes, those of each cart
# for itself. It has no derivative, and needs none. With arrays alone, it is a call of `cartpole`.

# %%


def play(weights, state, choose, pushes=200):
    """Return for how many pushes each pole stood."""
    stood = 0.0
    for _ in range(pushes):
        state = tg.outside(cartpole, state, choose(tg.sum(state[:, :4] * weights, axis=1)))
        stood = stood + state[:, 4]
    return stood


def at_random(rng):
    """Push to the right with the policy's chance."""
    return lambda logits: tg.Bernoulli(logits=logits).sample(rng=rng, name="push")


# %% [markdown]
# ## Is that gradient right?
#
# The push is a draw, and the world after it has no derivative. The score function needs neither: it asks how probable
# the pushes were, and how long the pole stood.
#
# With ten pushes there are only 1024 ways to play. So the exact gradient of the mean score is a sum over all of them,
# of the probability of each times its score. The world enters it as a table of numbers.

# %%
leaning = np.array([0.0, 0.0, 0.12, 0.5, 1.0])  # a pole that falls to the right
weights = np.array([0.5, 1.0, -3.0, 1.0])
all_pushes = np.array(list(product([0.0, 1.0], repeat=10)))


def mean_score(weights):
    """Return the exact mean score of ten pushes from ``leaning``."""
    state, stood, log_prob = np.tile(leaning, (1024, 1)), 0.0, 0.0
    for push in all_pushes.T:
        log_prob = log_prob + tg.Bernoulli(logits=tg.sum(state[:, :4] * weights, axis=1)).log_prob(push)
        state = cartpole(state, push)
        stood = stood + state[:, 4]
    return tg.sum(tg.exp(log_prob) * stood)


truth = tg.grad(mean_score)(weights)
carts = 40_000
copies = tg.Tensor(np.tile(weights, (carts, 1)), "weights")  # one for each cart, to see the spread
stood = play(copies, np.tile(leaning, (carts, 1)), at_random(tg.noise(0)), pushes=10)
estimates = tg.gradients(tg.sum(tg.score_function(stood, baseline=8.0)), copies)
mean, error = mean_and_error(estimates)
print("gradient of the mean score after ten pushes")
for name, row in {"1024 games": truth, "score function": mean, "+- its error": error}.items():
    print(f"  {name:<16}" + "".join(f"{number:10.4f}" for number in row))
assert np.all(abs(mean - truth) < 4.5 * error)

# %% [markdown]
# ## Learn to balance
#
# 20 steps with 32 carts each. The baseline is the mean score of the step before. It knows nothing of the draws of this
# step, so it takes away noise and no gradient.

# %%


def start(carts, rng):
    return np.concatenate([rng.uniform((carts, 4)) / 10 - 0.05, np.ones((carts, 1))], axis=1)


weights, baseline, scores = np.zeros(4), 20.0, []
adam = tg.optim.Adam(0.5)
state = adam.init(weights)
began = time.process_time()
for step in range(20):
    rng = tg.noise(1).at(step)
    recorded = tg.wrap(weights)
    stood = play(recorded, start(32, rng), at_random(rng))
    loss = -tg.mean(tg.score_function(stood, baseline=baseline))
    weights, state = adam.update(weights, tg.gradients(loss, recorded), state)
    baseline = float(stood.value.mean())
    scores.append(mean_and_error(stood.value))
seconds = time.process_time() - began

tested = play(weights, start(100, tg.noise(2)), lambda logits: logits > 0)  # and no draw
print(f"\nscore before {scores[0][0]:.0f}, after 20 steps {scores[-1][0]:.0f}; {seconds:.1f} s on one core")
print(f"100 new carts, pushed to the likelier side: the worst score is {tested.min():.0f} of 200")
assert tested.min() == 200
assert scores[0][0] + 4.5 * scores[0][1] < 40

# %% [markdown]
# ## A posterior
#
# Now the other kind of question. Eight schools coached their pupils for a test. School $i$ gained $y_i$ points, give or
# take its standard error $s_i$. How much of that is the school, and how much is chance? Rubin 1981 answers with
#
# $$y_i \sim N(\mu + \tau \eta_i,\, s_i^2), \quad \eta_i \sim N(0, 1), \quad \mu \sim N(0, 5^2), \quad
# \tau \sim \text{HalfCauchy}(5).$$
#
# The unknowns $z$ are $\mu$, $\log \tau$ and the eight $\eta_i$. The log-density of data and unknowns is a formula. The
# last $\log \tau$ in it pays for the change from $\tau$ to its logarithm.

# %%
gains = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
errors = np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])


def log_density(z):
    """Return log p(z, gains) for z of shape (..., 10)."""
    mu, log_tau, eta = z[..., :1], z[..., 1:2], z[..., 2:]
    tau = tg.exp(log_tau)
    prior = tg.Normal(0.0, 5.0).log_prob(mu) + tg.HalfCauchy(5.0).log_prob(tau) + log_tau
    schools = tg.Normal(0.0, 1.0).log_prob(eta) + tg.Normal(mu + tau * eta, errors).log_prob(gains)
    return tg.sum(prior, axis=-1) + tg.sum(schools, axis=-1)


# %% [markdown]
# ## The exact answer
#
# Given $\tau$, all that is left are bell curves: $y_i \sim N(\mu, s_i^2 + \tau^2)$, and $\mu$ can be integrated out by
# hand. What remains is an integral over one number, done on a grid. It gives the evidence $\log p(y)$ and the posterior
# means.

# %%
grid = np.linspace(-8.0, 7.0, 3001)  # log tau
variance = errors**2 + np.exp(2 * grid[:, None])
precision = 1 / 25 + np.sum(1 / variance, axis=1)
mu_given_tau = np.sum(gains / variance, axis=1) / precision
log_joint = (
    tg.sum(tg.Normal(0.0, np.sqrt(variance)).log_prob(gains), axis=1)
    + (mu_given_tau**2 * precision - np.log(25 * precision)) / 2
    + tg.HalfCauchy(5.0).log_prob(np.exp(grid))
    + grid
)
density = np.exp(log_joint) * (grid[1] - grid[0])
evidence = np.log(density.sum())
density /= density.sum()
exact = {"mu": density @ mu_given_tau, "log tau": density @ grid}

# %% [markdown]
# ## Hamiltonian Monte Carlo
#
# Let a ball roll over the landscape $-\log p$, with a kick in a random direction, and keep where it ends up as often as
# the error of its path allows. Only the slope is needed: `tg.grad`. 100 balls roll side by side, and as they never
# meet, the spread of their means is an honest error bar. Duane et al. 1987; Neal 2011.

# %%


def hmc(z, rolls, rng, pace=0.25, leaps=8):
    """Return the places after each roll, of shape (rolls, balls, unknowns)."""
    slope = tg.grad(lambda z: tg.sum(log_density(z)))
    places = []
    for _ in range(rolls):
        dt = pace * (0.5 + rng.uniform((len(z), 1)))  # of random size, or a ball might come back in circles
        kick = rng.normal(z.shape)
        new, speed = z, kick + dt / 2 * slope(z)
        for _ in range(leaps):
            new = new + dt * speed
            speed = speed + dt * slope(new)
        speed = speed - dt / 2 * slope(new)
        gain = log_density(new) - log_density(z) - np.sum(speed**2 - kick**2, axis=1) / 2
        z = np.where((np.log(rng.uniform(gain.shape)) < gain)[:, None], new, z)
        places.append(z)
    return np.array(places)


sampled = hmc(tg.noise(3).normal((100, 10)), 150, tg.noise(4))[30:]
print(f"\n{'posterior mean of':<20}{'exact':>8}{'HMC':>10}")
for name, unknown in (("mu", sampled[..., 0]), ("log tau", sampled[..., 1])):
    mean, error = mean_and_error(unknown.mean(axis=0))
    print(f"  {name:<18}{exact[name]:8.3f}{mean:10.3f} +- {error:.3f}")
    assert abs(mean - exact[name]) < 4.5 * error

# %% [markdown]
# ## Variational inference
#
# ADVI needs no balls. Take a bell curve $q$ for each unknown, and climb the bound
#
# $$E_q[\log p(z, y)] + H(q) \le \log p(y).$$
#
# The draw comes from $q$ and passes through a formula, so here the trick is the right way. It works for any log-density
# that you can write down. Kucukelbir et al. 2017.

# %%


def q_of(parameters):
    return tg.Independent(tg.Normal(parameters["mean"], tg.exp(parameters["log_sd"])), 1)


def advi(log_density, steps=600):
    """Return q, after climbing the bound."""
    parameters = {"mean": np.zeros(10), "log_sd": np.zeros(10)}
    state = tg.optim.Adam().init(parameters)
    for step in range(steps):
        recorded = tg.wrap(parameters)
        z = q_of(recorded).sample((32,), rng=tg.noise(5).at(step), name="z")
        bound = tg.mean(tg.reparameterize(log_density(z))) + q_of(recorded).entropy()
        adam = tg.optim.Adam(0.05 if step < steps / 2 else 0.005)
        parameters, state = adam.update(parameters, tg.gradients(-bound, recorded), state)
    return q_of(parameters)


q = advi(log_density)
z = q.sample((40_000,), rng=tg.noise(6))
bound, error = mean_and_error(log_density(z) - q.log_prob(z))
print(f"\nbound {bound:.3f} +- {error:.3f} nats, evidence {evidence:.3f}: q is {evidence - bound:.2f} nats away")
assert 0.2 < evidence - bound < 0.4
exact_sd = np.sqrt(density @ (grid - exact["log tau"]) ** 2)
print(f"log tau: sd {z[:, 1].std():.2f} in q, {sampled[..., 1].std():.2f} in HMC, {exact_sd:.2f} exactly")
assert z[:, 1].std() < 0.8 * exact_sd

# %% [markdown]
# HMC is right within its error bars. ADVI is faster and says how far it may be off: the bound lies below the evidence
# by exactly the divergence of $q$ from the posterior. What it misses is the long tail towards $\tau = 0$, where all
# schools are alike.
#
# ## The picture

# %% jupyter={"source_hidden": true}
figure, ((learning, poles), (schools, tail)) = plt.subplots(2, 2, figsize=(11, 7.6))

means, spread = np.array(scores).T
learning.errorbar(range(1, 21), means, spread, fmt="o", color="C1")
learning.axhline(200, color="#22303c", linewidth=1)
learning.text(1, 195, "full score", va="top")
learning.set_ylim(0, 210)
learning.set_xticks(range(0, 21, 5))
learning.set_title("A policy learns in a world without derivatives")
learning.set_xlabel("step, 32 carts each")
learning.set_ylabel("mean score")


def angles(weights, carts=15):
    """Return the angle of each pole over time in degrees, and nothing after its fall."""
    state, rng, found = start(carts, tg.noise(7)), tg.noise(8), []
    for _ in range(200):
        found.append(np.where(state[:, 4] > 0, np.degrees(state[:, 2]), np.nan))
        state = cartpole(state, at_random(rng)(state[:, :4] @ weights))
    return np.array(found)


seconds = np.arange(200) / 50
poles.plot(seconds, angles(np.zeros(4)), color="C4", linewidth=1, alpha=0.8)
poles.plot(seconds, angles(weights), color="C1", linewidth=1, alpha=0.8)
for limit in (-12, 12):
    poles.axhline(limit, color="#22303c", linewidth=1)
poles.text(4, 11, "fallen", ha="right", va="top")
poles.text(1.15, 10, "before: pushed at random", color="C4")
poles.text(4, -10.5, "after 20 steps", color="C1", ha="right")
poles.set_title("15 poles, before and after")
poles.set_xlabel("seconds")
poles.set_ylabel("angle of the pole (degrees)")

names = "ABCDEFGH"
at = np.arange(8)
effects = {
    "HMC": sampled[..., :1] + np.exp(sampled[..., 1:2]) * sampled[..., 2:],
    "ADVI": z[:, :1] + np.exp(z[:, 1:2]) * z[:, 2:],
}
schools.errorbar(at - 0.22, gains, errors, fmt="x", color="C4", label="measured")
for shift, (name, effect), colour, marker in zip((0.0, 0.22), effects.items(), ("C3", "C0"), "so", strict=True):
    effect = effect.reshape(-1, 8)
    schools.errorbar(at + shift, effect.mean(axis=0), effect.std(axis=0), fmt=marker, color=colour, label=name)
schools.set_xticks(at, names)
schools.legend(loc="upper right", ncols=3)
schools.set_ylim(-22, 52)
schools.set_title("Eight schools: each borrows from the others")
schools.set_xlabel("school")
schools.set_ylabel("gain, give or take one sd")

tail.hist(sampled[..., 1].ravel(), np.linspace(-4, 4, 60), density=True, color="C3", alpha=0.35)
tail.plot(grid, density / (grid[1] - grid[0]), color="#22303c", linewidth=1.2)
tail.plot(grid, np.exp(tg.Normal(q.base.loc[1], q.base.scale[1]).log_prob(grid)), color="C0")
tail.set_xlim(-4, 4)
tail.text(-0.9, 0.3, "exact (line)\nand HMC", color="C3", ha="right")
tail.text(1.75, 0.45, "ADVI", color="C0")
tail.set_title("How different are the schools?")
tail.set_xlabel("log $\\tau$")
tail.set_ylabel("posterior density")
figure.savefig(figures / "20_any_world_any_posterior.png")
print(f"\nthe picture is in {figures / '20_any_world_any_posterior.png'}")

# %% [markdown]
# ## Predict, then run
#
# 1. The policy sees four numbers. Which one can it do without? Multiply `weights` in `play` by (1, 1, 1, 0), and then
#    by (0, 0, 1, 1).
# 2. Train without a baseline.
# 3. Write the effect $\theta_i = \mu + \tau \eta_i$ itself for an unknown, in place of $\eta_i$:
#    $\theta_i \sim N(\mu, \tau^2)$. It is the same model. What happens to the bound?

# %% [markdown]
# ## Where to read on
#
# In the source: `tinygrad_vae/outside.py`, which records what a world answered, and `tinygrad_vae/calculus.py`, which
# has `grad`.
#
# In the literature:
#
# - Barto, Sutton and Anderson 1983, Neuronlike Adaptive Elements That Can Solve Difficult Learning Control Problems
# - Williams 1992, Simple Statistical Gradient-Following Algorithms: the policy gradient, and its baseline
# - Rubin 1981, Estimation in Parallel Randomized Experiments; Gelman et al., Bayesian Data Analysis, section 5.5
# - Neal 2011, MCMC Using Hamiltonian Dynamics
# - Kucukelbir, Tran, Ranganath, Gelman and Blei 2017, Automatic Differentiation Variational Inference
# - Betancourt and Girolami 2015, Hamiltonian Monte Carlo for Hierarchical Models: why eta, and not the effect itself
#
# ## Answers
#
# 1. Without the angular speed it never gets beyond a mean score of about 50: it learns too late that the pole is
#    falling. Without position and speed of the cart it still balances 200 pushes, and drifts.
# 2. It still learns, later and with detours: after 20 steps the mean score is between 140 and 190. The score is never
#    negative, so every push that was made is praised, only some more than others.
# 3. It falls from -31.60 to -34.9. Given a small $\tau$ the effects must lie close together, given a large one they
#    need not. Independent bell curves cannot say that of the effects, and need not say it of $\eta$.


# %% jupyter={"source_hidden": true}
def with_effects(z):
    """Return the same log-density, of z that holds the effects in the place of eta."""
    mu, log_tau, effect = z[..., :1], z[..., 1:2], z[..., 2:]
    prior = tg.Normal(0.0, 5.0).log_prob(mu) + tg.HalfCauchy(5.0).log_prob(tg.exp(log_tau)) + log_tau
    schools = tg.Normal(mu, tg.exp(log_tau)).log_prob(effect) + tg.Normal(effect, errors).log_prob(gains)
    return tg.sum(prior, axis=-1) + tg.sum(schools, axis=-1)


q = advi(with_effects)
z = q.sample((40_000,), rng=tg.noise(6))
mean, error = mean_and_error(with_effects(z) - q.log_prob(z))
assert mean + 4.5 * error < bound - 2
