"""The engine, to be read from end to end in 45 minutes.

1. ``arrays``: NumPy or CuPy; ``trees``: nested lists, dicts and dataclasses of arrays.
2. ``tensor``: a value with a past, and ops, which make it.
3. ``gradients``: backprop, and the line where it stops.
4. ``random``: noise from outside, and draws made from it.
5. ``rewrite``: from graph to graph, and the reparameterization trick as a rewrite.

``words`` holds checks and the text of errors. Nothing here imports the rest of the library.
"""

from . import trees
from .arrays import (
    Array,
    Value,
    as_array,
    beside,
    describe,
    is_array,
    namespace,
    owned,
    special,
    to_device,
    to_host,
)
from .gradients import (
    BlockedGradientError,
    GradientRefusedError,
    Guard,
    InvalidGradientError,
    add,
    astype,
    broadcast_to,
    gradients,
    install,
    pull_back,
    sum_to,
    topological_order,
)
from .random import (
    NORMAL,
    UNIFORM,
    Noise,
    NoiseLaw,
    NoiseStream,
    Sample,
    SourceLine,
    calling_line,
    draw,
    draw_sample,
    noise,
)
from .rewrite import Drawn, opened, reparameterize, replay, rewrite, taken_care_of
from .tensor import BLOCKED, Op, Tensor, make_node, value_of
