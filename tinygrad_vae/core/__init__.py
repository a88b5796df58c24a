"""The engine, to be read from end to end: values with a past, the chain rule, random nodes, and the trick."""

from . import trees
from .arrays import (
    Array,
    NoiseStream,
    Value,
    as_array,
    beside,
    describe,
    give_back_memory,
    is_array,
    namespace,
    noise,
    size,
    special,
    to_device,
    to_host,
)
from .graph import INDEX, Op, Tensor, gradients, make_node, owned, replay, rewrite, topological_order, value_of
from .nodes import (
    NORMAL,
    UNIFORM,
    Drawn,
    Guarded,
    Noise,
    NoiseLaw,
    Sample,
    axes_kept_apart,
    draw_sample,
    name_of_draw,
    noise_dtype,
    structure_of,
    taken_care_of,
)
from .source import Place, calling_place
