"""The floor of an epoch: the products of its matrices."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import groupby
from math import prod
from typing import Any

import numpy as np

from backends import Step, StepNumbers
from backends.cpu.threads import depends_on_threads, numpy_threads

from .base import Contender, unrecorded
from .config import Config, is_gpu

#: So many pictures the products of filters take at once on the CPU: their patches stay in cache.
PICTURES_OF_BLOCK = 8
#: So many steps of products are one captured graph: the nodes that move numbers on from step to step are no products.
STEPS_OF_GRAPH = 16


class Products(Contender):
    """The floor: the matrix products of an epoch and nothing else, into memory that is there already.

    Those of filters are of a matrix of patches, a row for each window. That matrix is there already, too; on the CPU it
    is that of a few pictures, which stays in cache, over and over. On a GPU products are recorded, or Python would be
    timed. On the CPU they are NumPy's own, which everybody has; xpnet computes some of them faster.
    """

    name = "products"
    learns = False

    def __init__(self, config: Config, x: np.ndarray, y: np.ndarray, device: str) -> None:
        from backends import get_backend

        self.backend = get_backend(device, precision=config.precision)
        self.sizes = [min(config.batch_size, len(x) - start) for start in range(0, len(x), config.batch_size)]
        rng = np.random.default_rng(0)

        def random(*shape: int) -> Any:
            return self.backend.asarray(rng.standard_normal(shape) * 0.05)

        # Of each layer: how many rows of its matrix a row of the batch is, and the sides of its weights.
        sides = [
            (prod(after[:-1]), prod(shape[:-1]), shape[-1])
            for shape, after in zip(
                config.weights(), (after for entry, _, after in config.shapes() if entry.has_weights), strict=True
            )
        ]
        self.weights = [random(n_in, n_out) for _, n_in, n_out in sides]
        self.gradients = [random(n_in, n_out) for _, n_in, n_out in sides]
        self.multiply: Callable[..., Any] = self.backend.matmul if is_gpu(device) else numpys_own
        blocked = not is_gpu(device)
        self.products = {
            size: list(self.of_step([(rows, size, blocked and rows > 1) for rows, _, _ in sides], random))
            for size in {*self.sizes}
        }

        self.of_rows: dict[int, list[int]] = {}
        self.recorded = self.backend.record(self.steps) if is_gpu(device) else None

    def epoch(self) -> None:
        with self.backend.use():
            if self.recorded is None:
                for size in self.sizes:
                    self.step(size)
            else:
                self.replay(self.recorded)
            self.backend.synchronize()

    def step(self, size: int) -> None:
        """The products of a step on so many rows."""
        for a, b, how in self.products[size]:
            self.multiply(a, b, **how)

    def of_step(
        self, layers: list[tuple[int, int, bool]], random: Callable[..., Any]
    ) -> Iterator[tuple[Any, Any, dict[str, Any]]]:
        """What each product of a step takes and where it goes.

        Args:
            layers: how many rows of its matrix a row of the batch is, how many rows the batch has, and whether they
                are taken in blocks.
        """
        inputs, outputs, deltas, before, counts = [], [], [], [], []
        for (rows, size, blocked), weight in zip(layers, self.weights, strict=True):
            most = min(size, PICTURES_OF_BLOCK) if blocked else size
            counts.append([rows * min(most, size - start) for start in range(0, size, most)])
            inputs.append(random(rows * most, weight.shape[0]))
            outputs.append(random(rows * most, weight.shape[1]))
            deltas.append(random(rows * most, weight.shape[1]))
            before.append(random(rows * most, weight.shape[0]))
        # What a layer computes is what the next one takes, if there is nothing between them.
        outputs[:-1] = [b if a.shape == b.shape else a for a, b in zip(outputs, inputs[1:], strict=False)]
        before[1:] = [b if a.shape == b.shape else a for a, b in zip(before[1:], deltas, strict=False)]
        for x, weight, y, blocks in zip(inputs, self.weights, outputs, counts, strict=True):
            yield from ((x[:n], weight, {"out": y[:n]}) for n in blocks)
        for i in reversed(range(len(layers))):
            x, d, dx = inputs[i], deltas[i], before[i]
            for n in counts[i]:
                yield x[:n], d[:n], {"transpose_a": True, "out": self.gradients[i]}
                if i:
                    yield d[:n], self.weights[i], {"transpose_b": True, "out": dx[:n]}

    def replay(self, recorded: Step) -> None:
        """An epoch, several steps at a call: all of a call are on batches of one size."""
        numbers = StepNumbers(0, 0, 1, 0.0)
        for size, same in groupby(self.sizes):
            left = len([*same])
            while left:
                steps = min(left, STEPS_OF_GRAPH)
                self.of_rows[steps * size] = [size] * steps
                recorded(numbers, steps * size)
                numbers, left = numbers.after(steps * size), left - steps

    def steps(self, _: StepNumbers, rows: int) -> None:
        """The products of the steps that have so many rows together, to be recorded."""
        for size in self.of_rows[rows]:
            self.step(size)

    def remark(self) -> str:
        return unrecorded(self.backend)


def numpys_own(
    a: np.ndarray, b: np.ndarray, *, out: np.ndarray, transpose_a: bool = False, transpose_b: bool = False
) -> None:
    """A product by NumPy, on as many threads of its BLAS as are worth it."""
    first, second = a.T if transpose_a else a, b.T if transpose_b else b
    multiply, (m, n), k = partial(np.dot, first, second, out=out), out.shape, len(second)
    threads = numpy_threads()
    if threads is None or not depends_on_threads(m, n, k):
        multiply()
    else:
        threads.call(m * n * k, None, multiply)
