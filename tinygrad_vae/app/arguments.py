"""The words of the command ``tinygrad-vae``: its flags, their help, and what a wrong one gets."""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from .config import GROUPS, PATH, SEED, SIZE, Kind, TrainConfig, integer, one_of
from .report import DRAWS
from .teaching import MODELS
from .textbook import COSTS

HELP = {
    "train": """train a VAE on images

Train a variational autoencoder on images, then measure it on held-out ones and make pictures;
look at summary.png first. Its map of two latents is of a second, small model, which takes some
seconds more. The bundled digits take about ten seconds in all.

The run is kept in one folder: checkpoint.safetensors (weights, optimizer and history, saved
after every epoch), config.toml and environment.json (all settings and versions), metrics.json,
held_out.npz (the numbers of each held-out image), history.csv, and pictures. A seed gives the
same run bit for bit, also if it is stopped with Ctrl-C, or killed at any moment, and resumed.

Examples:
  tinygrad-vae train
      the bundled digits, 1797 images of 8 x 8 pixels, into runs/digits
  tinygrad-vae train --resume --epochs 160
      go on with that run
  tinygrad-vae train --data mnist --binarise fresh --hidden 200,200 --latent 50 --activation tanh
      --objective iwae --samples 50 --batch 20 --learning-rate 0.001 --schedule stages --epochs 3280
      MNIST, downloaded once, and the importance weighted autoencoder of Burda et al. 2016; it takes days
  tinygrad-vae train --posterior bernoulli --latent 32 --estimator disarm --out runs/bits
      bits for latents, which have no path
  mpiexec -n 2 tinygrad-vae train --data mnist --batch 512 --out runs/two
      two processes share each step (pip install "tinygrad-vae[mpi]"); the weights are the same with
      any number of processes, and with one and --blocks 8; so --resume takes any number, too
  tinygrad-vae train --seeds 8 --out runs/eight
      eight runs, on all cores, in runs/eight/seed-0 to seed-7, and a table of means and standard errors
  tinygrad-vae train --print-config > run.toml, then tinygrad-vae train --config run.toml
      all settings in a file
""",
    "evaluate": """measure a run on held-out images

Measure the model of a run on its held-out images, with standard errors over the images, and
write its metrics.json, held_out.npz, history.csv and pictures again. Several runs are measured
one after the other, on the same images and noise if they share data and seed.

Examples:
  tinygrad-vae evaluate runs/digits
  tinygrad-vae evaluate runs/digits runs/score --samples 5000
      as in Burda et al. 2016; then tinygrad-vae compare runs/digits runs/score
""",
    "compare": """tell by how much two runs differ

Subtract the second run from the first, by the numbers of each held-out image that train and
evaluate left in their folders (held_out.npz): the better one has the higher log p(x) and bound,
which is minus rate minus distortion. The difference is taken image by image, so that images
that are hard for any model do not add to its standard error.

Examples:
  tinygrad-vae compare runs/digits runs/score
""",
    "sample": """draw images from a run's model

Draw z from the prior and write the pixel probabilities that the decoder gives for it, as a
picture or as an array of shape (count, rows, columns).

Examples:
  tinygrad-vae sample runs/digits --count 64 --out digits.png
  tinygrad-vae sample runs/digits --count 1000 --seed 7 --out digits.npy
""",
    "explain": """show what blocks the gradient of a training step, and what opens it

Run one training step of a small VAE and print what stands between its loss and each weight:
the draw of z, which has a value and no derivative. Then do the same after the
reparameterization trick, and draw both graphs side by side. The value is the same in both;
only the way of the gradient changes. An .html file is a page on which backprop is stepped
from node to node; .dot is for Graphviz, .mmd for Mermaid.

Examples:
  tinygrad-vae explain --out step.html
""",
    "estimators": """compare estimators of a gradient through a random draw

Take the gradient of one cost many times with every estimator that is valid for it, each time with
new noise that all of them share, and print how noisy each is and how long it takes. The picture
shows the variance: theory as lines where it is known, measurements as points with standard errors.

  square     x^2 with x ~ N(theta, 1): the reparameterization trick beats the score function
  cos        cos(k x): for large k it loses to it
  exp        exp(-k x^2), a bump that gets narrower: it loses as well
  power      |x|^a: up to a = 1/2 its variance is infinite
  bernoulli  a toss, which has no path: estimators to use instead, and which of them are biased
  vae        the bound of a small VAE on digits, in the weights of its encoder
  bits       the same with tosses for latent variables

The time to average to a given accuracy grows with variance x time: the table is sorted by it,
biased estimators last. An estimator whose variance is carried by a few runs is marked HEAVY TAIL.

Examples:
  tinygrad-vae estimators --cost power --out power.png
""",
}
"""What each command does, in a line, then in detail, then by examples."""


Command = Callable[[argparse.Namespace], int]
Flag = tuple[str, dict[str, Any]]


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
        brief, _, text = HELP[name].partition("\n\n")
        description, _, examples = text.partition("Examples:")
        words = added.add_parser(
            name,
            help=brief,
            description=description.strip(),
            epilog=f"Examples:{examples.rstrip()}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        words.set_defaults(command=command, parser=words)
        group: Any = words.add_argument_group("the run") if name == "train" else words
        for flag, options in FLAGS[name]:
            heading = GROUPS.get(flag.removeprefix("--")) if name == "train" else None
            group = words.add_argument_group(heading) if heading else group
            group.add_argument(flag, **options)
    return parser


def _flag(name: str, kind: Kind, text: str, **options: Any) -> Flag:
    """Declare a flag whose value is of a kind."""

    def read(word: str) -> Any:
        with contextlib.suppress(ValueError, OverflowError):
            if kind.holds(value := kind.read(word)):
                return value
        raise argparse.ArgumentTypeError(f"expected {kind.expected}, found {word!r}")

    reader = None if kind.choices else read  # argparse names the choices itself
    return name, {"metavar": kind.metavar, "type": reader, "choices": kind.choices, "help": text} | options


def _switch(name: str, text: str) -> Flag:
    return name, {"action": "store_true", "help": text}


def _file(default: str | None, *suffixes: str) -> Flag:
    """Declare ``--out``, a file to write with one of these suffixes."""
    kind = f"a {' or '.join(suffixes)} file"

    def holds(path: Path) -> bool:
        return path.suffix in suffixes and path.parent.is_dir()

    return _flag(
        "--out",
        Kind(f"{kind} in a folder that exists", holds, Path, "FILE"),
        f"{kind} (default: {default or 'samples.png in the folder of the run'})",
        default=default and Path(default),
    )


def _setting(name: str, field: Any) -> Flag:
    default = ",".join(map(str, field.default)) if isinstance(field.default, tuple) else field.default
    shown = f"{default:g}" if isinstance(default, float) else default
    text = f"{field.metadata['text']} (default: {shown})"
    return _flag(f"--{name.replace('_', '-')}", field.metadata["kind"], text, default=argparse.SUPPRESS)


FOLDER = Kind("a file or a folder", lambda path: path is not None, lambda word: Path(word) if word else None, "FOLDER")
"""A path; an empty one, from a variable that the shell does not know, would be this folder."""

RUN = replace(FOLDER, metavar="RUN")

FLAGS: dict[str, list[Flag]] = {
    "train": [
        _flag("--out", FOLDER, "the run folder (default: runs/ and the data's name)"),
        _switch(
            "--resume",
            "go on with the run in the folder, with its settings; only --device, --data (the same images elsewhere), "
            "--epochs (not with --schedule cosine) and a --patience above 0 may change",
        ),
        _flag("--config", replace(FOLDER, metavar="FILE"), "read settings from a TOML file; flags count more"),
        _flag("--seeds", integer(2), "train N runs side by side, with the seeds from --seed on, and average them"),
        _switch("--print-config", "print all settings as a TOML file, and stop"),
        _switch("--verbose", "also tell how the steps were compiled"),
        *(_setting(name, field) for name, field in TrainConfig.__dataclass_fields__.items()),
    ],
    "evaluate": [
        _flag("run", RUN, "the folder of a run", nargs="+"),
        _flag("--out", FOLDER, "where to write (default: the folder of the run)"),
        _flag("--data", PATH, "where the images of the run are, if they were moved"),
        _flag(
            "--samples",
            SIZE,
            "draws of z for each image (default: %(default)s; the bound rises with them, towards log p(x))",
            default=DRAWS,
        ),
    ],
    "compare": [_flag("runs", RUN, "the folders of two runs on the same data", nargs=2)],
    "sample": [
        _flag("run", RUN, "the folder of a run"),
        _flag("--count", SIZE, "how many (default: %(default)s)", default=100),
        _flag("--seed", SEED, "of the draws of z (default: as in the run's samples.png)"),
        _file(None, ".png", ".npy"),
    ],
    "explain": [_file("explain.svg", ".svg", ".html", ".dot", ".mmd", ".txt")],
    "estimators": [
        _flag("--cost", one_of((*COSTS, *MODELS)), "the function (default: %(default)s)", default="square"),
        _flag("--runs", integer(20), "gradients of each estimator (default: %(default)s)", default=400),
        _flag("--seed", SEED, "of the noise (default: %(default)s)", default=0),
        _file("estimators.png", ".png", ".svg", ".pdf"),
    ],
}


class _Parser(argparse.ArgumentParser):
    """Says in one line what is wrong with the words."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


class _Version(argparse.Action):
    """Looks up the version only to print it."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print(f"{parser.prog} {importlib.metadata.version('tinygrad-vae')}")
        parser.exit()
