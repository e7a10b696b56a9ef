"""Launches that are joined, on an emulated device: whole networks, and steps of random operations, against the same
operations launched one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backends import StepNumbers
from backends.cuda.cupy_backend import CupyBackend
from backends.cuda.launch import ROWS_OF_LAST_BLOCK
from backends.cuda.rules import EXACT, RULES
from nn import SGD, Adam, Callback, Dropout, Layer, Linear, ReLU, Sequential, Sigmoid, Softmax, Tanh, Trainer
from nn.data import Dataset
from tests.helpers import joined_steps
from tests.helpers.emulated_cuda import EmulatedCudaDevice, launched, needs_compiler
from tests.helpers.joined_steps import backend_with
from tests.helpers.recorded_runs import Eager

pytestmark = needs_compiler

RNG = np.random.default_rng(9)
PIXELS = RNG.integers(0, 256, (75, 13), dtype=np.uint8)
LABELS = Dataset(PIXELS, RNG.integers(0, 5, 75), scale=1 / 255)
ANSWERS = Dataset(PIXELS, RNG.integers(0, 2, (75, 3)).astype(np.float32), scale=1 / 255)
NUMBERS = Dataset(PIXELS, RNG.standard_normal((75, 4)).astype(np.float32), scale=1 / 255)

#: Layers, rows and loss: what a rule looks at differs in each.
NETWORKS: dict[str, tuple[list[Layer], Dataset, str]] = {
    "small": ([Linear(13, 9), Sigmoid(), Linear(9, 5), Softmax()], LABELS, "softmax_cross_entropy"),
    "deep": (
        [Linear(13, 9), ReLU(), Dropout(0.3), Linear(9, 7), Tanh(), Linear(7, 5), Softmax()],
        LABELS,
        "softmax_cross_entropy",
    ),
    "dropout last": ([Linear(13, 9), Sigmoid(), Dropout(0.3), Linear(9, 5), Softmax()], LABELS, "cross_entropy"),
    "no bias": ([Linear(13, 9, bias=False), Tanh(), Linear(9, 5, bias=False), Softmax()], LABELS, "cross_entropy"),
    "one layer": ([Linear(13, 5), Softmax()], LABELS, "softmax_cross_entropy"),
    "wide": ([Linear(13, 9), ReLU(), Linear(9, 40), Softmax()], LABELS, "softmax_cross_entropy"),
    "answers": ([Linear(13, 9), ReLU(), Linear(9, 3), Sigmoid()], ANSWERS, "binary_cross_entropy"),
    "numbers": ([Linear(13, 9), ReLU(), Linear(9, 4)], NUMBERS, "mean_squared_error"),
}

#: What comes after a step: the end of one that is recorded, or another step.
ENDS = ("advance_numbers", "take_rows_scaled_uint8")


def trained(
    backend: CupyBackend, network: str, batch_size: int | None = 16, optimizer: Any = None, **options: Any
) -> tuple[dict[str, np.ndarray], list[str]]:
    """What training leaves, and what the first step launched."""
    layers, rows, loss = NETWORKS[network]
    trainer = Trainer(Sequential(layers, backend=backend, seed=4), loss, optimizer or SGD(0.3, momentum=0.9))
    launched.names.clear()
    trainer.fit(rows, 3, batch_size, **options)
    assert backend.why_eager == ""
    arrays = trainer.model.state_dict() | {name: backend.to_numpy(x) for name, x in trainer.optimizer.state.items()}
    for column in ("loss", "accuracy"):
        if column in trainer.history[0]:
            arrays[column] = np.array(trainer.history[column])
    begin = launched.names.index("set_numbers") + 1 if "set_numbers" in launched.names else 0
    end = next((i for i in range(begin + 1, len(launched.names)) if launched.names[i] in ENDS), len(launched.names))
    return arrays, launched.names[begin:end]


def same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert np.isfinite(values).all()
        np.testing.assert_array_equal(found[name], values, err_msg=name, strict=True)


# ---- networks ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize(("dtype", "threads"), [("float32", 1), pytest.param("float64", 2, marks=pytest.mark.slow)])
def test_joined_steps_give_the_same_bits(network: str, dtype: str, threads: int) -> None:
    expected, alone = trained(backend_with((), dtype, threads), network)
    found, joined = trained(backend_with(EXACT, dtype, threads), network)
    same(found, expected)
    assert len(joined) < len(alone)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("dtype", ["float32", pytest.param("float64", marks=pytest.mark.slow)])
def test_a_recorded_run_is_the_one_launched_one_by_one(network: str, dtype: str) -> None:
    """Both joined alike; several steps are in a graph, too."""
    with_graphs = CupyBackend(EmulatedCudaDevice(), dtype)
    found, _ = trained(with_graphs, network, 4)
    launched_graphs = launched.count("graph")
    expected, _ = trained(Eager(EmulatedCudaDevice(), dtype), network, 4)
    same(found, expected)
    assert launched_graphs > 0


@pytest.mark.parametrize("network", ["small", "answers", "numbers"])
@pytest.mark.parametrize(("batch_size", "shuffle"), [(None, True), (1, True), (16, False), (75, False)])
def test_batches_of_every_kind(network: str, batch_size: int | None, shuffle: bool) -> None:
    expected, _ = trained(backend_with(()), network, batch_size, shuffle=shuffle)
    found, _ = trained(backend_with(EXACT), network, batch_size, shuffle=shuffle)
    same(found, expected)


@pytest.mark.parametrize("network", ["small", "answers", "numbers"])
def test_the_loss_gathers_its_targets_and_adds_the_bias(network: str) -> None:
    _, alone = trained(backend_with(()), network)
    _, joined = trained(backend_with(EXACT), network)
    (loss,) = [name for name in alone if name in ("softmax_cross_entropy", "binary_cross_entropy", "squared_error")]
    at = alone.index(loss)
    assert [name.rstrip("0123456789") for name in alone[:2]] == ["take_rows_scaled_uint", "take_rows_uint"]
    assert alone[at - 1] == "bias_activation_identity"
    assert joined[: at - 1] == [alone[0], *alone[2 : at - 1], loss]


@pytest.mark.parametrize(
    "options",
    [{"momentum": 0.9}, {"momentum": 0.9, "dampening": 0.5, "weight_decay": 0.01}],
    ids=["momentum", "everything"],
)
@pytest.mark.parametrize("network", ["small", "deep", "no bias"])
def test_weights_whose_gradients_products_add_and_biases_are_updated_in_one_launch(
    network: str, options: dict[str, Any]
) -> None:
    found = {}
    for rules in ((), EXACT):
        backend = backend_with(rules)
        backend.accumulates_from = 0
        arrays, names = trained(backend, network, optimizer=SGD(0.3, **options))
        found[rules] = arrays, [name for name in names if name.startswith("sgd")]
    same(found[EXACT][0], found[()][0])
    sections = 1 if network == "no bias" else 2
    assert found[()][1] == ["sgd_update"] * sections
    assert found[EXACT][1] == (["sgd_update"] if sections == 1 else ["sgd_updates_2"])


@pytest.mark.parametrize("count", [2, 3, 4, 5])
@pytest.mark.parametrize(("dtype", "threads"), [("float32", 1), ("float64", 4)])
def test_sections_of_one_update(count: int, dtype: str, threads: int) -> None:
    """More sections than one launch takes, too."""
    joined_steps.updates_are_the_single_ones(count, dtype, threads)


def test_where_gradients_are_read_they_are_there() -> None:
    """And their copies, which the optimizer uses up."""

    class Reads(Callback):
        def __init__(self) -> None:
            self.seen: list[dict[str, np.ndarray]] = []

        def on_batch_end(self, trainer: Trainer, rows: int) -> None:
            down = trainer.backend.to_numpy
            self.seen.append({name: down(x).copy() for name, x in trainer.model.gradients.items()})

    single, joined = Reads(), Reads()
    expected, _ = trained(backend_with(()), "small", callbacks=[single])
    found, _ = trained(backend_with(EXACT), "small", callbacks=[joined])
    same(found, expected)
    assert len(single.seen) == 15
    for found, expected in zip(joined.seen, single.seen, strict=True):
        same(found, expected)


def test_a_batch_of_more_rows_than_a_block_adds_up() -> None:
    m = ROWS_OF_LAST_BLOCK + 7
    rng = np.random.default_rng(2)
    z, labels = rng.standard_normal((m, 3)).astype(np.float32), rng.integers(0, 3, m)

    def run(rules: Any, rows: int) -> tuple[list[str], np.ndarray]:
        backend = backend_with(rules)
        totals, out = backend.zeros((2,), np.float64), backend.empty((rows, 3))
        up, source = backend.asarray(z[:rows]), backend.asarray(labels)
        batch = backend.empty((rows,), np.int64)

        def step(numbers: StepNumbers, count: int) -> None:
            backend.take_rows(source, None, numbers.start, count, out=batch)
            backend.softmax_cross_entropy(up, batch, totals=totals, out=out)

        launched.names.clear()
        backend.record(step)(StepNumbers(0, 0, 1, 0.1), rows)
        return [name for name in launched.names if name.startswith(("take", "softmax", "add"))], backend.to_numpy(
            totals
        )

    for rows, adds in ((m, ["add_totals"]), (ROWS_OF_LAST_BLOCK, [])):
        names, expected = run((), rows)
        assert names == ["take_rows_uint64", "softmax_cross_entropy", *adds]
        names, found = run(EXACT, rows)
        assert names == ["softmax_cross_entropy", *adds]
        np.testing.assert_array_equal(found, expected)


# ---- what is not noted -----------------------------------------------------------------------------------------------


def launches_past_the_tape(backend: CupyBackend) -> Callable[[StepNumbers, int], None]:
    x, y, doubled = (backend.asarray(np.full((4, 3), value, np.float32)) for value in (1.5, 2.5, 0.5))
    backend.kept = [x, y, doubled]  # type: ignore[attr-defined]

    def step(numbers: StepNumbers, count: int) -> None:
        nonlocal doubled
        backend.multiply(x, y, out=doubled)
        doubled *= 2.0  # by the array library itself
        backend.multiply(doubled, y, out=x)

    return step


def test_a_step_that_launches_something_else_too_runs_as_it_is() -> None:
    kept = []
    for rules in ((), EXACT):
        backend = backend_with(rules)
        recorded = backend.record(launches_past_the_tape(backend))
        launched.names.clear()
        for number in range(4):
            recorded(StepNumbers(4 * number, number, number + 1, 0.1), 4)
        assert launched.names[1:5] == ["multiply", "copy", "multiply", "advance_numbers"] or rules == ()
        kept.append([backend.to_numpy(x) for x in backend.kept])  # type: ignore[attr-defined]
        assert backend.why_eager == ""
    for one, other in zip(*kept, strict=True):
        np.testing.assert_array_equal(one, other)
    assert np.isfinite(kept[0][0]).all()


# ---- products in another order ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize(("dtype", "threads"), [pytest.param("float32", 1, marks=pytest.mark.slow), ("float64", 4)])
def test_training_with_all_rules(network: str, dtype: str, threads: int) -> None:
    """Three epochs: rounding differs, and what it grows to."""
    expected, alone = trained(backend_with(EXACT, dtype, threads), network)
    found, joined = trained(backend_with(RULES, dtype, threads), network)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        if name == "accuracy":
            continue
        tolerance = 1e-4 if dtype == "float32" else 1e-12
        np.testing.assert_allclose(found[name], values, rtol=tolerance, atol=tolerance, err_msg=name, strict=True)
    has_head = network not in ("wide", "answers", "numbers")
    assert len(joined) < len(alone)
    assert sum(name.startswith("gradients_and_update_") for name in joined) == 1
    is_small = network in ("small", "no bias")
    assert sum(name.startswith("head_") for name in joined) == (has_head and not is_small)
    assert sum(name.startswith("small_") for name in joined) == is_small


def test_launches_of_a_step() -> None:
    """Of the small network, with the gradients added to velocities by the products."""
    backend = backend_with(RULES)
    backend.accumulates_from = 0
    assert trained(backend, "small")[1] == ["small_sigmoid", "gradients_and_update_2"]
    assert trained(backend, "deep")[1] == [
        "take_rows_scaled_uint8", "gemm", "bias_activation_relu", "dropout_mask", "multiply", "gemm",
        "bias_activation_tanh", "head_tanh", "gemm", "multiply", "activation_backward_relu", "gradients_and_update_3"
    ]  # fmt: skip


@pytest.mark.parametrize("which", joined_steps.HEADS)
@pytest.mark.parametrize(("dtype", "threads"), [("float32", 1), ("float32", 8), ("float64", 2)])
def test_every_result_of_a_head_is_within_its_bound(which: str, dtype: str, threads: int) -> None:
    joined_steps.head_is_within_its_bounds(which, dtype, threads)


@pytest.mark.parametrize("which", joined_steps.WHOLE)
@pytest.mark.parametrize(("dtype", "threads"), [("float32", 1), ("float32", 8), ("float64", 2)])
def test_every_result_of_a_whole_network_is_within_its_bound(which: str, dtype: str, threads: int) -> None:
    joined_steps.network_is_within_its_bounds(which, dtype, threads)


@pytest.mark.parametrize("which", joined_steps.GRADIENTS)
@pytest.mark.parametrize(("dtype", "threads"), [("float32", 1), ("float32", 4), ("float64", 1)])
def test_gradients_and_parameters_are_within_their_bounds(which: str, dtype: str, threads: int) -> None:
    joined_steps.gradients_are_within_their_bounds(which, dtype, threads)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_head_of_numbers_that_are_none_is_the_single_launches(value: float) -> None:
    def run(rules: Any) -> list[np.ndarray]:
        backend = backend_with(rules)
        x = np.ones((4, 3), np.float32)
        x[1, 2] = value
        inputs, matrix = backend.asarray(x), backend.asarray(np.eye(3, dtype=np.float32))
        labels, totals = backend.asarray([2, 2, 0, -1]), backend.zeros((2,), np.float64)
        z, d = backend.empty((4, 3)), backend.empty((4, 3))

        def step(numbers: StepNumbers, count: int) -> None:
            backend.matmul(inputs, matrix, out=z)
            backend.softmax_cross_entropy(z, labels, totals=totals, out=d)

        launched.names.clear()
        with np.errstate(all="ignore"):
            backend.record(step)(StepNumbers(0, 0, 1, 0.1), 4)
        assert ("head_identity" in launched.names) == (rules == RULES)
        return [backend.to_numpy(array) for array in (totals, z, d)]

    for found, expected in zip(run(RULES), run(EXACT), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6)


# ---- random operations -----------------------------------------------------------------------------------------------

M, N = 5, 4
MATRICES, LABELED, VECTORS = ("a", "b", "c", "d", "e", "f"), ("p", "q"), ("u", "v", "t", "w4")
matrix, labels_, vector = st.sampled_from(MATRICES), st.sampled_from(LABELED), st.sampled_from(VECTORS)
sections = st.tuples(st.sampled_from(["w", *MATRICES]), st.integers(0, 3), st.integers(1, 4)).map(
    lambda drawn: (drawn[0], slice(4 * drawn[1], 4 * (drawn[1] + drawn[2])))
)
operations = st.one_of(
    st.tuples(st.just("labels"), labels_, st.integers(0, 9), st.booleans()),
    st.tuples(st.just("targets"), matrix, st.integers(0, 9), st.booleans()),
    st.tuples(st.just("pixels"), matrix, st.integers(0, 9), st.booleans()),
    st.tuples(st.just("bias"), matrix, vector, matrix),
    st.tuples(st.just("activate"), matrix, vector, matrix),
    st.tuples(st.just("cross entropy"), matrix, labels_, matrix),
    st.tuples(st.just("binary"), matrix, matrix, matrix),
    st.tuples(st.just("squares"), matrix, matrix, matrix),
    st.tuples(st.just("sum"), matrix, vector),
    st.tuples(st.just("multiply"), matrix, matrix, matrix),
    st.tuples(st.just("copy"), matrix, matrix),
    st.tuples(st.just("product"), matrix, matrix),
    st.tuples(st.just("back"), matrix, matrix),
    st.tuples(st.just("derivative"), matrix, matrix, matrix, vector, st.sampled_from(["sigmoid", "identity"])),
    st.tuples(st.just("gradient"), matrix, matrix, st.sampled_from(["w", "c"]), st.integers(0, 1), st.booleans()),
    st.tuples(st.just("update"), sections, sections, st.booleans(), st.sampled_from(["rate", 0.1, 0.2])),
)


def after(rules: Any, program: list[tuple[Any, ...]]) -> dict[str, np.ndarray]:
    """The memory after a step of those operations on it, and after three."""
    backend = backend_with(rules, "float64")
    rng = np.random.default_rng(3)
    here: dict[str, Any] = {name: backend.asarray(rng.standard_normal((M, N)) / 4) for name in MATRICES}
    here |= {name: backend.asarray(rng.standard_normal(N) / 4) for name in VECTORS}
    here |= {name: backend.asarray(rng.integers(0, N, M)) for name in LABELED}
    here["w"], here["velocity"] = (backend.asarray(rng.standard_normal(M * N) / 4) for _ in range(2))
    here["totals"] = backend.zeros((2,), np.float64)
    classes, goals = backend.asarray(rng.integers(0, N, 20)), backend.asarray(rng.uniform(size=(20, N)))
    pixels = backend.asarray(rng.integers(0, 256, (20, N), dtype=np.uint8))
    order, square = backend.asarray(rng.permutation(20)), backend.asarray(rng.standard_normal((N, N)) / 4)

    def step(numbers: StepNumbers, count: int) -> None:
        for name, *where in program:
            if name == "update":
                (of, part), (other, from_part), has_velocity, rate = where
                w, g = here[of].reshape(-1)[part], here[other].reshape(-1)[from_part]
                size = min(w.size, g.size)
                state = {"velocity": here["velocity"][part][:size]} if has_velocity else {}
                rate = numbers.learning_rate if rate == "rate" else rate
                momentum = 0.5 if has_velocity else 0.0
                backend.update("sgd", w[:size], g[:size], state, learning_rate=rate, momentum=momentum)
                continue
            if name == "gradient":
                one, other, into, begin, adds = where
                if into not in (one, other):
                    to = here[into].reshape(-1)[4 * begin : 4 * begin + N * N].reshape(N, N)
                    beta = 0.5 if adds else 0.0
                    backend.matmul(here[one], here[other], transpose_a=True, beta=beta, out=to)
                continue
            x = [here.get(i, i) if isinstance(i, str) else i for i in where]
            if name in ("labels", "targets"):
                to, start, shuffled = x
                rows = classes if name == "labels" else goals
                backend.take_rows(rows, order if shuffled else None, start, count, out=to)
            elif name == "pixels":
                to, start, shuffled = x
                backend.take_rows(pixels, order if shuffled else None, start, count, scale=1 / 255, out=to)
            elif name == "activate":
                backend.bias_activation(x[0], x[1], "sigmoid", out=x[2])
            elif name == "bias":
                backend.bias_activation(x[0], x[1], out=x[2])
            elif name == "cross entropy":
                backend.softmax_cross_entropy(x[0], x[1], totals=here["totals"], out=x[2])
            elif name in ("binary", "squares") and where[1] != where[2]:
                loss = backend.binary_cross_entropy if name == "binary" else backend.squared_error
                loss(x[0], x[1], totals=here["totals"], out=x[2])
            elif name == "sum":
                backend.column_sum(x[0], out=x[1])
            elif name == "multiply":
                backend.multiply(*x[:2], out=x[2])
            elif name == "copy":
                backend.copy(x[0], out=x[1])
            elif name in ("product", "back") and where[0] != where[1]:
                backend.matmul(x[0], square, transpose_b=name == "back", out=x[1])
            elif name == "derivative":
                backend.bias_activation_backward(x[0], x[1], where[4], out=x[2], bias_gradient=x[3])

    recorded = backend.record(step)
    found: dict[str, np.ndarray] = {}
    for number in range(3):
        recorded(StepNumbers(0, number, number + 1, 0.1), M)
        if number in (0, 2):
            found |= {f"{name} {number}": backend.to_numpy(x) for name, x in here.items()}
    return found


def the_end(x: str, z: str, d: str, dx: str, of: str, t: str, u: str, v: str) -> list[tuple[Any, ...]]:
    """The end of a network and the way back through it, on memory of which some may be the same."""
    return [
        ("labels", of, 3, True),
        ("product", x, z),
        ("bias", z, t, z),
        ("cross entropy", z, of, d),
        ("sum", d, u),
        ("back", d, dx),
        ("derivative", dx, x, dx, v, "sigmoid"),
    ]


ends = st.one_of(
    st.builds(the_end, *[matrix] * 4, labels_, vector, vector, vector),
    st.permutations(MATRICES).map(lambda drawn: the_end(drawn[0], drawn[1], drawn[2], drawn[3], "p", "t", "u", "v")),
)
programs = st.tuples(ends, st.lists(st.tuples(st.integers(0, 9), operations), max_size=3)).map(
    lambda drawn: [
        call
        for i, end in enumerate([*drawn[0], None])
        for call in [*(other for at, other in drawn[1] if at == i), *([] if end is None else [end])]
    ]
)


@pytest.mark.parametrize("most", [60, pytest.param(500, marks=pytest.mark.slow)])
def test_steps_of_any_operations_on_any_memory(most: int) -> None:
    """What stands between two calls, and who uses their memory later, decides whether they may be joined. Other
    programs are drawn in each run; many at once are where they are asked for."""
    drawn = given(st.one_of(st.lists(operations, min_size=2, max_size=9), programs))(joined_steps_are_right)
    settings(max_examples=most, deadline=None, suppress_health_check=[HealthCheck.too_slow])(drawn)()


def joined_steps_are_right(program: list[tuple[Any, ...]]) -> None:
    found, expected = after(EXACT, program), after((), program)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name, strict=True)
    found = after(RULES, program)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-9, atol=1e-9, err_msg=name, strict=True)


def is_right_with_all_rules(program: list[tuple[Any, ...]]) -> None:
    found, expected = after(RULES, program), after((), program)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-9, atol=1e-9, err_msg=f"{name}: {program}")


@pytest.mark.parametrize("between", range(8))
def test_what_stands_within_the_end_of_a_network(between: int) -> None:
    """Each of its arrays changed there, and read there."""
    launched.names.clear()
    after(RULES, the_end("a", "b", "c", "d", "p", "t", "u", "v"))
    assert launched.names.count("head_sigmoid") == 1
    end = the_end("a", "b", "c", "d", "p", "t", "u", "v")
    calls: list[tuple[Any, ...]] = [("multiply", x, "e", x) for x in "abcd"] + [("copy", x, "e") for x in "abcd"]
    calls += [("labels", "p", 7, False), ("sum", "e", "u"), ("sum", "e", "v")]
    for call in calls:
        is_right_with_all_rules([*end[:between], call, *end[between:]])


@pytest.mark.parametrize("between", range(11))
def test_what_stands_within_a_whole_network(between: int) -> None:
    """Each of its arrays changed there, and read there."""
    whole = [("pixels", "e", 4, True), ("product", "e", "a"), ("activate", "a", "v", "a")]
    whole += the_end("a", "b", "c", "d", "p", "t", "u", "w4")
    launched.names.clear()
    after(RULES, whole)
    assert launched.names.count("small_sigmoid") == 1
    calls: list[tuple[Any, ...]] = [("multiply", x, "f", x) for x in "abcde"] + [("copy", x, "f") for x in "abcde"]
    calls += [("labels", "p", 7, False), ("sum", "f", "u"), ("sum", "f", "v"), ("sum", "f", "t")]
    for call in calls:
        is_right_with_all_rules([*whole[:between], call, *whole[between:]])


@pytest.mark.parametrize("params", ["a", "b", "c", "w"])
@pytest.mark.parametrize("adds", [False, True])
def test_what_stands_between_a_gradient_and_its_update(params: str, adds: bool) -> None:
    """The arrays of both changed and read there; and parameters that the product reads."""
    gradient = ("gradient", "a", "b", "w", 1, adds)
    update = ("update", (params, slice(0, 20)), ("w", slice(0, 20)), False, 0.1)
    launched.names.clear()
    is_right_with_all_rules([gradient, update])
    assert ("gradients_and_update_1" in launched.names) == (params not in ("a", "b"))
    flat = slice(0, 20)
    calls: list[tuple[Any, ...]] = [("multiply", x, "e", x) for x in "abc"] + [("copy", x, "e") for x in "abc"]
    calls += [("update", (x, flat), ("w", slice(0, 20)), False, 0.2) for x in "abd"]
    calls += [("update", ("w", slice(4, 8)), ("d", slice(0, 4)), True, 0.2), ("gradient", "d", "e", "w", 0, True)]
    for call in calls:
        is_right_with_all_rules([gradient, call, update])


def test_sums_and_activations_that_go_elsewhere() -> None:
    """What a product has left is still there then."""
    start = [("pixels", "e", 4, True), ("product", "e", "f"), ("activate", "f", "v", "a")]
    end = the_end("a", "b", "c", "d", "p", "t", "u", "w4")
    is_right_with_all_rules([*start, *end])
    is_right_with_all_rules([end[0], end[1], ("bias", "b", "t", "f"), ("cross entropy", "f", "p", "c"), *end[4:]])


def test_column_sums_that_leave_a_copy() -> None:
    end = the_end("a", "b", "c", "d", "p", "t", "u", "v")
    end[4] = ("derivative", "c", "a", "e", "u", "identity")
    is_right_with_all_rules(end)


def test_adam_is_left_alone() -> None:
    expected, _ = trained(backend_with(()), "deep", optimizer=Adam(0.02, weight_decay=0.1))
    found, _ = trained(backend_with(EXACT), "deep", optimizer=Adam(0.02, weight_decay=0.1))
    same(found, expected)
