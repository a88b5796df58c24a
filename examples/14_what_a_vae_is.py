# %% [markdown]
# # 14. What a variational autoencoder is

# %% [markdown]
"""Why does it have two networks, what is the bound that they climb, and where does the random draw come in?

We want a machine that makes points like the ones we have seen, and that can say how probable a point is. Seven
small steps lead from that wish to a variational autoencoder, and each is one picture. In two dimensions every integral
can also be computed on a grid, so that nothing has to be believed.

Runs in about five seconds. Pictures: ``figures/14_what_a_vae_is_1.png``, ``figures/14_what_a_vae_is_2.png``,
``figures/14_what_a_vae_is_3.png``, ``figures/14_what_a_vae_is_4.png``, ``figures/14_what_a_vae_is_5.png``,
``figures/14_what_a_vae_is_6.png`` and ``figures/14_what_a_vae_is_7.png``; another folder may be named on the command
line.
"""

# %% jupyter={"source_hidden": true}
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import tinygrad_vae as tg

plt.style.use("tinygrad_vae.course")
figures = Path(next((arg for arg in sys.argv[1:2] if not arg.startswith("-")), "figures"))
figures.mkdir(parents=True, exist_ok=True)


def save(figure, step):
    file = figures / f"14_what_a_vae_is_{step}.png"
    figure.savefig(file)
    print(f"the picture is in {file}\n")


def mean_and_error(values):
    return values.mean(), values.std(ddof=1) / np.sqrt(len(values))


# %% [markdown]
# ## 1. We want p(x)
#
# Here are points in the plane: 500 to learn from, and 500 fresh ones to be judged by. (Think of images later. They are
# points too, with as many coordinates as pixels.)
#
# A model of such points is a density $p(x)$. It is good if it expected the fresh points: if the density is high where
# they lie. The probability of all points together is a product of 500 numbers, so one takes logarithms, and their mean:
#
# $$ \text{score} = \frac{1}{n} \sum_i \log p(x_i). $$
#
# The natural logarithm gives the score its unit, the **nat**. One nat more means that each point is, on average, 2.718
# times as probable.
#
# A first try is one bell curve in the plane, with the mean and the covariance of the points. It puts its peak where
# there is no point at all.

# %%
width = 0.25


def curve(z):
    """Return a point of the plane for each number z: the secret behind these data. Forget that you saw it."""
    return 2.0 * np.stack([np.sin(0.8 * z), -np.cos(0.8 * z)], axis=-1)


def make_points(rng, n):
    z = rng.normal((n,))
    return z, curve(z) + width * rng.normal((n, 2))


_, points = make_points(tg.noise(0), 500)
_, fresh = make_points(tg.noise(1), 500)

centre, covariance = points.mean(axis=0), np.cov(points.T)


def log_bell(x):
    away = x - centre
    square = np.sum(away @ np.linalg.inv(covariance) * away, axis=-1)
    return -square / 2 - np.log(2 * np.pi) - np.log(np.linalg.det(covariance)) / 2


bell_score = log_bell(fresh)
print("one bell curve: {:.3f} +- {:.3f} nats per fresh point".format(*mean_and_error(bell_score)))

# %% jupyter={"source_hidden": true}
side = np.linspace(-3.2, 3.2, 97)
plane = np.stack(np.meshgrid(side, side), axis=-1)


def show_density(axes, log_density, title):
    axes.contourf(side, side, np.exp(log_density), levels=12, cmap="Blues")
    axes.plot(*fresh.T, ".", color="#22303c", markersize=2.5)
    axes.set(title=title, aspect="equal", xlim=(-3.2, 3.2), ylim=(-3.2, 3.2))
    axes.grid(visible=False)


figure, axes = plt.subplots(figsize=(4.6, 4.3))
show_density(axes, log_bell(plane), "One bell curve: its peak is where nothing is")
save(figure, 1)

# %% [markdown]
# ## 2. A hidden cause
#
# Here is a better idea. Let each point have a *hidden cause*, one number $z$. Draw it from the simplest distribution
# there is, the **prior** $p(z) = N(0, 1)$. Then let a function, the **decoder**, turn it into a place $f(z)$ in the
# plane, and add a little noise there: $p(x|z) = N(f(z), 0.25^2)$.
#
# Both halves are plain bell curves. What they make together need not be: a chain of blurred dots along the curve
# $f(z)$. Its density adds up the contributions of all causes,
#
# $$ p(x) = \int p(z)\, p(x|z)\, dz. $$
#
# The number $\log p(x)$ is called the **evidence**: what the point $x$ says in favour of this model.
#
# Suppose for the moment that somebody told us the right $f$. (Step 7 will learn it.) With one hidden number the
# integral is a sum over a fine grid.

# %%
prior = tg.Normal(0.0, 1.0)
grid = np.linspace(-5, 5, 501)
spacing = grid[1] - grid[0]


def log_joint(x, decoder):
    """Return log p(z) + log p(x|z), with an axis for z behind those of x."""
    fit = tg.Normal(decoder(grid), width).log_prob(x[..., None, :]).sum(axis=-1)
    return prior.log_prob(grid) + fit


def log_evidence(x, decoder=curve):
    return tg.logsumexp(log_joint(x, decoder), axis=-1) + np.log(spacing)


true_score = log_evidence(fresh)
print("with a hidden cause: {:.3f} +- {:.3f} nats per fresh point".format(*mean_and_error(true_score)))
gain, error = mean_and_error(true_score - bell_score)
print(f"which is a gain of {gain:.3f} +- {error:.3f}")
assert gain > 4.5 * error

# %% jupyter={"source_hidden": true}
figure, (left, right) = plt.subplots(1, 2, figsize=(9.2, 4.3))
some = prior.icdf((np.arange(40) + 0.5) / 40)
left.plot(*curve(grid[np.abs(grid) < 2.6]).T, color="C0", linewidth=1)
left.scatter(*curve(some).T, s=260, color="C0", alpha=0.18, linewidth=0)
left.scatter(*curve(some).T, s=12, color="C0")
for value in (-2, -1, 0, 1, 2):
    left.text(*(0.78 * curve(np.array(value))), f"$z = {value}$", ha="center", va="center", fontsize=9)
left.set(title="40 causes, each a blurred dot", aspect="equal", xlim=(-3.2, 3.2), ylim=(-3.2, 3.2))
left.grid(visible=False)
show_density(right, np.concatenate([log_evidence(row)[None] for row in plane]), "Their sum, $p(x)$")
save(figure, 2)

# %% [markdown]
# ## 3. Which z made this x?
#
# A grid will not do for long. With ten hidden numbers it would have $501^{10}$ points. The usual way out is to draw:
# the integral is the average of $p(x|z)$ over causes drawn from the prior,
#
# $$ p(x) \approx \frac{1}{K} \sum_k p(x|z_k), \qquad z_k \sim p(z). $$
#
# It is right on average, and it is slow. Take one point $x$. Most causes lead elsewhere in the plane and contribute
# nothing. The sum lives on the few that happen to lie near the right place. With one hidden number one draw in seven is
# such a hit. With ten it would be one in $7^{10}$, three hundred million.
#
# We waste draws because we draw *blindly*. Given x, some causes are plausible and most are not. If only we knew which!

# %%
seen = np.array([1.75, -1.1])
evidence = log_evidence(seen)
blind = np.exp(tg.Normal(curve(prior.sample((2000, 100), rng=tg.noise(2))), width).log_prob(seen).sum(axis=-1))
relative = blind.mean(axis=1) / np.exp(evidence)
hits = np.mean(blind > 0.05 * blind.max())
mean, error = mean_and_error(relative)
print(f"\nx = {seen}: evidence {evidence:.4f} nats")
print(f"one blind draw in {1 / hits:.0f} is a hit")
print(f"averages of 100 blind draws, as shares of the truth: {mean:.4f} +- {error:.4f}, scatter {relative.std():.2f}")
assert abs(mean - 1) < 4.5 * error

# %% jupyter={"source_hidden": true}
figure, axes = plt.subplots(figsize=(6.4, 3.6))
likelihood = np.exp(log_joint(seen, curve) - prior.log_prob(grid))
axes.fill_between(grid, np.exp(prior.log_prob(grid)), color="#22303c", alpha=0.15, linewidth=0)
axes.plot(grid, 0.9 * likelihood / likelihood.max(), color="C0")
draws = prior.sample((60,), rng=tg.noise(3))
hit = np.exp(tg.Normal(curve(draws), width).log_prob(seen).sum(axis=-1)) > 0.05 * likelihood.max()
for some, colour in ((draws[~hit], "#7a8794"), (draws[hit], "C0")):
    axes.plot(some, np.full(len(some), -0.06), "|", color=colour, markersize=10)
axes.text(-1.0, 0.36, "prior", ha="right")
axes.text(1.6, 0.75, "$p(x|z)$ for this $x$\n(not to scale)", color="C0")
axes.text(-3.4, -0.06, "60 draws", va="center", fontsize=9)
axes.set(title=f"Blind draws: {hit.sum()} of 60 matter", xlabel="$z$", xlim=(-3.5, 3.5))
axes.set_yticks([])
save(figure, 3)

# %% [markdown]
# ## 4. The posterior
#
# Which causes are plausible, given x? Let the machine make very many pairs $(z, x')$, and keep those whose $x'$ landed
# next to our $x$. The causes that remain are draws from the **posterior** $p(z|x)$.
#
# There is a formula for it too. The probability of a pair can be written in two ways, cause first or point first:
#
# $$ p(z)\, p(x|z) = p(x)\, p(z|x), \qquad \text{so} \qquad p(z|x) = \frac{p(z)\, p(x|z)}{p(x)}. $$
#
# This is Bayes' rule. In our picture the two agree. But look at the denominator: to know the posterior we need $p(x)$,
# and $p(x)$ was what we could not compute. Each would give us the other, and we have neither.

# %%
log_posterior = log_joint(seen, curve) - evidence
posterior_mean = np.sum(grid * np.exp(log_posterior)) * spacing
posterior_sd = np.sqrt(np.sum((grid - posterior_mean) ** 2 * np.exp(log_posterior)) * spacing)

causes, landed = make_points(tg.noise(4), 300_000)
kept = causes[np.linalg.norm(landed - seen, axis=1) < 0.1]
mean, error = mean_and_error(kept)
print(f"\n{len(kept)} of {len(causes)} pairs landed within 0.1 of x")
print(f"their causes: mean {mean:.4f} +- {error:.4f}, sd {kept.std():.4f}")
print(f"Bayes' rule:  mean {posterior_mean:.4f}, sd {posterior_sd:.4f}")
assert abs(mean - posterior_mean) < 4.5 * error

# %% jupyter={"source_hidden": true}
figure, (left, right) = plt.subplots(1, 2, figsize=(9.2, 3.9))
left.plot(*landed[:4000].T, ".", color="#7a8794", markersize=1.5)
left.plot(*landed[np.linalg.norm(landed - seen, axis=1) < 0.1].T, ".", color="C0", markersize=2)
left.plot(*seen, "x", color="C1", markersize=9)
left.text(seen[0] + 0.2, seen[1] - 0.35, "$x$", color="C1")
left.set(title="Pairs from the machine, and those next to $x$", aspect="equal", xlim=(-3.2, 3.2), ylim=(-3.2, 3.2))
right.hist(kept, bins=30, density=True, color="C0", alpha=0.35)
right.plot(grid, np.exp(log_posterior), color="#22303c")
right.plot(grid, np.exp(prior.log_prob(grid)), color="#7a8794")
right.text(1.45, 1.9, "Bayes' rule")
right.text(1.0, 1.9, "their causes", color="C0", ha="right")
right.text(0.1, 0.55, "prior", color="#7a8794", ha="right")
right.set(title="The posterior $p(z|x)$", xlabel="$z$", xlim=(-0.5, 2.3))
save(figure, 4)

# %% [markdown]
# ## 5. Guess it, and the bound
#
# So we guess. Take a bell curve $q(z)$ with a mean and a width that we may choose, and put it where the posterior seems
# to be. How do we tell a good guess from a bad one without knowing the posterior?
#
# Start from Bayes' rule in logarithms, $\log p(x) = \log p(z) + \log p(x|z) - \log p(z|x)$, which holds for every $z$.
# Subtract and add $\log q(z)$, and average over draws $z$ from $q$. The left side has no $z$ in it and stays:
#
# $$ \log p(x) = \underbrace{E_q[\log p(x|z) + \log p(z) - \log q(z)]}_{\text{bound}}
#    + \underbrace{E_q[\log q(z) - \log p(z|x)]}_{\text{gap}}. $$
#
# The **gap** is the Kullback-Leibler divergence of q from the posterior, $KL(q\,\|\,p(z|x))$. It is never negative:
# $\log u \le u - 1$ for every $u$, so $-\text{gap} = E_q[\log (p(z|x)/q)] \le E_q[p(z|x)/q] - 1 = 1 - 1 = 0$. And it is
# zero only where q *is* the posterior.
#
# So the first term, which contains nothing that we do not know, is at most $\log p(x)$: it is the **evidence lower
# bound**. Push it up, and two things happen at once. The guess approaches the posterior, and the bound approaches the
# evidence. Here are three guesses, each with its bound from draws, and its gap from the grid.

# %%


def bound_and_gap(q, rng, n=20_000):
    """Return draws of the bound, which needs no posterior, and the gap, which does."""
    z = q.sample((n,), rng=rng)
    fit = tg.Normal(curve(z), width).log_prob(seen).sum(axis=-1)
    inside = np.exp(q.log_prob(grid))
    gap = np.sum(inside * (q.log_prob(grid) - log_posterior)) * spacing
    return fit + prior.log_prob(z) - q.log_prob(z), gap


guesses = {
    "beside it": tg.Normal(posterior_mean - 0.45, posterior_sd),
    "too wide": tg.Normal(posterior_mean, 3 * posterior_sd),
    "good": tg.Normal(posterior_mean + 0.05, 1.15 * posterior_sd),
}
found = {}
print(f"\nevidence {evidence:.4f} nats")
for k, (name, q) in enumerate(guesses.items()):
    values, gap = bound_and_gap(q, tg.noise(5).at(k))
    bound, error = mean_and_error(values)
    found[name] = bound, gap
    print(f"  {name:<10} bound {bound:8.4f} +- {error:.4f}   gap {gap:7.4f}   sum {bound + gap:8.4f}")
    assert abs(bound + gap - evidence) < 4.5 * error
assert min(found["beside it"][1], found["too wide"][1]) > 10 * found["good"][1] > 0

# %% jupyter={"source_hidden": true}
figure, (left, right) = plt.subplots(1, 2, figsize=(9.2, 3.6))
left.fill_between(grid, np.exp(log_posterior), color="#22303c", alpha=0.15, linewidth=0)
for (name, q), colour in zip(guesses.items(), ("C1", "C3", "C0"), strict=True):
    left.plot(grid, np.exp(q.log_prob(grid)), color=colour)
    row = list(guesses).index(name)
    bound, gap = found[name]
    right.barh(row, bound - evidence, color=colour, alpha=0.35, height=0.55)
    right.text(bound - evidence - 0.1, row, name, color=colour, ha="right", va="center")
right.axvline(0, color="#22303c", linewidth=1)
right.set(title="Bound less evidence: the gap", xlabel="nats", xlim=(-5.6, 0.2))
right.set_yticks([])
left.text(1.35, 2.6, "posterior (grey)\nand three guesses $q$")
left.set(title="Guess the posterior", xlabel="$z$", xlim=(0.0, 2.2), ylim=(0, None))
save(figure, 5)

# %% [markdown]
# ## 6. Two halves: rate and distortion
#
# The bound can be read in another way. Put the last two of its three terms together:
#
# $$ \text{bound} = -\underbrace{E_q[-\log p(x|z)]}_{\text{distortion}}
#    - \underbrace{E_q[\log q(z) - \log p(z)]}_{\text{rate}}. $$
#
# - The **distortion** says how badly the decoder does, when it is told a z from q and has to guess x.
# - The **rate** is $KL(q\,\|\,p(z))$. It says how much q knows that the prior does not, and so how much z tells about
#   x. A guess that ignores x and returns the prior has the rate 0.
#
# Now watch the width of q. A narrow q tells the decoder precisely where to draw: low distortion, high rate. A wide q
# tells it little: low rate, high distortion. The sum has a minimum in between, at the width of the posterior. There it
# is $-\log p(x)$, but for the little by which the posterior is no bell curve.

# %%
widths = np.geomspace(0.02, 1.0, 60)
rates, distortions = [], []
fit = log_joint(seen, curve) - prior.log_prob(grid)
for sd in widths:
    q = tg.Normal(posterior_mean, sd)
    inside = np.exp(q.log_prob(grid))
    inside /= inside.sum()
    rates.append(tg.kl_divergence(q, prior))
    distortions.append(-np.sum(inside * fit))
total = np.add(rates, distortions)
best = widths[np.argmin(total)]
print(f"\nrate + distortion is smallest, {total.min():.4f} nats, at the width {best:.3f}")
print(f"-log p(x) is {-evidence:.4f} nats, and the posterior has the width {posterior_sd:.3f}")
assert np.all(total > -evidence)
assert total.min() < -evidence + 0.01
assert 0.9 < best / posterior_sd < 1.1

# %% jupyter={"source_hidden": true}
figure, axes = plt.subplots(figsize=(6.4, 3.8))
axes.semilogx(widths, rates, color="C2")
axes.semilogx(widths, distortions, color="C3")
axes.semilogx(widths, total, color="C0")
axes.axhline(-evidence, color="#22303c", linewidth=1)
axes.axvline(posterior_sd, color="#22303c", linewidth=0.7, linestyle=(0, (2, 3)))
axes.text(0.021, -evidence + 0.12, "$-\\log p(x)$", va="bottom")
axes.text(0.03, 4.15, "rate", color="C2")
axes.text(0.3, -0.5, "distortion", color="C3")
axes.text(0.4, 5.2, "their sum: $-$bound", color="C0", ha="right")
axes.text(posterior_sd * 1.04, -1.5, "width of the posterior", fontsize=9)
axes.set(title="What z says, and what is left to say", xlabel="width of $q$", ylabel="nats", ylim=(-2, 9))
axes.set_xticks(ticks := [0.02, 0.05, 0.1, 0.2, 0.5, 1], ticks)
save(figure, 6)

# %% [markdown]
# ## 7. Let networks do it
#
# Two things are left to replace.
#
# - We guessed q for one x. There are many x. So let a network, the **encoder**, look at x and answer with the mean and
#   the width of its guess: $q(z|x) = N(m(x), \sigma(x)^2)$.
# - We were told f. Now the **decoder** is a network as well.
#
# Both climb the same score, the mean bound of the data. The encoder makes the gap smaller, the decoder makes the
# evidence larger. That is a **variational autoencoder**: *auto*, since the decoder gives back what the encoder took in;
# *variational*, since q is varied until it fits.
#
# Look at the score once more: $E_q[\ldots]$. It is estimated with a draw $z$ from $q(z|x)$, and the encoder sits
# *behind* that draw. Without a way through it, the encoder never hears what the decoder made of z. This is the random
# node of lesson 1, and this is why the reparameterization trick came out together with the autoencoder.

# %%


def bound_of(model, x, rng):
    """Return the bound of each point."""
    answer = model["encoder"](x)
    q = tg.Normal(answer[:, :1], tg.exp(answer[:, 1:]))
    z = q.sample(rng=rng, name="z")
    distortion = -tg.sum(tg.Normal(model["decoder"](z), width).log_prob(x), axis=1)
    rate = tg.sum(tg.kl_divergence(q, prior), axis=1)
    return -distortion - rate


new = tg.noise(6)
model = {
    "encoder": tg.nn.MLP.init((2, 32, 32, 2), activation="tanh", rng=new, dtype=np.float64),
    "decoder": tg.nn.MLP.init((1, 32, 32, 2), activation="tanh", rng=new, dtype=np.float64),
}
recorded = tg.wrap(model)
try:
    tg.gradients(tg.mean(bound_of(recorded, points, tg.noise(7))), recorded)
    raise AssertionError("a gradient went through a draw")
except tg.BlockedGradientError as error:
    print("\nas it is drawn:", str(error).partition("\n")[0])


def decoder_of(model):
    return lambda z: model["decoder"](z[:, None])


adam = tg.optim.Adam(1e-2)
state = adam.init(model)
history = []
for step in range(1001):
    if step % 100 == 0:
        bounds = np.mean([bound_of(model, fresh, tg.noise(9).at(k)) for k in range(10)], axis=0)
        history.append((step, bounds, log_evidence(fresh, decoder_of(model))))
    rng = tg.noise(8).at(step)
    recorded = tg.wrap(model)
    bound = tg.mean(tg.reparameterize(bound_of(recorded, points[rng.permutation(500)[:100]], rng)))
    model, state = adam.update(model, tg.gradients(-bound, recorded), state)

step, bounds, learned_score = history[-1]
print(f"after {step} steps with the trick, nats per fresh point")
for name, score in {"bound": bounds, "evidence": learned_score, "the true machine": true_score}.items():
    print("  {:<18}{:7.3f} +- {:.3f}".format(name, *mean_and_error(score)))
for better, worse in ((learned_score, bell_score), (learned_score, bounds)):
    margin, error = mean_and_error(better - worse)
    assert margin > 4.5 * error

# %% jupyter={"source_hidden": true}
figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 4.1))
steps = [step for step, _, _ in history]
bound_line, evidence_line = (np.array([row[k].mean() for row in history]) for k in (1, 2))
left.fill_between(steps, bound_line, evidence_line, color="C0", alpha=0.15, linewidth=0)
left.plot(steps, bound_line, color="C0")
left.plot(steps, evidence_line, color="#22303c")
left.axhline(bell_score.mean(), color="C3", linestyle="--", linewidth=1)
left.axhline(true_score.mean(), color="#7a8794", linestyle="--", linewidth=1)
left.text(1000, true_score.mean() + 0.06, "the true machine", color="#7a8794", ha="right")
left.text(1000, bell_score.mean() - 0.17, "one bell curve", color="C3", ha="right")
left.text(40, -2.2, "evidence", ha="left")
left.text(260, -3.3, "bound; between them\nthe gap", color="C0", va="center")
left.set(title="Both climb", xlabel="steps of 100 points", ylabel="nats per fresh point", ylim=(-4.5, -1.7))
drawn = model["decoder"](prior.sample((500, 1), rng=tg.noise(10)))
drawn = drawn + width * tg.noise(11).normal(drawn.shape)
show_density(
    middle, np.stack([log_evidence(row, decoder_of(model)) for row in plane]), "The learned $p(x)$, fresh points"
)
right.plot(*drawn.T, ".", color="C0", markersize=3)
inner = grid[np.abs(grid) < 2.5]
right.plot(*decoder_of(model)(inner).T, color="#22303c", linewidth=1)
right.set(title="New points, and the learned curve", aspect="equal", xlim=(-3.2, 3.2), ylim=(-3.2, 3.2))
save(figure, 7)

# %% [markdown]
# ## Predict, then run
#
# 1. Let the encoder be lazy and answer $q(z|x) = N(0, 1)$ for every x. What are its rate, its gap, and the best thing
#    that a decoder can do?
# 2. Move the point of step 3 to (0, 2), where the two ends of the curve nearly meet. What does the posterior look like?
#    What will the best bell curve do about it, and how large is the gap, roughly?
# 3. Multiply all data by 10 (millimetres in place of centimetres), and the width with them. What happens to the
#    evidence, and what to the comparison with the bell curve?

# %% [markdown]
# ## Where to read on
#
# Lesson 15 trains the smallest of these models with the gradient cut. Lesson 16 asks what one draw says about the
# bound. Lesson 17 goes on to images.
#
# In the source: `tinygrad_vae/vae/bounds.py`, the bound for any model, and `tinygrad_vae/vae/model.py`, the networks.
#
# In the literature:
#
# - Dayan, Hinton, Neal and Zemel 1995, The Helmholtz Machine: an encoder that guesses causes
# - Jordan, Ghahramani, Jaakkola and Saul 1999, An Introduction to Variational Methods for Graphical Models: the bound
# - Kingma and Welling 2014; Rezende, Mohamed and Wierstra 2014: the autoencoder and the trick
# - Alemi et al. 2018, Fixing a Broken ELBO: rate and distortion
#
# ## Answers
#
# 1. The rate is 0, because z says nothing. The gap is $KL(N(0, 1)\,\|\,p(z|x))$, tens of nats. The best decoder puts
#    every z at the mean of all x: the hidden cause is out of use. This is the collapse of lesson 15.
# 2. It has two humps, one for each end of the curve. A wide q would pay for the empty middle, so the best bell curve
#    sits on *one* hump and is silent about the other: half of the posterior, and a gap of $\log 2 = 0.69$ nats.
# 3. Each log density falls by $2 \log 10 = 4.6$ nats, since a density is a probability per area. The difference of two
#    models stays. A single evidence means little; a difference of two means a lot.

# %% jupyter={"source_hidden": true}
between = np.array([0.0, 2.0])
humps = log_joint(between, curve) - log_evidence(between)
gaps = []
for mean in np.linspace(3.5, 4.1, 61):
    for sd in np.linspace(0.08, 0.25, 35):
        inside = tg.Normal(mean, sd).log_prob(grid)
        gaps.append(np.sum(np.exp(inside) * (inside - humps)) * spacing)
print(f"answer 2: the best bell curve on one hump leaves a gap of {min(gaps):.4f} nats; log 2 is {np.log(2):.4f}")
assert abs(min(gaps) - np.log(2)) < 0.02
