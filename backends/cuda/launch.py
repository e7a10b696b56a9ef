"""The compiled kernels, and the one place where they are launched."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np

from ..activations import ACTIVATIONS, Activation
from ..updates import Rule
from .keep import keep
from .source import EARLY, source, source_of, source_of_rule
from .source.convolutions import convolution_source
from .source.distortions import distortion_source
from .source.pictures import picture_source
from .source.sizes import MAX_ROW_BLOCKS, MAX_THREADS, OPTIONS, ROWS_OF_BLOCK, TILE, WITHOUT_HEAD
from .tape import Call, tape

_ELEMENT_THREADS, _ELEMENT_BLOCKS = 256, 4096
_ROW_THREADS, _ROW_BLOCKS = 256, 65535
_PARTIAL_BLOCKS = 256
#: Rows that the last block of a loss adds up; more are summed by a launch with more threads.
ROWS_OF_LAST_BLOCK = 1024


class Parameter(NamedTuple):
    """A parameter of a kernel: an array of that dtype (a pointer), perhaps one that it does not write, or a number."""

    name: str
    dtype: np.dtype[Any]
    is_array: bool
    is_const: bool


_DTYPES = {
    "bool": np.bool_,
    "int": np.int32,
    "long long": np.int64,
    "unsigned char": np.uint8,
    "unsigned short": np.uint16,
    "unsigned int": np.uint32,
    "unsigned long long": np.uint64,
    "float": np.float32,
    "double": np.float64,
}
_KERNEL = re.compile(r"^KERNEL (\w+)\(([^)]*)\)", re.MULTILINE)
_PARAMETER = re.compile(r"(const )?([\w ]+?)(\*?) (\w+)")


def texts(real: str) -> tuple[str, ...]:
    """The CUDA texts of ``real``. Each is compiled at the first launch of one of its kernels."""
    fused = (convolution_source(real, a) for a in ACTIVATIONS.values() if a.has_cuda and a.name not in WITHOUT_HEAD)
    return source(real), picture_source(real), distortion_source(real), *fused


def parameters(text: str, real: str) -> dict[str, tuple[Parameter, ...]]:
    """The parameters of every kernel in a CUDA text."""
    kernels: dict[str, tuple[Parameter, ...]] = {}
    for name, declared in _KERNEL.findall(text):
        kernels[name] = tuple(_parameter(declaration, real) for declaration in declared.split(","))
    return kernels


def _parameter(declaration: str, real: str) -> Parameter:
    match = _PARAMETER.fullmatch(declaration.strip())
    if match is None:
        raise ValueError(f"no parameter of a kernel: {declaration!r}")
    const, c_type, star, name = match.groups()
    return Parameter(name, np.dtype(_DTYPES[real if c_type == "REAL" else c_type]), star == "*", const is not None)


def _early(kernel: str, given: Sequence[tuple[Parameter, Any]]) -> tuple[Any, ...] | None:
    """What a kernel reads before it waits for the launch before it; None where it does not."""
    for beginning, names in EARLY.items():
        if kernel.startswith(beginning):
            return tuple(x for parameter, x in given if parameter.name in names and x is not None)
    return None


class Kernels:
    """The compiled kernels of one device and one ``REAL``, and the one place where they are launched.

    CuPy hands arguments to a kernel as they are: an array of the wrong dtype or layout is read as something else,
    without an error. So ``launch`` holds every argument against the declaration in the CUDA text. Shapes and devices
    are the caller's to check.

    Args:
        cupy: the module.
        real: ``"float"`` or ``"double"``.

    Attributes:
        ticket: by which the blocks of a launch find out which of them is the last one: 0 between launches. One for all,
            since all launches of a device are on one stream.
    """

    _NULL = np.uint64(0)  # CuPy dereferences None instead of passing a null pointer

    def __init__(self, cupy: Any, real: str) -> None:
        self._cupy, self._real = cupy, real
        self._modules: dict[str, Any] = {}  # by the name of the kernel, as the next two
        self._parameters: dict[str, tuple[Parameter, ...]] = {}
        self._functions: dict[str, Any] = {}
        self._rules: dict[str, tuple[Rule, str]] = {}
        self._activations = {a.name: (a, a.name) for a in ACTIVATIONS.values() if a.has_cuda}
        self._names = {source_of(a, name, real): name for a, name in self._activations.values()}  # by their texts
        self.ticket = cupy.asarray(np.zeros(1, np.uint32))
        for text in texts(real):
            self._add(text)

    def _add(self, text: str) -> None:
        """The kernels of a CUDA text, which is compiled at the first launch of one of them."""
        module = self._cupy.RawModule(code=text, options=OPTIONS)
        found = parameters(text, self._real)
        self._parameters |= found
        self._modules |= dict.fromkeys(found, module)

    def has(self, name: str) -> bool:
        """Whether there is a kernel of that name by now."""
        return name in self._modules

    def activation(self, activation: Activation) -> str:
        """What the kernels of an activation end in: its name; or, where that was another one's, a name of its own.

        Those of an activation that was registered after the others had been compiled are compiled by themselves. None
        are given up: a captured graph may use them.
        """
        known, name = self._activations.get(activation.name, (None, ""))
        if known is not activation:
            name = self._compiled(activation.symbol, lambda name: source_of(activation, name, self._real))
            self._activations[activation.name] = activation, name
        return name

    def rule(self, rule: Rule) -> str:
        """The kernel of a rule of updating that has a CUDA text, likewise."""
        known, name = self._rules.get(rule.name, (None, ""))
        if known is not rule:
            name = self._compiled(f"update_{rule.name}", lambda name: source_of_rule(rule, name, self._real))
            self._rules[rule.name] = rule, name
        return name

    def _compiled(self, name: str, text_of: Callable[[str], str]) -> str:
        """The name under which a text is compiled: ``name``, or with a number where another text has that. An entry
        that is registered again as it was is not compiled again."""
        text = text_of(name)
        if text not in self._names:
            own = f"{name}_{len(self._names)}_" if name in self._names.values() else name
            self._add(text_of(own))
            self._names[text] = own
        return self._names[text]

    def launch(self, name: str, blocks: tuple[int, ...], threads: int, *arguments: Any) -> None:
        """Launch kernel ``name`` on the current stream, or note that where this thread notes (``tape``). Arguments are
        arrays, None for a null pointer, and numbers.

        Raises:
            TypeError: an array is of another dtype than the kernel's, or not contiguous.
        """
        checked = tuple(self._check(name, p, a) for p, a in zip(self._parameters[name], arguments, strict=True))
        calls = tape()
        if calls is None:
            self._launch(name, blocks, threads, arguments, checked)
        else:
            calls.append(self._call(name, blocks, threads, arguments, checked))

    def _launch(
        self, name: str, blocks: tuple[int, ...], threads: int, arguments: tuple[Any, ...], checked: tuple[Any, ...]
    ) -> None:
        self._function(name)(blocks, (threads,), checked)
        keep(*arguments)

    def _function(self, name: str) -> Any:
        function = self._functions.get(name)
        if function is None:
            function = self._functions[name] = self._modules[name].get_function(name)
        return function

    def _call(
        self, name: str, blocks: tuple[int, ...], threads: int, arguments: tuple[Any, ...], checked: tuple[Any, ...]
    ) -> Call:
        named = [*zip(self._parameters[name], arguments, strict=True)]
        arrays = [(parameter, x) for parameter, x in named if parameter.is_array and x is not None]
        return Call(
            name,
            {parameter.name: x for parameter, x in named},
            reads=tuple(x for _, x in arrays),
            writes=tuple(x for parameter, x in arrays if not parameter.is_const),
            launch=partial(self._launch, name, blocks, threads, arguments, checked),
            grid=(blocks, threads),
            early=_early(name, named),
        )

    def prepared(self, call: Call) -> tuple[int, list[Any]]:
        """The driver's handle of a call's kernel, and its arguments as numbers of NumPy: arrays by their addresses."""
        given = zip(self._parameters[call.op], call.arguments.values(), strict=True)
        checked = [self._check(call.op, *both) for both in given]
        numbers = [x if isinstance(x, np.generic) else np.uint64(x.data.ptr) for x in checked]
        return self._function(call.op).kernel.ptr, numbers

    def call(self, name: str, blocks: tuple[int, ...], threads: int, **arguments: Any) -> Call:
        """A launch of kernel ``name`` to be made later, its arguments by their names.

        Raises:
            TypeError: as ``launch``; or an argument is missing, or there is none of that name.
        """
        parameters = self._parameters[name]
        if wrong := arguments.keys() ^ {parameter.name for parameter in parameters}:
            raise TypeError(f"{name}: missing or unknown arguments: {', '.join(sorted(wrong))}")
        given = tuple(arguments[parameter.name] for parameter in parameters)
        checked = tuple(self._check(name, p, a) for p, a in zip(parameters, given, strict=True))
        return self._call(name, blocks, threads, given, checked)

    def again(self, call: Call, **changes: Any) -> Call:
        """The launch of a kernel with some arguments changed."""
        return self.call(call.op, *call.grid, **{**call.arguments, **changes})

    def one_thread(self, name: str, *arguments: Any) -> None:
        """Launch a kernel that is the work of one thread."""
        self.launch(name, (1,), 1, *arguments)

    def call_on_elements(self, name: str, size: int, **arguments: Any) -> Call:
        """A launch over ``size`` elements to be made later, its other arguments by their names."""
        return self.call(name, (element_blocks(size),), _ELEMENT_THREADS, size=size, **arguments)

    def elements(self, name: str, size: int, *arguments: Any) -> None:
        """Launch a kernel over ``size`` elements; size is its last argument."""
        if size > 0:
            self.launch(name, (element_blocks(size),), _ELEMENT_THREADS, *arguments, size)

    def rows(self, name: str, m: int, n: int, *arguments: Any) -> None:
        """Launch a kernel that gives a block to each of ``m`` rows of ``n`` columns; m and n are its last arguments."""
        if m > 0 and n > 0:
            threads = min(max(1 << (n - 1).bit_length(), 32), _ROW_THREADS)
            self.launch(name, (min(m, _ROW_BLOCKS),), threads, *arguments, m, n)

    def blocks(self, name: str, size: int, blocks: int, *arguments: Any) -> None:
        """Launch a kernel over ``size`` elements (or none) in so many blocks; size is its last argument."""
        self.launch(name, (blocks,), _ELEMENT_THREADS, *arguments, size)

    def one_block(self, name: str, size: int, *arguments: Any) -> None:
        """Launch a kernel that sums ``size`` numbers (or none) in one block; size is its last argument."""
        threads = min(max(1 << (size - 1).bit_length(), 32), MAX_THREADS) if size > 0 else 32
        self.launch(name, (1,), threads, *arguments, size)

    def columns(self, name: str, m: int, n: int, row_blocks: int, *arguments: Any) -> None:
        """Launch a kernel over tiles of columns, the rows in ``row_blocks`` groups; m and n are its last arguments."""
        if n > 0:
            self.launch(name, (-(-n // TILE), row_blocks), MAX_THREADS, *arguments, m, n)

    def _check(self, kernel: str, parameter: Parameter, argument: Any) -> Any:
        name, dtype, is_array, _ = parameter
        if not is_array:
            return dtype.type(argument)
        if argument is None:
            return self._NULL
        if getattr(argument, "dtype", None) != dtype or not argument.flags.c_contiguous:
            raise TypeError(f"{kernel}: {name} must be a C-contiguous array of dtype {dtype}")
        return argument


def element_blocks(size: int) -> int:
    """How many blocks share out ``size`` elements; one where there are none."""
    return min(max(-(-size // _ELEMENT_THREADS), 1), _ELEMENT_BLOCKS)


def row_blocks(m: int) -> int:
    """How many groups the ``m`` rows of a column sum are split into."""
    return min(max(-(-m // ROWS_OF_BLOCK), 1), MAX_ROW_BLOCKS)


def partial_blocks(size: int) -> int:
    """How many blocks a sum over a flat buffer is split over."""
    return min(max(-(-size // (4 * _ELEMENT_THREADS)), 1), _PARTIAL_BLOCKS)


@cache
def kernels(cupy: Any, device: int, real: str) -> Kernels:
    """The kernels of a device, compiled once however many backends use them."""
    return Kernels(cupy, real)
