"""Quasi-random sampling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..follower import Kept
from ..history import History
from ..space import Array, Space
from .sampler import Sampler

_BLOCK = 64  # points made at once
_SOBOL_COLUMNS = 21201  # scipy has direction numbers for so many
_TYPES = ("sobol", "halton")


@dataclass(frozen=True, repr=False)
class QMCSampler(Sampler):
    """Draws the points of a low-discrepancy sequence: trial ``n`` gets the ``n``-th one.

    They fill the space more evenly than random ones, whatever was told. Through `scipy.stats.qmc`: Sobol, "On the
    distribution of points in a cube and the approximate evaluation of integrals", 1967, with direction numbers of Joe
    and Kuo, 2008; Halton, "On the efficiency of certain quasi-random sequences of points", 1960; scrambled
    after Owen, "Randomly permuted (t, m, s)-nets and (t, s)-sequences", 1995.

    Args:
        qmc_type: ``"sobol"`` or ``"halton"``.
        scramble: Randomise the sequence by the study's seed.

    Raises:
        ValueError: If ``qmc_type`` is none of these; by `ask`, if a Sobol sequence has too many columns.

    Example:
        >>> import inloop
        >>> study = inloop.create_study(sampler=QMCSampler(), seed=0, space={"x": inloop.Float(0, 1)})
        >>> sorted(int(8 * study.ask().params["x"]) for _ in range(8))
        [0, 1, 2, 3, 4, 5, 6, 7]
    """

    qmc_type: str = "sobol"
    scramble: bool = True

    def __post_init__(self) -> None:
        if self.qmc_type not in _TYPES:
            raise ValueError(f"QMCSampler: qmc_type must be one of {list(_TYPES)}, got {self.qmc_type!r}.")

    def ask(self, space: Space, history: History, number: int, rng: np.random.Generator) -> dict[str, Any]:
        if self.qmc_type == "sobol" and len(space) > _SOBOL_COLUMNS:
            raise ValueError(
                f"QMCSampler: a Sobol sequence has at most {_SOBOL_COLUMNS} columns and the space has {len(space)}; "
                "use qmc_type='halton'."
            )
        sequence = _SEQUENCES.get(history, (self, len(space)), lambda: _Sequence(self, len(space), history.seed))
        return space.decode(space.drawn(sequence.point(number)[None])[0])


class _Sequence:
    """A sequence read in blocks; any point can be asked for, those ahead at the cost of the way there."""

    def __init__(self, sampler: QMCSampler, columns: int, seed: int) -> None:
        from scipy.stats import qmc

        self._halton = sampler.qmc_type == "halton"
        kind = qmc.Halton if self._halton else qmc.Sobol
        self._engine = kind(columns, scramble=sampler.scramble, seed=np.random.default_rng(seed))
        self._block: Array = np.empty((0, columns))
        self._start = 0

    def point(self, index: int) -> Array:
        """Return the point ``(d,)`` at ``index``."""
        if not self._start <= index < self._start + len(self._block):
            self._start = index // _BLOCK * _BLOCK
            self._go_to(self._start)
            self._block = self._engine.random(_BLOCK)
        point: Array = self._block[index - self._start]
        return point

    def _go_to(self, start: int) -> None:
        if self._halton:
            self._engine.num_generated = start  # all its state; its fast_forward would make every point on the way
            return
        if self._engine.num_generated > start:
            self._engine.reset()
        if self._engine.num_generated < start:
            self._engine.fast_forward(start - self._engine.num_generated)


_SEQUENCES: Kept[tuple[QMCSampler, int], _Sequence] = Kept()
