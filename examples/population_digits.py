"""Train a population of small networks whose learning rates change on the way.

Takes a few seconds.

    python examples/population_digits.py
"""

import inloop
import joblib
from inloop.integrations.sklearn import train_segment
from sklearn.datasets import load_digits
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

X, y = load_digits(return_X_y=True)
X, X_valid, y, y_valid = train_test_split(X / 16, y, random_state=0)


def train(segment):
    net = train_segment(segment, MLPClassifier(32, solver="sgd", random_state=0), X, y)
    return log_loss(y_valid, net.predict_proba(X_valid))


space = {"learning_rate_init": inloop.Float(1e-3, 0.5, log=True), "momentum": inloop.Float(0.5, 0.99)}
population = inloop.PopulationStudy(space, population=6, interval=3, steps=18, seed=0)
population.optimize(train)
for t in population.trials:
    print(f"{t.number:2} {t.state.name:8} parent {t.user_attrs['parent']!s:4} {t.curve}")
for start, params in population.schedule():
    print(f"from epoch {start:2}: {params}")
net = joblib.load(population.best_checkpoint)
print(population.best_value, net.score(X_valid, y_valid), population.replay(train) == population.best_value)
