"""Programs with a random node, in other libraries and here: each row of the README's table is run in both."""

import builtins
import math
import re
import warnings
from pathlib import Path

import numpy as np
import pytest

import tinygrad_vae as tg

DRAWS = 400_000
CELLS = re.compile(r"(?<!\\)\|")
TEXT = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
TABLE = TEXT.partition("## Programs that go silently wrong elsewhere\n")[2].partition("\n## ")[0]
ROWS = [[cell.strip() for cell in CELLS.split(line)[1:-1]] for line in TABLE.splitlines() if line.startswith("|")][2:]


def tensor(value, requires_grad=True):
    import torch

    torch.manual_seed(0)
    return torch.full((DRAWS,), value, dtype=torch.float64, requires_grad=requires_grad)


def gradient(cost, parameter):
    """Return one gradient for each draw, as a program in PyTorch gets it; ``None`` where it gets none."""
    cost.sum().backward()
    return None if parameter.grad is None else parameter.grad.double().numpy()


# each returns the gradients that the other library hands out, one for each draw, or None where it hands out none


def beside_a_weight():
    from torch.distributions import Normal

    mu, w = tensor(2.0), tensor(3.0)
    found = gradient(w * Normal(mu, 1.0).sample() ** 2, mu)
    assert w.grad.mean() == pytest.approx(5, abs=0.1)  # E x^2
    return found


def partly_cut():
    from torch.distributions import Normal

    mu = tensor(2.0)
    return gradient(Normal(mu, 1.0).sample() ** 2 + mu**2 / 2, mu)


def a_step():
    import torch
    from torch.distributions import Normal

    mu = tensor(0.0)
    return gradient(torch.sign(Normal(mu, 1.0).rsample()), mu)


def moving_support():
    from torch.distributions import Uniform

    h = tensor(2.0)
    x = Uniform(0.0, h).sample()
    return gradient(x * Uniform(0.0, h).log_prob(x), h)


def rounded_draws():
    import torch
    from torch.distributions import Beta

    torch.manual_seed(0)
    b = torch.full((DRAWS,), 0.1, requires_grad=True)
    x = Beta(torch.full((DRAWS,), 0.3), b).sample()
    return gradient(x * Beta(torch.tensor(0.3), b).log_prob(x), b)


def own_batch():
    from torch.distributions import Normal

    mu = tensor(2.0)
    x = Normal(mu, 1.0).sample()
    cost = (x**2).reshape(-1, 4)
    advantage = (cost - cost.mean(1, keepdim=True)).reshape(-1)
    return gradient(advantage * Normal(mu, 1.0).log_prob(x), mu).reshape(-1, 4).mean(1)  # the draws of a batch depend


def straight_through():
    from torch.distributions import Bernoulli

    p = tensor(0.3)
    b = Bernoulli(p).sample()
    return gradient(((p + (b - p).detach()) - 0.45) ** 2, p)


def second_derivative():
    import torch
    from torch.distributions import Normal

    mu = tensor(0.5)
    x = Normal(mu, 1.0).sample()
    surrogate = (x**2).detach() * Normal(mu, 1.0).log_prob(x)
    (first,) = torch.autograd.grad(surrogate.sum(), mu, create_graph=True)
    return gradient(first, mu)


def a_toss_in_jax():
    import jax

    warnings.simplefilter("ignore")  # those of JAX
    found = jax.grad(lambda p: jax.numpy.mean((jax.random.bernoulli(jax.random.key(0), p, (1000,)) - 0.45) ** 2))(0.3)
    return np.full(2, float(found))


# the same programs here


def normal(mu):
    return tg.Normal(mu, 1.0).sample(rng=tg.noise(0), name="x")


def here_beside_a_weight():
    mu, w = tg.Tensor(2.0, "mu"), tg.Tensor(3.0, "w")
    return tg.gradients(w * normal(mu) ** 2, [mu, w])


def here_partly_cut():
    mu = tg.Tensor(2.0, "mu")
    return tg.gradients(normal(mu) ** 2 + mu**2 / 2, mu)


def here_a_step():
    mu = tg.Tensor(0.0, "mu")
    return tg.gradients(tg.sign(tg.Normal(mu, 1.0).rsample(rng=tg.noise(0))), mu)


def here_moving_support():
    h = tg.Tensor(np.full(1000, 2.0), "h")
    x = tg.Uniform(0.0, h).sample(rng=tg.noise(0))
    return tg.gradients(tg.sum(x * tg.Uniform(0.0, h).log_prob(x)), h)


def beta():
    b = tg.Tensor(np.full(1000, 0.1, np.float32), "b")
    return b, tg.Beta(np.float32(0.3), b).sample(rng=tg.noise(0))


def here_rounded_draws():
    b, x = beta()
    return tg.gradients(tg.sum(x * tg.Beta(np.float32(0.3), b).log_prob(x)), b)


def square_in_batches_of_four():
    mu = tg.Tensor(np.full((1000, 4), 2.0), "mu")
    x = normal(mu)
    return mu, x, x**2


def here_own_batch():
    mu, x, cost = square_in_batches_of_four()
    advantage = cost - tg.mean(cost, axis=1, keepdims=True)
    return tg.gradients(tg.sum(advantage * tg.Normal(mu, 1.0).log_prob(x)), mu)


def toss(value=0.3):
    p = tg.Tensor(value, "p")
    return p, tg.Bernoulli(probs=p).sample(rng=tg.noise(0), name="b")


def here_straight_through():
    p, b = toss(np.full(DRAWS, 0.3))
    return tg.gradients(tg.sum((p + tg.stop_gradient(b - p) - 0.45) ** 2), p)


def here_second_derivative():
    mu = tg.Tensor(np.full(1000, 0.5), "mu")
    x = normal(mu)
    surrogate = tg.stop_gradient(x**2) * tg.Normal(mu, 1.0).log_prob(x)
    first = tg.gradients(tg.sum(surrogate), mu, record=True)
    return tg.gradients(tg.sum(first), mu)


def here_a_toss():
    p, b = toss()
    return tg.gradients((b - 0.45) ** 2, p)


# and with the library's own function, where there is one


def own_moving_support():
    h = tg.Tensor(2.0, "h")
    return tg.gradients(tg.score_function(tg.Uniform(0.0, h).sample(rng=tg.noise(0))), h)


def own_rounded_draws():
    b, x = beta()
    return tg.gradients(tg.mean(tg.score_function(x)), b)


def own_own_batch():
    _, _, cost = square_in_batches_of_four()
    return tg.score_function(cost, baseline=tg.mean(cost, axis=1, keepdims=True))


def own_straight_through():
    p, b = toss()
    return tg.gradients(tg.estimate((b - 0.45) ** 2, {"b": "straight-through"}), p)


def own_second_derivative():
    mu = tg.Tensor(np.full(DRAWS, 0.5), "mu")
    first = tg.gradients(tg.sum(tg.score_function(normal(mu) ** 2)), mu, record=True)
    return tg.gradients(tg.sum(first), mu)


PROGRAMS = {
    "a cost with a weight": (beside_a_weight, 2 * 3 * 2, here_beside_a_weight, None),
    "a second way to the cost": (partly_cut, 2 * 2 + 2, here_partly_cut, None),
    "then a step": (a_step, 2 / math.sqrt(2 * math.pi), here_a_step, None),
    "support moves": (moving_support, 1 / 2, here_moving_support, own_moving_support),
    "draws rounded to 1": (rounded_draws, -0.3 / 0.4**2, here_rounded_draws, own_rounded_draws),
    "the mean of its batch": (own_batch, 4, here_own_batch, own_own_batch),
    "second derivative": (second_derivative, 2, here_second_derivative, own_second_derivative),
    "straight through a toss": (straight_through, 1 - 2 * 0.45, here_straight_through, own_straight_through),
    "random.bernoulli": (a_toss_in_jax, 1 - 2 * 0.45, here_a_toss, None),
}

CASES = list(zip(ROWS, PROGRAMS.values(), strict=True))


def test_every_row_of_the_table_is_run():
    assert len(ROWS) == len(PROGRAMS)
    for row, words in zip(ROWS, PROGRAMS, strict=True):
        assert words in row[0]


@pytest.mark.parametrize(("row", "program"), CASES, ids=list(PROGRAMS))
@pytest.mark.filterwarnings("ignore")  # those of other libraries
def test_the_number_that_is_handed_out_elsewhere(row, program):
    elsewhere, truth, _, _ = program
    assert float(row[2]) == pytest.approx(truth, abs=0.005)
    library, said = re.fullmatch(r"(PyTorch|JAX): (None|-?[\d.]+).*", row[1]).groups()
    pytest.importorskip({"PyTorch": "torch", "JAX": "jax"}[library], reason=f"this program is {library}'s")
    found = elsewhere()
    if said == "None":
        assert found is None
        return
    error = 4.5 * found.std(ddof=1) / math.sqrt(len(found))
    assert found.mean() == pytest.approx(float(said), abs=error + 1e-6)
    assert abs(found.mean() - truth) > error  # it is wrong


def holds(said, program):
    """Check what a cell says of a program: the name of an error or a warning, or a number."""
    kind = re.search(r"`(\w+(?:Error|Warning))`", said)
    if kind is None:
        number = float(re.search(r"-?\d[\d.]*", said)[0])
        found = program()
        error = 4.5 * found.std(ddof=1) / math.sqrt(len(found))
        assert found.mean() == pytest.approx(number, abs=error)
        return
    kind = getattr(tg, kind[1], None) or getattr(builtins, kind[1])
    with pytest.warns(kind) if issubclass(kind, Warning) else pytest.raises(kind) as caught:
        program()
    place = re.search(r": ((?:partly )?cut)", said)
    if place:
        assert re.search(rf"^ +{place[1]} +\w", str(caught.value), re.MULTILINE)


@pytest.mark.parametrize(("row", "program"), CASES, ids=list(PROGRAMS))
def test_what_is_said_here(row, program):
    _, _, here, own = program
    holds(row[3], here)
    assert (own is None) == (row[4] == "")
    if own is not None:
        holds(row[4].partition(": ")[2], own)
