"""One step on many processes, with the same bits on any number of them.

``mpiexec -n 3 python train.py`` starts a script three times; each of the processes is a *rank*, and MPI carries arrays
between them. A batch is cut into blocks, whose number does not depend on the number of ranks. Each block draws from a
noise stream of its own, and the blocks are added in a fixed tree:

    the tree            ((0 + 1) + (2 + 3)) + ((4 + 5) + (6 + 7))
    rank 0 of 3 adds      0 + 1     2
    rank 1 of 3 adds                    3       4 + 5
    rank 2 of 3 adds                                      6 + 7

A rank adds the largest subtrees that it holds alone. Then each rank finishes the tree for its share of the elements,
and gives the sums to all. The bits of a matrix product depend on the number of threads: a rank has one.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import pickle
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np

from .compiled.plan import plan
from .core import Array, NoiseStream, describe, is_array, trees
from .optional import blas, require

T = TypeVar("T")
Span = tuple[int, int]  # a subtree: the blocks from the first number to below the second

RANK_COUNTS = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE")  # where the mpiexec of MPICH, of Open MPI says how many it started


def parallel(f: Callable[..., T], *, blocks: int = 8, compiled: bool = False, comm: Any = None) -> Callable[..., T]:
    """Return a function that computes f, a mean over the examples of a batch, block by block on all ranks.

    ``sum_k n_k / n f(model, batch_k, rng.at("block", k), *others)`` for blocks of n_k of the n examples. The result is
    the same bit for bit on every rank, for any number of ranks, and for a single process without MPI.

    Args:
        f: a function ``f(model, batch, rng, *others)`` that returns a tree of float arrays, each a mean over the
            examples, such as the loss and its gradient. The batch is a tree of arrays with the examples along the first
            axis. A cost that mixes the examples of a batch mixes the examples of a block only.
        blocks: how many. Fewer take less time, but no more ranks than blocks can share the work.
        compiled: whether f becomes a ``tg.plan``, which does not copy the model for each block, nor the results.
        comm: a communicator of mpi4py, or ``Ranks``; by default all processes that mpiexec started.

    Raises:
        TypeError, ValueError: there are fewer blocks than ranks, or fewer examples than blocks, or f returns something
            else. What f raises on one rank is raised on all.

    >>> def loss(model, images, rng):
    ...     return -tg.mean(tg.reparameterize(tg.elbo(model, images, rng=rng)))
    >>> model, images = tg.VAE.init(64, hidden=(8,), latent=2, rng=tg.noise(0)), np.zeros((16, 64))
    >>> step = tg.parallel(tg.value_and_grad(loss), blocks=4)
    >>> value, gradient = step(model, images, tg.noise(1).at("step", 0))
    >>> gradient.posterior.mean.bias.shape
    (2,)
    """
    ranks = comm if isinstance(comm, Ranks) else Ranks(comm) if comm else world()
    if isinstance(blocks, bool) or not isinstance(blocks, int) or blocks < ranks.size:
        ask = f"a whole number, and no less than the number of ranks, {ranks.size}; found {blocks!r}"
        raise ValueError(f"parallel: blocks must be {ask}. Take more blocks, or start fewer ranks (mpiexec -n)")
    firsts = [rank * blocks // ranks.size for rank in range(ranks.size + 1)]
    spans = [_subtrees(0, blocks, *ends) for ends in itertools.pairwise(firsts)]

    kept: list[Any] = []  # the model and the results of the last block, where the plan has them
    planned = plan(lambda model, _, *rest: (model, f(model, *rest)), carry=2)

    def averaged(model: Any, batch: Any, rng: NoiseStream, *others: Any) -> T:
        n = len(next(iter(trees.leaves(batch)), ()))
        if n < blocks:
            raise ValueError(f"parallel: a batch of {n} examples cannot be cut into {blocks} blocks; take blocks={n}")
        kept[:] = [model, *kept[1:]]

        def block(span: Span) -> Array | None:
            if span[1] - span[0] > 1:
                return None
            low, high = (edge * n // blocks for edge in span)
            rest = trees.map_leaves(lambda x: x[low:high], batch), rng.at("block", span[0]), *others
            before, kept[:] = kept[:], [model]
            if compiled and len(before) > 1:
                kept[:] = planned(*before, *rest)
            else:
                kept.append(trees.map_leaves(np.asarray, f(model, *rest)))
            return _packed(kept[1], (high - low) / n)

        with ranks.together(), blas().limit(limits=1):
            mine = [_added(*span, block) for span in spans[ranks.rank]]
        return _unpacked(kept[1], mine[0] if ranks.size == 1 else ranks.added(spans, mine))

    return averaged


def _subtrees(low: int, high: int, first: int, end: int) -> list[Span]:
    """Return the largest subtrees of the tree over blocks low to high that lie within the blocks first to end."""
    if first <= low and high <= end:
        return [(low, high)]
    if high <= first or end <= low:
        return []
    middle = (low + high) // 2
    return _subtrees(low, middle, first, end) + _subtrees(middle, high, first, end)


def _added(low: int, high: int, known: Callable[[Span], Array | None]) -> Array:
    """Return the sum of the blocks low to high in the order of the tree, from the subtrees that are known."""
    if (found := known((low, high))) is not None:
        return found
    middle = (low + high) // 2
    left, right = _added(low, middle, known), _added(middle, high, known)
    return np.add(left, right, out=left)


def _packed(tree: Any, weight: float) -> Array:
    """Return the numbers of a tree times a weight in one flat array, in the widest of their dtypes."""
    leaves = trees.leaves(tree)
    if wrong := [describe(x) for x in leaves or [None] if not is_array(x) or x.dtype.kind != "f"]:
        raise TypeError(f"parallel: f must return a tree of float arrays, means over the examples; found {wrong[0]}")
    flat, start = np.empty(sum(x.size for x in leaves), np.result_type(*leaves)), 0
    for x in leaves:
        np.multiply(x, flat.dtype.type(weight), out=flat[start : start + x.size].reshape(x.shape))
        start += x.size
    return flat


def _unpacked(tree: T, flat: Array) -> T:
    leaves = trees.leaves(tree)
    parts = np.split(flat, np.cumsum([x.size for x in leaves[:-1]]))
    new = [part.reshape(x.shape).astype(x.dtype, copy=False) for x, part in zip(leaves, parts, strict=True)]
    return trees.replace_leaves(tree, new)


class Ranks:
    """The processes that share the work: the number of this one, how many there are, and what all must agree on."""

    def __init__(self, comm: Any = None) -> None:
        self.comm, self.ended_together = comm, False  # whether an error was raised on all ranks
        self.rank: int = comm.rank if comm else 0
        self.size: int = comm.size if comm else 1

    def added(self, spans: list[list[Span]], mine: list[Array]) -> Array:
        """Return the sum of all blocks, given the sums of the subtrees of this rank."""
        size = mine[0].size
        ends = [rank * size // self.size for rank in range(self.size + 1)]
        shares = [slice(*pair) for pair in itertools.pairwise(ends)]
        sizes = np.diff(ends).tolist()
        given = np.empty((sum(map(len, spans)), sizes[self.rank]), mine[0].dtype)
        self.comm.Alltoallv(
            [np.concatenate([x[share] for share in shares for x in mine]), [len(mine) * n for n in sizes]],
            [given, [len(of_rank) * sizes[self.rank] for of_rank in spans]],
        )
        known = dict(zip(itertools.chain(*spans), given, strict=True))
        whole = np.empty(size, given.dtype)
        self.comm.Allgatherv(_added(0, spans[-1][-1][1], known.get), [whole, sizes])
        return whole

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Raise on all ranks what the body raises on one of them; all ranks must come here."""
        error: BaseException | None = None
        try:
            yield
        except BaseException as raised:
            error = raised
        self.ended_together = bool((self.comm.allreduce if self.comm else bool)(error is not None))
        if self.ended_together:
            errors = [] if self.comm is None else self.comm.allgather(_portable(error))
            raise error or next(filter(None, errors))

    def on_first(self, f: Callable[[], T]) -> T:
        """Call f on rank 0 alone, and return on all ranks what it returns, or raise what it raises."""
        with self.together():
            result: Any = f() if self.rank == 0 else None
        return result if self.comm is None else self.comm.bcast(result)


def _portable(error: BaseException | None) -> BaseException | None:
    """Return an error that can be sent to another process."""
    with contextlib.suppress(Exception):
        return pickle.loads(pickle.dumps(error))
    return RuntimeError(f"{type(error).__name__}: {error}")


@functools.cache
def world() -> Ranks:
    """Return all ranks that mpiexec started, or this process alone."""
    started = max(int(os.environ.get(name, 1)) for name in RANK_COUNTS)
    if started == 1:
        return Ranks()
    comm = require("mpi4py.MPI", extra="mpi").COMM_WORLD
    if comm.size != started:  # mpiexec and mpi4py are of different MPI libraries
        raise RuntimeError(f'{started} ranks were started, mpi4py sees {comm.size}; pip install "tinygrad-vae[mpi]"')
    return Ranks(comm)
