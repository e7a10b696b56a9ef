from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nn import (
    ELU,
    GELU,
    BatchNorm,
    Context,
    Dataset,
    Dropout,
    Flatten,
    Layer,
    LayerNorm,
    LeakyReLU,
    Linear,
    ReLU,
    Sequential,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
    Trainer,
    load_model,
    save_model,
)
from nn.data import Units
from nn.files import write_atomically
from nn.initializers import Constant, Normal
from nn.storage.model_file import checksum
from tests.helpers.backends import make_backend

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, size=(20, 2, 2), dtype=np.uint8)


def trained() -> Sequential:
    model = Sequential(
        Flatten(), Linear(4, 5, weight_init="he_normal"), ReLU(), Dropout(0.25), Linear(5, 5, bias=False), Tanh(),
        Linear(5, 4), Sigmoid(), Linear(4, 3), Softmax(), backend="cpu", seed=4,
    )  # fmt: skip
    Trainer(model).fit((PIXELS, RNG.integers(0, 3, 20)), 2, 8)
    return model


def test_a_model_saved_on_one_device_loads_on_every_other(tmp_path: Path, which_backend: tuple[str, bool]) -> None:
    model = trained()
    save_model(model, tmp_path / "m.safetensors")
    loaded = load_model(tmp_path / "m.safetensors", make_backend(which_backend))
    for name, values in model.state_dict().items():
        np.testing.assert_array_equal(loaded.state_dict()[name], values)
    np.testing.assert_allclose(loaded(PIXELS), model(PIXELS), rtol=1e-5)
    np.testing.assert_array_equal(loaded.predict(PIXELS), model.predict(PIXELS))
    assert (loaded.seed, loaded.step) == (model.seed, model.step)
    assert loaded.output_activation == model.output_activation
    assert loaded.layers == [
        Flatten(), Linear(4, 5), ReLU(), Dropout(0.25), Linear(5, 5, bias=False), Tanh(),
        Linear(5, 4), Sigmoid(), Linear(4, 3), Softmax(),
    ]  # fmt: skip


def test_another_precision_can_be_asked_for(tmp_path: Path) -> None:
    model = trained()
    save_model(model, tmp_path / "m.safetensors")
    loaded = load_model(tmp_path / "m.safetensors", "cpu", dtype="float64")
    assert loaded(PIXELS).dtype == "float64"
    np.testing.assert_allclose(loaded(PIXELS), model(PIXELS), rtol=1e-5)


def rewritten(path: Path, change: Any) -> None:
    """Let ``change`` change the description in the header of a model file."""
    from safetensors import safe_open
    from safetensors.numpy import load_file, save_file

    with safe_open(path, framework="numpy") as file:
        description = json.loads(file.metadata()["xpnet"])
    change(description)
    state = load_file(path)
    del description["sha256"]
    description["sha256"] = checksum(description, state)
    save_file(state, path, metadata={"xpnet": json.dumps(description)})


def test_a_file_of_version_0_1_is_read(tmp_path: Path) -> None:
    """It said link for the output activation, and scale and shift where units are now."""
    path = tmp_path / "m.safetensors"
    model = Sequential(Linear(4, 3), backend="cpu", seed=4)
    Trainer(model).fit(Dataset(PIXELS.reshape(20, 4), np.arange(20) % 3, scale=1 / 16, shift=-0.5), 2, 8)
    save_model(model, path)

    def as_version_0_1(description: dict[str, Any]) -> None:
        description["link"] = description.pop("output_activation")
        del description["format"]
        units = description.pop("units")
        description["input_scale"], description["input_shift"] = units["scale"], units["shift"]

    rewritten(path, as_version_0_1)
    loaded = load_model(path, "cpu")
    assert loaded.output_activation == "softmax"
    assert loaded.units == Units(1 / 16, -0.5)
    np.testing.assert_array_equal(loaded.predict_proba(PIXELS), model.predict_proba(PIXELS))


def test_a_file_without_names_shapes_and_loss_is_read(tmp_path: Path) -> None:
    """As they were written between version 0.1 and these."""
    path = tmp_path / "m.safetensors"
    model = Sequential(Linear(4, 1), backend="cpu")
    Trainer(model, "mse").fit(PIXELS.reshape(20, 4), np.ones(20))
    save_model(model, path)

    def without(description: dict[str, Any]) -> None:
        for name in ("class_names", "target_shape", "loss", "loss_settings"):
            del description[name]

    rewritten(path, without)
    loaded = load_model(path, "cpu")
    assert (loaded.class_names, loaded.target_shape, loaded.loss_name, loaded.loss_settings) == (None, None, "", {})
    np.testing.assert_array_equal(loaded.predict(PIXELS.reshape(20, 4))[:, 0], model.predict(PIXELS.reshape(20, 4)))


def test_a_file_of_a_model_without_training_has_no_units(tmp_path: Path) -> None:
    save_model(Sequential(Linear(4, 3), backend="cpu"), tmp_path / "m.safetensors")
    assert load_model(tmp_path / "m.safetensors", "cpu").units is None


def test_a_layer_that_is_not_known_is_named(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save_model(Sequential(Linear(4, 3), backend="cpu"), path)
    rewritten(path, lambda description: description["layers"][0].update(type="mine.Linear"))
    with pytest.raises(ValueError, match=r"m.safetensors: it has a layer 'mine.Linear' that is not known here; import"):
        load_model(path, "cpu")


def test_initial_values_that_no_file_can_hold_do_not_matter(tmp_path: Path) -> None:
    model = Sequential(Linear(4, 3, weight_init=Normal(0.1), bias_init=Constant(2.0)), backend="cpu")
    save_model(model, tmp_path / "m.safetensors")
    loaded = load_model(tmp_path / "m.safetensors", "cpu")
    np.testing.assert_array_equal(loaded.state_dict()["0.bias"], [2.0, 2.0, 2.0])
    assert loaded.layers == [Linear(4, 3)]


@dataclass(frozen=True)
class Unsaveable(Layer):
    """A layer with a setting that is no number, text, list or None."""

    setting: Any = None

    def forward(self, x: Any, ctx: Any) -> Any:
        return x


def test_a_setting_that_no_file_can_hold_is_named(tmp_path: Path) -> None:
    model = Sequential(Linear(2, 2), Unsaveable({1, 2}), backend="cpu")
    with pytest.raises(TypeError, match=r"Unsaveable\(setting=\{1, 2\}\) cannot be saved: .*not JSON serializable"):
        save_model(model, tmp_path / "m.safetensors")
    save_model(Sequential(Linear(2, 2), Unsaveable([1, 2]), backend="cpu"), tmp_path / "m.safetensors")
    assert load_model(tmp_path / "m.safetensors", "cpu").layers[1] == Unsaveable((1, 2))


def test_files_that_are_no_models(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    (tmp_path / "text").write_text("hello")
    save_file({"a": np.zeros(3)}, tmp_path / "other.safetensors")
    for name in ("text", "other.safetensors"):
        with pytest.raises(ValueError, match=f"{name} is not a model that xpnet saved"):
            load_model(tmp_path / name, "cpu")
    with pytest.raises(FileNotFoundError):
        load_model(tmp_path / "absent", "cpu")


class Mine(Layer):
    def forward(self, x: Any, ctx: Any) -> Any:
        return x


@dataclass(frozen=True, repr=False)
class Pooled(Layer):
    size: tuple[Any, ...]

    def forward(self, x: Any, ctx: Context) -> Any:
        return x


def test_a_layer_with_settings_that_are_tuples_is_loaded_as_it_was(tmp_path: Path) -> None:
    layer = Pooled((3, (1, 2)))
    save_model(Sequential(layer, Linear(4, 2), backend="cpu"), tmp_path / "m.safetensors")
    loaded = load_model(tmp_path / "m.safetensors", "cpu").layers[0]
    assert loaded == layer
    assert hash(loaded) == hash(layer)


def test_a_layer_of_ones_own_is_refused_and_leaves_no_file(tmp_path: Path) -> None:
    model = Sequential(Linear(2, 2), Mine(), backend="cpu")
    with pytest.raises(TypeError, match="make its class a frozen dataclass"):
        save_model(model, tmp_path / "m.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = tmp_path / "models" / "m.safetensors"
    with pytest.raises(FileNotFoundError, match=r"m.safetensors cannot be written: there is no folder .*models; make"):
        save_model(trained(), path)


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")
    with pytest.raises(TypeError):
        write_atomically(path, "text is not bytes")  # type: ignore[arg-type]
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_settings_of_activations_and_norms_are_saved_and_known_in_a_process_that_has_not_seen_them(
    tmp_path: Path,
) -> None:
    layers = [
        Linear(4, 5, activation="elu(0.5)"), LeakyReLU(0.2), GELU("tanh"), Linear(5, 5), ELU(2.0), SiLU(), Softplus(),
        BatchNorm(5, momentum=0.3), Linear(5, 5, activation="leaky_relu(0.3)"), LayerNorm(5, affine=False),
    ]  # fmt: skip
    model = Sequential(layers, backend="cpu", seed=4)
    save_model(model, tmp_path / "m.safetensors")
    (tmp_path / "m.pickle").write_bytes(pickle.dumps(model))
    code = (
        "import pickle, sys, numpy as np\n"
        "from nn import load_model\n"
        "for model in (load_model('m.safetensors', 'cpu'), pickle.load(open('m.pickle', 'rb'))):\n"
        "    print(model.layers, model(np.eye(4)).tolist(), sep='\\n')\n"
    )
    path = {"PYTHONPATH": str(Path(__file__).parents[3])}
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, cwd=tmp_path, env=os.environ | path, capture_output=True, text=True, check=True)
    assert run.stdout.splitlines() == [str(layers), str(model(np.eye(4)).tolist())] * 2


# ---- the folder of a run ---------------------------------------------------------------------------------------------


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """As train.py --output writes it."""
    folder = tmp_path / "out"
    folder.mkdir()
    save_model(trained(), folder / "weights.safetensors", run="0123456789abcdef")
    sums = {"weights.safetensors": sha256((folder / "weights.safetensors").read_bytes()).hexdigest()}
    (folder / "settings.json").write_text(json.dumps({"run": "0123456789abcdef", "sha256": sums}))
    return folder


def test_the_folder_of_a_run_is_its_model(run_folder: Path) -> None:
    expected = load_model(run_folder / "weights.safetensors", "cpu")(PIXELS)
    np.testing.assert_array_equal(load_model(run_folder, "cpu")(PIXELS), expected)
    np.testing.assert_array_equal(load_model(str(run_folder), "cpu")(PIXELS), expected)


def test_a_model_of_another_run_in_the_folder_is_found(run_folder: Path) -> None:
    other = trained()
    Trainer(other).fit((PIXELS, RNG.integers(0, 3, 20)))
    save_model(other, run_folder / "weights.safetensors")
    with pytest.raises(
        ValueError, match=r"weights.safetensors is not the file that .*settings.json tells of: it is of"
    ):
        load_model(run_folder, "cpu")
    np.testing.assert_array_equal(load_model(run_folder / "weights.safetensors", "cpu")(PIXELS), other(PIXELS))


@pytest.mark.parametrize("settings", ["{}", "[]", '{"sha256": 3}', '{"sha256": {}}', None])
def test_folders_that_tell_of_no_checksums(run_folder: Path, settings: str | None) -> None:
    if settings is None:
        (run_folder / "settings.json").unlink()
    else:
        (run_folder / "settings.json").write_text(settings)
    assert load_model(run_folder, "cpu").class_names == trained().class_names


def test_folders_without_a_model(run_folder: Path) -> None:
    (run_folder / "settings.json").write_bytes(b"\xff{")
    with pytest.raises(
        ValueError, match=r"settings.json is no JSON text, so something in it has changed; name .*weights"
    ):
        load_model(run_folder, "cpu")
    (run_folder / "weights.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"out is a folder without weights.safetensors, so it holds no model"):
        load_model(run_folder, "cpu")


OWN = """
from dataclasses import dataclass
from nn import Layer, Linear, Sequential, Trainer, load_model, save_model
from nn.initializers import Constant

@dataclass(frozen=True, repr=False)
class Scale(Layer):
    features: int
    sizes: tuple = (1, 2)

    def parameters(self):
        return {"scale": ((self.features,), Constant(2.0))}

    def output_shape(self, shape):
        return (self.features,)

    def forward(self, x, ctx):
        ctx.saved = x
        return x * ctx.parameters["scale"]

    def backward(self, dy, ctx):
        ctx.backend.column_sum(dy * ctx.saved, out=ctx.gradients["scale"])
        return dy * ctx.parameters["scale"]
"""
SAVE = """
import numpy as np
from own_module import Linear, Scale, Sequential, Trainer, save_model
model = Sequential(Scale(3, (4,)), Linear(3, 2), backend="cpu")
Trainer(model, "mse").fit(np.eye(3), np.eye(3)[:, :2], epochs=2)
save_model(model, "own.safetensors")
print(model.layers, model(np.eye(3)).tolist())
"""
LOAD = """
import numpy as np
{imported}
from nn import Trainer, load_model
model = load_model("own.safetensors", "cpu")
print(model.layers, model(np.eye(3)).tolist())
assert Trainer(model).loss.name == "mean_squared_error"
Trainer(model).fit(np.eye(3), np.eye(3)[:, :2])
"""


def test_a_layer_of_ones_own_loads_in_another_process_that_has_imported_it(tmp_path: Path) -> None:
    (tmp_path / "own_module.py").write_text(OWN)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[3]), str(tmp_path)])}

    def run(code: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", code]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)

    saved, loaded = run(SAVE), run(LOAD.format(imported="import own_module"))
    assert saved.stdout.startswith("[Scale(3, sizes=(4,)), Linear(3, 2)]")
    assert (loaded.stdout, loaded.returncode) == (saved.stdout, 0), loaded.stderr
    failed = run(LOAD.format(imported=""))
    assert (
        "it has a layer 'own_module.Scale' that is not known here; import the module that defines it" in failed.stderr
    )


# ---- files that are damaged, or that nobody wrote in earnest ---------------------------------------------------------


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    model = Sequential(Linear(4, 5), Sigmoid(), Linear(5, 3), Softmax(), backend="cpu", seed=1)
    save_model(model, tmp_path / "m.safetensors")
    return tmp_path / "m.safetensors"


def test_every_flipped_bit_is_found(saved: Path) -> None:
    content = saved.read_bytes()
    start = int.from_bytes(content[:8], "little") + 8
    for place in [*range(0, start, 7), *range(start, len(content), 3)]:
        damaged = bytearray(content)
        damaged[place] ^= 1 << (place % 8)
        saved.write_bytes(damaged)
        if damaged[:start].split() != content[:start].split():  # spaces at the end of the header mean nothing
            with pytest.raises(ValueError, match=r"m\.safetensors"):
                load_model(saved, "cpu")


def test_weights_that_have_changed_are_said_to_have(saved: Path) -> None:
    content = bytearray(saved.read_bytes())
    content[-3] ^= 1
    saved.write_bytes(content)
    with pytest.raises(
        ValueError, match=r"m\.safetensors: its checksum is wrong, so something in it has changed; copy"
    ):
        load_model(saved, "cpu")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("format", 3, r"a newer version of xpnet wrote it \(model format 3\); update xpnet"),
        ("format", "3", "a newer version of xpnet wrote it"),
        ("task", "class", "its task makes no sense: 'class'"),
        ("task", "labels", "its task makes no sense: 'labels'"),
        ("output_activation", "sigmoid", "its output_activation makes no sense: 'sigmoid'"),
        ("output_activation", 3, "its output_activation makes no sense: 3"),
        ("dtype", "float16", "its dtype makes no sense: 'float16'"),
        ("seed", -1, "its seed makes no sense: -1"),
        ("seed", 1.5, r"its seed makes no sense: 1\.5"),
        ("step", True, "its step makes no sense: True"),
        ("class_names", [1], r"its class_names makes no sense: \[1\]"),
        ("target_shape", [-1], r"its target_shape makes no sense: \[-1\]"),
        ("loss", None, "its loss makes no sense: None"),
        ("layers", None, "is not a model that xpnet saved"),
        ("layers", [], r"array 0\.bias is not one of its layers"),
        ("layers", [{"type": "Linear", "in_features": 10**9, "out_features": 10**9}], r"array 0\.\w+ has shape \(.*\)"),
        ("layers", [{"type": "Dropout"}] * 3, r"array 0\.bias is not one of its layers"),
        ("units", {"scale": "a"}, "is not a model that xpnet saved"),
    ],
)
def test_a_description_that_makes_no_sense_is_refused(saved: Path, key: str, value: Any, message: str) -> None:
    rewritten(saved, lambda description: description.update({key: value}))
    with pytest.raises(ValueError, match=rf"m\.safetensors.*{message}") as caught:
        load_model(saved, "cpu")
    assert len(str(caught.value).replace(str(saved), "")) < 300


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(tmp_path: Path, bad: float) -> None:
    model = Sequential(Linear(4, 3), backend="cpu")
    model.parameters["0.weight"][1, 2] = bad
    save_model(model, tmp_path / "m.safetensors")
    with pytest.raises(ValueError, match=r"array 0\.weight has NaN or infinite numbers; train the model again"):
        load_model(tmp_path / "m.safetensors", "cpu")


def test_a_missing_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_model(tmp_path / "m.safetensors", "cpu")
