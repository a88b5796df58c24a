# %% [markdown]
# # 23. The same step as a plan and on a GPU

# %% [markdown]
"""Where does the time of a small training step go, and how does one get it back?

Most of it goes into keeping the books: nodes, shapes, memory. A plan keeps them once: it writes down what a step did,
and from then on runs the list. The numbers stay the same, bit for bit.

Runs in about four seconds. The last part needs a GPU and CuPy, and says what it would do where they are missing.
Picture: ``figures/23_a_plan_and_a_gpu.png``; another folder may be named on the command line.
"""

# %% [markdown]
# The step is that of lesson 17: the bound of a batch, its gradient, Adam. It is written as one function, from model and
# state to model and state.

# %%
import importlib.util
import itertools
import sys
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import tinygrad_vae as tg
from tinygrad_vae.app.data import load
from tinygrad_vae.compiled.plan import PlanError
from tinygrad_vae.core import topological_order

plt.style.use("tinygrad_vae.course")
figures = Path(next((arg for arg in sys.argv[1:2] if not arg.startswith("-")), "figures"))
figures.mkdir(parents=True, exist_ok=True)

images, _ = load("digits")
pixels = np.asarray(images.pixels, np.float32)
adam = tg.optim.Adam(3e-3)
first = tg.VAE.init(64, hidden=(64,), latent=8, rng=tg.noise(0))


def loss_of(model, pixels, rng):
    return -tg.mean(tg.reparameterize(tg.elbo(model, pixels, rng=rng)))


def step(model, state, pixels, rng):
    loss, gradient = tg.value_and_grad(lambda model: loss_of(model, pixels, rng))(model)
    model, state = adam.update(model, gradient, state)
    return model, state, loss


# %% [markdown]
# ## The same by hand
#
# To know what the graph costs, we need the same step without it: forward, backward and Adam, line by line. It gives the
# same gradient.

# %%


def by_hand(weights, x, e):
    """Return the loss and the gradient, for weights in the order of the model's leaves, in plain NumPy."""
    w1, b1, w_mu, b_mu, w_lv, b_lv, w2, b2, w3, b3 = weights
    a1 = x @ w1 + b1
    h1 = np.maximum(a1, 0)
    mu, log_var = h1 @ w_mu + b_mu, h1 @ w_lv + b_lv
    sigma = np.exp(0.5 * log_var)
    z = mu + sigma * e
    a2 = z @ w2 + b2
    h2 = np.maximum(a2, 0)
    logits = h2 @ w3 + b3
    misfit = np.maximum(logits, 0) - logits * x + np.log1p(np.exp(-np.abs(logits)))
    kl = 0.5 * (mu**2 + sigma**2 - 1 - log_var)
    loss = (misfit.sum() + kl.sum()) / len(x)

    d_logits = (1 / (1 + np.exp(-logits)) - x) / len(x)
    d_a2 = (d_logits @ w3.T) * (a2 > 0)
    d_z = d_a2 @ w2.T
    d_mu = d_z + mu / len(x)
    d_log_var = 0.5 * (d_z * e * sigma + (sigma**2 - 1) / len(x))
    d_a1 = (d_mu @ w_mu.T + d_log_var @ w_lv.T) * (a1 > 0)
    pairs = ((x, d_a1), (h1, d_mu), (h1, d_log_var), (z, d_a2), (h2, d_logits))
    return loss, [part for h, d in pairs for part in (h.T @ d, d.sum(axis=0))]


def step_by_hand(weights, state, x, rng):
    t, means, squares = state
    loss, gradient = by_hand(weights, x, rng.normal((len(x), 8), np.float32))
    means = [0.9 * m + 0.1 * g for m, g in zip(means, gradient, strict=True)]
    squares = [0.999 * v + 0.001 * g**2 for v, g in zip(squares, gradient, strict=True)]
    t += 1
    weights = [
        w - 3e-3 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        for w, m, v in zip(weights, means, squares, strict=True)
    ]
    return weights, (t, means, squares), loss


exact = tg.trees.map_leaves(lambda w: w.astype(np.float64), first)
recorded = tg.wrap(exact)
loss = loss_of(recorded, pixels[:100], tg.noise(1))
gradient = tg.trees.leaves(tg.gradients(loss, recorded))
expected_loss, expected = by_hand(tg.trees.leaves(exact), pixels[:100], tg.noise(1).normal((100, 8)))
apart = max(np.abs(a - b).max() for a, b in zip(gradient, expected, strict=True))
print(f"by hand and by the graph: loss {expected_loss:.6f} and {loss.value:.6f}, gradients apart by {apart:.0e}")
assert apart < 1e-12

# %% [markdown]
# ## The plan
#
# `tg.plan(step)` is called like the step. In its first two calls it records; if they differ in anything but the numbers
# in their arrays, it says so. Then it has a list of NumPy calls, and a place for each result in one piece of memory.
# From the third call on it runs the list. (Where numba is installed, long calls that belong together become one loop.)
#
# Nothing else is new. Gradients are nodes, and so is the update of Adam: the whole step is one graph. And the noise
# comes from outside, so that the list is the same in every step and the draws are not. `carry=2` says that the first
# two results are the first two arguments of the next call. They stay where they are.

# %%
run = tg.plan(step, carry=2)
eager = planned = (first, adam.init(first))
for k in range(12):
    batch = pixels[100 * k : 100 * (k + 1)]
    *eager, loss = step(*eager, batch, tg.noise(2).at(k))
    *planned, loss_of_plan = run(*planned, batch, tg.noise(2).at(k))
    pairs = list(zip(tg.trees.leaves([*eager, loss]), tg.trees.leaves([*planned, loss_of_plan]), strict=True))
    assert all(np.asarray(a).tobytes() == np.asarray(b).tobytes() for a, b in pairs)
one_step = step(*tg.wrap(eager), batch, tg.noise(2))
nodes = topological_order([x for x in tg.trees.leaves(one_step) if isinstance(x, tg.Tensor)])
print(f"\n12 steps, the same bit for bit; the loss is {loss:.3f}")
print(f"one step as a graph: {len(nodes)} nodes")
print(f"as a plan: {run}")

# %% [markdown]
# ## What a plan cannot know
#
# A list has no branches. Where the step looks at a number and decides, the list holds what was decided. A plan that
# finds its two recordings different says so, and what to write instead.
#
# It compares the first two calls alone. A decision that comes out the same in both, and otherwise later, is frozen, and
# nothing says so. `tg.where` is an op: it decides in every run.

# %%


def branching(x):
    """Double x as long as it is below 8."""
    return 2 * x if tg.values(x).max() < 8 else x


def choosing(x):
    """Do the same without a branch."""
    return tg.where(tg.max(x) < 8, 2 * x, x)


changes_at_once = tg.plan(branching)
changes_at_once(np.full(3, 4.0))
try:
    changes_at_once(np.full(3, 8.0))
except PlanError as error:
    print(f"\nPlanError: {error}")
else:
    raise AssertionError("the plan has not seen that its two recordings differ")

changes_later, in_the_list = tg.plan(branching), tg.plan(choosing)
right = frozen = chosen = np.ones(3)
for _ in range(5):
    right, frozen, chosen = branching(right), changes_later(frozen), in_the_list(chosen)
print(f"five times from 1: {right[0]:g}; by a plan with a frozen branch {frozen[0]:g}; with tg.where {chosen[0]:g}")
if np.array_equal(frozen, right) or not np.array_equal(chosen, right):
    raise AssertionError("a branch that changes later is frozen, and tg.where is not")

# %% [markdown]
# ## Measured
#
# All three take turns, so that whatever else this computer does meets each of them. A round gives one ratio; the median
# of the rounds is what counts.

# %%


def turn(contender, start, batch):
    """Return a function that runs one step of a contender, from where the last one stopped."""
    now, number = start, itertools.count()

    def one_step():
        nonlocal now
        *now, _ = contender(*now, batch, tg.noise(3).at(next(number)))

    return one_step


def measure(batch, rounds=15, steps=2):
    """Return the seconds of a step, one row for each contender and one column for each round."""
    weights = tg.trees.leaves(first)
    zeros = [np.zeros_like(w) for w in weights]
    contenders = [
        turn(step_by_hand, (weights, (0, zeros, zeros)), batch),
        turn(step, (first, adam.init(first)), batch),
        turn(tg.plan(step, carry=2), (first, adam.init(first)), batch),
    ]
    for contender in contenders:
        for _ in range(3):  # the plan records in the first two
            contender()
    seconds = np.empty((len(contenders), rounds))
    for round_, (k, contender) in itertools.product(range(rounds), enumerate(contenders)):
        start = time.perf_counter()
        for _ in range(steps):
            contender()
        seconds[k, round_] = (time.perf_counter() - start) / steps
    return seconds


NAMES = ["by hand", "graph, anew each step", "plan"]
sizes = [10, 30, 100, 300, 1000]
measured = {size: measure(pixels[:size]) for size in sizes}
print("\nmilliseconds a step, and how many times as long as by hand (median, quartiles)")
for size, seconds in measured.items():
    print(f"  batch {size}")
    for name, row in zip(NAMES, seconds, strict=True):
        low, middle, high = np.quantile(row / seconds[0], [0.25, 0.5, 0.75])
        print(f"    {name:<22}{1e3 * np.median(row):8.3f}   {middle:5.2f}   {low:.2f} to {high:.2f}")
for _, graph, plan in (measured[size] for size in sizes[:3]):
    assert np.median(plan / graph) < 1  # a plan is there to be faster

# %% [markdown]
# Keeping the books costs about the same for each node, whatever is in it. So it weighs most where there is least to
# compute: at 10 images more than at 1000. The plan keeps them no longer, and what is left to pay are the calls.
#
# ## On a GPU
#
# A library function works on the arrays that it is given. Given those of CuPy it computes on the GPU, by the same
# formulas. `tg.to_device` moves a tree there, and `tg.to_host` brings it back. The plan is then a CUDA graph: all
# calls of the step in one launch.

# %%


def gpu_is_there():
    if importlib.util.find_spec("cupy") is None:
        return False
    import cupy

    try:
        return cupy.is_available()
    except RuntimeError:  # a driver that is too old
        return False


if gpu_is_there():
    batch = pixels[:1000]
    there = tg.to_device((first, adam.init(first)))
    run = tg.plan(step, carry=2)
    here = (first, adam.init(first))
    pixels_there = tg.to_device(batch)
    for k in range(10):
        *there, loss_there = run(*there, pixels_there, tg.noise(4).at(k))
        *here, loss_here = step(*here, batch, tg.noise(4).at(k))
    print(f"\nafter 10 steps: loss {float(tg.to_host(loss_there)):.4f} on the GPU, {float(loss_here):.4f} here")
    assert np.isclose(float(tg.to_host(loss_there)), float(loss_here), rtol=1e-3)
    start = time.perf_counter()
    for k in range(200):
        *there, loss_there = run(*there, pixels_there, tg.noise(4).at(k))
    tg.to_host(loss_there)  # waits for the GPU
    there_ms, here_ms = 1e3 * (time.perf_counter() - start) / 200, 1e3 * np.median(measured[1000][2])
    print(f"a step of 1000 images: {there_ms:.3f} ms, here {here_ms:.3f} ms")
else:
    print("\nNo GPU here, or no CuPy (pip install '.[cuda12]'). It would have moved model, state and images")
    print("there with tg.to_device, called the same plan on them, and held the loss after ten steps against this one.")

# %% [markdown]
# ## The picture

# %% jupyter={"source_hidden": true}
figure, (left, right) = plt.subplots(1, 2, figsize=(10.5, 4.0))
look = {"by hand": ("C4", "s", "--"), "graph, anew each step": ("C1", "D", "-"), "plan": ("C0", "o", "-")}
for k, (name, (colour, marker, style)) in enumerate(look.items()):
    milliseconds = [1e3 * np.median(measured[size][k]) for size in sizes]
    left.plot(sizes, milliseconds, style, marker=marker, color=colour, label=name)
    ratios = np.array([np.quantile(measured[size][k] / measured[size][0], [0.25, 0.5, 0.75]) for size in sizes])
    below, above = ratios[:, 1] - ratios[:, 0], ratios[:, 2] - ratios[:, 1]
    right.errorbar(sizes, ratios[:, 1], [below, above], fmt=style, marker=marker, color=colour)
for axes in (left, right):
    axes.set_xscale("log")
    axes.set_xticks(sizes, sizes)
    axes.minorticks_off()
left.set_yscale("log")
ticks = [tick for tick in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20) if left.get_ylim()[0] < tick < left.get_ylim()[1]]
left.set_yticks(ticks, ticks)
left.minorticks_off()
left.legend(loc="upper left")
left.set_title("One step of training")
left.set_xlabel("images in a batch")
left.set_ylabel("milliseconds")
right.set_ylim(bottom=0)
right.set_title("What the graph costs, and what the plan does")
right.set_xlabel("images in a batch")
right.set_ylabel("time / time by hand (bars: quartiles)")
figure.savefig(figures / "23_a_plan_and_a_gpu.png")
print(f"\nthe picture is in {figures / '23_a_plan_and_a_gpu.png'}")

# %% [markdown]
# ## Predict, then run
#
# 1. At which batch size do you expect the graph to cost nothing any more, compared with the step by hand?
# 2. The step draws noise. Why does a plan not draw the same numbers in every run?
# 3. Write `if loss < 10: ...` into the step. What happens at the second call, and what if the loss is below 10 only
#    from the hundredth step on?

# %% [markdown]
# ## Where to read on
#
# In the source: `tinygrad_vae/compiled/`, the passes from a step to its list; `tinygrad_vae/core/arrays.py`, which
# looks for CuPy; `tests/benchmarks/bench_step.py`, the same measurement against other libraries.
#
# In the literature:
#
# - Wengert 1964, A Simple Automatic Derivative Evaluation Program: the list
# - Griewank and Walther 2008, Evaluating Derivatives: what a derivative costs, chapters 3 and 4
# - Bergstra et al. 2010, Theano: a graph that is compiled
# - Frostig, Johnson and Leary 2018, Compiling Machine Learning Programs via High-Level Tracing: JAX
# - Pisarchyk and Lee 2020, Efficient Memory Management for Deep Neural Net Inference: a place for every array
#
# ## Answers
#
# 1. Where the matrix products take most of the time. With this model the two come close at some hundreds of images; the
#    picture says where on your machine.
# 2. The noise comes from outside. The stream is an argument of the step, so the plan asks it anew in every run.
# 3. The plan finds its two recordings different and says so, if the second loss is below 10 and the first was not. In
#    the other case the branch is frozen, in silence. Decide with `tg.where`.
