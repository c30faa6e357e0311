"""Texts of values by their content: by them a search in a storage, and a choice among copies, is known again."""

from __future__ import annotations

import copyreg
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Set
from functools import partial
from types import CodeType, FunctionType, MethodType
from typing import Any

import numpy as np

from ._sklearn_rows import row_hashes

# Parameters and attributes of estimators that change no score. Not CatBoost's ``metric_period``: its best round is one
# of those that it has looked at. Nor its ``train_dir``, which in another estimator may name its data.
_IDLE = (
    "n_jobs", "nthread", "num_threads", "thread_count", "verbose", "verbosity", "silent", "logging_level",
    "allow_writing_files", "memory", "_skl_callbacks",
)  # fmt: skip
_PLAIN = (bool, int, float, complex, str, bytes, type(None))
_LONG = 200  # characters
_DEEPEST = 150  # objects inside each other, at four calls each, of the thousand that Python allows


def content(value: Any, above: tuple[int, ...] = (), known: dict[int, tuple[Any, str]] | None = None) -> str:
    """Return a text of a value that is the same in every process, and for values of equal content only.

    Functions and classes count by their qualified names, and functions that have none of their own (lambdas, those
    made in other functions) by their code as well. Other objects count by what they would be pickled as, or, where
    they cannot be or lie too deep, by what they print. Long texts are hashed.

    Args:
        value: Anything.
        above: Ids of the objects that it is in.
        known: Objects that were seen, by their ids, and their texts: each is looked at once, however many lead to it.

    Example:
        >>> content({"b": (1, 2), "a": np.float64(0.5)}), content(re.compile("x+"))
        ("{'a': 0.5, 'b': [1, 2]}", "[re._compile, ['x+', 32]]")
    """
    if type(value) in _PLAIN:
        return _short(repr(value))
    known = {} if known is None else known
    if id(value) in known:
        return known[id(value)][1]
    if id(value) in above:
        return f"<{len(above) - above.index(id(value))} above>"
    if len(above) == _DEEPEST:
        return _printed(value)
    text = _short(_text(value, partial(content, above=(*above, id(value)), known=known)))
    known[id(value)] = value, text  # the value too, so that no other object gets its id
    return text


def form(data: Any) -> list[Any]:
    """Return what estimators see of data and `row_hashes` does not: shape, types, names of columns, categories.

    Lists count as the arrays that they make. Of sparse matrices it is the places of the cells that they keep, zeros
    too, as boosters take the others for missing.
    """
    if hasattr(data, "columns"):
        named = zip(data.columns, data.dtypes, strict=True)
        return [data.shape, [[name, _type(dtype)] for name, dtype in named]]
    if hasattr(data, "tocsr"):
        kept = data.tocsr(copy=True)
        kept.data[:] = 1
        return ["sparse", data.shape, _type(data.dtype), row_hashes(kept, None).tobytes().hex()]
    data = data if hasattr(data, "dtype") else np.asarray(data)
    return [data.shape, _type(data.dtype)]


def _type(dtype: Any) -> Any:
    return [str(dtype), dtype.ordered, list(dtype.categories)] if hasattr(dtype, "ordered") else str(dtype)


def _text(value: Any, inner: Callable[[Any], str]) -> str:
    """Return the text of a value, given what returns those of its parts."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(sorted(f"{inner(k)}: {inner(v)}" for k, v in value.items())) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(inner, value)) + "]"
    if isinstance(value, Set):
        return "{" + ", ".join(sorted(map(inner, value))) + "}"
    if isinstance(value, np.generic):
        item = value.item()
        return repr(value) if type(item) is type(value) else inner(item)  # a long double is its own item
    if isinstance(value, type):
        return _name(value)
    if hasattr(value, "get_params"):
        return _name(type(value)) + inner(_of_estimator(value))
    try:
        if len(value.shape) and not getattr(getattr(value, "dtype", None), "hasobject", False):
            return f"{inner(form(value))} {row_hashes(value, None).tobytes().hex()}"
    except Exception:  # no rows of numbers or texts
        pass
    try:
        parts = _parts(value)
    except Exception:  # each type raises its own where it cannot be pickled
        return _printed(value)
    return "[" + ", ".join(map(inner, parts)) + "]" if isinstance(parts, tuple) else parts


def _short(text: str) -> str:
    if len(text) < _LONG:
        return text
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16).hexdigest()


def _printed(value: Any) -> str:
    try:
        return _short(re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value)))
    except RecursionError:  # deep again
        return _name(type(value))


def _of_estimator(value: Any) -> dict[str, Any]:
    """Return its parameters, and what else a clone of it has, such as the whole of a frozen one."""
    params: dict[str, Any] = value.get_params(deep=False)
    more = {k: v for k, v in getattr(value, "__dict__", {}).items() if k not in params}
    # boosters keep parameters in a dict as well
    more = {k: _at_work(v) if isinstance(v, dict) else v for k, v in more.items()}
    return _at_work({**more, **params})


def _at_work(params: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in params.items() if k not in _IDLE}


def _parts(value: Any) -> tuple[Any, ...] | str:
    """Return the parts that make up an object, or its name if it is known by that."""
    if isinstance(value, partial):
        return value.func, value.args, value.keywords
    if isinstance(value, MethodType):
        return value.__func__, value.__self__
    if isinstance(value, FunctionType):
        if "<" not in value.__qualname__ and value.__name__ == value.__code__.co_name:  # else wraps() has lent them
            return _name(value)
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        return _name(value), _of_code(value.__code__), cells, value.__defaults__, value.__kwdefaults__
    if isinstance(value, CodeType):
        return _of_code(value)
    reduce = copyreg.dispatch_table.get(type(value))
    reduced = value.__reduce_ex__(4) if reduce is None else reduce(value)
    if isinstance(reduced, str):  # its name; one of functools.lru_cache is lent
        return f"{getattr(value, '__module__', None)}.{reduced}", getattr(value, "__wrapped__", None)
    parts = tuple(list(part) if isinstance(part, Iterator) else part for part in reduced)
    if any(t.__module__.startswith("scipy.stats.") for t in type(value).__mro__):
        # they hold NumPy's global generator, which differs at every start
        return tuple({**part, "_random_state": None} if isinstance(part, dict) else part for part in parts)
    return parts


def _of_code(code: CodeType) -> tuple[Any, ...]:
    return code.co_code, code.co_names, code.co_consts


def _name(value: Any) -> str:
    return f"{getattr(value, '__module__', None)}.{value.__qualname__}"
