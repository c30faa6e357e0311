"""``cv_results_`` of a search some of whose candidates were pruned."""

from __future__ import annotations

import numbers
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ._sklearn_race import Candidate, Out
from ._sklearn_report import standard_error
from ._sklearn_space import SearchSpace

_LOOKED_AT = 256  # points of a space

Table: TypeAlias = dict[str, Any]
#: ``BaseSearchCV._format_results``: candidates' parameters, number of folds, results of the folds, further columns.
Format: TypeAlias = Callable[[list[dict[str, Any]], int, list[Out], dict[str, Any]], Table]


def results(candidates: Sequence[Candidate], n_splits: int, form: Format, iterations: bool) -> Table:
    """Return the table of a search.

    The complete rows are as in scikit-learn, ranks included. A pruned row has NaN in the splits that were not run and
    in their mean, and a rank behind all complete ones.

    Args:
        candidates: The rows; at least one is not pruned.
        n_splits: Number of folds.
        form: Makes scikit-learn's table.
        iterations: Whether folds reported from inside their fits.
    """
    whole = [c for c in candidates if not c.pruned]
    table = _formed(whole, n_splits, form)  # warns of scores that are not finite
    if len(whole) < len(candidates):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "One or more of the (test|train) scores are non-finite")
            ranked, table = table, _formed(candidates, n_splits, form)
        _rank_behind(table, ranked, candidates)
        _time_what_was_run(table, candidates)
    metrics = [k.removeprefix("mean_test_") for k in table if k.startswith("mean_test_")]
    for metric in metrics:
        table[f"partial_mean_test_{metric}"] = _partial_means(candidates, metric)
    table["status"] = np.array([_status(c) for c in candidates])
    table["n_splits_run"] = np.array([len(c.outs) for c in candidates])
    if iterations:
        table["n_iterations_run"] = np.array([sum(out["iterations"] for out in c.run) for c in candidates])
    return table


def fill_scores(outs: Sequence[Out], error_score: float) -> bool:
    """Have all folds give the same metrics, where any gives several by name; say whether one does.

    Args:
        outs: Results of the folds: in one that failed, or whose scorer did, all metrics are put in, else those that
            the scorer left out.
        error_score: Their values.
    """
    kinds = ("test_scores", "train_scores")
    names = {name: error_score for out in outs for k in kinds if isinstance(out.get(k), dict) for name in out[k]}
    for out in outs if names else ():
        out.update({k: {**names, **(out[k] if isinstance(out[k], dict) else {})} for k in kinds if k in out})
    return bool(names)


def complete_rows(table: Table) -> tuple[NDArray[np.intp], Table]:
    """Return the row numbers of the candidates that were not pruned, and the table of them alone."""
    rows = np.flatnonzero(table["status"] != "pruned")
    return rows, {k: [v[i] for i in rows] if k == "params" else v[rows] for k, v in table.items()}


def simplest(table: Table, n_splits: int, complexity: str | Callable[[dict[str, Any]], Any]) -> int:
    """Return the row of the simplest candidate within one standard error of the best, of equals the better one.

    Args:
        table: With one metric.
        n_splits: Number of folds.
        complexity: Name of a parameter of which less is simpler, or more with "-" before it (None counts as more
            than any number); or a function of the parameters.

    Raises:
        ValueError: If a candidate does not have the parameter.
    """
    means = table["mean_test_score"]
    rows = [i for i in range(len(means)) if np.isfinite(means[i])]
    if not rows:
        return int(table["rank_test_score"].argmin())
    best = max(rows, key=lambda i: means[i])
    error = standard_error(table[f"split{k}_test_score"][best] for k in range(n_splits))
    near = [i for i in rows if i == best or means[i] >= means[best] - error]
    return min(near, key=lambda i: (_complexity(table["params"][i], complexity), -means[i]))


def check_complexity(space: SearchSpace, complexity: str | Callable[[dict[str, Any]], Any]) -> None:
    """See, before any fit, that `simplest` can sort candidates of a space.

    Raises:
        ValueError: If a candidate may not have the parameter, or its values have no order.
    """
    few = space.space.size is not None and space.space.size <= _LOOKED_AT
    rows = np.random.default_rng(0).random((_LOOKED_AT, len(space.space)))
    points = space.points() if few else map(space.space.decode, rows)
    values = [_complexity(space.params(point), complexity) for point in points]
    try:
        sorted(values)
    except (TypeError, ValueError) as error:
        raise ValueError(f"complexity={complexity!r}: its values have no order ({error}).") from None


def _complexity(params: dict[str, Any], complexity: str | Callable[[dict[str, Any]], Any]) -> Any:
    """Return what to sort by; None, as of a depth, is the largest value."""
    if not isinstance(complexity, str):
        return complexity(params)
    name = complexity.removeprefix("-")
    if name not in params:
        raise ValueError(f"complexity={complexity!r}: a candidate has no such parameter: {list(params)}.")
    value, less = params[name], complexity == name
    if value is None:
        return (1 if less else -1), 0
    if less:
        return 0, value
    if isinstance(value, str | tuple | list):
        raise ValueError(f"complexity={complexity!r}: {value!r} is no number; give a function of the parameters.")
    return 0, -value


def _formed(candidates: Sequence[Candidate], n_splits: int, form: Format) -> Table:
    like = next(c.outs[0] for c in candidates if not c.pruned)
    blank = {k: _blank(v) for k, v in like.items()}
    outs = [c.by_fold.get(k, blank) for c in candidates for k in range(n_splits)]
    return form([c.params for c in candidates], n_splits, outs, {})


def _blank(value: Any) -> Any:
    """Return the like of an entry of a fold's result, for a fold that was not run."""
    if isinstance(value, dict):
        return dict.fromkeys(value, np.nan)
    return np.nan if isinstance(value, numbers.Number) else None


def _rank_behind(table: Table, ranked: Table, candidates: Sequence[Candidate]) -> None:
    """Give the pruned candidates a rank behind all others, who keep the rank of their own table."""
    whole = np.array([not c.pruned for c in candidates])
    for key in table:
        if key.startswith("rank_test_"):
            table[key] = np.full(len(candidates), whole.sum() + 1, np.int32)
            table[key][whole] = ranked[key]


def _time_what_was_run(table: Table, candidates: Sequence[Candidate]) -> None:
    for i, c in enumerate(candidates):
        if c.pruned:
            for key in ("fit_time", "score_time"):
                times = [out[key] for out in c.run]
                table[f"mean_{key}"][i], table[f"std_{key}"][i] = np.mean(times), np.std(times)


def _partial_means(candidates: Sequence[Candidate], metric: str) -> NDArray[np.float64]:
    """Return each candidate's mean over the folds that were run; of a stopped one, its score when it was stopped."""
    means = []
    for c in candidates:
        scores = [out["test_scores"] for out in c.run]
        means.append(np.mean([s[metric] if isinstance(s, Mapping) else s for s in scores]))
    return np.array(means, np.float64)


def _status(candidate: Candidate) -> str:
    if candidate.pruned:
        return "pruned"
    return "failed" if any(s != s for s in candidate.scores) else "complete"
