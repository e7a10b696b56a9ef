"""What trains in ``benchmarks.epoch``: the same network, rows, batches and optimizer in every library.

A contender is a class with ``epoch()``, which trains once over all rows in a fresh order and returns when that is
finished, ``epochs(count)``, and ``accuracy(x, y)``. Its imports happen when it is made, so that a process has only its
own. All use SGD with dampened momentum 0.9, v <- 0.9 v + 0.1 g, and hold the rows as their own users would: on the
device from the start, and on a GPU as bytes where converting them costs no launch of its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby, pairwise
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from backends import Backend, Step, StepNumbers
from backends.typing import Shape
from nn.cli.architecture import Entry, Filters, Pooling, Units, read_layers, stack

if TYPE_CHECKING:
    from nn import Layer, Trainer

MOMENTUM = 0.9
#: A row of MNIST.
PICTURE = (28, 28, 1)
#: So many pictures the products of filters take at once on the CPU: their patches stay in cache.
PICTURES_OF_BLOCK = 8
#: So many steps are made from the same initial values, on the first rows, to see that all compute the same.
STEPS_CHECKED = 5
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
    """A network and how it is trained.

    Attributes:
        widths: inputs, hidden units, and outputs.
        layers: hidden layers for pictures of 28 x 28 before those of ``widths``, in the notation of ``--layers``, with
            filters, ``MP`` and units.
    """

    widths: tuple[int, ...]
    activation: str
    batch_size: int
    learning_rate: float
    precision: str = "float32"
    layers: str = ""

    @property
    def text(self) -> str:
        """The network in a few words."""
        widths = "-".join(map(str, self.widths))
        return widths if not self.layers else f"28x28-{self.layers}-{widths.partition('-')[2]}"

    @property
    def entries(self) -> list[Entry]:
        """The hidden layers of ``layers`` and ``widths``, and the outputs."""
        return [*(read_layers(self.layers) if self.layers else ()), *map(Units, self.widths[1:])]

    def shapes(self) -> Iterator[tuple[Entry, Shape, Shape]]:
        """Each layer with the shapes of its rows before and after it."""
        shape: Shape = PICTURE if self.layers else self.widths[:1]
        for entry in self.entries:
            rows = shape if entry.takes_pictures else (prod(shape),)
            after = entry.layer(rows).output_shape(rows)
            assert after is not None
            yield entry, shape, after
            shape = after

    def weights(self) -> list[tuple[int, ...]]:
        """The shape of each layer's weights, as xpnet and Keras keep them: filters are (height, width, in, out)."""
        return [
            (entry.size, entry.size, before[-1], after[-1]) if isinstance(entry, Filters) else (prod(before), after[0])
            for entry, before, after in self.shapes()
            if entry.has_weights
        ]

    def initial(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Weights and biases that a library can be given: uniform as Glorot and Bengio have it, and zeros."""
        rng = np.random.default_rng(0)
        made = []
        for shape in self.weights():
            fans = prod(shape[:-2]) * (shape[-2] + shape[-1])
            weight = rng.uniform(-1, 1, shape) * np.sqrt(6 / fans)
            made.append((weight.astype(np.float32), np.zeros(shape[-1], np.float32)))
        return made


CONFIGS = {
    "tiny": Config((784, 16, 10), "sigmoid", 64, 4.0),
    "small": Config((784, 64, 10), "sigmoid", 128, 4.0),
    "wide": Config((784, 512, 512, 10), "relu", 256, 0.5),
    "deep": Config((784, 2500, 2000, 1500, 1000, 500, 10), "tanh", 512, 0.5),
    "cnn": Config((784, 10), "relu", 128, 0.5, layers="16C3-MP2-32C3-MP2-128N"),
}
#: Those that are measured in every session on a GPU.
MEASURED = ("small", "wide", "deep", "cnn")


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

    def losses(self) -> list[float] | None:
        """The losses of ``STEPS_CHECKED`` steps from ``config.initial()``, on the first rows in their order; None where
        it cannot begin there. It forgets what it has learnt."""
        return None

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

    Those of filters are of a matrix of patches, a row for each window. That matrix is there already, too; on the CPU it
    is that of a few pictures, which stays in cache, over and over. On a GPU products are recorded, or Python would be
    timed.
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
            self.backend.matmul(a, b, **how)

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


def network(config: Config) -> list[Layer]:
    """The layers of xpnet."""
    from nn import Dataset, Softmax
    from nn.layers.activations import ACTIVATION_LAYERS

    rows = Dataset(
        np.zeros((1, config.widths[0]), np.uint8), np.zeros(1, np.int64), image_shape=PICTURE if config.layers else None
    )
    entries = config.entries
    initial = [{"weight_init": "glorot_uniform", "bias_init": "zeros"}] * sum(entry.has_weights for entry in entries)
    return [*stack(entries, rows, initial, activation=[ACTIVATION_LAYERS[config.activation]()]), Softmax()]


def first_batches(config: Config, rows: int) -> list[slice]:
    """The batches of the steps that are checked."""
    size = min(config.batch_size, rows)
    return [slice(i % (rows // size) * size, (i % (rows // size) + 1) * size) for i in range(STEPS_CHECKED)]


class Xpnet(Contender):
    """xpnet, through ``Trainer.fit``."""

    name = "xpnet"

    def __init__(self, config: Config, x: np.ndarray, y: np.ndarray, device: str) -> None:
        from backends import get_backend
        from nn import Dataset

        self.config, self.backend = config, get_backend(device, precision=config.precision)
        self.data = Dataset(x, y, scale=1 / 255)
        self.trainer = self.new_trainer()
        self.rows = self.trainer.upload(self.data, keep_scaled=config.batch_size >= len(x))
        self.batch_size = config.batch_size

    def epoch(self) -> None:
        self.epochs(1)

    def new_trainer(self) -> Trainer:
        """The network with initial values, and its optimizer."""
        from nn import SGD, Sequential, Trainer

        model = Sequential(*network(self.config), backend=self.backend)
        return Trainer(model, optimizer=SGD(self.config.learning_rate, momentum=MOMENTUM, dampening=MOMENTUM))

    def epochs(self, count: int) -> None:
        self.trainer.fit(self.rows, count, self.batch_size)

    def losses(self) -> list[float]:
        trainer = self.new_trainer()
        of_layers = [str(index) for index, layer in enumerate(trainer.model.layers) if "weight" in layer.parameters()]
        state = trainer.model.state_dict()
        for index, (weight, bias) in zip(of_layers, self.config.initial(), strict=True):
            state |= {f"{index}.weight": weight, f"{index}.bias": bias}
        trainer.model.load_state_dict(state)
        for rows in first_batches(self.config, len(self.data)):
            trainer.fit(self.data[rows], 1, self.batch_size, shuffle=False)
        return trainer.history["loss"]

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
        if config.layers:
            raise ImportError("a tutorial's loop has no filters")
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
        if config.layers:
            raise ImportError("it has no filters")
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
        self.model = self.network().to(self.device)
        # Its first velocity is the undampened gradient. Without dampening and with a learning rate 1 - 0.9 times as
        # large, the steps are those of the others, the first included.
        self.optimizer = torch.optim.SGD(
            self.model.parameters(),
            lr=config.learning_rate * (1 - MOMENTUM),
            momentum=MOMENTUM,
            fused=True if self.on_gpu else None,
        )
        self.reset()
        self.x = self.stored(x)
        self.y = torch.asarray(y).to(self.device)
        self.loss = torch.nn.functional.cross_entropy

    def network(self) -> Any:
        """The layers."""
        nn, config = self.torch.nn, self.config
        kinds = {"sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "relu": nn.ReLU}
        layers: list[Any] = []
        for entry, before, after in config.shapes():
            if isinstance(entry, Filters):
                layers.append(nn.Conv2d(before[-1], entry.count, entry.size, entry.stride, entry.padding))
            elif isinstance(entry, Pooling):
                layers.append(nn.MaxPool2d(entry.size, entry.stride, entry.padding))
            else:
                layers += [nn.Flatten()] if len(before) > 1 else []
                layers.append(nn.Linear(prod(before), after[0]))
            layers += [kinds[config.activation]()] if entry.has_weights else []
        return nn.Sequential(*layers[:-1])

    def reset(self) -> None:
        """Give the network its initial values, in place, and no velocity."""
        with_weights = [layer for layer in self.model if hasattr(layer, "weight")]
        shapes = [before for entry, before, _ in self.config.shapes() if entry.has_weights]
        for layer, shape, (weight, bias) in zip(with_weights, shapes, self.config.initial(), strict=True):
            # What comes out is first here, and the channels of a picture come before its rows.
            weight = np.moveaxis(weight if weight.ndim == 4 else weight.reshape(*shape, -1), -1, 0)
            weight = np.moveaxis(weight, -1, 1) if weight.ndim == 4 else weight
            layer.weight.data.copy_(self.torch.asarray(np.ascontiguousarray(weight)).reshape(layer.weight.shape))
            layer.bias.data.copy_(self.torch.asarray(bias))
        for state in self.optimizer.state.values():
            state["momentum_buffer"].zero_()

    def stored(self, x: np.ndarray) -> Any:
        """The rows as they stay on the device."""
        return self.floats(x)

    def floats(self, x: np.ndarray) -> Any:
        return self.torch.asarray(self.shaped(x) / np.float32(255)).to(self.device)

    def shaped(self, x: np.ndarray) -> np.ndarray:
        """The rows as the first layer takes them: of pictures channel by channel."""
        return x.reshape(-1, PICTURE[2], *PICTURE[:2]) if self.config.layers else x

    def step(self, x: Any, y: Any) -> Any:
        self.optimizer.zero_grad(set_to_none=True)
        loss: Any = self.loss(self.model(x), y)
        loss.backward()
        self.optimizer.step()
        return loss

    def losses(self) -> list[float]:
        self.reset()
        batches = first_batches(self.config, len(self.x))
        rows = [self.torch.arange(b.start, b.stop, device=self.device) for b in batches]
        return [float(self.step_on(batch).detach()) for batch in rows]

    def step_on(self, rows: Any) -> Any:
        """The loss of a step on these rows."""
        return self.step(self.x[rows], self.y[rows])

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

    def step(self, x: Any, y: Any) -> Any:
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.compiled(x, y)
        loss.backward()
        self.optimizer.step()
        return loss


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
            self.captured = self.loss_of(self.rows)
            self.captured.backward()
            self.optimizer.step()
        self.reset()

    def step_on(self, rows: Any) -> Any:
        self.rows.copy_(rows)
        self.graph.replay()
        return self.captured

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
        return self.torch.asarray(self.shaped(x)).to(self.device)

    def loss_of(self, rows: Any) -> Any:
        if self.compiled is None:
            self.compiled = self.torch.compile(self.eager_loss, dynamic=False)
        return self.compiled(rows)

    def eager_loss(self, rows: Any) -> Any:
        return self.loss(self.model(self.x[rows].float() * (1 / 255)), self.y[rows])


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


class Keras(Contender):
    """Keras through ``fit``, on JAX unless KERAS_BACKEND names another library: the rows as float32, as its guides have
    them."""

    name = "keras"

    def __init__(self, config: Config, x: np.ndarray, y: np.ndarray, device: str) -> None:
        os.environ.setdefault("KERAS_BACKEND", "jax")
        os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.15")
        if config.precision != "float32":
            raise ImportError("its products are not set to another precision here")
        if os.environ["KERAS_BACKEND"] == "jax":
            import jax

            jax_config: Any = jax.config
            jax_config.update("jax_platforms", "cuda" if is_gpu(device) else "cpu")
            if is_gpu(device):
                jax_config.update("jax_default_device", jax.devices()[index_of(device)])
            jax_config.update("jax_default_matmul_precision", "float32")
        import keras

        self.keras, self.config = keras, config
        self.x, self.y = self.floats(x), y
        layers: list[Any] = [keras.Input(self.x.shape[1:])]
        for number, (entry, before, after) in enumerate(config.shapes(), 1):
            activation = config.activation if number < len(config.entries) else None
            if isinstance(entry, Filters):
                layers += [keras.layers.ZeroPadding2D(entry.padding)] if entry.padding else []
                layers.append(keras.layers.Conv2D(entry.count, entry.size, entry.stride, activation=activation))
            elif isinstance(entry, Pooling):
                layers.append(keras.layers.MaxPooling2D(entry.size, entry.stride))
            else:
                layers += [keras.layers.Flatten()] if len(before) > 1 else []
                layers.append(keras.layers.Dense(after[0], activation=activation))
        self.model = keras.Sequential(layers)
        self.reset()

    def floats(self, x: np.ndarray) -> np.ndarray:
        x = x / np.float32(255)
        return x.reshape(-1, *PICTURE) if self.config.layers else x

    def reset(self) -> None:
        """Initial values, and an optimizer without velocity; the learning rate is as for PyTorch."""
        self.model.set_weights([array for pair in self.config.initial() for array in pair])
        self.model.compile(
            self.keras.optimizers.SGD(self.config.learning_rate * (1 - MOMENTUM), momentum=MOMENTUM),
            self.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )

    def epoch(self) -> None:
        self.epochs(1)

    def epochs(self, count: int) -> None:
        self.model.fit(self.x, self.y, self.config.batch_size, count, verbose=0)

    def accuracy(self, x: np.ndarray, y: np.ndarray) -> float:
        outputs = self.model.predict(self.floats(x), batch_size=1000, verbose=0)
        return float((outputs.argmax(axis=1) == y).mean())

    def losses(self) -> list[float]:
        self.reset()
        batches = first_batches(self.config, len(self.x))
        told = [self.model.fit(self.x[b], self.y[b], self.config.batch_size, shuffle=False, verbose=0) for b in batches]
        return [history.history["loss"][0] for history in told]

    def version(self) -> str:
        return f"keras {self.keras.__version__} on {self.keras.backend.backend()}"


#: Everybody, by name.
CONTENDERS: dict[str, type[Contender]] = {
    contender.name: contender
    for contender in (
        *(Products, Xpnet, XpnetNumba, Jax, JaxUnrolled, Keras),
        *(Torch, TorchCompile, TorchGraph, TorchGraphCompiled, ScikitLearn, Tutorial),
    )
}
