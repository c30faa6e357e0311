"""CPU times that say something on a shared machine, where a neighbour on the same core doubles them for a while."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

Step = Callable[[], object]


class Core:
    """Tells from a fixed loop whether this core is shared right now; keeps this process and its children on it.

    Attributes:
        least: CPU milliseconds of the loop at its fastest.
    """

    def __init__(self) -> None:
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
        self.least = min(_loop() for _ in range(3000))

    def shared(self) -> bool:
        """Return whether the loop takes a sixth longer than at its fastest."""
        took = min(_loop(), _loop())
        self.least = min(self.least, took)
        return took > 7 / 6 * self.least

    def turn(self, step: Step, times: int, patience: float = 2.0) -> tuple[list[float], bool]:
        """Return the CPU milliseconds of each call, and whether the core was shared before or after them.

        Args:
            step: What to time.
            times: How often to call it; less often where a turn would last longer than 20 ms, so that slow
                steps have the same chance of a core of their own as quick ones.
            patience: Seconds to wait for the core, at most.
        """
        shared = not self.wait(patience)
        return cpu_ms(step, times, 20.0), shared or self.shared()

    def wait(self, patience: float = 2.0) -> bool:
        """Wait for the core, ``patience`` seconds at most, and return whether it is free."""
        until = time.monotonic() + patience
        while shared := self.shared():
            if time.monotonic() > until:
                break
            time.sleep(0.001)
        return not shared


def cpu_ms(step: Step, times: int, most: float = float("inf")) -> list[float]:
    """Return the CPU milliseconds of each of so many calls, of fewer once they have taken ``most`` together."""
    spent: list[float] = []
    while len(spent) < times and sum(spent) < most:
        start = time.process_time_ns()
        step()
        spent.append((time.process_time_ns() - start) / 1e6)
    return spent


def chosen(turns: list[tuple[list[float], bool]]) -> list[float]:
    """Return the times of the turns in which the core was not shared; of all, where it always was."""
    alone = [t for times, shared in turns if not shared for t in times]
    return alone or [t for times, _ in turns for t in times]


def _loop() -> float:
    start, total = time.process_time_ns(), 0
    for i in range(2000):
        total += i * i % 7
    return (time.process_time_ns() - start) / 1e6
