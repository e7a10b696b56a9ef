"""The benchmark of an epoch: turns, who is left out and why, and the table."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import epoch
from benchmarks.contenders import CONTENDERS
from benchmarks.contenders.base import STEPS_CHECKED
from benchmarks.contenders.config import CONFIGS, Config, is_gpu
from benchmarks.contenders.products import STEPS_OF_GRAPH, Products

SETTINGS = {"config": "tiny", "device": "cpu", "rows": 200, "precision": "float32", "rounds": 3, "warm": 1, "timed": 1}


@pytest.fixture(autouse=True)
def without_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(epoch, "REST", 0.0)


def settings(**given: Any) -> argparse.Namespace:
    return argparse.Namespace(**{**SETTINGS, "limit": None, **given})


class Speaks:
    """A contender that answers at once, and is asked what ``asked`` tells; it dies at its ``dies``-th answer."""

    def __init__(self, asked: list[str], seconds: float, dies: int | None = None, hangs: bool = False) -> None:
        self.asked, self.seconds, self.dies, self.hangs = asked, seconds, dies, hangs
        self.answers = 0
        self.request = ""
        self.is_stopped = False

    def ask(self, request: str) -> None:
        self.asked.append(request)
        self.request = request

    def hear(self, seconds: float | None = None) -> dict[str, Any]:
        if self.hangs:
            assert seconds is not None
            time.sleep(min(seconds, 0.2))
            raise epoch.Gone("not ready in time")
        self.answers += 1
        if self.answers == self.dies:
            raise epoch.Gone("its process died")
        if not self.request:
            return {"rows": "made up", "version": "one 1.0", "first": 0.1}
        if self.request == "end":
            return {"peak_mb": 5.0, "accuracy": 0.9, "remark": ""}
        return {"seconds": self.seconds}

    def stop(self) -> None:
        self.is_stopped = True


def measure(
    workers: dict[str, Speaks], **given: Any
) -> tuple[dict[str, dict[str, Any]], dict[str, str], str, list[str]]:
    """What becomes of them, and in which order they were started."""
    started: list[str] = []

    def start(name: str, _: argparse.Namespace) -> epoch.Worker:
        started.append(name)
        return workers[name]

    return *epoch.measure([*workers], settings(**given), start), started


def test_all_have_the_same_turns() -> None:
    asked: list[list[str]] = [[], []]
    workers = {"products": Speaks(asked[0], 0.25), "xpnet": Speaks(asked[1], 0.5)}
    outcomes, absent, origin, _ = measure(workers, rounds=4, warm=7, timed=2)
    assert asked[0] == asked[1] == [*["epochs 7 2"] * 4, "end"]
    assert (absent, origin) == ({}, "made up")
    assert outcomes["xpnet"] == {
        "version": "one 1.0", "first": 0.1, "seconds": [0.5] * 4, "peak_mb": 5.0, "accuracy": 0.9, "remark": ""
    }  # fmt: skip
    assert all(worker.is_stopped for worker in workers.values())


@pytest.mark.parametrize("dies", [1, 3, 5])
def test_who_dies_is_absent_and_the_others_go_on(dies: int) -> None:
    workers = {"products": Speaks([], 0.25), "torch": Speaks([], 1.0, dies), "xpnet": Speaks([], 0.5)}
    outcomes, absent, _, _ = measure(workers)
    assert outcomes.keys() == {"products", "xpnet"}
    assert absent == {"torch": "its process died"}
    assert all(len(outcome["seconds"]) == 3 for outcome in outcomes.values())
    assert workers["torch"].is_stopped
    text = epoch.table(outcomes, absent, "made up", settings())
    assert "Absent: torch (its process died)." in text


def test_a_table_without_its_floor_is_still_one() -> None:
    outcomes, absent, _, _ = measure({"products": Speaks([], 0.25, 1), "xpnet": Speaks([], 0.5)})
    row = next(
        line for line in epoch.table(outcomes, absent, "made up", settings()).splitlines() if "**xpnet**" in line
    )
    assert [cell.strip() for cell in row.split("|")][4:6] == ["", "1.00"]


def test_with_a_limit_all_start_at_once_and_who_hangs_is_left_out() -> None:
    workers = {"products": Speaks([], 0.25), "torch": Speaks([], 1.0, hangs=True), "xpnet": Speaks([], 0.5)}
    outcomes, absent, _, started = measure(workers, limit=4.0, rounds=2)
    assert started == ["products", "torch", "xpnet"]
    assert outcomes.keys() == {"products", "xpnet"}
    assert absent == {"torch": "not ready in time"}
    assert "All processes started at once" in epoch.table(outcomes, absent, "", settings(limit=4.0))


def test_rounds_end_when_the_time_is_over() -> None:
    class Slow(Speaks):
        def hear(self, seconds: float | None = None) -> dict[str, Any]:
            time.sleep(0.1 if self.request.startswith("epochs") else 0)
            return super().hear(seconds)

    begun = time.monotonic()
    outcomes, absent, _, _ = measure({"products": Slow([], 0.1), "xpnet": Slow([], 0.2)}, limit=1.5, rounds=10_000)
    assert time.monotonic() - begun < 10
    counts = {len(outcome["seconds"]) for outcome in outcomes.values()}
    assert len(counts) == 1
    assert 1 <= counts.pop() < 20
    assert absent == {}


@pytest.mark.parametrize(
    ("seconds", "steps", "shown"), [(0.146, 469, "| 0.146 (0.146 to 0.146) | 311 |"), (0.00375, 469, "| 8.0 |")]
)
def test_epochs_of_milliseconds_have_digits_enough(seconds: float, steps: int, shown: str) -> None:
    outcomes, absent, _, _ = measure({"products": Speaks([], seconds), "xpnet": Speaks([], seconds)})
    assert shown in epoch.table(outcomes, absent, "made up", settings(config="small", rows=60_000))


def test_two_of_another_accuracy_fail(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    accuracy = {"products": None, "xpnet": 0.97, "tutorial": 0.95}

    class Knows(Speaks):
        def __init__(self, name: str, _: argparse.Namespace) -> None:
            super().__init__([], 1.0)
            self.name = name

        def hear(self, seconds: float | None = None) -> dict[str, Any]:
            said = super().hear(seconds)
            return said | {"accuracy": accuracy[self.name]} if "accuracy" in said else said

    monkeypatch.setattr(epoch, "START", Knows)
    flags = ["--config", "tiny", "--dry", "--peers"]
    assert epoch.main([*flags, "tutorial"]) == 1
    assert epoch.main([*flags, "xpnet"]) == 0


def test_two_of_other_losses_fail(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The same accuracy does not excuse another first loss; who tells none is not compared."""
    told: dict[str, list[float] | None] = {"products": None, "xpnet": [2.3, 2.2], "jax": [2.3, 2.20001]}
    told["torch"] = [2.3, 2.21]

    class Tells(Speaks):
        def __init__(self, name: str, _: argparse.Namespace) -> None:
            super().__init__([], 1.0)
            self.name = name

        def hear(self, seconds: float | None = None) -> dict[str, Any]:
            said = super().hear(seconds)
            return said | {"losses": told[self.name]} if "accuracy" in said else said

    monkeypatch.setattr(epoch, "START", Tells)
    flags = ["--config", "tiny", "--dry", "--peers"]
    assert epoch.main([*flags, "jax"]) == 0
    out = capsys.readouterr().out
    assert "the first losses of xpnet, jax are 2.3000, 2.2000; they differ by 4.5e-06 of themselves at most" in (
        out.replace("\n", " ")
    )
    assert epoch.main([*flags, "jax", "torch"]) == 1


def test_processes_train_and_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Real ones: products and xpnet learn nothing else than they did, and who cannot take part says why."""
    monkeypatch.delenv("XPNET_DATA", raising=False)
    flags = ["--config", "tiny", "--rows", "300", "--rounds", "1", "--limit", "60", "--out", str(tmp_path)]
    epoch.main([*flags, "--peers", "torch graph", "jax unrolled"])
    record = json.loads((tmp_path / "epoch-cpu-tiny.json").read_text())
    assert record["contenders"].keys() == {"products", "xpnet"}
    assert record["epochs"] == {"warm": 1, "timed": 1}
    assert record["absent"].keys() == {"torch graph", "jax unrolled"}
    assert "GPU" in record["absent"]["torch graph"]
    assert min(record["contenders"]["xpnet"]["seconds"]) > 0


def test_what_libraries_print_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that is not JSON before the answer, and a process that ends."""
    said = "print('warming up'); print('{\"seconds\": 2.0}')"

    def popen(command: list[str], **options: Any) -> Any:
        return start([sys.executable, "-c", said], **options)

    start = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", popen)
    worker = epoch.Process("xpnet", settings())
    assert worker.hear(60) == {"seconds": 2.0}
    with pytest.raises(epoch.Gone, match="its process died"):
        worker.hear(60)
    with pytest.raises(epoch.Gone, match="not ready in time"):
        worker.hear(0.01)
    worker.stop()


def test_on_a_gpu_a_round_is_several_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[argparse.Namespace] = []

    def measured(names: list[str], settings: argparse.Namespace, _: Any) -> Any:
        seen.append(settings)
        return {}, {}, ""

    monkeypatch.setattr(epoch, "measure", measured)
    monkeypatch.setattr(epoch, "get_backend", lambda *_, **__: None)
    monkeypatch.setattr(epoch, "hardware", lambda _: "")
    for device in ("cpu", "cuda", "cuda:1"):
        epoch.main(["--device", device, "--dry"])
    assert [(s.warm, s.timed) for s in seen] == [(1, 1), (5, 5), (5, 5)]


def test_a_reply_is_of_one_epoch() -> None:
    class Counts(Products):
        count = 0

        def epoch(self) -> None:
            self.count += 1
            time.sleep(0.01)

    x, y = np.zeros((64, 784), np.uint8), np.zeros(64, np.int64)
    contender = Counts(CONFIGS["tiny"], x, y, "cpu")
    told = epoch.reply(contender, "epochs 3 4\n", x, y)
    assert contender.count == 7
    assert 0.01 <= told["seconds"] < 0.04
    assert epoch.reply(contender, "end\n", x, y)["accuracy"] is None


# ---- all compute the same --------------------------------------------------------------------------------------------

#: As ``cnn``, with fewer filters and units, and two hidden layers.
FILTERS = Config((784, 5, 10), "relu", 20, 0.5, layers="3C5s2p1-MP2-4C3-6N")


@pytest.mark.parametrize("config", [CONFIGS["tiny"], FILTERS], ids=["tiny", "filters"])
@pytest.mark.parametrize("name", ["torch", "jax", "keras"])
def test_peers_compute_what_xpnet_computes(name: str, config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """The losses of the first steps from the same weights, also after an epoch of something else."""
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    for library in (name, *(["jax"] if name == "keras" else [])):
        pytest.importorskip(library)
    rng = np.random.default_rng(1)
    x, y = rng.integers(0, 256, (100, 784), dtype=np.uint8), rng.integers(0, 10, 100)
    ours, theirs = (CONTENDERS[who](config, x, y, "cpu") for who in ("xpnet", name))
    wanted = ours.losses()
    theirs.epoch()
    assert wanted is not None
    assert len(wanted) == STEPS_CHECKED
    assert len({round(loss, 3) for loss in wanted}) > 1
    np.testing.assert_allclose(theirs.losses() or [], wanted, rtol=1e-5)
    assert 0 <= theirs.accuracy(x, y) <= 1


def test_the_products_of_filters_are_those_of_their_patches() -> None:
    rows = 20
    floor = Products(FILTERS, np.zeros((rows, 784), np.uint8), np.zeros(rows, np.int64), "cpu")
    seen: list[tuple[int, int, int]] = []
    multiply = floor.multiply

    def noted(a: Any, b: Any, **how: Any) -> None:
        seen.append((a.shape[0], a.shape[1], b.shape[1]))
        multiply(a, b, **how)
        expected = floor.backend.matmul(a, b, **{**how, "out": None})
        np.testing.assert_allclose(how["out"], expected, rtol=1e-4, atol=1e-6)

    floor.multiply = noted
    floor.epoch()
    # 13 x 13 windows of 5 x 5, after pooling 4 x 4 of 3 x 3 and 3 channels, each in blocks; then 64-6-5-10.
    first, second = [(n * 169, 25, 3) for n in (8, 8, 4)], [(n * 16, 27, 4) for n in (8, 8, 4)]
    assert seen[:9] == [*first, *second, (20, 64, 6), (20, 6, 5), (20, 5, 10)]
    assert len(seen) == 9 + 9 + 6  # forward, the weights, and all but the first layer's inputs


@pytest.mark.parametrize("name", ["scikit-learn", "tutorial"])
def test_who_has_no_filters_does_not_take_part(name: str) -> None:
    with pytest.raises(ImportError, match="filters"):
        CONTENDERS[name](FILTERS, np.zeros((16, 784), np.uint8), np.zeros(16, np.int64), "cpu")


# ---- who takes part --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["scikit-learn", "tutorial", "xpnet numba"])
def test_who_computes_on_the_cpu_is_not_measured_beside_a_gpu(name: str) -> None:
    x, y = np.zeros((64, 784), np.uint8), np.zeros(64, np.int64)
    with pytest.raises(ImportError, match="CPU"):
        CONTENDERS[name](CONFIGS["tiny"], x, y, "cuda")


@pytest.mark.parametrize("name", ["jax unrolled", "torch graph", "torch graph compiled"])
def test_what_is_for_a_gpu_is_not_measured_on_a_cpu(name: str) -> None:
    x, y = np.zeros((64, 784), np.uint8), np.zeros(64, np.int64)
    with pytest.raises(ImportError, match="GPU"):
        CONTENDERS[name](CONFIGS["tiny"], x, y, "cpu")


def test_the_products_of_the_cpu_are_not_recorded() -> None:
    rows = 64 * (STEPS_OF_GRAPH + 1)
    floor = Products(CONFIGS["tiny"], np.zeros((rows, 784), np.uint8), np.zeros(rows, np.int64), "cpu")
    assert floor.recorded is None
    assert [is_gpu(name) for name in ("cpu", "cuda", "cuda:1", "numba")] == [False, True, True, False]
    assert "XPNET_STARTED" not in os.environ
