"""Reports and pictures of a search."""

import inloop
import matplotlib as mpl
import numpy as np
import pytest
from inloop.integrations._sklearn_rows import fingerprints, row_hashes, share_known
from inloop.integrations.plot import plot_curves, plot_effort
from inloop.integrations.sklearn import BayesSearchCV, SearchDisplay
from scipy import sparse, stats
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import SVC

mpl.use("Agg")
KINDS = ["history", "curves", "parallel", "slice", "importance", "timeline"]
X, Y = load_breast_cancer(return_X_y=True)
X = (X - X.mean(0)) / X.std(0)
X_TRAIN, X_TEST, Y_TRAIN, Y_TEST = train_test_split(X, Y, random_state=0)


def search_of(estimator=None, space=None, **options):
    space = {"C": stats.loguniform(1e-3, 1e2), "gamma": stats.loguniform(1e-4, 1)} if space is None else space
    options = {"n_iter": 12, "cv": 4, "random_state": 0, "sampler": "random", **options}
    return BayesSearchCV(SVC() if estimator is None else estimator, space, **options)


def test_a_report_holds_what_it_says():
    search = search_of(scoring="roc_auc", pruner="median").fit(X_TRAIN, Y_TRAIN)
    report = search.report(X_TEST, Y_TEST)
    splits = [search.cv_results_[f"split{k}_test_score"][search.best_index_] for k in range(4)]
    assert report.cv_score == search.best_score_
    assert report.cv_error == pytest.approx(stats.sem(splits))
    assert report.test_score == search.score(X_TEST, Y_TEST)
    assert report.optimism == report.cv_score - report.test_score
    assert (report.folds_run, report.folds_total) == (search.cv_results_["n_splits_run"].sum(), 48)
    assert report.folds_run < 48
    text = str(report)
    assert "roc_auc, unseen rows" in text
    assert f"{report.test_score:.4f}" in text
    assert "gamma" in text


def test_ends_of_ranges_are_named():
    search = search_of(LogisticRegression(), {"C": (1e-9, 1e-7, "log-uniform")}, initial_params=[{"C": 1e-7}], n_iter=3)
    report = search.fit(X_TRAIN, Y_TRAIN).report(X_TEST, Y_TEST)
    assert report.edges == ({"C": "upper"} if report.params["C"] == 1e-7 else {})


@pytest.mark.parametrize("best", [0, 1])
def test_ends_of_ranges_are_those_of_the_candidates_own_dict(best):
    ranges = [(1.0, 2.0), (1e-9, 1.0)] if best == 0 else [(1e-9, 1.0), (1.0, 2.0)]
    two = [{"kernel": ["linear"], "C": c} for c in ranges]
    known = [{"kernel": "linear", "C": c} for c in (1e-8, 2.0)]
    search = search_of(SVC(), two, n_iter=2, initial_params=known, scoring=lambda e, X, y: e.C)
    report = search.fit(X_TRAIN, Y_TRAIN).report(X_TEST, Y_TEST)
    assert report.params["C"] == 2.0
    assert report.edges == {"C": "upper"}
    assert "upper end of its range" in str(report)


def test_choices_out_of_an_array_look_like_any_numbers():
    import matplotlib.pyplot as plt

    space = {"C": np.logspace(-1, 1, 3), "degree": np.array([2, 3]), "kernel": np.array(["rbf", "linear"])}
    search = search_of(SVC(), space, n_iter=4).fit(X_TRAIN, Y_TRAIN)
    ticks = [
        t.get_text() for ax in SearchDisplay.from_search(search, "slice").figure_.axes for t in ax.get_xticklabels()
    ]
    assert ticks == ["0.1", "1.0", "10.0", "2", "3", "rbf", "linear"]
    report = str(search.report(X_TEST, Y_TEST))
    assert [line.split()[1] for line in report.splitlines()[-3:]] == [
        repr(search.best_params_[name].item()) for name in space
    ]
    plt.close("all")


@pytest.mark.parametrize("kind", ["array", "list", "pandas", "sparse"])
def test_rows_that_were_trained_on_are_refused(kind):
    as_kind = {
        "array": np.asarray,
        "list": lambda a: a.tolist(),
        "pandas": lambda a: pytest.importorskip("pandas").DataFrame(a),
        "sparse": sparse.csr_matrix,
    }[kind]
    search = search_of(n_iter=2).fit(as_kind(X_TRAIN), Y_TRAIN)
    search.report(as_kind(X_TEST), Y_TEST)
    with pytest.raises(ValueError, match="100% of these rows were given to fit"):
        search.report(as_kind(X_TRAIN[:50]), Y_TRAIN[:50])


def test_equal_rows_are_warned_of():
    rows = np.random.default_rng(0).integers(0, 3, (200, 2))
    search = search_of(n_iter=2).fit(rows[:150], rows[:150].sum(1) > 1)
    with pytest.warns(UserWarning, match="100% of these rows were given to fit"):
        report = search.report(rows[150:], rows[150:].sum(1) > 1)
    assert report.cv_score == search.best_score_


def lengths(rows):
    return np.array([[len(row), sum(row)] for row in rows])


def test_data_that_are_no_rows_of_numbers_lose_no_search(tmp_path):
    ragged = [[i] * (1 + i % 3) for i in range(60)]
    y = [len(row) > 1 for row in ragged]
    model = make_pipeline(FunctionTransformer(lengths), SVC())
    search = search_of(model, {"svc__C": [0.1, 1.0]}, n_iter=2, cv=3).fit(ragged, y)
    assert search.report(ragged[:30], y[:30]).cv_score == search.best_score_
    with pytest.raises(TypeError, match="storage needs data whose rows are numbers or texts"):
        search_of(model, {"svc__C": [0.1, 1.0]}, n_iter=2, storage=f"{tmp_path}/s.db").fit(ragged, y)


def test_the_same_row_has_the_same_hash_in_any_container():
    pandas = pytest.importorskip("pandas")
    rows = np.round(X[:50], 1)
    rows[rows < 0.5] = -0.0
    expected = row_hashes(rows, Y[:50])
    for same in (
        rows.tolist(),
        pandas.DataFrame(rows),
        sparse.csr_matrix(rows),
        sparse.csc_matrix(rows),
        rows[:, :, None],
    ):
        np.testing.assert_array_equal(row_hashes(same, Y[:50].tolist()), expected)
    assert len(np.unique(expected)) == 50
    assert not np.isin(row_hashes(rows[:, ::-1], Y[:50]), expected).any()
    assert not np.isin(row_hashes(rows, 1 - Y[:50]), expected).any()
    texts = np.array([["a", 1.5], ["b", None]], dtype=object)
    np.testing.assert_array_equal(row_hashes(texts, ["u", "v"]), row_hashes(pandas.DataFrame(texts), ["u", "v"]))
    mixed = pandas.DataFrame({"a": rows[:, 0], "b": pandas.Categorical(np.where(Y[:50], "x", "y")), "c": Y[:50] > 0})
    for same in (mixed.astype({"b": str}), mixed.to_numpy(), mixed.astype(object)):
        np.testing.assert_array_equal(row_hashes(same, Y[:50]), row_hashes(mixed, Y[:50]))
    np.testing.assert_array_equal(row_hashes(mixed[::-1], None)[::-1], row_hashes(mixed, None))
    assert not np.isin(row_hashes(mixed[["b", "a", "c"]], None), row_hashes(mixed, None)).any()


def test_of_many_rows_a_share_is_remembered():
    many = np.random.default_rng(0).normal(size=(100_000, 2))
    known = fingerprints(np.unique(row_hashes(many[:80_000], None)))
    assert len(known) == 20_000
    assert share_known(many[:1000], None, known) == 1
    assert share_known(many[80_000:], None, known) == 0
    assert 0.4 < share_known(many[79_000:81_000], None, known) < 0.6


@pytest.mark.parametrize("options", [{"refit": False}, {"refit": lambda table: 0}])
def test_no_report_without_a_refitted_best(options):
    with pytest.raises(ValueError, match="refit"):
        search_of(n_iter=2, **options).fit(X_TRAIN, Y_TRAIN).report(X_TEST, Y_TEST)


@pytest.fixture(scope="module")
def searches():
    two = [{"kernel": ["linear"], "C": (1e-3, 1e2, "log-uniform")}, {"kernel": ["rbf", "poly"], "degree": [2, 3]}]
    return {
        "plain": search_of().fit(X_TRAIN, Y_TRAIN),
        "pruned": search_of(pruner="median").fit(X_TRAIN, Y_TRAIN),
        "conditional": search_of(SVC(), two).fit(X_TRAIN, Y_TRAIN),
        "inside": search_of(
            GradientBoostingClassifier(n_estimators=20, random_state=0),
            {"learning_rate": stats.loguniform(1e-3, 1), "max_features": stats.uniform(0.1, 0.9)},
            resource="iterations",
            pruner="median",
        ).fit(X_TRAIN, Y_TRAIN),
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("which", ["plain", "pruned", "conditional", "inside"])
def test_every_picture_of_every_search(searches, which, kind):
    import matplotlib.pyplot as plt

    display = SearchDisplay.from_search(searches[which], kind)
    display.figure_.canvas.draw()
    assert display.ax_.figure is display.figure_
    if kind != "slice":
        _, ax = plt.subplots()
        assert SearchDisplay.from_search(searches[which], kind, ax=ax).ax_ is ax
    plt.close("all")


def reported(*counts, streams=1):
    """Return a study of trials with so many reports in each stream; the first is the best, the last one fails."""
    study = inloop.create_study(seed=0, pruner="nop", space={"x": inloop.Float(0, 1)})

    def objective(trial):
        for stream in range(streams):
            for step in range(counts[trial.number]):
                trial.report(trial.number, step, stream)
        if trial.number == len(counts) - 1:
            raise ValueError
        return trial.number

    study.optimize(objective, n_trials=len(counts), catch=ValueError)
    return study


@pytest.mark.parametrize("counts", [(1, 3, 3), (3, 1, 3), (3, 3, 1)])
def test_every_curve_is_seen_and_named(counts):
    import matplotlib.pyplot as plt

    study = reported(*counts)
    ax = plot_curves(study)
    drawn = [line for line in ax.lines if len(line.get_xdata())]
    assert sorted(len(line.get_xdata()) for line in drawn) == sorted(counts)
    assert all((line.get_marker() == "o") == (len(line.get_xdata()) == 1) for line in drawn)
    names = {line.get_color(): line.get_label() for line in ax.get_legend().get_lines()}
    assert [names[line.get_color()] for line in drawn] == ["others", "others", "best: trial 0"]
    plt.close("all")


def ends(ax):
    return [line.get_xdata()[0] for line in ax.lines if len(line.get_xdata()) == 1]


@pytest.mark.parametrize("which", ["plain", "pruned", "inside"])
def test_the_cost_of_a_search_is_in_folds(searches, which):
    import matplotlib.pyplot as plt

    assert ends(plot_effort({which: searches[which].study_}, stream=0)) == [
        searches[which].cv_results_["n_splits_run"].sum()
    ]
    plt.close("all")


@pytest.mark.parametrize("streams", [1, 3])
def test_the_cost_of_trials_is_in_all_their_reports(streams):
    import matplotlib.pyplot as plt

    study = reported(4, 2, 3, streams=streams)
    assert ends(plot_effort({"all": study})) == [9 * streams]
    assert ends(plot_effort({"first": study}, stream=0)) == [9]
    plt.close("all")


def test_what_pictures_refuse(searches):
    with pytest.raises(ValueError, match="kind must be one of"):
        SearchDisplay.from_search(searches["plain"], "pie")
    with pytest.raises(NotFittedError):
        SearchDisplay.from_search(search_of())
    few = search_of(n_iter=2).fit(X_TRAIN, Y_TRAIN)
    with pytest.raises(ValueError, match="at least 4 complete candidates, there are 2"):
        SearchDisplay.from_search(few, "importance")


def test_the_important_parameter_is_found(searches):
    display = SearchDisplay.from_search(searches["inside"], "importance")
    assert [t.get_text() for t in display.ax_.get_yticklabels()][-1] == "learning_rate"
