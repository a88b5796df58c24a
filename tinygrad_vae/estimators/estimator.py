"""The one mechanism of all estimators: a random node and the rest of the cost after it, taken apart and rejoined.

``z = transform(noise, parameters)`` is a random node, and ``K`` everything from z to the cost. An estimator gives a
combination of copies of K that equals ``E K(z)`` in expectation, and so does its derivative. The earliest node comes
first, and K takes care of the later ones. The value of the cost is put back at the very end.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import itertools
import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ..core import (
    Drawn,
    InvalidGradientError,
    Noise,
    NoiseStream,
    Sample,
    Tensor,
    Value,
    describe,
    handled_draw,
    make_node,
    rewrite,
    topological_order,
)
from ..guard.conditions import FIRST_ONLY, OTHER_NOISE
from ..guard.names import name_and_line
from ..guard.paths import live_samples
from ..guard.report import ESTIMATORS
from ..ops import identity, stop_gradient, surrogate
from ..ops.declare import enter
from ..refusals import first_order

LARGEST = 4096
"""How many copies of the cost one gradient may take."""

Choices = Mapping[int, "Estimator"]
"""The estimator of a random node by the id of its noise, which every copy of the node shares."""


@dataclass(frozen=True)
class Rest:
    """K: the cost as a function of what stands in the place of a random node."""

    cost: Tensor
    z: Sample
    later: Choices
    earlier: frozenset[int] = frozenset()  # the ids of random nodes that are closed to gradients in K
    closed: Mapping[int, Tensor] = field(default_factory=dict)  # by id, each node where these, z and more are closed

    def __call__(self, value: Value, later: Choices | None = None) -> Tensor:
        """Return K with its later random nodes taken care of, as they were chosen for or by ``later``."""
        return continued(self._at(value), self.later if later is None else later)

    def number(self, value: Value) -> Tensor:
        """Return K without a gradient, for differences of costs: its later draws are replayed and need no estimator.

        An expectation over a later draw stays one. A chain of n draws takes a time of n^2, and would take 2^n if the
        later draws of each copy were taken care of.
        """
        expected = {key: estimator for key, estimator in self.later.items() if not estimator.keeps_value}
        return stop_gradient(continued(self._at(value), expected))

    def _at(self, value: Value) -> Tensor:
        new = value if isinstance(value, Tensor) else identity.record((value,), {})  # no leaf: nobody's parameter

        def rule(node: Tensor, inputs: tuple[Any, ...]) -> Tensor | None:
            if node is self.z:
                return new
            closed = self.closed.get(id(node))
            if closed is None or id(node) in self.earlier:
                return closed
            return closed if all(a is b for a, b in zip(inputs, closed.inputs, strict=False)) else None

        return rewrite(self.cost, rule)


class Estimator:
    """A way to estimate the gradient of ``E K(z)`` at one random node z.

    A subclass declares ``name``, ``apply`` or ``opening``, and what stands below where it differs. An instance is a
    rewrite too: ``ScoreFunction()(cost)`` takes care of every random node that is left.
    """

    name: ClassVar[str]
    biased: ClassVar[str] = ""  # why the gradient is not the gradient of the expectation; empty where it is
    weighs: ClassVar[bool] = True  # it weighs the whole cost, which may then only be summed and scaled
    keeps_value: ClassVar[bool] = True  # or the cost becomes an expectation, or the cost of a relaxed draw
    caveat: ClassVar[str] = ""  # what its measured mean and variance do not show
    where_path_jumps: ClassVar[str] = ""  # its call, where it is the path unless the cost jumps: told of only there
    needs_score: ClassVar[bool] = False  # it is valid only where the score function is
    takes_noise: ClassVar[bool] = False  # it is made with a stream for noise of its own, ``rng``
    reason: str = ""  # why ``estimate(default="auto")`` chose it

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if not hasattr(cls, "name"):
            raise TypeError(f'{cls.__name__}: an estimator has a name to be chosen by; write name = "..." in the class')
        enter(ESTIMATORS, cls.name, cls, "an estimator", 'write name = "..." in the class')
        cls.takes_noise = "rng" in inspect.signature(cls).parameters

    @classmethod
    def example(cls, rng: NoiseStream) -> Estimator:
        """Return an instance for tests and comparisons; ``rng`` is for the noise that it may need."""
        return cls(rng=rng) if cls.takes_noise else cls()  # type: ignore[call-arg]

    def objection(self, z: Sample, cost: Tensor) -> str | None:
        """Return why the estimator would be wrong for this node, or ``None``."""
        return None

    def refusal(self, z: Sample, cost: Tensor) -> str | None:
        """Return the reason why this estimator cannot handle z, or ``None``."""
        return self.objection(z, cost) if isinstance(z.noise, Noise) else OTHER_NOISE

    def apply(self, z: Sample, cost: Tensor, rest: Rest) -> Tensor:
        """Return the cost, in terms of ``rest``, with a path for the gradient at z, the earliest node that is left."""
        stopped = stop_gradient(z)
        return self.opening(z, stopped, cost, rest)(rest(stopped))

    def opening(self, z: Sample, stopped: Tensor, cost: Tensor, rest: Rest) -> Callable[[Tensor], Tensor]:
        """Return ``apply`` as a function of ``k = rest(stopped)``, for an estimator that asks for K at z itself once.

        All draws of such estimators in a row are closed in one walk, where n calls of ``rest`` in each other take n.
        """
        raise NotImplementedError(f"{type(self).__name__} declares neither apply(z, cost, rest) nor opening")

    def copies(self, z: Sample, cost: Tensor) -> int:
        """Return how many copies of the rest it takes, each with all later random nodes taken care of again."""
        return 1

    def instead(self, z: Sample, inputs: tuple[Any, ...], cost: Tensor) -> Tensor | None:
        """Return a node to put in the place of z, whose inputs were rewritten, if nothing else is to be done."""
        return None

    def together(self, samples: Sequence[Sample], cost: Tensor) -> Tensor | None:
        """Return the cost with all of these random nodes taken care of at once, if that gives the same gradient."""
        return None

    def __call__(self, cost: Tensor) -> Tensor:
        """Return the cost with every random node that is left taken care of by this estimator; see ``estimate``."""
        check_tensor(cost)
        samples = live_samples(cost)
        return taken_care(cost, {id(z.noise): self for z in samples}, samples)

    def note_of(self, z: Sample, note: str = "") -> Drawn:
        """Return what is remembered of z, for ``explain`` and the drawings."""
        notes = "; ".join(text for text in (self.reason, note) if text)
        origin = getattr(z.noise, "origin", None)
        return Drawn(z.name, str(z.dist), z.line, self.name, notes, self.weighs, self.biased, origin)

    def noted(self, x: Tensor, z: Sample, note: str = "") -> Tensor:
        """Return ``x`` with the note that it stands for z."""
        return handled_draw(x, drawn=self.note_of(z, note))


def estimator_named(name: Any, what: str) -> type[Estimator]:
    """Return the estimator of this name. If there is none, the error, in the name of ``what``, tells the nearest."""
    if name not in list(ESTIMATORS):
        close = " or ".join(difflib.get_close_matches(str(name), ESTIMATORS))
        choose = f"{f'did you mean {close}? If not, ' if close else ''}choose one of {', '.join(sorted(ESTIMATORS))}"
        raise ValueError(f"{what}: there is no estimator {name!r}; {choose}")
    kind: type[Estimator] = ESTIMATORS[name]
    return kind


def check_tensor(cost: Any) -> None:
    """Raise where there is no graph to rewrite."""
    if not isinstance(cost, Tensor):
        raise TypeError(
            f"an estimator rewrites the graph of a Tensor, found an object of type {type(cost).__name__}; a reward "
            "from a game or a simulator becomes part of the graph by tg.outside(array, draw)"
        )


def taken_care(cost: Tensor, choices: Choices, samples: Sequence[Sample]) -> Tensor:
    """Return the cost with the chosen ones of its ``live_samples`` taken care of, and no others."""
    if not choices:
        return cost
    at = {z: choices[id(z.noise)] for z in samples if id(z.noise) in choices}
    for z, estimator in at.items():
        if objection := estimator.refusal(z, cost):
            raise InvalidGradientError(f"{estimator.name} for {name_and_line(z)}: {objection}")
    if (copies := math.prod(estimator.copies(z, cost) for z, estimator in at.items())) > LARGEST:
        names = ", ".join(sorted({estimator.name for z, estimator in at.items() if estimator.copies(z, cost) > 1}))
        raise InvalidGradientError(
            f"{names}: each of {len(at)} draws multiplies the copies of the cost, to {copies}, more than {LARGEST}; "
            "choose another estimator for some of them"
        )
    _check_independent(cost, at)
    later = dict(choices)

    def rule(node: Tensor, inputs: tuple[Any, ...]) -> Tensor | None:
        estimator = at.get(node) if isinstance(node, Sample) else None
        new = estimator.instead(node, inputs, cost) if estimator else None
        if new is not None:
            del later[id(node.noise)]
        return new

    new = continued(rewrite(cost, rule), later)
    _check_new_noise(cost, new, choices)
    if not any(estimator.weighs for estimator in choices.values()):
        return new
    kept = all(estimator.keeps_value for estimator in choices.values())
    return surrogate(cost if kept else new, new)


def _check_independent(cost: Tensor, at: Mapping[Sample, Estimator]) -> None:
    """Refuse a cost in which another node than the draw was made from its noise.

    Antithetic partners share noise. Weighing with log p(z) would ignore the partner; a path includes it.
    """
    weighed = [z for z, e in at.items() if isinstance(z.noise, Noise) and (e.weighs or not e.keeps_value)]
    drawn = {z.noise.origin: z for z in weighed}
    for node in topological_order([cost]) if drawn else ():
        for x in node.inputs:
            z = drawn.get(x.origin) if isinstance(x, Noise) else None
            if z is not None and z is not node:
                raise ValueError(
                    f"the cost depends on the noise of {name_and_line(z)} in two ways, such as "
                    "an antithetic pair, a part that is open already, copies that an earlier estimate has made, or "
                    "draws from two streams of one seed; choose for all random nodes in one call, draw from one "
                    "stream, or apply the estimator to each part of the cost alone, and then add the results"
                )


def _check_new_noise(cost: Tensor, new: Tensor, choices: Choices) -> None:
    """Refuse noise that an estimator has drawn for itself where the cost has the same, or another draw.

    That happens to two streams made from one seed, and to a seed inside ``apply``: each hands out the same numbers.
    """
    own = {e.name for e in choices.values() if e.takes_noise}
    old = {id(x): x.origin for x in topological_order([cost]) if isinstance(x, Noise)}
    origins = set(old.values())
    taken = set(origins)
    for x in topological_order([new]):
        if isinstance(x, Noise) and id(x) not in old and (own or x.origin not in origins):
            if x.origin in taken:
                raise ValueError(
                    f"{', '.join(sorted(own or {e.name for e in choices.values()}))}: the estimator's own noise has "
                    "been drawn already, for the cost or another draw, from a stream of the same seed, so they are not "
                    'independent; make the estimator with a stream of its own, such as rng.at("estimator")'
                )
            taken.add(x.origin)


def with_inputs(z: Sample, inputs: tuple[Any, ...]) -> Sample:
    """Return the random node with rewritten inputs, which have the values of the old ones."""
    if all(a is b for a, b in zip(inputs, z.inputs, strict=True)):
        return z
    new = make_node(z.value, z.op, inputs, z.attrs, z.name, Sample)
    assert isinstance(new, Sample)
    return new


def continued(cost: Tensor, choices: Choices) -> Tensor:
    """Return the cost with its earliest chosen random node taken care of, and through ``rest`` the later ones."""
    samples = [z for z in live_samples(cost) if id(z.noise) in choices] if choices else []
    if not samples:
        return cost
    chosen, later = [choices[id(z.noise)] for z in samples], dict(choices)
    estimator = chosen[0]
    if all(other is estimator for other in chosen):
        at_once = estimator.together(samples, cost)
        if at_once is not None:
            return at_once
    openable = len(list(itertools.takewhile(lambda e: type(e).apply is Estimator.apply, chosen)))
    if not openable:
        del later[id(samples[0].noise)]
        new = estimator.apply(samples[0], cost, Rest(cost, samples[0], later))
        if not isinstance(new, Tensor):
            raise TypeError(f"{estimator.name}: apply returned {describe(new)}; return a Tensor, made from rest(draw)")
        return new
    closed = closed_at(cost, samples[:openable])
    openings, earlier = [], frozenset[int]()
    for z, estimator in zip(samples[:openable], chosen, strict=False):
        del later[id(z.noise)]
        stopped = closed[id(z)]
        rest = Rest(cost, z, dict(later), earlier, closed)
        openings.append(estimator.opening(stopped.inputs[0], stopped, closed[id(cost)], rest))
        earlier |= {id(z)}
    k = continued(closed[id(cost)], later)
    for opening in reversed(openings):
        k = opening(k)
    return k


def closed_at(cost: Tensor, samples: Sequence[Sample]) -> dict[int, Tensor]:
    """Return, by its id, what every node of the cost becomes where random nodes are closed to gradients."""
    chosen, closed = {id(z) for z in samples}, dict[int, Tensor]()

    def rule(node: Tensor, inputs: tuple[Any, ...]) -> Tensor | None:
        closed.update(zip(map(id, node.inputs), inputs, strict=True))
        closing = isinstance(node, Sample) and id(node) in chosen
        return stop_gradient(with_inputs(node, inputs)) if closing else None

    closed[id(cost)] = rewrite(cost, rule)
    return closed


def zero(x: Value) -> Value:
    """Return ``x - stop(x)``: the value 0 with the derivative of x."""
    return x - stop_gradient(x)


def slope(path: Value, difference: Value, cost: Value) -> Value:
    """Return ``path * difference``, whose derivative takes the difference, of two costs, for a constant.

    For estimators that put a difference of costs in the place of a derivative; the path has the value 0. First
    derivatives only, since the difference depends on all parameters of the cost too.
    """
    once = first_order(path * stop_gradient(difference), path, path, reason=FIRST_ONLY)
    return first_order(once, path, cost, reason=FIRST_ONLY)


def with_slopes(k: Tensor, slopes: Iterable[tuple[Value, Value]]) -> Tensor:
    """Return a cost with a slope for each pair of a path and a difference."""
    return functools.reduce(operator.add, (slope(path, difference, k) for path, difference in slopes), k)
