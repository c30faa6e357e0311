"""Replace RandomizedSearchCV by BayesSearchCV: one line changes, the rest of the program stays.

Both search the same space with the same budget of candidates; the second run of BayesSearchCV also prunes
between folds. Takes about half a minute.

    python examples/sklearn_drop_in.py
"""

import time

import numpy as np
from inloop.integrations.sklearn import BayesSearchCV
from scipy.stats import loguniform
from sklearn.datasets import load_digits
from sklearn.model_selection import RandomizedSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.3, random_state=0, stratify=y)
model = make_pipeline(StandardScaler(), SVC())
space = {"svc__C": loguniform(1e-2, 1e3), "svc__gamma": loguniform(1e-5, 1)}

searches = {
    "RandomizedSearchCV": RandomizedSearchCV(model, space, n_iter=25, random_state=0),
    "BayesSearchCV": BayesSearchCV(model, space, n_iter=25, random_state=0),
    "BayesSearchCV, pruned": BayesSearchCV(model, space, n_iter=25, random_state=0, pruner="halving"),
}
print(f"{'':22} {'CV score':>9} {'test':>7} {'fits':>5} {'CPU s':>6}  best parameters")
for name, search in searches.items():
    start = time.process_time()
    search.fit(X_train, y_train)
    seconds = time.process_time() - start
    fits = np.sum(search.cv_results_.get("n_splits_run", search.n_iter * search.n_splits_))
    best = ", ".join(f"{k.removeprefix('svc__')}={v:.3g}" for k, v in search.best_params_.items())
    print(f"{name:22} {search.best_score_:9.4f} {search.score(X_test, y_test):7.4f} {fits:5} {seconds:6.1f}  {best}")
