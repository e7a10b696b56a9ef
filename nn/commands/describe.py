"""Show what a model is: its layers, what it takes and gives, and what is known of its training.

Nothing is computed on rows, and nothing in the file is executed.
"""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from ..cli import UsageError
from ..cli.models import model_path
from ..cli.run_record import RunRecord
from ..data import Units
from ..data.values import listed
from ..model import Sequential
from ..storage import load_model
from .console import printable
from .models import add_model

EXAMPLES = (
    ("python -m nn describe out/", "for people"),
    ("python -m nn describe model.safetensors --json", "as JSON, for programs"),
)
#: What `predict` gives, by the model's task.
GIVES = {"classes": "one class of {n}", "labels": "yes or no for each of {n}", "values": "{n} value{s}"}


def arguments(parser: ArgumentParser) -> None:
    add_model(parser, device=False)
    parser.add_argument("--json", action="store_true", help="JSON")


def run(options: Namespace) -> int:
    """Print the description."""
    path = model_path(options.model)
    model = load_model(options.model, "cpu")
    print(json.dumps(description(model, path), ensure_ascii=False) if options.json else text_of(model, path))
    return 0


def description(model: Sequential, path: Path) -> dict[str, Any]:
    """What is known of a model and its file, as JSON has it."""
    header = header_of(path)
    summary = model.summary(1)
    return {
        "file": str(path),
        "bytes": path.stat().st_size,
        "format": header.get("format", 1),
        "run": header.get("run", ""),
        "command": command_of(path, header.get("run", "")),
        "sha256": header.get("sha256", ""),
        "layers": [
            {
                "name": layer.name,
                "layer": layer.layer,
                "output_shape": None if layer.output_shape is None else list(layer.output_shape),
                "parameters": layer.parameters,
            }
            for layer in summary.layers
        ],
        "parameters": summary.parameters,
        "flops": summary.forward_flops,
        "dtype": model.backend.dtype_name,
        "row_shape": None if (shape := model.row_shape) is None else list(shape),
        "task": model.task,
        "class_names": None if model.class_names is None else list(model.class_names),
        "target_shape": None if model.target_shape is None else list(model.target_shape),
        "units": None if model.units is None else model.units.to_dict(),
        "loss": model.loss_name,
        "loss_settings": model.loss_settings,
        "seed": model.seed,
        "steps": model.step,
    }


def header_of(path: Path) -> dict[str, Any]:
    """The description in the file of a model that could be loaded."""
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        header: dict[str, Any] = json.loads((file.metadata() or {})["xpnet"])
    return header


def command_of(path: Path, run: str) -> str:
    """The command that repeats the run; "" where it does not stand beside the model."""
    try:
        record = RunRecord.read(path.parent)
    except UsageError:  # there is none, or it is damaged: the model is not
        return ""
    return record.command if record.run == run else ""


def text_of(model: Sequential, path: Path) -> str:
    """The same for people: the layers as a table, and the rest a line each."""
    found = description(model, path)
    table, _, _ = repr(model.summary(1)).partition("\n\n")
    names = found["class_names"]
    gives = GIVES[model.task].format(n=len(names) if names else model.n_outputs, s="s" * (model.n_outputs != 1))
    settings = ", ".join(f"{name} {value}" for name, value in found["loss_settings"].items())
    lines = {
        "file": f"{found['file']}, {found['bytes']:,} bytes, format {found['format']}",
        "takes": takes_text(model.units, found["row_shape"]),
        "gives": f"{gives}{': ' + listed(names, 12) if names else ''}",
        "columns": columns_text(model.units),
        "loss": f"{found['loss']}{' (' + settings + ')' if settings else ''}",
        "trained": f"{found['steps']:,} steps, seed {found['seed']}, {found['dtype']}",
        "run": found["run"],
        "command": found["command"],
        "SHA-256": found["sha256"],
    }
    about = "\n".join(f"{name:<8}  {printable(text)}" for name, text in lines.items() if text)
    return f"{table}\n\n{about}"


def takes_text(units: Units | None, row_shape: list[int] | None) -> str:
    """What rows are, and what is done to them before the first layer."""
    shape = row_shape if units is None or units.row_shape is None else units.row_shape
    rows = "rows" if shape is None else f"rows of {' x '.join(map(str, shape))}"
    if units is None:
        return f"{rows}, as they are: it was trained on none"
    said = f"{rows} from {units.low:g} to {units.high:g}" if units.low != units.high else rows
    return said if (units.scale, units.shift) == (1, 0) else f"{said}, times {units.scale:.6g} plus {units.shift:g}"


def columns_text(units: Units | None) -> str:
    """The columns of a table, with their categories and what stands for missing values."""
    if units is None or not units.columns:
        return ""
    said = []
    for number, column in enumerate(units.columns, 1):
        parts = [] if column.categories is None else [listed(column.categories, 4)]
        parts += [] if column.fill is None else [f"missing: {column.fill:.5g}" if isinstance(column.fill, float) else
                                                 f"missing: {column.fill}"]  # fmt: skip
        said.append(f"{column.name or number}{' (' + '; '.join(parts) + ')' if parts else ''}")
    return listed(said, 12)
