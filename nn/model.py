"""Networks: layers one after the other, over one flat buffer of parameters and one of gradients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod
from typing import Any

from backends import Backend, get_backend
from backends.random import generator
from backends.typing import Array, Shape

from .data import Dataset, Units, as_rows
from .initializers import Initializer
from .layers import Context, ElementwiseActivation, Flatten, Layer, Linear, Sigmoid, Softmax
from .layers.base import Accumulation
from .memory import Workspace

#: Parameters start at multiples of this many elements in the flat buffers: 64 bytes of float32, a cache line.
ALIGNMENT = 16


class Sequential:
    """A network of layers, its parameters on the device of its backend.

    Args:
        layers: ``Sequential(Linear(784, 64), Sigmoid(), Linear(64, 10), Softmax())``, or one list of them.
        backend: a device name such as ``"auto"``, ``"cpu"``, ``"cuda"``, or a ``Backend``.
        dtype: ``"float32"`` or ``"float64"``, where ``backend`` is a name.
        seed: of the start values, the shuffles and the dropout masks; equal seeds give equal ones on every device.

    Attributes:
        flat_parameters, flat_gradients: (n,) on the device. All weights come first, then all biases;
            ``decayed`` counts the elements of the former, and ``offsets`` says where each begins.
        parameters, gradients: views into them by name, ``"0.weight"``, ``"0.bias"``, ...: the place of the layer and
            the name of its parameter.
        link: ``"softmax"`` or ``"sigmoid"`` where the outputs are probabilities or, with a loss from logits, become
            probabilities by it; "" otherwise.
        task: what ``predict`` gives: ``"classes"`` (one of n), ``"labels"`` (yes or no for each output) or ``"values"``
            (the outputs themselves); from the last layer, then from the loss and the training data.
        input_scale, input_shift: how uint8 rows become numbers, remembered from training.
        accumulates: whether backward can add all gradients of weights to a velocity by the products themselves;
            ``accumulated``: whether the last one did.

    Raises:
        ValueError: two neighbouring layers do not fit, or there is none.
    """

    def __init__(
        self,
        *layers: Layer | list[Layer] | tuple[Layer, ...],
        backend: str | Backend = "auto",
        dtype: str = "float32",
        seed: int = 0,
    ) -> None:
        self.layers, self.n_outputs = _checked_layers(layers)
        self.backend = get_backend(backend, dtype)
        self.seed = seed
        self.step = 0
        self.accumulated = False
        last = self.layers[-1]
        self.link = last.function if isinstance(last, Softmax | Sigmoid) else ""
        self.task = self._task_of_link()
        self.input_scale, self.input_shift = 1.0, 0.0
        with self.backend.use():
            self.workspace = Workspace(self.backend)
            self._allocate()
            self.reset(seed)

    # ---- parameters -------------------------------------------------------------------------------------------------

    def _allocate(self) -> None:
        """Lay the parameters out in the flat buffers, and make the stages that compute with views into them."""
        specs = {
            f"{place}.{name}": (shape, initializer)
            for place, layer in enumerate(self.layers)
            for name, (shape, initializer) in layer.parameters().items()
        }
        self._initializers: dict[str, Initializer] = {name: spec[1] for name, spec in specs.items()}
        self.offsets = starts = dict[str, int]()
        end = self.decayed = 0
        for decays in (True, False):
            for name, (shape, _) in specs.items():
                if (len(shape) > 1) == decays:
                    starts[name] = end
                    end += -(-prod(shape) // ALIGNMENT) * ALIGNMENT
            if decays:
                self.decayed = end
        self.flat_parameters = self.backend.zeros((end,))
        self.flat_gradients = self.backend.zeros((end,))
        self._shapes = {name: shape for name, (shape, _) in specs.items()}
        self.parameters = self.views(self.flat_parameters)
        self.gradients = self.views(self.flat_gradients)
        self._stages = [self._stage(place, layer) for place, layer in _join_activations(self.layers)]
        first = next((i for i, (layer, _) in enumerate(self._stages) if layer.parameters()), len(self._stages))
        for i, (_, ctx) in enumerate(self._stages):
            ctx.needs_dx = i > first
        ends_in_link = isinstance(self.layers[-1], Softmax | Sigmoid)
        self._stages_before_link = self._stages[:-1] if ends_in_link else self._stages
        stage = next((stage for stage in self._stages if type(stage[0]) is not Flatten), None)
        self.accumulates = self.backend.accumulates and all(
            type(layer) is Linear for layer, _ in self._stages if layer.parameters()
        )
        self._takes_factor = stage[1] if stage is not None and type(stage[0]) is Linear else None

    def views(self, flat: Array) -> dict[str, Array]:
        """What belongs to each parameter in a buffer that is laid out like ``flat_parameters``, by name."""
        reshape, starts = self.backend.xp.reshape, self.offsets
        return {
            name: reshape(flat[starts[name] : starts[name] + prod(shape)], shape)
            for name, shape in self._shapes.items()
        }

    def _stage(self, place: int, layer: Layer) -> tuple[Layer, Context]:
        def buffer(name: str, shape: Shape) -> Array:
            return self.workspace.buffer((place, name), shape)

        names = layer.parameters()
        ctx = Context(
            backend=self.backend,
            parameters={name: self.parameters[f"{place}.{name}"] for name in names},
            gradients={name: self.gradients[f"{place}.{name}"] for name in names},
            buffer=buffer,
            seed=self.seed,
            name=str(place),
        )
        return layer, ctx

    def reset(self, seed: int | None = None) -> None:
        """Draw the start values again, from ``seed`` or the model's own."""
        self.seed = self.seed if seed is None else seed
        self.step = 0
        for _, ctx in self._stages:
            ctx.seed = self.seed
        self.load_state_dict(
            {
                name: initializer(view.shape, generator(self.seed, "start values", name))
                for (name, view), initializer in zip(self.parameters.items(), self._initializers.values(), strict=True)
            },
            broadcast=True,
        )

    @property
    def parameter_count(self) -> int:
        """How many numbers the network learns."""
        return sum(prod(view.shape) for view in self.parameters.values())

    def state_dict(self) -> dict[str, Any]:
        """Copies of the parameters as NumPy arrays, by name."""
        return {name: self.backend.to_numpy(view).copy() for name, view in self.parameters.items()}

    def load_state_dict(self, state: Mapping[str, Any], *, broadcast: bool = False) -> None:
        """Set the parameters from arrays of any library, by name.

        Raises:
            ValueError: a name is missing or unknown, or a shape differs; nothing is changed then.
        """
        if set(state) != set(self.parameters):
            missing, unknown = set(self.parameters) - set(state), set(state) - set(self.parameters)
            raise ValueError(f"the parameters do not fit: missing {sorted(missing)}, unknown {sorted(unknown)}")
        with self.backend.use():
            values = {name: self.backend.asarray(value, self.backend.dtype) for name, value in state.items()}
            for name, view in self.parameters.items():
                shape = values[name].shape
                if shape != view.shape and not (broadcast and shape == ()):
                    raise ValueError(f"parameter {name} has shape {tuple(view.shape)}, but the values {tuple(shape)}")
            for name, view in self.parameters.items():
                view[...] = values[name]

    # ---- forward and backward, on arrays of the device ---------------------------------------------------------------

    def forward(
        self,
        x: Array,
        *,
        training: bool = False,
        before_link: bool = False,
        step: int | Array | None = None,
        factor: float = 1.0,
    ) -> Array:
        """The outputs for rows ``x`` times ``factor``, on the device.

        Args:
            before_link: return what the last layer, the link, is given.
            step: the number of the training step; by default the model's own.
            factor: other than 1 only where ``takes_factor`` says that the first layer can take it.
        """
        for layer, ctx in self.begin(training=training, before_link=before_link, step=step, factor=factor):
            x = layer.forward(x, ctx)
        return x

    def begin(
        self,
        *,
        training: bool = False,
        before_link: bool = False,
        step: int | Array | None = None,
        factor: float = 1.0,
    ) -> list[tuple[Layer, Context]]:
        """The layers that compute, activations joined into ``Linear``, and their contexts, made ready for a forward;
        the arguments are those of ``forward``."""
        self.accumulated = False
        step = self.step if step is None else step
        stages = self._body(before_link)
        for _, ctx in stages:
            ctx.training, ctx.step, ctx.accumulation = training, step, None
        if self._takes_factor is not None:
            self._takes_factor.factor = factor
        return stages

    def backward(self, dy: Array, *, before_link: bool = False, accumulation: Accumulation | None = None) -> None:
        """Leave in ``flat_gradients`` the gradients of a loss whose gradient with respect to the last ``forward``'s
        result is ``dy``. Overwrites ``dy``.

        With an ``accumulation``, for models that ``accumulates`` only, those of the weights are added there instead.
        """
        self.accumulated = accumulation is not None
        for layer, ctx in reversed(self._body(before_link)):
            ctx.accumulation = accumulation
            dx = layer.backward(dy, ctx)
            if dx is None or not ctx.needs_dx:
                break
            dy = dx

    @property
    def takes_factor(self) -> bool:
        """Whether ``forward`` can multiply the rows by a factor: whether the first layer is ``Linear``."""
        return self._takes_factor is not None

    def _body(self, before_link: bool) -> list[tuple[Layer, Context]]:
        return self._stages_before_link if before_link else self._stages

    # ---- what training tells the model ------------------------------------------------------------------------------

    def set_link(self, link: str) -> bool:
        """Take note that a loss with this link trains the network; True if the loss is to be computed before it.

        Raises:
            ValueError: the last layer is another function.
        """
        if not link:
            return False
        last = self.layers[-1]
        function = last.activation if isinstance(last, Linear) else getattr(last, "function", "identity")
        if function not in ("identity", link):
            raise ValueError(
                f"the loss is computed from the values before {link}, but the network ends in {last!r}; "
                f"let it end in a Linear layer, or in {link.capitalize()}()"
            )
        self.link = link
        self.task = self._task_of_link()
        return True

    def _task_of_link(self) -> str:
        if not self.link:
            return "values"
        return "labels" if self.link == "sigmoid" and self.n_outputs > 1 else "classes"

    def remember_data(self, data: Dataset, link: str) -> None:
        """Take note of how the training rows are scaled, and what their targets are for a loss with this link."""
        self.input_scale, self.input_shift = data.scale, data.shift
        if data.has_classes:
            self.task = "classes"
        elif not link:
            self.task = "values"

    def check_rows(self, shape: Shape) -> None:
        """Raise a ValueError if rows of this shape do not fit the network."""
        row: Shape | None = tuple(shape)
        for layer in self.layers:
            try:
                row = layer.output_shape(row)
            except ValueError as error:
                raise ValueError(f"the rows of the data, of shape {tuple(shape)}, do not fit: {error}") from None

    # ---- for users: rows of any kind in, NumPy out -------------------------------------------------------------------

    def __call__(self, x: Any, batch_size: int = 1024) -> Any:
        """The outputs of the network for rows ``x``, as a NumPy array.

        Args:
            x: a ``Dataset``, or (m, n_in) numbers of any array library; uint8 rows are scaled as in training, others
                are taken as they are.
            batch_size: how many rows are computed at a time.
        """
        data = as_rows(x, Units(self.input_scale, self.input_shift))
        self.check_rows(data.x.shape[1:])
        backend = self.backend
        with backend.use():
            rows = backend.asarray(data.x)
            outputs = None
            for start in range(0, len(data), batch_size):
                count = min(batch_size, len(data) - start)
                batch = backend.take_rows(rows, None, start, count, scale=data.scale, shift=data.shift)
                part = self.forward(batch)
                if outputs is None:
                    outputs = backend.empty((len(data), *part.shape[1:]))
                outputs[start : start + count, ...] = part
            return backend.to_numpy(outputs)

    def layer_outputs(self, x: Any) -> dict[str, Any]:
        """What each layer gives for rows ``x``: NumPy arrays by the places of the layers, ``"0"``, ``"1"``, ...

        An activation that is joined to its ``Linear`` layer is named by the place of that layer.
        """
        data = as_rows(x, Units(self.input_scale, self.input_shift))
        self.check_rows(data.x.shape[1:])
        backend = self.backend
        outputs = {}
        with backend.use():
            rows = backend.asarray(data.x)
            y = backend.take_rows(rows, None, 0, len(data), scale=data.scale, shift=data.shift)
            for layer, ctx in self.begin():
                y = layer.forward(y, ctx)
                outputs[ctx.name] = backend.to_numpy(y).copy()
        return outputs

    def predict_proba(self, x: Any, batch_size: int = 1024) -> Any:
        """The probabilities of the classes: (m, n) NumPy; for a sigmoid output (m, 1), that of class 1.

        Raises:
            ValueError: the network gives no probabilities.
        """
        if not self.link:
            raise ValueError("this network gives no probabilities; end it with Softmax() or Sigmoid()")
        outputs = self(x, batch_size)
        if isinstance(self.layers[-1], Softmax | Sigmoid):
            return outputs
        backend = self.backend
        with backend.use():
            logits = backend.asarray(outputs)
            probabilities = (
                backend.softmax(logits) if self.link == "softmax" else backend.bias_activation(logits, None, self.link)
            )
            return backend.to_numpy(probabilities)

    def predict(self, x: Any, batch_size: int = 1024) -> Any:
        """The class of each row, (m,) integers; (m, n) zeros and ones for n > 1 sigmoid outputs; for regression the
        outputs themselves."""
        outputs = self(x, batch_size)
        if self.task == "values":
            return outputs
        if self.task == "classes" and self.n_outputs > 1:
            return outputs.argmax(axis=1)
        are_logits = self.link == "sigmoid" and not isinstance(self.layers[-1], Sigmoid)
        yes = (outputs > (0.0 if are_logits else 0.5)).astype("int64")
        return yes[:, 0] if self.task == "classes" else yes

    def __repr__(self) -> str:
        inside = "".join(f"\n    {layer!r}," for layer in self.layers)
        return f"Sequential({inside}\n    backend={self.backend.device.spec!r}, dtype={self.backend.dtype_name!r})"


def _checked_layers(layers: tuple[Any, ...]) -> tuple[list[Layer], int]:
    """The layers as a list, and how many outputs they give; an error if two neighbours do not fit."""
    if len(layers) == 1 and isinstance(layers[0], list | tuple):
        layers = tuple(layers[0])
    if not layers:
        raise ValueError("a network needs at least one layer")
    shape: Shape | None = None
    for place, layer in enumerate(layers):
        if not isinstance(layer, Layer):
            hint = f"; write {layer.__name__}()" if isinstance(layer, type) and issubclass(layer, Layer) else ""
            raise TypeError(f"layer {place} is {layer!r}, not a layer{hint}")
        if isinstance(layer, Softmax) and place < len(layers) - 1:
            raise ValueError(f"layer {place} is Softmax(), which belongs at the end of a network")
        try:
            shape = layer.output_shape(shape)
        except ValueError as error:
            raise ValueError(f"layer {place} does not fit the one before it: {error}") from None
    if shape is None or len(shape) != 1:
        raise ValueError("a network needs a Linear layer, from which the number of its outputs follows")
    return list(layers), shape[0]


def _join_activations(layers: list[Layer]) -> list[tuple[int, Layer]]:
    """The layers and their places, an activation after a ``Linear`` joined into it: bias and activation are one
    operation. A ``Sigmoid`` at the end stays by itself, so that its loss can be computed before it."""
    stages: list[tuple[int, Layer]] = []
    for place, layer in enumerate(layers):
        at_end = place == len(layers) - 1 and isinstance(layer, Sigmoid)
        previous = stages[-1][1] if stages else None
        if (
            isinstance(layer, ElementwiseActivation)
            and not at_end
            and isinstance(previous, Linear)
            and previous.activation == "identity"
        ):
            stages[-1] = (stages[-1][0], replace(previous, activation=layer.function))
        else:
            stages.append((place, layer))
    return stages
