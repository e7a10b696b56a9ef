"""A graph of ONNX operators in the making, and formulas in array-API calls written into it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from .optional import library


class OnnxGraph:
    """What a layer writes its operators into. Values are known by their names, which are texts.

    Pictures are (rows, height, width, channels), as in the network. ONNX's operators on them take the channels first;
    so a value may be one whose channels are first here, and ``channels_first`` and ``channels_last`` give it as it is
    wanted: they write a transposition only where it is not there yet.

    Attributes:
        dtype: of the floats of the network, ``"float32"`` or ``"float64"``.
        opset: the version of ONNX's operators.
    """

    def __init__(self, dtype: str, opset: int) -> None:
        self.onnx = library("onnx", "nn.export_onnx")
        self.dtype = dtype
        self.opset = opset
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self.domains: dict[str, int] = {"": opset}
        self._arrays: Mapping[str, np.ndarray] = {}
        self._prefix = ""
        self._named: set[str] = set()
        self._constants: dict[Any, str] = {}
        self._channels_first: set[str] = set()
        self._transposed: dict[str, str] = {}

    def begin(self, prefix: str, arrays: Mapping[str, np.ndarray]) -> None:
        """From here on ``array`` means these: the parameters and the state of one layer, by name."""
        self._prefix, self._arrays = prefix, arrays

    def add(self, operator: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Write an operator with one output; the name of that."""
        name = f"{self._prefix}{operator}_{len(self.nodes)}"
        node = self.onnx.helper.make_node(operator, list(inputs), [name], name=name, domain=domain, **attributes)
        self.nodes.append(node)
        if domain:
            self.domains.setdefault(domain, 3)
        return name

    def array(self, name: str, axes: tuple[int, ...] | None = None) -> str:
        """The layer's parameter or state of that name, its axes in this order."""
        full = f"{self._prefix}{name}"
        if full not in self._named:
            self._named.add(full)
            self._store(full, self._arrays[name] if axes is None else self._arrays[name].transpose(axes))
        return full

    def with_channels_first(self, x: str) -> str:
        """``x``, of which it is noted that it has its channels first."""
        self._channels_first.add(x)
        return x

    def has_channels_first(self, x: str) -> bool:
        """Whether that is noted of ``x``."""
        return x in self._channels_first

    def channels_first(self, x: str) -> str:
        """The pictures ``x`` as (rows, channels, height, width)."""
        return x if x in self._channels_first else self.with_channels_first(self._transpose(x, (0, 3, 1, 2)))

    def channels_last(self, x: str) -> str:
        """``x`` as it is in the network, pictures as (rows, height, width, channels)."""
        return self._transpose(x, (0, 2, 3, 1)) if x in self._channels_first else x

    def _transpose(self, x: str, axes: tuple[int, ...]) -> str:
        if x not in self._transposed:
            self._transposed[x] = self.add("Transpose", x, perm=axes)
        return self._transposed[x]

    def constant(self, values: Any, dtype: str | None = None) -> str:
        """Numbers as a value of the graph, in the dtype of the network or another."""
        array = np.asarray(values, dtype or self.dtype)
        key = array.tobytes(), array.shape, array.dtype.str
        if key not in self._constants:
            self._constants[key] = f"constant_{len(self._constants)}"
            self._store(self._constants[key], array)
        return self._constants[key]

    def cast(self, x: str, dtype: str | None = None) -> str:
        """``x`` in the dtype of the network or another."""
        return self.add("Cast", x, to=self.type_of(dtype or self.dtype))

    def type_of(self, dtype: str) -> int:
        """What ONNX calls a dtype of NumPy; ``"str"`` for text."""
        if dtype == "str":
            return int(self.onnx.TensorProto.STRING)
        return int(self.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def formula(self, function: Callable[[Any, Any], Any], x: str) -> str:
        """``function(xp, x)``, a formula in calls of the array-API standard, element by element.

        Raises:
            TypeError: it calls something that is not known here.
        """
        result = function(_Namespace(self), _Symbol(self, x))
        if not isinstance(result, _Symbol):
            raise TypeError(f"the formula gives {type(result).__name__}, not an array")
        return result.name

    def _store(self, name: str, array: np.ndarray) -> None:
        self.initializers.append(self.onnx.numpy_helper.from_array(np.ascontiguousarray(array), name))


class _Symbol:
    """An array of a formula: each operation with it writes an operator."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, graph: OnnxGraph, name: str) -> None:
        self.graph = graph
        self.name = name

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self.graph.dtype)

    def __bool__(self) -> bool:
        raise TypeError("the formula asks for a truth value; use xp.where")

    def apply(self, operator: str, *others: Any) -> _Symbol:
        names = [other.name if isinstance(other, _Symbol) else self.graph.constant(other) for other in others]
        return _Symbol(self.graph, self.graph.add(operator, self.name, *names))

    def _reflected(self, operator: str, other: Any) -> _Symbol:
        return _Symbol(self.graph, self.graph.constant(other)).apply(operator, self)

    def __add__(self, other: Any) -> _Symbol:
        return self.apply("Add", other)

    __radd__ = __add__

    def __mul__(self, other: Any) -> _Symbol:
        return self.apply("Mul", other)

    __rmul__ = __mul__

    def __sub__(self, other: Any) -> _Symbol:
        return self.apply("Sub", other)

    def __rsub__(self, other: Any) -> _Symbol:
        return self._reflected("Sub", other)

    def __truediv__(self, other: Any) -> _Symbol:
        return self.apply("Div", other)

    def __rtruediv__(self, other: Any) -> _Symbol:
        return self._reflected("Div", other)

    def __pow__(self, other: Any) -> _Symbol:
        return self.apply("Pow", other)

    def __neg__(self) -> _Symbol:
        return self.apply("Neg")

    def __abs__(self) -> _Symbol:
        return self.apply("Abs")

    def __gt__(self, other: Any) -> _Symbol:
        return self.apply("Greater", other)

    def __ge__(self, other: Any) -> _Symbol:
        return self.apply("GreaterOrEqual", other)

    def __lt__(self, other: Any) -> _Symbol:
        return self.apply("Less", other)

    def __le__(self, other: Any) -> _Symbol:
        return self.apply("LessOrEqual", other)

    def __and__(self, other: Any) -> _Symbol:
        return self.apply("And", other)

    def __or__(self, other: Any) -> _Symbol:
        return self.apply("Or", other)

    def __invert__(self) -> _Symbol:
        return self.apply("Not")


class _Namespace:
    """The functions of the array-API standard that ONNX has operators for, or that are a few of them."""

    DIRECT = {  # noqa: RUF012 (nobody writes into it)
        "abs": "Abs", "acos": "Acos", "acosh": "Acosh", "add": "Add", "asin": "Asin", "asinh": "Asinh", "atan": "Atan",
        "atanh": "Atanh", "ceil": "Ceil", "cos": "Cos", "cosh": "Cosh", "divide": "Div", "equal": "Equal", "exp": "Exp",
        "floor": "Floor", "greater": "Greater", "greater_equal": "GreaterOrEqual", "isinf": "IsInf", "isnan": "IsNaN",
        "less": "Less", "less_equal": "LessOrEqual", "log": "Log", "logical_and": "And", "logical_not": "Not",
        "logical_or": "Or", "maximum": "Max", "minimum": "Min", "multiply": "Mul", "negative": "Neg", "pow": "Pow",
        "reciprocal": "Reciprocal", "round": "Round", "sign": "Sign", "sin": "Sin", "sinh": "Sinh", "sqrt": "Sqrt",
        "subtract": "Sub", "tan": "Tan", "tanh": "Tanh",
    }  # fmt: skip

    finfo = staticmethod(np.finfo)
    pi, e, inf, nan = np.pi, np.e, np.inf, np.nan

    def __init__(self, graph: OnnxGraph) -> None:
        self._graph = graph

    def _symbol(self, x: Any) -> _Symbol:
        return x if isinstance(x, _Symbol) else _Symbol(self._graph, self._graph.constant(x))

    def __getattr__(self, name: str) -> Callable[..., _Symbol]:
        if name not in self.DIRECT:
            raise TypeError(f"the formula calls xp.{name}, for which ONNX has no operator that is known here")
        return lambda x, *others: self._symbol(x).apply(self.DIRECT[name], *others)

    def where(self, condition: _Symbol, x: Any, y: Any) -> _Symbol:
        return condition.apply("Where", self._symbol(x), self._symbol(y))

    def zeros_like(self, x: _Symbol) -> _Symbol:
        return self._symbol(0.0)

    def ones_like(self, x: _Symbol) -> _Symbol:
        return self._symbol(1.0)

    def full_like(self, x: _Symbol, value: float) -> _Symbol:
        return self._symbol(value)

    def astype(self, x: _Symbol, dtype: Any) -> _Symbol:
        return _Symbol(self._graph, self._graph.cast(x.name, np.dtype(dtype).name))

    def square(self, x: _Symbol) -> _Symbol:
        return x * x

    def log1p(self, x: _Symbol) -> _Symbol:
        """log(1 + x), off by the rounding of 1 + x"""
        return (1.0 + x).apply("Log")

    def expm1(self, x: _Symbol) -> _Symbol:
        """exp(x) - 1, off by the rounding of exp(x)"""
        return x.apply("Exp") - 1.0
