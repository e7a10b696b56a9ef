"""At home in scikit-learn: clones, pipelines, searches, pickles, routed metadata, callbacks, arrays of any library."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
import warnings
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.multioutput import ClassifierChain
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import nn
from backends.cuda.cupy_backend import CupyBackend
from backends.devices import as_numpy
from nn import AbsentDeviceWarning, LambdaCallback, MLPClassifier, MLPRegressor
from tests.helpers.emulated_cuda import EmulatedCudaDevice, needs_compiler

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

ROOT = Path(__file__).parents[3]
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(90, 4))
Y = (X @ RANDOM.normal(size=(4, 3))).argmax(axis=1)


def made(**settings: Any) -> MLPClassifier:
    return MLPClassifier(
        **{"hidden_layer_sizes": 8, "max_iter": 15, "random_state": 0, "learning_rate_init": 0.02, **settings}
    )


def test_a_clone_has_the_parameters_and_no_weights() -> None:
    given = {"callbacks": [LambdaCallback()], "validation_data": (X, Y), "activation": nn.LeakyReLU(0.2)}
    found = clone(made(**given, loss="focal").fit(X, Y))
    assert found.loss == "focal"
    assert found.activation == nn.LeakyReLU(0.2)
    with pytest.raises(NotFittedError):
        found.predict(X)
    assert np.array_equal(found.fit(X, Y).coefs_[0], made(**given, loss="focal").fit(X, Y).coefs_[0])


def test_a_pipeline_and_a_search_in_two_processes() -> None:
    pipeline = make_pipeline(StandardScaler(), made())
    search = GridSearchCV(pipeline, {"mlpclassifier__hidden_layer_sizes": [(2,), (8, 8)]}, n_jobs=2, cv=3)
    search.fit(X, Y)
    assert search.best_score_ > 0.6
    alone = cross_val_score(search.best_estimator_, X, Y, cv=3)
    assert alone.mean() == pytest.approx(search.best_score_)
    assert CalibratedClassifierCV(made(), cv=2).fit(X, Y).score(X, Y) > 0.6
    labels = np.stack([Y == 0, Y == 1], axis=1).astype(int)
    assert ClassifierChain(made(max_iter=60)).fit(X, labels).score(X, labels) > 0.6


def test_names_of_columns() -> None:
    pd = pytest.importorskip("pandas")
    table = pd.DataFrame(X, columns=["a", "b", "c", "d"])
    pipeline = make_pipeline(StandardScaler(), made()).set_output(transform="pandas").fit(table, pd.Series(Y))
    assert list(pipeline[-1].feature_names_in_) == ["a", "b", "c", "d"]
    assert pipeline[-1].n_features_in_ == 4
    with pytest.raises(ValueError, match="The feature names should match"):
        pipeline[-1].predict(table[["b", "a", "c", "d"]])


@pytest.mark.parametrize(
    "estimator", [made(), MLPRegressor("squared_error", 8, random_state=0)], ids=lambda found: type(found).__name__
)
@pytest.mark.parametrize("way", ["pickle", "joblib", "deepcopy"])
def test_copies_and_pickles_go_on_alike(estimator: Any, way: str, tmp_path: Path) -> None:
    found = clone(estimator).partial_fit(
        X, Y, **({"classes": [0, 1, 2]} if isinstance(estimator, MLPClassifier) else {})
    )
    if way == "pickle":
        other = pickle.loads(pickle.dumps(found))
    elif way == "joblib":
        joblib.dump(found, tmp_path / "model.joblib")
        other = joblib.load(tmp_path / "model.joblib")
    else:
        other = copy.deepcopy(found)
    np.testing.assert_array_equal(other.predict(X), found.predict(X))
    for each in (found, other):
        each.partial_fit(X, Y)
    for a, b in zip(found.coefs_ + found.intercepts_, other.coefs_ + other.intercepts_, strict=True):
        np.testing.assert_array_equal(a, b)
    other.coefs_[0][...] = 0.0  # the network's own weights, of a copy too
    assert len(np.unique(other.predict(X), axis=0)) == 1
    assert len(np.unique(found.predict(X), axis=0)) > 1


def trained_on_gpu(monkeypatch: pytest.MonkeyPatch, **settings: Any) -> MLPClassifier:
    """On a device named cuda, which the CPU emulates."""
    with monkeypatch.context() as patch:
        patch.setattr("nn.model.get_backend", lambda spec, dtype: CupyBackend(EmulatedCudaDevice(), dtype))
        found: MLPClassifier = made(device="cuda", **settings).fit(X, Y)
        return found


@needs_compiler
@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
def test_a_gpu_is_one_argument(monkeypatch: pytest.MonkeyPatch, solver: str) -> None:
    given = {"solver": solver, "dtype": "float64", "early_stopping": solver == "adam", "learning_rate": "invscaling"}
    found, on_cpu = trained_on_gpu(monkeypatch, **given), made(**given).fit(X, Y)
    assert found.model_.backend.device.spec == "cuda:0"
    np.testing.assert_allclose(found.loss_, on_cpu.loss_, 1e-6)
    np.testing.assert_allclose(found.predict_proba(X), on_cpu.predict_proba(X), 1e-4, 1e-6)
    with pytest.raises(ValueError, match="read-only"):
        found.coefs_[0][...] = 0.0
    found.coefs_[0] = np.zeros_like(found.coefs_[0])
    assert len(set(found.predict(X))) == 1


@needs_compiler
def test_what_was_trained_on_a_gpu_predicts_without_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = trained_on_gpu(monkeypatch, dtype="float32")
    joblib.dump(found, tmp_path / "model.joblib")
    with pytest.warns(AbsentDeviceWarning, match="is on the CPU now"):
        other = joblib.load(tmp_path / "model.joblib")
    np.testing.assert_allclose(other.predict_proba(X), found.predict_proba(X), 1e-5, 1e-6)
    np.testing.assert_array_equal(other.coefs_[0], found.coefs_[0])
    other.partial_fit(X, Y)
    assert other.model_.backend.device.spec == "cpu"


def test_metadata_is_routed() -> None:
    with sklearn.config_context(enable_metadata_routing=True):
        weighted = made().set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        pipeline = make_pipeline(StandardScaler().set_fit_request(sample_weight=False), weighted)
        weights = np.where(Y == 0, 100.0, 0.01)
        found = pipeline.fit(X, Y, sample_weight=weights)
        plain = make_pipeline(StandardScaler(), made()).fit(X, Y)
    assert (found.predict(X) == 0).mean() > (plain.predict(X) == 0).mean()


class Seen:
    """A callback of scikit-learn: what it is told, and when it ends training."""

    def __init__(self, most: int = 1000) -> None:
        self.most, self.calls, self.scores = most, list[str](), list[float]()

    def setup(self, estimator: Any, context: Any) -> None:
        self.calls.append("setup")

    def teardown(self, estimator: Any, context: Any) -> None:
        self.calls.append("teardown")

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        self.calls.append(f"begin {context.task_name}")

    def on_fit_task_end(
        self, estimator: Any, context: Any, *, X: Any = None, y: Any = None, fitted_estimator: Any = None
    ) -> bool:
        self.calls.append(f"end {context.task_name}")
        self.scores.append(fitted_estimator.score(X, y))
        return len(self.scores) >= self.most


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_callbacks_of_scikit_learn(solver: str) -> None:
    pytest.importorskip("sklearn.callback")
    seen = Seen(most=4)
    found = made(solver=solver).set_callbacks(seen).fit(X, Y)
    assert found.n_iter_ == 4
    assert seen.calls == ["setup", "begin fit", *["begin iteration", "end iteration"] * 4, "end fit", "teardown"]
    assert seen.scores[-1] == found.score(X, Y)
    assert len(set(seen.scores)) > 1
    plain = made(solver=solver, max_iter=4).fit(X, Y)  # looking on changes nothing
    np.testing.assert_array_equal(found.coefs_[0], plain.coefs_[0])


def test_its_own_callbacks_serve() -> None:
    callback = pytest.importorskip("sklearn.callback")
    monitor = callback.ScoringMonitor(scoring="accuracy")
    found = made().set_callbacks(monitor).fit(X, Y)
    scores = [entry["accuracy"] for entry in monitor.get_logs(select="all")[0].data]
    assert scores[-1] == found.score(X, Y)
    assert found.n_iter_ == 15


def test_its_progress_bar_serves_in_a_pipeline() -> None:
    callback = pytest.importorskip("sklearn.callback")
    pytest.importorskip("rich", reason="scikit-learn's progress bar needs rich")
    pipeline = make_pipeline(StandardScaler(), made(max_iter=3)).set_callbacks(callback.ProgressBar())
    assert pipeline.fit(X, Y)[-1].n_iter_ == 3


PROGRAM = """
import numpy as np, sklearn, torch, array_api_strict, warnings
from nn import MLPClassifier, MLPRegressor
warnings.simplefilter("ignore")
x, y = np.random.default_rng(0).normal(size=(60, 3)), np.arange(60) % 3
kinds = {"torch": torch.asarray, "array_api_strict": array_api_strict.asarray}
plain = MLPClassifier(8, max_iter=5, random_state=0).fit(x, y)
for name, kind in kinds.items():
    with sklearn.config_context(array_api_dispatch=True):
        found = MLPClassifier(8, max_iter=5, random_state=0).fit(kind(x), kind(y), sample_weight=kind(np.ones(60)))
        for method in ("predict", "predict_proba", "predict_log_proba"):
            result = getattr(found, method)(kind(x))
            assert type(result) is type(kind(x)), (name, method, type(result))
            assert np.allclose(np.asarray(result.tolist() if name == "torch" else result), getattr(plain, method)(x))
        named = MLPClassifier(8, max_iter=5, random_state=0).fit(kind(x), np.array(["a", "b", "c"])[y])
        assert named.predict(kind(x)).dtype.kind == "U"
        assert type(MLPRegressor(max_iter=5).fit(kind(x), kind(x)).predict(kind(x))) is type(kind(x))
        try:
            found.predict(x)
        except ValueError as error:
            assert "must use the same namespace" in str(error)
        else:
            raise AssertionError
    assert type(found.predict(kind(x))) is np.ndarray
print("done")
"""


def test_arrays_of_other_libraries_give_results_of_theirs() -> None:
    pytest.importorskip("torch")
    environment = os.environ | {"SCIPY_ARRAY_API": "1"}
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT)
    assert done.stdout.split() == ["done"], done.stderr


@pytest.mark.parametrize("library", ["torch", "array_api_strict"])
@pytest.mark.parametrize("loss", ["log_loss", "poisson"])
def test_rows_to_predict_stay_on_the_device_of_the_network(
    library: str, loss: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that are not in order are refused as scikit-learn refuses them."""
    xp = pytest.importorskip(library)
    kind: type[MLPClassifier | MLPRegressor] = MLPClassifier if loss == "log_loss" else MLPRegressor
    settings: dict[str, Any] = {"hidden_layer_sizes": 8, "random_state": 0, "max_iter": 5, "loss": loss}
    expected = kind(**settings).fit(X, Y).predict(X)
    found = kind(device="torch:cpu" if library == "torch" else library, **settings).fit(X, Y)
    rows = xp.asarray(X)
    went = list[Any]()

    def to_host(x: Any) -> np.ndarray:
        went.append(x)
        return as_numpy(x)

    monkeypatch.setattr("nn.estimators.base.on_host", to_host)
    outputs = found.predict(rows)
    assert (type(outputs), went) == (np.ndarray, [])
    np.testing.assert_allclose(outputs, expected)
    with pytest.raises(ValueError, match=r"X has 2 features, but MLP\w+ is expecting 4 features as input"):
        found.predict(rows[:, :2])
    with pytest.raises(ValueError, match="Input X contains NaN"):
        found.predict(rows * float("nan"))
    assert len(went) == 2


def test_a_scikit_learn_that_is_too_old_is_named() -> None:
    program = (
        "import sklearn.utils.validation as old; del old.validate_data\n"
        "import nn\n"
        "try: nn.MLPClassifier\n"
        "except ImportError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert "need scikit-learn 1.6 or newer: pip install -U scikit-learn" in done.stdout


SCRIPTS = [
    """
import warnings
from {package} import MLPClassifier
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

warnings.simplefilter("ignore")
x, x_test, y, y_test = train_test_split(*load_digits(return_X_y=True), random_state=0)
model = make_pipeline(StandardScaler(), MLPClassifier((64, 32), solver="sgd", learning_rate="adaptive",
    learning_rate_init=0.05, alpha=1e-3, early_stopping=True, random_state=1, max_iter=100))
print(model.fit(x, y).score(x_test, y_test), len(model[-1].loss_curve_))
""",
    """
import warnings
import joblib, io
import numpy as np
from {package} import MLPClassifier, MLPRegressor
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.metrics import log_loss
from sklearn.model_selection import RandomizedSearchCV, cross_val_score

warnings.simplefilter("ignore")
x, y = load_digits(return_X_y=True)
x = x / 16
stream = MLPClassifier(hidden_layer_sizes=(30,), random_state=0, learning_rate_init=0.01)
for start in [*range(0, 1500, 100)] * 2:
    stream.partial_fit(x[start : start + 100], y[start : start + 100], classes=np.arange(10))
assert log_loss(y[1500:], stream.predict_proba(x[1500:])) < 1.0
assert [coef.shape for coef in stream.coefs_] == [(64, 30), (30, 10)] and stream.t_ == 3000
values = MLPRegressor(hidden_layer_sizes=(20,), solver="lbfgs", random_state=0, max_iter=60)
assert cross_val_score(values, x[:300], x[:300, 3] + x[:300, 20], cv=3).mean() > 0.8
search = RandomizedSearchCV(
    MLPClassifier((20,), max_iter=40, learning_rate_init=0.02, random_state=0),
    {{"alpha": [1e-5, 1e-3], "activation": ["relu", "tanh"]}}, n_iter=2, cv=2, random_state=0,
).fit(x[:600], y[:600])
file = io.BytesIO()
joblib.dump(clone(search.best_estimator_).set_params(warm_start=True).fit(x[:600], y[:600]), file)
file.seek(0)
again = joblib.load(file).fit(x[:600], y[:600])
print(again.score(x[600:], y[600:]), stream.n_iter_)
""",
]


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_import_line_is_all_that_changes(script: str) -> None:
    results = []
    for package in ("sklearn.neural_network", "nn"):
        with redirect_stdout(StringIO()) as out, warnings.catch_warnings():
            exec(script.format(package=package), {})
        results.append([float(number) for number in out.getvalue().split()])
    assert min(score for score, _ in results) > (0.94 if script is SCRIPTS[0] else 0.85)
    assert abs(results[0][0] - results[1][0]) < 0.03
