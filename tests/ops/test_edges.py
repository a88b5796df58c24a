"""Every op at the edges: whole numbers, float16, arrays without elements, NaN, points where digits cancel, axes."""

import contextlib
import itertools
import warnings

import numpy as np
import pytest

import tinygrad_vae as tg
from tinygrad_vae.ops.cases import cases_of, draw_inputs
from tinygrad_vae.ops.declare import DIFFERENTIABLE

OWN = [op for op in tg.OPS.values() if op.__module__.startswith("tinygrad_vae.ops.")]
SMOOTH = [op for op in OWN if any(kind in DIFFERENTIABLE for kind in op.declared.smoothness)]


def of_whole_numbers(op, trial, dtype, rng):
    """Return inputs of whole numbers inside the domains of an op, or None where there are none."""
    found = []
    for i, shape in enumerate(trial.shapes):
        domain, drawn = op.declared.domain_of(i), rng.integers(0, 2 if dtype is bool else 12, shape)
        if domain.event_ndim == 2:  # a matrix that is symmetric and definite, in numbers below 128
            drawn = np.zeros(shape, int) + 9 * np.eye(*shape[-2:], dtype=int) + np.arange(shape[-1]) % 2
            drawn = drawn + np.swapaxes(drawn, -1, -2) if shape[-1] == shape[-2] else drawn
        elif domain.event_ndim == 0:
            known = np.arange(2 if dtype is bool else 12)
            inside = known[np.broadcast_to(domain.contains(known.astype(float)), known.shape)]
            if not inside.size:
                return None
            drawn = rng.choice(inside, shape)
        found.append(drawn.astype(dtype))
    return found


@pytest.mark.parametrize("op", OWN, ids=lambda op: op.name)
def test_whole_numbers_are_taken_for_the_floats_that_they_are(op):
    for dtype, trial in itertools.product((bool, np.uint8, np.int8, np.int32, np.int64), list(cases_of(op))[:3]):
        if trial.attrs.get("dtype") or (dtype is bool and (op.declared.domain_of(0).event_ndim == 2 or op is tg.round)):
            continue
        inputs = of_whole_numbers(op, trial, dtype, np.random.default_rng(0))
        if inputs is None:
            continue
        is_position = [op.declared.domain_of(i).discrete for i in range(len(inputs))]
        inputs = [x.astype(int) if at else x for x, at in zip(inputs, is_position, strict=True)]
        floats = [x if at else x.astype(float) for x, at in zip(inputs, is_position, strict=True)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of 0 / 0, in both
            try:
                found = np.asarray(op(*inputs, **trial.attrs))
            except TypeError:  # NumPy subtracts no booleans
                assert dtype is bool
                continue
            expected = np.asarray(op(*floats, **trial.attrs))
        if found.dtype.kind == "f":
            assert found.dtype == np.float64
            np.testing.assert_allclose(found, expected, rtol=1e-12)
        elif dtype is np.int64:
            np.testing.assert_array_equal(found, expected)


def value_and_gradients(op, inputs, attrs):
    leaves = [tg.Tensor(x) if x.dtype.kind == "f" else x for x in inputs]
    y = op(*leaves, **attrs)
    tested = [
        i for i, x in enumerate(leaves) if isinstance(x, tg.Tensor) and op.declared.smoothness_in(i) in DIFFERENTIABLE
    ]
    if y.dtype.kind != "f" or not tested:
        return [y.value]
    return [y.value, *tg.gradients(y, [leaves[i] for i in tested], cotangent=np.ones_like(y.value))]


@pytest.mark.parametrize("op", [op for op in OWN if op.elementwise and len(op.input_names) > 1], ids=lambda op: op.name)
def test_a_list_beside_arrays_is_taken_for_the_array_that_it_is_or_refused(op):
    inputs = draw_inputs(op, next(cases_of(op)), np.random.default_rng(0))
    ends = [x.ravel()[:1] for x in inputs]
    for i, x in enumerate(ends):
        others = [y if k == i else y[0] for k, y in enumerate(ends)]
        with contextlib.suppress(TypeError):
            found = op(*others[:i], x.tolist(), *others[i + 1 :])
            np.testing.assert_array_equal(found, op(*others))


@pytest.mark.parametrize("op", SMOOTH, ids=lambda op: op.name)
def test_float16_is_computed_rightly_or_refused(op):
    for trial in cases_of(op):
        inputs = draw_inputs(op, trial, np.random.default_rng(0))
        inputs = [x.astype(np.float16) if x.dtype.kind == "f" else x for x in inputs]
        try:
            found = value_and_gradients(op, inputs, trial.attrs)
        except TypeError as error:
            assert "float16" in str(error)  # noqa: PT017
            continue
        wide = [x.astype(np.float64) if x.dtype.kind == "f" else x for x in inputs]
        for got, expected in zip(found, value_and_gradients(op, wide, trial.attrs), strict=True):
            np.testing.assert_allclose(got, expected, rtol=0, atol=2e-2 * np.max(np.abs(expected), initial=1e-2))


def test_many_numbers_of_float16_are_added_up_rightly_or_refused():
    x = np.ones(100_000, np.float16)
    for function in (tg.mean, tg.var, tg.std, tg.logsumexp, tg.softmax, tg.log_softmax, tg.linalg.vector_norm):
        with pytest.raises(TypeError, match="float16"):
            function(x)


@pytest.mark.parametrize("op", [op for op in SMOOTH if not op.elementwise], ids=lambda op: op.name)
def test_arrays_without_elements_have_values_and_gradients_or_are_refused_by_name(op):
    for trial in cases_of(op):
        for n in {n for shape in trial.shapes for n in shape}:
            shapes = [tuple(0 if m == n else m for m in shape) for shape in trial.shapes]
            try:
                drawn = [op.declared.domain_of(i).draw(np.random.default_rng(0), s) for i, s in enumerate(shapes)]
            except (ValueError, IndexError):
                continue
            attrs = dict(trial.attrs)
            if isinstance(attrs.get("shape"), tuple):
                attrs["shape"] = tuple(0 if m == n else m for m in attrs["shape"])
            inputs = [np.asarray(x) for x in drawn]
            try:
                _, *found = value_and_gradients(op, inputs, attrs)
            except (ValueError, IndexError) as error:
                assert str(error).split(":")[0] in tg.OPS  # noqa: PT017
                continue
            floats = [
                x
                for i, x in enumerate(inputs)
                if op.declared.smoothness_in(i) in DIFFERENTIABLE and x.dtype.kind == "f"
            ]
            assert [g.shape for g in found] == [x.shape for x in floats]


NOT_A_NUMBER = [op for op in SMOOTH if op.declared.domain_of(0).event_ndim < 2 and op not in (tg.relu, tg.put)]
"""Of relu the value alone is NaN: its slope is a comparison, for the sake of compiled loops."""


@pytest.mark.parametrize("op", NOT_A_NUMBER, ids=lambda op: op.name)
def test_a_value_that_is_nan_has_no_gradient_of_zero(op):
    trial = next(cases_of(op))
    inputs = draw_inputs(op, trial, np.random.default_rng(0))
    for i, x in enumerate(inputs):
        if x.dtype.kind != "f" or op.declared.smoothness_in(i) not in DIFFERENTIABLE or "dtype" in trial.attrs:
            continue
        hurt = x.copy()
        hurt.flat[0] = np.nan
        leaf = tg.Tensor(hurt)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            y = op(*inputs[:i], leaf, *inputs[i + 1 :], **trial.attrs)
            if np.isnan(y.value).any():
                assert tg.gradients(y, leaf, cotangent=np.ones_like(y.value)).flat[0] != 0


def at_origin(function, n=2):
    return lambda: tg.hessian(function)(np.zeros(n))


SECOND_DERIVATIVES = {
    "vector_norm squared": (at_origin(lambda x: tg.linalg.vector_norm(x) ** 2), 2 * np.eye(2)),
    "norm 3 cubed": (at_origin(lambda x: tg.linalg.vector_norm(x, ord=3) ** 3), np.zeros((2, 2))),
    "matrix_norm squared": (
        at_origin(lambda x: tg.linalg.matrix_norm(tg.reshape(x, (2, 2))) ** 2, 4),
        2 * np.eye(4),
    ),
    "hypot squared": (at_origin(lambda x: tg.hypot(x[0], x[1]) ** 2), 2 * np.eye(2)),
    "abs squared": (at_origin(lambda x: tg.sum(tg.abs(x) ** 2)), 2 * np.eye(2)),
    "std squared": (at_origin(lambda x: tg.std(x) ** 2), np.array([[0.5, -0.5], [-0.5, 0.5]])),
    "var": (at_origin(tg.var), np.array([[0.5, -0.5], [-0.5, 0.5]])),
    "det at 0": (
        at_origin(lambda x: tg.linalg.det(tg.reshape(x, (2, 2))), 4),
        np.array([[0, 0, 0, 1], [0, 0, -1, 0], [0, -1, 0, 0], [1, 0, 0, 0]]),
    ),
    "det at 1": (
        lambda: tg.hessian(lambda x: tg.linalg.det(x + np.eye(3)))(np.zeros((3, 3))).reshape(9, 9)[0],
        np.array([0, 0, 0, 0, 1, 0, 0, 0, 1]),
    ),
}


@pytest.mark.parametrize("name", SECOND_DERIVATIVES)
def test_second_derivatives_where_a_convention_stands_for_a_slope_are_right_or_nan(name):
    function, expected = SECOND_DERIVATIVES[name]
    found = function()
    assert np.isnan(found).any() or np.allclose(found, expected, atol=1e-12), found


def far(name, points, formula):
    return [pytest.param(getattr(tg, name), x, formula, id=f"{name} {x}") for x in points]


FAR = [-40.0, -20.0, -2.0, 0.5, 2.0, 20.0, 40.0, 200.0]


@pytest.mark.parametrize(
    ("function", "x", "formula"),
    [
        *far("expm1", FAR, lambda m, x: m.exp(x)),
        *far("sigmoid", FAR, lambda m, x: m.exp(-x) / (1 + m.exp(-x)) ** 2),
        *far("softplus", FAR, lambda m, x: 1 / (1 + m.exp(-x))),
        *far("log_sigmoid", FAR, lambda m, x: 1 / (1 + m.exp(x))),
        *far("tanh", FAR, lambda m, x: m.sech(x) ** 2),
        *far("erfcx", [-2.0, 0.0, 1.0, 30.0, 1e4], lambda m, x: 2 * x * m.exp(x * x) * m.erfc(x) - 2 / m.sqrt(m.pi)),
        *far("log_ndtr", [-1e4, -30.0, -1.0, 3.0], lambda m, x: m.npdf(x) / m.ncdf(x)),
    ],
)
def test_first_and_second_derivatives_keep_their_digits_where_a_number_is_close_to_one(function, x, formula):
    mpmath = pytest.importorskip("mpmath")
    with mpmath.workdps(400):
        first = mpmath.mpf(formula(mpmath, mpmath.mpf(x)))
        second = mpmath.diff(lambda t: formula(mpmath, t), mpmath.mpf(x), h=mpmath.mpf(10) ** -100)
        expected = float(first), float(second)
    found = float(tg.grad(function)(x)), float(tg.grad(tg.grad(function))(x))
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-300)


@pytest.mark.parametrize("function", [tg.softmax, tg.log_softmax], ids=["softmax", "log_softmax"])
@pytest.mark.parametrize("x", [[40.0, 0.0, -3.0], [0.0, 700.0, 2.0], [1.0, 1.0, -50.0], [-1.0, 60.0, 60.0]], ids=str)
def test_derivatives_of_a_softmax_keep_their_digits_beside_a_large_element(function, x):
    mpmath = pytest.importorskip("mpmath")
    with mpmath.workdps(400):
        weights = [mpmath.exp(a) for a in x]
        p = [w / sum(weights) for w in weights]
        n = range(len(x))
        scale = p if function is tg.softmax else [1] * len(x)
        expected = [[float(scale[i] * ((i == j) - p[j])) for j in n] for i in n]
        for i in n:  # 1 - p without a difference of floats
            expected[i][i] = float(scale[i] * sum(p[j] for j in n if j != i))
    found = tg.jacobian(function)(np.array(x))
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-300)


MIXES_ALL = {"nonzero_positions", "unique_part"}


@pytest.mark.parametrize(
    "op", [op for op in OWN if not op.elementwise and op.name not in MIXES_ALL], ids=lambda op: op.name
)
def test_every_axis_that_an_op_keeps_apart_is_declared(op):
    """Change one slice of an input at a time: where only that slice of the output moves, the axes must say so."""
    for trial in cases_of(op):
        inputs = draw_inputs(op, trial, np.random.default_rng(0))
        node = op(*(tg.Tensor(x) for x in inputs), **trial.attrs)
        for i, x in enumerate(inputs):
            if x.dtype.kind != "f" or x.ndim < 2:
                continue
            labels = op.declared.axes(i, tuple(range(x.ndim)), node, *node.inputs, **node.attrs)
            for a, c in itertools.product(range(x.ndim), range(node.ndim)):
                n = x.shape[a]
                if n < 2 or node.shape[c] != n or op.declared.domain_of(i).event_ndim > x.ndim - 1 - a:
                    continue
                if all(moves_only(op, inputs, i, a, c, k, trial.attrs, node.value) for k in range(n)):
                    assert labels[c] is not None, f"axis {a} of input {i} is axis {c} of the output in {trial}"


def moves_only(op, inputs, i, a, c, k, attrs, value):
    changed = inputs[i].copy()
    changed[(slice(None),) * a + (k,)] *= 0.9
    moved = np.asarray(op(*inputs[:i], changed, *inputs[i + 1 :], **attrs)) != value
    return moved.any() and not np.delete(moved, k, axis=c).any()


@pytest.mark.parametrize("op", SMOOTH, ids=lambda op: op.name)
def test_an_op_that_is_linear_in_an_input_says_so(op):
    trial, rng = next(cases_of(op)), np.random.default_rng(0)
    inputs = draw_inputs(op, trial, rng)
    for i, x in enumerate(inputs):
        if x.dtype.kind != "f" or op.declared.smoothness_in(i) not in DIFFERENTIABLE or op is tg.OPS["undefined_slope"]:
            continue
        a, b = rng.normal(size=x.shape), rng.normal(size=x.shape)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            points = (0 * a, a, b, a + 2 * b, a - b)
            try:
                origin, *found = (op(*inputs[:i], z, *inputs[i + 1 :], **trial.attrs) for z in points)
            except ValueError:  # of a matrix of zeros
                continue
        if not all(np.isfinite(y).all() for y in (origin, *found)):
            continue
        of_a, of_b, far, back = (y - origin for y in found)
        if np.allclose(far, of_a + 2 * of_b, atol=1e-9) and np.allclose(back, of_a - of_b, atol=1e-9):
            assert op.declared.linear_with(i, len(inputs)), op.declared.linear
