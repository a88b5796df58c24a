"""Declare an op: its function, its derivatives, and what others need to know of it."""

from ..core.graph import BLOCKED, DIFFERENTIABLE, JUMP, KINK, OPS, PIECEWISE, SMOOTH, STOP, Case, case, elementwise, op
