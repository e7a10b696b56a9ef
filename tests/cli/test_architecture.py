"""The notation of ``--layers``: read, written, made into layers, and refused in a sentence that names the position."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import train
from nn import Data, Dataset, load_model
from nn.cli import UsageError
from nn.cli.architecture import Entry, Filters, GlobalPooling, Pooling, Units, read_layers, write_layers
from nn.cli.architecture import stack as stack_of
from nn.layers import AvgPool2d, Conv2d, Flatten, GlobalAvgPool2d, GlobalMaxPool2d, Layer, Linear, MaxPool2d, Reshape
from tests.helpers import made_up
from tests.helpers.script import run

NUMBERS = st.integers(1, 30)
FILTERS = st.builds(Filters, NUMBERS, st.integers(1, 4), st.integers(1, 3), st.integers(0, 2), st.just(1))
GROUPED = st.builds(lambda n, size, groups: Filters(n * groups, size, groups=groups), NUMBERS, NUMBERS, NUMBERS)
POOLING = st.builds(Pooling, st.sampled_from("MA"), st.integers(2, 3), st.integers(1, 3), st.integers(0, 1))
UNITS = st.builds(Units, NUMBERS)
GLOBAL = st.lists(st.builds(GlobalPooling, st.sampled_from("MA")), max_size=1)


def networks(filters: Any = FILTERS) -> st.SearchStrategy[list[Entry]]:
    """Hidden layers in an order that is possible."""
    parts = st.tuples(st.lists(filters | POOLING, max_size=4), GLOBAL, st.lists(UNITS, max_size=3))
    return parts.map(lambda found: [*found[0], *found[1], *found[2]]).filter(bool)


def pictures(*shape: int) -> Dataset:
    return Dataset(np.zeros((3, *shape), np.float32), np.array([0, 1, 2]), image_shape=shape)


def stack(entries: list[Entry] | tuple[Entry, ...], rows: Dataset, **settings: Any) -> list[Layer]:
    initial = [{"weight_init": "he_normal", "bias_init": 0.5}] * sum(entry.has_weights for entry in entries)
    return stack_of(entries, rows, initial, **settings)


@given(networks(FILTERS | GROUPED))
def test_what_is_written_is_read_again(entries: list[Entry]) -> None:
    assert read_layers(write_layers(entries)) == tuple(entries)


@given(networks())
def test_layers_are_those_that_the_notation_says(entries: list[Entry]) -> None:
    """Each layer has the settings of its entry, and takes what the one before it leaves."""
    try:
        layers = stack([*read_layers(write_layers(entries)), Units(3)], pictures(28, 30, 2))
    except UsageError as error:
        assert "larger than pictures" in str(error)  # noqa: PT017
        return
    shape: Any = (28, 30, 2) if entries[0].takes_pictures else (28 * 30 * 2,)
    found: list[Entry] = []
    for layer in layers:
        shape, settings = layer.output_shape(shape), SimpleNamespace(**vars(layer))
        if isinstance(layer, Conv2d):
            assert (layer.weight_init, layer.bias_init) == ("he_normal", 0.5)
            found.append(Filters(settings.out_channels, settings.kernel_size, settings.stride, settings.padding))
        elif isinstance(layer, MaxPool2d | AvgPool2d):
            kind, stride = "M" if isinstance(layer, MaxPool2d) else "A", settings.stride or settings.kernel_size
            found.append(Pooling(kind, settings.kernel_size, stride, settings.padding))
        elif isinstance(layer, GlobalMaxPool2d | GlobalAvgPool2d):
            found.append(GlobalPooling("M" if isinstance(layer, GlobalMaxPool2d) else "A"))
        elif isinstance(layer, Linear):
            found.append(Units(layer.out_features))
        else:
            assert isinstance(layer, Reshape | Flatten)
    assert found == [*entries, Units(3)]
    assert shape == (3,)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("32C3", (Filters(32, 3),)),
        ("32C5p2s2", (Filters(32, 5, 2, 2),)),
        ("8C3g4p1", (Filters(8, 3, 1, 1, 4),)),
        ("MP2", (Pooling("M", 2, 2),)),
        ("AP3s2p1", (Pooling("A", 3, 2, 1),)),
        ("GAP-10N", (GlobalPooling("A"), Units(10))),
        ("GMP", (GlobalPooling("M"),)),
        ("007N", (Units(7),)),
    ],
)
def test_the_notation(text: str, wanted: tuple[Entry, ...]) -> None:
    assert read_layers(text) == wanted


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("32C3-3X3", "layer 2, `3X3`, is none of 32C3 (filters of 3 x 3), MP2 or AP2 (pooling of 2 x 2), GAP, GMP and "
                     "128N (units)"),
        ("32c3", "layer 1, `32c3`, is none of"),
        ("32C3 - 10N", "layer 1, `32C3 `, is none of"),
        ("32", "layer 1, `32`, is none of"),
        ("32C3p", "layer 1, `32C3p`, is none of"),
        ("9999999999N", "layer 1, `9999999999N`, is none of"),
        ("٣N", "layer 1, `٣N`, is none of"),
        ("32C3--10N", "layer 2 is empty; write one - between two layers"),
        ("32C3-", "layer 2 is empty"),
        ("-32C3", "layer 1 is empty"),
        ("32C3-0N", "layer 2, `0N`: its count must be at least 1"),
        ("32C0", "layer 1, `32C0`: its size must be at least 1"),
        ("MP2s0", "layer 1, `MP2s0`: its stride must be at least 1"),
        ("32C3s1s2", "layer 1, `32C3s1s2`: s, the stride, is said twice"),
        ("MP2g2", "layer 1, `MP2g2`: g, the groups, is for filters alone"),
        ("32C3-128N-MP2", "layer 3, `MP2`, takes pictures, but `128N` before it leaves none; put it before that"),
        ("GAP-32C3", "layer 2, `32C3`, takes pictures, but `GAP` before it leaves none"),
    ],
)  # fmt: skip
def test_each_mistake_is_told_with_its_position(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        train.parse([f"--layers={text}"])
    assert str(caught.value).startswith(f"--layers: {message}")


@given(st.text(st.sampled_from("0123CNMAPGspg-x "), max_size=12))
def test_any_text_is_read_or_refused_by_a_sentence(text: str) -> None:
    try:
        entries = read_layers(text)
    except ValueError as error:
        assert str(error).startswith("layer ")  # noqa: PT017
    else:
        assert read_layers(write_layers(entries)) == entries


@pytest.mark.parametrize(
    ("layers", "rows", "message"),
    [
        ("8C9-10N", "digits", "layer 1, `8C9`, has windows of 9 x 9, which are larger than pictures of 8 x 8"),
        ("8C3-MP2-8C3-MP2", "digits", "layer 4, `MP2`, has windows of 2 x 2, which are larger than pictures of 1 x 1"),
        ("8C3g2", "digits", "layer 1, `8C3g2`: Conv2d: in_channels (1) cannot be split into 2 groups of equal size"),
        ("MP2p2", "digits", "layer 1, `MP2p2`: MaxPool2d: padding must be at most half of kernel_size (2), not 2"),
        (
            "8C3-10N",
            "table",
            "layer 1, `8C3`, takes pictures, but rows of 5 numbers are not known to be any; give",
        ),
    ],
)
def test_rows_that_do_not_fit_are_refused(
    layers: str, rows: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "t.csv"
    line = ",".join(["0.5"] * 5)
    table.write_text("a,b,c,d,e,label\n" + "".join(f"{line},{i % 2}\n" for i in range(20)))
    code, out, err = run(capsys, "--data", rows if rows == "digits" else str(table), "--layers", layers)
    assert (code, out) == (2, "")
    assert err.startswith(f"train.py: error: --layers: {message}")
    assert len(err.splitlines()) == 1


def test_layer_normalization_is_not_for_filters(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "--layers", "5N-6N", "--norm", "layer", "--epochs", "1", "--quiet", "--limit", "50")
    assert (code, err) == (0, "")
    code, _, err = run(capsys, "--layers", "8C3-6N", "--norm", "layer")
    assert code == 2
    assert "--norm layer: layer 1, `8C3`, leaves pictures, for which there is --norm batch alone" in err


def test_units_alone_are_hidden_units(capsys: pytest.CaptureFixture[str]) -> None:
    """``--layers 9N-8N`` is ``--hidden 9 8``, and takes rows that are no pictures."""
    of_flag = [train.prepare(train.parse([*flags, "--quiet", "--device", "cpu"])[0]) for flags in (
        ["--layers", "9N-8N", "--dropout", "0.1"], ["--hidden", "9", "8", "--dropout", "0.1"]
    )]  # fmt: skip
    one, other = ([repr(layer) for layer in run.trainer.model.layers] for run in of_flag)
    assert one == other


def test_a_flag_replaces_the_layers_of_a_recipe_of_either_kind(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('[network]\nlayers = "8C3-9N"\nnorm = "batch"\n')
    (settings,) = train.parse(["--recipe", str(path), "--hidden", "30"])
    assert (settings.hidden, settings.layers, settings.norm) == ((30,), None, "batch")
    path.write_text("[network]\nhidden = [30]\n")
    (settings,) = train.parse(["--recipe", str(path), "--layers", "8C3-9N"])
    assert settings.layers == "8C3-9N"
    path.write_text('[network]\nhidden = [30]\nlayers = "8C3"\n')
    with pytest.raises(UsageError, match=r"\[network\] hidden would do nothing here, as --layers says"):
        train.parse(["--recipe", str(path)])


def test_color_pictures_of_an_archive(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Rows (n, height, width, channels); the brightest channel is the class, which filters of one pixel can tell."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 400)
    x = rng.integers(0, 100, (400, 6, 5, 3), dtype=np.uint8)
    x[np.arange(400), :, :, y] += 100
    np.savez(tmp_path / "colors.npz", x_train=x[:300], y_train=y[:300], x_test=x[300:], y_test=y[300:])
    flags = ["--data", str(tmp_path / "colors.npz"), "--layers", "4C1-GAP", "--epochs", "20", "--device", "cpu"]
    code, out, err = run(capsys, *flags, "--output", str(tmp_path / "out"), "--lr", "0.5")
    assert (code, err) == (0, "")
    assert "6x5x3-4C1-GAP-3, relu" in out
    model = load_model(tmp_path / "out", "cpu")
    assert (model.predict(x[300:]) == y[300:]).mean() > 0.95


def test_pictures_of_floats_that_nothing_scales_get_advice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x, y = np.random.default_rng(0).uniform(0, 255, (40, 6, 5)).astype(np.float32), np.arange(40) % 2
    flags = ["--layers", "4C3", "--epochs", "1", "--device", "cpu", "--lr", "1e-6", "--data", str(tmp_path / "x.npz")]
    for scale, more, advised in ((1.0, [], True), (1.0, ["--standardize"], False), (1 / 255, [], False)):
        rows = x * np.float32(scale)
        np.savez(tmp_path / "x.npz", x_train=rows, y_train=y, x_test=rows, y_test=y)
        code, out, _ = run(capsys, *flags, *more)
        assert code == 0
        assert ("advice    the pixels of the training pictures go from 0.0" in out) == advised


def test_a_run_with_filters_goes_on_is_loaded_compared_and_described(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = made_up.mnist(200, 100)
    monkeypatch.setattr("nn.cli.rows.load_data", lambda *_, **__: Data("mnist", data.train, data.test))
    flags = ["--layers", "4C5s2-MP2-9N", "--norm", "batch", "--device", "cpu", "--quiet"]
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    assert run(capsys, *flags, "--epochs", "4", "--output", str(whole))[0] == 0
    assert run(capsys, *flags, "--epochs", "2", "--output", str(halves))[0] == 0
    assert run(capsys, "--resume", str(halves), "--epochs", "4")[0] == 0
    states = [load_model(folder, "cpu").state_dict() for folder in (whole, halves)]
    for name, values in states[0].items():
        np.testing.assert_array_equal(states[1][name], values)
    code, _, err = run(capsys, *flags, "--weights", str(whole), "--epochs", "1")
    assert (code, err) == (0, "")
    code, _, err = run(capsys, "--layers", "4C3s2-MP2-9N", "--weights", str(whole), "--epochs", "1")
    assert code == 2
    assert "another architecture was trained; its layer 1 is Conv2d(1, 4, 5, stride=2), but the flags say" in err
    compared = [flag for flag in flags if flag not in ("--device", "cpu")]
    code, _, _ = run(capsys, *compared, "--epochs", "1", "--compare", "cpu,array_api_strict:device1")
    assert code == 0
