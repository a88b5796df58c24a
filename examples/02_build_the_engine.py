# %% [markdown]
# # 2. Build the engine

# %% [markdown]
"""How much code is a program that differentiates, meets a random draw, and gets past it?

About sixty lines of NumPy. We write them one idea at a time: a value with a past, the order, the chain rule, a draw
whose derivative is None, and the trick. At the end they train a variational autoencoder, and agree with the library.

Runs in about three seconds. Picture: ``figures/02_build_the_engine.png``; another folder may be named on the command
line.
"""

# %% [markdown]
# The library has to wait until step 8. All you need is NumPy and the chain rule from school: if $y$ depends on $x$, and
# the cost on $y$, then
#
# $$ \frac{d\,cost}{dx} = \frac{d\,cost}{dy} \cdot \frac{dy}{dx}. $$

# %% jupyter={"source_hidden": true}
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import tinygrad_vae as tg

plt.style.use("tinygrad_vae.course")
figures = Path(next((arg for arg in sys.argv[1:2] if not arg.startswith("-")), "figures"))
figures.mkdir(parents=True, exist_ok=True)

# %% [markdown]
# ## 1. A value with a past
#
# A number in Python forgets where it came from: after `y = x * x`, nothing about the 9.0 in `y` says that it was once
# a 3.0. To differentiate, we need exactly that. So we wrap the number in an object, and let the object remember
#
# - its **data**: the number, or an array of numbers;
# - its **past**: the values it was made from, and for each of them one local derivative: how much does *this* value
#   change when *that* input changes a little?
#
# For a sum and a product the local derivatives are the first two rules of every calculus book:
#
# $$ y = a + b: \quad \frac{dy}{da} = 1, \quad \frac{dy}{db} = 1 $$
#
# $$ y = a \cdot b: \quad \frac{dy}{da} = b, \quad \frac{dy}{db} = a $$
#
# Python calls `__add__` for `a + b` and `__mul__` for `a * b`. There we compute the data as always, and write down the
# past.

# %%


class Value:
    """Data, and the past: pairs of an input and the local derivative in it."""

    recipe = None  # only a draw has one: step 4
    __array_ufunc__ = None  # an array on the left of a Value leaves the operation to the Value

    def __init__(self, data, past=()):
        self.data = np.asarray(data, dtype=float)
        self.past = list(past)

    def __add__(self, other):
        a, b = self, as_value(other)
        return Value(a.data + b.data, [(a, 1.0), (b, 1.0)])

    def __mul__(self, other):
        a, b = self, as_value(other)
        return Value(a.data * b.data, [(a, b.data), (b, a.data)])

    def __sub__(self, other):
        return self + as_value(other) * -1.0

    __radd__, __rmul__ = __add__, __mul__  # 2 * x is x * 2


def as_value(x):
    """Return a number as a value without a past: a constant."""
    return x if isinstance(x, Value) else Value(x)


def exp(x):
    """The exponential is its own derivative."""
    y = np.exp(x.data)
    return Value(y, [(x, y)])


# %% [markdown]
# Nothing else in this lesson knows how to add or multiply. Every other function (a sine, a matrix product, a whole
# layer) would be one more such function: compute, and write down the past.

# %%
x = Value(3.0)
y = x * x + x
print("y = x * x + x at x = 3")
print("  y is", y.data, "and was made from", [f"{a.data} (derivative {slope})" for a, slope in y.past])
print("  the first of these, x * x, from", [f"{a.data} (derivative {slope})" for a, slope in y.past[0][0].past])

# %% [markdown]
# ## 2. The order
#
# `y` holds its inputs, these hold theirs: the formula is a graph, and it is all in `y`. We will walk it backwards, from
# the cost to the parameters. In which order? A value such as `x` above is used three times. It must wait until
# everything made from it has had its turn, or it would pass on a derivative that is not complete yet.
#
# So we first put all values in a row, each one *after* its own inputs. (Look at the inputs first, then place the
# value; skip what is placed already.) Read from the end, that row is the order we want.

# %%


def in_order(cost):
    """Return every value that the cost was made from, each after its inputs."""
    placed = {}

    def visit(value):
        if value not in placed:
            for x, _ in value.past:
                visit(x)
            placed[value] = True

    visit(cost)
    return list(placed)


print("\nin order:", ", ".join(str(value.data) for value in in_order(y)))

# %% [markdown]
# ## 3. The chain rule
#
# For each value $v$ we want one number: how much does the cost change when $v$ changes? Write it $\bar v$. For the cost
# itself it is 1. From there on, every value hands its number to its inputs, times the local derivative, and an input
# that is used several times *adds up* what it is handed:
#
# $$ \bar x = \sum_{v \text{ made from } x} \bar v \cdot \frac{dv}{dx}. $$
#
# That sum is the chain rule for several variables, and the loop below is nothing else. Skip the two lines with `None`
# when you read it for the first time. They are for step 4.

# %%


class BlockedError(Exception):
    """The derivative would have to pass through a draw."""


def gradients(cost, wanted):
    """Return the derivative of the cost in each of the values wanted."""
    bar = {cost: np.ones_like(cost.data)}
    for value in reversed(in_order(cost)):
        for x, slope in value.past:
            if slope is None:
                raise BlockedError(f"{value.data} was drawn: it has no derivative in {x.data}")
            bar[x] = bar.get(x, 0.0) + bar[value] * slope
    return [bar.get(x, 0.0) for x in wanted]


print(f"\nd(x * x + x)/dx at 3: {gradients(y, [x])[0]}, by hand 2 * 3 + 1 = 7")
assert gradients(y, [x]) == [7.0]

s, t = Value(0.3), Value(-1.2)
formula = exp(s * t) * s - t * t
by_hand = [np.exp(-0.36) * (1 - 0.36), np.exp(-0.36) * 0.09 + 2.4]
for name, found, hand in zip("st", gradients(formula, [s, t]), by_hand, strict=True):
    print(f"d(exp(s t) s - t t)/d{name}: {found:.12f}, by hand {hand:.12f}")
    assert np.isclose(found, hand, rtol=1e-14)

# %% [markdown]
# That is backpropagation, all of it. If everything in the world were computed by formulas, we would be done.
#
# ## 4. A draw: the derivative is None
#
# Now let a value be *random*: drawn from a bell curve with mean $\mu$ and width $\sigma$. How does a computer draw it?
# Somewhere inside, it takes standard noise $e$, and computes
#
# $$ z = \mu + \sigma e, \qquad e \sim N(0, 1). $$
#
# We call that function of noise and parameters the **recipe**. A draw runs the recipe on plain numbers, out of sight of
# the graph. What comes back to us is a number, and its past reads: made from mu and from sigma, derivative unknown. We
# write `None` where the derivative would stand.
#
# (Why not 0? Because 0 would be a claim: "mu has no influence on z". The claim is false, and step 5 shows what that
# costs.)

# %%


def normal(noise):
    """Return the recipe of a bell curve for this noise."""
    return lambda mu, sigma: mu + sigma * noise


def draw(recipe, *parameters):
    """Run the recipe on plain numbers. The result has a past, and no derivative."""
    z = Value(recipe(*[p.data for p in parameters]), [(p, None) for p in parameters])
    z.recipe = recipe
    return z


rng = np.random.default_rng(4)
mu, sigma, w = Value(1.0), Value(0.5), Value(2.0)
z = draw(normal(rng.normal()), mu, sigma)
cost = w * (z - 2.0) * (z - 2.0) + mu * mu * 0.5
print(f"\nz = {z.data:.4f}, cost = {cost.data:.4f}")
try:
    gradients(cost, [mu, sigma, w])
    raise AssertionError("the walk went through a draw")
except BlockedError as error:
    print(f"BlockedError: {error}")

# %% [markdown]
# ## 5. What happens if you carry on
#
# Many programs have no `None` there. The draw enters the graph as a constant, and the walk goes on without it. We can
# imitate them: copy the graph, value by value, and put something else in the place of each draw. All other values keep
# their data and their local derivatives. They only get new inputs.

# %%


def rewrite(cost, in_place_of):
    """Return a copy of the graph, with ``in_place_of(z, its inputs)`` for every draw z."""
    new = {}
    for v in in_order(cost):
        inputs = [new[x] for x, _ in v.past]
        past = [(x, slope) for x, (_, slope) in zip(inputs, v.past, strict=True)]
        copy = Value(v.data, past) if past else v  # a parameter stays itself
        new[v] = in_place_of(v, inputs) if v.recipe else copy
    return new[cost]


def as_constants(cost):
    return rewrite(cost, lambda z, inputs: Value(z.data))


# %% [markdown]
# The average of the cost over all draws is $w\,((\mu - 2)^2 + \sigma^2) + \mu^2/2$. Its derivatives at $\mu = 1$,
# $\sigma = 0.5$, $w = 2$ are $2w(\mu - 2) + \mu = -3$ in mu and $2w\sigma = 2$ in sigma. A single draw cannot know
# them, but it should be right on average. What does the careless program say?

# %%
truth = {"mu": -3.0, "sigma": 2.0}
for name, found in zip(truth, gradients(as_constants(cost), [mu, sigma]), strict=True):
    print(f"  a draw taken for a constant: d/d{name:<6}{found:7.4f}   the truth is {truth[name]:.4f}")
    assert found == {"mu": 1.0, "sigma": 0.0}[name]  # whatever was drawn

# %% [markdown]
# Sigma acts on the cost through the draw alone: nothing arrives. Mu acts through the draw, and in a second way beside
# it, $\mu^2/2$. Only the second arrives: a number, a plausible one, and it has the wrong sign. Whoever follows it walks
# away from the minimum. This is why backprop should stop at a draw and say so.
#
# ## 6. The trick
#
# The draw has kept its recipe. And the recipe is a sum and a product, which our Values can do. So run it *again*, on
# the same noise, and this time on Values rather than on plain numbers. Out comes the same number, now with a past that
# has derivatives: $dz/d\mu = 1$ and $dz/d\sigma = e$.

# %%


def reparameterize(cost):
    return rewrite(cost, lambda z, inputs: z.recipe(*inputs))


# %% [markdown]
# That is the whole **reparameterization trick**: `z.recipe(*inputs)` where the careless program had `Value(z.data)`. It
# draws nothing anew and changes no number. It says what is to stay the same while mu moves: the noise.

# %%
opened = reparameterize(cost)
print(f"\nthe cost before {cost.data:.12f} and after {opened.data:.12f}")
assert opened.data == cost.data  # the same draw, bit for bit

found = dict(zip(("mu", "sigma", "w"), gradients(opened, [mu, sigma, w]), strict=True))
print("through the draw:", "   ".join(f"d/d{name} {value:.4f}" for name, value in found.items()))

# %% [markdown]
# Is it right? First check: hold the noise fixed, move mu by hand a little, and look at the cost.

# %%


def cost_at(mu, sigma, w, noise):
    z = mu + sigma * noise
    return w * (z - 2.0) * (z - 2.0) + mu * mu * 0.5


noise = np.random.default_rng(4).normal()
step = 1e-6
slope = (cost_at(1.0 + step, 0.5, 2.0, noise) - cost_at(1.0 - step, 0.5, 2.0, noise)) / (2 * step)
print(f"moving mu by hand {slope:.6f}, the engine {found['mu']:.6f}")
assert np.isclose(slope, found["mu"], rtol=1e-8)

# %% [markdown]
# Second check: one draw gives one estimate, and the estimates must be right on average. Our values may be arrays as
# well as numbers, so give each of 100 000 draws its own mu and sigma, and get as many gradients in one walk.

# %%
draws = 100_000
many_mu, many_sigma = Value(np.full(draws, 1.0)), Value(np.full(draws, 0.5))
z = draw(normal(rng.normal(size=draws)), many_mu, many_sigma)
costs = reparameterize(2.0 * (z - 2.0) * (z - 2.0) + many_mu * many_mu * 0.5)
print(f"\nmean of {draws} gradients through the draw")
for name, estimates in zip(truth, gradients(costs, [many_mu, many_sigma]), strict=True):
    error = estimates.std(ddof=1) / np.sqrt(draws)
    print(f"  d/d{name:<6}{estimates.mean():7.4f} +- {error:.4f}   the truth is {truth[name]:.4f}")
    assert abs(estimates.mean() - truth[name]) < 4.5 * error

# %% [markdown]
# ## 7. Train a variational autoencoder with it
#
# Here is the smallest one there is. Somebody draws a hidden $z \sim N(0, 1)$, and shows us $x = 1.5\,z$ plus noise of
# variance 0.25. We see only $x$ and want to say what $z$ was. Our answer is a bell curve with mean $a x$ and width
# $\sigma = e^s$, and we look for the best $a$ and $s$. The score to climb is called the bound; lesson 14 derives it and
# lesson 15 explores it. Up to a constant it is
#
# $$ -\frac{(x - 1.5\,z)^2}{2 \cdot 0.25} \;-\; \Big( \frac{\sigma^2 + (a x)^2}{2} - s \Big),
# \qquad z \sim N(a x, \sigma). $$
#
# It has a draw in the middle. The best answer is known: $a = 0.6$ and $\sigma = 0.3162$. We train twice, with the trick
# and with the draw taken for a constant, and ten encoders side by side, to see how sure the result is.

# %%


def bound_of(a, s, x, noise):
    sigma = exp(s)
    z = draw(normal(noise), a * x, sigma)
    residual = x - z * 1.5
    return residual * residual * -2.0 - ((sigma * sigma + a * x * a * x) * 0.5 - s)


def train(open_draws, steps=400, encoders=10, batch=100):
    rng = np.random.default_rng(1)
    a, s = np.full((encoders, 1), 0.2), np.full((encoders, 1), -0.3)
    path = []
    for step in range(steps):
        x = Value(1.5 * rng.normal(size=(encoders, batch)) + 0.5 * rng.normal(size=(encoders, batch)))
        each_a, each_s = (Value(np.repeat(p, batch, axis=1)) for p in (a, s))
        bound = open_draws(bound_of(each_a, each_s, x, rng.normal(size=(encoders, batch))))
        rate = 0.05 / (1 + step / 60)
        da, ds = gradients(bound, [each_a, each_s])
        a, s = (p + rate * d.mean(axis=1, keepdims=True) for p, d in ((a, da), (s, ds)))
        path.append([a[:, 0], np.exp(s[:, 0])])
    return np.array(path)  # step, (a, sigma), encoder


best = (0.6, np.sqrt(0.1))
paths = {"reparameterized": train(reparameterize), "taken for a constant": train(as_constants)}
print()
for name, path in paths.items():
    print(f"{name}:", end="")
    for what, final, right in zip(("a", "sigma"), path[-1], best, strict=True):
        error = final.std(ddof=1) / np.sqrt(len(final))
        print(f"   {what} = {final.mean():.4f} +- {error:.4f} (best {right:.4f})", end="")
        assert (abs(final.mean() - right) < 4.5 * error) == (name == "reparameterized")
    print()

# %% [markdown]
# The one arrives. The other ends at $a = 0$: an encoder that does not look at $x$ and always answers "anything, most
# likely between -1 and 1". Nothing crashed and nothing diverged.
#
# ## 8. Hold it against the library
#
# The same numbers, the same noise, the library's Tensors: the same values and the same gradients.

# %%
noise = np.random.default_rng(2).normal(size=5)
x = np.random.default_rng(3).normal(size=5)
ours = Value(np.full(5, 0.4)), Value(np.full(5, -0.7))
theirs = tg.Tensor(np.full(5, 0.4), "a"), tg.Tensor(np.full(5, -0.7), "s")

ours_bound = reparameterize(bound_of(*ours, Value(x), noise))
a, s = theirs
q = tg.Normal(a * x, tg.exp(s))
z = q.transform(noise)
residual = x - z * 1.5
theirs_bound = residual * residual * -2.0 - ((q.scale * q.scale + a * x * a * x) * 0.5 - s)

found, expected = gradients(ours_bound, ours), tg.gradients(tg.sum(theirs_bound), list(theirs))
apart = max(np.abs(f - e).max() for f, e in zip(found, expected, strict=True))
print(f"\nours and the library's gradients are apart by {apart:.0e}, out of {np.abs(expected).max():.1f}")
assert np.array_equal(ours_bound.data, theirs_bound.value)
assert np.allclose(found, expected, rtol=1e-13)

blocked = tg.Normal(a * x, tg.exp(s)).sample(rng=tg.noise(0), name="z")
try:
    tg.gradients(tg.sum(blocked * blocked), a)
    raise AssertionError("the library went through a draw")
except tg.BlockedGradientError:
    print("and a draw as it comes is blocked there as well")

# %% [markdown]
# ## What the library adds
#
# Each of our pieces has its place in `tinygrad_vae/core/`, a thousand lines that read like these sixty.
#
# - `Value` is `tensor.py`. There arrays may have different shapes. The derivatives are themselves made of ops, so that
#   they can be differentiated again.
# - `in_order` and `gradients` are `gradients.py`, without recursion, so that a graph may be a million values deep.
# - `None` is `BLOCKED`. Before the walk begins, a guard names *every* draw in the way, and the choices that are valid.
# - `draw` is `sample.py`. Each distribution brings its recipe, and the noise is a node that can be swapped.
# - `rewrite` and `reparameterize` are `rewrite.py`.
#
# ## The picture
#
# The graph of step 4, with our own numbers. Left, as it was drawn: the walk starts at the cost and ends at z. In the
# middle, after the trick: the same numbers, and a way through. Right, the encoders of step 7.

# %% jupyter={"source_hidden": true}
figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 4.3), width_ratios=(1, 1, 1.05))


def draw_graph(axes, title, through):
    places = {"mu": (0.0, 0), "sigma": (1.1, 0), "w": (2.3, 1.5), "z": (0.9, 1.5), "miss": (1.6, 2.6)}
    places |= {"mu mu / 2": (0.0, 2.6), "cost": (0.8, 3.8)}
    arrows = [("mu", "z"), ("sigma", "z"), ("w", "miss"), ("z", "miss"), ("mu", "mu mu / 2")]
    arrows += [("miss", "cost"), ("mu mu / 2", "cost")]
    numbers = {"mu": mu, "sigma": sigma, "w": w, "z": first_z, "cost": cost}
    bars = gradients(opened, [mu, sigma, w]) if through else [1.0, 0.0, (float(first_z.data) - 2.0) ** 2]
    bars = dict(zip(("mu", "sigma", "w"), bars, strict=True))
    for tail, head in arrows:
        closed = head == "z" and not through
        colour = "C1" if closed else "C0"
        style = {"arrowstyle": "-|>", "color": colour, "shrinkA": 19, "shrinkB": 19, "linewidth": 1.6}
        style["linestyle"] = ":" if closed else "-"
        axes.annotate("", places[tail], places[head], arrowprops=style)
        if closed:
            (a, b), (c, d) = places[tail], places[head]
            axes.text(
                (a + c) / 2,
                (b + d) / 2,
                "None",
                color="C1",
                ha="center",
                va="center",
                fontweight="bold",
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5},
            )
    for name, (a, b) in places.items():
        random = name == "z" and not through
        box = {
            "boxstyle": "circle,pad=0.35" if random else "round,pad=0.45",
            "facecolor": "white",
            "edgecolor": "C1" if random else "#22303c",
        }
        text = name.replace("mu", "$\\mu$").replace("sigma", "$\\sigma$")
        text = text.replace("miss", "$w\\,(z - 2)^2$").replace("$\\mu$ $\\mu$ / 2", "$\\mu^2/2$")
        text += f"\n{float(numbers[name].data):.2f}" if name in numbers else ""
        axes.text(a, b, text, ha="center", va="center", bbox=box, fontsize=9)
        if name in bars:
            wrong = not through and name != "w"
            word = (
                "nothing" if wrong and name == "sigma" else f"{float(bars[name]):.2f}" + (", in part" if wrong else "")
            )
            below = -0.62 if name != "w" else -0.6
            axes.text(a, b + below, word, ha="center", va="center", color="C1" if wrong else "C0", fontsize=9)
    axes.set(title=title, xlim=(-0.7, 2.9), ylim=(-0.95, 4.4))
    axes.axis("off")


first_z = next(v for v in in_order(cost) if v.recipe)
draw_graph(left, "A draw: the walk (arrows) ends at $z$", through=False)
draw_graph(middle, "The same draw, its recipe in sight", through=True)
steps = np.arange(1, len(paths["reparameterized"]) + 1)
for name, colour in (("taken for a constant", "C1"), ("reparameterized", "C0")):
    for row, style in ((0, "-"), (1, "--")):
        right.plot(steps, paths[name][:, row].mean(axis=1), style, color=colour)
for value, what in zip(best, ("$a$", "$\\sigma$"), strict=True):
    right.axhline(value, color="#22303c", linewidth=1)
    right.text(2.6, value + 0.015, f"best {what}", va="bottom")
right.text(steps[-1], 0.92, "$\\sigma$, taken for a constant", color="C1", ha="right")
right.text(steps[-1], 0.03, "$a$, taken for a constant", color="C1", ha="right")
right.text(steps[-1], 0.55, "$a$, reparameterized", color="C0", ha="right", va="top")
right.text(steps[-1], 0.29, "$\\sigma$, reparameterized", color="C0", ha="right", va="top")
right.set_xscale("log")
right.set_ylim(-0.03, 1.05)
right.set_title("An autoencoder, trained by sixty lines")
right.set_xlabel("steps")
figure.savefig(figures / "02_build_the_engine.png")
print(f"\nthe picture is in {figures / '02_build_the_engine.png'}")

# %% [markdown]
# ## Predict, then run
#
# 1. In step 1, change `(b, a.data)` in `__mul__` to `(b, b.data)`: the pen slips in one local derivative. Which of the
#    assertions above will fail first? Is there one that cannot notice?
# 2. A draw from the exponential distribution has the recipe $z = -\log(1 - u)\,/\,\lambda$, with $u$ uniform on (0, 1).
#    What has to be added to `Value` or beside it, and what to `draw` and `reparameterize`?
# 3. The second choice of lesson 1 holds the *draw* fixed and follows its probability. It is a rewrite too: z becomes a
#    constant, and the cost is multiplied by a value that is 1 and has the past
#    $[(\mu, d\log p/d\mu), (\sigma, d\log p/d\sigma)]$. Write it, and guess before you run it: will its gradients
#    scatter more or less than the ones through the draw?

# %% [markdown]
# ## Where to read on
#
# Lesson 3 takes the order of the walk apart, and lesson 6 shows recipes for other distributions.
#
# In the source: `tinygrad_vae/core/`, in the order of the table above.
#
# In the literature:
#
# - Wengert 1964, A Simple Automatic Derivative Evaluation Program: the past of a value, as a list
# - Linnainmaa 1970; Speelpenning 1980: the walk backwards
# - Maclaurin, Duvenaud and Adams 2015, Autograd: such an engine for NumPy. Karpathy 2020, micrograd: one for numbers
# - Kingma and Welling 2014; Rezende, Mohamed and Wierstra 2014: the trick
#
# ## Answers
#
# 1. Not the first one: in $x x$ both inputs are the same value, so the wrong local derivative happens to be right. The
#    formula in s and t fails, since `s * t` has two different inputs. Test a derivative where the inputs differ.
# 2. A function `reciprocal` with the past $(x, -1/x^2)$, written like `exp`. Nothing else: `draw` and `reparameterize`
#    take any recipe that is written in operations that Values have.
# 3. More, as the cell below shows. It never learns in which direction the cost falls, only which draws were expensive.

# %% jupyter={"source_hidden": true}


def score_function(cost):
    weights = []

    def hold(z, inputs):
        m, s = inputs
        e = (z.data - m.data) / s.data
        weights.append(Value(np.ones_like(e), [(m, e / s.data), (s, (e * e - 1) / s.data)]))
        return Value(z.data)

    held = rewrite(cost, hold)
    return held * weights[0]


z = draw(normal(rng.normal(size=draws)), many_mu, many_sigma)
cost = 2.0 * (z - 2.0) * (z - 2.0) + many_mu * many_mu * 0.5
by_path, by_score = (gradients(f(cost), [many_mu, many_sigma]) for f in (reparameterize, score_function))
for name, path, score in zip(truth, by_path, by_score, strict=True):
    ratio = score.var() / path.var()
    print(f"answer 3: d/d{name} {score.mean():.3f}, {ratio:.0f} times the variance of the way through the draw")
    assert abs(score.mean() - truth[name]) < 4.5 * score.std() / np.sqrt(draws)
    assert ratio > 2
