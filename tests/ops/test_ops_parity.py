"""Values, gradients and second derivatives against PyTorch in float64, for every op that PyTorch has."""

import numpy as np
import pytest

import tinygrad_vae as tg
from tinygrad_vae.ops.cases import cases_of, draw_inputs

torch = pytest.importorskip("torch")
functional, special, linalg = torch.nn.functional, torch.special, torch.linalg
Normal, kl_divergence = torch.distributions.Normal, torch.distributions.kl_divergence

OWN = [op for op in tg.OPS.values() if op.__module__.startswith("tinygrad_vae.ops.")]
DIFFERENTIABLE = [
    op for op in OWN if {"smooth", "kink"} & set(op.declared.smoothness) and "stop" not in op.declared.smoothness
]

UNDER_ANOTHER_NAME = {
    "relu": functional.relu,
    "softplus": functional.softplus,
    "erfcx": special.erfcx,
    "i0e": special.i0e,
    "i1e": special.i1e,
    "log_ndtr": special.log_ndtr,
    "ndtr": special.ndtr,
    "ndtri": special.ndtri,
    "xlog1py": special.xlog1py,
    "polygamma": lambda n, x: torch.stack(
        [torch.polygamma(k, v) for k, v in zip(n.flatten().tolist(), x.flatten(), strict=True)]
    ).reshape(x.shape),
    "betaln": lambda a, b: special.gammaln(a) + special.gammaln(b) - special.gammaln(a + b),
    "gammaln": special.gammaln,
    "bernoulli_log_prob": lambda x, logits: -functional.softplus((1 - 2 * x) * logits),
    "normal_log_prob": lambda x, loc, scale: Normal(loc, scale).log_prob(x),
    "normal_kl": lambda loc, scale, loc2, scale2: kl_divergence(Normal(loc, scale), Normal(loc2, scale2)),
}


def in_torch(x):
    return torch.tensor(x, requires_grad=x.dtype.kind == "f")


def assert_same(name, function, twin, inputs, rtol=1e-8):
    """Compare value, gradient and the product of the second derivatives with a direction.

    PyTorch's own trigamma is right to 3e-10 only (at 0.5, where it is pi^2 / 2), which sets the tolerance.
    """
    ours = [tg.Tensor(x) if x.dtype.kind == "f" else x for x in inputs]
    theirs = [in_torch(x) for x in inputs]
    y, other = function(*ours), twin(*theirs)
    np.testing.assert_allclose(y.value, other.numpy(force=True), rtol=rtol, atol=1e-10, err_msg=f"{name}: value")
    u = np.random.default_rng(1).normal(size=y.shape)
    ours = [x for x in ours if isinstance(x, tg.Tensor)]
    theirs = [x for x in theirs if x.requires_grad]
    first = tg.gradients(y, ours, cotangent=u, record=True)
    first_twin = torch.autograd.grad(
        other, theirs, torch.tensor(u), create_graph=True, allow_unused=True, materialize_grads=True
    )
    for g, expected in zip(first, first_twin, strict=True):
        np.testing.assert_allclose(
            g.value, expected.numpy(force=True), rtol=rtol, atol=1e-10, err_msg=f"{name}: gradient"
        )
    cost = sum(tg.sum(g * np.cos(g.value)) for g in first)
    cost_twin = sum(torch.sum(g * torch.cos(g.detach())) for g in first_twin)
    second = tg.gradients(cost, ours)
    if not cost_twin.requires_grad:  # a linear function
        return
    second_twin = torch.autograd.grad(cost_twin, theirs, allow_unused=True, materialize_grads=True)
    for g, expected in zip(second, second_twin, strict=True):
        np.testing.assert_allclose(
            g, expected.numpy(force=True), rtol=rtol, atol=1e-8, err_msg=f"{name}: second derivative"
        )


def twin_of(op):
    return UNDER_ANOTHER_NAME.get(op.name) or getattr(torch, op.name, None)


ELEMENTWISE = [op for op in DIFFERENTIABLE if op.elementwise and twin_of(op)]


@pytest.mark.parametrize("op", ELEMENTWISE, ids=lambda op: op.name)
def test_elementwise_op(op):
    first = next(cases_of(op))
    for seed in range(3):
        inputs = draw_inputs(op, first, np.random.default_rng(seed))
        inputs = [np.asarray(x, np.float64) if x.dtype.kind == "f" else x for x in inputs]
        assert_same(op.name, op, twin_of(op), inputs)


def test_every_smooth_elementwise_op_has_been_compared_or_is_known_to_be_missing_there():
    missing = {op.name for op in DIFFERENTIABLE if op.elementwise} - {op.name for op in ELEMENTWISE}
    assert missing == {
        "betainc",
        "betaincinv",
        "divide_or_zero",
        "erfcx_integral",
        "ndtri_exp",
        "gammainc",
        "gammaincc",
        "gammaincinv",
        "identity",
        "inverse_mills",
        "undefined_slope",
    }


A = np.random.default_rng(0).normal(size=(2, 3, 4))
B = np.random.default_rng(1).normal(size=(4, 3))
C = np.random.default_rng(2).normal(size=(3, 4))
SQUARE = C @ C.T + np.eye(3)
PICK = np.argsort(A, axis=1)

FUNCTIONS = {
    # ours, PyTorch's, the inputs
    "sum": (lambda x: tg.sum(x, axis=(0, 2)), lambda x: x.sum((0, 2)), [A]),
    "mean": (lambda x: tg.mean(x, axis=1, keepdims=True), lambda x: x.mean(1, keepdim=True), [A]),
    "var": (lambda x: tg.var(x, axis=1, correction=1), lambda x: x.var(1), [A]),
    "std": (lambda x: tg.std(x, axis=(0, 1)), lambda x: x.std((0, 1), correction=0), [A]),
    "prod": (lambda x: tg.prod(x, axis=1), lambda x: x.prod(1), [A]),
    "prod with a zero": (lambda x: tg.prod(x, axis=0), lambda x: x.prod(0), [B * [[1.0], [0.0], [1.0], [1.0]]]),
    "max": (lambda x: tg.max(x, axis=(0, 1)), lambda x: x.amax((0, 1)), [A]),
    "max of ties": (lambda x: tg.max(x, axis=1), lambda x: x.amax(1), [np.round(A)]),
    "min": (lambda x: tg.min(x), lambda x: x.amin(), [A]),
    "logsumexp": (lambda x: tg.logsumexp(x, axis=1), lambda x: x.logsumexp(1), [A]),
    "softmax": (lambda x: tg.softmax(x, axis=1), lambda x: x.softmax(1), [A]),
    "log_softmax": (lambda x: tg.log_softmax(x, axis=1), lambda x: x.log_softmax(1), [A]),
    "log_sigmoid": (tg.log_sigmoid, functional.logsigmoid, [10 * A]),
    "cumulative_sum": (lambda x: tg.cumulative_sum(x, axis=1), lambda x: x.cumsum(1), [A]),
    "cumulative_prod": (lambda x: tg.cumulative_prod(x, axis=1), lambda x: x.cumprod(1), [A]),
    "cumulative_prod with zeros": (lambda x: tg.cumulative_prod(x, axis=0), lambda x: x.cumprod(0), [np.round(B)]),
    "sort": (lambda x: tg.sort(x, axis=1), lambda x: x.sort(1).values, [A]),
    "take_along_axis": (
        lambda x: tg.take_along_axis(x, PICK, axis=1),
        lambda x: x.take_along_dim(torch.tensor(PICK), 1),
        [A],
    ),
    "getitem": (lambda x: x[:, [2, 0, 2], None, 1:], lambda x: x[:, [2, 0, 2], None, 1:], [A]),
    "clip": (lambda x: tg.clip(x, -0.5, 0.5), lambda x: x.clip(-0.5, 0.5), [A]),
    "remainder": (tg.remainder, torch.remainder, [A, 1 + np.abs(A[::-1])]),
    "where": (lambda x: tg.where(x > 0, x * x, tg.sin(x)), lambda x: torch.where(x > 0, x * x, torch.sin(x)), [A]),
    "matmul": (tg.matmul, torch.matmul, [A, B]),
    "linear": (tg.linear, lambda x, w, b: torch.nn.functional.linear(x, w.T, b), [A, B, B[0]]),
    "einsum": (lambda x, y: tg.einsum("bij,ji->bi", x, y), lambda x, y: torch.einsum("bij,ji->bi", x, y), [A, B]),
    "tensordot": (
        lambda x, y: tg.tensordot(x, y, axes=((1, 2), (1, 0))),
        lambda x, y: torch.tensordot(x, y, dims=([1, 2], [1, 0])),
        [A, B],
    ),
    "cross": (lambda x, y: tg.linalg.cross(x, y), linalg.cross, [B, B[::-1].copy()]),
    "inv": (tg.linalg.inv, linalg.inv, [SQUARE]),
    "det": (tg.linalg.det, linalg.det, [SQUARE]),
    "slogdet": (lambda x: tg.linalg.slogdet(x).logabsdet, lambda x: linalg.slogdet(x).logabsdet, [SQUARE]),
    "solve": (tg.linalg.solve, linalg.solve, [SQUARE, C]),
    "cholesky": (
        lambda x: tg.linalg.cholesky(x @ tg.matrix_transpose(x) + np.eye(3)),
        lambda x: linalg.cholesky(x @ x.T + torch.eye(3, dtype=x.dtype)),
        [C],
    ),
    "eigvalsh": (
        lambda x: tg.linalg.eigvalsh(x + tg.matrix_transpose(x)),
        lambda x: linalg.eigvalsh(x + x.T),
        [SQUARE],
    ),
    "eigenvectors": (
        lambda x: tg.square(tg.linalg.eigh(x + tg.matrix_transpose(x)).eigenvectors),
        lambda x: linalg.eigh(x + x.T).eigenvectors ** 2,
        [SQUARE],
    ),
    "qr, tall": (lambda x: tg.matmul(*tg.linalg.qr(tg.exp(x))), lambda x: torch.exp(x), [B]),
    "qr, Q": (lambda x: tg.square(tg.linalg.qr(x).Q), lambda x: linalg.qr(x).Q ** 2, [B]),
    "qr, R": (lambda x: tg.square(tg.linalg.qr(x).R), lambda x: linalg.qr(x).R ** 2, [B]),
    "qr, wide": (lambda x: tg.square(tg.linalg.qr(x).R), lambda x: linalg.qr(x).R ** 2, [C]),
    "svd, U": (
        lambda x: tg.square(tg.linalg.svd(x).U),
        lambda x: linalg.svd(x, full_matrices=False).U ** 2,
        [B],
    ),
    "svd, Vh": (
        lambda x: tg.square(tg.linalg.svd(x).Vh),
        lambda x: linalg.svd(x, full_matrices=False).Vh ** 2,
        [C],
    ),
    "svdvals": (tg.linalg.svdvals, linalg.svdvals, [A]),
    "pinv": (tg.linalg.pinv, linalg.pinv, [B]),
    "matrix_power": (lambda x: tg.linalg.matrix_power(x, -3), lambda x: linalg.matrix_power(x, -3), [SQUARE]),
    "vector_norm": (
        lambda x: tg.linalg.vector_norm(x, axis=1, ord=3),
        lambda x: linalg.vector_norm(x, dim=1, ord=3),
        [A],
    ),
    "matrix_norm": (tg.linalg.matrix_norm, linalg.matrix_norm, [A]),
    "nuclear norm": (
        lambda x: tg.linalg.matrix_norm(x, ord="nuc"),
        lambda x: linalg.matrix_norm(x, ord="nuc"),
        [A],
    ),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function(name):
    function, twin, inputs = FUNCTIONS[name]
    assert_same(name, function, twin, [x.copy() for x in inputs])
