"""Every op keeps what it declares, on shapes that hypothesis draws too, and has the values of NumPy and SciPy."""

from functools import partial

import numpy as np
import pytest
import scipy.special
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import cases_for

import tinygrad_vae as tg
from tinygrad_vae.checks.ops import check_case, check_op, check_second_order, check_vjp
from tinygrad_vae.ops.__main__ import LONG, cotangent, expression, main
from tinygrad_vae.ops.cases import draw_inputs

OWN = [op for op in tg.OPS.values() if op.__module__.startswith("tinygrad_vae.ops.")]
ELEMENTWISE = [op for op in OWN if op.elementwise]


@pytest.mark.parametrize("op", OWN, ids=lambda op: op.name)
def test_op_keeps_its_promises(op):
    check_op(op)


@pytest.mark.parametrize("x", [np.ones(2), tg.Tensor(np.ones(2))], ids=["array", "Tensor"])
@pytest.mark.parametrize(("op", "more"), [(tg.exp, [3.0]), (tg.add, [1.0, 2.0]), (tg.astype, [float, 2, 3])])
def test_an_argument_too_many_is_an_error(op, more, x):
    with pytest.raises(TypeError, match=f"{op.name}: .*argument"):
        op(x, *more)


SMOOTH_IN_SEVERAL = [op for op in ELEMENTWISE if len(op.input_names) > 1 and all(callable(vjp) for vjp in op.vjps)]


@pytest.mark.parametrize("op", SMOOTH_IN_SEVERAL, ids=lambda op: op.name)
def test_a_constant_of_bytes_has_the_gradients_of_the_same_floats(op):
    rng = np.random.default_rng(0)
    count = len(op.input_names)
    for i in range(count):
        values = [rng.uniform(0.2, 0.8, 5) for _ in range(count)]
        values[i] = np.ones(5)

        def found(constant, values=values, i=i):
            inputs = [constant if k == i else tg.Tensor(x) for k, x in enumerate(values)]
            y = op(*inputs)
            return [y.value, *tg.gradients(tg.sum(y), [x for x in inputs if x is not constant])]

        for of_bytes, of_floats in zip(found(np.ones(5, np.uint8)), found(np.ones(5)), strict=True):
            np.testing.assert_allclose(of_bytes, of_floats)


@pytest.mark.parametrize("op", ELEMENTWISE, ids=lambda op: op.name)
def test_elementwise_op_on_drawn_shapes(op):
    @settings(max_examples=5, deadline=None, derandomize=True, database=None)
    @given(cases_for(op), st.integers(0, 1000))
    def holds(trial, seed):
        check_case(op, trial, np.random.default_rng(seed))

    holds()


@pytest.mark.parametrize(
    "op", [op for op in ELEMENTWISE if hasattr(np, op.name) and op is not tg.identity], ids=lambda op: op.name
)
def test_elementwise_op_has_the_value_of_numpy(op):
    rng = np.random.default_rng(0)
    inputs = [np.asarray(op.declared.domain_of(i).draw(rng, (3, 4))) for i in range(len(op.input_names))]
    np.testing.assert_array_equal(op(*inputs), getattr(np, op.name)(*inputs))


@pytest.mark.parametrize("op", [op for op in ELEMENTWISE if hasattr(scipy.special, op.name)], ids=lambda op: op.name)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_special_function_has_the_value_of_scipy(op, dtype):
    rng = np.random.default_rng(0)
    inputs = [np.asarray(op.declared.domain_of(i).draw(rng, (3, 4))) for i in range(len(op.input_names))]
    inputs = [x.astype(dtype) if x.dtype.kind == "f" else x for x in inputs]
    expected = getattr(scipy.special, op.name)(*(x.astype(np.float64) for x in inputs))
    np.testing.assert_allclose(op(*inputs), expected, rtol=64 * np.finfo(dtype).eps)


SHAPES = np.array([0.01, 0.3, 1.0, 4.0, 50.0, 3000.0])
LEVELS = np.array([1e-8, 0.1, 0.5, 0.9, 1 - 1e-8])


def test_derivative_of_gammainc_in_its_shape_is_accurate_also_in_the_tails():
    mpmath = pytest.importorskip("mpmath")
    a, p = (grid.ravel() for grid in np.meshgrid(SHAPES[1:], LEVELS))
    x = tg.gammaincinv(a, p)
    with mpmath.workdps(40):
        step = mpmath.mpf(10) ** -12

        def cdf(a, x):
            return mpmath.gammainc(a, 0, x, regularized=True)

        exact = [
            float((cdf(mpmath.mpf(a) + step, x) - cdf(mpmath.mpf(a) - step, x)) / (2 * step))
            for a, x in zip(a.tolist(), x.tolist(), strict=True)
        ]
    shape = tg.Tensor(a)
    found = tg.gradients(tg.gammainc(shape, x), shape, cotangent=np.ones_like(x))
    np.testing.assert_allclose(found, exact, rtol=1e-10)


def test_derivatives_of_betainc_in_its_shapes_have_the_closed_forms_there_are():
    a, x = (grid.ravel() for grid in np.meshgrid(SHAPES, [1e-100, 1e-10, 0.1, 0.5, 0.9]))
    shape, one = tg.Tensor(a), np.ones_like(a)
    found = tg.gradients(tg.betainc(shape, one, x), shape, cotangent=one)
    np.testing.assert_allclose(found, x**a * np.log(x), rtol=1e-9, atol=1e-300)  # betainc(a, 1, x) = x^a
    found = tg.gradients(tg.betainc(one, shape, x), shape, cotangent=one)
    np.testing.assert_allclose(found, -np.exp(a * np.log1p(-x)) * np.log1p(-x), rtol=1e-8, atol=1e-300)


def test_quantiles_undo_cdfs_and_so_do_their_derivatives():
    a, b, p = (grid.ravel() for grid in np.meshgrid(SHAPES[1:], SHAPES[1:], [1e-3, 0.1, 0.5, 0.9]))
    leaves = [tg.Tensor(x) for x in (a, b, p)]
    for level, shapes in (
        (tg.gammainc(leaves[0], tg.gammaincinv(leaves[0], leaves[2])), leaves[:1]),
        (tg.betainc(*leaves[:2], tg.betaincinv(*leaves)), leaves[:2]),
    ):
        exact = np.abs(level.value - p) < 1e-9 * p  # where the quantile rounds to an end of the interval it is not
        assert exact.mean() > 0.9
        in_p, *in_shapes = tg.gradients(level, [leaves[2], *shapes], cotangent=exact.astype(float))
        np.testing.assert_allclose(in_p, exact, rtol=1e-9)
        for found in in_shapes:
            np.testing.assert_allclose(found, 0, atol=1e-9)


X = np.random.default_rng(0).normal(size=(2, 3, 4))
Y = np.random.default_rng(1).normal(size=(4, 3))
SQUARE = Y @ Y.T + 3 * np.eye(4)
ORDER = np.argsort(X, axis=1)


def of(constant, x):
    """The constant in the dtype of x."""
    return constant.astype(x.dtype)


def norm(name, order, xp, x, **options):
    return getattr(xp.linalg, name)(x, ord=order, **options)


CALLS = {
    # Each is run with NumPy and with this library, on arrays and on Tensors, and its derivatives are checked.
    "flip all": (lambda xp, x: xp.flip(x), X),
    "flip one": (lambda xp, x: xp.flip(x, axis=1), X),
    "roll flat": (lambda xp, x: xp.roll(x, 5), X),
    "roll axes": (lambda xp, x: xp.roll(x, (1, -2), axis=(0, 2)), X),
    "tile": (lambda xp, x: xp.tile(x, (2, 1, 3, 1)), X),
    "tile fewer": (lambda xp, x: xp.tile(x, (2,)), X),
    "repeat": (lambda xp, x: xp.repeat(x, 2, axis=1), X),
    "repeat counts": (lambda xp, x: xp.repeat(x, np.array([1, 0, 2]), axis=1), X),
    "unstack": (lambda xp, x: xp.unstack(x, axis=1)[2], X),
    "moveaxis": (lambda xp, x: xp.moveaxis(x, 0, -1), X),
    "moveaxis two": (lambda xp, x: xp.moveaxis(x, (0, 1), (2, 0)), X),
    "broadcast_arrays": (lambda xp, x: xp.broadcast_arrays(x, np.ones((5, 1, 1, 1)))[0], X),
    "expand_dims": (lambda xp, x: xp.expand_dims(x, axis=-2), X),
    "squeeze": (lambda xp, x: xp.squeeze(x, axis=(0, 2)), X[:1, :, :1]),
    "concat": (lambda xp, x: xp.concat([x, of(X[:1], x)], axis=0), X),
    "concat flat": (lambda xp, x: xp.concat([x, of(Y, x)], axis=None), X),
    "stack": (lambda xp, x: xp.stack([x, of(X, x)], axis=-1), X),
    "take": (lambda xp, x: xp.take(x, np.array([2, 0, 0]), axis=1), X),
    "take_along_axis": (lambda xp, x: xp.take_along_axis(x, ORDER, axis=1), X),
    "sort": (lambda xp, x: xp.sort(x, axis=1), X),
    "tril": (lambda xp, x: xp.tril(x, k=-1), X),
    "triu": (lambda xp, x: xp.triu(x, k=1), X),
    "diff": (lambda xp, x: xp.diff(x, axis=1, n=2), X),
    "clip": (lambda xp, x: xp.clip(x, -0.5, 0.5), X),
    "remainder": (lambda xp, x: xp.remainder(x, 0.37), X),
    "cumulative_sum": (lambda xp, x: xp.cumulative_sum(x, axis=1, include_initial=True), X),
    "cumulative_prod": (lambda xp, x: xp.cumulative_prod(x, axis=1), X),
    "prod": (lambda xp, x: xp.prod(x, axis=(0, 2)), X),
    "var": (lambda xp, x: xp.var(x, axis=(0, 2), correction=1), X),
    "std": (lambda xp, x: xp.std(x, axis=0, keepdims=True), X),
    "vecdot": (lambda xp, x: xp.vecdot(x, x), X),
    "outer": (lambda xp, x: xp.linalg.outer(x, of(Y[0], x)), X[0, 0]),
    "tensordot": (lambda xp, x: xp.tensordot(x, of(Y, x), axes=((2, 1), (0, 1))), X),
    "tensordot number": (lambda xp, x: xp.tensordot(x, of(Y, x), axes=1), X),
    "einsum product": (lambda xp, x: xp.einsum("ijk,kj->ij", x, of(Y, x)), X),
    "einsum implicit": (lambda xp, x: xp.einsum("ijk,kj", x, of(Y, x)), X),
    "einsum ellipsis": (lambda xp, x: xp.einsum("...k,k...->...", x, of(Y, x)), X),
    "einsum batch": (lambda xp, x: xp.einsum("...ij,jk->...ik", x, of(Y, x)), X),
    "einsum diagonal": (lambda xp, x: xp.einsum("ii->i", x), SQUARE),
    "einsum trace": (lambda xp, x: xp.einsum("ii", x), SQUARE),
    "einsum sum": (lambda xp, x: xp.einsum("ijk->j", x), X),
    "diagonal": (lambda xp, x: xp.linalg.diagonal(x, offset=-1), X),
    "trace": (lambda xp, x: xp.linalg.trace(x, offset=1), X),
    "cross": (lambda xp, x: xp.linalg.cross(x, of(X[:1, :, :1], x), axis=1), X),
    "matrix_power": (lambda xp, x: xp.linalg.matrix_power(x, 5), SQUARE),
    "matrix_power -2": (lambda xp, x: xp.linalg.matrix_power(x, -2), SQUARE),
    "inv": (lambda xp, x: xp.linalg.inv(x), SQUARE),
    "det": (lambda xp, x: xp.linalg.det(x), SQUARE),
    "slogdet": (lambda xp, x: xp.linalg.slogdet(x).logabsdet, SQUARE),
    "solve": (lambda xp, x: xp.linalg.solve(x, of(Y, x)), SQUARE),
    "solve vector": (lambda xp, x: xp.linalg.solve(x, of(Y[:, 0], x)), SQUARE),
    "cholesky": (lambda xp, x: xp.linalg.cholesky(x), SQUARE),
    "cholesky upper": (lambda xp, x: xp.linalg.cholesky(x, upper=True), SQUARE),
    "eigvalsh": (lambda xp, x: xp.linalg.eigvalsh(x), SQUARE),
    "eigh": (lambda xp, x: xp.linalg.eigh(x).eigenvectors, SQUARE),
    "qr Q": (lambda xp, x: xp.linalg.qr(x).Q, X),
    "qr R": (lambda xp, x: xp.linalg.qr(x).R, X),
    "qr R tall": (lambda xp, x: xp.linalg.qr(x).R, Y),
    "svd S": (lambda xp, x: xp.linalg.svdvals(x), X),
    "pinv": (lambda xp, x: xp.linalg.pinv(x), X),
}
for order in (1, 2, 3, 1.5, np.inf, -np.inf):
    CALLS[f"vector_norm {order}"] = partial(norm, "vector_norm", order, axis=1), X
for order in ("fro", "nuc", 1, -1, 2, -2, np.inf, -np.inf):
    CALLS[f"matrix_norm {order}"] = partial(norm, "matrix_norm", order), X


@pytest.mark.parametrize("name", CALLS)
def test_function_has_the_value_of_numpy_and_right_derivatives(name):
    call, x = CALLS[name]
    expected = call(np, x)
    np.testing.assert_allclose(call(tg, x), expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(call(tg, tg.Tensor(x)).value, call(tg, x))
    assert call(tg, x.astype(np.float32)).dtype == np.float32
    if name.startswith(("cholesky", "eig")):
        x = x + 0.1 * np.tri(len(x))  # not symmetric: the derivative is one in every direction
    check_vjp(lambda t: call(tg, t), x)
    check_second_order(lambda t: call(tg, t), x)


@pytest.mark.parametrize("x", [X, Y, SQUARE], ids=str)
def test_decompositions_put_together_again(x):
    u, s, vh = tg.linalg.svd(tg.Tensor(x))
    np.testing.assert_allclose((u * s[..., None, :] @ vh).value, x, atol=1e-12)
    q, r = tg.linalg.qr(tg.Tensor(x))
    np.testing.assert_allclose((q @ r).value, x, atol=1e-12)
    check_vjp(lambda t: tg.matmul(*tg.linalg.qr(t)), x)  # the derivative of x itself


ZEROS = {
    "prod": (tg.prod, np.array([2.0, 0.0, 3.0]), [0.0, 6.0, 0.0]),
    "prod of two zeros": (tg.prod, np.array([0.0, 0.0, 3.0]), [0.0, 0.0, 0.0]),
    "cumulative_prod": (lambda x: tg.sum(tg.cumulative_prod(x)), np.array([2.0, 0.0, 3.0]), [1.0, 8.0, 0.0]),
    "std": (tg.std, np.ones(3), [0.0, 0.0, 0.0]),
    "norm": (tg.linalg.vector_norm, np.zeros(3), [0.0, 0.0, 0.0]),
    "hypot": (lambda x: tg.hypot(x[0], x[1]), np.zeros(2), [0.0, 0.0]),
    "atan2": (lambda x: tg.atan2(x[0], x[1]), np.zeros(2), [0.0, 0.0]),
    "abs": (lambda x: tg.sum(tg.abs(x)), np.array([-1.0, 0.0, 1.0]), [-1.0, 0.0, 1.0]),
    "relu": (lambda x: tg.sum(tg.relu(x)), np.array([-1.0, 0.0, 1.0]), [0.0, 0.0, 1.0]),
    "max of ties": (tg.max, np.array([1.0, 1.0, 0.0]), [0.5, 0.5, 0.0]),
    "maximum of ties": (lambda x: tg.maximum(x[0], x[1]), np.ones(2), [0.5, 0.5]),
    "clip at a bound": (lambda x: tg.sum(tg.clip(x, 0.0, 1.0)), np.array([0.0, 0.5, 1.0]), [0.5, 1.0, 0.5]),
    "logsumexp of nothing": (tg.logsumexp, np.full(2, -np.inf), [0.0, 0.0]),
    "logaddexp of nothing": (lambda x: tg.logaddexp(x[0], x[1]), np.full(2, -np.inf), [0.5, 0.5]),
    "logaddexp of one": (lambda x: tg.logaddexp(x[0], x[1]), np.array([-np.inf, 1.0]), [0.0, 1.0]),
    "pow 0": (lambda x: tg.sum(x**0), np.zeros(2), [0.0, 0.0]),
    "pow 1": (lambda x: tg.sum(x**1), np.zeros(2), [1.0, 1.0]),
    "pow 2": (lambda x: tg.sum(x**2), np.zeros(2), [0.0, 0.0]),
    "xlogy at 0": (lambda x: tg.sum(tg.xlogy(x, x)), np.zeros(2), [0.0, 0.0]),
    "xlog1py at -1": (lambda x: tg.xlog1py(x[0], x[1]), np.array([0.0, -1.0]), [0.0, 0.0]),
    "i0e at 0": (lambda x: tg.sum(tg.i0e(x)), np.zeros(2), [0.0, 0.0]),
    "i1e at 0": (lambda x: tg.sum(tg.i1e(x)), np.zeros(2), [0.5, 0.5]),
    "gammainc at 0": (lambda x: tg.gammainc(x[0], x[1]), np.array([2.0, 0.0]), [0.0, 0.0]),
    "gammainc at infinity": (lambda x: tg.gammainc(x[0], x[1]), np.array([2.0, np.inf]), [0.0, 0.0]),
    "gammaincinv at 1": (lambda x: tg.gammaincinv(x[0], x[1]), np.array([2.0, 1.0]), [0.0, 0.0]),
    "betaincinv at 1": (lambda x: tg.betaincinv(x[0], x[1], x[2]), np.array([2.0, 3.0, 1.0]), [0.0, 0.0, 0.0]),
    "betainc at 0": (lambda x: tg.betainc(x[0], x[1], x[2]), np.array([2.0, 3.0, 0.0]), [0.0, 0.0, 0.0]),
    "betainc at 1": (lambda x: tg.betainc(x[0], x[1], x[2]), np.array([2.0, 3.0, 1.0]), [0.0, 0.0, 0.0]),
    "sort of ties": (lambda x: tg.sort(x)[0], np.ones(2), [1.0, 0.0]),
}


@pytest.mark.parametrize("name", ZEROS)
def test_convention_where_there_is_no_derivative(name):
    function, x, expected = ZEROS[name]
    leaf = tg.Tensor(x)
    np.testing.assert_array_equal(tg.gradients(function(leaf), leaf), expected)


LARGE = {
    "atan": (tg.atan, 1e200, 0.0),
    "asinh": (tg.asinh, 1e200, 1e-200),
    "acosh": (tg.acosh, 1e200, 1e-200),
    "atan2": (lambda x: tg.atan2(1e200, x), 1e200, -0.5e-200),
    "hypot": (lambda x: tg.hypot(x, 1e200), 1e200, 0.5**0.5),
    "softplus": (tg.softplus, 1e5, 1.0),
    "softplus below": (tg.softplus, -1e5, 0.0),
    "log_sigmoid": (tg.log_sigmoid, -1e5, 1.0),
    "sigmoid": (tg.sigmoid, -1e5, 0.0),
    "logaddexp": (lambda x: tg.logaddexp(x, 0.0), 1e5, 1.0),
    "log_ndtr": (tg.log_ndtr, -1e5, 1e5),
    "log_ndtr above": (tg.log_ndtr, 1e5, 0.0),
    "i0e": (tg.i0e, 1e5, -0.5 * (2 * np.pi) ** -0.5 * 1e5**-1.5),
    "tanh": (tg.tanh, 1e5, 0.0),
    "norm": (lambda x: tg.linalg.vector_norm(x * np.array([3.0, 4.0])), 1e200, 5.0),
}


TOLERANCES = {"log_ndtr": 1e-9, "i0e": 1e-4}  # the expected ones are leading terms, right to 1 / x^2 and 1 / x


@pytest.mark.parametrize("name", LARGE)
def test_nothing_overflows_that_need_not(name):
    function, x, expected = LARGE[name]
    leaf = tg.Tensor(x)
    y = function(leaf)
    assert np.isfinite(y.value)
    assert tg.gradients(y, leaf) == pytest.approx(expected, rel=TOLERANCES.get(name, 1e-12))


@pytest.mark.parametrize("function", [tg.linalg.inv, tg.linalg.cholesky, lambda x: tg.linalg.solve(x, np.ones(2))])
def test_a_singular_matrix_is_an_error_that_names_the_op(function):
    with pytest.raises(ValueError, match=r"inv|cholesky|solve"):
        function(tg.Tensor(np.zeros((2, 2))))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: tg.einsum("ij,jk->ik", x), "names 2 arrays, found 1"),
        (lambda x: tg.einsum("ijk->ik", x), "does not fit an array of shape"),
        (lambda x: tg.tensordot(x, x, axes=1), "they must agree"),
        (lambda x: tg.outer(x, x), "one axis each"),
        (lambda x: tg.cumulative_sum(x), "name the axis"),
        (lambda x: tg.var(x, correction=6), "variance of 6 elements"),
        (lambda x: tg.linalg.cross(x, x, axis=0), "must have length 3"),
        (lambda x: tg.linalg.matrix_norm(x, ord=3), "ord must be"),
        (lambda x: tg.linalg.vector_norm(x, ord=0.5), "at least 1"),
        (lambda x: tg.moveaxis(x, (0, 1), (0,)), "equally many axes"),
        (lambda x: tg.squeeze(x, 0), "not 1"),
        (lambda x: tg.take_along_axis(x, np.zeros(2, int)), "the indices have 1"),
        (lambda x: tg.linalg.svd(x, full_matrices=True), "leave it out"),
        (lambda x: tg.take(x, np.array([0]), axis=2), "axis 2 is out of range"),
        (lambda x: tg.diff(x, axis=-3), "axis -3 is out of range"),
        (lambda x: tg.tensordot(x, x, axes=3), "axis -3 is out of range"),
        (lambda x: tg.flip(x, axis=2), "axis 2 is out of range"),
        (lambda x: tg.tril(x[0]), "a matrix has two axes"),
        (lambda x: tg.linalg.cholesky(x), "is square, found shape"),
        (lambda x: tg.linalg.matrix_power(x, 2), "must be square"),
    ],
)
def test_bad_input_gets_an_error_that_says_what_was_found(call, message):
    with pytest.raises((ValueError, IndexError), match=message):
        call(tg.Tensor(np.ones((2, 3))))


@pytest.mark.parametrize("function", [tg.flip, tg.linalg.trace, lambda x: tg.roll(x, 1), lambda x: tg.tile(x, (2,))])
def test_lists_are_refused_because_their_dtype_would_be_a_guess(function):
    with pytest.raises(TypeError, match="found a list"):
        function([[1.0, 2.0]])


def test_complex_numbers_are_refused():
    with pytest.raises(TypeError, match="complex128"):
        tg.exp(tg.Tensor(np.ones(2))) * np.ones(2, complex)


SMOOTH_ELEMENTWISE = [
    (op, i) for op in ELEMENTWISE for i in range(len(op.input_names)) if cotangent(op, i) not in ("-", LONG)
]


@pytest.mark.parametrize(("op", "i"), SMOOTH_ELEMENTWISE, ids=lambda part: getattr(part, "name", part))
def test_cotangent_in_the_table_of_ops_is_the_one_that_gradients_takes(op, i):
    inputs = draw_inputs(op, tg.case(*((3,),) * len(op.input_names)), np.random.default_rng(0))
    leaves = [tg.Tensor(x) if x.dtype.kind == "f" else x for x in inputs]
    y = op(*leaves)
    g = np.random.default_rng(1).normal(size=3)
    names = {**tg.OPS, **dict(zip(op.input_names, inputs, strict=True)), "g": g, "nan": np.nan, "inf": np.inf}
    names["z" if "y" in op.input_names else "y"] = y.value
    found = eval(cotangent(op, i), names)
    np.testing.assert_allclose(found, tg.gradients(y, leaves[i], cotangent=g), rtol=1e-5)  # it is written to 6 digits


def test_table_of_ops_holds_every_op(capsys):
    assert main([]) == 0
    printed = capsys.readouterr().out
    assert all(f"\n{op.name}(" in printed for op in OWN)
    assert f"{len(OWN)} ops" in printed


def test_one_op_is_shown_with_its_example_and_a_misspelt_one_with_its_neighbours(capsys):
    assert main(["tanh"]) == 0
    printed = capsys.readouterr().out
    assert "g * 4 * sigmoid(2 * x) * sigmoid(-2 * x)" in printed
    assert ">>> print(tanh(0.0))" in printed
    assert main(["tahn"]) == 2
    assert "did you mean tan" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda x, y: (x + y) * x, "(x + y) * x"),
        (lambda x, y: x - (y - x), "x - (y - x)"),
        (lambda x, y: x / (y / x) / y, "x / (y / x) / y"),
        (lambda x, y: (x**y) ** 2, "(x ** y) ** 2"),
        (lambda x, y: x ** (y**2), "x ** y ** 2"),
        (lambda x, y: -(x * y) - -x, "-(x * y) - -x"),
        (lambda x, y: (-x) ** 2, "(-x) ** 2"),
        (lambda x, y: tg.sum(tg.exp(x) * 0.5, axis=0), "sum(exp(x) * 0.5, axis=0)"),
    ],
)
def test_formula_of_a_graph_has_the_brackets_it_needs(build, text):
    x, y = tg.Tensor(np.array([2.0]), "x"), tg.Tensor(np.array([3.0]), "y")
    node = build(x, y)
    assert expression(node) == text
    np.testing.assert_array_equal(eval(text, {**tg.OPS, "x": x, "y": y}).value, node.value)


@pytest.mark.parametrize("gap", [0.0, 1e-14, 1e-11])
def test_nearly_equal_eigenvalues_and_singular_values_have_no_vectors_with_a_derivative(gap):
    x = tg.Tensor(np.diag([1.0, 1.0 + gap, 3.0]))
    np.testing.assert_allclose(tg.gradients(tg.sum(tg.linalg.eigvalsh(x)), x), np.eye(3), atol=1e-15)  # the trace
    np.testing.assert_allclose(tg.gradients(tg.sum(tg.linalg.svdvals(x)), x), np.eye(3), atol=1e-15)
    for part in (tg.linalg.eigh(x).eigenvectors, tg.linalg.svd(x).U, tg.linalg.svd(x).Vh):
        assert np.isnan(tg.gradients(part, x, cotangent=np.ones((3, 3)))).all()


@pytest.mark.parametrize("gap", [1e-1, 1e-4, 1e-8, 1e-9])
def test_a_smooth_function_of_a_matrix_by_its_eigenvectors_has_the_right_gradient_at_a_small_gap(gap):
    rng = np.random.default_rng(0)
    weights, basis = rng.normal(size=(3, 3)), np.linalg.qr(rng.normal(size=(3, 3)))[0]
    x = tg.Tensor(basis * np.array([1.0, 1.0 + gap, 2.0]) @ basis.T)
    w, v = tg.linalg.eigh(x)
    found = tg.gradients(tg.sum(tg.matmul(v * tg.square(w), tg.matrix_transpose(v)) * weights), x)
    even = (weights + weights.T) / 2  # V w^2 V^T is x x
    np.testing.assert_allclose(found, even @ x.value + x.value @ even, atol=2e-6)
    u, s, vh = tg.linalg.svd(x)
    np.testing.assert_allclose(tg.gradients(tg.sum(tg.matmul(u * s, vh) * weights), x), weights, atol=2e-6)


def test_surrogate_has_the_value_of_one_and_the_gradient_of_the_other():
    value, path = tg.Tensor(np.array([1.0, 2.0])), tg.Tensor(np.array([3.0, 4.0]))
    y = tg.surrogate(value, path)
    np.testing.assert_array_equal(y.value, value.value)
    found = tg.gradients(y, [value, path], cotangent=np.array([5.0, 6.0]))
    np.testing.assert_array_equal(found, [[0.0, 0.0], [5.0, 6.0]])


def test_leaps_of_remainder_are_seen_by_the_verdict_and_the_kinks_of_sort_are_none():
    mu = tg.Tensor(np.zeros(3), "mu")
    z = tg.Normal(mu, 1.0).rsample(rng=tg.noise(0))
    with pytest.raises(tg.InvalidGradientError, match="remainder leaps"):
        tg.gradients(tg.sum(tg.remainder(z, 1.0)), mu)
    found = tg.gradients(tg.sum(tg.sort(z) * np.array([1.0, 2.0, 3.0])), mu)
    np.testing.assert_array_equal(found, 1 + np.argsort(np.argsort(z.value)))


def test_positions_and_distinct_elements_are_those_of_numpy():
    x = np.array([[5.0, 0.0, 5.0], [2.0, 0.0, 7.0]])
    for got in (tg.nonzero(x), [i.value for i in tg.nonzero(tg.Tensor(x))]):
        np.testing.assert_array_equal(got, np.nonzero(x))
    expected, got, recorded = np.unique_all(x), tg.unique_all(x), tg.values(tg.unique_all(tg.Tensor(x)))
    for name in expected._fields:
        np.testing.assert_array_equal(getattr(got, name), getattr(expected, name))
        np.testing.assert_array_equal(getattr(recorded, name), getattr(expected, name))
    np.testing.assert_array_equal(tg.unique_counts(x).counts, expected.counts)
    np.testing.assert_array_equal(tg.unique_inverse(x).inverse_indices, expected.inverse_indices)
    gradient = tg.grad(lambda t: tg.sum(tg.unique_values(t) ** 2))(x)
    np.testing.assert_array_equal(gradient, [[10, 0, 0], [4, 0, 14]])


@pytest.mark.parametrize("indexing", ["xy", "ij"])
def test_meshgrid_is_that_of_numpy(indexing):
    arrays = [np.arange(2.0), np.arange(3.0), np.arange(4.0)]
    for n in (1, 2, 3):
        for got, expected in zip(
            tg.meshgrid(*arrays[:n], indexing=indexing), np.meshgrid(*arrays[:n], indexing=indexing), strict=True
        ):
            np.testing.assert_array_equal(got, expected)
    with pytest.raises(ValueError, match="indexing must be"):
        tg.meshgrid(*arrays, indexing="yx")


@pytest.mark.parametrize("name", ["sum", "prod", "cumulative_sum", "cumulative_prod"])
def test_a_reduction_in_another_dtype_gives_gradients_in_that_of_its_input(name):
    x = tg.Tensor(np.array([1.0, 2.0, 3.0], np.float32))
    y = getattr(tg, name)(x, dtype=np.float64)
    assert y.dtype == np.float64
    assert tg.gradients(tg.sum(y), x).dtype == np.float32


def test_complex_numbers_are_refused_on_arrays_too():
    with pytest.raises(TypeError, match="exp: complex numbers are not supported"):
        tg.exp(np.ones(2, complex))
    with pytest.raises(TypeError, match="multiply: complex numbers"):
        tg.multiply(np.ones(2), 1j * np.ones(2))


def test_the_derivatives_of_a_narrow_normal_do_not_square_its_scale():
    x, loc, scale = (tg.Tensor(np.array(a, np.float32)) for a in (3e-25, 1e-25, 1e-25))
    in_x, in_loc = tg.gradients(tg.normal_log_prob(x, loc, scale), [x, loc])
    np.testing.assert_allclose([in_x, in_loc], [-2e25, 2e25], rtol=1e-5)
    in_loc, in_scale = tg.gradients(tg.normal_kl(x, scale, loc, scale * 2), [x, scale])
    assert np.isfinite(in_loc)
    assert np.isfinite(in_scale)
