"""Linear algebra in one thread, while a sampler works on its small matrices."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from typing import Any

_lock = threading.Lock()
_inside = 0
_limit: Any = None


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep BLAS to one thread: for matrices of a few hundred rows its threads wait more than they work.

    Needs threadpoolctl, which comes with scikit-learn; without it nothing is changed.
    """
    global _inside, _limit
    pools = _pools()
    if pools is None:
        yield
        return
    with _lock:
        if _inside == 0:
            _limit = pools.limit(limits=1)
            _limit.__enter__()
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:  # the first one knows what to go back to
                _limit.__exit__(None, None, None)


@cache
def _pools() -> Any:
    try:
        threadpoolctl = import_module("threadpoolctl")
    except ImportError:
        return None
    import scipy.linalg  # noqa: F401  (its own BLAS must be loaded to be found)

    return threadpoolctl.ThreadpoolController().select(user_api="blas")
