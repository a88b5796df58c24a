"""Programs that hypothesis puts together from ops at random, against PyTorch: value, gradient, second derivatives.

Each instruction is written once, for both libraries. All values broadcast to one shape, and every instruction keeps
them near 1, so that a program of any length is a fair comparison to 1e-8.
"""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_vae as tg

torch = pytest.importorskip("torch")

FULL = (4, 2, 3)
WEIGHT = np.random.default_rng(0).normal(size=(3, 3)) / 2

TWIN = SimpleNamespace(
    **{name: getattr(torch, name) for name in ("sin", "cos", "tanh", "sigmoid", "exp", "log1p", "sqrt", "abs", "relu")},
    **{name: getattr(torch, name) for name in ("atan", "asinh", "erf", "where", "maximum", "minimum", "logaddexp")},
    **{name: getattr(torch, name) for name in ("hypot", "atan2", "matmul", "einsum", "broadcast_to", "reshape")},
    softplus=torch.nn.functional.softplus,
    sum=lambda x, axis, keepdims: x.sum(axis, keepdim=keepdims),
    mean=lambda x, axis, keepdims: x.mean(axis, keepdim=keepdims),
    max=lambda x, axis, keepdims: x.amax(axis, keepdim=keepdims),
    logsumexp=lambda x, axis, keepdims: x.logsumexp(axis, keepdim=keepdims),
    softmax=lambda x, axis: x.softmax(axis),
    log_softmax=lambda x, axis: x.log_softmax(axis),
    cumulative_sum=lambda x, axis: x.cumsum(axis),
    cumulative_prod=lambda x, axis: x.cumprod(axis),
    sort=lambda x, axis: x.sort(dim=axis, stable=True).values,
    flip=lambda x, axis: x.flip(axis),
    concat=lambda parts, axis: torch.cat(parts, axis),
    permute_dims=torch.permute,
    stop_gradient=lambda x: x.detach(),
    asarray=torch.tensor,
)
OURS = SimpleNamespace(**{name: getattr(tg, name) for name in vars(TWIN) if name != "asarray"}, asarray=np.asarray)


def whole(xp, x):
    return xp.broadcast_to(x, FULL)


INSTRUCTIONS = [
    lambda xp, x, y: xp.sin(x),
    lambda xp, x, y: xp.cos(x),
    lambda xp, x, y: xp.tanh(x),
    lambda xp, x, y: xp.sigmoid(x),
    lambda xp, x, y: xp.exp(-x * x),
    lambda xp, x, y: xp.log1p(x * x),
    lambda xp, x, y: xp.sqrt(1 + x**2),
    lambda xp, x, y: 1 / (1 + x * x),
    lambda xp, x, y: xp.atan(x),
    lambda xp, x, y: xp.asinh(x),
    lambda xp, x, y: xp.erf(x),
    lambda xp, x, y: xp.softplus(x),
    lambda xp, x, y: xp.relu(x),
    lambda xp, x, y: xp.abs(x),
    lambda xp, x, y: xp.sin(x + y),
    lambda xp, x, y: xp.cos(x - y),
    lambda xp, x, y: xp.sin(x * y),
    lambda xp, x, y: x / (1 + y * y),
    lambda xp, x, y: (1 + xp.sigmoid(x)) ** xp.tanh(y),
    lambda xp, x, y: xp.tanh(x) ** 3 * 0.5,
    lambda xp, x, y: xp.maximum(*(whole(xp, z) for z in (x, y))),
    lambda xp, x, y: xp.minimum(*(whole(xp, z) for z in (x, y))),
    lambda xp, x, y: xp.logaddexp(x, y) / 2,
    lambda xp, x, y: xp.hypot(1 + x * x, y) / 2,
    lambda xp, x, y: xp.atan2(x, 1 + y * y),
    lambda xp, x, y: xp.where(x > y, xp.sin(x), y),
    lambda xp, x, y: x * xp.stop_gradient(xp.cos(y)),
    lambda xp, x, y: xp.mean(whole(xp, x), axis=(0, 2), keepdims=True),
    lambda xp, x, y: xp.sin(xp.sum(whole(xp, x), axis=1, keepdims=True)),
    lambda xp, x, y: xp.max(whole(xp, x), axis=2, keepdims=True),
    lambda xp, x, y: xp.logsumexp(whole(xp, x), axis=(1, 2), keepdims=True) / 4,
    lambda xp, x, y: xp.softmax(whole(xp, x), axis=0),
    lambda xp, x, y: xp.log_softmax(whole(xp, x), axis=-1) / 2,
    lambda xp, x, y: xp.sin(xp.cumulative_sum(whole(xp, x), axis=0)),
    lambda xp, x, y: xp.cumulative_prod(xp.tanh(whole(xp, x)), axis=1),
    lambda xp, x, y: xp.sort(whole(xp, x), axis=2),
    lambda xp, x, y: xp.flip(whole(xp, x), axis=(0, 2)),
    lambda xp, x, y: whole(xp, x)[:, [1, 0], ::1] * 0.5,
    lambda xp, x, y: whole(xp, x)[[3, 3, 0, 1]],
    lambda xp, x, y: xp.concat([whole(xp, x)[:1], whole(xp, y)[1:]], axis=0),
    lambda xp, x, y: xp.sin(xp.reshape(xp.permute_dims(whole(xp, x), (2, 0, 1)), FULL)),
    lambda xp, x, y: xp.sin(xp.matmul(whole(xp, x), xp.asarray(WEIGHT))),
    lambda xp, x, y: xp.tanh(xp.einsum("bij,bkj,bkl->bil", whole(xp, x), whole(xp, y), whole(xp, x))),
]

shape = st.sampled_from([(), (3,), (2, 1), (1, 2, 3), (4, 1, 1), FULL])
instruction = st.tuples(st.integers(0, len(INSTRUCTIONS) - 1), st.integers(0, 100), st.integers(0, 100))
program = st.tuples(
    st.lists(shape, min_size=1, max_size=3), st.lists(instruction, min_size=1, max_size=10), st.integers(0, 10_000)
)


def run(xp, instructions, leaves):
    values = list(leaves)
    for which, i, j in instructions:
        values.append(INSTRUCTIONS[which](xp, values[-1 - i % len(values)], values[-1 - j % len(values)]))
    return whole(xp, values[-1])


def compare(shapes, instructions, seed):
    rng = np.random.default_rng(seed)
    inputs = [rng.normal(size=s) for s in shapes]
    weights, directions = rng.normal(size=FULL), [rng.normal(size=s) for s in shapes]

    ours = [tg.Tensor(x) for x in inputs]
    cost = tg.sum(run(OURS, instructions, ours) * weights)
    first = tg.gradients(cost, ours, record=True)
    slope = sum(tg.sum(g * v) for g, v in zip(first, directions, strict=True))
    second = tg.gradients(slope, ours)

    theirs = [torch.tensor(x, requires_grad=True) for x in inputs]
    twin = (run(TWIN, instructions, theirs) * torch.tensor(weights)).sum()
    options = {"allow_unused": True, "materialize_grads": True}
    twin_first = torch.autograd.grad(twin, theirs, create_graph=True, **options)
    twin_slope = sum((g * torch.tensor(v)).sum() for g, v in zip(twin_first, directions, strict=True))
    if twin_slope.requires_grad:
        twin_second = torch.autograd.grad(twin_slope, theirs, **options)
    else:
        twin_second = [torch.zeros(s) for s in shapes]

    close(cost.value, twin, "value")
    for found, expected in zip(first, twin_first, strict=True):
        close(found.value, expected, "gradient")
    for found, expected in zip(second, twin_second, strict=True):
        close(found, expected, "Hessian times vector")


def close(found, expected, what):
    expected = expected.numpy(force=True)
    scale = max(1.0, float(np.max(np.abs(expected), initial=0)))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-8 * scale, err_msg=what)


@settings(max_examples=50, deadline=None, derandomize=True, database=None)
@given(program)
def test_program(drawn):
    compare(*drawn)


@pytest.mark.long
@settings(max_examples=1000, deadline=None, derandomize=True, database=None)
@given(program)
def test_a_thousand_programs(drawn):
    compare(*drawn)


@pytest.mark.parametrize("which", range(len(INSTRUCTIONS)))
def test_each_instruction_alone(which):
    compare([FULL, (2, 1)], [(which, 0, 1), (which, 0, 2)], seed=which)
