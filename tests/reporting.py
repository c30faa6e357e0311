"""What the tests of all hooks share: a pruner that stops when it is told to, a trial, and what was reported to it."""

import inloop
from inloop.pruners import NopPruner, Pruner


class Stop(Pruner):
    """Stops every trial at its ``at``-th report."""

    def __init__(self, at=1):
        self.at = at

    def prune(self, history, trial, stream, since=0):
        return trial.reports >= self.at


def ask(pruner=None, direction="minimize"):
    return inloop.create_study(direction, sampler="random", pruner=pruner or NopPruner(), seed=0).ask()


def curve(trial, stream=0):
    return dict(zip(trial._record.curves[stream].steps, trial._record.curves[stream].values, strict=True))
