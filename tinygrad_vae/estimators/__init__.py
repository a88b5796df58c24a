"""The estimators: each turns a graph into one of the same value in which the gradient has somewhere to go."""

from ..core import reparameterize
from ..guard.report import ESTIMATORS
from .rebar import REBAR, RELAX
from .arm import ARM, ARSM, DisARM
from .enumeration import Enumeration, Quadrature
from .estimate import estimate
from .estimator import Estimator, estimator_named
from .measure_valued import MeasureValued
from .vimco import VIMCO
from .path_and_boundary import PathAndBoundary, path_and_boundary
from .pathwise import Pathwise, RejectionPath
from .relaxed import GumbelSoftmax, StraightThrough
from .score_function import LeaveOneOut, ScoreFunction, SecondDraw, score_function
from .triples import PrunedTriples, Triples
