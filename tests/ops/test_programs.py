"""Programs that hypothesis puts together from ops at random, against PyTorch: value, gradient, second derivatives.

Each instruction is written once, for both libraries. All values broadcast to one shape, some of whose lengths are 1 or
0, and every instruction keeps them near 1, so that a program of any length is a fair comparison.
"""

import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_vae as tg

torch = pytest.importorskip("torch")


def words(text):
    return text.split()


SAME = words(
    """sin cos tan tanh sinh cosh asin acos atan asinh acosh atanh sigmoid exp expm1 log log1p log2 log10 sqrt
    square abs relu reciprocal sign floor ceil trunc round erf erfc erfinv digamma where maximum minimum
    logaddexp hypot atan2 copysign remainder matmul einsum broadcast_to reshape tril triu diff roll moveaxis
    tile outer pow stop_gradient"""
)
SPECIAL = words("ndtr ndtri log_ndtr erfcx xlogy xlog1py gammaln i0e i1e logit polygamma log_softmax")

TWIN = SimpleNamespace(
    **{name: getattr(torch, name) for name in SAME if hasattr(torch, name)},
    **{name: getattr(torch.special, name) for name in SPECIAL},
    linalg=torch.linalg,
    softplus=torch.nn.functional.softplus,
    log_sigmoid=torch.nn.functional.logsigmoid,
    clip=torch.clip,
    sum=lambda x, axis, keepdims: x.sum(axis, keepdim=keepdims),
    mean=lambda x, axis, keepdims: x.mean(axis, keepdim=keepdims),
    var=lambda x, axis, keepdims: x.var(axis, correction=0, keepdim=keepdims),
    std=lambda x, axis, keepdims: x.std(axis, correction=0, keepdim=keepdims),
    prod=lambda x, axis, keepdims: x.prod(axis, keepdim=keepdims),
    max=lambda x, axis, keepdims: x.amax(axis, keepdim=keepdims),
    min=lambda x, axis, keepdims: x.amin(axis, keepdim=keepdims),
    logsumexp=lambda x, axis, keepdims: x.logsumexp(axis, keepdim=keepdims),
    softmax=lambda x, axis: x.softmax(axis),
    cumulative_sum=lambda x, axis: x.cumsum(axis),
    cumulative_prod=lambda x, axis: x.cumprod(axis),
    sort=lambda x, axis: x.sort(dim=axis, stable=True).values,
    argsort=lambda x, axis: x.argsort(dim=axis, stable=True),
    take_along_axis=lambda x, i, axis: torch.take_along_dim(x, i, axis),
    take=lambda x, i, axis: x.index_select(axis, torch.tensor(i)),
    flip=lambda x, axis: x.flip(axis),
    repeat=lambda x, n, axis: x.repeat_interleave(n, axis),
    concat=lambda parts, axis: torch.cat(parts, axis),
    stack=lambda parts, axis: torch.stack(parts, axis),
    expand_dims=lambda x, axis: x.unsqueeze(axis),
    squeeze=lambda x, axis: x.squeeze(axis),
    permute_dims=torch.permute,
    matrix_transpose=lambda x: x.mT,
    tensordot=lambda x, y, axes: torch.tensordot(x, y, dims=axes),
    vecdot=lambda x, y: torch.linalg.vecdot(x, y),
    linear=lambda x, w, b: torch.nn.functional.linear(x, w.T, b),
    asarray=torch.tensor,
    norm=lambda x, p: torch.linalg.vector_norm(x, ord=p, dim=-1, keepdim=True),
)
TWIN.roll = lambda x, n, axis: torch.roll(x, n, axis)
TWIN.diff = lambda x, axis: torch.diff(x, dim=axis)
TWIN.pow = torch.pow
TWIN.stop_gradient = lambda x: x.detach()
OURS = SimpleNamespace(
    **{name: getattr(tg, name) for name in vars(TWIN) if name not in ("asarray", "norm")},
    asarray=np.asarray,
    norm=lambda x, p: tg.linalg.vector_norm(x, ord=p, axis=-1, keepdims=True),
)


def whole(xp, x):
    return xp.broadcast_to(x, xp.shape)


def ramp(xp):
    """Numbers of the whole shape that are all different."""
    return xp.asarray(np.linspace(-1, 1, max(xp.size, 1))[: xp.size].reshape(xp.shape).astype(xp.dtype))


def square(xp):
    """Weights for the last axis."""
    return xp.asarray(np.cos(np.arange(float(xp.shape[2] ** 2))).reshape(xp.shape[2], xp.shape[2]).astype(xp.dtype) / 2)


def definite(xp, x):
    """Positive definite matrices, made of x."""
    rows = whole(xp, x)
    return xp.matmul(rows, xp.matrix_transpose(rows)) / 3 + xp.asarray(2 * np.eye(xp.shape[1], dtype=xp.dtype))


ELEMENTWISE = [
    *(
        lambda xp, x, y, f=f: getattr(xp, f)(x)
        for f in [
            "sin",
            "cos",
            "tanh",
            "sigmoid",
            "atan",
            "asinh",
            "erf",
            "erfc",
            "relu",
            "softplus",
            "log_sigmoid",
            "ndtr",
        ]
    ),
    *(lambda xp, x, y, f=f: getattr(xp, f)(x + 0.01) for f in ("i0e", "i1e")),  # exp(-|x|) has a kink at 0
    *(
        lambda xp, x, y, f=f: getattr(xp, f)(1.5 + xp.sin(x)) / 2
        for f in words("log log2 log10 log1p sqrt gammaln digamma")
    ),
    *(
        lambda xp, x, y, f=f: getattr(xp, f)(xp.tanh(x) / 2)
        for f in words("tan asin acos atanh sinh cosh expm1 erfinv")
    ),
    *(lambda xp, x, y, f=f: getattr(xp, f)(xp.sigmoid(x) * 0.8 + 0.1) / 2 for f in ("ndtri", "logit", "reciprocal")),
    *(lambda xp, x, y, f=f: getattr(xp, f)(1.7 * x + 0.3) * xp.tanh(y) for f in words("sign floor ceil trunc round")),
    lambda xp, x, y: xp.exp(-x * x),
    lambda xp, x, y: xp.acosh(2 + xp.square(x)) / 2,
    lambda xp, x, y: xp.abs(x + 0.1),
    lambda xp, x, y: 1 / (1 + x * x),
    lambda xp, x, y: xp.log_ndtr(xp.tanh(x)),
    lambda xp, x, y: xp.erfcx(xp.tanh(x)) / 4,
    lambda xp, x, y: xp.polygamma(1, 2 + xp.sin(x)),
    lambda xp, x, y: xp.clip(1.01 * x + 0.003, -0.5, 0.5),
    lambda xp, x, y: xp.sin(x + y),
    lambda xp, x, y: xp.cos(x - y),
    lambda xp, x, y: xp.sin(x * y),
    lambda xp, x, y: x / (1 + y * y),
    lambda xp, x, y: xp.pow(1 + xp.sigmoid(x), xp.tanh(y)),
    lambda xp, x, y: xp.tanh(x) ** 3 * 0.5,
    lambda xp, x, y: xp.maximum(whole(xp, x), whole(xp, y)),
    lambda xp, x, y: xp.minimum(whole(xp, x), whole(xp, y)),
    lambda xp, x, y: xp.logaddexp(x, y) / 2,
    lambda xp, x, y: xp.hypot(1 + x * x, y) / 2,
    lambda xp, x, y: xp.atan2(x, 1 + y * y),
    lambda xp, x, y: xp.copysign(1 + x * x, y + 0.1) / 2,
    lambda xp, x, y: xp.remainder(x, 1 + y * y),
    lambda xp, x, y: xp.xlogy(xp.sin(x), 2 + xp.sin(y)),
    lambda xp, x, y: xp.xlog1py(xp.sin(x), xp.tanh(y) / 2),
    lambda xp, x, y: xp.where(x > y, xp.sin(x), y),
    lambda xp, x, y: x * xp.stop_gradient(xp.cos(y)),
]

WHOLE = [
    lambda xp, x, y: xp.mean(x, axis=(0, 2), keepdims=True),
    lambda xp, x, y: xp.sin(xp.sum(x, axis=1, keepdims=True)),
    lambda xp, x, y: xp.max(x, axis=2, keepdims=True),
    lambda xp, x, y: xp.min(x, axis=0, keepdims=True),
    lambda xp, x, y: xp.var(x, axis=(0, 1), keepdims=True) / 4,
    lambda xp, x, y: xp.std(ramp(xp) + xp.sin(x) / 8, axis=(0, 1, 2), keepdims=True) if xp.size > 1 else x,
    lambda xp, x, y: xp.prod(xp.tanh(x), axis=1, keepdims=True),
    lambda xp, x, y: xp.logsumexp(x, axis=(1, 2), keepdims=True) / 4,
    lambda xp, x, y: xp.softmax(x, axis=0),
    lambda xp, x, y: xp.log_softmax(x, -1) / 2 if xp is TWIN else xp.log_softmax(x, axis=-1) / 2,
    lambda xp, x, y: xp.sin(xp.cumulative_sum(x, axis=0)),
    lambda xp, x, y: xp.cumulative_prod(xp.tanh(x), axis=1),
    lambda xp, x, y: xp.sort(x, axis=2),
    lambda xp, x, y: xp.take_along_axis(x, xp.argsort(y, axis=0), axis=0),
    lambda xp, x, y: xp.flip(x, axis=(0, 2)),
    lambda xp, x, y: xp.roll(x, 1, axis=0),
    lambda xp, x, y: x[:, [-1] * xp.shape[1], ::1] * 0.5,
    lambda xp, x, y: x[[0, *range(xp.shape[0] - 1)]],
    lambda xp, x, y: xp.take(x, np.array([0] * xp.shape[2]), axis=2),
    lambda xp, x, y: xp.concat([x[:1], y[1:]], axis=0),
    lambda xp, x, y: xp.stack([x, y], axis=1)[:, 1] / 2,
    lambda xp, x, y: xp.squeeze(xp.expand_dims(x, axis=1), axis=1),
    lambda xp, x, y: xp.moveaxis(xp.moveaxis(x, 0, 2), 2, 0),
    lambda xp, x, y: xp.tile(x, (2, 1, 1))[1 : 1 + xp.shape[0]],
    lambda xp, x, y: xp.repeat(x, 2, axis=1)[:, : xp.shape[1]],
    lambda xp, x, y: xp.diff(xp.concat([x, y[:1]], axis=0), axis=0) / 2,
    lambda xp, x, y: xp.tril(x),
    lambda xp, x, y: xp.triu(x),
    lambda xp, x, y: xp.sin(xp.reshape(xp.permute_dims(x, (2, 0, 1)), xp.shape)),
    lambda xp, x, y: xp.sin(xp.matmul(x, square(xp))),
    lambda xp, x, y: xp.sin(xp.linear(x, square(xp), x[0, 0])),
    lambda xp, x, y: xp.sin(xp.vecdot(x, y)[..., None]),
    lambda xp, x, y: xp.sin(xp.outer(x[0, 0], y[0, 0])[0]),
    lambda xp, x, y: xp.sin(xp.tensordot(x, square(xp), axes=1)),
    lambda xp, x, y: xp.tanh(xp.einsum("bij,bkj,bkl->bil", x, y, x)),
    lambda xp, x, y: xp.norm(1.5 + xp.sin(x), 2) / 2,
    lambda xp, x, y: xp.norm(1.5 + xp.sin(x), 3) / 2,
    lambda xp, x, y: xp.norm(x, np.inf) / 2,
    lambda xp, x, y: xp.sin(xp.linalg.det(definite(xp, x))[:, None, None]),
    lambda xp, x, y: xp.linalg.slogdet(definite(xp, x))[1][:, None, None] / 4,
    lambda xp, x, y: xp.matmul(xp.linalg.inv(definite(xp, x)), y),
    lambda xp, x, y: xp.linalg.solve(definite(xp, x), y),
    lambda xp, x, y: xp.matmul(xp.linalg.cholesky(definite(xp, x)), y) / 3,
]

INSTRUCTIONS = [*ELEMENTWISE, *WHOLE]
FULL = (4, 2, 3)
full = st.sampled_from([FULL, FULL, FULL, (4, 2, 1), (1, 2, 3), (3, 1, 2), (1, 1, 1), (0, 2, 3), (4, 0, 3), (2, 2, 0)])
instruction = st.tuples(st.integers(0, len(INSTRUCTIONS) - 1), st.integers(0, 100), st.integers(0, 100))
program = st.tuples(
    full,
    st.lists(st.integers(0, 5), min_size=1, max_size=3),
    st.lists(instruction, min_size=1, max_size=10),
    st.sampled_from([np.float64, np.float64, np.float32]),
    st.integers(0, 10_000),
)


def run(library, shape, dtype, instructions, leaves):
    xp = SimpleNamespace(**vars(library), shape=shape, size=int(np.prod(shape)), dtype=dtype)
    if library is TWIN:
        xp.log_softmax = lambda x, axis: torch.log_softmax(x, axis)
    values = list(leaves)
    for which, i, j in instructions:
        x, y = values[-1 - i % len(values)], values[-1 - j % len(values)]
        if which < len(ELEMENTWISE):
            values.append(INSTRUCTIONS[which](xp, x, y))
        elif xp.size:  # a largest of no elements, or a matrix without rows, is an error in both
            values.append(INSTRUCTIONS[which](xp, whole(xp, x), whole(xp, y)))
    return whole(xp, values[-1])


def compare(shape, kinds, instructions, dtype, seed):
    rng = np.random.default_rng(seed)
    a, b, c = shape
    choices = [(), (c,), (b, 1), (1, b, c), (a, 1, 1), shape]
    shapes = [choices[k] for k in kinds]
    inputs = [rng.normal(size=s).astype(dtype) for s in shapes]
    weights, directions = rng.normal(size=shape).astype(dtype), [rng.normal(size=s).astype(dtype) for s in shapes]

    ours = [tg.Tensor(x) for x in inputs]
    cost = tg.sum(run(OURS, shape, dtype, instructions, ours) * weights)
    first = tg.gradients(cost, ours, record=True)
    slope = sum(tg.sum(g * v) for g, v in zip(first, directions, strict=True))
    second = tg.gradients(slope, ours)

    theirs = [torch.tensor(x, requires_grad=True) for x in inputs]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        twin = (run(TWIN, shape, dtype, instructions, theirs) * torch.tensor(weights)).sum()
    options = {"allow_unused": True, "materialize_grads": True}
    twin_first = torch.autograd.grad(twin, theirs, create_graph=True, **options)
    twin_slope = sum((g * torch.tensor(v)).sum() for g, v in zip(twin_first, directions, strict=True))
    if twin_slope.requires_grad:
        twin_second = torch.autograd.grad(twin_slope, theirs, **options)
    else:
        twin_second = [torch.zeros(s) for s in shapes]

    tolerance = 1e-8 if dtype is np.float64 else 1e-3
    close(cost.value, twin, "value", tolerance)
    for found, expected in zip(first, twin_first, strict=True):
        assert found.dtype == dtype
        close(found.value, expected, "gradient", tolerance)
    for found, expected in zip(second, twin_second, strict=True):
        assert found.dtype == dtype
        close(found, expected, "Hessian times vector", tolerance)


def close(found, expected, what, tolerance):
    expected = expected.numpy(force=True)
    scale = max(1.0, float(np.max(np.abs(expected), initial=0)))
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * scale, err_msg=what)


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(program)
def test_program(drawn):
    compare(*drawn)


@pytest.mark.long
@settings(max_examples=10_000, deadline=None, derandomize=True, database=None)
@given(program)
def test_ten_thousand_programs(drawn):
    compare(*drawn)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("which", range(len(INSTRUCTIONS)))
def test_each_instruction_alone(which, dtype):
    compare(FULL, [5, 2], [(which, 0, 1), (which, 0, 2)], dtype, seed=which)
