"""``docs/sweeps.md`` on a cluster of Dask on this machine: its code runs and prints what stands below it; results are
those without a cluster, bit for bit, and errors of workers arrive whole."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from joblib import Parallel, delayed, parallel_config
from sklearn.model_selection import GridSearchCV
from threadpoolctl import threadpool_info, threadpool_limits

import nn

distributed = pytest.importorskip("distributed", reason="Dask is not installed: pip install 'xpnet[dask]'")

PAGE = (Path(__file__).parent.parent / "docs" / "sweeps.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```\n(?:```text\n(.*?)^```\n)?", PAGE, flags=re.MULTILINE | re.DOTALL)
#: How much a figure of the page may differ on other machines, where sums are added in another order.
NEAR = 0.02


@pytest.fixture(scope="module", autouse=True)
def environment() -> Iterator[None]:
    """Without the threads that somebody has chosen for these tests, which workers would take, too."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
            monkeypatch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="module")
def client(environment: None) -> Iterator[Any]:
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def test_every_block_prints_what_stands_below_it(capsys: pytest.CaptureFixture[str]) -> None:
    """Words as on the page, and figures near those there."""
    assert len(BLOCKS) == PAGE.count("```python") == 7
    namespace: dict[str, Any] = {"__name__": "example"}
    for code, expected in BLOCKS:
        exec(compile(code, "docs/sweeps.md", "exec", dont_inherit=True), namespace)
        printed = capsys.readouterr().out
        number = re.compile(r"\d+\.\d+")
        assert number.sub("#", printed) == number.sub("#", expected), code
        for found, wanted in zip(number.findall(printed), number.findall(expected), strict=True):
            assert float(found) == pytest.approx(float(wanted), abs=NEAR), code


def test_a_worker_has_one_thread_of_the_blas(client: Any) -> None:
    def threads() -> set[int]:
        np.ones((2, 2)) @ np.ones((2, 2))
        return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}

    assert all(found <= {1} for found in client.run(threads).values())


def test_a_search_is_the_same_without_a_cluster(client: Any) -> None:
    digits = nn.load_data("digits", limit=300).train
    settings: dict[str, Any] = {"dtype": "float32", "random_state": 0, "tol": 0.01, "n_iter_no_change": 2}
    grid = {"hidden_layer_sizes": [(16,), (12, 8)], "solver": ["adam", "sgd"], "learning_rate_init": [0.05]}
    here, there = (
        GridSearchCV(nn.MLPClassifier(**settings), grid, cv=2, error_score="raise", return_train_score=True)
        for _ in range(2)
    )
    with threadpool_limits(1):
        here.fit(digits.features(), digits.y)
        with parallel_config(backend="dask"):
            there.fit(digits.features(), digits.y)
    for name, values in here.cv_results_.items():
        if not name.endswith("_time"):
            np.testing.assert_array_equal(values, there.cv_results_[name])
    for coefs, others in zip(here.best_estimator_.coefs_, there.best_estimator_.coefs_, strict=True):
        np.testing.assert_array_equal(coefs, others)


def weights(seed: int) -> dict[str, Any]:
    """Of a small network with dropout and momentum, trained for two epochs."""
    layers = nn.Linear(64, 20), nn.ReLU(), nn.Dropout(0.2), nn.Linear(20, 10), nn.Softmax()
    trainer = nn.Trainer(nn.Sequential(*layers, seed=seed, backend="cpu"), optimizer=nn.SGD(0.1, momentum=0.9))
    trainer.fit(nn.load_data("digits").train, 2)
    return trainer.model.state_dict()


def test_trained_weights_are_the_same_bit_for_bit(client: Any) -> None:
    with parallel_config(backend="dask"):
        there = Parallel()(delayed(weights)(seed) for seed in range(4))
    with threadpool_limits(1):
        here = [weights(seed) for seed in range(4)]
    for mine, theirs in zip(here, there, strict=True):
        for name, values in mine.items():
            np.testing.assert_array_equal(values, theirs[name])
    assert not np.array_equal(here[0]["0.weight"], here[1]["0.weight"])


def test_a_fit_whose_worker_died_is_made_again(client: Any, tmp_path: Path) -> None:
    died = tmp_path / "died"

    def once_more(seed: int) -> dict[str, Any]:
        if seed == 1 and not died.exists():
            died.touch()
            os.kill(os.getpid(), signal.SIGTERM if os.name == "nt" else signal.SIGKILL)
        return weights(seed)

    with parallel_config(backend="dask"):
        there = Parallel()(delayed(once_more)(seed) for seed in range(2))
    assert died.exists()
    with threadpool_limits(1):
        for seed in range(2):
            for name, values in weights(seed).items():
                np.testing.assert_array_equal(values, there[seed][name])


def failing(name: str) -> None:
    """Raise one of xpnet's errors as users get them."""
    x, y = np.random.default_rng(0).normal(size=(20, 4)), np.arange(20) % 2
    model = nn.Sequential(nn.Linear(4, 2), backend="cpu")
    if name == "diverged":
        nn.Trainer(model, "mean_squared_error", nn.SGD(1e30)).fit(x, y / 1.0, epochs=3)
    if name == "data":
        nn.Trainer(model).fit(x[:, :3], y, epochs=1)
    if name == "device":
        nn.Sequential(nn.Linear(4, 2), backend="no such device")
    if name == "argument":
        nn.Trainer(model).fit(x, y, epochs="two")
    if name == "memory":
        raise nn.OutOfMemoryError("there is no memory", what="a batch", asked=8, advice="batch_size=4 would fit")


@pytest.mark.parametrize("name", ["diverged", "data", "device", "argument", "memory"])
def test_an_error_arrives_as_it_is(name: str, client: Any) -> None:
    """Of the same class, with the same sentence and attributes."""
    with pytest.raises(Exception) as here, threadpool_limits(1):  # noqa: PT011
        failing(name)
    with pytest.raises(type(here.value)) as there, parallel_config(backend="dask"):
        Parallel()(delayed(failing)(name) for _ in range(2))
    assert type(there.value) is type(here.value)
    assert str(there.value) == str(here.value) != ""
    assert vars(there.value).keys() == vars(here.value).keys()


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", PAGE):
        assert target.startswith("https://") or (Path(__file__).parent.parent / "docs" / target).exists(), target
