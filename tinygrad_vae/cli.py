"""The command ``tinygrad-vae``: train a VAE, evaluate a run, sample from it, and explain a training step.

It turns words into calls, and errors into one line with an exit code: 0, done; 1, training diverged; 2, the request
cannot be met, and nothing has been changed; 130, interrupted. What is computed and written is decided elsewhere.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from . import train
from .arrays import noise
from .checkpoint import CheckpointError, write_atomically
from .data import DataError
from .extras import MissingExtraError, require
from .nn import ACTIVATIONS
from .train import TRAINING_ESTIMATORS, DivergedError, Run, RunError, State, TrainConfig

USER_ERRORS = (DataError, CheckpointError, RunError, MissingExtraError, OSError, MemoryError)
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
    arguments = _parser().parse_args(argv)
    try:
        code = int(arguments.command(arguments))
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # whoever reads, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except USER_ERRORS as error:
        return _fail(2, error)
    except DivergedError as error:
        return _fail(1, error)
    except KeyboardInterrupt:
        return _fail(130, "interrupted")


def _fail(code: int, message: object) -> int:
    print(f"tinygrad-vae: {message}", file=sys.stderr)
    return code


# -------------------------------------------------------------------------------------- the commands


def _train(arguments: argparse.Namespace) -> int:
    for module in ("rich.progress", "matplotlib.figure", "safetensors.numpy"):
        require(module)  # before the first step, not after the last
    asked = {name: value for name, value in vars(arguments).items() if name in TrainConfig.__dataclass_fields__}
    if asked.get("data", "digits") != "digits":
        asked["data"] = str(Path(asked["data"]).resolve())
    folder = arguments.out or Path("runs") / Path(asked.get("data", "digits")).name.partition(".")[0]
    run, state = train.resume(folder, **asked) if arguments.resume else train.begin(TrainConfig(**asked), folder)
    print(_introduction(run, state))
    try:
        with _progress(run, state) as show:
            state = train.train(run, state, report=show)
        return _conclude(run, state, train.DRAWS)
    except KeyboardInterrupt:
        saved = train.saved_step(run)
        words = "" if folder == Path("runs/digits") else f" --out {folder}"
        return _fail(
            130,
            f"stopped; {run.checkpoint} holds the state after step {saved} of {run.steps}\n"
            f"To go on: tinygrad-vae train{words} --resume",
        )


def _introduction(run: Run, state: State) -> str:
    config = run.config
    layers = " - ".join(map(str, (run.images.pixels.shape[1], *config.hidden, config.latent)))
    begun = f", going on after step {state.step}" if state.step else ""
    return (
        f"{len(run.images)} images of {run.images.shape[0]} x {run.images.shape[1]} pixels to train on, "
        f"{len(run.held_out)} held out\n"
        f"VAE {layers} ({config.activation}), {config.estimator} estimator, {config.epochs} epochs of "
        f"{run.steps_per_epoch} steps{begun}"
    )


def _conclude(run: Run, state: State, draws: int) -> int:
    with _bar("evaluating", len(run.held_out)) as advance:
        metrics = train.conclude(run, state, draws=draws, progress=lambda done, n: advance(done))
    print(_table(metrics))
    print(f"in {run.folder}: metrics.json, history.csv, {', '.join(train.PICTURES)}")
    return 0


def _table(metrics: dict[str, Any]) -> str:
    found = metrics["held_out"]
    rows = (
        ("log p(x), importance-weighted bound", "log_likelihood"),
        ("evidence lower bound (ELBO)", "bound"),
        ("rate, KL(q(z|x) || p(z))", "rate"),
        ("distortion, -E log p(x|z)", "distortion"),
    )
    title = f"{found['images']} held-out images, {found['samples']} draws each"
    lines = [f"{title:<44}{'nats per image':>16}{'standard error':>18}"]
    lines += [f"  {label:<42}{found[name]:>16.2f}{found[f'{name}_standard_error']:>18.2f}" for label, name in rows]
    return "\n".join(lines)


def _evaluate(arguments: argparse.Namespace) -> int:
    require("matplotlib.figure")
    runs = [train.resume(folder) for folder in arguments.run]
    for run, state in runs:
        print(f"{run.folder}: {run.config.estimator} estimator, {state.step} steps, seed {run.config.seed}")
        _conclude(run, state, arguments.draws)
    return 0


def _sample(arguments: argparse.Namespace) -> int:
    out = arguments.out or arguments.run / "samples.png"
    if out.suffix not in (".png", ".npy"):
        raise RunError(f"{out}: samples are written as .png or .npy")
    model, shape, config = train.load_model(arguments.run)
    rng = noise(config.seed).at("samples") if arguments.seed is None else noise(arguments.seed)
    probabilities = model.generate(arguments.count, rng=rng)
    if out.suffix == ".npy":
        content = io.BytesIO()
        np.save(content, probabilities.reshape(-1, *shape))
        write_atomically(out, content.getvalue())
    else:
        from .plots import images

        images(probabilities, shape, out)
    print(f"{arguments.count} images in {out}")
    return 0


def _explain(arguments: argparse.Namespace) -> int:
    from .draw import draw, draw_side_by_side
    from .stochastic.estimators import reparameterize
    from .stochastic.verdict import explain

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


# ---------------------------------------------------------------------------------------- progress


@contextlib.contextmanager
def _progress(run: Run, state: State) -> Iterator[Callable[[State], None]]:
    """Show epoch, bound, speed and remaining time: as a bar in a terminal, as some lines elsewhere."""
    lines = max(1, run.config.epochs // 10)
    begun, first = time.monotonic(), state.step
    with _bar("epoch", run.steps, state.step) as advance:

        def show(state: State) -> None:
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


def _whole(lowest: int) -> Callable[[str], int]:
    def whole_number(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = lowest - 1
        if value < lowest:
            raise argparse.ArgumentTypeError(f"expected a whole number from {lowest} on, found {text!r}")
        return value

    return whole_number


def _rate(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number, found {text!r}") from None


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(_whole(1)(part) for part in text.split(","))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="tinygrad-vae",
        description="Train a variational autoencoder, and see where its gradient goes.",
        epilog="Begin with: tinygrad-vae train",
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_train(commands)
    _add_evaluate(commands)
    _add_sample(commands)
    _add_explain(commands)
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
    )
    parser.set_defaults(command=command)
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
after every epoch), metrics.json, history.csv, and the pictures learning_curve.png,
reconstructions.png, samples.png, latent_plane.png. A seed gives the same run bit for bit, also
if it is stopped with Ctrl-C and resumed.

Examples:
  tinygrad-vae train
      the bundled digits, 1797 images of 8 x 8 pixels, into runs/digits
  tinygrad-vae train --resume --epochs 160
      go on with that run
  tinygrad-vae train --data mnist/ --out runs/mnist --hidden 400 --latent 20 --epochs 50
      MNIST, from the folder of its four IDX files
  tinygrad-vae train --out runs/score --estimator score-function
      the same model, weights, images and noise, without the reparameterization trick. Then
      tinygrad-vae evaluate runs/digits runs/score
      shows both bounds; history.csv in each folder has them for every epoch
""",
    )
    default = TrainConfig()
    hidden = ",".join(map(str, default.hidden))
    files = parser.add_argument_group("what to train on, and where to keep it")
    files.add_argument(
        "--data",
        metavar="PATH",
        default=argparse.SUPPRESS,
        help='an .npy, .npz or IDX file, a folder of MNIST\'s IDX files, or "digits". Pixels become 1 from half of the '
        "full scale on, 0 below. One image in six is held out, where the source does not say which "
        "(default: digits, which come with scikit-learn)",
    )
    files.add_argument(
        "--out", metavar="FOLDER", type=Path, help="the run folder (default: runs/ and the name of the data)"
    )
    files.add_argument(
        "--resume",
        action="store_true",
        help="go on with the run in the folder, with its own settings; only --epochs may be changed",
    )
    model = parser.add_argument_group("the model")
    model.add_argument(
        "--hidden",
        metavar="N,N",
        type=_sizes,
        default=argparse.SUPPRESS,
        help=f"sizes of the encoder's hidden layers, the decoder's in reverse (default: {hidden}; "
        "more hardly helps on 1497 images)",
    )
    model.add_argument(
        "--latent",
        metavar="N",
        type=_whole(1),
        default=argparse.SUPPRESS,
        help=f"length of z (default: {default.latent}; with 2, latent_plane.png shows z itself, with many, "
        "samples from the prior look less like digits)",
    )
    model.add_argument(
        "--activation",
        choices=ACTIVATIONS,
        default=argparse.SUPPRESS,
        help=f"after each hidden layer (default: {default.activation}, the fastest)",
    )
    steps = parser.add_argument_group("the steps")
    steps.add_argument(
        "--estimator",
        choices=TRAINING_ESTIMATORS,
        default=argparse.SUPPRESS,
        help="how the gradient gets past the draw of z: through the draw (pathwise, the reparameterization trick) or "
        f"through its probability (score-function, with a running baseline) (default: {default.estimator}, "
        "whose gradient is much less noisy)",
    )
    steps.add_argument(
        "--epochs",
        metavar="N",
        type=_whole(1),
        default=argparse.SUPPRESS,
        help=f"how often each image is seen (default: {default.epochs}, by then the held-out bound of the "
        "digits hardly rises any more)",
    )
    steps.add_argument(
        "--batch",
        metavar="N",
        type=_whole(1),
        default=argparse.SUPPRESS,
        help=f"images in a step, no more than there are (default: {default.batch})",
    )
    steps.add_argument(
        "--learning-rate",
        metavar="R",
        type=_rate,
        default=argparse.SUPPRESS,
        help=f"of Adam (default: {default.learning_rate:g}, about how far a weight moves in a step; "
        "0.001 is safer for larger models)",
    )
    steps.add_argument(
        "--seed",
        metavar="N",
        type=_whole(0),
        default=argparse.SUPPRESS,
        help=f"decides first weights, held-out images, order and noise (default: {default.seed})",
    )


def _add_evaluate(commands: Any) -> None:
    parser = _add(
        commands,
        "evaluate",
        _evaluate,
        "measure a run on held-out images",
        """
Measure the model of a run on its held-out images, with standard errors over the images, and
write its metrics.json, history.csv and pictures again. Several runs are measured one after the
other, on the same images and noise where they share data and seed.

Examples:
  tinygrad-vae evaluate runs/digits
  tinygrad-vae evaluate runs/digits runs/score --draws 1000
""",
    )
    parser.add_argument("run", metavar="RUN", nargs="+", type=Path, help="the folder of a run")
    parser.add_argument(
        "--draws",
        metavar="K",
        type=_whole(1),
        default=train.DRAWS,
        help="draws of z for each image (default: %(default)s; the importance-weighted bound rises with them, "
        "towards log p(x))",
    )


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
    parser.add_argument("run", metavar="RUN", type=Path, help="the folder of a run")
    parser.add_argument("--count", metavar="N", type=_whole(1), default=100, help="how many (default: %(default)s)")
    parser.add_argument(
        "--seed", metavar="N", type=_whole(0), help="of the draws of z (default: those of the run's samples.png)"
    )
    parser.add_argument(
        "--out", metavar="FILE", type=Path, help="a .png or .npy file (default: samples.png in the run's folder)"
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
        "--out", metavar="FILE", type=Path, default=Path("explain.svg"), help="the picture (default: %(default)s)"
    )
