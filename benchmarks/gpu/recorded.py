"""``python -m benchmarks.gpu.recorded``: does a recorded run end with the bits of one that is launched call by call?

Several networks are trained twice from the same start, the last batch of an epoch being a short one: once as ``fit``
does it, from the second step of a size on as a CUDA graph, and once with a new recording for each step, whose first
call runs the operations themselves. Parameters, the optimizer's state and the losses must be equal bit for bit.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from backends import Backend, DeviceError, Step, StepNumbers, get_backend
from benchmarks.contenders.config import CONFIGS, MOMENTUM
from benchmarks.contenders.xpnet import network
from nn import SGD, Adam, Dataset, Dropout, Layer, Linear, Optimizer, ReLU, Sequential, Sigmoid, Softmax, Tanh, Trainer

EPOCHS = 4


@dataclass(frozen=True)
class Case:
    """A network and how it is trained. ``layers`` makes it for rows of so many columns; an epoch has so many steps."""

    layers: Callable[[], list[Layer]]
    columns: int
    batch_size: int
    optimizer: Callable[[], Optimizer]
    loss: str = "softmax_cross_entropy"
    dtype: str = "float32"
    steps: int = 5


def of_config(name: str) -> Case:
    """A network of ``benchmarks.epoch``."""
    config = CONFIGS[name]

    def momentum() -> Optimizer:
        return SGD(config.learning_rate / 10, momentum=MOMENTUM, dampening=MOMENTUM)

    return Case(partial(network, config), config.widths[0], config.batch_size, momentum)


def mixed() -> list[Layer]:
    return [Linear(40, 33), ReLU(), Dropout(0.2), Linear(33, 70), Tanh(), Linear(70, 10), Softmax()]


def sigmoids() -> list[Layer]:
    return [Linear(40, 30), Sigmoid(), Linear(30, 10), Sigmoid()]


CASES = {
    **{name: of_config(name) for name in CONFIGS},
    "dropout, Adam": Case(mixed, 40, 32, lambda: Adam(0.01, weight_decay=1e-3)),
    "dropout, Adam, float64": Case(mixed, 40, 32, lambda: Adam(0.01), dtype="float64"),
    "squared error, Nesterov": Case(
        sigmoids, 40, 10, lambda: SGD(0.5, momentum=0.9, nesterov=True), "mean_squared_error"
    ),
    # So many that 16 are in a graph: with launches that begin early, where one lets the first of the next step begin.
    "many steps": replace(of_config("small"), steps=400),
    "many steps of wide": replace(of_config("wide"), steps=240),
    "one row a step": Case(sigmoids, 40, 1, lambda: SGD(0.1), "mean_squared_error"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Compare and print; 1 if a bit differs or a run was not recorded."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.recorded", description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cuda", help="cuda, or cuda:N")
    parser.add_argument("--case", nargs="+", choices=CASES, default=[*CASES], metavar="NAME", help="which networks")
    parser.add_argument("--steps", type=int, help="of an epoch, the last of them on a short batch; as the network has")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the result goes, after each network")
    settings = parser.parse_args(argv)
    if settings.steps is not None and settings.steps < 1:
        parser.error("--steps must be at least 1")
    try:
        get_backend(settings.device)
    except DeviceError as error:
        parser.error(str(error))
    found: dict[str, Any] = {}
    for name in settings.case:
        found[name] = compare(CASES[name], settings.device, settings.steps or CASES[name].steps)
        print(f"{name}: {verdict(found[name])}", flush=True)
        if settings.json is not None:
            settings.json.write_text(json.dumps(found, indent=1) + "\n")
    return int(not all(map(is_equal, found.values())))


def is_equal(outcome: dict[str, Any]) -> bool:
    recorded, eager = outcome["graphs"]
    return not outcome["differences"] and not outcome["why_eager"] and recorded >= outcome["sizes"] and eager == 0


def verdict(outcome: dict[str, Any]) -> str:
    """In words."""
    recorded, eager = outcome["graphs"]
    told = f"{outcome['steps']} steps, {recorded} graphs"
    if outcome["why_eager"]:
        return f"NOT RECORDED: {outcome['why_eager']}"
    if outcome["differences"]:
        return f"DIFFERENT in {'; '.join(outcome['differences'])} ({told})"
    if not is_equal(outcome):
        return f"NOT SHOWN: {recorded} graphs for {outcome['sizes']} sizes, and {eager} where there must be none"
    return f"equal bit for bit ({told})"


def compare(case: Case, device: str, steps: int) -> dict[str, Any]:
    """Train twice, and say in what the outcomes differ."""
    size = case.batch_size
    rows = steps * size - size // 3
    backend: Any = get_backend(device, case.dtype)
    recorded, graphs = train(case, backend, rows)
    why = backend.why_eager
    expected, none = train(case, call_by_call(backend), rows)
    return {
        "steps": EPOCHS * steps,
        "sizes": 1 if rows % size == 0 else 2,
        "graphs": [graphs, none],
        "why_eager": why,
        "differences": [
            difference(name, recorded[name], values)
            for name, values in expected.items()
            if recorded[name].tobytes() != values.tobytes()
        ],
    }


def difference(name: str, found: np.ndarray, expected: np.ndarray) -> str:
    """Where and by how much two arrays of one shape differ."""
    wrong = found != expected
    return f"{name} ({wrong.sum()} of {wrong.size} numbers, at most {np.abs(found - expected).max():.1e})"


def call_by_call(backend: Any) -> Backend:
    """A backend of the same device that launches all operations of each step: the first call of each recording."""

    class CallByCall(type(backend)):  # type: ignore[misc]
        def record(self, step: Step, **options: Any) -> Step:
            record = super().record

            def first(numbers: StepNumbers, count: int, times: int = 1) -> None:
                for _ in range(times):
                    record(step, **options)(numbers, count)
                    numbers = numbers.after(count)

            return first

    made: Backend = CallByCall(backend.device, backend.dtype_name)
    return made


def train(case: Case, backend: Any, rows: int) -> tuple[dict[str, np.ndarray], int]:
    """Everything that a run leaves behind, and how many graphs were launched for it."""
    rng = np.random.default_rng(1)
    x = rng.integers(0, 256, (rows, case.columns), dtype=np.uint8)
    y = rng.integers(0, 10, rows)
    model = Sequential(*case.layers(), backend=backend, seed=3)
    trainer = Trainer(model, case.loss, case.optimizer())
    with watching(backend.cupy.cuda) as launched:
        trainer.fit(Dataset(x, y, scale=1 / 255), EPOCHS, case.batch_size)
    arrays = dict(model.state_dict())
    arrays |= {f"optimizer {name}": backend.to_numpy(x) for name, x in trainer.optimizer.state.items()}
    return arrays | {"losses": np.array(trainer.history["loss"])}, len(launched)


class Watched:
    """A graph of CuPy that notes itself in ``launched`` when it is launched."""

    def __init__(self, graph: Any, launched: set[Any]) -> None:
        self.graph_of_cupy, self.launched = graph, launched

    def launch(self, *arguments: Any) -> None:
        self.launched.add(self)
        self.graph_of_cupy.launch(*arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.graph_of_cupy, name)


@contextmanager
def watching(cuda: Any) -> Iterator[set[Any]]:
    """The graphs that are captured through CuPy meanwhile, and launched; ``cuda`` is the module ``cupy.cuda``."""
    launched: set[Any] = set()
    plain: Any = cuda.Stream

    class Stream(plain):  # type: ignore[misc]
        def end_capture(self) -> Any:
            return Watched(super().end_capture(), launched)

    cuda.Stream = Stream
    try:
        yield launched
    finally:
        cuda.Stream = plain


if __name__ == "__main__":
    sys.exit(main())
