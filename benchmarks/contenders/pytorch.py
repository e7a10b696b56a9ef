"""PyTorch: eager, compiled, and as a CUDA graph."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from nn.cli.architecture import Filters, Pooling

from .base import Contender, first_batches
from .config import MOMENTUM, PICTURE, Config, index_of, is_gpu


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
