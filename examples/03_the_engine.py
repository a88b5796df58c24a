# %% [markdown]
# # 3. The engine

# %% [markdown]
"""How does a program find the derivative of a formula, exactly, and in one pass over it?

It keeps the formula as a graph of what was computed from what, and walks that graph backwards. The one thing that can
go wrong is the order of the walk, and it goes wrong on two additions.

Runs in about two seconds. Picture: ``figures/03_the_engine.png``; another folder may be named on the command line.
"""

# %% [markdown]
# Lesson 2 built a small engine. Here is the library's, and the one place where such an engine is easily built wrong.
# Take a formula of two numbers:
#
# $$ f(a, b) = a\,b + \sin a, \qquad \frac{df}{da} = b + \cos a, \qquad \frac{df}{db} = a. $$

# %%
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import tinygrad_vae as tg
from tinygrad_vae.core import topological_order

plt.style.use("tinygrad_vae.course")
figures = Path(next((arg for arg in sys.argv[1:2] if not arg.startswith("-")), "figures"))
figures.mkdir(parents=True, exist_ok=True)


def f(a, b):
    return a * b + tg.sin(a)


# %% [markdown]
# ## By hand, and by the graph
#
# Called on arrays, `f` computes a number. Called on Tensors, it computes the same number and keeps the graph: each
# node knows the op that made it and the nodes that it was made from.

# %%
a, b = tg.Tensor(2.0, "a"), tg.Tensor(3.0, "b")
y = f(a, b)
by_hand = [3.0 + np.cos(2.0), 2.0]
by_graph = tg.gradients(y, [a, b])

print("f(2, 3) =", float(y.value), "  on arrays:", float(f(2.0, 3.0)))
print("the graph:", ", ".join(node.op.name for node in topological_order([y]) if node.op))
for name, hand, graph in zip("ab", by_hand, by_graph, strict=True):
    print(f"  df/d{name}  by hand {hand:.12f}   by the graph {graph:.12f}")
assert y.value == f(2.0, 3.0)
assert np.allclose(by_hand, by_graph, rtol=1e-15, atol=0)

# %% [markdown]
# ## What it is not: a difference
#
# The difference quotient $(f(a + h) - f(a - h)) / 2h$ is off by $h^2 |f'''| / 6$ for large h. For small h, most of the
# 16 digits of the two values cancel, and the error grows as $1/h$. The best h in between still loses five digits. The
# graph loses none. Each op brings the formula of its own derivative, and the chain rule multiplies them.

# %%
steps = 10.0 ** np.arange(-13, 0.1, 0.5)
differences = (f(2.0 + steps, 3.0) - f(2.0 - steps, 3.0)) / (2 * steps)
errors = np.abs(differences - by_hand[0])
print(f"\nthe best of {len(steps)} difference quotients is off by {errors.min():.0e}")
print(f"the graph is off by {abs(by_graph[0] - by_hand[0]):.0e}")
assert errors.min() > 100 * abs(by_graph[0] - by_hand[0])

# %% [markdown]
# ## The order of the walk
#
# Backwards, each node holds the derivative of the output with respect to itself: its cotangent, 1 for the output. A
# node hands its cotangent on to its inputs, each times the local derivative, and an input *adds up* what it is
# handed.
#
# $$ b = a + a, \qquad c = b + b, \qquad \text{so } c = 4a \text{ and } \frac{dc}{da} = 4. $$
#
# If you start walking right away, you pass values on before they are complete. c reaches b along two arrows. After the
# first, b holds 1 and hands it on. After the second, b holds 2 and hands that on, with the first 1 in it once more:

# %%


def careless(node, cotangents):
    """Walk along every arrow as it comes, and hand on what the node holds at that moment."""
    for i, x in enumerate(node.inputs):
        handed = node.op.vjps[i](cotangents[id(node)], node.value, *[t.value for t in node.inputs])
        cotangents[id(x)] = cotangents.get(id(x), 0) + handed
        careless(x, cotangents)


a = tg.Tensor(1.0, "a")
b = a + a
c = b + b
cotangents = {id(c): np.array(1.0)}
careless(c, cotangents)
right = tg.gradients(c, a)
print(f"\nb = a + a, c = b + b: the careless walk says dc/da = {cotangents[id(a)]}, the truth is 4, ", end="")
print(f"the engine says {right}")
assert cotangents[id(a)] == 6
assert right == 4

# %% [markdown]
# There are two ways out.
#
# - Hand on only what is new, along every path from the output. That is the chain rule written out, a sum over paths.
#   It is right, and the number of paths doubles with each line `x = x + x`.
# - Wait. A node hands on once, when all that was made from it has handed on to it. Such an order always exists, since
#   nothing is made from what does not exist yet. It is called topological. Each arrow is used once.


# %%
def count_arrows_over_all_paths(node):
    return sum(1 + count_arrows_over_all_paths(x) for x in node.inputs)


def count_arrows_in_order(node):
    return sum(len(x.inputs) for x in topological_order([node]))


lengths = np.arange(1, 15)
over_paths, in_order = [], []
for n in lengths:
    x = tg.Tensor(1.0)
    for _ in range(n):
        x = x + x
    over_paths.append(count_arrows_over_all_paths(x))
    in_order.append(count_arrows_in_order(x))
print(f"\n{lengths[-1]} lines x = x + x: {over_paths[-1]} arrows along all paths, {in_order[-1]} in topological order")
assert over_paths == [2 ** (n + 1) - 2 for n in lengths]
assert in_order == [2 * n for n in lengths]

chain = start = tg.Tensor(1.0)
for _ in range(10_000):
    chain = chain + start / 10_000
print(f"a chain of 10000 additions: {tg.gradients(chain, start):.12f}, the truth is 2")
assert np.isclose(tg.gradients(chain, start), 2, rtol=1e-12)

# %% [markdown]
# ## The picture

# %% jupyter={"source_hidden": true}
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.9))
left.loglog(steps, errors, "o", color="C4")
eps = np.finfo(float).eps
large, small = steps[steps > 1e-6], steps[steps < 1e-3]
left.loglog(large, large**2 * abs(np.cos(2.0)) / 6, color="C4", linewidth=1.2)
left.loglog(small, eps * float(y.value) / small, color="C4", linewidth=1.2, linestyle="--")
left.text(1.2e-3, 3e-9, "$h^2 |f'''|\\,/\\,6$", color="C4", ha="left")
left.text(2e-10, 2e-4, "$\\varepsilon |f|\\,/\\,h$", color="C4", ha="left")
left.axhline(eps, color="C0")
left.text(1e-13, eps * 1.7, "the graph: exact to the last digit", color="C0")
left.set_ylim(4e-17, 20)
left.set_title("A difference is never exact")
left.set_xlabel("step $h$")
left.set_ylabel("error of $\\partial f/\\partial a$")
right.semilogy(lengths, 2.0 ** (lengths + 1) - 2, color="C1")
right.semilogy(lengths, over_paths, "s", color="C1")
right.semilogy(lengths, 2 * lengths, color="C0")
right.semilogy(lengths, in_order, "o", color="C0")
right.text(9.6, 7000, "every path\n$2^{n+1} - 2$", color="C1", ha="right", va="center")
right.text(10.5, 6.5, "topological order\n$2n$", color="C0", ha="center", va="center")
right.set_title("In order, each arrow is walked once")
right.set_xlabel("lines $x = x + x$")
right.set_ylabel("arrows walked")
figure.savefig(figures / "03_the_engine.png")
print(f"\nthe picture is in {figures / '03_the_engine.png'}")

# %% [markdown]
# ## Predict, then run
#
# 1. The careless walk says 6 for $c = 4a$. What does it say for one more line, $d = c + c$? And with 20 lines?
# 2. A loss depends on a million weights. How many walks does backprop take for the whole gradient? How many evaluations
#    of the loss do difference quotients take?
# 3. In float32 a number has 7 digits in place of 16. Where is the best step of a difference quotient then?

# %% [markdown]
# ## Where to read on
#
# In the source: `topological_order` and `gradients` in `tinygrad_vae/core/`; then `tinygrad_vae/ops/elementwise.py`,
# where a derivative stands beside each function.
#
# In the literature:
#
# - Wengert 1964, A Simple Automatic Derivative Evaluation Program: the list of operations
# - Linnainmaa 1970, his master's thesis: the walk backwards, for rounding errors
# - Speelpenning 1980, Compiling Fast Partial Derivatives: the walk backwards, by a program
# - Rumelhart, Hinton and Williams 1986, Learning Representations by Back-Propagating Errors
# - Griewank and Walther 2008, Evaluating Derivatives: why the cost is that of a few evaluations, whatever the number
#   of inputs
#
# ## Answers
#
# 1. 26 in place of 8, and for a fourth line 166 in place of 16. Every arrow hands on again what came along the ones
#    before. With 20 lines the walk would also take two million steps.
# 2. One walk. Two million evaluations, or a million and one with one-sided differences. This is why backprop exists.
# 3. Where $h^2/6$ and $\varepsilon|f|/h$ are about equal: $h \approx (6 \varepsilon |f|)^{1/3}$. With
#    $\varepsilon = 10^{-7}$ that is near 0.01, and the best error is near $10^{-5}$.

# %% jupyter={"source_hidden": true}
d = a = tg.Tensor(1.0, "a")
for _ in range(3):
    d = d + d
cotangents = {id(d): np.array(1.0)}
careless(d, cotangents)
assert cotangents[id(a)] == 26
short = np.float32(10.0) ** np.arange(-5, 0.1, 0.5, dtype=np.float32)
rough = (f(np.float32(2) + short, np.float32(3)) - f(np.float32(2) - short, np.float32(3))) / (2 * short)
assert 0.003 < short[np.argmin(np.abs(rough - by_hand[0]))] < 0.05
