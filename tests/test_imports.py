"""Two rules of imports, read from the source: they point one way, and network code imports no array library."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
#: From the script down: each may import those after it.
PACKAGES = ["benchmarks", "train", "recipes", "nn", "backends"]
#: The rooms of a package, from the upper ones down: each may import those after it, and no other.
ROOMS = {
    "backends": [
        "__main__", "doctor", "check", "__init__", "registry", "cpu", "cuda", "base", "pictures", "core", "collectives",
        "devices", "step", "updates", "activations", "gelu", "random", "arguments", "messages", "typing", "loading",
    ],
    "nn": [
        "__main__",
        "commands",
        "__init__",
        "cli",
        "estimators",
        "verify",
        "report",
        "trainer",
        "fitting",
        "agreement",
        "divergence",
        "evaluation",
        "given",
        "callbacks",
        "storage",
        "pairs",
        "model",
        "prediction",
        "standardizing",
        "layer_checks",
        "row_shape",
        "steps",
        "streamed_feed",
        "out_of_memory",
        "own_layers",
        "picture_shape",
        "blocks",
        "summary",
        "plan",
        "sinks",
        "stages",
        "feed",
        "optimizers",
        "losses",
        "layers",
        "metrics",
        "snapshot",
        "history",
        "initializers",
        "around_update",
        "device_rows",
        "data",
        "memory",
        "portable",
        "files",
        "notebook",
        "messages",
        "version",
    ],
}  # fmt: skip
#: What is computed with arrays of any library, and so knows none.
NETWORK_CODE = [
    "nn.around_update", "nn.blocks", "nn.device_rows", "nn.divergence", "nn.evaluation", "nn.feed", "nn.fitting",
    "nn.given", "nn.initializers", "nn.layer_checks", "nn.layers", "nn.losses", "nn.memory", "nn.metrics", "nn.model",
    "nn.optimizers", "nn.out_of_memory", "nn.own_layers", "nn.picture_shape", "nn.plan", "nn.prediction",
    "nn.row_shape", "nn.sinks", "nn.snapshot", "nn.stages", "nn.standardizing", "nn.steps", "nn.streamed_feed",
    "nn.trainer",
]  # fmt: skip
ARRAY_LIBRARIES = {"numpy", "numba", "cupy", "torch", "scipy", "jax", "array_api_compat", "array_api_strict"}
#: Import paths of version 0.1 that go on working.
OLD_PATHS = [
    ("nn.activations", "Sigmoid"), ("nn.archives", "read_npz"), ("nn.callbacks", "Callback"),
    ("nn.checkpoint", "load_model"), ("nn.compare", "compare"), ("nn.csv_table", "read_csv"), ("nn.data", "Dataset"),
    ("nn.datasets", "load_data"), ("nn.gradients", "check_gradients"), ("nn.layers", "Linear"),
    ("nn.losses", "LOSSES"), ("nn.mnist", "load_mnist"), ("nn.model", "Sequential"), ("nn.optimizers", "SGD"),
    ("nn.plots", "cost_curve"), ("nn.report", "figures"), ("nn.trainer", "Trainer"), ("backends.base", "Backend"),
    ("backends.check", "check"), ("backends.devices", "Device"), ("backends.activations", "ACTIVATIONS"),
]  # fmt: skip


def modules() -> dict[str, Path]:
    """The modules of the project by name; a package is its ``__init__``."""
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")] + [ROOT / "train.py"]
    names = (".".join(path.relative_to(ROOT).with_suffix("").parts) for path in files)
    return {name.removesuffix(".__init__"): path for name, path in zip(names, files, strict=True)}


MODULES = modules()


def imported(name: str, path: Path) -> Iterator[str]:
    """The full names of what a module imports, at its head, inside functions and for types alike."""
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                full = f"{base}.{alias.name}"
                yield full if full in MODULES else base


IMPORTS = {name: set(imported(name, path)) - {name} for name, path in MODULES.items()}


def room(module: str) -> str:
    """Where in its package a module stands: ``nn.layers`` for ``nn.layers.linear``, ``nn.__init__`` for ``nn``."""
    return ".".join([*module.split("."), "__init__"][:2])


def test_imports_between_packages_point_one_way() -> None:
    wrong = [
        (module, other)
        for module, others in IMPORTS.items()
        for other in others & MODULES.keys()
        if PACKAGES.index(other.partition(".")[0]) < PACKAGES.index(module.partition(".")[0])
    ]
    assert wrong == []


@pytest.mark.parametrize("package", ROOMS)
def test_imports_inside_a_package_point_from_upper_rooms_to_lower_ones(package: str) -> None:
    order = [f"{package}.{name}" for name in ROOMS[package]]
    inside = {module for module in MODULES if module.partition(".")[0] == package}
    assert {room(module) for module in inside} == set(order)
    wrong = [
        (module, other)
        for module in sorted(inside)
        for other in IMPORTS[module] & inside
        if room(module) != room(other) and order.index(room(other)) < order.index(room(module))
    ]
    assert wrong == []


def test_there_is_no_circle_of_imports() -> None:
    graph = {module: others & MODULES.keys() for module, others in IMPORTS.items()}
    assert len(list(TopologicalSorter(graph).static_order())) == len(MODULES)
    with pytest.raises(CycleError):
        list(TopologicalSorter(graph | {"backends.typing": {"nn"}}).static_order())


@pytest.mark.parametrize("start", NETWORK_CODE)
def test_network_code_imports_no_array_library(start: str) -> None:
    code = [module for module in MODULES if module == start or module.startswith(f"{start}.")]
    assert code
    for module in code:
        assert {name.partition(".")[0] for name in IMPORTS[module]} & ARRAY_LIBRARIES == set(), module


def test_the_reader_of_imports_sees_them() -> None:
    assert "numpy" in IMPORTS["nn.data.dataset"]
    assert {"backends.random", "backends.typing"} <= IMPORTS["backends.base"]
    assert "matplotlib.figure" in IMPORTS["nn.report.plots.layout"]  # for types, and inside functions
    assert "nn.layers.base" in IMPORTS["nn.layers"]


def test_what_has_no_type_is_named_in_one_place() -> None:
    assert [name for name, path in MODULES.items() if "\nArray = Any" in path.read_text()] == ["backends.typing"]


@pytest.mark.parametrize(
    "module", ["nn.layers", "nn.losses", "nn.optimizers", "nn.model", "nn.trainer", "nn.steps", "nn.feed"]
)
def test_how_a_step_is_made_fast_is_known_to_the_plan_alone(module: str) -> None:
    """Flags of five optimisations once went through the network code; none of their names may come back."""
    gone = (
        r"accumulat(?!e\b)|weight_gradient|_viewed|before_link|takes_factor|\bfactor\b|from_logits|MOST_PLACES|"
        r"kept, fresh ="
    )
    for name in MODULES:
        if name == "nn.optimizers.schedules":
            continue  # what is a factor there is one of the learning rate
        if name == module or name.startswith(f"{module}."):
            text = MODULES[name].read_text(encoding="utf-8").replace("initial_accumulator_value", "")
            text = text.replace('target: ClassVar[str] = "weight_gradient"', "")  # what the operation calls it
            found = re.findall(gone, text)
            assert not found, (name, found)


@pytest.mark.parametrize(("module", "name"), OLD_PATHS)
def test_import_paths_of_earlier_versions_work(module: str, name: str) -> None:
    import nn  # noqa: F401 (it is what knows the old names)

    assert hasattr(importlib.import_module(module), name)


@pytest.mark.parametrize("module", ["backends", "nn", "train"])
def test_importing_is_light(module: str) -> None:
    heavy = ["sklearn", "tqdm", "pooch", "h5py", "matplotlib", "safetensors", "PIL", "cupy", "torch", "numba", "pandas"]
    heavy += ["onnx", "keras", "polars", "sphinx", "mpi4py"]
    program = f"import sys, {module}; print(*[name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
