"""The command ``tinygrad-vae``: train a VAE, evaluate a run, sample from it, explain a step, compare estimators.

It turns words into calls, and errors into one line with an exit code: 0, done; 1, training diverged or its state
cannot be saved, and the last good one is kept; 2, the request cannot be met, and nothing has been changed; 130,
interrupted. What is computed and written is decided elsewhere.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib.metadata
import io
import math
import os
import shlex
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from ..core import noise
from ..optional import MissingExtraError, require
from . import train
from .checkpoint import CheckpointError, write_atomically
from .config import GROUPS, Kind, RunError, TrainConfig, settings_in, whole
from .data import DATASETS, DataError
from .lock import LockedError
from .train import DivergedError, Run, SaveError, State

USER_ERRORS = (DataError, CheckpointError, RunError, LockedError, MissingExtraError, OSError)
"""What may be wrong with a request, as opposed to the program."""

STEP = """\
import tinygrad_vae as tg

model = tg.wrap(tg.VAE.init(64, hidden=(16,), latent=2, rng=tg.noise(0)))
images = tg.Tensor(tg.noise(1).uniform((8, 64)) < 0.3, "images")
bound = tg.elbo(model, images, rng=tg.noise(2))
loss = -tg.mean(bound)
"""
"""The training step that ``explain`` shows, runs and explains."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command, and return its exit code.

    Args:
        argv: the words after the command's name; those of the process by default.

    Raises:
        SystemExit: the words are none that the command knows (code 2), or ask for help (code 0).

    >>> main(["evaluate", "nowhere"])  # and says on stderr that there is no run
    2
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a path may hold what no encoding has
    arguments, unknown = _parser().parse_known_args(argv)
    if unknown:
        arguments.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    with warnings.catch_warnings():
        note_once = functools.cache(_note)
        warnings.showwarning = lambda message, *_: note_once(str(message))
        return _run(arguments)


def _run(arguments: argparse.Namespace) -> int:
    """Return the exit code of a command, and turn the errors that are the user's into a line."""
    try:
        code = int(arguments.command(arguments))
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # whoever reads, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (DivergedError, SaveError) as error:
        return _fail(1, error)
    except MemoryError as error:
        return _fail(2, f"there is not enough memory: {error}; a smaller batch or fewer samples take less")
    except USER_ERRORS as error:
        return _fail(2, error)
    except KeyboardInterrupt:
        return _fail(130, "interrupted")


def _fail(code: int, message: object) -> int:
    print(f"tinygrad-vae: {message}", file=sys.stderr)
    return code


def _note(message: str) -> None:
    print(f"tinygrad-vae: {message}", file=sys.stderr)


# -------------------------------------------------------------------------------------- the commands


def _train(arguments: argparse.Namespace) -> int:
    asked = settings_in(arguments.config) if arguments.config else {}
    asked |= {name: value for name, value in vars(arguments).items() if name in TrainConfig.__dataclass_fields__}
    data = asked.get("data", "digits")
    if data not in ("digits", *DATASETS):
        asked["data"] = str(Path(data).resolve())
    folder = arguments.out or Path("runs") / Path(data).name.partition(".")[0]
    if arguments.print_config:
        print((train.resume(folder, **asked)[0].config if arguments.resume else TrainConfig(**asked)).to_toml(), end="")
        return 0
    for module in ("rich.progress", "matplotlib.figure", "safetensors.numpy"):
        require(module)  # before the first step, not after the last
    run, state = train.resume(folder, **asked) if arguments.resume else train.begin(TrainConfig(**asked), folder)
    for change in train.environment_changes(run):
        _note(f"since this run began, {change}; the bits that follow may differ from those of an undisturbed run")
    print(_introduction(run, state))
    begun = state.step
    try:
        with _progress(run, state) as show:
            state = train.train(run, state, report=show)
        if state.step > begun + 2:
            print(f"the steps ran {run.how}")
        return _conclude(run, state, train.DRAWS)
    except KeyboardInterrupt:
        saved = train.saved_step(run)
        words = "" if folder == Path("runs/digits") else f" --out {shlex.quote(str(folder))}"
        return _fail(
            130,
            f"stopped; {run.checkpoint} holds the state after step {saved} of {run.steps}\n"
            f"To go on: tinygrad-vae train{words} --resume",
        )


def _introduction(run: Run, state: State) -> str:
    config = run.config
    layers = " - ".join(map(str, (run.images.size, *config.hidden, config.latent)))
    begun = f", going on after step {state.step}" if state.step else ""
    draws = f", {config.samples} draws" if config.samples > 1 else ""
    return (
        f"{len(run.images)} images of {run.images.shape[0]} x {run.images.shape[1]} pixels to train on, "
        f"{len(run.held_out)} held out\n"
        f"VAE {layers} ({config.activation}), {config.objective}{draws}, {config.estimator} estimator, {config.epochs} "
        f"epochs of {run.steps_per_epoch} steps{begun}"
    )


def _conclude(run: Run, state: State, draws: int) -> int:
    with _bar("evaluating", len(run.held_out)) as advance:
        metrics = train.conclude(run, state, draws=draws, progress=lambda done, n: advance(done))
    print(_table(metrics))
    if metrics["held_out"]["warning"]:
        _note(metrics["held_out"]["warning"])
    print(f"in {run.folder}: {', '.join(train.NUMBERS)}, {', '.join(train.pictures(run.config))}")
    return 0


MEASURES = (
    ("log p(x), importance-weighted bound", "log_likelihood"),
    ("evidence lower bound (ELBO)", "bound"),
    ("rate, KL(q(z|x) || p(z))", "rate"),
    ("distortion, -E log p(x|z)", "distortion"),
)


def _table(metrics: dict[str, Any]) -> str:
    found = metrics["held_out"]
    title = f"{found['images']} held-out images, {found['samples']} draws each"
    lines = [f"{title:<44}{'nats per image':>16}{'standard error':>18}"]
    lines += [f"  {label:<42}{found[name]:>16.2f}{found[f'{name}_standard_error']:>18.2f}" for label, name in MEASURES]
    each = found["kl_per_latent"]
    nats = "" if each is None else f"; rate of each: {' '.join(f'{x:.2f}' for x in sorted(each, reverse=True))}"
    lines.append(f"  {found['active_units']} of {metrics['config']['latent']} latents are active{nats}")
    if found["effective_samples"] < 2 <= found["samples"]:
        lines.append(
            f"  the log-likelihood hangs on {found['effective_samples']:.2g} of {found['samples']} draws on average "
            "and is too low; evaluate with more --samples"
        )
    return "\n".join(lines)


def _compare(arguments: argparse.Namespace) -> int:
    found = train.compare(*arguments.runs)
    first, second = arguments.runs
    print(f"{f'{first} minus {second}, paired':<44}{'nats per image':>16}{'standard error':>18}")
    for label, name in MEASURES:
        difference, error = found[name]
        print(f"  {label:<42}{difference:>+16.3f}{error:>18.3f}")
    return 0


def _evaluate(arguments: argparse.Namespace) -> int:
    require("matplotlib.figure")
    runs = [train.resume(folder) for folder in arguments.run]
    for run, state in runs:
        print(f"{run.folder}: {run.config.estimator} estimator, {state.step} steps, seed {run.config.seed}")
        _conclude(run, state, arguments.samples)
    return 0


def _sample(arguments: argparse.Namespace) -> int:
    out = arguments.out or arguments.run / "samples.png"
    if out.suffix not in (".png", ".npy") or not (out.parent.is_dir() or out.parent == arguments.run):
        raise RunError(f"{out}: samples are written as a .png or .npy file in a folder that exists")
    model, shape, config = train.load_model(arguments.run)
    rng = noise(config.seed).at("samples") if arguments.seed is None else noise(arguments.seed)
    probabilities = model.generate(arguments.count, rng=rng)
    if out.suffix == ".npy":
        content = io.BytesIO()
        np.save(content, probabilities.reshape(-1, *shape))
        write_atomically(out, content.getvalue())
    else:
        from .plots import images

        images(probabilities / model.likelihood.white, shape, out)
    print(f"{arguments.count} images in {out}")
    return 0


def _explain(arguments: argparse.Namespace) -> int:
    from ..draw import draw, draw_side_by_side
    from ..estimators import reparameterize
    from ..guard.verdict import explain

    if arguments.out.suffix != ".svg" or not arguments.out.parent.is_dir():
        raise RunError(f"{arguments.out}: the picture is an .svg file in a folder that exists")
    step: dict[str, Any] = {}
    exec(compile(STEP, "step.py", "exec"), step)
    model, loss = step["model"], step["loss"]
    opened = reparameterize(loss)
    titles = ("z is drawn: the gradient is cut", "reparameterized: the gradient gets through")
    draw_side_by_side(loss, opened, arguments.out, titles=titles, wrt=model)
    print("A training step (step.py):\n")
    print("\n".join(f"  {i}  {line}" for i, line in enumerate(STEP.splitlines(), 1)))
    print(f"\nIts loss, {float(loss.value):.4f}, and what stands between it and the weights:\n")
    print(explain(loss, model))
    print("\n" + draw(loss, wrt=model, title="The graph of the loss"))
    print(f"\nAfter tg.reparameterize(loss), with the same value, {float(opened.value):.4f}:\n")
    print(explain(opened, model))
    print("\n" + draw(opened, wrt=model, title="The graph of the reparameterized loss"))
    print(f"\nBoth graphs, side by side: {arguments.out}")
    return 0


def _estimators(arguments: argparse.Namespace) -> int:
    require("matplotlib.figure")
    if arguments.out.suffix not in (".png", ".svg", ".pdf") or not arguments.out.parent.is_dir():
        raise RunError(f"{arguments.out}: the picture is a .png, .svg or .pdf file in a folder that exists")
    from .estimators import measure

    with _bar("measuring", 1) as advance:
        report = measure(
            arguments.cost, arguments.runs, arguments.seed, arguments.out, lambda done, total: advance(done / total)
        )
    print(f"{report}\n\nThe picture: {arguments.out}")
    return 0


# ---------------------------------------------------------------------------------------- progress


@contextlib.contextmanager
def _progress(run: Run, state: State) -> Iterator[Callable[[State], None]]:
    """Show epoch, bound, speed and remaining time: as a bar in a terminal, as some lines elsewhere."""
    lines = max(1, run.config.epochs // 10)
    begun, first = time.monotonic(), state.step  # when and where the epoch began: the first one of a run compiles
    with _bar("epoch", run.steps, state.step) as advance:

        def show(state: State) -> None:
            nonlocal begun, first
            position = state.step % run.steps_per_epoch
            epoch = math.ceil(state.step / run.steps_per_epoch)
            seen = position * run.config.batch
            bound = state.epoch_total / seen if seen else state.history[-1]["bound_train"]
            speed = (state.step - first) / (time.monotonic() - begun) * run.config.batch
            advance(
                state.step,
                f"epoch {epoch}/{run.config.epochs}  bound {bound:7.2f} nats  {speed:6,.0f} images/s",
                line=not position and (epoch % lines == 0 or epoch == run.config.epochs),
            )
            if not position:
                begun, first = time.monotonic(), state.step

        yield show


@contextlib.contextmanager
def _bar(what: str, total: int, done: int = 0) -> Iterator[Callable[..., None]]:
    """Give a function ``advance(done, text, line=)`` that moves a bar, or prints the text where no terminal is."""
    progress = require("rich.progress")
    console = require("rich.console").Console(stderr=True)
    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(bar_width=16),
        progress.TimeRemainingColumn(),
        progress.TextColumn("left"),
    )
    with progress.Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=total, completed=done)

        def advance(done: int, text: str = what, line: bool = False) -> None:
            bar.update(task, completed=done, description=text)
            if line and not console.is_terminal:
                print(text, file=sys.stderr, flush=True)

        yield advance


# --------------------------------------------------------------------------------------- the words


class _Parser(argparse.ArgumentParser):
    """Says in one line what is wrong with the words."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


class _Version(argparse.Action):
    """Looks up the version when it is asked for, and not at every start."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print(f"{parser.prog} {importlib.metadata.version('tinygrad-vae')}")
        parser.exit()


def _reader(kind: Kind) -> Callable[[str], Any]:
    """Return what makes a value of a kind from a word."""

    def read(text: str) -> Any:
        try:
            value = kind.read(text)
        except (ValueError, OverflowError):
            value = None
        if not kind.holds(value):
            raise argparse.ArgumentTypeError(f"expected {kind.expected}, found {text!r}")
        return value

    return read


def _path(text: str) -> Path:
    """Make a path of a word; an empty one, which a shell makes of a variable that is not set, would be this folder."""
    if not text:
        raise argparse.ArgumentTypeError("expected a file or a folder, found ''")
    return Path(text)


def _whole(lowest: int) -> Callable[[str], int]:
    return _reader(whole(lowest))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="tinygrad-vae",
        description="Train a variational autoencoder, and see where its gradient goes.",
        epilog="Begin with: tinygrad-vae train",
        allow_abbrev=False,
    )

    def say_what_there_is(arguments: argparse.Namespace) -> int:
        parser.print_help()
        return 0

    parser.set_defaults(command=say_what_there_is, parser=parser)
    parser.add_argument("--version", action=_Version, nargs=0, help="show program's version number and exit")
    commands = parser.add_subparsers(metavar="COMMAND")
    _add_train(commands)
    _add_evaluate(commands)
    _add_compare(commands)
    _add_sample(commands)
    _add_explain(commands)
    _add_estimators(commands)
    return parser


def _add(commands: Any, name: str, command: Callable[[argparse.Namespace], int], brief: str, text: str) -> Any:
    """Add a command, and return its parser; the text says what it does, then gives examples."""
    description, _, examples = text.partition("Examples:")
    parser = commands.add_parser(
        name,
        help=brief,
        description=description.strip(),
        epilog=f"Examples:{examples.rstrip()}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(command=command, parser=parser)
    return parser


def _add_train(commands: Any) -> None:
    parser = _add(
        commands,
        "train",
        _train,
        "train a VAE on images",
        """
Train a variational autoencoder on black and white images, then measure it on held-out ones
and draw pictures. The bundled digits take a few seconds.

The run is kept in one folder: checkpoint.safetensors (weights, optimizer and history, saved
after every epoch), config.toml and environment.json (all settings and versions), metrics.json,
held_out.npz (the numbers of each held-out image), history.csv, and pictures. A seed gives the
same run bit for bit, also if it is stopped with Ctrl-C, or killed at any moment, and resumed.

Examples:
  tinygrad-vae train
      the bundled digits, 1797 images of 8 x 8 pixels, into runs/digits
  tinygrad-vae train --resume --epochs 160
      go on with that run
  tinygrad-vae train --data mnist --binarise fresh --hidden 400 --latent 20 --epochs 50
      MNIST, downloaded once, its grey levels drawn anew as bits in each epoch
  tinygrad-vae train --data mnist --binarise fresh --hidden 200,200 --latent 50 --activation tanh
      --objective iwae --samples 50 --batch 20 --learning-rate 0.001 --schedule stages --epochs 3280
      the importance weighted autoencoder as Burda et al. 2016 train it; it takes days
  tinygrad-vae train --posterior bernoulli --latent 32 --estimator disarm --out runs/bits
      bits for latents, through which there is no path
  tinygrad-vae train --print-config --latent 2 > plane.toml
  tinygrad-vae train --config plane.toml --out runs/plane
      all settings in a file
  tinygrad-vae train --out runs/score --estimator score-function
      the same model, weights, images and noise, without the reparameterization trick. Then
      tinygrad-vae evaluate runs/digits runs/score
      shows both bounds; history.csv in each folder has them for every epoch
""",
    )
    run = parser.add_argument_group("the run")
    run.add_argument(
        "--out", metavar="FOLDER", type=_path, help="the run folder (default: runs/ and the name of the data)"
    )
    run.add_argument(
        "--resume",
        action="store_true",
        help="go on with the run in the folder, with its settings; only --device may change, --epochs (not with "
        "--schedule cosine) and a --patience above 0",
    )
    run.add_argument(
        "--config", metavar="FILE", type=_path, help="read settings from a TOML file; those given as flags count more"
    )
    run.add_argument(
        "--print-config", action="store_true", help="print all settings as such a file, with their meaning, and stop"
    )
    for group, title in GROUPS.items():
        flags = parser.add_argument_group(title)
        for name, field in TrainConfig.__dataclass_fields__.items():
            if field.metadata["group"] == group:
                kind = field.metadata["kind"]
                default = ",".join(map(str, field.default)) if isinstance(field.default, tuple) else field.default
                shown = f"{default:g}" if isinstance(default, float) else default
                flags.add_argument(
                    f"--{name.replace('_', '-')}",
                    metavar=kind.metavar,
                    type=None if kind.choices else _reader(kind),
                    choices=kind.choices,
                    default=argparse.SUPPRESS,
                    help=f"{field.metadata['text']} (default: {shown})",
                )


def _add_evaluate(commands: Any) -> None:
    parser = _add(
        commands,
        "evaluate",
        _evaluate,
        "measure a run on held-out images",
        """
Measure the model of a run on its held-out images, with standard errors over the images, and
write its metrics.json, held_out.npz, history.csv and pictures again. Several runs are measured one after the
other, on the same images and noise where they share data and seed.

Examples:
  tinygrad-vae evaluate runs/digits
  tinygrad-vae evaluate runs/digits runs/score --samples 5000
      as in Burda et al. 2016; then tinygrad-vae compare runs/digits runs/score
""",
    )
    parser.add_argument("run", metavar="RUN", nargs="+", type=_path, help="the folder of a run")
    parser.add_argument(
        "--samples",
        metavar="K",
        type=_whole(1),
        default=train.DRAWS,
        help="draws of z for each image (default: %(default)s; the importance-weighted bound rises with them, "
        "towards log p(x))",
    )


def _add_compare(commands: Any) -> None:
    parser = _add(
        commands,
        "compare",
        _compare,
        "tell by how much two runs differ",
        """
Subtract the second run from the first, by the numbers of each held-out image that train and
evaluate left in their folders (held_out.npz): the better one has the higher log p(x) and bound,
which is minus rate minus distortion. The difference is taken image by image, so that
its standard error is not that of the images, some of which are hard for any model.

Examples:
  tinygrad-vae compare runs/digits runs/score
""",
    )
    parser.add_argument("runs", metavar="RUN", nargs=2, type=_path, help="the folders of two runs on the same data")


def _add_sample(commands: Any) -> None:
    parser = _add(
        commands,
        "sample",
        _sample,
        "draw images from a run's model",
        """
Draw z from the prior and write the pixel probabilities that the decoder gives for it, as a
picture or as an array of shape (count, rows, columns).

Examples:
  tinygrad-vae sample runs/digits --count 64 --out digits.png
  tinygrad-vae sample runs/digits --count 1000 --seed 7 --out digits.npy
""",
    )
    parser.add_argument("run", metavar="RUN", type=_path, help="the folder of a run")
    parser.add_argument("--count", metavar="N", type=_whole(1), default=100, help="how many (default: %(default)s)")
    parser.add_argument(
        "--seed", metavar="N", type=_whole(0), help="of the draws of z (default: those of the run's samples.png)"
    )
    parser.add_argument(
        "--out", metavar="FILE", type=_path, help="a .png or .npy file (default: samples.png in the run's folder)"
    )


def _add_explain(commands: Any) -> None:
    parser = _add(
        commands,
        "explain",
        _explain,
        "show what blocks the gradient of a training step, and what opens it",
        """
Run one training step of a small VAE and print what stands between its loss and each weight:
the draw of z, which has a value and no derivative. Then do the same after the
reparameterization trick, and draw both graphs side by side. The value is the same in both;
all that changes is where the gradient flows.

Examples:
  tinygrad-vae explain
  tinygrad-vae explain --out graphs.svg
""",
    )
    parser.add_argument(
        "--out", metavar="FILE", type=_path, default=Path("explain.svg"), help="the picture (default: %(default)s)"
    )


def _add_estimators(commands: Any) -> None:
    parser = _add(
        commands,
        "estimators",
        _estimators,
        "compare estimators of a gradient through a random draw",
        """
Take the gradient of one cost many times with every estimator that is valid for it, each time with
new noise that all of them share, and print how noisy each is and how long it takes. The picture
shows the variance: theory as lines where it is known, measurements as points with standard errors.

  square     x^2 with x ~ N(theta, 1): the reparameterization trick beats the score function
  cos        cos(k x): for large k it loses to it
  exp        exp(-k x^2), a bump that gets narrower: it loses as well
  power      |x|^a: up to a = 1/2 its variance is infinite
  bernoulli  a toss, through which there is no path: what to use instead, and what is biased
  vae        the bound of a small VAE on digits, in the weights of its encoder
  bits       the same with tosses for latent variables

What averaging to a given accuracy takes is variance x time: the table is sorted by it, biased
estimators last. An estimator whose variance is carried by a few runs is marked HEAVY TAIL.

Examples:
  tinygrad-vae estimators
  tinygrad-vae estimators --cost power --out power.png
  tinygrad-vae estimators --cost bits --runs 200
""",
    )
    parser.add_argument(
        "--cost",
        choices=("square", "cos", "exp", "power", "bernoulli", "vae", "bits"),
        default="square",
        help="what to take the gradient of (default: %(default)s)",
    )
    parser.add_argument(
        "--runs", metavar="N", type=_whole(20), default=400, help="gradients of each estimator (default: %(default)s)"
    )
    parser.add_argument("--seed", metavar="N", type=_whole(0), default=0, help="of the noise (default: %(default)s)")
    parser.add_argument(
        "--out", metavar="FILE", type=_path, default=Path("estimators.png"), help="the picture (default: %(default)s)"
    )
