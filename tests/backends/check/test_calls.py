"""The ways in which the check calls an operation: which there are for a case, and what the backend is then given."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from backends import find_device
from backends.check import perform, ways
from backends.check.cases import Case
from backends.cpu.numpy_backend import NumpyBackend

X = np.arange(12.0).reshape(3, 4)
ROW = np.arange(4.0)
LABELS = np.array([0, 3, 1])
LAYOUTS = ["plain", "transposed", "strided", "read-only"]


def case(operation: str, *inputs: Any, **options: Any) -> Case:
    return Case(operation, "", inputs, options)


@pytest.mark.parametrize(
    ("it", "expected"),
    [
        (case("asarray", X), ["plain"]),
        (case("zeros", X), ["plain"]),
        (case("empty", X), ["plain"]),
        (case("record", X, (0,), 2), ["plain"]),
        (case("argmax", X), LAYOUTS),
        (case("argmax", X[:1, :1]), ["plain", "read-only"]),  # one element has no layout
        (case("all_finite", ROW), ["plain", "strided", "read-only"]),
        (case("item", np.array(1.0)), ["plain", "read-only"]),
        (case("dropout_mask", shape=(3,)), ["plain", "into out", "into strided out"]),
        (case("copy", X), [*LAYOUTS, "into out", "into strided out"]),
        (case("softmax", X), [*LAYOUTS, "into out", "into strided out", "into input 0"]),
        (case("multiply", X, X), [*LAYOUTS, "into out", "into strided out", "into input 0", "into input 1"]),
        (case("squared_error", X, X, gradient=False), LAYOUTS),
        (
            case("squared_error", X, X, losses=np.zeros(3)),
            [*LAYOUTS, "into out", "into strided out", "into input 0"],
        ),
        (
            case("bias_activation", X, ROW, "tanh", z_out=X.copy()),
            [*LAYOUTS, "into out", "into strided out", "into input 0", "z_out into input 0"],
        ),
        (case("update", "sgd", ROW, ROW, {"velocity": ROW}), ["plain", "strided"]),
        (case("update", "sgd", ROW[:1], ROW[:1], {"velocity": X}), ["plain", "transposed", "strided"]),
    ],
    ids=lambda it: it.operation if isinstance(it, Case) else "",
)
def test_the_ways_of_a_case(it: Case, expected: list[str]) -> None:
    others = [] if it.operation in ("asarray", "zeros", "empty", "record", "item") else ["recorded"]
    assert list(ways(it)) == expected + others


class Recorder(NumpyBackend):
    """Keeps what it is given, as it is given."""

    def __init__(self, dtype: str = "float64") -> None:
        super().__init__(find_device("cpu"), dtype)
        self.given: list[Any] = []
        self.options: dict[str, Any] = {}
        self.out = ""

    def note(self, *given: Any, **options: Any) -> None:
        self.given, self.options = [*given], options
        out = options.get("out")
        self.out = "" if out is None else f"{out.shape} {out.dtype} {'nan' if np.isnan(out).all() else out.flat[0]}"


def recorded(operation: str) -> Recorder:
    """A backend that notes the arguments of an operation before it carries it out."""

    def method(self: Recorder, *given: Any, **options: Any) -> Any:
        self.note(*given, **options)
        return getattr(super(backend_type, self), operation)(*given, **options)

    backend_type = type("Recording", (Recorder,), {operation: method})
    backend: Recorder = backend_type()
    return backend


def test_inputs_come_in_the_layout_that_is_named() -> None:
    backend = recorded("multiply")
    arrays = {}
    for way in LAYOUTS:
        perform(backend, case("multiply", X, X + 1), way)
        arrays[way] = backend.given
        for found, expected in zip(backend.given, (X, X + 1), strict=True):
            np.testing.assert_array_equal(found, expected)
            assert not np.shares_memory(found, expected)  # the case stays as it is
    assert all(x.flags.c_contiguous for x in arrays["plain"])
    assert all(x.flags.f_contiguous and not x.flags.c_contiguous for x in arrays["transposed"])
    assert all(x.strides == (64, 16) for x in arrays["strided"])
    assert [x.flags.writeable for x in arrays["read-only"]] == [False, False]
    assert all(x.flags.writeable for way in LAYOUTS[:3] for x in arrays[way])


def test_what_has_no_such_layout_is_plain() -> None:
    backend = recorded("bias_activation")
    for way in LAYOUTS:
        perform(backend, case("bias_activation", X, ROW, "tanh"), way)
        np.testing.assert_array_equal(backend.given[1], ROW)
        assert backend.given[1].strides == ((16,) if way == "strided" else (8,))
        assert backend.given[2] == "tanh"
    number = recorded("item")
    assert perform(number, case("item", np.array(3.0)), "strided")[0] == 3.0


def test_arrays_inside_options_and_states_have_the_layout_too() -> None:
    backend = recorded("update")
    state = {"velocity": ROW.copy()}
    perform(backend, case("update", "sgd", ROW, ROW, state, learning_rate=0.1, momentum=0.5), "strided")
    assert all(x.strides == (16,) for x in (*backend.given[1:3], backend.given[3]["velocity"]))
    backend = recorded("squared_error")
    weights = np.ones(3)
    perform(backend, case("squared_error", X, X, weights=weights, totals=np.zeros(2)), "strided")
    assert backend.options["weights"].strides == (16,)
    assert backend.options["totals"].strides == (8,)  # plain in any way, and in the wide dtype
    # What is written may be an option, so that only the inputs are locked.
    perform(backend, case("squared_error", X, X, weights=weights, losses=np.zeros(3)), "read-only")
    assert [x.flags.writeable for x in backend.given] == [False, False]
    assert backend.options["losses"].flags.writeable


@pytest.mark.parametrize(
    ("it", "out"),
    [
        (case("matmul", X, X.T.copy()), "(3, 3) float64 nan"),
        (case("matmul", X, X, transpose_a=True), "(4, 4) float64 nan"),
        (case("matmul", X, X, transpose_b=True), "(3, 3) float64 nan"),
        (case("matmul", X, X[:, :3].copy(), transpose_a=True, transpose_b=False), "(4, 3) float64 nan"),
        (case("column_sum", X), "(4,) float64 nan"),
        (case("dropout_mask", shape=(2, 5), rate=0.5, key=(1, 2), step=0), "(2, 5) float64 nan"),
        (case("take_rows", LABELS, None, 1, count=2), "(2,) int64 77"),
        (case("take_rows", X.astype("u1"), None, 1, count=2, scale=0.5), "(2, 4) float64 nan"),
        (case("take_rows", X.astype("u1"), None, 0, count=3), "(3, 4) uint8 77"),
        (case("softmax", X), "(3, 4) float64 nan"),
        (case("copy", X[0]), "(4,) float64 nan"),
    ],
    ids=lambda it: it.operation if isinstance(it, Case) else "",
)
def test_results_go_to_an_array_of_their_shape_full_of_what_must_not_be_read(it: Case, out: str) -> None:
    backend = recorded(it.operation)
    plain = perform(backend, it, "plain")
    assert backend.out == ""
    for way in ("into out", "into strided out"):
        found = perform(backend, it, way)
        assert backend.out == out
        assert backend.options["out"].flags.c_contiguous == (way == "into out")
        for mine, theirs in zip(found, plain, strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_results_may_go_over_an_input() -> None:
    backend = recorded("multiply")
    for index in (0, 1):
        perform(backend, case("multiply", X, X + 1), f"into input {index}")
        assert backend.options["out"] is backend.given[index]
    backend = recorded("bias_activation")
    it = case("bias_activation", X, ROW, "tanh", z_out=np.zeros((3, 4)))
    y, z = perform(backend, it, "z_out into input 0")
    assert backend.options["z_out"] is backend.given[0]
    assert "out" not in backend.options
    np.testing.assert_allclose(y, np.tanh(X + ROW), rtol=1e-15)
    np.testing.assert_array_equal(z, X + ROW)


def test_an_out_that_a_case_brings_is_used() -> None:
    backend = recorded("matmul")
    (found,) = perform(backend, case("matmul", X, X.T.copy(), beta=2.0, out=np.ones((3, 3))), "into out")
    np.testing.assert_array_equal(found, X @ X.T + 2.0)


def broken(operation: str, method: Any) -> NumpyBackend:
    made: Any = type("Broken", (Recorder,), {operation: method})
    backend: NumpyBackend = made()
    return backend


def test_what_is_not_written_or_changed_is_named() -> None:
    forgets = broken("multiply", lambda self, a, b, out=None: a * b)
    with pytest.raises(AssertionError, match="out does not hold the result"):
        perform(forgets, case("multiply", X, X), "into out")

    def doubles(self: Any, a: Any, b: Any, out: Any = None) -> Any:
        result = np.multiply(a, b, out=out)
        b *= 2
        return result

    with pytest.raises(AssertionError, match="argument 1 was changed"):
        perform(broken("multiply", doubles), case("multiply", X, X + 1), "plain")

    def steps_elsewhere(self: Any, rule: str, params: Any, gradient: Any, state: Any, **options: Any) -> Any:
        gradient[...] = 0  # which it may
        return params - 1

    with pytest.raises(AssertionError, match="argument 1 does not hold the result"):
        perform(broken("update", steps_elsewhere), case("update", "sgd", ROW, ROW + 1, {}), "plain")

    def no_gradient(self: Any, *arrays: Any, totals: Any, **options: Any) -> Any:
        return totals + 1, None

    with pytest.raises(AssertionError, match="totals does not hold the result"):
        perform(broken("squared_error", no_gradient), case("squared_error", X, X, totals=np.zeros(2)), "plain")

    def no_sums(self: Any, dy: Any, saved: Any, activation: str, *, bias_gradient: Any) -> Any:
        return dy, bias_gradient + 1

    it = case("bias_activation_backward", X, X, "tanh", bias_gradient=np.zeros(4))
    with pytest.raises(AssertionError, match="bias_gradient does not hold the result"):
        perform(broken("bias_activation_backward", no_sums), it, "plain")


def test_operations_that_give_no_array_are_called_as_they_are() -> None:
    backend = Recorder()
    assert perform(backend, case("item", np.array(2.5)), "plain") == (np.array(2.5),)
    np.testing.assert_array_equal(perform(backend, case("to_numpy", X), "transposed")[0], X)
    (found,) = perform(backend, case("asarray", [1, 2]), "plain")
    np.testing.assert_array_equal(found, [1, 2])
    (found,) = perform(backend, case("record", X, (0, 1), 2), "plain")
    np.testing.assert_array_equal(found, [X[0:2], X[1:3]])


def test_a_number_that_is_no_float_is_told_from_one() -> None:
    """``item`` must give a Python float: whatever else comes is handed on as it is, to be found wrong."""
    integer = broken("item", lambda self, x: 3)
    found = perform(integer, case("item", np.array(3.0)), "plain")
    assert type(found[0]) is int
