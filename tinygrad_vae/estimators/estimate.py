"""The one mechanism of all estimators: a random node and the rest of the cost after it, taken apart and rejoined.

It knows random nodes and the verdict on them, and no estimator by name. ``z = transform(noise, parameters)`` is a
random node, and ``K`` everything from z to the cost. An estimator gives a combination of copies of K whose expectation,
and whose derivative's expectation, are those of ``E K(z)``. The earliest node comes first, and K takes care of the
later ones. The value of the cost is put back at the very end.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from ..core import (
    Drawn,
    Noise,
    NoiseStream,
    Sample,
    Tensor,
    Value,
    make_node,
    name_of_draw,
    rewrite,
    taken_care_of,
    topological_order,
)
from ..distributions.distribution import law_in_words
from ..guard.verdict import FIRST_ONLY, OTHER_NOISE, InvalidGradientError, live_samples, refuse_gradient
from ..ops import identity, stop_gradient, surrogate
from ..ops.declare import SMOOTH, STOP, elementwise

Rest = Callable[[Value], Tensor]
"""K: the cost as a function of what stands in the place of a random node."""

Plan = Mapping[int, "Estimator"]
"""The estimator of a random node by the id of its noise, which every copy of the node shares."""

ESTIMATORS: dict[str, type[Estimator]] = {}
"""Every estimator, by name. The tests, ``explain`` and the command run over it."""


class Estimator:
    """How the gradient of ``E K(z)`` is to be estimated at one random node.

    A subclass declares ``name``, ``apply``, and what stands below where it differs. An instance is a rewrite too:
    ``ScoreFunction()(cost)`` takes care of every random node that is left.
    """

    name: ClassVar[str]
    biased: ClassVar[str] = ""
    """Why the gradient is not that of the expectation; empty where it is."""
    weighs: ClassVar[bool] = True
    """Whether it weighs the whole cost, which may then be summed and scaled only, and not put into a function."""
    keeps_value: ClassVar[bool] = True
    """Whether the cost keeps its value; where not, it becomes an expectation, or that of a relaxed draw."""
    caveat: ClassVar[str] = ""
    """What its measured mean and variance do not show; empty where they show everything."""
    follows_noise: ClassVar[bool] = False
    """Whether the gradient goes through the noise of the draw too, so that anything may be put in the place of that."""
    takes_noise: ClassVar[bool] = False
    """Whether it is made with a stream for noise of its own, ``rng``: read off its constructor."""
    reason: str = ""
    """Why this one was chosen, where that was found by trying; ``explain`` prints it."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        ESTIMATORS[cls.name] = cls
        cls.takes_noise = "rng" in inspect.signature(cls).parameters

    @classmethod
    def example(cls, rng: NoiseStream) -> Estimator:
        """Return an instance for tests and comparisons; ``rng`` is for the noise that it may need."""
        return cls()

    def objection(self, z: Sample, cost: Tensor) -> str | None:
        """Return why the estimator would be wrong for this node, or ``None``."""
        return None

    def refusal(self, z: Sample, cost: Tensor) -> str | None:
        """Return why the node is not to be had with this estimator, or ``None``: its ``objection``, or its noise."""
        if not self.follows_noise and not isinstance(z.noise, Noise):
            return OTHER_NOISE
        return self.objection(z, cost)

    def apply(self, z: Sample, cost: Tensor, rest: Rest) -> Tensor:
        """Return the cost with a path for the gradient at z.

        Args:
            z: the random node; those before it have been taken care of.
            cost: what depends on it.
            rest: K, the cost with a value in the place of z, later random nodes taken care of.
        """
        raise NotImplementedError

    def instead(self, z: Sample) -> Tensor | None:
        """Return what stands in the place of z, where that is all there is to do: one copy of K and no weight."""
        return None

    def together(self, samples: Sequence[Sample], cost: Tensor) -> Tensor | None:
        """Return the cost with all of these random nodes taken care of at once, where that comes to the same."""
        return None

    def __call__(self, cost: Tensor) -> Tensor:
        """Return the cost with every random node that is left taken care of by this estimator; see ``estimate``."""
        check_tensor(cost)
        samples = live_samples(cost)
        return taken_care(cost, {id(z.noise): self for z in samples}, samples)

    def noted(self, x: Tensor, z: Sample, note: str = "") -> Tensor:
        """Return ``x`` with the note that it stands for z, for ``explain`` and the drawings."""
        notes = "; ".join(text for text in (self.reason, note) if text)
        origin = getattr(z.noise, "origin", None)
        drawn = Drawn(z.name, law_in_words(z.dist), z.place, self.name, notes, self.weighs, self.biased, origin)
        return taken_care_of(x, drawn=drawn)


def estimate(
    cost: Tensor,
    choices: Mapping[Tensor | str, Estimator | str] | None = None,
    *,
    default: Estimator | str | None = None,
) -> Tensor:
    """Take care of random nodes, each with the estimator that was chosen for it.

    Args:
        cost: a Tensor of any shape.
        choices: for a random node, or its name, an estimator or the name of one. Where there is none, that counts
            which was given to ``sample(estimator=...)``.
        default: for all other random nodes; without it they stay blocked. ``"auto"`` tries the cost out with a
            hundred draws, and takes the unbiased estimator with the least variance for the size of its graph;
            ``explain`` says what was found. Choose so once, not in every step.

    Returns:
        The cost with the same value bit for bit, unless an estimator that says otherwise was chosen; the very same
        object where there was nothing to do.

    Raises:
        TypeError, ValueError: the cost is no Tensor, or a choice names no random node or no estimator.
        InvalidGradientError: an estimator would be wrong at its node; the reason is in the message.

    >>> p, mu = tg.Tensor(0.3, "p"), tg.Tensor(0.5, "mu")
    >>> rng = tg.noise(0)
    >>> b = tg.Bernoulli(probs=p).sample(rng=rng, name="b", estimator="enumeration")
    >>> x = tg.Normal(mu + b, 1.0).sample(rng=rng, name="x")
    >>> cost = tg.estimate(x**2 * (1 + b), {"x": "pathwise"})
    """
    check_tensor(cost)
    if choices is not None and not isinstance(choices, Mapping):
        raise TypeError(
            f"estimate: choices is a mapping from random nodes to estimators, found {choices!r}; "
            f"write default={choices!r} to use it for all of them"
        )
    samples = live_samples(cost)
    plan = _plan(samples, choices or {})
    left = [z for z in samples if id(z.noise) not in plan]
    if left and default == "auto":
        from .compare import choose  # it measures estimators, and so knows all of them

        plan |= choose(cost, plan)
    elif default is not None:
        common = _estimator(default)
        plan |= {id(z.noise): common for z in left}
    return taken_care(cost, plan, samples)


def check_tensor(cost: Any) -> None:
    """Raise where there is no graph to rewrite."""
    if not isinstance(cost, Tensor):
        raise TypeError(f"an estimator rewrites the graph of a Tensor, found an object of type {type(cost).__name__}")


def taken_care(cost: Tensor, plan: Plan, samples: Sequence[Sample]) -> Tensor:
    """Return the cost with the planned random nodes taken care of, and those alone.

    Args:
        cost: the cost.
        plan: an estimator for random nodes, by the id of their noise.
        samples: the ``live_samples`` of the cost.
    """
    if not plan:
        return cost
    for z in samples:
        estimator = plan.get(id(z.noise))
        objection = estimator.refusal(z, cost) if estimator else None
        if estimator and objection:
            raise InvalidGradientError(f"{estimator.name} for {name_of_draw(z.name, z.place)} ({z.place}): {objection}")
    _check_independent(cost, {z: plan[id(z.noise)] for z in samples if id(z.noise) in plan})
    new, later = _with_nodes_replaced(cost, plan, samples)
    new = _continued(new, later)
    _check_new_noise(cost, new, plan)
    if not any(estimator.weighs for estimator in plan.values()):
        return new
    kept = all(estimator.keeps_value for estimator in plan.values())
    return surrogate(cost if kept else new, new)


def _check_independent(cost: Tensor, choices: Mapping[Sample, Estimator]) -> None:
    """Refuse a cost in which something else than the draw itself was made from its noise.

    The other half of an antithetic pair, or the same draw already opened, is not independent of the draw, so that a
    weight would meet it too, and an expectation over the draw would leave it behind. A path takes it along.
    """
    drawn = {
        z.noise.origin: z
        for z, estimator in choices.items()
        if isinstance(z.noise, Noise) and (estimator.weighs or not estimator.keeps_value)
    }
    if not drawn:
        return
    for node in topological_order([cost]):
        for x in node.inputs:
            z = drawn.get(x.origin) if isinstance(x, Noise) else None
            if z is not None and z is not node:
                where = f"{name_of_draw(z.name, z.place)} ({z.place})"
                raise ValueError(
                    f"the cost depends on the noise of {where} in two ways, such as an antithetic pair, a part that is "
                    "open already, copies that an earlier estimate has made, or draws from two streams of one seed; "
                    "choose for all random nodes in one call, draw from one stream, or apply the estimator to each "
                    "part of the cost alone, and then add the results"
                )


def _check_new_noise(cost: Tensor, new: Tensor, plan: Plan) -> None:
    """Refuse noise that an estimator has drawn for itself where the cost has the same, or another estimator.

    That happens to two streams made from one seed: each hands out the same numbers.
    """
    if not any(estimator.takes_noise for estimator in plan.values()):
        return
    old = {id(x): x for x in topological_order([cost]) if isinstance(x, Noise)}
    taken = {x.origin for x in old.values()}
    for x in topological_order([new]):
        if isinstance(x, Noise) and id(x) not in old:
            if x.origin in taken:
                names = ", ".join(sorted({e.name for e in plan.values() if e.takes_noise}))
                raise ValueError(
                    f"{names}: the estimator's own noise has been drawn already, for the cost or another estimator, "
                    "from a stream of the same seed, so that they are not independent; give each a stream of its own, "
                    'such as rng.at("estimator")'
                )
            taken.add(x.origin)


def _plan(samples: list[Sample], choices: Mapping[Tensor | str, Estimator | str]) -> dict[int, Estimator]:
    """Return what was chosen for random nodes, here or where they were drawn."""
    by_key: dict[Any, Sample] = {id(z): z for z in samples} | {z.name: z for z in samples if z.name}
    plan = {id(z.noise): _estimator(z.attrs["estimator"]) for z in samples if z.attrs["estimator"] is not None}
    for key, choice in choices.items():
        z = by_key.get(key if isinstance(key, str) else id(key))
        if z is None:
            names = ", ".join(name_of_draw(s.name, s.place) for s in samples) or "none"
            raise ValueError(f"estimate: {key!r} is no random node that the cost is blocked at; those are: {names}")
        plan[id(z.noise)] = _estimator(choice)
    return plan


def _estimator(choice: Estimator | str) -> Estimator:
    if isinstance(choice, Estimator):
        return choice
    kind = ESTIMATORS.get(choice)
    if kind is None:
        raise ValueError(f"estimate: there is no estimator {choice!r}; choose one of {', '.join(sorted(ESTIMATORS))}")
    if kind.takes_noise:
        raise ValueError(
            f"estimate: {choice} draws noise of its own, other noise in every step; write "
            f"tg.{kind.__name__}(rng=...) for its name, with a stream from tg.noise(seed)"
        )
    return kind()


def _with_nodes_replaced(cost: Tensor, plan: Plan, samples: Sequence[Sample]) -> tuple[Tensor, Plan]:
    """Return the cost after the estimators that only put something in the place of a node, and the plan for the others.

    One walk for all of them.
    """
    live = {id(z) for z in samples if id(z.noise) in plan}
    later = dict(plan)

    def rule(node: Tensor, inputs: tuple[Any, ...]) -> Tensor | None:
        if id(node) not in live or not isinstance(node, Sample):
            return None
        new = plan[id(node.noise)].instead(with_inputs(node, inputs))
        if new is not None:
            del later[id(node.noise)]
        return new

    return rewrite(cost, rule), later


def with_inputs(z: Sample, inputs: tuple[Any, ...]) -> Sample:
    """Return the random node with rewritten inputs, which have the values of the old ones."""
    if all(a is b for a, b in zip(inputs, z.inputs, strict=True)):
        return z
    new = make_node(z.value, z.op, inputs, z.attrs, z.name, Sample)  # type: ignore[arg-type]
    assert isinstance(new, Sample)
    return new


def _continued(cost: Tensor, plan: Plan) -> Tensor:
    """Return the cost with its earliest planned random node taken care of, and through ``rest`` the later ones."""
    samples = [z for z in live_samples(cost) if id(z.noise) in plan] if plan else []
    if not samples:
        return cost
    z = samples[0]
    if len({id(plan[id(other.noise)]) for other in samples}) == 1:
        at_once = plan[id(z.noise)].together(samples, cost)
        if at_once is not None:
            return at_once
    later = {key: estimator for key, estimator in plan.items() if key != id(z.noise)}

    def rest(value: Value) -> Tensor:
        new = value if isinstance(value, Tensor) else identity.record((value,), {})  # no leaf: nobody's parameter
        return _continued(rewrite(cost, lambda node, inputs: new if node is z else None), later)

    return plan[id(z.noise)].apply(z, cost, rest)


def zero(x: Value) -> Value:
    """Return ``x - stop(x)``: the value 0 with the derivative of x."""
    return x - stop_gradient(x)


@elementwise(
    lambda g, y, path, difference: g * refuse_gradient(difference + zero(path), reason=FIRST_ONLY),
    None,
    smoothness=(SMOOTH, STOP),
)
def sloped(path: Value, difference: Value, /) -> Value:
    """``path * difference``, once: its gradient takes the difference for a constant, and has no gradient of its own.

    For estimators that put a difference of costs in the place of a derivative. The difference depends on the
    parameters through the law of the draws, which no path shows.

    >>> float(sloped(0.0, 3.0))
    0.0
    """
    return path * difference
