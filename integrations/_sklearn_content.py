"""Texts of values by their content: by them a search in a storage, and a choice among copies, is known again."""

from __future__ import annotations

import copyreg
import re
from collections.abc import Iterator, Mapping, Set
from functools import partial
from types import CodeType, FunctionType, MethodType
from typing import Any

import numpy as np

from ._sklearn_report import row_hashes

_IDLE = ("n_jobs", "verbose", "memory", "_skl_callbacks")  # parameters and attributes of estimators; change no score
_PLAIN = (bool, int, float, complex, str, bytes, type(None))


def content(value: Any, above: tuple[int, ...] = ()) -> str:
    """Return a text of a value that is the same in every process, and for values of equal content only.

    Functions and classes count by their qualified names, and functions that have none of their own (lambdas, those
    made in other functions) by their code as well. Other objects count by what they would be pickled as, or, where
    they cannot be, by what they print.

    Args:
        value: Anything.
        above: Ids of the objects that it is in.

    Example:
        >>> content({"b": (1, 2), "a": np.float64(0.5)}), content(re.compile("x+"))
        ("{'a': 0.5, 'b': [1, 2]}", "[re._compile, ['x+', 32]]")
    """
    if type(value) in _PLAIN:
        return repr(value)
    if id(value) in above:
        return f"<{len(above) - above.index(id(value))} above>"
    above = (*above, id(value))

    def inner(*parts: Any) -> str:
        return "[" + ", ".join(content(part, above) for part in parts) + "]"

    if isinstance(value, Mapping):
        return "{" + ", ".join(sorted(f"{content(k, above)}: {content(v, above)}" for k, v in value.items())) + "}"
    if isinstance(value, list | tuple):
        return inner(*value)
    if isinstance(value, Set):
        return "{" + ", ".join(sorted(content(v, above) for v in value)) + "}"
    if isinstance(value, np.generic):
        return content(value.item(), above)
    if isinstance(value, type):
        return _name(value)
    if isinstance(value, MethodType):
        return inner(value.__func__, value.__self__)
    if hasattr(value, "get_params"):
        return _name(type(value)) + content(_of_estimator(value), above)
    if len(getattr(value, "shape", ())) and not getattr(getattr(value, "dtype", None), "hasobject", False):
        try:
            return f"{value.shape} {row_hashes(value, None).tobytes().hex()}"
        except Exception:  # no rows of numbers or texts
            pass
    try:
        parts = _parts(value)
    except Exception:  # each type raises its own where it cannot be pickled
        return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))
    return inner(*parts) if isinstance(parts, tuple) else parts


def _of_estimator(value: Any) -> dict[str, Any]:
    """Return its parameters, and what else a clone of it has, such as the whole of a frozen one."""
    params: dict[str, Any] = value.get_params(deep=False)
    given = {**{k: v for k, v in getattr(value, "__dict__", {}).items() if k not in params}, **params}
    return {k: v for k, v in given.items() if k not in _IDLE}


def _parts(value: Any) -> tuple[Any, ...] | str:
    """Return the parts that make up an object, or its name if it is known by that."""
    if isinstance(value, partial):
        return value.func, value.args, value.keywords
    if isinstance(value, FunctionType) and "<" in value.__qualname__:
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        return _name(value), _of_code(value.__code__), cells, value.__defaults__, value.__kwdefaults__
    if isinstance(value, CodeType):
        return _of_code(value)
    if hasattr(value, "__qualname__"):
        return _name(value)
    reduce = copyreg.dispatch_table.get(type(value))
    reduced = value.__reduce_ex__(4) if reduce is None else reduce(value)
    return reduced if isinstance(reduced, str) else tuple(map(_part, reduced))


def _part(part: Any) -> Any:
    """Return a part of what an object is pickled as, to look at as often as one likes."""
    if isinstance(part, dict):  # distributions of scipy hold NumPy's global generator, which differs at every start
        return {k: v for k, v in part.items() if k != "_random_state"}
    return list(part) if isinstance(part, Iterator) else part


def _of_code(code: CodeType) -> tuple[Any, ...]:
    return code.co_code, code.co_names, code.co_consts


def _name(value: Any) -> str:
    return f"{getattr(value, '__module__', None)}.{value.__qualname__}"
