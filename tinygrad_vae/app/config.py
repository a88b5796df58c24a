"""The settings of a training run, each declared once with its meaning and its range.

The flags of the command, the lines of a configuration file, the checks and the messages all follow from the
declarations.
"""

from __future__ import annotations

import codecs
import dataclasses
import json
import math
import textwrap
import tomllib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..guard.report import ESTIMATORS
from ..nn import ACTIVATIONS
from ..vae import BOUNDS, DIVERGENCES, LIKELIHOODS, POSTERIORS, Objective
from .data import BINARISATIONS
from .downloads import DATASETS


class RunError(ValueError):
    """A run cannot start or go on with these settings; nothing has been changed."""


@dataclass(frozen=True)
class Kind:
    """What a setting may be: in words, as a check, and as a word of the command line."""

    expected: str
    holds: Callable[[Any], bool]
    read: Callable[[str], Any]  # or it raises a ValueError
    metavar: str | None = None
    choices: tuple[str, ...] | None = None

    def __call__(self, default: Any, text: str) -> Any:
        """Declare a setting of this kind: its default, and what it means."""
        return dataclasses.field(default=default, metadata={"kind": self, "text": text})


def integer(lowest: int, highest: float = 2**31 - 1) -> Kind:
    """Return the kind of the integers in a range."""
    expected = {0: "a non-negative integer", 1: "a positive integer"}.get(lowest, f"an integer of at least {lowest}")
    if highest < math.inf:
        expected += f" up to {highest}"

    def holds(value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and lowest <= value <= highest

    return Kind(expected, holds, int, "N")


def number(*, zero: bool) -> Kind:
    """Return the kind of the finite positive numbers, and of zero if it is allowed."""

    def holds(value: Any) -> bool:
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return is_number and 0 <= value < 1e308 and (zero or value > 0)

    return Kind("a non-negative number" if zero else "a positive number", holds, float, "X")


def one_of(names: Collection[str]) -> Kind:
    """Return the kind of these names."""
    return Kind(" or ".join(names), lambda value: isinstance(value, str) and value in names, str, None, tuple(names))


def _is_text(value: Any) -> bool:
    try:
        return isinstance(value, str) and bool(value.encode()) and "\0" not in value
    except UnicodeEncodeError:
        return False


COUNT, SIZE, SEED = integer(0), integer(1), integer(0, math.inf)
WEIGHT, POSITIVE = number(zero=True), number(zero=False)
PATH = Kind("the name of a set or a path, as text", _is_text, str, "PATH")
SIZES = Kind(
    "positive integers up to 2147483647",
    lambda value: isinstance(value, tuple) and all(map(SIZE.holds, value)),
    lambda text: tuple(map(int, text.split(","))) if text else (),
    "N,N",
)

GROUPS = {
    "data": "what to train on",
    "hidden": "the model",
    "objective": "what to climb, and how its gradient gets past the draw of z",
    "epochs": "the steps",
}
"""The headings of the settings, each by the first setting below it."""

BITS, GAUSSIAN = ("threshold", "fixed", "fresh"), ("gaussian", "full-gaussian")
TOGETHER: list[tuple[str, tuple[Any, ...], str, tuple[Any, ...], str]] = [
    ("likelihood", ("bernoulli",), "binarise", BITS, ": it takes bits"),
    ("likelihood", tuple({*LIKELIHOODS} - {"bernoulli"}), "binarise", ("none",), ": it takes grey levels"),
    ("objective", ("dreg",), "posterior", GAUSSIAN, ": it takes a draw with a path, unlike iwae with vimco"),
    ("pixel_scale", (), "likelihood", ("gaussian-fixed",), ""),
    ("classes", (), "posterior", ("one-hot",), ""),
    ("components", (), "posterior", GAUSSIAN, ""),
    ("components", (), "kl", ("auto", "monte-carlo"), ""),
    ("free_bits", (), "posterior", ("gaussian", "bernoulli", "one-hot"), ""),
    ("free_bits", (), "components", (0,), ""),
    ("free_bits", (), "blocks", (1,), ": they are counted over the whole batch"),
    ("blocks", (), "device", ("cpu",), ": they are added on the host"),
]
"""Settings that go only with some values of other settings. Each row: a setting; its values that are concerned, or
``()`` for all but the default; another setting; the values of it that are allowed then; and why."""


@dataclass(frozen=True)
class TrainConfig:
    """All that a run depends on; ``tinygrad-vae train --print-config`` shows each setting with its meaning.

    Raises:
        RunError: a number or a name is out of range, or settings do not go together.

    >>> TrainConfig(epochs=3).latent
    8
    """

    data: str = PATH(
        "digits",
        'an .npy, .npz or IDX file, a folder of MNIST\'s IDX files or of PNG or JPEG files, "digits", which come with '
        f"scikit-learn, or a set to download once: {', '.join(DATASETS)}. One image in six is held out, if the source "
        "does not say which",
    )
    binarise: str = one_of(BINARISATIONS)(
        "threshold",
        "how grey levels become pixels: 1 from half of the full scale on (threshold); drawn with the grey level as "
        "probability, once (fixed) or in each epoch (fresh); or not (none), for likelihoods other than bernoulli",
    )
    hidden: tuple[int, ...] = SIZES((200, 100), "sizes of the encoder's hidden layers; the decoder's in reverse")
    latent: int = SIZE(8, "length of z; 2 can be seen in latent_plane.png and manifold.png")
    activation: str = one_of(ACTIVATIONS)("relu", "after each hidden layer; relu is the fastest")
    likelihood: str = one_of(LIKELIHOODS)(
        "bernoulli",
        "the distribution of a pixel given z; all but bernoulli take grey levels, and need --binarise none. The "
        "standard deviation of gaussian is learned, one for all pixels",
    )
    pixel_scale: float = POSITIVE(0.1, "the standard deviation of a pixel of the likelihood gaussian-fixed")
    posterior: str = one_of(POSTERIORS)(
        "gaussian", "the distribution of z given an image; bernoulli and one-hot need an estimator such as disarm"
    )
    classes: int = integer(2)(10, "how many classes each latent of the posterior one-hot chooses from")
    components: int = COUNT(0, "Gaussians to mix for a learned prior p(z); 0 for N(0, I), or fair tosses")
    objective: str = one_of(BOUNDS)(
        "elbo",
        "the bound of log p(x): the evidence lower bound, the same with the gradient of Roeder et al. 2017, the "
        "importance weighted bound (Burda et al. 2016), or that with the gradient of Tucker et al. 2019",
    )
    samples: int = SIZE(1, "draws of z for each image; iwae and dreg rise with them")
    estimator: str = one_of(ESTIMATORS)(
        "pathwise",
        "how the gradient gets past the draw of z: through the draw (pathwise, the reparameterization trick), through "
        "its probability (score-function, with a running baseline; noisier), or another way that the posterior allows",
    )
    beta: float = WEIGHT(1.0, "weight of the divergence of q(z|x) from p(z)")
    beta_warm_up: int = COUNT(0, "epochs over which that weight rises from 0")
    kl: str = one_of(DIVERGENCES)("auto", "how elbo takes the divergence; auto: in closed form if there is one")
    free_bits: float = WEIGHT(0.0, "nats of divergence that each latent is not charged for")
    epochs: int = SIZE(80, "how often each image is seen; the bound of the digits hardly rises after 80")
    batch: int = SIZE(100, "images in a step, no more than there are")
    blocks: int = SIZE(
        1,
        "blocks of a batch, each with its own noise: as many ranks at most share a step under mpiexec, where 8 is the "
        "default; the weights depend on the blocks, not on the ranks",
    )
    learning_rate: float = POSITIVE(2e-3, "of Adam; 0.001 is safer for larger models")
    weight_decay: float = WEIGHT(0.0, "how fast weights shrink beside Adam's steps (AdamW)")
    schedule: str = one_of(("constant", "cosine", "stages"))(
        "constant",
        "the learning rate stays, falls to 0 by the last step, or falls in stages of 3^i epochs by 10^(-1/7) each "
        "(Burda et al. 2016)",
    )
    warm_up: int = COUNT(0, "epochs over which the learning rate rises at first")
    clip: float = WEIGHT(0.0, "the largest norm of the whole gradient, 0 for no limit")
    patience: int = COUNT(
        0, "stop after this many epochs without a better held-out bound, and keep the best weights; 0 to never stop"
    )
    device: str = one_of(("cpu", "gpu"))("cpu", "where to compute: a processor, or an NVIDIA GPU with CuPy")
    seed: int = SEED(0, "decides first weights, held-out images, bits, order and noise")

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            object.__setattr__(self, name, checked(name, getattr(self, name)))
        for name, values, other, allowed, why in TOGETHER:
            value, found = getattr(self, name), getattr(self, other)
            concerned = value in values if values else value != self.__dataclass_fields__[name].default
            if concerned and found not in allowed:
                raise RunError(
                    f"{name}: {value} goes with {other} {' or '.join(map(str, allowed))}{why}, found {found}"
                )
        for name in ("warm_up", "beta_warm_up"):
            if (rising := getattr(self, name)) > self.epochs:
                raise RunError(f"{name}: {rising} epochs are more than the {self.epochs} epochs of the run")
        try:
            self.objective_for(1)
        except (TypeError, ValueError) as error:
            raise RunError(f"objective: {str(error).removeprefix('Objective: ')}") from error

    def objective_for(self, steps_per_epoch: int) -> Objective:
        """Return the objective, whose warm-up is counted in steps."""
        warm_up = self.beta_warm_up * steps_per_epoch
        return Objective(self.objective, self.samples, self.estimator, self.beta, warm_up, self.free_bits, self.kl)

    def to_toml(self) -> str:
        """Return the text of a configuration file: every setting with its meaning.

        >>> print(TrainConfig(seed=7).to_toml()[-73:], end="")
        # decides first weights, held-out images, bits, order and noise
        seed = 7
        """
        blocks: list[str] = []
        for name, field in self.__dataclass_fields__.items():
            if name in GROUPS:
                blocks.append(f"{chr(10) if blocks else ''}# {GROUPS[name][0].upper()}{GROUPS[name][1:]}.")
            kind = field.metadata["kind"]
            text = field.metadata["text"] + (f" (one of {', '.join(kind.choices)})" if kind.choices else "")
            comment = textwrap.fill(text, 100, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)
            blocks.append(f"{comment}\n{name} = {_toml(getattr(self, name))}")
        return "\n\n".join(blocks) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(str, value))}]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(value)


def checked(name: str, value: Any) -> Any:
    """Return the value of a setting in its own type, or raise a ``RunError``."""
    kind = TrainConfig.__dataclass_fields__[name].metadata["kind"]
    found: Any = tuple(value) if isinstance(value, list) else value
    if not kind.holds(found):
        raise RunError(f"{name}: expected {kind.expected}, found {value!r}")
    return float(found) if kind.read is float else found


def settings_in(path: str | Path) -> dict[str, Any]:
    """Return the settings in a TOML file with lines such as ``latent = 16``.

    Raises:
        RunError: the file cannot be read, or a setting is not known or out of range.
    """
    try:
        content = Path(path).read_bytes()
        wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))  # as PowerShell writes
        found = tomllib.loads(content.decode("utf-16" if wide else "utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path}: cannot be read as a configuration file: {error}") from error
    fields = TrainConfig.__dataclass_fields__
    if unknown := [name for name in found if name not in fields]:
        raise RunError(f"{path}: there is no setting {unknown[0]!r}; the settings are {', '.join(fields)}")
    try:
        return {name: checked(name, value) for name, value in found.items()}
    except RunError as error:
        raise RunError(f"{path}: {error}") from error
