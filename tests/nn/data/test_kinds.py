"""Arrays as they come: in without a copy where the standard allows, and results in the kind that was given."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nn import Dataset, Linear, Sequential, Softmax, Trainer, load_model, save_model
from nn.data import DataError, as_dataset, as_given, as_rows, from_frame
from nn.data.columns import Column

X = np.random.default_rng(0).normal(size=(20, 3)).astype("float32")
LABELS = np.arange(20) % 2


def address(x: Any) -> int:
    return int(x.__array_interface__["data"][0])


def trained(x: Any = X) -> Sequential:
    model = Sequential(Linear(3, 2), Softmax(), backend="cpu")
    Trainer(model).fit(x, ["yes" if label else "no" for label in LABELS])
    return model


# ---- in --------------------------------------------------------------------------------------------------------------


def test_numpy_arrays_are_not_copied() -> None:
    assert np.shares_memory(as_rows(X).x, X)


def test_tensors_of_pytorch_are_not_copied() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    tensor = torch.from_numpy(X.copy()).requires_grad_()
    assert address(as_rows(tensor).x) == tensor.data_ptr()
    np.testing.assert_array_equal(as_rows(tensor.bfloat16()).x, tensor.detach().bfloat16().float().numpy())


def test_arrays_of_jax_are_not_copied() -> None:
    jnp = pytest.importorskip("jax.numpy", reason="JAX is not installed")
    array = jnp.asarray(X)
    assert address(as_rows(array).x) == array.unsafe_buffer_pointer()
    half = array.astype(jnp.bfloat16)
    np.testing.assert_array_equal(as_rows(half).x, np.asarray(half.astype("float32")))


def test_other_arrays_of_the_standard_are_not_copied() -> None:
    xp = pytest.importorskip("array_api_strict", reason="array-api-strict is not installed")
    array = xp.asarray(X.copy())
    assert np.shares_memory(as_rows(array).x, np.from_dlpack(array))


# ---- tables of polars ------------------------------------------------------------------------------------------------


@pytest.fixture
def pl() -> Any:
    return pytest.importorskip("polars", reason="polars is not installed")


def test_columns_of_polars_are_taken_by_their_names(pl: Any) -> None:
    frame = pl.DataFrame(X, schema=["a", "b", "c"])
    data = as_rows(frame)
    assert data.columns == (Column("a"), Column("b"), Column("c"))
    np.testing.assert_array_equal(data.x, X)
    model = trained(frame)
    np.testing.assert_array_equal(model(frame[:, [2, 0, 1]]), model(frame))
    np.testing.assert_array_equal(model(X), model(frame))
    with pytest.raises(DataError, match="x lacks the column b, which the training rows had"):
        model.predict(frame.drop("b"))


@pytest.mark.parametrize("dtype", ["Int8", "UInt16", "Int64", "Float32", "Float64", "Boolean"])
def test_dtypes_of_polars(pl: Any, dtype: str) -> None:
    frame = pl.DataFrame({"a": [1, 0], "b": [0, 1]}).cast(getattr(pl, dtype))
    np.testing.assert_array_equal(as_rows(frame).x, [[1, 0], [0, 1]])
    mixed = frame.with_columns(c=pl.Series([0.5, 1.5]), d=pl.Series([True, False]))
    np.testing.assert_array_equal(as_rows(mixed).x, [[1, 0, 0.5, 1], [0, 1, 1.5, 0]])


def test_pixels_in_a_frame_of_polars_stay_bytes(pl: Any) -> None:
    x = np.random.default_rng(0).integers(0, 256, (5, 64), dtype=np.uint8)
    data = as_rows(pl.DataFrame(x))
    assert data.x.dtype == np.uint8
    assert data.image_shape == (8, 8)


@pytest.mark.parametrize("kind", ["String", "Categorical"])
def test_a_table_of_polars_with_its_label(pl: Any, kind: str, tmp_path: Any) -> None:
    pd = pytest.importorskip("pandas", reason="pandas is not installed")
    columns: dict[str, Any] = {
        "age": [30, 40, None, 60], "size": ["S", "L", "S", None], "weight": [1.5, float("nan"), 2.5, 1.0],
        "label": ["a", "b", "b", "a"],
    }  # fmt: skip
    frame = pl.DataFrame(columns, strict=False).with_columns(pl.col("size").cast(getattr(pl, kind)))
    data = from_frame(frame, label="label", impute="mean", categorical=["size"])
    same = from_frame(pd.DataFrame(columns), label="label", impute="mean", categorical=["size"])
    np.testing.assert_array_equal(data.x, same.x)
    np.testing.assert_array_equal(data.y, same.y)
    assert (data.columns, data.class_names) == (same.columns, same.class_names)
    model = Sequential(Linear(4, 2), backend="cpu")
    Trainer(model).fit(data)
    save_model(model, tmp_path / "m.safetensors")
    loaded = load_model(tmp_path / "m.safetensors", "cpu")
    np.testing.assert_array_equal(loaded(frame.drop("label")), model(pd.DataFrame(columns).drop(columns="label")))


def test_what_polars_has_and_networks_have_not(pl: Any) -> None:
    from datetime import date

    with pytest.raises(DataError, match="column 'a' holds text, 'x' for example"):
        as_rows(pl.DataFrame({"a": ["x"], "b": [1.0]}))
    with pytest.raises(DataError, match="column 'a' holds date; turn it into numbers or text first"):
        as_rows(pl.DataFrame({"a": [date(2020, 1, 1)], "b": [1.0]}))
    with pytest.raises(DataError, match="the value is missing"):
        as_rows(pl.DataFrame({"a": [1, None], "b": [1.0, 2.0]}))


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["a", "b"], ("a", "b")),
        ([0, 1], ("0", "1")),
        ([True, False], ("False", "True")),
    ],
)
def test_labels_of_polars(pl: Any, labels: list[Any], names: tuple[str, ...]) -> None:
    for y in (pl.Series(labels), pl.DataFrame({"y": labels})):
        data = as_dataset((X[:2], y))
        assert data.class_names == names
        assert [names[label] for label in data.y] == [str(label) for label in labels]


def test_targets_of_polars(pl: Any) -> None:
    np.testing.assert_array_equal(as_dataset((X[:2], pl.Series([0.5, 1.5]))).y, [0.5, 1.5])
    np.testing.assert_array_equal(
        as_dataset((X[:2], pl.DataFrame({"a": [0.5, 1], "b": [1.5, 2]}))).y, [[0.5, 1.5], [1, 2]]
    )
    with pytest.raises(DataError, match=r"y\[1\] is missing \(None\)"):
        as_dataset((X[:2], pl.Series([1, None])))


# ---- out -------------------------------------------------------------------------------------------------------------


def test_numpy_is_what_comes_back_unless_asked() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    model = trained()
    assert type(model(torch.from_numpy(X))) is np.ndarray
    for like in (X, X[0], [1.0], 3):
        assert type(model(X, like=like)) is np.ndarray


def test_tensors_come_back_as_tensors() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    model, x = trained(), torch.from_numpy(X)
    for found, expected in (
        (model(x, like=x), model(X)),
        (model.predict(x, like=x), model.predict(X)),
        (model.predict_proba(x, like=x), model.predict_proba(X)),
        (Trainer(model).predict(x, like=x), model.predict(X)),
        (Trainer(model).predict_proba(x, like=x), model.predict_proba(X)),
    ):
        assert isinstance(found, torch.Tensor)
        np.testing.assert_array_equal(found, expected)
    outputs = np.ones((3, 2))
    assert as_given(outputs, x).data_ptr() == address(outputs)
    on_torch = Sequential(Linear(3, 2), backend="torch:cpu")
    assert on_torch(x, like=x).device == x.device


def test_arrays_of_jax_come_back_on_their_device() -> None:
    jnp = pytest.importorskip("jax.numpy", reason="JAX is not installed")
    model, x = trained(), jnp.asarray(X)
    found = model(x, like=x)
    assert type(found) is type(x)
    assert found.device == x.device
    np.testing.assert_array_equal(found, model(X))


def test_arrays_of_the_standard_come_back_on_their_device() -> None:
    xp = pytest.importorskip("array_api_strict", reason="array-api-strict is not installed")
    model, devices = trained(), xp.__array_namespace_info__().devices()
    for device in devices[:2]:
        x = xp.asarray(X, device=device)
        found = model.predict(x, like=x)
        assert found.device == device
        np.testing.assert_array_equal(as_rows(xp.reshape(found, (-1, 1))).x[:, 0], model.predict(X))


def test_tables_of_pandas_come_back_with_their_index() -> None:
    pd = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = pd.DataFrame(X, columns=["a", "b", "c"], index=range(100, 120))
    model = trained(frame)
    probabilities = model.predict_proba(frame, like=frame)
    assert list(probabilities.columns) == ["no", "yes"]
    assert list(probabilities.index) == list(frame.index)
    np.testing.assert_array_equal(probabilities, model.predict_proba(frame))
    labels = model.predict(frame, like=frame)
    assert isinstance(labels, pd.Series)
    assert list(labels.index) == list(frame.index)
    np.testing.assert_array_equal(labels, model.predict(frame))
    assert list(model(frame[:3], like=frame).index) == [0, 1, 2]
    assert isinstance(model(frame, like=frame["a"]), pd.DataFrame)


def test_tables_of_polars_come_back(pl: Any) -> None:
    frame = pl.DataFrame(X, schema=["a", "b", "c"])
    model = trained(frame)
    assert model.predict_proba(frame, like=frame).columns == ["no", "yes"]
    np.testing.assert_array_equal(model.predict_proba(frame, like=frame), model.predict_proba(frame))
    labels = model.predict(frame, like=frame)
    assert isinstance(labels, pl.Series)
    np.testing.assert_array_equal(labels, model.predict(frame))


def test_what_is_no_kind_of_array() -> None:
    data = Dataset(X, LABELS)
    for like in ("torch", data, object()):
        with pytest.raises(TypeError, match="like must be an array, a DataFrame or a Series, not"):
            trained()(data, like=like)
