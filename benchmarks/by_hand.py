"""``python -m benchmarks.by_hand``: steps of small batches beside loops written by hand for just these networks.

Where batches are small, the calls themselves take the time, and a general trainer has to show that it makes no more of
them than somebody who knows the network. The two take turns in one process; told are the microseconds of a step, by the
clock and of the processor, and the ratios within a turn, by the processor's time, which other processes disturb less.
Printed, and written to ``benchmarks/results/by-hand-DEVICE.md``.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter, process_time
from typing import Any, Protocol

import numpy as np

from backends import get_backend
from benchmarks.contenders.config import CONFIGS, MOMENTUM
from benchmarks.epoch import RESULTS, load_rows, machine
from nn import SGD, Dataset, Linear, Sequential, Sigmoid, Softmax, Trainer

#: Of the network with one row a step: small enough for batches of that size.
LEARNING_RATE = 0.01


class Loop(Protocol):
    """What trains for some steps."""

    def train(self, steps: int) -> None: ...


class OneRow:
    """What somebody careful writes for one network and one row a step: sigmoid, softmax, momentum.

    All in float32, the rows scaled beforehand; vectors, no matrices of one row; every result into memory that is there
    already; parameters, gradients and velocities each in one piece, so that an update is five calls. It keeps no
    account of the loss and checks nothing.
    """

    def __init__(self, widths: tuple[int, ...], learning_rate: float, x: np.ndarray, y: np.ndarray) -> None:
        n_in, n_hidden, n_out = widths
        self.x, self.y = x / np.float32(255), y.tolist()
        self.learning_rate = learning_rate
        self.rng = np.random.default_rng(0)
        shapes = ((n_in, n_hidden), (n_hidden,), (n_hidden, n_out), (n_out,))
        ends = np.cumsum([math.prod(shape) for shape in shapes])
        self.params, self.gradients, self.velocity = np.zeros((3, ends[-1]), np.float32)

        def pieces(whole: np.ndarray) -> list[np.ndarray]:
            return [part.reshape(shape) for part, shape in zip(np.split(whole, ends[:-1]), shapes, strict=True)]

        self.w1, self.b1, self.w2, self.b2 = pieces(self.params)
        self.dw1, self.db1, self.dw2, self.db2 = pieces(self.gradients)
        for w in (self.w1, self.w2):
            w[...] = self.rng.standard_normal(w.shape) / np.sqrt(len(w))
        self.a1 = np.zeros(n_hidden, np.float32)

    def step(self, i: int) -> None:
        x, a1 = self.x[i], self.a1
        d1, d2 = self.db1, self.db2  # the gradient of a bias is that of its sum

        np.dot(x, self.w1, out=a1)
        np.add(a1, self.b1, out=a1)
        np.negative(a1, out=a1)
        np.exp(a1, out=a1)
        np.add(a1, 1.0, out=a1)
        np.reciprocal(a1, out=a1)
        np.dot(a1, self.w2, out=d2)
        np.add(d2, self.b2, out=d2)
        np.subtract(d2, d2.max(), out=d2)
        np.exp(d2, out=d2)
        np.divide(d2, d2.sum(), out=d2)

        d2[self.y[i]] -= 1.0
        np.dot(a1[:, None], d2[None], out=self.dw2)  # half the time of np.outer
        np.dot(self.w2, d2, out=d1)
        np.multiply(d1, a1, out=d1)
        np.subtract(1.0, a1, out=a1)
        np.multiply(d1, a1, out=d1)
        np.dot(x[:, None], d1[None], out=self.dw1)

        v, g = self.velocity, self.gradients
        np.multiply(v, MOMENTUM, out=v)
        np.multiply(g, 1.0 - MOMENTUM, out=g)
        np.add(v, g, out=v)
        np.multiply(v, self.learning_rate, out=g)
        np.subtract(self.params, g, out=self.params)

    def train(self, steps: int) -> None:
        for i in self.rng.permutation(len(self.x))[:steps].tolist():
            self.step(i)


class TenRows:
    """The same for ten rows a step, squared error and plain gradient descent: the network that tutorials begin with.

    As careful, with matrices; the targets as rows of 0 and 1. ``careless`` is the loop as the tutorials have it, in
    float32: a new array for every result.
    """

    rows = 10

    def __init__(
        self, widths: tuple[int, ...], learning_rate: float, x: np.ndarray, y: np.ndarray, *, careless: bool = False
    ) -> None:
        n_in, n_hidden, n_out = widths
        self.x, self.t = x / np.float32(255), np.eye(n_out, dtype=np.float32)[y]
        self.rate = 2 * learning_rate / n_out / self.rows  # the gradient of the mean over outputs and rows
        self.rng = np.random.default_rng(0)
        self.one_step = self.careless_step if careless else self.step

        def zeros(*shape: int) -> np.ndarray:
            made: np.ndarray = np.zeros(shape, np.float32)
            return made

        def drawn(n: int, to: int) -> np.ndarray:
            made: np.ndarray = (self.rng.standard_normal((n, to)) / np.sqrt(n)).astype(np.float32)
            return made

        m = self.rows
        self.w1, self.w2, self.b1, self.b2 = (
            drawn(n_in, n_hidden),
            drawn(n_hidden, n_out),
            zeros(n_hidden),
            zeros(n_out),
        )
        self.dw1, self.dw2, self.db1, self.db2 = (np.zeros_like(x) for x in (self.w1, self.w2, self.b1, self.b2))
        self.xb, self.tb = zeros(m, n_in), zeros(m, n_out)
        self.a1, self.d1, self.s1 = (zeros(m, n_hidden) for _ in range(3))
        self.a2, self.s2 = zeros(m, n_out), zeros(m, n_out)

    def step(self, rows: np.ndarray) -> None:
        x, a1, d1, s1, a2, d2, s2 = self.xb, self.a1, self.d1, self.s1, self.a2, self.tb, self.s2
        self.x.take(rows, 0, x, "clip")
        self.t.take(rows, 0, d2, "clip")

        for a, w, b, given in ((a1, self.w1, self.b1, x), (a2, self.w2, self.b2, a1)):
            np.dot(given, w, out=a)
            np.add(a, b, out=a)
            np.negative(a, out=a)
            np.exp(a, out=a)
            np.add(a, 1.0, out=a)
            np.reciprocal(a, out=a)

        np.subtract(a2, d2, out=d2)
        np.subtract(1.0, a2, out=s2)
        np.multiply(s2, a2, out=s2)
        np.multiply(d2, s2, out=d2)
        np.multiply(d2, self.rate, out=d2)
        np.dot(d2, self.w2.T, out=d1)
        np.subtract(1.0, a1, out=s1)
        np.multiply(s1, a1, out=s1)
        np.multiply(d1, s1, out=d1)

        np.dot(a1.T, d2, out=self.dw2)
        np.subtract(self.w2, self.dw2, out=self.w2)
        np.subtract(self.b2, d2.sum(0, out=self.db2), out=self.b2)
        np.dot(x.T, d1, out=self.dw1)
        np.subtract(self.w1, self.dw1, out=self.w1)
        np.subtract(self.b1, d1.sum(0, out=self.db1), out=self.b1)

    def careless_step(self, rows: np.ndarray) -> None:
        x, t = self.x[rows], self.t[rows]
        a1 = 1.0 / (1.0 + np.exp(-(x @ self.w1 + self.b1)))
        a2 = 1.0 / (1.0 + np.exp(-(a1 @ self.w2 + self.b2)))
        d2 = (a2 - t) * a2 * (1.0 - a2)
        d1 = d2 @ self.w2.T * a1 * (1.0 - a1)
        self.w2 -= self.rate * (a1.T @ d2)
        self.b2 -= self.rate * d2.sum(axis=0)
        self.w1 -= self.rate * (x.T @ d1)
        self.b1 -= self.rate * d1.sum(axis=0)

    def train(self, steps: int) -> None:
        order = self.rng.permutation(len(self.x))
        for start in range(0, steps * self.rows, self.rows):
            self.one_step(order[start : start + self.rows])


class Xpnet:
    """xpnet, through ``Trainer.fit``: rows of bytes, loss and correct rows counted."""

    def __init__(self, trainer: Trainer, batch_size: int, x: np.ndarray, y: np.ndarray) -> None:
        self.trainer, self.batch_size = trainer, batch_size
        self.rows = trainer.upload(Dataset(x, y, scale=1 / 255))

    def train(self, steps: int) -> None:
        assert steps * self.batch_size == len(self.rows)
        self.trainer.fit(self.rows, 1, self.batch_size)


@dataclass(frozen=True)
class Contest:
    """A network, and who trains it by hand."""

    title: str
    rows: int
    ours: Callable[[Any], Trainer]
    by_hand: dict[str, Callable[[np.ndarray, np.ndarray], Loop]]


def one_row(backend: Any) -> Trainer:
    n_in, n_hidden, n_out = CONFIGS["small"].widths
    model = Sequential(Linear(n_in, n_hidden), Sigmoid(), Linear(n_hidden, n_out), Softmax(), backend=backend)
    return Trainer(model, optimizer=SGD(LEARNING_RATE, momentum=MOMENTUM, dampening=MOMENTUM))


def ten_rows(backend: Any) -> Trainer:
    model = Sequential(Linear(784, 30), Sigmoid(), Linear(30, 10), Sigmoid(), backend=backend)
    return Trainer(model, "mean_squared_error", SGD(3.0))


CONTESTS = (
    Contest(
        "784-64-10, one row a step, cross-entropy, momentum",
        1,
        one_row,
        {"by hand": lambda x, y: OneRow(CONFIGS["small"].widths, LEARNING_RATE, x, y)},
    ),
    Contest(
        "784-30-10, ten rows a step, squared error",
        10,
        ten_rows,
        {
            "by hand": lambda x, y: TenRows((784, 30, 10), 3.0, x, y),
            "as in a tutorial": lambda x, y: TenRows((784, 30, 10), 3.0, x, y, careless=True),
        },
    ),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.by_hand", description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cpu", help="cpu or numba")
    parser.add_argument("--steps", type=int, default=3000, help="steps in a turn")
    parser.add_argument("--rounds", type=int, default=15, help="turns of each that are timed")
    parser.add_argument("--dry", action="store_true", help="print the table but write no file")
    settings = parser.parse_args(argv)
    try:
        backend = get_backend(settings.device)
    except ValueError as error:
        parser.error(str(error))
    (x, y), _, origin = load_rows(10 * settings.steps)
    lines = ["| network | who | us per step | us of the processor | xpnet takes |", "|---|---|---|---|---|"]
    for contest in CONTESTS:
        rows = slice(contest.rows * settings.steps)
        loops: dict[str, Loop] = {"xpnet": Xpnet(contest.ours(backend), contest.rows, x[rows], y[rows])}
        loops |= {name: make(x[rows], y[rows]) for name, make in contest.by_hand.items()}
        found = race(loops, settings.steps, settings.rounds)
        for name, turns in found.items():
            clock, processor = (median(turn[i] for turn in turns) for i in (0, 1))
            ratios = [ours[1] / theirs[1] for ours, theirs in zip(found["xpnet"], turns, strict=True)]
            ratio = (
                "" if name == "xpnet" else f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) times that"
            )
            lines.append(f"| {contest.title} | {name} | {clock:.1f} | {processor:.1f} | {ratio} |")
    about = machine()
    lines += ["", f"{settings.device}, rows {origin}, {settings.rounds} turns of {settings.steps} steps, {about}."]
    text = "\n".join([*lines, ""])
    print(text)
    if not settings.dry:
        (RESULTS / f"by-hand-{settings.device}.md").write_text(text)
    return 0


def race(loops: dict[str, Loop], steps: int, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Microseconds of a step in each turn, by the clock and of the processor."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in loops}
    for turn in range(-1, rounds):
        for name, loop in loops.items():
            clock, processor = perf_counter(), process_time()
            loop.train(steps)
            taken = (perf_counter() - clock) / steps * 1e6, (process_time() - processor) / steps * 1e6
            if turn >= 0:  # the first one is to warm up
                found[name].append(taken)
    return found


if __name__ == "__main__":
    raise SystemExit(main())
