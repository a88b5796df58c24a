"""The checks find what they are there to find: each is given an op that is wrong in one way."""

import numpy as np
import pytest
from hypothesis import find, given, settings
from strategies import arrays, broadcastable_shapes, shapes

import tinygrad_vae as tg
from tinygrad_vae import domains
from tinygrad_vae.checks.ops import CheckError, check_op, check_second_order, check_vjp
from tinygrad_vae.ops.declare import JUMP, KINK, STOP


@pytest.fixture(autouse=True)
def _forget_declared_ops():
    before = dict(tg.OPS)
    yield
    tg.OPS.clear()
    tg.OPS.update(before)


def declare(*vjps, forward=lambda x: x**3, doc="x cubed.\n\n    >>> 1 + 1\n    2\n", **options):
    """Declare an op of one input in a line; right where nothing else is said."""

    def cube(x, /):
        return forward(x)

    cube.__doc__ = doc
    return tg.elementwise(*(vjps or (lambda g, y, x: 3 * g * x * x,)), **options)(cube)


def test_an_op_in_five_lines_is_checked_by_one_call():
    @tg.elementwise(lambda g, y, x: g * (tg.tanh(x) + x * (1 - tg.square(tg.tanh(x)))))
    def gated(x, /):
        """``x * tanh(x)``.

        >>> float(gated(tg.exp(0.0) - 1))
        0.0
        """
        return x * np.tanh(x)

    check_op(gated)


def test_a_right_declaration_passes():
    check_op(declare())


@pytest.mark.parametrize(
    ("vjp", "message"),
    [
        (lambda g, y, x: 2 * g * x * x, "wrong gradient in x at index"),
        (lambda g, y, x: -3 * g * x * x, "wrong gradient in x at index"),
        (lambda g, y, x: g * 0 + 3 * x * x, "wrong gradient in x at index"),
        (lambda g, y, x: 3 * g * x * tg.stop_gradient(x), "second order: wrong gradient in x at index"),
        (lambda g, y, x: 3 * tg.stop_gradient(g) * x * x, "second order: wrong gradient in the cotangent at index"),
        (lambda g, y, x: 3 * g * np.square(x), "numpy.square of a Tensor"),
        (lambda g, y, x: g * x * x * np.float64(3), "gave float64 for float32"),
        (lambda g, y, x: tg.sum(3 * g * x * x), "does not come from broadcasting"),
    ],
    ids=[
        "factor",
        "sign",
        "cotangent forgotten",
        "term missing at second order",
        "not linear in g",
        "numpy",
        "dtype",
        "shape",
    ],
)
def test_a_wrong_vjp_is_found(vjp, message):
    with pytest.raises(CheckError, match=message):
        check_op(declare(vjp))


RULES = [
    (op, i)
    for op in tg.OPS.values()
    for i, vjp in enumerate(op.vjps)
    if vjp and op.__module__.startswith("tinygrad_vae.ops.") and STOP not in op.declared.smoothness
    if op.name != "undefined_slope"  # its derivative is 0
]


@pytest.mark.parametrize(("op", "i"), RULES, ids=lambda part: getattr(part, "name", part))
def test_an_error_of_one_in_ten_thousand_is_found_in_every_vjp(op, i, monkeypatch):
    def wrong(*args, **attrs):
        return right(*args, **attrs) * 1.0001

    right = op.vjps[i]
    monkeypatch.setattr(op, "vjps", (*op.vjps[:i], wrong, *op.vjps[i + 1 :]))
    with pytest.raises(CheckError, match="wrong gradient in"):
        check_op(op)


def test_the_report_names_op_argument_index_received_and_expected():
    def product(x, y):
        return tg.surrogate(x * y, x * y + tg.where(np.arange(3) == 1, y, 0.0))

    with pytest.raises(CheckError) as found:
        check_vjp(product, np.array([1.0, 2.0, 3.0]), np.array([4.0, 5.0, 6.0]))
    text = str(found.value)
    assert "product: wrong gradient in y at index (1,)" in text
    received, expected = (float(line.split()[1].rstrip(",")) for line in text.splitlines()[1:])
    assert received / expected == pytest.approx(3 / 2)  # both weighted with the same random cotangent


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vjps": (None,)}, "has no vjp"),
        ({"smoothness": JUMP}, "has a vjp for it"),
        ({"vjps": (None,), "smoothness": JUMP}, "its value moves"),
        ({"forward": lambda x: np.asarray(x**3, np.float64)}, "float32 inputs gave float64|would give float64"),
        ({"doc": None}, "no docstring"),
        ({"doc": "x cubed."}, "no example"),
        ({"doc": "x cubed.\n\n    >>> float(cube(2.0))\n    9.0\n"}, "Got:\n    8.0"),
    ],
    ids=["vjp missing", "jump with vjp", "jump that is none", "dtype leak", "no docs", "no example", "wrong example"],
)
def test_a_wrong_declaration_is_found(options, message):
    with pytest.raises(CheckError, match=message):
        check_op(declare(*options.pop("vjps", ()), **options))


def test_an_op_that_sums_is_not_elementwise():
    @tg.elementwise(lambda g, y, x: g + 0 * x)
    def total(x, /):
        """The sum of all elements.

        >>> float(total(np.ones(3)))
        3.0
        """
        return np.sum(x)

    with pytest.raises(CheckError, match=r"declared elementwise, and gave shape \(\)"):
        check_op(total)


def test_a_value_that_differs_when_recorded_is_found():
    calls = iter(range(100))
    with pytest.raises(CheckError, match="differs from the one on arrays"):
        check_op(declare(forward=lambda x: x**3 + next(calls)))


DOC = "A function.\n\n    >>> 1 + 1\n    2\n"


@pytest.mark.parametrize(
    ("forward", "vjp", "options", "message"),
    [
        (
            lambda x: np.heaviside(x, x * 0 + 1),
            lambda g, y, x: g * 0.0,
            {},
            r"declared smooth.* at x = -?[\d.]+e-\d+;",
        ),
        (lambda x: x - np.floor(x), lambda g, y, x: g, {}, "declared smooth, and its value jumps at x = "),
        (
            lambda x: np.abs(x) + (x > 1),
            lambda g, y, x: g * tg.sign(x),
            {"smoothness": KINK},
            "declared kink, and its value jumps at x = 1;",
        ),
        (np.round, lambda g, y, x: g, {}, "wrong gradient|jumps"),
    ],
    ids=["step", "saw", "jump beside a kink", "straight-through"],
)
def test_a_jump_that_is_declared_smooth_is_found(forward, vjp, options, message):
    with pytest.raises(CheckError, match=message):
        check_op(declare(vjp, forward=forward, doc=DOC, **options))


@pytest.mark.parametrize(
    ("forward", "vjp", "found"),
    [
        (lambda x: np.log(1 + np.exp(x)), lambda g, y, x: g * tg.sigmoid(x), "inf"),
        (lambda x: np.exp(x) / (1 + np.exp(x)), lambda g, y, x: g * y * (1 - y), "nan"),
        (lambda x: np.sqrt(1 + np.exp(x) ** 2 - np.exp(x) ** 2), lambda g, y, x: g * 0.0 * x, "nan"),
    ],
    ids=["softplus", "sigmoid", "difference of two large numbers"],
)
def test_a_formula_that_overflows_where_the_function_does_not_is_found(forward, vjp, found):
    with pytest.raises(CheckError, match=f"its value is -?{found} at x = .*; use a formula that holds there"):
        check_op(declare(vjp, forward=forward, doc=DOC))


def test_a_domain_that_was_forgotten_is_asked_for():
    op = declare(lambda g, y, x: g / x, forward=np.log, doc=DOC)
    with pytest.raises(CheckError, match=r"its value is nan at inputs drawn from its domain \(x real\); declare where"):
        check_op(op)


@pytest.mark.parametrize(
    ("forward", "vjp", "domain"),
    [
        (np.log, lambda g, y, x: g / x, domains.POSITIVE),
        (np.exp, lambda g, y, x: g * y, domains.REAL),
        (lambda x: 1 / x, lambda g, y, x: -g * y * y, domains.NONZERO),
        (lambda x: np.log(np.abs(x)), lambda g, y, x: g / x, domains.NONZERO),
    ],
)
def test_functions_that_grow_without_bound_or_have_poles_pass(forward, vjp, domain):
    check_op(declare(vjp, forward=forward, doc=DOC, domain=domain))


def test_axes_called_unmixed_that_are_mixed_are_found():
    @tg.op(
        lambda g, y, x: g - tg.mean(g, axis=-1, keepdims=True),
        axes=lambda i, labels, y, x: labels,
        cases=[tg.case((2, 3))],
    )
    def centred(x, /):
        """x less its mean.

        >>> centred(np.ones(2))
        array([0., 0.])
        """
        return x - np.mean(x, axis=-1, keepdims=True)

    with pytest.raises(CheckError, match="axes calls axis 1 of x unmixed"):
        check_op(centred)


def test_an_op_that_declares_no_case_is_told_so():
    @tg.op(lambda g, y, x: g)
    def unknown(x, /):
        """x.

        >>> unknown(1.0)
        1.0
        """
        return x

    with pytest.raises(CheckError, match=r"cases=\[tg.case"):
        check_op(unknown)


def test_a_case_that_is_no_case_is_an_error_that_shows_one():
    @tg.op(lambda g, y, x: 2 * g * x, cases=[(2, 3)])
    def squared(x, /):
        """``x^2``.

        >>> float(squared(3.0))
        9.0
        """
        return x * x

    with pytest.raises(CheckError, match=r"squared: cases lists tg.case\(\(2, 3\), axis=0\), ...; found \(2, 3\)"):
        tg.check_op(squared)


def test_a_declaration_that_is_put_together_wrongly_is_told_so():
    with pytest.raises(TypeError, match=r"the vjp in x is called as vjp\(g, y, x\): too many"):
        declare(lambda g, x: 3 * g * x * x)
    with pytest.raises(TypeError, match=r"the vjp in x is called as vjp\(g, y, x, axis=...\): got an unexpected"):

        @tg.op(lambda g, y, x: g)
        def along(x, /, axis=0):
            return x

    @tg.elementwise  # without its vjps
    def cube(x, /):
        return x**3

    with pytest.raises(TypeError, match=r"@tg.elementwise\(vjp\), and on a function; found 2.0"):
        cube(2.0)


def test_kinks_are_kept_away_from():
    check_op(declare(lambda g, y, x: g * tg.sign(x), forward=np.abs, smoothness=KINK))


def test_a_smooth_op_whose_gradient_jumps_is_found():
    relu_squared = declare(lambda g, y, x: 2 * g * x * (x > 0), forward=lambda x: x * np.maximum(x, 0))
    with pytest.raises(CheckError, match="its gradient jumps where <op less> does"):
        check_op(relu_squared)


def test_a_condition_that_only_guards_an_edge_is_no_jump():
    check_op(declare(lambda g, y, x: 3 * g * x * tg.where(tg.stop_gradient(x == 0), 0.0, x)))


@pytest.mark.parametrize("check", [check_vjp, check_second_order])
def test_a_check_of_nothing_is_refused(check):
    with pytest.raises(ValueError, match="there is nothing to check"):
        check(tg.floor, np.ones(2))
    with pytest.raises(ValueError, match="there is nothing to check"):
        check(tg.exp, np.arange(2))


def test_functions_are_checked_too():
    def energy(x, w, power):
        return tg.sum((x @ w) ** power)

    rng = np.random.default_rng(0)
    check_vjp(energy, rng.normal(size=(2, 3)), rng.normal(size=3), power=2)
    check_second_order(energy, rng.normal(size=(2, 3)), rng.normal(size=3), power=2)


DOMAINS = {d.name: d for d in vars(domains).values() if isinstance(d, domains.Domain)}


@pytest.mark.parametrize("name", DOMAINS)
def test_strategy_for_arrays_draws_from_the_domain(name):
    @settings(max_examples=20, deadline=None, derandomize=True, database=None)
    @given(arrays(DOMAINS[name], dtype=np.float32))
    def holds(x):
        assert np.all(DOMAINS[name].contains(x))
        assert x.dtype.kind != "f" or x.dtype == np.float32

    holds()


@settings(max_examples=50, deadline=None, derandomize=True, database=None)
@given(broadcastable_shapes(3))
def test_strategy_for_shapes_that_broadcast(drawn):
    assert len(drawn) == 3
    np.broadcast_shapes(*drawn)


def test_strategy_for_shapes_reaches_those_without_axes_and_without_elements():
    seen = {find(shapes(), wanted) for wanted in (lambda s: s == (), lambda s: 0 in s, lambda s: len(s) == 3)}
    assert len(seen) == 3
