"""The words of the command ``tinygrad-vae``: its flags, their help, and what a wrong one gets."""

from __future__ import annotations

import argparse
import importlib.metadata
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from .config import GROUPS, Kind, TrainConfig, whole
from .report import DRAWS

Command = Callable[[argparse.Namespace], int]


class _Parser(argparse.ArgumentParser):
    """Says in one line what is wrong with the words."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


class _Version(argparse.Action):
    """Looks up the version only to print it."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print(f"{parser.prog} {importlib.metadata.version('tinygrad-vae')}")
        parser.exit()


def _reader(kind: Kind) -> Callable[[str], Any]:
    """Return a function that makes a value of a kind from a word."""

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
    """Make a path of a word; an empty one, from a variable that the shell does not know, would be this folder."""
    if not text:
        raise argparse.ArgumentTypeError("expected a file or a folder, found ''")
    return Path(text)


def _file(*suffixes: str) -> Callable[[str], Path]:
    """Return what reads the path of a file to write, which has one of these suffixes and a folder that exists."""

    def read(text: str) -> Path:
        path = _path(text)
        if path.suffix not in suffixes or not path.parent.is_dir():
            raise argparse.ArgumentTypeError(
                f"expected a {' or '.join(suffixes)} file in a folder that exists, found {text!r}"
            )
        return path

    return read


def _whole(lowest: int) -> Callable[[str], int]:
    return _reader(whole(lowest))


def command_line(commands: Mapping[str, Command]) -> argparse.ArgumentParser:
    """Return the parser of the command line, which sets ``command`` to one of the commands."""
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
    added = parser.add_subparsers(metavar="COMMAND")
    for name, command in commands.items():
        ADD[name](added, command)
    return parser


def _add(commands: Any, name: str, command: Command, brief: str, text: str) -> Any:
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


def _add_train(commands: Any, command: Command) -> None:
    parser = _add(
        commands,
        "train",
        command,
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
        help="go on with the run in the folder, with its settings; only --device, --data (the same "
        "images elsewhere), --epochs (not with --schedule cosine) and a --patience above 0 may change",
    )
    run.add_argument(
        "--config", metavar="FILE", type=_path, help="read settings from a TOML file; those given as flags count more"
    )
    run.add_argument(
        "--print-config", action="store_true", help="print all settings as such a file, with their meaning, and stop"
    )
    run.add_argument("--verbose", action="store_true", help="also tell how the steps were compiled")
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


def _add_evaluate(commands: Any, command: Command) -> None:
    parser = _add(
        commands,
        "evaluate",
        command,
        "measure a run on held-out images",
        """
Measure the model of a run on its held-out images, with standard errors over the images, and
write its metrics.json, held_out.npz, history.csv and pictures again. Several runs are measured
one after the other, on the same images and noise if they share data and seed.

Examples:
  tinygrad-vae evaluate runs/digits
  tinygrad-vae evaluate runs/digits runs/score --samples 5000
      as in Burda et al. 2016; then tinygrad-vae compare runs/digits runs/score
""",
    )
    parser.add_argument("run", metavar="RUN", nargs="+", type=_path, help="the folder of a run")
    parser.add_argument("--out", metavar="FOLDER", type=_path, help="where to write (default: the folder of the run)")
    parser.add_argument("--data", metavar="PATH", help="where the images of the run are, if they were moved")
    parser.add_argument(
        "--samples",
        metavar="K",
        type=_whole(1),
        default=DRAWS,
        help="draws of z for each image (default: %(default)s; the importance-weighted bound rises with them, "
        "towards log p(x))",
    )


def _add_compare(commands: Any, command: Command) -> None:
    parser = _add(
        commands,
        "compare",
        command,
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


def _add_sample(commands: Any, command: Command) -> None:
    parser = _add(
        commands,
        "sample",
        command,
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
        "--out",
        metavar="FILE",
        type=_file(".png", ".npy"),
        help="a .png or .npy file (default: samples.png in the run's folder)",
    )


def _add_explain(commands: Any, command: Command) -> None:
    parser = _add(
        commands,
        "explain",
        command,
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
        "--out",
        metavar="FILE",
        type=_file(".svg"),
        default=Path("explain.svg"),
        help="the picture (default: %(default)s)",
    )


def _add_estimators(commands: Any, command: Command) -> None:
    parser = _add(
        commands,
        "estimators",
        command,
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
        "--out",
        metavar="FILE",
        type=_file(".png", ".svg", ".pdf"),
        default=Path("estimators.png"),
        help="the picture (default: %(default)s)",
    )


ADD = {
    "train": _add_train,
    "evaluate": _add_evaluate,
    "compare": _add_compare,
    "sample": _add_sample,
    "explain": _add_explain,
    "estimators": _add_estimators,
}
