"""What trains in ``benchmarks.epoch``: the same network, rows, batches and optimizer in every library.

A contender is a class with ``epoch()``, which trains once over all rows in a fresh order and returns when that is
finished, ``epochs(count)``, and ``accuracy(x, y)``. Its imports happen when it is made, so that a process has only its
own. All use SGD with dampened momentum 0.9, v <- 0.9 v + 0.1 g, and hold the rows as their own users would: on the
device from the start, and on a GPU as bytes where converting them costs no launch of its own.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any, ClassVar

import numpy as np

from backends import Backend, Step, StepNumbers

MOMENTUM = 0.9
#: So many steps of products are one captured graph: the nodes that move numbers on from step to step are no products.
STEPS_OF_GRAPH = 16


def is_gpu(device: str) -> bool:
    """Whether ``cuda`` or ``cuda:N`` is meant."""
    return device.partition(":")[0] == "cuda"


def index_of(device: str) -> int:
    """The number of the GPU."""
    return int(device.partition(":")[2] or 0)


@dataclass(frozen=True)
class Config:
    """A network and how it is trained."""

    widths: tuple[int, ...]
    activation: str
    batch_size: int
    learning_rate: float
    precision: str = "float32"


CONFIGS = {
    "tiny": Config((784, 16, 10), "sigmoid", 64, 4.0),
    "small": Config((784, 64, 10), "sigmoid", 128, 4.0),
    "wide": Config((784, 512, 512, 10), "relu", 256, 0.5),
    "deep": Config((784, 2500, 2000, 1500, 1000, 500, 10), "tanh", 512, 0.5),
}
#: Those that are measured; the other is for a try of the programs.
MEASURED = ("small", "wide", "deep")


class Contender:
    """Made from the rows: x uint8 (n, n_in), y int64 (n,)."""

    name: ClassVar[str]
    learns: ClassVar[bool] = True

    def __init__(self, config: Config, x: np.ndarray, y: np.ndarray, device: str) -> None:
        raise NotImplementedError

    def epoch(self) -> None:
        raise NotImplementedError

    def epochs(self, count: int) -> None:
        """So many, one after the other; on a GPU the host need not wait for each."""
        for _ in range(count):
            self.epoch()

    def accuracy(self, x: np.ndarray, y: np.ndarray) -> float:
        raise NotImplementedError

    def version(self) -> str:
        """The library and its version."""
        return f"numpy {np.__version__}"

    def remark(self) -> str:
        """What a reader of the figures must know; "" where there is nothing."""
        return ""


def unrecorded(backend: Backend) -> str:
    """Why steps are launched one operation at a time; "" where they are recorded."""
    return f"not recorded as a CUDA graph ({backend.why_eager})" if backend.why_eager else ""


class Products(Contender):
    """The floor: the matrix products of an epoch and nothing else, into memory that is there already.

    On a GPU they are recorded, or Python would be timed.
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

        widths = config.widths
        self.weights = [random(n_in, n_out) for n_in, n_out in pairwise(widths)]
        self.gradients = [random(*weight.shape) for weight in self.weights]
        self.activations = {size: [random(size, width) for width in widths] for size in set(self.sizes)}
        self.deltas = {size: [random(size, width) for width in widths] for size in set(self.sizes)}

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
        backend, layers = self.backend, range(len(self.weights))
        a, d = self.activations[size], self.deltas[size]
        for i in layers:
            backend.matmul(a[i], self.weights[i], out=a[i + 1])
        for i in reversed(layers):
            backend.matmul(a[i], d[i + 1], transpose_a=True, out=self.gradients[i])
            if i:
                backend.matmul(d[i + 1], self.weights[i], transpose_b=True, out=d[i])

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


class Xpnet(Contender):
    """xpnet, through ``Trainer.fit``."""

    name = "xpnet"

    def __init__(self, config: Config, x: np.ndarray, y: np.ndarray, device: str) -> None:
        from backends import get_backend
        from nn import SGD, Dataset, Linear, Sequential, Softmax, Trainer
        from nn.layers.activations import ACTIVATION_LAYERS

        layers: list[Any] = []
        for n_in, n_out in pairwise(config.widths):
            layers += [Linear(n_in, n_out), ACTIVATION_LAYERS[config.activation]()]
        model = Sequential(*layers[:-1], Softmax(), backend=get_backend(device, precision=config.precision))
        self.trainer = Trainer(model, optimizer=SGD(config.learning_rate, momentum=MOMENTUM, dampening=MOMENTUM))
        self.rows = self.trainer.upload(Dataset(x, y, scale=1 / 255), keep_scaled=config.batch_size >= len(x))
        self.batch_size = config.batch_size

    def epoch(self) -> None:
        self.epochs(1)

    def epochs(self, count: int) -> None:
        self.trainer.fit(self.rows, count, self.batch_size)

    def accuracy(self, x: np.ndarray, y: np.ndarray) -> float:
        return float((self.trainer.predict(x) == y).mean())

    def version(self) -> str:
        import nn

        return f"xpnet {nn.__version__}"

    def remark(self) -> str:
        return unrecorded(self.trainer.backend)


class XpnetNumba(Xpnet):
    """xpnet on the CPU with loops compiled by Numba."""

    name = "xpnet numba"

    def __init__(self, config: Config, x: np.ndarray, y: np.ndarray, device: str) -> None:
        if device != "cpu":
            raise ImportError("Numba compiles for the CPU")
        super().__init__(config, x, y, "numba")

    def version(self) -> str:
        return self.trainer.backend.device.version()


class Tutorial(Contender):
    """What a tutorial's reader writes: float64, a new array for every expression."""

    name = "tutorial"

    def __init__(self, config: Config, x: np.ndarray, y: np.ndarray, device: str) -> None:
        if is_gpu(device):
            raise ImportError("it computes on the CPU")
        self.config = config
        self.x, self.t = x / 255.0, np.eye(config.widths[-1])[y]
        self.rng = np.random.default_rng(0)
        pairs = list(pairwise(config.widths))
        self.w = [self.rng.standard_normal(pair) / np.sqrt(pair[0]) for pair in pairs]
        self.b = [np.zeros(n_out) for _, n_out in pairs]
        self.vw = [np.zeros_like(w) for w in self.w]
        self.vb = [np.zeros_like(b) for b in self.b]

    def activate(self, z: np.ndarray) -> np.ndarray:
        kinds: dict[str, Any] = {
            "sigmoid": lambda: 1 / (1 + np.exp(-z)),
            "tanh": lambda: np.tanh(z),
            "relu": lambda: np.maximum(z, 0),
        }
        a: np.ndarray = kinds[self.config.activation]()
        return a

    def derivative(self, a: np.ndarray) -> np.ndarray:
        kinds: dict[str, Any] = {
            "sigmoid": lambda: a * (1 - a),
            "tanh": lambda: 1 - a * a,
            "relu": lambda: (a > 0) * 1.0,
        }
        slope: np.ndarray = kinds[self.config.activation]()
        return slope

    def forward(self, x: np.ndarray) -> list[np.ndarray]:
        activations = [x]
        for w, b in zip(self.w[:-1], self.b[:-1], strict=True):
            activations.append(self.activate(activations[-1] @ w + b))
        z = activations[-1] @ self.w[-1] + self.b[-1]
        e = np.exp(z - z.max(axis=1, keepdims=True))
        return [*activations, e / e.sum(axis=1, keepdims=True)]

    def epoch(self) -> None:
        order, size = self.rng.permutation(len(self.x)), self.config.batch_size
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            activations = self.forward(self.x[rows])
            delta = (activations[-1] - self.t[rows]) / len(rows)
            for i in reversed(range(len(self.w))):
                dw, db = activations[i].T @ delta, delta.sum(axis=0)
                if i:
                    delta = delta @ self.w[i].T * self.derivative(activations[i])
                self.vw[i] = MOMENTUM * self.vw[i] + (1 - MOMENTUM) * dw
                self.vb[i] = MOMENTUM * self.vb[i] + (1 - MOMENTUM) * db
                self.w[i] = self.w[i] - self.config.learning_rate * self.vw[i]
                self.b[i] = self.b[i] - self.config.learning_rate * self.vb[i]

    def accuracy(self, x: np.ndarray, y: np.ndarray) -> float:
        return float((self.forward(x / 255.0)[-1].argmax(axis=1) == y).mean())


class ScikitLearn(Contender):
    """scikit-learn's MLPClassifier, an epoch of ``fit`` at a time."""

    name = "scikit-learn"

    def __init__(self, config: Config, x: np.ndarray, y: np.ndarray, device: str) -> None:
        if is_gpu(device):
            raise ImportError("it computes on the CPU")
        import warnings

        from sklearn.exceptions import ConvergenceWarning
        from sklearn.neural_network import MLPClassifier

        warnings.simplefilter("ignore", ConvergenceWarning)
        # Its velocity takes in the gradient times the learning rate, undampened: hence the factor.
        self.model = MLPClassifier(
            config.widths[1:-1],
            activation={"sigmoid": "logistic"}.get(config.activation, config.activation),
            solver="sgd",
            alpha=0.0,
            batch_size=config.batch_size,
            learning_rate_init=config.learning_rate * (1 - MOMENTUM),
            momentum=MOMENTUM,
            nesterovs_momentum=False,
            max_iter=1,
            warm_start=True,
            random_state=0,
        )
        self.x, self.y = x / np.float32(255), y

    def epoch(self) -> None:
        self.model.fit(self.x, self.y)

    def accuracy(self, x: np.ndarray, y: np.ndarray) -> float:
        return float(self.model.score(x / np.float32(255), y))

    def version(self) -> str:
        import sklearn

        return f"scikit-learn {sklearn.__version__}"


class Torch(Contender):
    """PyTorch, eager: the rows as one float32 tensor on the device, batches by index; on a GPU its fused optimizer.

    Bytes would be converted by two more launches a step, and launches are what its eager steps wait for.
    """

    name = "torch"

    def __init__(self, config: Config, x: np.ndarray, y: np.ndarray, device: str) -> None:
        import torch

        torch.manual_seed(0)
        torch.set_float32_matmul_precision({"float32": "highest", "tf32": "high", "bf16": "medium"}[config.precision])
        self.torch, self.config = torch, config
        self.on_gpu = is_gpu(device)
        self.device = torch.device("cuda", index_of(device)) if self.on_gpu else torch.device("cpu")
        if self.on_gpu:
            torch.cuda.set_device(self.device)
        kinds = {"sigmoid": torch.nn.Sigmoid, "tanh": torch.nn.Tanh, "relu": torch.nn.ReLU}
        layers: list[Any] = []
        for n_in, n_out in pairwise(config.widths):
            linear = torch.nn.Linear(n_in, n_out)
            torch.nn.init.xavier_uniform_(linear.weight)
            torch.nn.init.zeros_(linear.bias)
            layers += [linear, kinds[config.activation]()]
        self.model = torch.nn.Sequential(*layers[:-1]).to(self.device)
        # Its first velocity is the undampened gradient. Without dampening and with a learning rate 1 - 0.9 times as
        # large, the steps are those of the others, the first included.
        self.optimizer = torch.optim.SGD(
            self.model.parameters(),
            lr=config.learning_rate * (1 - MOMENTUM),
            momentum=MOMENTUM,
            fused=True if self.on_gpu else None,
        )
        self.x = self.stored(x)
        self.y = torch.asarray(y).to(self.device)
        self.loss = torch.nn.functional.cross_entropy

    def stored(self, x: np.ndarray) -> Any:
        """The rows as they stay on the device."""
        return self.floats(x)

    def floats(self, x: np.ndarray) -> Any:
        return self.torch.asarray(x / np.float32(255)).to(self.device)

    def step(self, x: Any, y: Any) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        loss: Any = self.loss(self.model(x), y)
        loss.backward()
        self.optimizer.step()

    def epoch(self) -> None:
        self.epochs(1)

    def epochs(self, count: int) -> None:
        for _ in range(count):
            order = self.torch.randperm(len(self.x), device=self.device)
            self.steps(self.torch.split(order, self.config.batch_size))
        if self.on_gpu:
            self.torch.cuda.synchronize()

    def steps(self, batches: Any) -> None:
        """A step on the rows of each batch."""
        for rows in batches:
            self.step(self.x[rows], self.y[rows])

    def accuracy(self, x: np.ndarray, y: np.ndarray) -> float:
        with self.torch.no_grad():
            outputs = self.model(self.floats(x))
        return float((outputs.argmax(dim=1).cpu().numpy() == y).mean())

    def version(self) -> str:
        return f"torch {self.torch.__version__}"


class TorchCompile(Torch):
    """PyTorch with forward and backward through ``torch.compile``, on a GPU as CUDA graphs (``reduce-overhead``)."""

    name = "torch.compile"

    def __init__(self, config: Config, x: np.ndarray, y: np.ndarray, device: str) -> None:
        super().__init__(config, x, y, device)
        model, loss = self.model, self.loss
        # The short last batch is compiled for itself, or it would be one program for any size from then on.
        options: dict[str, Any] = {"mode": "reduce-overhead", "dynamic": False} if self.on_gpu else {"mode": "default"}
        self.compiled = self.torch.compile(lambda x, y: loss(model(x), y), **options)

    def step(self, x: Any, y: Any) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        self.compiled(x, y).backward()
        self.optimizer.step()


class TorchGraph(Torch):
    """PyTorch with a whole step, gather and update included, in one CUDA graph; a GPU only."""

    name = "torch graph"

    def __init__(self, config: Config, x: np.ndarray, y: np.ndarray, device: str) -> None:
        if not is_gpu(device):
            raise ImportError("a CUDA graph needs a GPU")
        super().__init__(config, x, y, device)
        torch = self.torch
        self.rows = torch.arange(min(config.batch_size, len(x)), device=self.device)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                self.learn(self.loss_of)
        torch.cuda.current_stream().wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.cuda.graph(self.graph):  # gradients are made in its memory: each replay writes them anew
            self.loss_of(self.rows).backward()
            self.optimizer.step()

    def loss_of(self, rows: Any) -> Any:
        """The loss of a batch as it is captured."""
        return self.eager_loss(rows)

    def eager_loss(self, rows: Any) -> Any:
        return self.loss(self.model(self.x[rows]), self.y[rows])

    def learn(self, loss_of: Any, rows: Any = None) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        loss_of(self.rows if rows is None else rows).backward()
        self.optimizer.step()

    def steps(self, batches: Any) -> None:
        for rows in batches:
            if len(rows) == len(self.rows):
                self.rows.copy_(rows)
                self.graph.replay()
            else:
                self.learn(self.eager_loss, rows)


class TorchGraphCompiled(TorchGraph):
    """The same of compiled kernels: one takes rows of bytes and scales them."""

    name = "torch graph compiled"

    def __init__(self, config: Config, x: np.ndarray, y: np.ndarray, device: str) -> None:
        self.compiled: Any = None
        super().__init__(config, x, y, device)

    def stored(self, x: np.ndarray) -> Any:
        return self.torch.asarray(x).to(self.device)

    def loss_of(self, rows: Any) -> Any:
        if self.compiled is None:
            self.compiled = self.torch.compile(self.eager_loss, dynamic=False)
        return self.compiled(rows)

    def eager_loss(self, rows: Any) -> Any:
        return self.loss(self.model(self.x[rows].float() * (1 / 255)), self.y[rows])


class Jax(Contender):
    """JAX: one jitted function for an epoch, a scan over its batches (the short last one by itself).

    On a GPU the rows stay bytes: the kernel that gathers a batch also scales it.
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
        rng = np.random.default_rng(0)
        self.params = [
            (
                jnp.asarray(rng.uniform(-1, 1, (n_in, n_out)) * np.sqrt(6 / (n_in + n_out)), jnp.float32),
                jnp.zeros(n_out, jnp.float32),
            )
            for n_in, n_out in pairwise(config.widths)
        ]
        self.velocity = jax.tree.map(jnp.zeros_like, self.params)
        self.key = jax.random.key(0)

        def batch(x: Any, rows: Any) -> Any:
            return x[rows].astype(jnp.float32) * np.float32(1 / 255) if on_gpu else x[rows]

        def logits(params: Any, x: Any) -> Any:
            for w, b in params[:-1]:
                x = activate(x @ w + b)
            w, b = params[-1]
            return x @ w + b

        def loss(params: Any, x: Any, y: Any) -> Any:
            return -jnp.take_along_axis(jax.nn.log_softmax(logits(params, x)), y[:, None], axis=1).mean()

        def step(state: Any, rows: Any, x: Any, y: Any) -> tuple[Any, None]:
            params, velocity = state
            gradients = jax.grad(loss)(params, batch(x, rows), y[rows])
            velocity = jax.tree.map(lambda v, g: MOMENTUM * v + (1 - MOMENTUM) * g, velocity, gradients)
            params = jax.tree.map(lambda p, v: p - config.learning_rate * v, params, velocity)
            return (params, velocity), None

        def epoch(state: Any, key: Any, x: Any, y: Any) -> Any:
            order = jax.random.permutation(key, len(x))
            whole = len(x) - len(x) % size
            batches = order[:whole].reshape(-1, size)
            state, _ = jax.lax.scan(lambda state, rows: step(state, rows, x, y), state, batches, unroll=self.unroll)
            return step(state, order[whole:], x, y)[0] if whole < len(x) else state

        self._epoch = jax.jit(epoch, donate_argnums=0)
        self._logits = jax.jit(logits)

    def epoch(self) -> None:
        self.epochs(1)

    def epochs(self, count: int) -> None:
        state = self.params, self.velocity
        for _ in range(count):
            self.key, key = self.jax.random.split(self.key)
            state = self._epoch(state, key, self.x, self.y)
        self.params, self.velocity = self.jax.block_until_ready(state)

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


#: Everybody, by name.
CONTENDERS: dict[str, type[Contender]] = {
    contender.name: contender
    for contender in (
        *(Products, Xpnet, XpnetNumba, Jax, JaxUnrolled),
        *(Torch, TorchCompile, TorchGraph, TorchGraphCompiled, ScikitLearn, Tutorial),
    )
}
