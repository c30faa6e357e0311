"""What Optuna and inloop have in two forms: distributions, choices, and how a trial ended."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import numpy as np
import optuna
from inloop import Categorical, Float, FrozenTrial, Int
from inloop.distributions import Distribution, Label, label, same
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

#: Optuna's states of finished trials, and the names of inloop's.
STATES = {
    optuna.trial.TrialState.COMPLETE: "COMPLETE",
    optuna.trial.TrialState.PRUNED: "PRUNED",
    optuna.trial.TrialState.FAIL: "FAILED",
}
_PLAIN = (bool, int, float, str)  # what Optuna's storages can hold as a choice


def as_inloop(dist: BaseDistribution) -> Distribution | None:
    """Return an Optuna distribution in inloop's form, None where it has none (beyond 2**53, or wider than a float)."""
    try:
        if isinstance(dist, FloatDistribution):
            return Float(dist.low, dist.high, log=dist.log, step=dist.step)
        if isinstance(dist, IntDistribution):
            return Int(dist.low, dist.high, log=dist.log, step=dist.step)
    except ValueError:
        return None
    return Categorical(dist.choices) if isinstance(dist, CategoricalDistribution) else None


def as_optuna(dist: Distribution) -> BaseDistribution:
    """Return a range in Optuna's form."""
    if isinstance(dist, Int):
        return IntDistribution(dist.low, dist.high, log=dist.log, step=dist.step)
    assert isinstance(dist, Float)
    return _float(dist.low, dist.high, dist.log, dist.step)


def _float(low: float, high: float, log: bool, step: float | None) -> FloatDistribution:
    """Return a range of floats, without the step where rounding would have Optuna cut off its end."""
    if step is not None:
        exact_low, exact_step = Decimal(str(low)), Decimal(str(step))
        top = float(exact_low + round((high - low) / step) * exact_step)
        if not (Decimal(str(top)) - exact_low) % exact_step:
            return FloatDistribution(low, top, step=step)
    return FloatDistribution(low, high, log=log)


def drawn(name: str, dist: BaseDistribution, u: float) -> float | int:
    """Return a value of a range that is too wide for inloop: integers that a float cannot tell apart, huge floats."""
    if isinstance(dist, IntDistribution):
        return dist.low + int(u * ((dist.high - dist.low) // dist.step + 1)) * dist.step
    assert isinstance(dist, FloatDistribution)
    if not (math.isfinite(dist.low) and math.isfinite(dist.high)):
        raise ValueError(f"Sampler: the bounds of {name!r} must be finite, got {dist.low!r} and {dist.high!r}.")
    return (1 - u) * dist.low + u * dist.high


def takes(dist: BaseDistribution, value: Any) -> bool:
    """Return whether Optuna will accept a value; of one that it does not it would say nothing and draw another."""
    try:
        return dist._contains(dist.to_internal_repr(value))
    except ValueError:
        return False


def outcome(trial: optuna.trial.FrozenTrial) -> tuple[str, float | None]:
    """Return the name of inloop's state of a finished trial of Optuna's, and its value."""
    if trial.state is not optuna.trial.TrialState.COMPLETE or trial.value is None:
        return STATES[trial.state], None
    return ("COMPLETE", float(trial.value)) if feasible(trial) else ("FAILED", None)


def feasible(trial: optuna.trial.FrozenTrial) -> bool:
    """Return whether a trial keeps the constraints of a sampler and those that it set (Optuna 5)."""
    attrs = trial.system_attrs
    broken = [*(attrs.get("constraints") or ()), *(v for k, v in attrs.items() if k.startswith("constraints:"))]
    return all(v <= 0 for v in broken)


def as_theirs(name: str, trials: list[FrozenTrial]) -> list[tuple[BaseDistribution, Any]]:
    """Return each trial's distribution and value of a parameter as Optuna takes them: choices alike, or one kind."""
    values = [plain(t.params[name]) for t in trials]
    dists = [t.distributions.get(name) for t in trials]
    if any(isinstance(d, Categorical) for d in dists) or not all(map(_is_number, values)):
        return _as_choices(values, dists)
    return _as_ranges(values, dists)


def _as_choices(values: list[Any], dists: list[Distribution | None]) -> list[tuple[BaseDistribution, Any]]:
    known: set[int] = set()
    union: list[Any] = []
    for value, dist in zip(values, dists, strict=True):
        if isinstance(dist, Categorical) and id(dist) in known:
            continue
        known.add(id(dist))
        new = map(plain, dist.choices) if isinstance(dist, Categorical) else [value]
        union.extend(c for c in new if not any(same(c, old) for old in union))
    ours, theirs = Categorical(union), CategoricalDistribution(_names(union))
    return [(theirs, theirs.choices[ours.index(v)]) for v in values]


def _names(choices: list[Any]) -> list[Any]:
    """Return choices as Optuna can store and tell apart; to it 1, 1.0 and True are the same."""
    taken: list[Any] = []
    names: dict[int, Any] = {}
    for i, choice in enumerate(choices):  # first all those that stay as they are
        if (choice is None or isinstance(choice, _PLAIN)) and choice not in taken:
            taken.append(choice)
            names[i] = choice
    for i, choice in enumerate(choices):
        if i not in names:
            name, copies = _text(choice), 2
            while name in taken:
                name, copies = f"{_text(choice)} #{copies}", copies + 1
            taken.append(name)
            names[i] = name
    return [names[i] for i in range(len(choices))]


def _text(choice: Any) -> str:
    return str(choice.text) if isinstance(choice, Label) else label(choice)


def _as_ranges(values: list[Any], dists: list[Distribution | None]) -> list[tuple[BaseDistribution, Any]]:
    pairs = list(zip(values, dists, strict=True))
    ranges = [d for v, d in pairs if isinstance(d, Float | Int) and d.contains(v)]
    loose = [v for v, d in pairs if not isinstance(d, Float | Int) or not d.contains(v)]
    whole = all(isinstance(d, Int) for d in ranges) and all(isinstance(v, int) for v in loose)
    log = bool(ranges) and all(d.log for d in ranges) and all(v >= 1 if whole else v > 0 for v in loose)
    out: list[tuple[BaseDistribution, Any]] = []
    for value, dist in pairs:
        step: float | None = None
        if isinstance(dist, Float | Int) and dist.contains(value):
            low, high, step = dist.low, dist.high, None if log else dist.step
        else:
            low, high = min(loose), max(loose)
        if whole:
            out.append((IntDistribution(int(low), int(high), log=log, step=int(step or 1)), int(value)))
        else:
            theirs = _float(float(low), float(high), log, None if step is None else float(step))
            taken = min(float(value), theirs.high)
            if not takes(theirs, taken):  # Optuna counts steps to 1e-8, which large values do not allow
                theirs = FloatDistribution(low, high)
            out.append((theirs, taken))
    return out


def plain(value: Any) -> Any:
    """Return a scalar of numpy's as Python's own."""
    return value.item() if isinstance(value, np.generic) else value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
