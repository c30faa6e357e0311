"""Laws of the hook for Lightning, on real training of a small network."""

import copy
import gc
import logging
import math
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import warnings

import inloop
import pytest
from inloop.pruners import NopPruner, ThresholdPruner
from reporting import Stop, ask, curve
from sklearn.datasets import load_digits

torch = pytest.importorskip("torch")
pl = pytest.importorskip("pytorch_lightning")
from inloop.integrations.lightning import LightningPruningCallback
from pytorch_lightning.callbacks import Callback, EarlyStopping, ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.tuner import Tuner

X, Y = (torch.tensor(a[:300]) for a in load_digits(return_X_y=True))
X = X.float() / 16


@pytest.fixture(autouse=True)
def quiet():
    """Lightning gives advice about loaders and loggers that small tests do not need."""
    torch.set_num_threads(1)
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        for text in (".*does not have many workers", ".*smaller than the logging interval", ".*isinstance.treespec"):
            warnings.filterwarnings("ignore", text)
        warnings.filterwarnings("ignore", "Checkpoint directory")
        warnings.filterwarnings("ignore", ".*Skipping val loop|.*no `val_dataloader`|.*did not have any")
        yield


def loader(a, b):
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X[a:b], Y[a:b]), batch_size=50)


class Net(pl.LightningModule):
    """A small network; what it logs is kept in ``said`` as (epoch, value)."""

    def __init__(self, values=None, log=None):
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Linear(64, 8), torch.nn.ReLU(), torch.nn.Linear(8, 10))
        self.values, self.log_more, self.said, self.trained = values, log or {}, [], []

    def training_step(self, batch, index):
        loss = torch.nn.functional.cross_entropy(self.net(batch[0]), batch[1])
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        self.log("batch_loss", loss)
        self.log("both_loss", loss, on_step=True, on_epoch=True)
        self.trained.append(loss.item())
        return loss

    def on_train_epoch_end(self):
        self.log("epoch_loss", float(self.current_epoch))

    def validation_step(self, batch, index):
        loss = torch.nn.functional.cross_entropy(self.net(batch[0]), batch[1])
        self.log("val_loss", loss if self.values is None else self.values[self.current_epoch])

    def on_validation_epoch_end(self):
        for name, value in self.log_more.items():
            self.log(name, value())
        if not self.trainer.sanity_checking:
            self.said.append(self.trainer.callback_metrics["val_loss"].item())

    test_step = validation_step

    def on_test_epoch_end(self):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.5)


def trainer(*callbacks, package=pl, max_epochs=4, **kwargs):
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    kwargs = {"enable_checkpointing": False, "accelerator": "cpu", "devices": 1, **quiet, **kwargs}
    return package.Trainer(max_epochs=max_epochs, callbacks=list(callbacks), **kwargs)


def fit(trial, monitor="val_loss", net=None, beside=(), hook=None, valid=True, ckpt_path=None, **kwargs):
    """Train; return the network and the Trainer."""
    hook = hook or LightningPruningCallback(trial, monitor)
    net, t = net or Net(), trainer(hook, *beside, **kwargs)
    t.fit(net, loader(0, 200), loader(200, 300) if valid else None, ckpt_path=ckpt_path)
    return net, t


def test_never_stop():
    trial = ask()
    net, t = fit(trial)
    assert curve(trial) == dict(enumerate(net.said))
    assert (t.current_epoch, len(net.said), trial.pruned) == (4, 4, False)


@pytest.mark.parametrize("at", [1, 3, 4])
def test_always_stop(at):
    trial = ask(Stop(at))
    net, t = fit(trial)
    assert t.current_epoch == at == len(curve(trial)) == len(net.trained) / 4
    assert t.state.finished
    assert trial.study.tell(trial, 0.1).state.name == "PRUNED"


def test_a_normal_return_is_still_pruned():
    study = inloop.create_study(pruner=Stop(2), sampler="random", seed=0)
    study.optimize(lambda trial: fit(trial)[0].said[-1], n_trials=2)
    assert [t.state.name for t in study.trials] == ["PRUNED"] * 2


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("at", [2, 99])
def test_beside_early_stopping_and_checkpoints(first, at, tmp_path):
    trial = ask(Stop(at))
    ended = []

    class Logger(CSVLogger):
        def finalize(self, status):
            ended.append(status)
            super().finalize(status)

    class Patient(EarlyStopping):
        pass

    beside = [Patient("val_loss", patience=2), ModelCheckpoint(tmp_path, monitor="val_loss")]
    net = Net(values=[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    hook = LightningPruningCallback(trial, "val_loss")
    callbacks = [hook, *beside] if first else [*beside, hook]
    t = trainer(*callbacks, max_epochs=6, logger=Logger(tmp_path), enable_checkpointing=True)
    t.fit(net, loader(0, 200), loader(200, 300))
    assert t.current_epoch == min(at, 3) == len(curve(trial))
    assert beside[1].best_model_score == 1.0
    assert t.state.finished
    assert ended == ["success"]


@pytest.mark.parametrize("configured", [False, True])
@pytest.mark.parametrize("ends", ["prune", "patience", "error"])
def test_it_is_none_of_the_early_stoppings_of_the_trainer(configured, ends):
    """A model may bring the hook by ``configure_callbacks``, which overrides callbacks of the Trainer of its kinds."""

    class Failing(Callback):
        def on_train_epoch_end(self, trainer, module):
            if ends == "error":
                raise KeyError("mine")

    trial, early = ask(Stop(1 if ends == "prune" else 99)), EarlyStopping("val_loss", patience=2)
    hook, net = LightningPruningCallback(trial, "val_loss"), Net(values=[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    net.configure_callbacks = lambda: [hook] if configured else []
    t = trainer(*([] if configured else [hook]), early, Failing(), max_epochs=6)
    if ends == "error":
        with pytest.raises(KeyError):
            t.fit(net, loader(0, 200), loader(200, 300))
    else:
        t.fit(net, loader(0, 200), loader(200, 300))
        assert t.current_epoch == {"prune": 1, "patience": 3}[ends] == len(curve(trial))
    assert t.early_stopping_callbacks == [early]
    assert early.stopped_epoch == (2 if ends == "patience" else 0)
    assert sorted(type(c).__name__ for c in t.callbacks) == ["EarlyStopping", "Failing", "LightningPruningCallback"]


def test_a_prune_below_the_least_number_of_epochs_and_steps():
    trial = ask(Stop(1))
    _, t = fit(trial, min_epochs=3, min_steps=10)
    assert t.current_epoch == 1
    assert (t.min_epochs, t.min_steps) == (3, 10), "set back"


@pytest.mark.parametrize("package", ["pytorch_lightning", pytest.param("lightning.pytorch", marks=pytest.mark.slow)])
def test_either_package(package):
    package = pytest.importorskip(package)
    trial = ask(Stop(2))

    class Theirs(package.LightningModule):
        __init__, training_step, configure_optimizers = Net.__init__, Net.training_step, Net.configure_optimizers
        validation_step, on_validation_epoch_end = Net.validation_step, Net.on_validation_epoch_end

    Theirs.__init__ = lambda self: (package.LightningModule.__init__(self), _fill(self))[0]
    t = trainer(LightningPruningCallback(trial, "val_loss"), package=package)
    t.fit(Theirs(), loader(0, 200), loader(200, 300))
    assert len(curve(trial)) == t.current_epoch == 2


def _fill(net):
    net.net = torch.nn.Sequential(torch.nn.Linear(64, 8), torch.nn.ReLU(), torch.nn.Linear(8, 10))
    net.values, net.log_more, net.said, net.trained = None, {}, [], []


def test_what_is_no_training_reports_nothing():
    trial = ask()
    net, t = fit(trial, num_sanity_val_steps=2)
    assert list(curve(trial)) == [0, 1, 2, 3]
    t.validate(net, loader(200, 300), verbose=False)
    t.test(net, loader(200, 300), verbose=False)
    assert trial._record.reports == 4
    other = ask()
    fit(other, fast_dev_run=True)
    t = trainer(LightningPruningCallback(other, "val_loss"))
    Tuner(t).lr_find(Tunable(), loader(0, 200), loader(200, 300), num_training=5)
    assert other._record.reports == 0


class Tunable(Net):
    lr = 0.1

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.lr)


def test_a_misspelt_metric_lists_what_is_there():
    with pytest.raises(
        ValueError, match=r"no metric is named 'val/loss'. What is logged: .*train_loss.*val_loss|val_l"
    ):
        fit(ask(), "val/loss", max_epochs=2)
    for kwargs in ({"val_check_interval": 0.5}, {"check_val_every_n_epoch": 2}):
        with pytest.raises(ValueError, match="no metric is named 'val/loss'"):
            fit(ask(), "val/loss", **kwargs)


def test_no_validation():
    for kwargs in ({"valid": False}, {"limit_val_batches": 0}):
        with pytest.raises(ValueError, match=r"no metric is named 'val_loss', and there is no validation .*train_loss"):
            fit(ask(), **kwargs)
    trial = ask()
    fit(trial, "train_loss", valid=False)
    assert list(curve(trial)) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("kwargs", "steps"),
    [
        ({"val_check_interval": 0.5}, [2, 4, 6, 8]),
        ({"val_check_interval": 2}, [2, 4, 6, 8]),
        ({"val_check_interval": 1}, [1, 2, 3, 4, 5, 6, 7, 8]),
        ({"val_check_interval": 3, "check_val_every_n_epoch": None}, [3, 6]),
        ({"check_val_every_n_epoch": 2, "max_epochs": 4}, [1, 3]),
        ({"val_check_interval": 1, "accumulate_grad_batches": 2}, [0, 1, 2, 3, 4]),
        ({"max_epochs": -1, "max_steps": 10}, [0, 1]),  # the third epoch is cut before its validation
    ],
)
def test_steps(kwargs, steps):
    trial = ask()
    net, _ = fit(trial, **{"max_epochs": 2, **kwargs})
    assert list(curve(trial)) == steps
    if "accumulate_grad_batches" not in kwargs:
        assert list(curve(trial).values()) == net.said[: len(steps)]


def test_validations_at_intervals_of_time():
    if not hasattr(trainer(), "_val_check_time_interval"):
        pytest.skip("this Lightning takes no duration as val_check_interval")
    trial = ask(Stop(3))
    net, t = fit(trial, val_check_interval={"seconds": 0})
    assert curve(trial) == dict(enumerate(net.said, start=1))
    assert (t.global_step, trial.pruned) == (3, True)


def test_steps_as_asked():
    trial = ask()
    fit(trial, hook=LightningPruningCallback(trial, "val_loss", step="global_step"))
    assert list(curve(trial)) == [4, 8, 12, 16]
    with pytest.raises(ValueError, match="step='epoch' tells validations of one epoch not apart"):
        fit(None, hook=LightningPruningCallback(ask(), "val_loss", step="epoch"), val_check_interval=0.5)
    with pytest.raises(ValueError, match="step must be 'auto', 'epoch' or 'global_step', got 'batch'"):
        LightningPruningCallback(ask(), "val_loss", step="batch")


def test_optimizer_steps_that_lightning_does_not_count():
    class Manual(Net):
        automatic_optimization = False

        def training_step(self, batch, index):
            optimizer = self.optimizers(use_pl_optimizer=False)
            optimizer.zero_grad()
            self.manual_backward(super().training_step(batch, index))
            optimizer.step()

    with pytest.raises(ValueError, match=r"by .*global_step, which is still 0 after an epoch"):
        fit(ask(), net=Manual(), val_check_interval=2)
    trial = ask()
    fit(trial, net=Manual())
    assert list(curve(trial)) == [0, 1, 2, 3]


@pytest.mark.parametrize("kwargs", [{}, {"check_val_every_n_epoch": 2}, {"val_check_interval": 0.5}])
@pytest.mark.parametrize("monitor", ["train_loss", "epoch_loss", "batch_loss", "both_loss"])
def test_metrics_of_training_are_those_of_their_epoch(monitor, kwargs):
    trial = ask()
    net, _ = fit(trial, hook=LightningPruningCallback(trial, monitor, "min"), **kwargs)
    means = [sum(net.trained[i : i + 4]) / 4 for i in range(0, 16, 4)]
    values = {"epoch_loss": [0.0, 1.0, 2.0, 3.0], "batch_loss": net.trained[3::4]}.get(monitor, means)
    assert curve(trial) == pytest.approx(dict(enumerate(values)))


@pytest.mark.parametrize("kwargs", [{}, {"on_step": False, "on_epoch": True}])
def test_an_epoch_that_does_not_log_the_metric_reports_nothing(kwargs):
    class Even(Net):
        def training_step(self, batch, index):
            loss = super().training_step(batch, index)
            if self.current_epoch % 2 == 0:
                self.log("even_loss", loss, **kwargs)
            return loss

    trial = ask()
    fit(trial, net=Even(), hook=LightningPruningCallback(trial, "even_loss", "min"))
    assert list(curve(trial)) == [0, 2]


def test_a_metric_of_training_and_validation_is_that_of_validation():
    class Same(Net):
        def validation_step(self, batch, index):
            super().validation_step(batch, index)
            self.log("batch_loss", 2.0)

    trial = ask()
    fit(trial, net=Same(), hook=LightningPruningCallback(trial, "batch_loss", "min"), val_check_interval=0.5)
    assert curve(trial) == dict.fromkeys(range(2, 17, 2), 2.0)


def test_kinds_of_values():
    from torchmetrics import MeanMetric

    values = {"number": lambda: 2.0, "tensor": lambda: torch.tensor(2.0), "metric": lambda: net.mean}
    for name in values:
        trial, net = ask(), Net(log=values)
        net.mean = MeanMetric()
        net.mean.update(torch.tensor([1.0, 3.0]))
        fit(trial, net=net, hook=LightningPruningCallback(trial, name, "min"), max_epochs=1, num_sanity_val_steps=0)
        assert curve(trial) == {0: 2.0}


def test_nan():
    values = [1.0, math.nan, 2.0, 1.0]
    for pruner, reports in ((None, 4), (ThresholdPruner(upper=5.0), 2)):
        trial = ask(pruner)
        fit(trial, net=Net(values=values))
        assert len(curve(trial)) == reports
        assert math.isnan(curve(trial)[1])
        assert trial.pruned == (reports == 2)


def test_direction():
    with pytest.raises(ValueError, match=r"'val_loss' is to be minimized, but the direction of study .* is 'maximize'"):
        LightningPruningCallback(ask(direction="maximize"), "val_loss")
    with pytest.raises(ValueError, match=r"is 'val_f1' to be minimized or maximized\? .*give mode="):
        LightningPruningCallback(ask(), "val_f1")
    LightningPruningCallback(ask(direction="maximize"), "val_f1", mode="max")
    LightningPruningCallback(ask(direction="maximize"), "val_acc")


def test_a_pruned_trial_is_not_trained_again():
    trial = ask(Stop(1))
    hook = LightningPruningCallback(trial, "val_loss")
    fit(trial, hook=hook)
    for again in (hook, LightningPruningCallback(trial, "val_loss"), copy.deepcopy(hook)):
        net = Net()
        with pytest.raises(inloop.TrialPruned):
            fit(trial, net=net, hook=again)
        assert not net.trained


@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, lambda h: pickle.loads(pickle.dumps(h))])
def test_fits_and_copies_have_streams_of_their_own(way):
    trial = ask()
    hook = LightningPruningCallback(trial, "val_loss", report_every=3)
    fit(trial, hook=hook, max_epochs=4)
    fit(trial, hook=way(hook), max_epochs=4)
    assert [list(curve(trial, s)) for s in range(2)] == [[2, 3]] * 2
    assert repr(way(hook)) == repr(hook)
    assert isinstance(way(hook), Callback)


def test_a_hook_that_has_seen_a_fit_is_still_a_reference():
    hook = LightningPruningCallback(ask(), "val_loss")
    saved, shown = len(pickle.dumps(hook)), repr(hook)
    net = Net()
    net.unpicklable = lambda: None
    fit(None, net=net, hook=hook)
    assert len(pickle.dumps(hook)) < saved + 100
    assert repr(hook) == shown


@pytest.mark.parametrize("mode", ["min", "max"])
def test_with_a_fixed_trial_training_goes_to_its_end(mode, monkeypatch):
    monkeypatch.delenv("INLOOP_LEADER", raising=False)
    _, t = fit(None, hook=LightningPruningCallback(inloop.FixedTrial({}), "both_loss", mode))
    assert t.current_epoch == 4
    assert "INLOOP_LEADER" not in os.environ, "it leads no ranks"


def test_a_hook_outlives_its_study(tmp_path):
    trial = inloop.create_study(storage=str(tmp_path / "s.db"), seed=0).ask()
    hook = LightningPruningCallback(trial, "val_loss")
    saved, shown = pickle.dumps(hook), repr(hook)
    del trial, hook
    gc.collect()
    for file in tmp_path.glob("s.db*"):
        file.unlink()
    hook = pickle.loads(pickle.dumps(copy.deepcopy(pickle.loads(saved))))
    assert repr(hook) == shown
    with pytest.raises(inloop.StudyNotFound):
        fit(None, hook=hook)


def test_stages_that_count_epochs_and_steps_have_streams_of_their_own():
    trial = ask()
    for _ in range(2):
        fit(trial, max_epochs=4)
        fit(trial, max_epochs=2, val_check_interval=2)
    curves = {s: c.steps for s, c in trial._record.curves.items()}
    assert curves == {0: [0, 1, 2, 3], 1: [2, 4, 6, 8], 2: [0, 1, 2, 3], 3: [2, 4, 6, 8]}


def test_two_fits_at_once_are_refused():
    trial = ask()
    hook = LightningPruningCallback(trial, "val_loss")

    class Another(Callback):
        def on_train_start(self, trainer, module):
            import threading

            thread = threading.Thread(target=fit, args=(trial,), kwargs={"hook": hook})
            thread.start()
            thread.join()

    with pytest.raises(RuntimeError, match="is used by two fits at once"):
        fit(trial, hook=hook, beside=[Another()])


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("kwargs", [{}, {"check_val_every_n_epoch": 2}, {"val_check_interval": 0.5}])
def test_a_resumed_fit_goes_on_with_its_curve(fresh, kwargs, every, tmp_path):
    straight, trial = ask(), ask()
    fit(straight, max_epochs=6, **kwargs, hook=LightningPruningCallback(straight, "val_loss", report_every=every))
    hook = LightningPruningCallback(trial, "val_loss", report_every=every)
    _, t = fit(trial, hook=hook, max_epochs=4, **kwargs)
    t.save_checkpoint(tmp_path / "at4.ckpt")
    hook = LightningPruningCallback(trial, "val_loss", report_every=every) if fresh else hook
    fit(trial, hook=hook, max_epochs=6, ckpt_path=tmp_path / "at4.ckpt", **kwargs)
    assert list(trial._record.curves) == [0]
    assert list(curve(trial)) == sorted({*curve(straight), max(s for s in curve(trial) if s <= 16)})


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("kwargs", [{}, {"val_check_interval": 0.5}])
def test_a_fit_restored_from_before_its_last_report_goes_on_with_its_curve(fresh, kwargs, tmp_path):
    each = 2 if kwargs else 1  # reports of an epoch
    trial = ask(Stop(5 * each))
    hook = LightningPruningCallback(trial, "val_loss")
    _, t = fit(trial, hook=hook, max_epochs=2, **kwargs)
    t.save_checkpoint(tmp_path / "at2.ckpt")
    fit(trial, hook=hook, max_epochs=4, ckpt_path=tmp_path / "at2.ckpt", **kwargs)
    before = curve(trial)
    hook = LightningPruningCallback(trial, "val_loss") if fresh else hook
    _, t = fit(trial, hook=hook, max_epochs=9, ckpt_path=tmp_path / "at2.ckpt", **kwargs)
    assert list(trial._record.curves) == [0]
    assert (t.current_epoch, trial.pruned) == (5, True)
    assert list(curve(trial)) == ([2 * (i + 1) for i in range(10)] if kwargs else [*range(5)])
    assert {step: curve(trial)[step] for step in before} == before


@pytest.mark.parametrize("hooks", [0, 1], ids=["no hook", "another trial"])
def test_a_fit_from_a_checkpoint_of_elsewhere_has_a_stream_of_its_own(hooks, tmp_path):
    elsewhere = trainer(*(LightningPruningCallback(ask(), "val_loss") for _ in range(hooks)), max_epochs=6)
    elsewhere.fit(Net(), loader(0, 200), loader(200, 300))
    elsewhere.save_checkpoint(tmp_path / "at6.ckpt")
    trial = ask()
    hook = LightningPruningCallback(trial, "val_loss")
    fit(trial, hook=hook, max_epochs=3)
    fit(trial, hook=hook, max_epochs=8, ckpt_path=tmp_path / "at6.ckpt")
    assert [list(curve(trial, s)) for s in range(2)] == [[0, 1, 2], [6, 7]]


@pytest.mark.parametrize("on_train_epoch_end", [True, False])
def test_resuming_from_a_checkpoint_of_the_callback(on_train_epoch_end, tmp_path):
    trial = ask()
    keep = ModelCheckpoint(tmp_path, save_top_k=-1, filename="{epoch}", save_on_train_epoch_end=on_train_epoch_end)
    fit(trial, beside=[keep], enable_checkpointing=True, max_epochs=3)
    last = sorted(tmp_path.glob("*.ckpt"))[-1]
    fit(trial, max_epochs=5, ckpt_path=last)
    reported = {step for c in trial._record.curves.values() for step in c.steps}
    assert reported == {0, 1, 2, 3, 4}


def test_ctrl_c_ends_the_search_and_keeps_what_was_told():
    """Lightning turns it into an exit of the program and ignores further ones."""
    study = inloop.create_study(pruner=NopPruner(), sampler="random", seed=0)

    class Impatient(Callback):
        def on_train_epoch_end(self, trainer, module):
            if len(study.trials) == 2 and trainer.current_epoch == 1:
                signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        study.optimize(lambda trial: fit(trial, beside=[Impatient()])[0].said[-1], n_trials=3)
    assert [t.state.name for t in study.trials] == ["COMPLETE", "FAILED"]
    assert [t.reports for t in study.trials] in ([4, 1], [4, 2])
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


# Several processes


@pytest.mark.parametrize("rank", ["0", "1"])
def test_a_process_that_is_alone_leads_no_ranks(rank, monkeypatch):
    """Whoever has set ``LOCAL_RANK`` may have launched no other process."""
    monkeypatch.delenv("INLOOP_LEADER", raising=False)
    monkeypatch.setenv("LOCAL_RANK", rank)

    def objective(trial):
        hook = LightningPruningCallback(trial, "val_loss")
        if trial.number == 0:
            raise ValueError("bad parameters")
        return fit(trial, hook=hook, max_epochs=1)[0].said[-1]

    study = inloop.create_study(seed=0, sampler="random")
    study.optimize(objective, n_trials=2, catch=ValueError)
    assert [t.state.name for t in study.trials] == ["FAILED", "COMPLETE"]
    worker = "import inloop; print(inloop.create_study(study_name='of a worker').study_name)"
    assert subprocess.check_output([sys.executable, "-c", worker], text=True).strip() == "of a worker"


LINGERING = """
    import atexit, os, time
    atexit.register(lambda: print("lingered" if time.monotonic() - end > 1.0 else "ended"))
    import inloop
    from inloop import ranks
    study = inloop.create_study(seed=0)
    ranks.lead(study.ask())
    idle = study._log.storage.elsewhere()
    idle.names()
    {launched}
    end = time.monotonic()
"""


@pytest.mark.parametrize(("launched", "end"), [("", "ended"), ("os.environ['LOCAL_RANK'] = '0'", "lingered")])
def test_the_end_of_a_study_waits_for_ranks_only(launched, end):
    code = textwrap.dedent(LINGERING).format(launched=launched)
    env = {k: v for k, v in os.environ.items() if k not in ("LOCAL_RANK", "INLOOP_LEADER")}
    assert subprocess.check_output([sys.executable, "-c", code], text=True, env=env).strip() == end


SCRIPT = """
    import logging, os, sys, warnings
    warnings.simplefilter("ignore")
    import inloop, torch
    import pytorch_lightning as pl
    from inloop.integrations.lightning import LightningPruningCallback
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    X = torch.rand(80, 4, generator=torch.Generator().manual_seed(0))
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, X.sum(1, keepdim=True)), batch_size=20)

    def say(*words):  # in one write: what several processes print in pieces gets mixed
        os.write(1, (" ".join(map(str, words)) + "\\n").encode())

    class Net(pl.LightningModule):
        def __init__(self, width):
            super().__init__()
            self.net = torch.nn.Sequential(torch.nn.Linear(4, width), torch.nn.ReLU(), torch.nn.Linear(width, 1))

        def training_step(self, batch, index):
            return torch.nn.functional.mse_loss(self.net(batch[0]), batch[1])

        def validation_step(self, batch, index):
            loss = torch.nn.functional.mse_loss(self.net(batch[0]), batch[1])
            self.log("val_loss", loss, sync_dist=True)
            if self.trainer.is_global_zero:
                self.log("of_one_rank", loss, rank_zero_only=True)

        def on_train_end(self):
            say("ended", self.global_rank, self.net[0].out_features, self.current_epoch)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    class Stop(inloop.pruners.Pruner):
        def prune(self, history, trial, stream, since=0):
            return trial.reports >= 2 + trial.number

    def objective(trial):
        width = trial.suggest_int("width", 2, 64)
        hook = LightningPruningCallback(trial, monitor, mode="min")
        trainer = pl.Trainer(
            max_epochs=5, callbacks=[hook], accelerator="cpu", devices=2, strategy=strategy, logger=False,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        )
        trainer.fit(Net(width), data, data)
        assert trial.pruned
        return float(trainer.callback_metrics["val_loss"])

    if __name__ == "__main__":
        strategy, storage, n_trials, monitor = sys.argv[1], sys.argv[2] or None, int(sys.argv[3]), sys.argv[4]
        study = inloop.create_study(pruner=Stop(), sampler="random", seed=0, storage=storage)
        study.enqueue_trial({"width": 7})
        study.optimize(objective, n_trials=n_trials)
        rank = os.environ.get("LOCAL_RANK", "0")
        say("study", rank, [(t.number, t.state.name, t.params["width"], t.reports) for t in study.trials])
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("strategy", "storage", "n_trials", "monitor"),
    [
        ("ddp", "", 2, "val_loss"),
        ("ddp", "study.db", 2, "of_one_rank"),
        ("ddp_spawn", "", 1, "val_loss"),
        ("ddp_fork", "", 2, "val_loss"),
    ],
)
def test_two_processes_train_the_same_trials_and_stop_at_the_same_step(strategy, storage, n_trials, monitor, tmp_path):
    script = tmp_path / "train.py"
    script.write_text(textwrap.dedent(SCRIPT))
    arguments = [strategy, storage, str(n_trials), monitor]
    done = subprocess.run(
        [sys.executable, script, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    lines = sorted(line for line in done.stdout.splitlines() if line.startswith(("ended", "study")))
    ended = [line.split()[1:] for line in lines if line.startswith("ended")]
    studies = [line.split(maxsplit=2) for line in lines if line.startswith("study")]
    assert [s[1] for s in studies] == (["0", "1"] if strategy == "ddp" else ["0"])
    trials = eval(studies[0][2])
    assert [eval(s[2]) for s in studies] == [trials] * len(studies)
    assert [(n, state, reports) for n, state, _, reports in trials] == [(n, "PRUNED", 2 + n) for n in range(n_trials)]
    assert trials[0][2] == 7
    assert sorted(ended) == sorted([r, str(width), str(2 + n)] for r in "01" for n, _, width, _ in trials)


@pytest.mark.slow
def test_a_trainer_of_the_other_package(tmp_path):
    pytest.importorskip("lightning")
    code = """
        import inloop
        import pytorch_lightning
        from inloop.integrations.lightning import LightningPruningCallback
        hook = LightningPruningCallback(inloop.create_study().ask(), "val_loss")
        import lightning.pytorch as pl
        from lightning.pytorch.demos.boring_classes import BoringModel
        trainer = pl.Trainer(max_epochs=1, callbacks=[hook], accelerator="cpu", logger=False)
        try:
            trainer.fit(BoringModel())
        except TypeError as error:
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert "The Trainer is of lightning.pytorch, but when this LightningPruningCallback was made, only" in done.stdout
