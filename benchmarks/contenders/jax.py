"""JAX, an epoch as one scan."""

from __future__ import annotations

import os
from math import prod
from typing import Any, ClassVar

import numpy as np

from nn.cli.architecture import Filters, Pooling

from .base import Contender, first_batches
from .config import MOMENTUM, PICTURE, Config, index_of, is_gpu


class Jax(Contender):
    """JAX: one jitted function for an epoch, a scan over its batches (the short last one by itself).

    On a GPU the rows stay bytes: the kernel that gathers a batch also scales it. On the CPU a network with filters is
    called step by step, as XLA has no fast convolution inside a loop there.
    """

    name = "jax"
    unroll: ClassVar[int] = 1

    def __init__(self, config: Config, x: np.ndarray, y: np.ndarray, device: str) -> None:
        # Or it takes three quarters of the memory of a GPU that others measure on.
        os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.15")
        import jax
        import jax.numpy as jnp

        self.jax: Any = jax
        on_gpu = is_gpu(device)
        self.jax.config.update("jax_platforms", "cuda" if on_gpu else "cpu")
        if on_gpu:
            self.jax.config.update("jax_default_device", jax.devices()[index_of(device)])
        # Its default on a GPU is tf32.
        precisions = {"float32": "float32", "tf32": "tensorfloat32", "bf16": "bfloat16"}
        self.jax.config.update("jax_default_matmul_precision", precisions[config.precision])
        self.config = config
        kinds = {"sigmoid": jax.nn.sigmoid, "tanh": jnp.tanh, "relu": jax.nn.relu}
        activate, size = kinds[config.activation], config.batch_size
        self.x, self.y = jnp.asarray(x if on_gpu else x / np.float32(255)), jnp.asarray(y)
        self.reset()
        self.key = jax.random.key(0)

        def batch(x: Any, rows: Any) -> Any:
            return x[rows].astype(jnp.float32) * np.float32(1 / 255) if on_gpu else x[rows]

        def logits(params: Any, x: Any) -> Any:
            given = iter(params)
            x = x.reshape(-1, *PICTURE) if config.layers else x
            for entry, before, _ in config.shapes():
                if isinstance(entry, Pooling):
                    window, strides = (1, entry.size, entry.size, 1), (1, entry.stride, entry.stride, 1)
                    x = jax.lax.reduce_window(x, -np.inf, jax.lax.max, window, strides, "VALID")
                    continue
                w, b = next(given)
                if isinstance(entry, Filters):
                    stride, padding = [entry.stride] * 2, [(entry.padding, entry.padding)] * 2
                    order = ("NHWC", "HWIO", "NHWC")
                    x = activate(jax.lax.conv_general_dilated(x, w, stride, padding, dimension_numbers=order) + b)
                else:
                    x = x.reshape(-1, prod(before)) @ w + b
                    x = activate(x) if w is not params[-1][0] else x
            return x

        def loss(params: Any, x: Any, y: Any) -> Any:
            return -jnp.take_along_axis(jax.nn.log_softmax(logits(params, x)), y[:, None], axis=1).mean()

        def step(state: Any, rows: Any, x: Any, y: Any) -> tuple[Any, Any]:
            params, velocity = state
            value, gradients = jax.value_and_grad(loss)(params, batch(x, rows), y[rows])
            velocity = jax.tree.map(lambda v, g: MOMENTUM * v + (1 - MOMENTUM) * g, velocity, gradients)
            params = jax.tree.map(lambda p, v: p - config.learning_rate * v, params, velocity)
            return (params, velocity), value

        def epoch(state: Any, key: Any, x: Any, y: Any) -> Any:
            order = jax.random.permutation(key, len(x))
            whole = len(x) - len(x) % size
            batches = order[:whole].reshape(-1, size)
            one = lambda state, rows: (step(state, rows, x, y)[0], None)  # noqa: E731
            state, _ = jax.lax.scan(one, state, batches, unroll=self.unroll)
            return step(state, order[whole:], x, y)[0] if whole < len(x) else state

        self._epoch = jax.jit(epoch, donate_argnums=0)
        self._step = jax.jit(step, donate_argnums=0)
        self._order = jax.jit(jax.random.permutation, static_argnums=1)
        self.scans = on_gpu or not config.layers
        self._logits = jax.jit(logits)

    def reset(self) -> None:
        """Initial values, and no velocity."""
        jnp = self.jax.numpy
        self.params = [(jnp.asarray(weight), jnp.asarray(bias)) for weight, bias in self.config.initial()]
        self.velocity = self.jax.tree.map(jnp.zeros_like, self.params)

    def losses(self) -> list[float]:
        self.reset()
        found, state = [], (self.params, self.velocity)
        for batch in first_batches(self.config, len(self.x)):
            state, loss = self._step(state, np.arange(batch.start, batch.stop), self.x, self.y)
            found.append(float(loss))
        self.params, self.velocity = state
        return found

    def epoch(self) -> None:
        self.epochs(1)

    def epochs(self, count: int) -> None:
        state = self.params, self.velocity
        for _ in range(count):
            self.key, key = self.jax.random.split(self.key)
            state = self._epoch(state, key, self.x, self.y) if self.scans else self.steps(state, key)
        self.params, self.velocity = self.jax.block_until_ready(state)

    def steps(self, state: Any, key: Any) -> Any:
        """An epoch, a call for each step."""
        order, size = np.asarray(self._order(key, len(self.x))), self.config.batch_size
        for start in range(0, len(order), size):
            state, _ = self._step(state, order[start : start + size], self.x, self.y)
        return state

    def accuracy(self, x: np.ndarray, y: np.ndarray) -> float:
        outputs = np.asarray(self._logits(self.params, x / np.float32(255)))
        return float((outputs.argmax(axis=1) == y).mean())

    def version(self) -> str:
        return f"jax {self.jax.__version__}"


class JaxUnrolled(Jax):
    """The same with 16 steps in one turn of the scan; a GPU only."""

    name = "jax unrolled"
    unroll = 16

    def __init__(self, config: Config, x: np.ndarray, y: np.ndarray, device: str) -> None:
        if not is_gpu(device):
            raise ImportError("for a GPU, where a turn of the scan costs a launch")
        super().__init__(config, x, y, device)
