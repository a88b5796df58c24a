"""A script whose assertions are each broken on purpose: beside every one, what it would say of another number.

``abs(mean - truth) < bound`` is asked once more of ``abs(mean - off(truth))``, ``a < b`` of ``b < a``, which ``0 <= 0``
does not notice, ``a == b`` and ``np.allclose(a, b)`` of ``off(a)``. Everything else is negated.
"""

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

ORDERED = ast.Lt, ast.LtE, ast.Gt, ast.GtE


def off(x):
    """Return something else of the same kind: half as much again, and 1 for 0."""
    if isinstance(x, (tuple, list)):
        return type(x)([off(x[0]), *x[1:]])
    if isinstance(x, (str, bytes)):
        return x + x[:1] if x else None
    x = np.asarray(getattr(x, "value", x))
    if x.dtype == object:
        return None
    return ~x if x.dtype == bool else np.where(x == 0, 1.0, 1.5 * x)


@dataclass
class Broken:
    """What an assertion became, and whether it noticed: None until it is reached."""

    line: int
    text: str
    noticed: bool | None = None


def run_with_broken_assertions(path) -> list[Broken]:
    """Run a script, and return its broken assertions. One in a loop has to notice once."""
    found: list[Broken] = []

    def try_broken(k, test):
        found[k].noticed = bool(found[k].noticed) or not np.all(test())

    tree = ast.fix_missing_locations(_Breaker(found).visit(ast.parse(path.read_text(encoding="utf-8"))))
    names = {"__name__": "__main__", "__file__": str(path), "_try_broken": try_broken, "_off": off}
    exec(compile(tree, str(path), "exec"), names)
    return found


class _Breaker(ast.NodeTransformer):
    def __init__(self, found):
        self.found = found

    def visit_Assert(self, node):
        statements = [node]
        for test in _broken(node.test):
            call = _call("_try_broken", ast.Constant(len(self.found)), ast.parse("lambda: 0", mode="eval").body)
            call.args[1].body = test
            self.found.append(Broken(node.lineno, ast.unparse(test)))
            statements.append(ast.copy_location(ast.Expr(call), node))
        return statements


def _broken(test: ast.expr) -> Iterator[ast.expr]:
    match test:
        case ast.BoolOp(ast.And(), values):
            for i, value in enumerate(values):
                yield from (_with(test, values=[*values[:i], b, *values[i + 1 :]]) for b in _broken(value))
        case ast.Compare(left, ops, comparators):
            sides = [left, *comparators]
            for i, op in enumerate(ops):
                yield _broken_comparison(sides[i], op, sides[i + 1])
        case ast.Call(ast.Attribute(ast.Name("np"), "allclose" | "isclose" | "array_equal"), [first, *others]):
            yield _with(test, args=[_call("_off", first), *others])
        case ast.Call(ast.Attribute(ast.Name("np"), "all") | ast.Name("all"), [ast.GeneratorExp(element) as each]):
            yield from (_with(test, args=[_with(each, elt=b)]) for b in _broken(element))
        case ast.Call(ast.Attribute(ast.Name("np"), "all"), [ast.Compare() as comparison]):
            yield from (_with(test, args=[b]) for b in _broken(comparison))
        case _:
            yield ast.UnaryOp(ast.Not(), test)


def _broken_comparison(left: ast.expr, op: ast.cmpop, right: ast.expr) -> ast.expr:
    if isinstance(op, ORDERED):
        small, large = (left, right) if isinstance(op, (ast.Lt, ast.LtE)) else (right, left)
        match small:
            case ast.Call(ast.Name("abs") | ast.Attribute(_, "abs"), [ast.BinOp(_, ast.Sub(), theory) as difference]):
                small = _with(small, args=[_with(difference, right=_call("_off", theory))])
                return ast.Compare(small, [ast.Lt()], [large])
        return ast.Compare(right, [op], [left])
    if isinstance(op, ast.Eq):
        return ast.Compare(_call("_off", left), [op], [right])
    return ast.UnaryOp(ast.Not(), ast.Compare(left, [op], [right]))


def _call(name: str, *args: ast.expr) -> ast.Call:
    return ast.Call(ast.Name(name, ast.Load()), list(args), [])


def _with(node, **fields):
    node = copy.copy(node)
    for name, value in fields.items():
        setattr(node, name, value)
    return node
