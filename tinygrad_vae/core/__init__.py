"""The engine, to be read from end to end in 45 minutes.

1. ``arrays``: NumPy or CuPy; ``trees``: nested lists, dicts and dataclasses of arrays.
2. ``tensor``: a value with a past, and the ops that make it.
3. ``gradients``: backprop, and the line where it stops.
4. ``noise``: randomness from outside; ``sample``: draws made from it.
5. ``rewrite``: from graph to graph, and the reparameterization trick as a rewrite.

``words`` holds checks and the text of errors. Nothing here imports the rest of the library.
"""

# fmt: off
from . import trees
from .arrays import Array, Value, as_array, describe, to_numpy, is_array, namespace, owned, special
from .gradients import (
    BlockedGradientError, GradientRefusedError, Guard, InvalidGradientError, add, astype, broadcast_to, gradients,
    install, pull_back, sum_to, topological_order,
)
from .noise import NORMAL, UNIFORM, Noise, NoiseDistribution, NoiseStream, new_noise, noise
from .rewrite import Drawn, handled_draw, opened, reparameterize, replay, rewrite
from .sample import Sample, SourceLine, calling_line, draw, draw_sample
from .tensor import BLOCKED, Op, Tensor, make_node, value_of
