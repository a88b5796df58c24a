"""The command ``tinygrad-vae``, and the functions behind it.

    from tinygrad_vae.app import TrainConfig, begin, train, conclude, load_model

The way of a number from ``tinygrad-vae train`` to the optimizer: ``cli.train_command`` calls ``run_folder.begin``, then
``loop.train``, which calls ``step.step`` again and again, which calls ``Run.update`` in ``run.py``, where Adam is.
"""

from .config import RunError, TrainConfig
from .data import load
from .loop import train
from .report import compare, conclude
from .run import Run, State
from .run_folder import begin, load_model, resume
