"""Work on an executor: the results of one call after the other, whichever process computed them."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Callable, Iterable, Iterator
from typing import Any


def in_order(what: str, executor: Any, f: Callable[..., Any], tasks: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
    """Yield ``f(*task)`` for each task, in their order; all of them are submitted at once.

    Args:
        what: who asks, for messages.
        executor: a ``concurrent.futures.Executor``, an ``mpi4py.futures.MPIPoolExecutor``, a client of Dask: something
            with ``submit(f, *task)``. ``None`` makes one call after the other here.

    Raises:
        TypeError: there is no ``submit``, or another process cannot be given a task. What f raises is raised, too.

    >>> from concurrent.futures import ThreadPoolExecutor
    >>> with ThreadPoolExecutor(2) as executor:
    ...     list(in_order("powers", executor, pow, [(2, 5), (3, 2)]))
    [32, 9]
    """
    if executor is None:
        yield from itertools.starmap(f, tasks)
        return
    if not hasattr(executor, "submit"):
        raise TypeError(f"{what}: executor takes a concurrent.futures.Executor, found {type(executor).__name__}")
    tasks, futures = list(tasks), []
    try:
        futures += [executor.submit(f, *task) for task in tasks]
        for future in futures:
            yield future.result()
    except Exception as error:
        try:
            pickle.dumps(tasks[:1])
        except Exception as reason:
            raise TypeError(
                f"{what}: the processes of the executor cannot be given this work: {reason}. Give them a function that "
                "is defined at the top level of a module, no lambda and no cost that was computed already; or take a "
                "ThreadPoolExecutor"
            ) from error
        raise
    finally:
        for future in futures:
            future.cancel()
