"""Write a model for other programs: ONNX, PyTorch, Keras, scikit-learn, NumPy or JSON, by the ending of OUT.

  .onnx         the whole network, raw rows in, for onnxruntime, browsers and phones
  .pt           a state_dict for the torch.nn.Sequential that is printed
  .keras        a keras.Sequential; .h5 is Keras's older format
  .joblib       a fitted MLPClassifier or MLPRegressor of scikit-learn
  .npz, .json   the weights by name; .json has the layers and the preprocessing, too

Scale and shift of the training rows are inside, except in .npz, unless --no-preprocessing is said.
"""

from __future__ import annotations

import io
import json
import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..cli import UsageError
from ..cli.models import model_path
from ..files import check_writable, write_atomically
from ..model import Sequential
from ..storage import export_onnx, load_model
from ..storage.exchange import to_keras, to_sklearn, to_torch
from .describe import description
from .models import add_model

EXAMPLES = (
    ("python -m nn export out/ digits.onnx", "for onnxruntime; raw rows in"),
    ("python -m nn export out/ digits.onnx --probabilities", "probabilities out, whatever the last layer is"),
    ("python -m nn export out/ digits.pt", "for PyTorch"),
)
#: What writes a file: it returns the content and what to say of it.
Writer = Callable[[Sequential, Namespace, Path], tuple[bytes, str]]


def arguments(parser: ArgumentParser) -> None:
    add_model(parser, device=False)
    parser.add_argument("out", metavar="OUT", help=f"the file to write: {', '.join(WRITERS)}")
    parser.add_argument("--no-preprocessing", action="store_true", help="take rows as the first layer sees them")
    parser.add_argument("--probabilities", action="store_true", help="of .onnx: give probabilities, not logits")


def run(options: Namespace) -> int:
    """Write the file, and say what is in it."""
    out = Path(options.out)
    writer = WRITERS.get(out.suffix.lower())
    if writer is None:
        raise UsageError(f"{out} has an ending that says no format; known are {', '.join(WRITERS)}")
    if options.probabilities and writer is not of_onnx:
        raise UsageError("--probabilities is for .onnx; leave it out")
    check_writable(out, "OUT")
    path = model_path(options.model)
    try:
        content, said = writer(load_model(path, "cpu"), options, path)
    except (TypeError, ImportError) as error:  # a layer that the other library has not, or no such library
        raise UsageError(error) from None
    write_atomically(out, content)
    print(f"wrote {out}, {len(content):,} bytes: {said}")
    return 0


def of_onnx(model: Sequential, options: Namespace, path: Path) -> tuple[bytes, str]:
    def write(file: Path) -> None:
        export_onnx(model, file, preprocessing=not options.no_preprocessing, probabilities=options.probabilities)

    return written(write, ".onnx"), f"an ONNX graph that takes {rows_text(options)} and gives {gives_text(options)}"


def gives_text(options: Namespace) -> str:
    return "probabilities" if options.probabilities else "the outputs of the last layer"


def rows_text(options: Namespace) -> str:
    return "rows as the first layer sees them" if options.no_preprocessing else "raw rows"


def of_torch(model: Sequential, options: Namespace, path: Path) -> tuple[bytes, str]:
    module = to_torch(model, preprocessing=not options.no_preprocessing)
    import torch

    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    return file.getvalue(), f"the state_dict of this module, which takes {rows_text(options)}:\n{module!r}"


def of_keras(model: Sequential, options: Namespace, path: Path) -> tuple[bytes, str]:
    made = to_keras(model, preprocessing=not options.no_preprocessing)
    content = written(made.save, Path(options.out).suffix.lower())
    return content, f"a keras.Sequential of {len(made.layers)} layers, which takes {rows_text(options)}"


def of_sklearn(model: Sequential, options: Namespace, path: Path) -> tuple[bytes, str]:
    made = to_sklearn(model, preprocessing=not options.no_preprocessing)
    import joblib

    file = io.BytesIO()
    joblib.dump(made, file)
    return file.getvalue(), f"a fitted {type(made).__name__} of scikit-learn, which takes {rows_text(options)}"


def of_numpy(model: Sequential, options: Namespace, path: Path) -> tuple[bytes, str]:
    state: dict[str, Any] = model.state_dict()
    file = io.BytesIO()
    np.savez(file, **state)
    return file.getvalue(), f"the arrays {', '.join(state)}"


def of_json(model: Sequential, options: Namespace, path: Path) -> tuple[bytes, str]:
    about = description(model, path)
    about["arrays"] = {name: array.tolist() for name, array in model.state_dict().items()}
    if options.no_preprocessing:
        del about["units"]
    return json.dumps(about).encode(), "what describe --json says, and the arrays as lists"


#: By the ending of the file.
WRITERS: dict[str, Writer] = {
    ".onnx": of_onnx,
    ".pt": of_torch,
    ".pth": of_torch,
    ".keras": of_keras,
    ".h5": of_keras,
    ".joblib": of_sklearn,
    ".npz": of_numpy,
    ".json": of_json,
}


def written(write: Callable[[Path], Any], suffix: str) -> bytes:
    """What ``write`` writes to a file with this ending."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"model{suffix}"
        write(path)
        return path.read_bytes()
