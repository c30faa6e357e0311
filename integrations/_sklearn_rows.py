"""Hashes of rows of data, the same for all kinds of containers."""

from __future__ import annotations

import hashlib
from typing import Any, TypeAlias

import numpy as np
from inloop.space import Array
from numpy.typing import NDArray

Hashes: TypeAlias = NDArray[np.uint64]

_KEPT = 20_000  # rows of the training data that are remembered, by hash
_CELLS = 1_000_000  # numbers hashed at a time


def fingerprints(hashes: Hashes) -> Hashes:
    """Return the hashes to keep of ``hashes``, which ascend: of more than 20,000 those that are smallest.

    Which are kept depends on the hash alone, so of other rows the same share can be looked up.
    """
    return hashes[:_KEPT].copy()


def share_known(X: Any, y: Any, known: Hashes) -> float:
    """Return the share of rows that are among ``known``, of those that can be looked up; 0 if none can."""
    new = np.unique(row_hashes(X, y))
    if len(known) == _KEPT:
        new = new[new <= known[-1]]
    return float(np.isin(new, known).mean()) if len(new) else 0.0


def row_hashes(X: Any, y: Any) -> Hashes:
    """Return a hash of each row with its target ``(n,)``, the same for arrays, lists, sparse matrices and frames."""
    hashes = _hashes(X)
    if y is not None:
        with np.errstate(over="ignore"):
            hashes = hashes + np.uint64(3) * _hashes(y)
    return _mixed(hashes)


def _hashes(data: Any) -> Hashes:
    """Return a weighted sum of the mixed bits of each row's numbers; zeros add nothing, as in sparse matrices."""
    if hasattr(data, "tocsr"):
        data = data.tocsr()
        out = np.zeros(data.shape[0], np.uint64)
        rows = np.repeat(np.arange(data.shape[0]), np.diff(data.indptr))
        np.add.at(out, rows, _cells(np.asarray(data.data), _weights(data.shape[1])[data.indices]))
        return out
    mixed = hasattr(data, "columns") and not all(getattr(dtype, "kind", "O") in "fiub" for dtype in data.dtypes)
    if mixed and hasattr(data, "iloc"):  # an array would box each number
        return _of_columns([np.asarray(data.iloc[:, j]) for j in range(data.shape[1])])
    array = np.asarray(data)
    if array.dtype.kind not in "fiub":
        return _of_columns(list(array.reshape(len(array), -1).T))
    array = array.reshape(len(array), -1)
    weights = _weights(array.shape[1])
    block = max(1, _CELLS // max(1, array.shape[1]))
    parts = [_cells(array[i : i + block], weights).sum(1) for i in range(0, len(array), block)]
    return np.concatenate(parts) if parts else np.zeros(0, np.uint64)


def _cells(values: Array, weights: Hashes | np.uint64) -> Hashes:
    with np.errstate(over="ignore"):
        return _mixed((np.asarray(values, np.float64) + 0.0).view(np.uint64)) * weights  # + 0.0: no negative zero


def _of_columns(columns: list[NDArray[Any]]) -> Hashes:
    with np.errstate(over="ignore"):
        return sum(
            (_of_column(column) * weight for column, weight in zip(columns, _weights(len(columns)), strict=True)),
            np.zeros(len(columns[0]) if columns else 0, np.uint64),
        )


def _of_column(column: NDArray[Any]) -> Hashes:
    if column.dtype.kind in "fiub":
        return _cells(column, np.uint64(1))
    known: dict[Any, int] = {}
    return np.array([_of_object(value, known) for value in column.tolist()], np.uint64)


def _weights(n: int) -> Hashes:
    return _mixed(np.arange(1, n + 1, dtype=np.uint64)) | np.uint64(1)


def _mixed(x: Hashes) -> Hashes:
    """Return the finaliser of splitmix64 (Steele, Lea and Flood, OOPSLA 2014, figure 16); 0 stays 0."""
    with np.errstate(over="ignore"):
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _of_object(value: Any, known: dict[Any, int]) -> int:
    """Return a hash of a value: of a number that of `_cells`, else by its text. Columns mostly have few values."""
    key: tuple[type, Any] | None = (type(value), value)
    try:
        if key in known:
            return known[key]
    except TypeError:  # unhashable
        key = None
    if isinstance(value, int | float) and abs(value) < 2**63:
        number = int(_cells(np.array([value]), np.uint64(1))[0])
    else:
        text = repr(value.tolist() if isinstance(value, np.ndarray | np.generic) else value)
        number = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
    if key is not None:
        known[key] = number
    return number
