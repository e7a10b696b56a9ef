"""Make a model from a file of PyTorch, Keras or scikit-learn, with the same outputs.

  .safetensors, .pt   a state_dict of PyTorch. It has no layers: say them by --like MODEL, or, where it has linear
                      layers alone, by --activation NAME of the hidden ones
  .keras              a keras.Sequential
  .npz                arrays as export writes them, with --like MODEL

Files that can run programs when they are read, .joblib, .pkl, Keras's .h5, and a whole module in a .pt, are refused
unless --trust says that you know who made them.
"""

from __future__ import annotations

import pickle
import re
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..cli import UsageError
from ..cli.models import model_path
from ..data import DataError
from ..data.archives import read_npz_arrays
from ..data.reading import reading
from ..files import check_writable
from ..layers import ACTIVATION_LAYERS, Layer, Linear
from ..losses import get_loss
from ..model import Sequential
from ..storage import load_model, save_model
from ..storage.exchange import from_keras, from_sklearn, from_torch
from ..storage.optional import library
from .describe import text_of

EXAMPLES = (
    ("python -m nn import net.safetensors out.safetensors --activation relu --loss softmax_cross_entropy",
     "a state_dict of PyTorch's linear layers, logits last"),
    ("python -m nn import net.pt out.safetensors --like out/", "weights into the layers of another model"),
    ("python -m nn import net.keras out.safetensors", "a network of Keras"),
    ("python -m nn import mlp.joblib out.safetensors --trust", "scikit-learn's network, by somebody you know"),
)  # fmt: skip
#: The versions since which reading weights alone is known to run nothing: of torch.load(weights_only=True) and of
#: keras.saving.load_model(safe_mode=True) in .keras (CVE-2025-32434; CVE-2025-1550, -8747, -9906 and -12058).
SAFE_TORCH, SAFE_KERAS = (2, 6), (3, 12)


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help=f"the file to read: {', '.join(READERS)}")
    parser.add_argument("out", metavar="OUT", help="the model to write, .safetensors")
    parser.add_argument("--like", metavar="MODEL", help="a model that has the layers, and takes the weights")
    parser.add_argument("--activation", metavar="NAME", help="of the hidden layers of a state_dict of linear layers")
    parser.add_argument("--loss", metavar="NAME", help="what it was trained with: so its outputs are logits, or values")
    parser.add_argument("--classes", nargs="+", metavar="NAME", help="the names of the classes")
    parser.add_argument("--trust", action="store_true", help="run what is in the file")


def run(options: Namespace) -> int:
    """Write the model, and show what it is."""
    path, out = Path(options.file), Path(options.out)
    if not path.is_file():
        raise UsageError(f"{path}: there is no such file")
    check_writable(out, "OUT")
    if out.suffix.lower() != ".safetensors":
        raise UsageError(f"{out}: a model is a file .safetensors; name one")
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        why = "; ONNX files are not read: import the model from where it was made" if path.suffix == ".onnx" else ""
        raise UsageError(f"{path} cannot be imported; known are {', '.join(READERS)}{why}")
    try:
        model = reader(path, options)
        finish(model, options)
    except DataError:
        raise
    except (TypeError, ValueError, ImportError) as error:
        raise UsageError(f"{path}: {error}") from None
    save_model(model, out)
    print(f"wrote {out}\n\n{text_of(model, out)}")
    return 0


def finish(model: Sequential, options: Namespace) -> None:
    """Note loss and names of the classes, where they are said."""
    if options.loss is not None:
        loss = get_loss(options.loss)
        model.accept_loss(loss.output_activation)
        model.loss_name, model.loss_settings = loss.name, loss.own_settings
    if options.classes is not None:
        count = max(model.n_outputs, 2)
        if model.task != "classes":
            raise UsageError("--classes is for a network that tells classes apart; say by --loss what its outputs are")
        if len(options.classes) != count or len(set(options.classes)) != count:
            raise UsageError(f"--classes: the network tells {count} classes apart; name each once")
        model.class_names = tuple(options.classes)


# ---- formats ---------------------------------------------------------------------------------------------------------


def refuse_untrusted(what: str, options: Namespace) -> None:
    """Refuse a file that can run any program when it is read.

    Raises:
        UsageError: nobody said to trust it.
    """
    if not options.trust:
        raise UsageError(f"{what} can run any program when it is read; say --trust if you know who made it")


def refuse_old(module: Any, least: tuple[int, int], options: Namespace) -> None:
    """Refuse a library whose reading of weights alone could be tricked into running a program.

    Raises:
        UsageError: it is older than ``least``, and nobody said to trust the file.
    """
    version = tuple(int(part) for part in re.findall(r"\d+", module.__version__)[:2])
    if version < least:
        refuse_untrusted(f"with {module.__name__} before {'.'.join(map(str, least))} such a file", options)


def of_safetensors(path: Path, options: Namespace) -> Sequential:
    """A state_dict of PyTorch; the arrays of such a file stand in no order, so by the numbers in their names."""
    from safetensors import safe_open

    with reading(path), safe_open(path, framework="numpy") as file:
        if "xpnet" in (file.metadata() or {}):
            raise DataError(f"{path} is a model of xpnet already; predict and evaluate take it as it is")
        state = {name: file.get_tensor(name) for name in sorted(file.keys(), key=by_number)}
    return of_state(state, options)


def by_number(name: str) -> list[str | int]:
    """The key by which layer 10 comes after layer 2."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def of_torch(path: Path, options: Namespace) -> Sequential:
    torch = library("torch", "reading it")
    refuse_old(torch, SAFE_TORCH, options)
    try:
        found = torch.load(path, map_location="cpu", weights_only=not options.trust)
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, ValueError) as error:
        if "weights_only" in str(error).lower() or "weights only" in str(error).lower():
            refuse_untrusted("a file of more than weights", options)
        raise UsageError("it is no file that torch.save wrote, or damaged") from None
    return of_state(found, options) if isinstance(found, Mapping) else from_torch(found, "cpu", loss=options.loss)


def of_state(state: Mapping[str, Any], options: Namespace) -> Sequential:
    """A state_dict into the layers that are said."""
    if options.like is not None:
        return from_torch(state, into=load_model(model_path(options.like), "cpu"))
    if options.activation is None:
        raise UsageError("a state_dict does not say which layers there are; say --like MODEL, or --activation NAME")
    return from_torch(state, into=Sequential(linear_layers(state, options.activation), backend="cpu"))


def linear_layers(state: Mapping[str, Any], activation: str) -> list[Layer]:
    """Linear layers of the shapes of a state_dict, with an activation between them.

    Raises:
        UsageError: it has other layers, or they do not follow each other.
    """
    if activation not in ("identity", *ACTIVATION_LAYERS):
        raise UsageError(f"--activation must be one of identity, {', '.join(ACTIVATION_LAYERS)}, not {activation!r}")
    layers: list[Layer] = []
    for name, array in state.items():
        prefix, _, kind = name.rpartition(".")
        if kind == "bias" and f"{prefix}.weight" in state:
            continue
        if kind != "weight" or np.ndim(array) != 2:
            raise UsageError(f"it has {name!r}, which is of no linear layer; say --like MODEL")
        n_out, n_in = (int(extent) for extent in array.shape)
        if layers:
            layers += [ACTIVATION_LAYERS[activation]()] if activation != "identity" else []
        layers.append(Linear(n_in, n_out, bias=f"{prefix}.bias" in state))
    return layers


def of_keras(path: Path, options: Namespace) -> Sequential:
    if path.suffix.lower() == ".h5":
        refuse_untrusted("a whole model in .h5", options)
    keras = library("keras", "reading it")
    refuse_old(keras, SAFE_KERAS, options)
    with reading(path):
        found = keras.saving.load_model(path, compile=False, safe_mode=not options.trust)
    return from_keras(found, "cpu", loss=options.loss)


def of_sklearn(path: Path, options: Namespace) -> Sequential:
    refuse_untrusted("a pickle", options)
    import joblib

    with reading(path):
        found = joblib.load(path)
    return from_sklearn(found, "cpu")


def of_numpy(path: Path, options: Namespace) -> Sequential:
    if options.like is None:
        raise UsageError("arrays do not say which layers there are; say --like MODEL")
    model = load_model(model_path(options.like), "cpu")
    model.load_state_dict(read_npz_arrays(path))
    return model


#: By the ending of the file.
READERS = {
    ".safetensors": of_safetensors,
    ".pt": of_torch,
    ".pth": of_torch,
    ".keras": of_keras,
    ".h5": of_keras,
    ".joblib": of_sklearn,
    ".pkl": of_sklearn,
    ".npz": of_numpy,
}
