"""Every operation on drawn inputs (hypothesis): whatever the shape, the values, the layout and the way of the call, the
result is within the bound of ``backends.check``, and the inputs are as they were (``backends.check.calls`` looks)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from backends import Backend
from backends.activations import ACTIVATIONS
from backends.check import compare, expected_of, formulas
from backends.check.calls import perform, ways
from backends.check.cases import MAKERS, Case
from backends.check.distortion_cases import DISTORTION_MAKERS
from backends.check.picture_cases import PICTURE_MAKERS
from tests.helpers.backends import make_backend

#: Of each group the backends are given the same inputs: to draw these takes longer than to compute with them.
BACKENDS = {"host": [("cpu", True), ("cpu", False), ("array_api_strict:device1", False)], "cuda": [("cuda", True)]}
#: Sums of their products do not overflow on the way to a finite result, which no order of summation could promise.
SPECIAL = [0.0, -0.0, 1.0, -1.0, 1e-40, -1e-42, 1e4, -1e4, 3e18, -3e18, float("inf"), -float("inf"), float("nan")]
sizes = st.integers(0, 6)
some = st.integers(1, 6)


def matrices(dtype: str, m: int, n: int, low: float = -100.0, high: float = 100.0, special: bool = True) -> Any:
    width = 32 if dtype == "float32" else 64
    plain = st.floats(low, high, width=width)  # type: ignore[arg-type]
    values = plain | st.sampled_from(SPECIAL).map(lambda x: float(np.dtype(dtype).type(x))) if special else plain
    return arrays(dtype, (m, n), elements=values)


def vectors(dtype: str, n: int, **kind: Any) -> Any:
    return matrices(dtype, 1, n, **kind).map(lambda x: x[0])


def normalized(draw: Any, dtype: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Inputs for ``normalize``: with running statistics only for the columns of several rows."""
    rows, columns, axis = draw(some), draw(some), draw(st.integers(0, 1))
    weight = draw(st.none() | vectors(dtype, columns))
    running, options = None, {"axis": axis, "epsilon": draw(st.sampled_from([1e-5, 1e-3]))}
    if axis == 0 and rows > 1 and draw(st.booleans()):
        running = {name: draw(vectors(dtype, columns, special=False)) for name in ("mean", "variance")}
        options["momentum"] = 0.1
    return (draw(matrices(dtype, rows, columns)), weight, draw(vectors(dtype, columns)), running), options


def without_underflow(logits: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """An infinite entropy times a power of the target that is too small for the dtype is NaN instead of infinite: where
    logits are infinite, targets are 0, 1, or some way from both."""
    near = np.isinf(logits) & (np.minimum(targets, 1 - targets) < 0.01)
    return logits, np.where(near, np.round(targets), targets)


def draw_case(draw: Any, operation: str, dtype: str) -> Case:
    """Inputs for the operation, of any small shape."""
    rows, columns, inner = draw(sizes), draw(some), draw(sizes)

    def m(m: int, n: int, **kind: Any) -> Any:
        return draw(matrices(dtype, m, n, **kind))

    def v(n: int, **kind: Any) -> Any:
        return draw(vectors(dtype, n, **kind))

    def positive(n: int) -> Any:
        return v(n, low=0.0, high=10.0, special=False)

    several, axis = draw(some), draw(st.integers(0, 1))
    activation = {"activation": draw(st.sampled_from(list(ACTIVATIONS)))}
    loss: dict[str, Any] = draw(
        st.sampled_from([{}, {"scale": 0.5}, {"gradient": False}, {"totals": np.array([2.0, 1.0])}])
    )
    if draw(st.booleans()):
        loss = {**loss, "weights": positive(rows)}  # times the largest squares it is still finite
    if draw(st.booleans()):
        loss = {**loss, "losses": np.full(rows, np.nan, dtype)}
    decay = {"weight_decay": 0.01, "n_decayed": draw(st.integers(0, inner))}
    momentum = {"learning_rate": 0.25, "momentum": 0.9, "dampening": 0.5}
    if operation == "matmul":
        a, b = m(rows, inner), m(inner, columns)
        options = draw(st.sampled_from([{}, {"alpha": -0.5}, {"alpha": 2.0, "beta": 0.5, "out": 1}]))
        options = {**options, "out": m(rows, columns)} if "out" in options else options
        if draw(st.booleans()):
            a, options = a.T.copy(), {**options, "transpose_a": True}
        if draw(st.booleans()):
            b, options = b.T.copy(), {**options, "transpose_b": True}
        return Case(operation, "drawn", (a, b), options)
    inputs: dict[str, Any] = {
        "bias_activation": lambda: (
            (m(rows, columns), draw(st.none() | vectors(dtype, columns))),
            {**activation, **draw(st.sampled_from([{}, {"z_out": np.full((rows, columns), np.nan, dtype)}]))},
        ),
        "bias_activation_backward": lambda: (
            (m(rows, columns), m(rows, columns, low=0.0, high=1.0, special=False)),
            {**activation, "bias_gradient": v(columns)},
        ),
        "column_sum": lambda: ((m(rows, columns),), {}),
        "multiply": lambda: ((m(rows, columns), m(rows, columns)), {}),
        "softmax": lambda: ((m(rows, columns),), {}),
        "softmax_backward": lambda: ((m(rows, columns), m(rows, columns, low=0.0, high=1.0, special=False)), {}),
        "softmax_cross_entropy": lambda: (
            (m(rows, columns), draw(arrays("int64", rows, elements=st.sampled_from([0, columns - 1])))),
            {**loss, **draw(st.sampled_from([{}, {"label_smoothing": 0.1}]))},
        ),
        "binary_cross_entropy": lambda: (
            (m(rows, columns), m(rows, columns, low=0.0, high=1.0, special=False)),
            {**loss, "exclusive": draw(st.booleans())},
        ),
        "sigmoid_focal": lambda: (
            without_underflow(m(rows, columns), m(rows, columns, low=0.0, high=1.0, special=False)),
            {**loss, "gamma": draw(st.floats(0.0, 8.0)), "alpha": draw(st.none() | st.floats(0.0, 1.0))},
        ),
        "squared_error": lambda: ((m(rows, columns), m(rows, columns, special=False)), loss),
        "absolute_error": lambda: ((m(rows, columns), m(rows, columns, special=False)), loss),
        "huber": lambda: (
            (m(rows, columns), m(rows, columns, special=False)),
            {**loss, "delta": draw(st.sampled_from([1e-3, 0.3, 1.0, 50.0]))},
        ),
        "argmax": lambda: ((m(rows, columns),), {}),
        "update": lambda: draw(
            st.sampled_from(
                [
                    (("sgd", v(inner), v(inner), {}), {"learning_rate": 0.25, **decay}),
                    (
                        ("sgd", v(inner), v(inner), {"velocity": v(inner)}),
                        {**momentum, "nesterov": draw(st.booleans()), **decay},
                    ),
                    (
                        ("adam", v(inner), v(inner), {"mean": v(inner), "square": np.abs(v(inner))}),
                        {"number": draw(st.integers(1, 10**6)), "learning_rate": 0.25, **decay},
                    ),
                ]
            )
        ),
        "axpby": lambda: (
            (draw(st.sampled_from([0.0, 1.0, -0.3])), v(inner), draw(st.sampled_from([0.0, 1.0, 0.9])), v(inner)),
            {},
        ),
        "clip_norm": lambda: (
            (v(inner), draw(st.sampled_from([1e-3, 1.0, 50.0, 1e6]))),
            {**draw(st.sampled_from([{}, {"norm": np.array([np.nan])}]))},
        ),
        "clip_values": lambda: ((v(inner), draw(st.sampled_from([1e-3, 1.0, 1e6]))), {}),
        "update_average": lambda: (
            (v(inner), v(inner), draw(st.floats(0.0, 0.9999))),
            {"number": draw(st.integers(1, 9)), "first": draw(st.integers(1, 5))},
        ),
        "add_penalty": lambda: (
            (v(inner), v(inner)),
            {"l1": draw(st.sampled_from([0.0, 0.25])), "l2": draw(st.sampled_from([0.0, 0.01]))},
        ),
        "normalize": lambda: normalized(draw, dtype),
        "normalize_backward": lambda: (
            (
                m(several, columns),
                m(several, columns, special=False),
                positive(several if axis else columns),
                v(columns),
            ),
            {"axis": axis, "bias_gradient": v(columns), "gain_gradient": v(columns)},
        ),
        "normalize_by": lambda: (
            (m(rows, columns), v(columns), positive(columns), v(columns), draw(st.none() | vectors(dtype, columns))),
            {"epsilon": draw(st.sampled_from([1e-5, 1e-3]))},
        ),
        "sum_of_squares": lambda: ((v(inner),), {}),
        "all_finite": lambda: ((v(inner),), {}),
        "take_rows": lambda: (
            (m(inner + 2, columns), draw(st.none() | st.permutations(range(inner + 2)).map(np.array))),
            {"start": 1, "count": inner, **draw(st.sampled_from([{}, {"scale": 0.5, "shift": -1.0}]))},
        ),
        "dropout_mask": lambda: (
            (),
            {
                "shape": (rows, columns),
                "rate": draw(st.floats(0.0, 0.99)),
                "key": (draw(st.integers(0, 2**32 - 1)), 7),
                "step": draw(st.integers(0, 2**40)),
            },
        ),
        "asarray": lambda: ((m(rows, columns),), {}),
        "to_numpy": lambda: ((m(rows, columns),), {}),
        "copy": lambda: ((m(rows, columns),), {}),
        "item": lambda: ((m(1, 1),), {}),
        "zeros": lambda: ((), {"shape": (rows, columns)}),
        "empty": lambda: ((), {"shape": (rows, columns)}),
        "record": lambda: ((m(rows + 2, columns),), {"starts": (0, 1), "count": 1}),
    }
    arguments, options = inputs[operation]()
    return Case(operation, "drawn", arguments, options)


#: Operations whose inputs are drawn by tests of their own: against PyTorch and SciPy in ``test_pictures`` and
#: ``test_distortion``, and by any number of processes in ``collectives/test_tree``.
ELSEWHERE = {*PICTURE_MAKERS, *DISTORTION_MAKERS, "sum_over_processes"}


@pytest.mark.parametrize("where", ["host", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("operation", [name for name in MAKERS if name not in ELSEWHERE])
def test_results_are_within_their_bounds(operation: str, dtype: str, where: str) -> None:
    backends: list[Backend] = [make_backend(which, dtype) for which in BACKENDS[where]]

    @settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def check(data: st.DataObject) -> None:
        case = draw_case(data.draw, operation, dtype)
        for backend in backends:
            way = data.draw(st.sampled_from(list(ways(case))))
            with np.errstate(all="ignore"), backend.use():
                outcome = compare(perform(backend, case, way), expected_of(formulas(backend), case))
            assert not outcome.complaint, (backend, way, case.inputs, case.options)

    check()
