"""Laws of trials that run elsewhere: threads, processes, machines' executors; lost workers; leases."""

import concurrent.futures
import contextlib
import copy
import functools
import gc
import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import inloop
import numpy as np
import pytest
from inloop import Categorical, Float, Int, Space, Trial, TrialLost, TrialState
from inloop.parallel import width
from inloop.pruners import MedianPruner, NopPruner, SuccessiveHalvingPruner, ThresholdPruner
from inloop.reporter import reporter
from inloop.samplers import GridSampler, RandomSampler

SPACE = Space({"x": Float(-1, 1), "k": Int(1, 5), "c": Categorical(["a", "b"])})


def curve(trial):
    """A falling curve whose level is x**2; define-by-run or with a declared space."""
    x = trial.params["x"] if "x" in trial.params else trial.suggest_float("x", -1, 1)
    for step in range(12):
        trial.report(x**2 + 1 / (step + 1), step)
        if trial.should_prune():
            raise inloop.TrialPruned
    trial.set_user_attr("pid", os.getpid())
    return x**2


def dies_once(trial):
    """Kill the worker at the first try of each point that is unlucky."""
    x = trial.suggest_float("x", -1, 1)
    trial.report(x, 0)
    assert not trial.should_prune()  # what was reported is in the log now
    if trial.number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.2)  # so that the others are still at work when the death is noticed
    return x**2


def raises(trial):
    raise ZeroDivisionError(f"trial {trial.number}")


def pool(context):
    return concurrent.futures.ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(context))


def loky():
    return pytest.importorskip("loky").get_reusable_executor(max_workers=2)


@contextlib.contextmanager
def dask(workers=2, threads=1):
    distributed = pytest.importorskip("distributed")
    options = {"n_workers": workers, "threads_per_worker": threads, "dashboard_address": None, "silence_logs": 50}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
        yield client.get_executor()


@contextlib.contextmanager
def ray():
    ray = pytest.importorskip("ray")
    from inloop.integrations.ray import RayExecutor

    ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    yield RayExecutor()
    ray.shutdown()


EXECUTORS = {
    "threads": lambda: concurrent.futures.ThreadPoolExecutor(2),
    "fork": lambda: pool("fork"),
    "spawn": lambda: pool("spawn"),
    "loky": loky,
    "dask": dask,
    "ray": ray,
}


@pytest.fixture(params=EXECUTORS)
def executor(request):
    with EXECUTORS[request.param]() as e:
        yield e


@pytest.fixture(params=["memory", "sqlite"])
def storage(request, tmp_path):
    return None if request.param == "memory" else str(tmp_path / "study.db")


@pytest.mark.slow
def test_trials_travel_and_come_back(executor, storage):
    study = inloop.create_study(storage=storage, seed=0, sampler=RandomSampler(), pruner=MedianPruner())
    study.optimize(curve, n_trials=24, executor=executor)
    states = study.history.states
    assert states[TrialState.COMPLETE] + states[TrialState.PRUNED] == 24
    assert states[TrialState.PRUNED] >= 4  # live pruning across workers
    for t in study.trials:
        assert t.reports == 12 if t.state is TrialState.COMPLETE else 0 < t.reports <= 12
        assert t.curve[0] == t.params["x"] ** 2 + 1
    assert len({t.params["x"] for t in study.trials}) == 24


def stops(trial):
    if trial.number == 4:
        trial.study.stop()
    return trial.suggest_float("x", -1, 1) ** 2


def stops_and_fails(trial):
    trial.study.stop()
    raise ValueError("no")


@pytest.mark.slow
def test_an_objective_stops_the_search_from_where_it_runs(executor, storage):
    study = inloop.create_study(storage=storage, seed=0, sampler=RandomSampler())
    study.optimize(stops, n_trials=40, executor=executor)
    assert 5 <= len(study.trials) <= 12
    known = len(study.trials)
    study.optimize(stops, n_trials=8, executor=executor)  # the same workers
    assert len(study.trials) == known + 8
    assert study.history.states[TrialState.COMPLETE] == known + 8
    with pytest.raises(ValueError, match="no"):
        study.optimize(stops_and_fails, n_trials=1, executor=executor)
    known = len(study.trials)
    study.optimize(stops, n_trials=4, executor=executor)
    assert len(study.trials) == known + 4


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["fork", "spawn", "loky", "dask", "ray"], indirect=True)
def test_a_dead_worker_costs_its_trial_only(executor, storage, caplog):
    study = inloop.create_study(storage=storage, seed=0, sampler=RandomSampler(), pruner=NopPruner())
    study.optimize(dies_once, n_trials=12, executor=executor)
    states = study.history.states
    assert states[TrialState.RUNNING] == 0
    assert 1 <= states[TrialState.LOST] <= 3  # the pool takes those beside it down too
    assert states[TrialState.COMPLETE] == 12 - states[TrialState.LOST]
    lost = study.trials[3]
    assert lost.state is TrialState.LOST
    assert [t.params.get("x") for t in study.trials].count(lost.params["x"]) == 2  # offered again
    assert "is LOST" in caplog.text


def dies_the_first_time(marker, trial):
    x, stream = trial.suggest_float("x", -1, 1), trial.open_stream()
    for step in range(3):
        trial.report(x, step, stream)
        assert not trial.should_prune()
        if trial.number == 1 and not os.path.exists(marker):
            Path(marker).touch()
            os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.2)  # so that there is more to do when the death is noticed
    return x


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["dask"], indirect=True)
def test_a_trial_whose_task_is_run_again_is_lost_and_begun_anew(executor, storage, tmp_path, caplog):
    study = inloop.create_study(storage=storage, seed=0, sampler=RandomSampler(), pruner=NopPruner())
    objective = functools.partial(dies_the_first_time, str(tmp_path / "died"))
    study.optimize(objective, n_trials=10, executor=executor)
    ended = [(t.state, {stream: len(c) for stream, c in t.curves.items()}) for t in study.trials]
    whole = (TrialState.COMPLETE, {0: 3})
    assert ended == [whole, (TrialState.LOST, {0: 1}), *[whole] * 8]
    assert [t.params["x"] for t in study.trials].count(study.trials[1].params["x"]) == 2
    assert "trial 1 is LOST" in caplog.text


def set_up(text):
    os.environ["INLOOP_TEST"] = text


def dies_at_first(trial):
    if trial.number == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    trial.set_user_attr("seen", [os.getpid(), os.environ.get("INLOOP_TEST", "")])
    return 0.0


@pytest.mark.slow
@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.11 and newer have max_tasks_per_child")
def test_the_pool_that_replaces_a_broken_one_is_like_it():
    study = inloop.create_study(seed=0, sampler=RandomSampler())
    settings = {"mp_context": multiprocessing.get_context("spawn"), "max_tasks_per_child": 1}
    settings |= {"initializer": set_up, "initargs": ("set",)}
    with concurrent.futures.ProcessPoolExecutor(1, **settings) as executor:
        study.optimize(dies_at_first, n_trials=4, executor=executor)
    assert len({t.user_attrs["seen"][0] for t in study.trials[1:]}) == 3
    assert {t.user_attrs["seen"][1] for t in study.trials[1:]} == {"set"}


def dies_at_first_again_and_again(trial):
    if trial.number < 4:
        os._exit(1)
    return dies_at_first(trial)


def fails():
    raise RuntimeError("no GPU here")


def process_pool(context, workers, **settings):
    return concurrent.futures.ProcessPoolExecutor(workers, multiprocessing.get_context(context), **settings)


def loky_pool(make, workers, **settings):
    return getattr(pytest.importorskip("loky"), make)(workers, **settings)


POOLS = [
    functools.partial(process_pool, "fork"),
    pytest.param(functools.partial(process_pool, "spawn"), marks=pytest.mark.slow),
    pytest.param(functools.partial(loky_pool, "get_reusable_executor"), marks=pytest.mark.slow),
    pytest.param(functools.partial(loky_pool, "ProcessPoolExecutor"), marks=pytest.mark.slow),
]


@pytest.mark.parametrize("make", POOLS)
def test_a_pool_whose_workers_die_at_once_is_replaced_again_and_again(make, storage):
    study = inloop.create_study(storage=storage, seed=0, sampler=RandomSampler())
    with make(2, initializer=set_up, initargs=("set",)) as executor:
        study.optimize(dies_at_first_again_and_again, n_trials=7, executor=executor)
    complete = [t for t in study.trials if t.state is TrialState.COMPLETE]
    assert [t.state.name for t in study.trials if t not in complete] == ["LOST"] * (7 - len(complete))
    assert 1 <= len(complete) <= 3  # one that dies may take the next down too
    assert {t.user_attrs["seen"][1] for t in complete} == {"set"}


@pytest.mark.parametrize("n_trials", [1, 20])
@pytest.mark.parametrize("make", [*POOLS, concurrent.futures.ThreadPoolExecutor])
def test_a_pool_whose_workers_cannot_start_raises_its_error(make, n_trials, storage):
    study = inloop.create_study(storage=storage, seed=0, sampler=RandomSampler())
    with make(2, initializer=fails) as executor, pytest.raises(concurrent.futures.BrokenExecutor, match="initializer"):
        study.optimize(curve, n_trials=n_trials, executor=executor)
    assert [t.state.name for t in study.trials] == ["LOST"] * min(n_trials, 2)


RAY_ROOM = [  # options of a task, and how many of it fit into 4 CPUs, 1 GPU, 7 slots and 1 disk
    ({}, 4),
    ({"num_cpus": 2}, 2),
    ({"num_cpus": 0.1}, 40),
    ({"num_cpus": 8}, 1),
    ({"num_gpus": 1}, 1),
    ({"num_gpus": 0.5}, 2),
    ({"num_gpus": 0}, 4),
    ({"num_cpus": 0, "num_gpus": 0.1}, 10),
    ({"num_cpus": 0}, 4),
    ({"resources": {"slot": 2}}, 3),
    ({"num_cpus": 0.01, "resources": {"slot": 0.07}}, 100),
    ({"resources": {"slot": 0.5, "disk": 0.5}}, 2),
    ({"resources": {"not there": 1}}, 1),
]


@pytest.mark.slow
def test_ray_is_given_as_many_trials_as_there_is_room_for():
    ray = pytest.importorskip("ray")
    from inloop.integrations.ray import RayExecutor

    cluster = {"num_cpus": 4, "num_gpus": 1, "resources": {"slot": 7, "disk": 1}}
    ray.init(**cluster, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    try:
        assert [(options, width(RayExecutor(**options), n_jobs=1)) for options, _ in RAY_ROOM] == RAY_ROOM
        assert width(RayExecutor(num_gpus=1), n_jobs=7) == 7
    finally:
        ray.shutdown()


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "threads", "room"), [(1, 1, 1), (3, 1, 3), (1, 5, 5), (0, 1, os.cpu_count())])
def test_dask_is_given_as_many_trials_as_its_workers_have_threads(workers, threads, room):
    with dask(workers, threads) as executor:
        assert [width(executor, n_jobs) for n_jobs in (1, -1, 7)] == [room, room, 7]


@pytest.mark.slow
def test_errors_come_back(executor):
    study = inloop.create_study(seed=0, sampler=RandomSampler())
    with pytest.raises(ZeroDivisionError, match="trial "):
        study.optimize(raises, n_trials=5, executor=executor)
    assert study.history.states[TrialState.RUNNING] == 0
    study.optimize(raises, n_trials=3, executor=executor, catch=ZeroDivisionError)
    assert study.history.states[TrialState.FAILED] >= 4


class Late(concurrent.futures.ThreadPoolExecutor):
    """Its results arrive seconds after their tasks have ended, as those of a busy cluster."""

    def submit(self, *task):
        late = concurrent.futures.Future()
        late.set_running_or_notify_cancel()

        def hand_on(future):
            error = future.exception()
            late.set_result(None) if error is None else late.set_exception(error)

        super().submit(*task).add_done_callback(lambda future: threading.Timer(3.5, hand_on, [future]).start())
        return late


def raises_after_its_end(trial):
    if trial.number > 0:
        time.sleep(5)
    trial.study.tell(trial, 1.0)
    raise ZeroDivisionError(f"trial {trial.number}")


@pytest.mark.slow
@pytest.mark.parametrize(("objective", "trials"), [(raises, [0]), (raises_after_its_end, [0, 1])])
def test_an_error_that_arrives_after_the_end_of_its_trial_is_raised(objective, trials):
    study = inloop.create_study(seed=0, sampler=RandomSampler())
    with Late(1) as executor, pytest.raises(ZeroDivisionError, match="trial 0"):
        study.optimize(objective, n_trials=5, executor=executor)
    assert [t.number for t in study.trials] == trials


def lost_then_raises(trial):
    trial.study._log.finish(trial._record, TrialState.LOST, None)
    raise ZeroDivisionError


def test_what_the_worker_of_a_lost_trial_raises_does_not_end_the_search(caplog):
    study = inloop.create_study(seed=0, sampler=RandomSampler())
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        study.optimize(lost_then_raises, n_trials=3, executor=executor)
    assert [t.state for t in study.trials] == [TrialState.LOST] * 3
    assert "trial 2 is LOST; what its worker raised then: ZeroDivisionError()" in caplog.text


def cannot_be_made(text):
    raise TypeError("not here")


class StaysHere(Exception):
    """Can be pickled, but not unpickled."""

    def __reduce__(self):
        return cannot_be_made, self.args


def raises_what_cannot_travel(trial):
    raise StaysHere(f"trial {trial.number}")


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["fork", "spawn"], indirect=True)
def test_an_error_that_cannot_travel_is_told_of(executor):
    study = inloop.create_study(seed=0, sampler=RandomSampler())
    with pytest.raises(RuntimeError, match=r"StaysHere.*trial"):
        study.optimize(raises_what_cannot_travel, n_trials=4, executor=executor)
    assert study.history.states[TrialState.FAILED] == len(study.trials)


@pytest.mark.parametrize("n_jobs", [np.int64(1), np.int8(3), np.uint8(2), np.int64(-1)], ids=repr)
@pytest.mark.parametrize("elsewhere", [False, True])
def test_integers_of_numpy_count_jobs(n_jobs, elsewhere):
    study = inloop.create_study(seed=0, sampler=RandomSampler(), pruner=NopPruner())
    with concurrent.futures.ThreadPoolExecutor(2) as executor:
        study.optimize(curve, n_trials=4, n_jobs=n_jobs, executor=executor if elsewhere else None)
    assert [t.state for t in study.trials] == [TrialState.COMPLETE] * 4


class TakesNothing:
    def submit(self, *task):
        raise TypeError("nothing can be sent")


def shut():
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        return executor


@pytest.mark.parametrize(("executor", "error"), [(TakesNothing(), TypeError), (shut(), RuntimeError)])
def test_an_executor_that_takes_no_tasks_leaves_no_trial_running(executor, error):
    study = inloop.create_study(seed=0, sampler=RandomSampler())
    with pytest.raises(error):
        study.optimize(curve, n_trials=4, executor=executor)
    assert [t.state for t in study.trials] == [TrialState.FAILED]


@contextlib.contextmanager
def one_file(path):
    yield path, lambda: inloop.delete_study("s", path)


@contextlib.contextmanager
def new_files(path):
    def remove():
        for file in Path(path).parent.glob("study.db*"):
            file.unlink()

    yield path, remove


@contextlib.contextmanager
def one_server(path):
    with inloop.storage.Server(inloop.storage.MemoryStorage()) as server:
        storage = inloop.storage.ClientStorage(server.address, server.authkey)
        yield storage, lambda: inloop.delete_study("s", storage)


@pytest.mark.parametrize("place", [one_file, new_files, one_server])
def test_workers_that_outlive_a_study_serve_the_one_made_anew(tmp_path, place, caplog):
    with place(str(tmp_path / "study.db")) as (storage, remove), pool("fork") as executor:
        for n in (3, 5, 4):
            study = inloop.create_study(storage=storage, study_name="s", seed=n, sampler="random", pruner=NopPruner())
            study.optimize(curve, n_trials=n, executor=executor)
            assert [(t.state, t.reports) for t in study.trials] == [(TrialState.COMPLETE, 12)] * n
            assert not caplog.records  # of broken pools, above all
            remove()


def test_a_trial_does_not_arrive_in_another_study_of_its_name(tmp_path):
    path = str(tmp_path / "study.db")
    study = inloop.create_study(storage=path, study_name="s", seed=0)
    payload = pickle.dumps(study.ask())
    inloop.delete_study("s", path)
    other = inloop.create_study(storage=path, study_name="s", seed=1)
    other.ask()
    with pool("spawn") as executor, pytest.raises(inloop.StudyNotFound, match="was deleted"):
        executor.submit(pickle.loads, payload).result()
    assert [t.params for t in other.trials] == [{}]


def test_studies_that_take_turns_on_a_pool_stay_open_there(storage):
    studies = [inloop.create_study(storage=storage, seed=n, sampler="random", pruner="nop") for n in range(3)]
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as executor:
        for study in studies * 3:
            study.optimize(curve, n_trials=1, executor=executor)
        assert [len({t.worker for t in study.trials}) for study in studies] == [1, 1, 1]
        for n in range(9):  # many more take their turn
            study = inloop.create_study(storage=storage, seed=n, sampler="random", pruner="nop")
            study.optimize(curve, n_trials=1, executor=executor)
        assert executor.submit(count_opened).result() == 8


def count_opened():
    return len(inloop.address._opened)


def fork_while_locked(lock, work):
    """Call ``work`` in a forked child, while another thread of the parent has a lock; return its exit status."""
    held, done = threading.Event(), threading.Event()

    def hold():
        with lock:
            held.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    done.set()
    thread.join()
    child.join(10)
    child.kill()
    return child.exitcode


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_may_come_while_another_thread_opens_a_study_or_begins_to_serve_it(storage):
    study = inloop.create_study(storage=storage, seed=0)
    payload = pickle.dumps(study.ask())
    assert fork_while_locked(inloop.address._lock, lambda: pickle.loads(payload)) == 0
    if storage is None:
        place = study._log.storage
        assert fork_while_locked(place._lock, place.names) == 0


class Forgets:
    def submit(self, *task):
        future = concurrent.futures.Future()
        future.set_result(None)
        return future


def test_a_trial_that_nothing_was_heard_of_is_lost_with_a_warning(caplog):
    study = inloop.create_study(seed=0, sampler=RandomSampler())
    study.optimize(curve, n_trials=2, executor=Forgets())
    assert [t.state for t in study.trials] == [TrialState.LOST] * 2
    assert [f"trial {n} is LOST: its task has ended" in caplog.text for n in range(3)] == [True, True, False]


def report_and_return(trial):
    """What a worker does that leaves it to others to ask the pruner and to tell."""
    x = trial.suggest_float("x", -1, 1)
    for step in range(3):
        trial.report(x, step)
    return x


@pytest.mark.slow
@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_what_a_worker_said_is_known_when_it_is_done(context, storage):
    study = inloop.create_study(storage=storage, seed=0, sampler=RandomSampler())
    trial = study.ask()
    with pool(context) as executor:
        x = executor.submit(report_and_return, trial).result()
    frozen = study.tell(trial, x)
    assert (frozen.params, frozen.curve) == ({"x": x}, {0: x, 1: x, 2: x})


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("handle", [lambda trial: trial, copy.copy], ids=["the", "a copy"])
def test_what_a_forked_child_said_is_known_when_it_is_done(tmp_path, handle):
    study = inloop.create_study(storage=str(tmp_path / "study.db"), seed=0, sampler=RandomSampler())
    trial = study.ask()
    trial.suggest_float("x", -1, 1)
    child = multiprocessing.get_context("fork").Process(target=lambda: report_and_return(handle(trial)))
    child.start()
    child.join()
    assert len(study.tell(trial, 1.0).curve) == 3


MPI = """
    import inloop
    from mpi4py.futures import MPIPoolExecutor
    from inloop.pruners import MedianPruner

    def curve(trial):
        x = trial.suggest_float("x", -1, 1)
        for step in range(12):
            trial.report(x**2 + 1 / (step + 1), step)
            if trial.should_prune():
                raise inloop.TrialPruned
        return x**2

    if __name__ == "__main__":
        with MPIPoolExecutor(2) as executor:
            study = inloop.create_study(seed=0, sampler="random", pruner=MedianPruner())
            study.optimize(curve, n_trials=20, n_jobs=2, executor=executor)
            print(*(t.state.name for t in study.trials))
"""


@pytest.mark.slow
def test_trials_travel_over_mpi(tmp_path):
    pytest.importorskip("mpi4py")
    mpiexec = shutil.which("mpiexec", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if mpiexec is None:
        pytest.skip("there is no mpiexec")
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(MPI))
    allowed = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    command = [mpiexec, "--oversubscribe", "-n", "3", sys.executable, "-m", "mpi4py.futures", str(script)]
    out = subprocess.run(command, env={**os.environ, **allowed}, capture_output=True, text=True, timeout=120)
    states = out.stdout.split()
    assert len(states) == 20, out.stderr
    assert set(states) == {"COMPLETE", "PRUNED"}


@pytest.mark.slow
def test_what_cannot_be_pickled_says_so():
    study = inloop.create_study(seed=0)
    with pool("fork") as executor, pytest.raises((pickle.PicklingError, AttributeError, TypeError)):
        study.optimize(lambda trial: 0.0, n_trials=2, executor=executor)
    assert study.history.states[TrialState.RUNNING] == 0
    with pytest.raises(TypeError, match="must have a submit method"):
        study.optimize(curve, n_trials=1, executor=object())


# Workers in turns: each takes itself to be alone until it sees others


def first_and_second(tmp_path, space):
    path = f"{tmp_path}/s.db"
    one = inloop.create_study(storage=path, study_name="s", space=space, seed=0)
    two = inloop.load_study("s", path)
    one.tell(one.ask(), 1.0)
    assert one._log.alone
    return one, two


def test_a_worker_that_took_itself_to_be_alone_leaves_the_grid_as_it_is(tmp_path):
    one, two = first_and_second(tmp_path, {"k": Int(1, 6)})
    trials = [two.ask() for _ in range(4)]
    mine = one.ask()
    with pytest.raises(inloop.StudyStopped, match=r"exhausted|tried"):
        one.ask()
    with pytest.raises(inloop.StudyStopped, match=r"exhausted|tried"):
        two.ask()
    assert sorted(t.params["k"] for t in one.trials) == list(range(1, 7))
    assert len({t.number for t in [*trials, mine]}) == 5


def test_a_worker_that_took_itself_to_be_alone_gets_what_others_enqueue(tmp_path):
    one, two = first_and_second(tmp_path, SPACE)
    two.enqueue_trial({"x": 0.25})
    assert one.ask().params["x"] == 0.25


def test_the_first_end_counts_also_for_a_worker_that_took_itself_to_be_alone(tmp_path):
    one, two = first_and_second(tmp_path, SPACE)
    trial = one.ask()
    two.tell(trial.number, 3.0)
    with pytest.raises(ValueError, match=r"trial 1 was told before \(COMPLETE, value=3.0\)"):
        one.tell(trial, 2.0)
    other = one.ask()
    two.ask()  # somebody has written, but not about this trial
    assert one.tell(other, 2.0).value == 2.0
    assert [t.value for t in two.trials] == [1.0, 3.0, 2.0, None]


def test_pruned_is_pruned_also_for_a_worker_that_took_itself_to_be_alone(tmp_path):
    one, two = first_and_second(tmp_path, SPACE)
    one.pruner = two.pruner = ThresholdPruner(upper=0.0)
    for value in (None, 2.0):
        one.tell(one.ask(), 1.0)  # alone again
        trial = one.ask()
        elsewhere = Trial(two, two.trials[trial.number], {})
        elsewhere.report(1.0, 0)
        assert elsewhere.should_prune()
        assert one.tell(trial, value).state is TrialState.PRUNED


def test_a_worker_that_took_itself_to_be_alone_is_told_that_its_trial_was_lost(tmp_path):
    one, two = first_and_second(tmp_path, SPACE)
    for told in ((), (1.0,)):
        one.tell(one.ask(), 1.0)
        trial = one.ask()
        two._log.finish(two.trials[trial.number], TrialState.LOST, None)
        with pytest.raises(TrialLost):
            one.tell(trial, *told)


def test_workers_in_turns_do_not_take_themselves_to_be_alone(tmp_path):
    one, two = first_and_second(tmp_path, SPACE)
    for study in (two, one, two, one, two):
        trial = study.ask()
        assert not study._log.alone or study is one
        study.tell(trial, 1.0)
    assert not one._log.alone
    assert len({t.number for t in one.trials}) == 6


def ask_and_tell(study):
    for _ in range(3):
        study.tell(study.ask(), 1.0)


@pytest.mark.slow
def test_a_child_forked_right_after_ask_goes_on(tmp_path):
    """The thread that renews the lease has just started, and may be at the log."""
    study = inloop.create_study(storage=f"{tmp_path}/s.db", study_name="s", space=SPACE, sampler="random", seed=0)
    for _ in range(30):
        trial = study.ask()
        child = multiprocessing.get_context("fork").Process(target=ask_and_tell, args=(study,))
        child.start()
        child.join(30)
        assert child.exitcode == 0
        study.tell(trial, 1.0)
    assert len(study.trials) == 30 * 4


# Copies


def test_a_trial_pickled_at_home_is_the_same_trial():
    study = inloop.create_study(seed=0, space=SPACE)
    trial = study.ask()
    again = pickle.loads(pickle.dumps(trial))
    assert again.study is study
    again.report(1.0, 0)
    assert study.trials[0].curve == {0: 1.0}


def test_a_study_in_memory_is_pickled_as_a_copy():
    marker = object
    study = inloop.create_study(seed=0, sampler=RandomSampler(), space={"x": Float(0, 1), "c": [marker, None]})
    study.optimize(lambda t: t.params["x"], n_trials=10)
    for again in (pickle.loads(pickle.dumps(study)), copy.deepcopy(study)):
        assert [(t.params, t.value) for t in again.trials] == [(t.params, t.value) for t in study.trials]
        again.optimize(lambda t: t.params["x"], n_trials=1)
        assert len(again.trials) == 11
    assert len(study.trials) == 10


def child(payload, queue):
    trial = pickle.loads(payload)
    trial.report(2.0, 1)
    queue.put((trial.params, trial.should_prune(), trial.pruned))


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_a_trial_of_a_study_in_memory_reports_from_another_process(context):
    study = inloop.create_study(seed=0, space=SPACE, pruner=SuccessiveHalvingPruner(min_resource=1))
    for _ in range(3):
        study.add_trial({"x": 0.0, "k": 1, "c": "a"}, 0.0, curve={0: 0.0, 1: 0.0, 2: 0.0})
    trial = study.ask()
    trial.report(1.0, 0)
    mp = multiprocessing.get_context(context)
    queue = mp.Queue()
    process = mp.Process(target=child, args=(pickle.dumps(trial), queue))
    process.start()
    assert queue.get(timeout=60) == (trial.params, True, True)
    process.join()
    assert trial.should_prune()
    assert study.trials[3].curve == {0: 1.0, 1: 2.0}
    assert study.tell(trial, 0.0).state is TrialState.PRUNED


SEARCHES_IN_A_FUNCTION = """
    import joblib, inloop, time
    from concurrent.futures import ProcessPoolExecutor
    from joblib.externals.loky import get_reusable_executor

    def fold(trial, i):
        trial.report(float(i), 0, stream=i)
        return 1.0

    def search(executor):
        study = inloop.create_study(sampler="random", seed=0)
        study.optimize(lambda trial: sum(executor.map(fold, [trial, trial], [0, 1])), n_trials=2)

    if __name__ == "__main__":
        executor = {}(2)
        search(executor)
        start = time.monotonic()
        executor.shutdown()
        assert time.monotonic() - start < 15
"""


@pytest.mark.parametrize("pool", ["ProcessPoolExecutor", "get_reusable_executor"])
def test_workers_of_a_study_that_is_gone_end_at_once_and_quietly(pool, tmp_path):
    (tmp_path / "script.py").write_text(textwrap.dedent(SEARCHES_IN_A_FUNCTION).format(pool))
    done = subprocess.run([sys.executable, tmp_path / "script.py"], capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_a_study_in_memory_that_is_gone_will_not_get_is_told_once(caplog):
    lease = 40.0  # long enough for the report to come before anybody has looked for the study
    study = inloop.create_study(seed=0, lease=lease, pruner="nop")
    elsewhere = study._log.storage.elsewhere()
    client = inloop.study.Study(study.study_name, elsewhere, study.sampler, study.pruner, None, lease).ask()
    name = study.study_name
    del study
    gc.collect()
    client.report(1.0, 0)
    wait_until(lambda: caplog.messages)
    client.study._log.flush()  # as the end of the process does
    assert len(caplog.messages) == 1
    said = f"parameters and reports of trials [0] of study {name!r} could not be written: No study named"
    assert caplog.messages[0].startswith(said)
    with pytest.raises(inloop.StudyNotFound, match="memory of another process"):
        client.should_prune()


ENDS_WITHOUT_ITS_SERVER = """
    import sys, time
    import inloop
    inloop.log._EXIT = 1.0
    study = inloop.create_study(storage=sys.argv[1], study_name="s", sampler="random")
    trial = study.ask()
    trial.report(1.0, 0)
    print("reported", flush=True)
    sys.stdin.readline()
    trial.report(1.0, 1)
    time.sleep(float(sys.argv[2]))
"""


@pytest.mark.parametrize("pause", ["0", "2"])  # in the latter the thread that writes reports is waiting, too
def test_the_end_of_a_process_does_not_wait_long_for_a_server(pause, tmp_path):
    (tmp_path / "key").write_bytes(b"a key of the test")
    storage = inloop.storage.SqliteStorage(tmp_path / "s.db")
    with storage, inloop.storage.Server(storage, authkey=b"a key of the test") as server:
        url = f"inloop://127.0.0.1:{server.address[1]}?authkey-file={tmp_path / 'key'}"
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(ENDS_WITHOUT_ITS_SERVER), url, pause], **pipes
        )
        assert process.stdout.readline() == "reported\n"
    start = time.monotonic()
    _, said = process.communicate("go\n", timeout=100)
    assert time.monotonic() - start < 15  # a server may restart within 30
    assert said.count("\n") == 1 + said.count("could not be renewed")
    assert "parameters and reports of trials [0] of study 's' could not be written" in said


def forked(study, queue):
    try:
        study.ask()
    except RuntimeError as error:
        queue.put(str(error))


def test_a_forked_copy_of_a_study_in_memory_refuses_to_lose_reports():
    mp = multiprocessing.get_context("fork")
    queue = mp.Queue()
    process = mp.Process(target=forked, args=(inloop.create_study(seed=0), queue))
    process.start()
    assert "forked copy" in queue.get(timeout=60)
    process.join()


def test_choices_that_json_cannot_hold(tmp_path):
    path = str(tmp_path / "s.db")
    space = {"c": [len, np.arange(2), (1, 2), None], "x": Float(0, 1)}
    study = inloop.create_study(storage=path, study_name="s", space=space, seed=0, sampler=RandomSampler())
    study.optimize(lambda t: float(t.params["c"] is len), n_trials=8)
    with pytest.raises(ValueError, match="give the same space again"):
        inloop.load_study("s", path)
    with pytest.raises(ValueError, match="The study's space is"):
        inloop.load_study("s", path, space={"c": [min, max]})
    again = inloop.load_study("s", path, space=space)
    assert [t.params["x"] for t in again.trials] == [t.params["x"] for t in study.trials]
    assert all(a.params["c"] is b.params["c"] for a, b in zip(again.trials, study.trials, strict=True))
    free = inloop.create_study(storage=path, study_name="free", seed=0, sampler=RandomSampler())
    free.optimize(lambda t: float(t.suggest_categorical("f", [len, sum]) is len), n_trials=4)
    late = inloop.load_study("free", path, sampler=RandomSampler())
    assert "built-in function" in repr(late.trials[0].params["f"])
    late.optimize(lambda t: float(t.suggest_categorical("f", [len, sum]) is len), n_trials=1)
    assert {t.params["f"] for t in late.trials} <= {len, sum}


# Leases


def test_the_trial_of_a_silent_worker_is_lost_and_offered_again(tmp_path):
    path = str(tmp_path / "s.db")
    script = f"""
        import inloop, sys, time
        study = inloop.create_study(storage={path!r}, study_name="s", load_if_exists=True, seed=0, lease=1.0)
        trial = study.ask()
        trial.suggest_float("x", 0, 1)
        trial.report(1.0, 0)
        trial.should_prune()
        print("ready", flush=True)
        time.sleep(60)
    """
    worker = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True)
    assert worker.stdout.readline() == "ready\n"
    study = inloop.load_study("s", path, lease=1.0)
    x = study.trials[0].params["x"]
    time.sleep(1.5)
    first = study.ask()  # the worker is idle, but its lease is renewed
    assert study.trials[0].state is TrialState.RUNNING
    study.tell(first, 1.0)
    worker.kill()
    worker.wait()
    deadline = time.monotonic() + 20
    while study.trials[0].state is TrialState.RUNNING and time.monotonic() < deadline:
        time.sleep(0.3)
        study.tell(study.ask(), 1.0)
    assert study.trials[0].state is TrialState.LOST
    again = [t for t in study.trials[1:] if t.queued and t.queued.get("x") == x]
    assert [t.retry for t in again] == [1]


@contextlib.contextmanager
def clock_behind(seconds):
    """Have the time of day be some seconds ago."""
    now = time.time
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time", lambda: now() - seconds)
        yield


@pytest.mark.parametrize(
    ("seconds", "beats", "lost"),
    [
        (0, [], False),
        (300, [], False),  # clocks may be wrong
        (-3600, [], False),
        (3600, [], True),
        (3600, [-3500.0], True),
        (3600, [-3500.0, -10.0], False),
        (3600, [None], False),  # of an older version, which tells no time
    ],
)
def test_who_was_silent_long_before_the_study_was_opened_is_lost_at_once(tmp_path, seconds, beats, lost):
    place, sampler = {"study_name": "s", "storage": str(tmp_path / "s.db")}, GridSampler({"x": [1, 2, 3]})
    silent = inloop.create_study(**place, sampler=sampler, seed=0)
    with clock_behind(seconds):
        trial = silent.ask()
    silent._log.write(*(("beat", -1, beat and time.time() + beat) for beat in beats))
    study = inloop.load_study(**place, sampler=sampler)
    study.optimize(lambda t: t.suggest_int("x", 1, 3))
    assert study.trials[0].state is (TrialState.LOST if lost else TrialState.RUNNING)
    kept = [] if lost else [trial._proposal["x"]]
    assert sorted(kept + [t.params["x"] for t in study.trials[1:]]) == [1, 2, 3]
    if lost:
        with pytest.raises(TrialLost):
            silent.tell(trial, 1.0)


@pytest.mark.parametrize("reports", [False, True])
def test_enqueued_parameters_outlive_the_worker_that_dies_with_them(tmp_path, reports):
    place = {"study_name": "s", "storage": str(tmp_path / "s.db"), "sampler": "random"}
    dies = inloop.create_study(**place, seed=0)
    dies.enqueue_trial({"x": 0.125})
    with clock_behind(3600):
        trial = dies.ask()
    if reports:
        trial.report(trial.suggest_float("x", 0, 1), 0)
        trial.should_prune()
    study = inloop.load_study(**place)
    study.optimize(lambda t: t.suggest_float("x", 0, 1), n_trials=1)
    assert study.best_params == {"x": 0.125}


def test_a_worker_that_is_never_silent_writes_the_time_of_day_too(tmp_path):
    study = inloop.create_study(storage=str(tmp_path / "s.db"), study_name="s", seed=0, lease=0.2)
    trial, start, step = study.ask(), time.time(), 0
    while time.time() - start < 2.0:
        trial.report(0.5, step)
        trial.should_prune()
        step += 1
        time.sleep(0.01)
        assert time.time() - study._history.heard[study._log.worker] < 1.5


def test_a_worker_that_comes_back_is_told(tmp_path):
    path = str(tmp_path / "s.db")
    script = f"""
        import inloop, sys, time
        study = inloop.create_study(storage={path!r}, study_name="s", load_if_exists=True, seed=0, lease=0.5)
        trial = study.ask()
        trial.report(trial.suggest_float("x", 0, 1), 0)
        trial.should_prune()
        print("ready", flush=True)
        sys.stdin.readline()
        try:
            trial.report(0.5, 1)
            trial.should_prune()
        except inloop.TrialLost as error:
            print("lost:", error)
        def objective(trial):
            return trial.suggest_float("x", 0, 1)
        study.optimize(objective, n_trials=1)
        print(study.trials[-1].state.name)
    """
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    worker = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], **pipes)
    assert worker.stdout.readline() == "ready\n"
    worker.send_signal(signal.SIGSTOP)
    study = inloop.load_study("s", path, lease=0.5)
    deadline = time.monotonic() + 20
    while study.trials[0].state is TrialState.RUNNING and time.monotonic() < deadline:
        time.sleep(0.2)
        study.tell(study.ask(), 1.0)
    assert study.trials[0].state is TrialState.LOST
    worker.send_signal(signal.SIGCONT)
    out, _ = worker.communicate("go\n", timeout=60)
    assert "lost: trial 0 was given back" in out
    assert "COMPLETE" in out
    assert list(study.trials[0].curve) == [0]  # the late report is ignored


def test_a_lost_trial_is_offered_so_many_times():
    study = inloop.create_study(seed=0, space=SPACE, retry=2)
    x = study.ask().params["x"]
    for n in range(4):
        trial = study.trials[n]
        study._log.finish(trial, TrialState.LOST, None)
        study.ask()
    assert [t.params["x"] == x for t in study.trials] == [True, True, True, False, False]


def test_lost_is_said_at_every_call():
    study = inloop.create_study(seed=0, space=SPACE)
    trial = study.ask()
    study._log.finish(study.trials[0], TrialState.LOST, None)
    for call in (
        lambda: trial.report(1.0, 0),
        trial.should_prune,
        lambda: trial.set_user_attr("a", 1),
        lambda: study.tell(trial, 1.0),
        lambda: trial.suggest_float("new", 0, 1),
    ):
        with pytest.raises(TrialLost, match="given back"):
            call()


# Many workers on one file

WORKER = """
    import inloop, sys
    from inloop.samplers import RandomSampler
    create = dict(storage=sys.argv[1], study_name="s", load_if_exists=True, seed=7, sampler=RandomSampler())
    study = inloop.create_study(**create)
    def objective(trial):
        x = trial.suggest_float("x", 0, 1)
        for step in range(3):
            trial.report(x, step)
            trial.should_prune()
        return x
    study.optimize(objective, n_trials=int(sys.argv[2]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "trials"), [(8, 25), (16, 100)])
def test_the_same_script_many_times(workers, trials, tmp_path):
    """Numbers are unique and dense, and the points differ though every worker has the same seed."""
    path = str(tmp_path / "s.db")
    command = [sys.executable, "-c", textwrap.dedent(WORKER), path, str(trials)]
    processes = [subprocess.Popen(command) for _ in range(workers)]
    assert [p.wait() for p in processes] == [0] * workers
    study = inloop.load_study("s", path)
    assert [t.number for t in study.trials] == list(range(workers * trials))
    ended = study.history.states[TrialState.COMPLETE] + study.history.states[TrialState.PRUNED]
    assert ended == workers * trials
    assert len({t.params["x"] for t in study.trials}) == workers * trials
    assert len({t.worker for t in study.trials}) == workers


@pytest.mark.parametrize("how", ["report", "hook"])
def test_a_client_that_beats_is_not_lost_while_the_owner_only_writes(how):
    lease = 40.0  # long enough for the report to come before anybody has looked for the study
    study = inloop.create_study(seed=0, lease=lease, pruner="nop")
    elsewhere = study._log.storage.elsewhere()
    client = inloop.study.Study(study.study_name, elsewhere, study.sampler, study.pruner, None, lease).ask()
    end = time.monotonic() + 1.2
    while time.monotonic() < end:
        trial = study.ask()
        for step in range(20):
            if how == "hook":
                reporter(trial, 0)(1.0, step)
            else:
                trial.report(1.0, step)
            time.sleep(0.005)
        study.tell(trial, 1.0)
    assert study.history.trials[client.number].state.name == "RUNNING"
    client.report(1.0, 0)
    assert not client.should_prune()


def test_hooks_of_several_studies_on_one_log_in_memory():
    """What each study has folded is the log, though its writers come between one another at every step."""
    storage = inloop.storage.MemoryStorage()
    first = inloop.create_study(seed=0, storage=storage, study_name="s", sampler="random", pruner="nop")
    studies = [first, *(inloop.load_study("s", storage, sampler="random", pruner="nop") for _ in range(2))]
    steps = 1500

    def hook(trial):
        say = reporter(trial, 0)
        return [say(1.0 / (1 + step), step) for step in range(steps)]

    def plain(study):
        for _ in range(steps // 30):
            trial = study.ask()
            for step in range(10):
                trial.report(0.5, step)
            study.tell(trial, 1.0)
        return []

    trials = [study.ask() for study in studies for _ in range(2)]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with concurrent.futures.ThreadPoolExecutor(9) as pool:
            futures = [*(pool.submit(hook, t) for t in trials), *(pool.submit(plain, s) for s in studies)]
            done = [f.result() for f in futures]
    finally:
        sys.setswitchinterval(before)
    assert not any(any(said) for said in done)
    events = storage.read("s", 0)
    assert len({e.uid for e in events}) == len(events)
    for study in studies:
        shown = [(t.number, t.state, t.reports, t.curve) for t in study.trials]
        assert shown == [(t.number, t.state, t.reports, t.curve) for t in first.trials]
        assert study.history.events == len(events)
    assert [t.reports for t in first.trials[: len(trials)]] == [steps] * len(trials)
    assert len(first.trials) == len(trials) + len(studies) * (steps // 30)


# Ranks that a trial has launched

RANKS = """
    import os, subprocess, sys, time
    import inloop
    from inloop import ranks
    rank = os.environ.get("LOCAL_RANK", "0")
    study = inloop.create_study(seed=0, sampler="random")
    launched, done = [], []

    def objective(trial):
        if rank == "0" and not launched:
            ranks.lead(trial)
            launched.append(subprocess.Popen([sys.executable, *sys.argv], env={**os.environ, "LOCAL_RANK": "1"}))
        if rank == "1":
            study._wait(lambda: len(study.trials) >= 3)  # the leader is ahead
        if trial.number == 2 and sys.argv[1] == "objective":
            trial.study.stop()
        return trial.suggest_float("x", 0, 1)

    def callback(study, trial):
        done.append(trial.number)
        if len(study.trials) >= 3 and sys.argv[1] == "callback":
            study.stop()

    for _ in range(2):
        study.optimize(objective, n_trials=5, callbacks=[callback])
    os.write(1, f"{rank} {done}\\n".encode())
    for process in launched:
        sys.exit(process.wait())
"""


@pytest.mark.parametrize(("stops", "trials"), [("callback", [0, 1, 2, 3]), ("objective", [0, 1, 2, 3, 4, 5, 6, 7])])
def test_a_rank_stops_where_its_leader_does(stops, trials, tmp_path):
    script = tmp_path / "train.py"
    script.write_text(textwrap.dedent(RANKS))
    done = subprocess.run([sys.executable, script, stops], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == [f"{rank} {trials}" for rank in "01"]


# The silence of executors' workers


def stops_at_last(trial):
    x = trial.suggest_float("x", 0, 1)
    trial.report(x, 0)
    assert not trial.should_prune()  # what was reported is in the log now
    if trial.number == 2:
        os.kill(os.getpid(), signal.SIGSTOP)
    return x


def kill_all(executor):
    for process in executor._processes.values():
        process.kill()


def test_a_search_does_not_wait_for_a_worker_that_stopped_in_its_last_trial(storage, caplog):
    study = inloop.create_study(storage=storage, seed=0, lease=0.5, sampler="random", pruner="nop")
    with pool("fork") as executor:
        end = threading.Timer(20, kill_all, [executor])
        end.start()
        study.optimize(stops_at_last, n_trials=3, executor=executor)
        assert [t.state.name for t in study.trials] == ["COMPLETE", "COMPLETE", "LOST"]
        assert "trial 2 is LOST: nothing heard of its worker" in caplog.text
        study.optimize(stops_at_last, n_trials=1, executor=executor)
        assert study.trials[3].params == study.trials[2].params  # offered again
        end.cancel()
        kill_all(executor)


def ask_twice(study):
    study.tell(study.ask(), 1.0)
    study.ask()


def test_a_forked_child_does_not_take_its_parent_for_silent(tmp_path):
    first = inloop.create_study(storage=str(tmp_path / "s.db"), study_name="s", seed=0, lease=1.0, sampler="random")
    first.tell(first.ask(), 1.0)
    study = inloop.load_study("s", str(tmp_path / "s.db"), lease=1.0, sampler="random")
    time.sleep(1.1)  # the study is open for longer than a lease
    trial = study.ask()
    process = multiprocessing.get_context("fork").Process(target=ask_twice, args=(study,))
    process.start()
    process.join(60)
    assert process.exitcode == 0
    trial.report(1.0, 0)
    assert not trial.should_prune()
    assert trial.state is TrialState.RUNNING
    assert len(study.trials) == 4


def hold(path):
    trial = inloop.load_study("s", path, lease=1.0).ask()
    time.sleep(60)
    assert trial


def look_on(path):
    study = inloop.load_study("s", path, lease=1.0)
    for _ in range(600):
        study.tell(study.ask(), 1.0)
        time.sleep(0.1)


def wait_until(come):
    deadline = time.monotonic() + 30
    while not come():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def stop_and_go_on(pids, first):
    """Stop processes for longer than a lease of 1 s; the one that goes on first is soon followed by the others."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(2.5)
    os.kill(first, signal.SIGCONT)
    time.sleep(0.4)
    for pid in pids:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.slow
def test_processes_that_were_stopped_together_go_on_together(tmp_path):
    path = str(tmp_path / "s.db")
    study = inloop.create_study(storage=path, study_name="s", lease=1.0)
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=work, args=(path,)) for work in (hold, look_on)]
    try:
        for process, trials in zip(processes, (1, 5), strict=True):
            process.start()
            wait_until(lambda least=trials: len(study.trials) >= least)
        stop_and_go_on([p.pid for p in processes], processes[1].pid)
        there = len(study.trials)
        wait_until(lambda: len(study.trials) > there + 2)
        assert study.trials[0].state is TrialState.RUNNING
    finally:
        for process in processes:
            process.kill()


def reports_and_sleeps(trial):
    trial.report(1.0, 0)
    trial.should_prune()
    time.sleep(5.0)
    return 1.0


def search_on_a_pool(path):
    study = inloop.load_study("s", path, lease=1.0, sampler="random", pruner="nop")
    inloop.parallel._LOOK = 0.05  # far more often than workers renew their leases
    with pool("fork") as executor:
        study.optimize(reports_and_sleeps, n_trials=2, executor=executor)


@pytest.mark.slow
def test_a_pool_that_was_stopped_with_its_search_goes_on_with_it(tmp_path):
    path = str(tmp_path / "s.db")
    study = inloop.create_study(storage=path, study_name="s", lease=1.0)
    search = multiprocessing.get_context("fork").Process(target=search_on_a_pool, args=(path,))
    search.start()
    wait_until(lambda: [t.reports == 1 for t in study.trials] == [True, True])
    time.sleep(1.6)  # the search, whose trials are all with workers, has no lease to renew any more
    workers = Path(f"/proc/{search.pid}/task/{search.pid}/children").read_text().split()
    stop_and_go_on([search.pid, *map(int, workers)], search.pid)
    search.join(60)
    assert search.exitcode == 0
    assert [t.state.name for t in study.trials] == ["COMPLETE", "COMPLETE"]


@pytest.mark.parametrize("lease", [float("inf"), 1e300])
def test_a_lease_may_be_for_ever(lease, tmp_path):
    path = str(tmp_path / "s.db")
    study = inloop.create_study(storage=path, study_name="s", lease=lease)
    before = set(threading.enumerate())
    trial = study.ask()
    time.sleep(0.1)
    assert len(set(threading.enumerate()) - before) == 1  # the thread that renews the lease lives
    other = inloop.load_study("s", path)
    other.tell(other.ask(), 1.0)
    study.tell(trial, 1.0)
    assert [t.state.name for t in study.trials] == ["COMPLETE", "COMPLETE"]


# Ray


def is_killed(trial):
    trial.report(trial.suggest_float("x", 0, 1), 0)
    trial.should_prune()
    time.sleep(60)


@pytest.mark.slow
def test_a_worker_that_ray_kills_for_its_memory_costs_its_trial_only(monkeypatch, caplog):
    ray = pytest.importorskip("ray")
    from inloop.integrations.ray import RayExecutor

    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "100")
    monkeypatch.setenv("RAY_memory_usage_threshold", "0.0001")  # whatever is used is too much
    ray.init(num_cpus=1, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    try:
        study = inloop.create_study(seed=0, sampler="random", pruner="nop")
        study.optimize(is_killed, n_trials=2, executor=RayExecutor())
    finally:
        ray.shutdown()
    assert [t.state.name for t in study.trials] == ["LOST", "LOST"]
    assert "OutOfMemoryError" in caplog.text


def fills_the_gpu(trial):
    import torch

    raise torch.cuda.OutOfMemoryError("CUDA out of memory")


def test_a_full_gpu_is_an_error_of_the_objective():
    pytest.importorskip("torch")  # whose exception has the name of the one that Ray has for a killed worker
    study = inloop.create_study(seed=0)
    with concurrent.futures.ThreadPoolExecutor(1) as executor, pytest.raises(RuntimeError, match="CUDA"):
        study.optimize(fills_the_gpu, n_trials=3, executor=executor)
    assert [t.state.name for t in study.trials] == ["FAILED"]


@pytest.mark.slow
def test_ray_gets_the_function_of_a_search_once():
    with ray() as executor:
        study = inloop.create_study(seed=0, sampler="random")
        study.optimize(square, n_trials=3, executor=executor)
        task = executor._task
        study.optimize(square, n_trials=3, executor=copy.deepcopy(executor))
        study.optimize(square, n_trials=3, executor=executor)
        assert executor._task is task
    assert study.history.states[TrialState.COMPLETE] == 9


def square(trial):
    return trial.suggest_float("x", -1, 1) ** 2


RAISING = """
    import os, subprocess, sys
    import inloop
    from inloop import ranks
    rank = os.environ.get("LOCAL_RANK", "0")
    study = inloop.create_study(seed=0, sampler="random")
    launched = []

    def objective(trial):
        if rank == "0" and trial.number == 0:
            ranks.lead(trial)
            if sys.argv[1] != "alone":
                os.environ["LOCAL_RANK"] = "0"  # as Lightning does
                launched.append(subprocess.Popen([sys.executable, *sys.argv], env={**os.environ, "LOCAL_RANK": "1"}))
        if trial.number == 1 and sys.argv[1] in (rank, "both", "alone"):
            raise ValueError(f"in rank {rank}")
        return 1.0

    try:
        study.optimize(objective, n_trials=3, catch=ValueError)
        end = "no error"
    except ValueError as error:
        end = str(error)
    os.write(1, f"{rank}: {end}\\n".encode())
    for process in launched:
        process.wait()
"""


@pytest.mark.parametrize(
    ("who", "ends"),
    [
        ("0", ["0: in rank 0", "1: no error"]),
        ("1", ["0: no error", "1: in rank 1"]),
        ("both", ["0: in rank 0", "1: in rank 1"]),
        ("alone", ["0: no error"]),
    ],
)
def test_what_a_rank_raises_ends_its_search_in_spite_of_catch(who, ends, tmp_path):
    script = tmp_path / "train.py"
    script.write_text(textwrap.dedent(RAISING))
    done = subprocess.run([sys.executable, script, who], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert sorted(done.stdout.splitlines()) == ends, done.stderr
    assert ("in spite of `catch`" in done.stderr) == (who != "alone")


def tells(address, gate, number, value):
    study = inloop.load_study("s", address)
    gate.wait()
    try:
        return study.tell(number, value).value
    except ValueError as error:
        return str(error)


def tell_all(address, gate, told, value):
    told.put([tells(address, gate, number, value) for number in range(30)])


def test_of_two_processes_that_tell_at_once_one_is_refused(tmp_path):
    study = inloop.create_study(storage=tmp_path / "s.db", study_name="s", sampler="random")
    for _ in range(30):
        study.ask()
    context = multiprocessing.get_context("fork")
    gate, told = context.Barrier(2), context.Queue()
    for value in (1.0, 2.0):
        context.Process(target=tell_all, args=(tmp_path / "s.db", gate, told, value), daemon=True).start()
    said = zip(told.get(timeout=60), told.get(timeout=60), strict=True)
    for trial, pair in zip(study.trials, said, strict=True):
        value, error = sorted(pair, key=str)
        assert value == trial.value
        assert "the first tell counts" in error


def trains(trial, steps, stream=0, is_killed=False):
    for step in range(steps):
        trial.report(1.0 / (step + 1), step, stream)
        time.sleep(0.3)
    if is_killed:
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("beside", [(), (12, 1), (2, 1, True)], ids=["alone", "one ends later", "one is killed"])
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_trial_is_its_askers_again_when_the_processes_that_trained_it_have_ended(tmp_path, method, beside):
    study = inloop.create_study(storage=tmp_path / "s.db", study_name="s", sampler="random", lease=1.0)
    other = inloop.load_study("s", tmp_path / "s.db", sampler="random", lease=1.0)
    trial = study.ask()
    context = multiprocessing.get_context(method)
    processes = [context.Process(target=trains, args=(trial, *more)) for more in ((6,), beside) if more]
    for process in processes:
        process.start()
        wait_until(lambda: study.trials[0].curves)
    for process in processes:
        process.join(60)
    for _ in range(5):
        time.sleep(0.5)
        other.tell(other.ask(), 1.0)  # which looks for silent workers
    assert study.tell(trial, 0.5).state is TrialState.COMPLETE
    assert list(trial._record.curve.values()) == [1.0, 1 / 2, 1 / 3, 1 / 4, 1 / 5, 1 / 6]


def test_processes_that_share_a_trial_do_not_take_it_from_each_other_at_every_report(storage):
    study = inloop.create_study(storage=storage, study_name="s", sampler="random", seed=0)
    number, elsewhere = study.ask().number, study._log.storage.elsewhere()
    clients = [inloop.study.Study("s", elsewhere, study.sampler, study.pruner) for _ in range(2)]
    trials = [Trial(client, client.history.trials[number], {}, away=True) for client in clients]
    for step in range(50):
        for stream, trial in enumerate(trials):
            trial.report(1.0, step, stream)
    kinds = [e.kind for e in study._log.storage.read("s", 0)]
    assert (kinds.count("taken"), kinds.count("report")) == (2, 100)


WRITES_TWICE = """
    import pickle, sys
    trial = pickle.load(open(sys.argv[1], "rb"))
    for step in (10, 11):
        trial.study.trials
        trial.set_user_attr("step", step)
        print(step, flush=True)
        sys.stdin.readline()
"""


def test_who_writes_last_keeps_a_shared_trial_when_the_other_dies(tmp_path):
    study = inloop.create_study(storage=tmp_path / "s.db", study_name="s", sampler="random", lease=4.0)
    trial = study.ask()
    (tmp_path / "trial").write_bytes(pickle.dumps(trial))
    run = [sys.executable, "-c", textwrap.dedent(WRITES_TWICE), tmp_path / "trial"]
    with subprocess.Popen(run, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as other:
        other.stdout.readline()
        time.sleep(1.1)  # more than a quarter of a lease
        assert study.trials[0].user_attrs["step"] == 10
        trial.set_user_attr("step", 0)
        other.stdin.write("go on\n")
        other.stdout.readline()
        assert study.trials[0].user_attrs["step"] == 11
        trial.set_user_attr("step", 1)  # within a quarter of a lease of the one before
        other.kill()
    time.sleep(2)
    third = inloop.load_study("s", tmp_path / "s.db", sampler="random", lease=4.0)
    third.ask()
    time.sleep(7)  # a long step
    third.ask()
    assert study.tell(trial, 1.0).state is TrialState.COMPLETE


def test_a_study_that_a_server_does_not_find_for_a_moment_keeps_its_trials(tmp_path, caplog):
    right, wrong = (inloop.storage.SqliteStorage(tmp_path / f"{name}.db") for name in ("right", "wrong"))
    inloop.create_study(storage=wrong, study_name="another")
    server = inloop.storage.Server(right, authkey=b"a key of the test")
    address = server.address
    client = inloop.storage.ClientStorage(address, b"a key of the test")
    study = inloop.create_study(storage=client, study_name="s", sampler="random", lease=1.0)
    trial = study.ask()
    server.close()
    with inloop.storage.Server(wrong, *address, authkey=b"a key of the test"):
        wait_until(lambda: "No study named" in caplog.text or "StudyNotFound" in caplog.text)
    with inloop.storage.Server(right, *address, authkey=b"a key of the test"):
        time.sleep(2.5)
        other = inloop.load_study("s", tmp_path / "right.db", sampler="random", lease=1.0)
        for _ in range(3):
            other.tell(other.ask(), 1.0)
            time.sleep(0.8)
        assert study.tell(trial, 1.0).state is TrialState.COMPLETE
