"""Networks: layers one after the other, over one flat buffer of parameters and one of gradients."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from math import prod
from typing import Any, NamedTuple, overload

from backends import Backend, get_backend
from backends.arguments import (
    NamedArguments,
    check_choice,
    check_flag,
    check_kind,
    check_seed,
    check_whole_number,
    is_whole_number,
    shown,
)
from backends.random import generator
from backends.typing import Array, Shape

from .data import Dataset, Units, as_dataset, as_given, as_rows
from .data.streamed import StreamedDataset
from .device_rows import device_rows
from .initializers import Initializer
from .layer_checks import check_loss, checked_layers
from .layers import Layer
from .losses import LOSSES, Loss, get_loss
from .memory import Store
from .optimizers import Optimizer, get_optimizer
from .out_of_memory import allocating, memory_told
from .own_layers import observer_of
from .plan import Plan, compile_plan
from .prediction import layer_outputs, outputs_of, streamed_outputs
from .row_shape import problem_with, row_shape, shape_for, shaped
from .stages import output_activation_of
from .standardizing import adapt
from .summary import Summary, summarize

#: What a copy and a pickle of a model are without: it follows from the rest.
_MADE_ANEW = {"backend", "_initial", "_own"}


class _Forward(NamedTuple):
    """A call of ``forward``: the plan that it was made with, and what it has put beside its values in the buffers. That
    is not the plan itself, which holds the buffers, so that only the collector of cycles would free them."""

    plan: Plan
    mark: object


class _OfThread(threading.local):
    """The plans of a thread by their use, and its last ``forward``. A layer leaves things in the context of its plan:
    two threads with one plan would find each other's."""

    def __init__(self) -> None:
        self.plans: dict[str, Plan] = {}
        self.last_forward: _Forward | None = None


class Sequential(NamedArguments):
    """A network of layers, its parameters on the device of its backend.

    Args:
        layers: ``Sequential(Linear(784, 64), Sigmoid(), Linear(64, 10), Softmax())``, or one list of them.
        backend: a device name such as ``"auto"``, ``"cpu"``, ``"cuda"``, or a ``Backend``.
        dtype: ``"float32"`` or ``"float64"``, where ``backend`` is a name.
        seed: of the initial values, the shuffles and the dropout masks; equal seeds give equal ones on every device.

    Attributes:
        store: the arrays on the device: parameters, gradients and state as flat buffers, and views by name.
        step: how many training steps have been made.
        output_activation: ``"softmax"`` or ``"sigmoid"`` where the outputs are probabilities or, with a loss from
            logits, become probabilities by it; "" otherwise.
        task: what ``predict`` gives: ``"classes"`` (one of n), ``"labels"`` (yes or no for each output) or ``"values"``
            (the outputs themselves); from the last layer, then from the loss and the training data.
        units: whose numbers rows are: how they become what the network sees, learnt from the training rows; None
            before training.
        class_names: of the training data, where their targets were classes; else None. ``predict_names`` gives them.
        target_shape: of one row's targets in the training data: () for one number a row, (k,) for k; None before
            training. ``predict`` gives values of that shape.
        loss_name, loss_settings: of the loss that it was trained with last, which a ``Trainer`` takes unless told
            otherwise; "" and none before training.

    A model is also the sequence of its layers: ``model[0]``, ``model[-1]``, ``len(model)``, ``for layer in model``;
    ``model[:2]`` is a tuple of layers.

    Raises:
        ValueError: two neighbouring layers do not fit, or there is none; the seed is no whole number of at least 0.
    """

    def __init__(
        self,
        *layers: Layer | list[Layer] | tuple[Layer, ...],
        backend: str | Backend = "auto",
        dtype: str = "float32",
        seed: int = 0,
    ) -> None:
        self.layers, self.n_outputs = checked_layers(layers)
        self.seed = check_seed("seed", seed)
        self.backend = get_backend(backend, dtype)
        self.step = 0
        self._set_task()
        self.units: Units | None = None
        self.class_names: tuple[str, ...] | None = None
        self.target_shape: Shape | None = None
        self.loss_name = ""
        self.loss_settings: dict[str, Any] = {}
        self._initial = _initial_values(self.layers)
        state = {f"{index}.{name}" for index, layer in enumerate(self.layers) for name in layer.state()}
        shapes = {name: shape for name, (shape, _) in self._initial.items()}
        count = sum(prod(shape) for shape in shapes.values())
        what = f"parameters and gradients of {count:,} numbers each"
        with self.backend.use(), allocating(self.backend, what, "use a smaller network or another device"):
            self.store = Store(
                self.backend,
                {name: shape for name, shape in shapes.items() if name not in state},
                {name: shape for name, shape in shapes.items() if name in state},
            )
            self.reset()

    # ---- copies and pickles -----------------------------------------------------------------------------------------

    def __copy__(self) -> Sequential:
        """As ``copy.deepcopy``: a model of its own, on the same device, that trains on as this one would."""
        return deepcopy(self)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in _MADE_ANEW}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Where the device of a pickled model is not here, it is on the CPU; an ``AbsentDeviceWarning`` says so."""
        vars(self).update(state)
        self.backend = self.store.backend
        self._initial = _initial_values(self.layers)
        self._forget_plans()

    def _forget_plans(self) -> None:
        self._own = _OfThread()

    # ---- layers -----------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.layers)

    @overload
    def __getitem__(self, index: int) -> Layer: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Layer, ...]: ...
    def __getitem__(self, index: int | slice) -> Layer | tuple[Layer, ...]:
        if isinstance(index, slice):
            return tuple(self.layers[index])
        if not is_whole_number(index):
            raise TypeError(
                f"a layer is taken by its number, as in model[0], not by {shown(index)}; model.parameters has the "
                "arrays by their names"
            )
        if not -len(self) <= index < len(self):
            raise IndexError(
                f"this network has {len(self)} layers, 0 to {len(self) - 1}; there is none of {shown(index)}"
            )
        return self.layers[index]

    def summary(self, batch_size: int = 32, optimizer: str | Optimizer | None = None) -> Summary:
        """Layers, shapes, parameters, and what a training step costs in computation and memory, to be printed.

        Args:
            batch_size: rows of a step.
            optimizer: whose state is counted; None for none.
        """
        shape = self.row_shape or (None if self.units is None else self.units.row_shape)
        return summarize(
            self.layers,
            shape,
            check_whole_number("batch_size", batch_size),
            self.backend.dtype_name,
            None if optimizer is None else get_optimizer(optimizer),
        )

    def release(self) -> None:
        """Give back the memory of everything that is made anew when it is needed: buffers of this thread, and plans."""
        self._own.plans.clear()
        self._own.last_forward = None
        self.store.release()
        self.backend.device.release()

    # ---- parameters -------------------------------------------------------------------------------------------------

    @property
    def parameters(self) -> dict[str, Array]:
        """What training moves, by name, ``"0.weight"``, ``"0.bias"``, ...: views into ``flat_parameters``."""
        return self.store.parameters

    @property
    def gradients(self) -> dict[str, Array]:
        """The gradients of the last ``backward``, by the parameters' names: views into ``flat_gradients``.

        Raises:
            RuntimeError: the last training step did not keep them.
        """
        if not self.store.gradients_are_kept:
            raise RuntimeError(
                "the last training step did not keep its gradients: the update used them up; read them in a callback's "
                "on_batch_end, or ask for trainer.gradients(data)"
            )
        return self.store.gradients

    @property
    def flat_parameters(self) -> Array:
        """(n,) on the device: all weights, then all biases, each aligned (``store.layout`` says where)."""
        return self.store.flat_parameters

    @property
    def flat_gradients(self) -> Array:
        """(n,) on the device, laid out like ``flat_parameters``."""
        return self.store.flat_gradients

    def reset(self, seed: int | None = None) -> None:
        """Draw the initial values again, from ``seed`` or the model's own."""
        self.seed = self.seed if seed is None else check_seed("seed", seed)
        self.step = 0
        self.store.flat_average = None
        self._forget_plans()
        self.load_state_dict(
            {
                # Another name for the stream would give every network other initial values.
                name: initializer(shape, generator(self.seed, "start values", name))
                for name, (shape, initializer) in self._initial.items()
            },
            broadcast=True,
        )

    @property
    def parameter_count(self) -> int:
        """How many numbers the network learns."""
        return sum(prod(shape) for shape in self.store.layout.shapes.values())

    def state_dict(self) -> dict[str, Any]:
        """Copies of the parameters and of the state of the layers, as NumPy arrays by name."""
        arrays = {**self.parameters, **self.store.state}
        return {name: self.backend.to_numpy(view).copy() for name, view in arrays.items()}

    def load_state_dict(self, state: Mapping[str, Any], *, broadcast: bool = False) -> None:
        """Set the parameters and the state of the layers from arrays of any library, by name. The units of rows are
        not among them: ``save_model`` and ``load_model`` keep both.

        Raises:
            ValueError: a name is missing or unknown, or a shape differs; nothing is changed then.
        """
        arrays = {**self.parameters, **self.store.state}
        check_kind("state", state, Mapping, "a mapping from names to arrays, as state_dict gives it")
        check_flag("broadcast", broadcast)
        if set(state) != set(arrays):
            missing, unknown = [name for name in arrays if name not in state], [*(set(state) - set(arrays))]
            others = shown(sorted(map(str, unknown)), 100)
            raise ValueError(f"the parameters do not fit: missing {shown(missing, 100)}, unknown {others}")
        with self.backend.use():
            values = {name: self.backend.asarray(value, self.backend.dtype) for name, value in state.items()}
            for name, view in arrays.items():
                shape = values[name].shape
                if shape != view.shape and not (broadcast and shape == ()):
                    raise ValueError(f"parameter {name} has shape {tuple(view.shape)}, but the values {tuple(shape)}")
            for name, view in arrays.items():
                view[...] = values[name]

    # ---- forward and backward, on arrays of the device ---------------------------------------------------------------

    def forward(self, x: Array, *, training: bool = False) -> Array:
        """The outputs for rows ``x`` on the device, in the backend's dtype; in ``training`` with dropout."""
        plan = self._plan("training" if training else "forward", training)
        outputs = plan.outputs(x, self.step)
        self._own.last_forward = last = _Forward(plan, object())
        self.store.workspace.holder = last.mark
        return outputs

    def backward(self, dy: Array) -> None:
        """Leave in ``gradients`` the gradients of a loss whose gradient with respect to the last ``forward``'s result
        is ``dy``. Overwrites ``dy``.

        Raises:
            RuntimeError: there was no ``forward``, or what it left is there no longer.
        """
        last = self._own.last_forward
        if last is None:
            raise RuntimeError("backward needs what forward leaves; call forward first")
        if self.store.workspace.holder is not last.mark:
            raise RuntimeError(
                "backward needs what forward left, but something else was computed in the same buffers since, such as "
                "a prediction, an evaluation or a training step; call forward again"
            )
        last.plan.backward(dy)

    def _plan(self, use: str, training: bool = False) -> Plan:
        """The plan for outputs alone; each use has its own, for what forward leaves belongs to the plan."""
        plans = self._own.plans
        if use not in plans:
            plans[use] = compile_plan(self.layers, self.store, seed=self.seed, training=training)
        return plans[use]

    def _plan_to_predict(self, some_rows: Callable[[], Array]) -> Plan:
        """The plan of predictions. Before the first one some rows run through layers that somebody else has written, so
        that what these give is looked at (``own_layers``)."""
        if "predict" not in self._own.plans and (observer := observer_of(self.layers, self.store)) is not None:
            rows = some_rows()
            observer("batch", None, "batch", rows)
            compile_plan(self.layers, self.store, seed=self.seed, observer=observer).outputs(rows)
        return self._plan("predict")

    # ---- what training tells the model ------------------------------------------------------------------------------

    def accept_loss(self, output_activation: str) -> None:
        """Take note that a loss with this output activation is to train the network. What a trained network predicts
        changes by ``fit`` alone.

        Raises:
            ValueError: the last layer is another function, or dropout follows that function.
        """
        check_choice("output_activation", output_activation, ("", "softmax", "sigmoid"))
        check_loss(self.layers, output_activation)
        if self.units is None:
            self._set_task(output_activation)

    def remember_data(self, units: Units, data: Dataset | StreamedDataset, loss: Loss) -> None:
        """Take note of the units of the training rows, and of what their targets are for this loss."""
        adapt(self.layers, self.store, data, self.units is None)
        self.units = units if self.units is None else self.units.then(units)
        self.class_names = data.class_names
        self.target_shape = tuple(int(extent) for extent in data.target_shape)
        self.loss_name, self.loss_settings = loss.name, loss.own_settings
        self._set_task(loss.output_activation)
        if data.has_classes:
            self.task = "classes"
        elif not loss.output_activation:
            self.task = "values"

    def last_loss(self) -> Loss:
        """The loss that the model was trained with last, also before it was saved; softmax cross-entropy for a new one.

        Raises:
            ValueError: that is a loss of the user's own, which has no name here.
        """
        if self.loss_name and self.loss_name not in LOSSES:
            raise ValueError(
                f"the model was trained with the loss {shown(self.loss_name)}, which is not known here by its name; "
                "register it (nn.register_loss) or pass it to the Trainer"
            )
        return get_loss(self.loss_name or "softmax_cross_entropy", **self.loss_settings)

    def _set_task(self, output_activation: str = "") -> None:
        self.output_activation = output_activation or output_activation_of(self.layers)
        if not self.output_activation:
            self.task = "values"
        else:
            self.task = "labels" if self.output_activation == "sigmoid" and self.n_outputs > 1 else "classes"

    # ---- whose numbers rows are, and their shape ---------------------------------------------------------------------

    @property
    def row_shape(self) -> Shape | None:
        """The shape of the rows that the network takes, as far as its layers say: (784,) for a first ``Linear``."""
        return row_shape(self.layers)

    @property
    def _known_row_shape(self) -> Shape | None:
        """The same, or where the layers take pictures of any size, that of the pictures it was trained on."""
        shape = self.row_shape
        if shape is None and self.units is not None and self.units.row_shape is not None:
            shape = None if problem_with(self.layers, self.units.row_shape) else self.units.row_shape
        return shape

    def dataset(self, data: Any, units: Units | None = None) -> Dataset:
        """Rows with targets, as ``fit`` takes them, in the units of this model (or in those given, of rows that it is
        about to be trained on) and in the shape of its rows: a ``Dataset``, or a ``StreamedDataset`` as it is.

        Raises:
            ValueError, TypeError: they cannot be used, or do not fit the network.
        """
        n_classes = max(self.n_outputs, 2) if self.output_activation else None
        x = data[0] if isinstance(data, tuple) and data else None
        found: Dataset = self.shaped(
            as_dataset(data, self.units if units is None else units, shape_for(self.layers, x), n_classes)
        )
        return found

    def rows(self, x: Any) -> Dataset:
        """Rows without targets, as ``predict`` takes them, likewise."""
        found: Dataset = self.shaped(as_rows(x, self.units, shape_for(self.layers, x)))
        return found

    def shaped(self, data: Any) -> Any:
        """A data set with its rows flat or as pictures, whichever the network takes.

        Raises:
            DataError: (a ValueError) neither fits.
        """
        check_kind("data", data, (Dataset, StreamedDataset), "a Dataset")
        return shaped(self.layers, data, self.backend.dtype_name)

    # ---- for users: rows of any kind in, NumPy out or what is asked for ----------------------------------------------

    @memory_told
    def __call__(self, x: Any, batch_size: int = 1024, *, like: Any = None) -> Any:
        """The outputs of the network for rows ``x``, as a NumPy array.

        Args:
            x: a ``Dataset``, or (m, n_in) numbers of any array library, in the units of the training rows; or one row.
            batch_size: how many rows are computed at a time.
            like: an array, DataFrame or Series, mostly ``x``: the outputs then come as its kind, on its device.
        """
        batch_size = check_whole_number("batch_size", batch_size)
        data: Any = device_rows(x, self.backend, self.units, self._known_row_shape) or self.rows(x)
        if isinstance(data, StreamedDataset):
            outputs = streamed_outputs(self, data, batch_size, self._plan_to_predict)
            return outputs if like is None else as_given(outputs, like)
        return outputs_of(self, data, batch_size, like, self._plan_to_predict)

    def layer_outputs(self, x: Any) -> dict[str, Any]:
        """What each layer gives for rows ``x``: NumPy arrays by the indices of the layers, ``"0"``, ``"1"``, ...

        An activation that is joined to its ``Linear`` layer is named by the index of that layer.
        """
        return layer_outputs(self, self.rows(x))

    def predict_proba(self, x: Any, batch_size: int = 1024, *, like: Any = None) -> Any:
        """The probabilities of the classes: (m, n) NumPy, or of the kind of ``like``, where the columns of a DataFrame
        have the names of the classes; for a sigmoid output (m, 1), that of class 1.

        Raises:
            ValueError: the network gives no probabilities.
        """
        if not self.output_activation:
            raise ValueError("this network gives no probabilities; end it with Softmax() or Sigmoid()")
        found = self.probabilities(self(x, batch_size))
        return found if like is None else as_given(found, like, self.class_names)

    def probabilities(self, outputs: Any) -> Any:
        """What the outputs of the network mean as probabilities; both are NumPy arrays."""
        if output_activation_of(self.layers):
            return outputs
        backend = self.backend
        with backend.use():
            logits = backend.asarray(outputs)
            is_softmax = self.output_activation == "softmax"
            return backend.to_numpy(
                backend.softmax(logits) if is_softmax else backend.bias_activation(logits, None, self.output_activation)
            )

    def predict(self, x: Any, batch_size: int = 1024, *, like: Any = None) -> Any:
        """The class of each row, (m,) integers; (m, n) zeros and ones for n > 1 sigmoid outputs; for regression the
        outputs themselves, (m,) where the training targets were one number a row. NumPy, or of the kind of ``like``."""
        found = self.predictions(self(x, batch_size))
        return found if like is None else as_given(found, like)

    def predict_names(self, x: Any, batch_size: int = 1024) -> list[str]:
        """The name of the class of each row, as the training data have them; its number, where it has no name.

        Raises:
            ValueError: the network was not trained on classes.
        """
        if self.class_names is None or self.task != "classes":
            raise ValueError("this network was not trained on classes, so there are no names of them; use predict")
        names = dict(enumerate(self.class_names))
        return [names.get(number, str(number)) for number in self.predict(x, batch_size).tolist()]

    def predictions(self, outputs: Any) -> Any:
        """What ``predict`` makes of the outputs of the network; both are NumPy arrays."""
        if self.task == "values":
            return outputs[:, 0] if self.target_shape == () and self.n_outputs == 1 else outputs
        if self.task == "classes" and self.n_outputs > 1:
            return outputs.argmax(axis=1)
        are_logits = self.output_activation == "sigmoid" and not output_activation_of(self.layers)
        yes = (outputs > (0.0 if are_logits else 0.5)).astype("int64")
        return yes[:, 0] if self.task == "classes" else yes

    def _repr_html_(self) -> str:
        """In a notebook: the layers as a table."""
        return self.summary()._repr_html_()

    def __repr__(self) -> str:
        inside = "".join(f"\n    {layer!r}," for layer in self.layers)
        return f"Sequential({inside}\n    backend={self.backend.device.spec!r}, dtype={self.backend.dtype_name!r})"


def _initial_values(layers: list[Layer]) -> dict[str, tuple[Shape, Initializer]]:
    """Shape and initial values of each array of the network, by name: all parameters, then all state."""
    return {
        f"{index}.{name}": spec
        for kind in ("parameters", "state")
        for index, layer in enumerate(layers)
        for name, spec in getattr(layer, kind)().items()
    }
