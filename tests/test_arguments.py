"""Every argument of every public constructor, function and method is checked: what cannot be meant is refused by one
sentence of ours, before anything is changed.

Which values are wrong follows from the signature: ``epochs: int`` takes no text, no bool and no 2.5. So an argument
that is added is tried here at once. What the annotation does not say stands in tables: how a callable is called
(``CALLS``), names that are free and names that are not, values of the right kind that are wrong nevertheless
(``WRONG``), what takes anything (``ANYTHING``), and what is not called by users (``NOT_CALLED``).
"""

from __future__ import annotations

import fnmatch
import inspect
import io
import linecache
import math
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import backends
import backends.check
import nn
import nn.callbacks
import nn.data
import nn.layers
import nn.optimizers
from backends import get_backend
from backends.arguments import shown
from nn import Linear, Sequential, Softmax, Trainer
from nn.data import Dataset, Units
from tests.helpers.public_names import PACKAGES, SPECIAL, defined, written

ROOT = Path(__file__).parent.parent
MODULES = {package: __import__(package, fromlist=["__all__"]) for package in PACKAGES}

X = np.array([[0.0, 1.0, 2.0], [2.0, 1.0, 0.0], [1.0, 1.0, 1.0], [0.0, 0.0, 1.0]], dtype=np.float32)
Y = np.array([0, 1, 0, 1])


def rows() -> Dataset:
    return Dataset(X.copy(), Y.copy())


def stored(folder: Path) -> Path:
    np.save(folder / "x.npy", X)
    return folder / "x.npy"


def streamed(folder: Path) -> nn.StreamedDataset:
    return nn.StreamedDataset(stored(folder), Y)


def network() -> Sequential:
    return Sequential(Linear(3, 2), Softmax(), backend="cpu")


def trained() -> Sequential:
    model = network()
    Trainer(model).fit((X, Y))
    return model


def trainer() -> Trainer:
    return Trainer(network())


def after_training() -> Trainer:
    made = trainer()
    made.fit((X, Y))
    return made


def history() -> nn.History:
    return nn.History([{"epoch": 1, "loss": 0.5}])


def loss_of_one(xp: Any, outputs: Any, targets: Any) -> Any:
    return xp.sum((outputs - targets) ** 2, axis=1), 2 * (outputs - targets)


class OneEpoch(nn.Callback):
    """A callback."""


def needs(function: Callable[..., Any], *libraries: str) -> Callable[..., Any]:
    """``function``; the test is skipped where none of these libraries is installed."""
    for library in libraries:
        with suppress(ImportError):
            import_module(library)
            return function
    pytest.skip(f"{' or '.join(libraries)} is not installed")


#: How to call what is public: a function and arguments that are right. A path is in a folder that is given.
CALLS: dict[str, Callable[[Path], tuple[Callable[..., Any], dict[str, Any]]]] = {
    "backends.Backend": lambda _: (backends.Backend, {"device": get_backend("cpu").device}),
    "backends.find_device": lambda _: (backends.find_device, {"spec": "cpu"}),
    "backends.get_backend": lambda _: (get_backend, {"spec": "cpu"}),
    "backends.check.cases": lambda _: (
        lambda **given: next(backends.check.cases(**given)), {"operation": "matmul", "dtype": "float32"}
    ),
    "backends.check.check": lambda _: (
        backends.check.check, {"backend": get_backend("cpu"), "operations": ["argmax"], "every": 50}
    ),
    "nn.Augment": lambda _: (nn.Augment, {}),
    "nn.BatchNorm": lambda _: (nn.BatchNorm, {"features": 3}),
    "nn.AvgPool2d": lambda _: (nn.AvgPool2d, {"kernel_size": 2}),
    "nn.BatchNorm2d": lambda _: (nn.BatchNorm2d, {"features": 3}),
    "nn.CSVLog": lambda folder: (nn.CSVLog, {"path": folder / "log.csv"}),
    "nn.Conv2d": lambda _: (nn.Conv2d, {"in_channels": 2, "out_channels": 4, "kernel_size": 3}),
    "nn.Dataset": lambda _: (Dataset, {"x": X, "y": Y}),
    "nn.Dataset.__getitem__": lambda _: (rows().__getitem__, {"rows": slice(2)}),
    "nn.Dataset.features": lambda _: (rows().features, {}),
    "nn.Dataset.one_against_rest": lambda _: (rows().one_against_rest, {"label": 1}),
    "nn.Dataset.only": lambda _: (rows().only, {"classes": [1, 0]}),
    "nn.Dataset.shaped_for": lambda _: (rows().shaped_for, {"row_shape": (3,)}),
    "nn.Dataset.split": lambda _: (rows().split, {"fraction": 0.5}),
    "nn.Dataset.with_classes": lambda _: (rows().with_classes, {"names": ("0", "1")}),
    "nn.StreamedDataset": lambda folder: (nn.StreamedDataset, {"rows": stored(folder), "targets": Y}),
    "nn.StreamedDataset.__getitem__": lambda folder: (streamed(folder).__getitem__, {"rows": slice(2)}),
    "nn.StreamedDataset.first": lambda folder: (streamed(folder).first, {"count": 2}),
    "nn.StreamedDataset.spread": lambda folder: (streamed(folder).spread, {"count": 2}),
    "nn.StreamedDataset.one_against_rest": lambda folder: (streamed(folder).one_against_rest, {"label": 1}),
    "nn.StreamedDataset.only": lambda folder: (streamed(folder).only, {"classes": [1, 0]}),
    "nn.StreamedDataset.parts": lambda folder: (streamed(folder).parts, {}),
    "nn.StreamedDataset.shaped_for": lambda folder: (streamed(folder).shaped_for, {"row_shape": (3,)}),
    "nn.StreamedDataset.split": lambda folder: (streamed(folder).split, {"fraction": 0.5}),
    "nn.StreamedDataset.with_classes": lambda folder: (streamed(folder).with_classes, {"names": ("0", "1")}),
    "nn.Dropout": lambda _: (nn.Dropout, {}),
    "nn.ELU": lambda _: (nn.ELU, {}),
    "nn.EarlyStopping": lambda _: (nn.EarlyStopping, {}),
    "nn.GELU": lambda _: (nn.GELU, {}),
    "nn.History": lambda _: (nn.History, {}),
    "nn.History.__getitem__": lambda _: (history().__getitem__, {"which": 0}),
    "nn.History.append": lambda _: (history().append, {"record": {"epoch": 2}}),
    "nn.History.load": lambda folder: (nn.History.load, {"path": saved_history(folder)}),
    "nn.History.save": lambda folder: (history().save, {"path": folder / "history.jsonl"}),
    "nn.JSONLog": lambda folder: (nn.JSONLog, {"path": folder / "log.jsonl"}),
    "nn.LambdaCallback": lambda _: (nn.LambdaCallback, {}),
    "nn.LayerNorm": lambda _: (nn.LayerNorm, {"features": 3}),
    "nn.LeakyReLU": lambda _: (nn.LeakyReLU, {}),
    "nn.LearningRateSchedule": lambda _: (nn.LearningRateSchedule, {"rate": lambda epoch: 0.1}),
    "nn.Linear": lambda _: (Linear, {"in_features": 3, "out_features": 2}),
    "nn.Loss": lambda _: (nn.Loss, {"name": "mine", "operation": "squared_error"}),
    "nn.MaxPool2d": lambda _: (nn.MaxPool2d, {"kernel_size": 2}),
    "nn.Metric": lambda _: (nn.Metric, {"name": "mine", "function": lambda targets, found: 1.0}),
    "nn.Metric.value": lambda _: (
        nn.Metric("mine", lambda targets, found: 1.0).value, {"targets": Y, "found": Y}
    ),
    "nn.PrintEpochs": lambda _: (nn.PrintEpochs, {"file": io.StringIO()}),
    "nn.ProgressBar": lambda _: (nn.ProgressBar, {}),
    "nn.Reshape": lambda _: (nn.Reshape, {"shape": (2, 3)}),
    "nn.ReduceOnPlateau": lambda _: (nn.ReduceOnPlateau, {}),
    "nn.SaveModel": lambda folder: (nn.SaveModel, {"path": folder / "model.safetensors"}),
    "nn.Sequential": lambda _: (
        lambda layers, **given: Sequential(*layers, **given), {"layers": [Linear(3, 2)], "backend": "cpu"}
    ),
    "nn.Sequential.__call__": lambda _: (network().__call__, {"x": X}),
    "nn.Sequential.__getitem__": lambda _: (network().__getitem__, {"index": 0}),
    "nn.Sequential.accept_loss": lambda _: (network().accept_loss, {"output_activation": "softmax"}),
    "nn.Sequential.dataset": lambda _: (network().dataset, {"data": (X, Y)}),
    "nn.Sequential.layer_outputs": lambda _: (network().layer_outputs, {"x": X}),
    "nn.Sequential.load_state_dict": lambda _: (network().load_state_dict, {"state": network().state_dict()}),
    "nn.Sequential.predict": lambda _: (network().predict, {"x": X}),
    "nn.Sequential.predict_names": lambda _: (trained().predict_names, {"x": X}),
    "nn.Sequential.predict_proba": lambda _: (network().predict_proba, {"x": X}),
    "nn.Sequential.predictions": lambda _: (network().predictions, {"outputs": X[:, :2]}),
    "nn.Sequential.probabilities": lambda _: (network().probabilities, {"outputs": X[:, :2]}),
    "nn.Sequential.reset": lambda _: (network().reset, {}),
    "nn.Sequential.rows": lambda _: (network().rows, {"x": X}),
    "nn.Sequential.shaped": lambda _: (network().shaped, {"data": rows()}),
    "nn.Sequential.summary": lambda _: (network().summary, {}),
    "nn.Standardize": lambda _: (nn.Standardize, {"features": 2, "mean_init": (0.0, 1.0), "variance_init": (1.0, 1.0)}),
    "nn.Standardize.from_data": lambda _: (nn.Standardize.from_data, {"data": X}),
    "nn.TensorBoard": lambda folder: (
        needs(nn.TensorBoard, "tensorboardX", "tensorboard"), {"folder": folder / "events"}
    ),
    "nn.TopK": lambda _: (nn.TopK, {"k": 3}),
    "nn.Trainer": lambda _: (Trainer, {"model": network()}),
    "nn.Trainer.evaluate": lambda _: (trainer().evaluate, {"data": X, "y": Y}),
    "nn.Trainer.fit": lambda _: (trainer().fit, {"train": X, "y": Y}),
    "nn.Trainer.gradients": lambda _: (trainer().gradients, {"data": X, "y": Y}),
    "nn.Trainer.losses": lambda _: (trainer().losses, {"data": X, "y": Y}),
    "nn.Trainer.predict": lambda _: (trainer().predict, {"x": X}),
    "nn.Trainer.predict_proba": lambda _: (trainer().predict_proba, {"x": X}),
    "nn.Trainer.stop": lambda _: (trainer().stop, {"reason": "enough"}),
    "nn.Trainer.summary": lambda _: (trainer().summary, {}),
    "nn.Trainer.upload": lambda _: (trainer().upload, {"data": rows()}),
    "nn.check_gradients": lambda _: (
        nn.check_gradients,
        {
            "model": Sequential(Linear(3, 2), backend="cpu", dtype="float64"), "loss": "mse", "x": X, "y": X[:, :2],
            "directions": 1,
        },
    ),
    "nn.compare_backends": lambda _: (
        nn.compare_backends,
        {
            "make": lambda backend: Trainer(Sequential(Linear(3, 2), backend=backend)),
            "devices": ["cpu", "cpu/reference"], "data": (X, Y), "steps": 1,
        },
    ),
    "nn.Checkpoint": lambda folder: (nn.Checkpoint, {"folder": folder / "checkpoints"}),
    "nn.Trainer.interrupt": lambda _: (trainer().interrupt, {"reason": "enough"}),
    "nn.Trainer.resume": lambda folder: (trainer().resume, {"folder": folder / "checkpoints", "missing_ok": True}),
    "nn.Trainer.save_checkpoint": lambda folder: (after_training().save_checkpoint, {"folder": folder / "kept"}),
    "nn.export_onnx": lambda folder: (
        needs(nn.export_onnx, "onnx"), {"model": network(), "path": folder / "model.onnx"}
    ),
    "nn.from_keras": lambda _: (
        nn.from_keras, {"source": [np.zeros((3, 2)), np.zeros(2)], "backend": "cpu", "into": network()}
    ),
    "nn.from_sklearn": lambda _: (nn.from_sklearn, {"estimator": nn.to_sklearn(network()), "backend": "cpu"}),
    "nn.from_torch": lambda _: (needs(nn.from_torch, "torch"), {"source": nn.to_torch(network()), "backend": "cpu"}),
    "nn.to_keras": lambda _: (needs(nn.to_keras, "keras"), {"model": network()}),
    "nn.to_sklearn": lambda _: (nn.to_sklearn, {"model": network()}),
    "nn.to_torch": lambda _: (needs(nn.to_torch, "torch"), {"model": network()}),
    "nn.get_loss": lambda _: (nn.get_loss, {"loss": "huber"}),
    "nn.load_data": lambda folder: (nn.load_data, {"source": table(folder), "test_fraction": 0.5, "label": 4}),
    "nn.load_model": lambda folder: (nn.load_model, {"path": saved_model(folder), "backend": "cpu"}),
    "nn.register_loss": lambda _: (nn.register_loss, {"loss": nn.losses.CustomLoss(loss_of_one, name="of_arguments")}),
    "nn.register_metric": lambda _: (nn.register_metric, {"metric": nn.Metric("of_arguments", max)}),
    "nn.save_model": lambda folder: (nn.save_model, {"model": network(), "path": folder / "saved.safetensors"}),
    "nn.data.Units": lambda _: (Units, {}),
    "nn.data.Units.check": lambda _: (Units().check, {"x": X}),
    "nn.data.Units.from_dict": lambda _: (Units.from_dict, {"values": {"scale": 2.0}}),
    "nn.data.Units.of": lambda _: (Units.of, {"dataset": rows()}),
    "nn.data.Units.then": lambda _: (Units().then, {"later": Units()}),
    "nn.data.as_given": lambda _: (nn.data.as_given, {"values": X, "like": X}),
    "nn.data.as_dataset": lambda _: (nn.data.as_dataset, {"data": (X, Y)}),
    "nn.data.as_rows": lambda _: (nn.data.as_rows, {"x": X}),
    "nn.data.check_labels": lambda _: (nn.data.check_labels, {"y": Y}),
    "nn.data.encode_targets": lambda _: (nn.data.encode_targets, {"y": Y, "kind": "classes", "n_outputs": 2}),
    "nn.data.from_frame": lambda _: (nn.data.from_frame, {"frame": frame(), "label": "c"}),
    "nn.data.label_problem": lambda _: (nn.data.label_problem, {"label": 1.0}),
    "nn.data.read_csv": lambda folder: (nn.data.read_csv, {"path": table(folder), "label": 4}),
    "nn.layers.check_batches": lambda _: (
        nn.layers.check_batches, {"layers": [Linear(3, 2)], "rows": 4, "batch_size": 2}
    ),
    "nn.SGD": lambda _: (nn.SGD, {}),
    "nn.Adam": lambda _: (nn.Adam, {}),
    "nn.AdamW": lambda _: (nn.AdamW, {}),
    "nn.RMSProp": lambda _: (nn.RMSProp, {}),
    "nn.Adagrad": lambda _: (nn.Adagrad, {}),
    "nn.Optimizer.step": lambda _: (nn.SGD().step, {"model": network()}),
    "nn.optimizers.Constant": lambda _: (nn.optimizers.Constant, {"rate": 0.1}),
    "nn.CosineDecay": lambda _: (nn.optimizers.CosineDecay, {"rate": 0.1, "length": 10}),
    "nn.ExponentialDecay": lambda _: (nn.optimizers.ExponentialDecay, {"rate": 0.1, "factor": 0.5}),
    "nn.LinearWarmup": lambda _: (nn.optimizers.LinearWarmup, {"then": 0.1, "length": 10}),
    "nn.OneCycle": lambda _: (nn.optimizers.OneCycle, {"rate": 0.1, "length": 10}),
    "nn.StepDecay": lambda _: (nn.optimizers.StepDecay, {"rate": 0.1, "every": 10}),
    "nn.optimizers.get_optimizer": lambda _: (nn.optimizers.get_optimizer, {"optimizer": "sgd"}),
    "nn.optimizers.schedule_from_json": lambda _: (
        nn.optimizers.schedule_from_json, {"data": {"name": "constant", "rate": 0.1}}
    ),
    "nn.optimizers.schedule_to_json": lambda _: (
        nn.optimizers.schedule_to_json, {"schedule": nn.optimizers.Constant(0.1)}
    ),
}  # fmt: skip

#: What users do not call, by pattern, and who does.
NOT_CALLED = {
    "nn.data.Units.may_differ": "asked where rows come in",
    "backends.Backend.?*": "operations, called in every step; backends.check proves them, and a check would cost time",
    "backends.Device*": "made by find_device",
    "backends.RecordedStep*": "made by Backend.record",
    "backends.StepNumbers*": "made by the trainer, in every step",
    "backends.check.[ABCFORperfw]*": "what backends.check.check is made of",
    "backends.check.compare": "what backends.check.check is made of",
    "nn.Callback.on_*": "called by fit",
    "nn.*.on_*": "called by fit",
    "nn.CSVLog.?*": "called by fit",
    "nn.JSONLog.?*": "called by fit",
    "nn.Context": "made by a plan",
    "nn.Comparison*": "what compare_backends gives",
    "nn.Finding": "what compare_backends gives",
    "nn.GradientReport": "what check_gradients gives",
    "backends.ErrorKind": "a closed set",
    "nn.Summary": "what summary gives",
    "nn.Data": "what load_data gives",
    "nn.*Error": "raised, not made",
    "backends.*Error": "raised, not made",
    "nn.*Warning": "given, not made",
    "nn.MLP*": "by scikit-learn's rules parameters are checked by its own table, in fit (nn/estimators/parameters.py)",
    "nn.Layer.to_onnx": "called by export_onnx",
    "nn.*.load_state_dict": "of a callback: called by fit",
    "nn.History.with_run": "called by logs",
    "nn.callbacks.*Error": "raised, not made",
    "nn.TrainingDiverged": "raised, not made",
    **{
        f"nn.*.{hook}": "called by a plan, in every step"
        for hook in ("forward", "backward", "inside", "input_shape", "output_shape", "multiply_adds")
    },
    "nn.Loss.__call__": "called by a plan, in every step",
    "nn.optimizers.Fold": "what an optimizer's fold gives",
    "nn.optimizers.*.__call__": "called with the number of each update",
    **dict.fromkeys(
        ("nn.*Decay.__call__", "nn.LinearWarmup.__call__", "nn.OneCycle.__call__"),
        "called with the number of each update",
    ),
    **{
        f"nn.*.{method}": "called by the trainer, and for those who write an optimizer"
        for method in ("bind", "check", "check_flags", "new_state", "rate", "update_of")
    },
    "nn.Sequential.remember_data": "called by the trainer",
    "nn.StreamedDataset.read": "called by the trainer",
    **{f"nn.Trainer.{method}": "called by fit" for method in ("feed", "make_step", "plan", "steps")},
}

#: Arguments that take anything of their kind, or anything at all, and why.
ANYTHING = {
    "nn.Metric.name": "a name",
    "nn.Metric.value.*": "whatever the function takes",
    "nn.Loss.name": "a name",
    "nn.EarlyStopping.monitor": "fit looks whether there is such a column",
    "nn.ReduceOnPlateau.monitor": "fit looks whether there is such a column",
    "nn.SaveModel.monitor": "fit looks whether there is such a column",
    "nn.Trainer.stop.reason": "text for people",
    "nn.Trainer.interrupt.reason": "text for people",
    "nn.save_model.run": "a name",
    "nn.data.as_given.values": "an array of ours",
    "nn.data.as_given.names": "names of columns, where like is a frame",
    "nn.data.check_labels.name": "text for a message",
    "nn.data.check_labels.reason": "text for a message",
    "nn.data.Units.check.name": "text for a message",
    "nn.*.path": "any text may be a path",
    "nn.*.folder": "any text may be a path",
    "nn.load_data.data_dir": "any text may be a path",
    "nn.*.settings": "checked by the loss or the optimizer",
    "nn.Sequential.predictions.outputs": "arrays of the network's own",
    "nn.Sequential.probabilities.outputs": "arrays of the network's own",
    "nn.check_gradients.tolerance": "above 0, however large",
}

ARRAYS = [5, "text", b"a", True, int, object(), {"a": 1}, [], [["a"]], [[1.0, math.nan]], [[1.0], [1.0, 2.0]], [None]]
#: Of an argument that takes more or less than its annotation says: values that are wrong.
WRONG: dict[str, list[Any]] = {
    "nn.Metric.value.*": [],
    "nn.data.as_given.names": [],
    "nn.data.as_given.like": [None, "text", object()],
    "nn.Sequential.*.like": ["text", object()],
    "nn.Trainer.*.like": ["text", object()],
    "nn.from_*.source": [None, 5, "text", b"a", True, int, object(), {}, [], [5], {"0.weight": "a"}],
    "nn.from_keras.backend": [None, 5, True, b"a", object(), int, []],  # with into, its name is of no use
    "nn.from_sklearn.estimator": [None, 5, "text", b"a", True, int, object(), {}, []],
    "nn.from_*.loss": [5, "no such loss", b"mse", True, nn.losses.Huber, object(), []],
    "nn.Trainer.resume.missing_ok": [None, 0, "no", 1.5, object(), int, []],
    "nn.*.x": ARRAYS,
    "nn.*.data": ARRAYS,
    "nn.Trainer.fit.train": ARRAYS,
    "nn.*.y": ["text", b"a", int, {"a": 1}, [["a"]], [0, 1], [0, 1, math.nan, 1]],
    "nn.data.*.y": ["text", b"a", int, {"a": 1}, [["a"]], object()],
    "nn.*.sample_weight": ["balanced", 5, True, object(), [1.0], [1, 1, 1, -1], [1, 1, 1, math.nan], int, {"a": 1}],
    "nn.Trainer.fit.validation": [True, "text", 5, 1.5, 0.0, -0.1, math.nan, [1, 2], object(), int, {"a": 1}, X],
    "nn.Trainer.fit.class_weight": [
        "heavy", [1, 2], 5, True, {"no": 1.0}, {0: "a"}, {0: -1.0}, {0: math.nan}, {2: 1.0}
    ],
    "nn.*.learning_rate": ["0.1", None, True, 0.0, -0.1, math.nan, math.inf, [0.1], object(), int, {"a": 1}, b"a"],
    "nn.Linear.*_init": [None, True, math.nan, object(), int, b"a", {"a": 1}, "glorot", "normal:a", "zeros:1", ["a"]],
    "nn.Conv2d.*_init": [None, True, math.nan, object(), int, b"a", {"a": 1}, "glorot", "normal:a", "zeros:1", ["a"]],
    "nn.Reshape.shape": [5, "text", (3, "a"), (1.5,), (-3,), (0,), (True,), object(), int],
    "nn.Standardize.*_init": [None, True, "text", 5, [1.0], [1.0, "a"], [1.0, math.nan], int, object()],
    "nn.LinearWarmup.then": [None, "0.1", True, -0.1, math.nan, object(), [0.1], nn.optimizers.Constant],
    "nn.optimizers.get_optimizer.optimizer": [None, "sdg", 5, True, nn.SGD, object(), [], {}],
    "nn.Optimizer.step.model": [None, 5, "text", object(), Linear(3, 2), Sequential],
    "nn.data.from_frame.frame": [None, 5, "text", X, object(), int, {"a": [1]}],
    "nn.*Dataset.__getitem__.rows": [None, 0, "text", [0.5], [[0]], [9], [-9], object(), {"a": 1}, [True]],
    "nn.Loss.settings": [None, 5, "text", [1], (("a",),), int, object()],
    "nn.Trainer.metrics": [None, 5, "mae", [5], [int], ["no such metric"], [object()], {"a": 1}],
    "nn.Trainer.evaluate.metrics": [5, "mae", [5], [int], ["no such metric"], [object()], {"a": 1}],
    "nn.*.callbacks": [None, 5, "text", nn.EarlyStopping, [nn.EarlyStopping], [5], OneEpoch(), {"a": 1}, object()],
    "nn.Sequential.layers": [[5], ["Linear"], [Linear], [None], [], [[Linear(3, 2), 5]], [Linear(3, 2), Linear(3, 2)]],
    "nn.Sequential.__getitem__.index": [None, "0", "0.weight", 1.5, 7, -7, 10**30, int, object()],
    "nn.History.__getitem__.which": [None, "no such column", 1.5, 7, -7, 10**30, int, object()],
    "nn.*.label": [True, 1.5, b"a", object(), int, "no such column", 0, 99, {"a": 1}, [None], []],
    "nn.*Dataset.one_against_rest.label": [None, True, 1.5, "no such class", -1, 99, object(), int, []],
    "nn.data.label_problem.label": [None, "text", True, object(), int, []],
    "nn.*Dataset.only.classes": [
        None, 5, "01", [0], [0, 0], [0, 9], [0, "no"], [0, True], [0, 1.5], [0, None], object()
    ],
    "nn.*.categorical": ["a", 5, True, [None], [1.5], [99], ["no such column"], object(), int],
    "nn.*.columns": [5, True, "text", [5], ["a"], object(), int],
    "nn.load_data.source": [None, 5, True, b"a", int, object(), "", "\0", "no such source", "x" * 5000, ["digits"]],
    "nn.load_data.test_fraction": [None, True, "0.2", -0.1, 1.5, math.nan, math.inf, object(), [0.2]],
    "nn.*Dataset.split.fraction": [None, True, "0.2", 0.0, -0.1, 1.5, math.nan, math.inf, 4, object(), [0.2]],
    "nn.compare_backends.devices": [
        None, 5, "cpu", [], ["cpu"], ["cpu", "cpu"], [5, "cpu"], {"a": 1}, ["cpu", "cpu/no"]
    ],
    "nn.compare_backends.make": [None, 5, "text", int, object(), lambda: None, lambda backend: None],
    "backends.check.check.operations": [None, 5, "argmax", ["no such operation"], [5], object(), int],
    "nn.layers.check_batches.layers": [None, 5, "text", object(), [5], [Linear]],
    "nn.History.records": [5, "text", [5], {"a": 1}, [{1: 2}], object(), int],
    "nn.History.append.record": [None, 5, "text", [], {1: 2}, object(), int],
    "nn.data.Units.from_dict.values": [None, 5, "text", [], {"scale": "a"}, {"no": 1.0}, {"row_shape": 5}, {1: 2}],
    "nn.optimizers.schedule_from_json.data": [
        None, 5, "text", [], {}, {"name": "no"}, {"name": []}, {"name": "constant"}, {"name": "constant", "rate": "a"},
        {"name": "constant", "rate": 0.1, "x": 1}, {"name": "warmup", "length": 3, "then": {}}, {1: 2},
    ],
    "nn.optimizers.schedule_to_json.schedule": [None, 5, "text", object(), lambda update: 0.1, int],
    "nn.Sequential.load_state_dict.state": [None, 5, "text", [], {}, {"a": 1}, {"0.weight": 1}, "parts"],
    "nn.LambdaCallback.on_*": [5, "text", [], object(), int],
    "nn.get_loss.loss": [None, 5, "no such loss", b"mse", True, nn.losses.Huber, object(), []],
    "nn.Trainer.loss": [5, "no such loss", b"mse", True, nn.losses.Huber, object(), []],
    "nn.check_gradients.loss": [None, 5, "no such loss", b"mse", True, nn.losses.Huber, object(), []],
    "nn.register_loss.loss": [None, 5, "huber", True, nn.losses.Huber, object(), [], nn.losses.Huber()],
    "nn.Metric.larger_is_better": ["yes", 1, [], object()],
    "nn.PrintEpochs.file": [5, "text", [], object(), int],
    "nn.*Dataset.shaped_for.row_shape": [5, "text", (5,), (3, "a"), (1.5,), (-3, -1), (True, 3), object(), int],
    "nn.StreamedDataset.rows": [None, 5, True, b"a", int, object(), [], [["a"]], "no such file", X[0], [1.0, 2.0]],
    "nn.StreamedDataset.targets": [5, "text", b"a", int, {"a": 1}, [["a"]], [0, 1], object()],
    "nn.StreamedDataset.weights": [5, "text", object(), [1.0], [1, 1, 1, -1], [1, 1, 1, math.nan], int, {"a": 1}],
    "nn.StreamedDataset.chosen": [5, "text", [], [9], [0.5], [[0]], object(), int, [True]],
    "nn.*.row_shape": [5, "text", (3, "a"), (1.5,), (-3,), (0,), (True,), object(), int],
    "nn.*Dataset.with_classes.names": [5, "text", ("a", 5), object(), int],
    "nn.*.class_names": [5, "text", ("a", 5), object(), int],
    "nn.*Dataset.image_shape": [5, "text", (3, "a"), (1.5,), (-3,), (0,), (True,), object(), int],
}  # fmt: skip

#: Values of a right kind that are wrong in most places. A text is long, or would write on the terminal.
NUMBERS: dict[str, list[Any]] = {"int": [-1, -(10**30), 10**5000], "float": [math.nan, -math.inf, 10**5000]}
NAMES = ["no such name", "x" * 5000, "\x1b[31mred\x1b[0m"]
#: One value of each kind, by the annotation that it is right for.
OF_A_KIND: list[tuple[set[str], Any]] = [
    ({"None"}, None),
    ({"bool"}, True),
    ({"int", "float"}, 7),
    ({"float"}, 1.5),
    ({"str", "Path", "os.PathLike[str]"}, "no such name"),
    (set(), b"bytes"),
    ({"list"}, [1, "a"]),
    ({"dict"}, {"a": 1}),
    ({"Callable"}, lambda *given: None),
    (set(), int),
    (set(), object()),
    (set(), np.array([1.0, 2.0])),
]


def saved_history(folder: Path) -> Path:
    history().save(folder / "saved.jsonl")
    return folder / "saved.jsonl"


def saved_model(folder: Path) -> Path:
    path = folder / "model-of-arguments.safetensors"
    if not path.exists():
        nn.save_model(network(), path)
    return path


def table(folder: Path) -> Path:
    path = folder / "table.csv"
    if not path.exists():
        lines = [f"{x[0]},{x[1]},{x[2]},{y}" for x, y in zip(X.tolist() * 2, Y.tolist() * 2, strict=True)]
        path.write_text("a,b,d,c\n" + "\n".join(lines) + "\n")
    return path


def frame() -> Any:
    pandas = pytest.importorskip("pandas")
    return pandas.DataFrame({"a": [1.0, 2.0, 3.0], "b": [1.0, 1.0, 2.0], "c": [0, 1, 0]})


@cache
def public() -> dict[str, Any]:
    """What can be called, by the first name that it has in ``PACKAGES``; methods where they are defined, or
    inherited from what is not public."""
    found: dict[str, Any] = {}
    seen: set[int] = set()
    for package, module in MODULES.items():
        for name in sorted(module.__all__):
            value = getattr(module, name)
            if id(value) in seen or inspect.ismodule(value):
                continue
            seen.add(id(value))
            if isinstance(value, type):
                found[f"{package}.{name}"] = value
                members = defined(value)
                for member in members:
                    if member.startswith("_") and member not in SPECIAL:
                        continue
                    if inspect.isroutine(getattr(value, member)) and not isinstance(members[member], property):
                        found[f"{package}.{name}.{member}"] = getattr(value, member)
            elif inspect.isroutine(value):
                found[f"{package}.{name}"] = value
    return found


def parameters_of(name: str) -> dict[str, inspect.Parameter]:
    value = public()[name]
    try:
        found = dict(inspect.signature(value).parameters)
    except (ValueError, TypeError):  # an error without an __init__ of its own, for one
        return {}
    if not isinstance(value, type) and next(iter(found), "") == "self":
        found.pop("self")
    if isinstance(value, type) and inspect.getattr_static(value, "__init__") is object.__init__:
        return {}
    variable = (inspect.Parameter.VAR_KEYWORD,)
    return {name: parameter for name, parameter in found.items() if parameter.kind not in variable}


def matching(table: dict[str, Any], name: str) -> Any:
    """The entry of a table that says most of ``name``; None where there is none."""
    fitting = [pattern for pattern in table if fnmatch.fnmatchcase(name, pattern)]
    return table[max(fitting, key=lambda pattern: len(pattern.replace("*", "")))] if fitting else None


def kinds_of(annotation: str) -> set[str]:
    """The kinds that an annotation allows: the names of its alternatives, lists and mappings by one name each."""
    text = annotation
    while "[" in text:
        text = re.sub(r"\[[^\[\]]*\]", "", text)
    names = {part.strip() for part in text.split("|")}
    lists = {"Sequence", "Iterable", "Collection", "list", "tuple", "Shape", "Metrics"}
    alike = {**dict.fromkeys(lists, "list"), "Mapping": "dict", "Record": "dict", "Literal": "str", "Task": "str"}
    return {alike.get(name, name) for name in names} | ({"os.PathLike[str]"} if "os.PathLike" in names else set())


def wrong_values(name: str, parameter: inspect.Parameter) -> list[Any]:
    called = f"{name}.{parameter.name}"
    own = matching(WRONG, called)
    if own is not None:
        return list(own)
    kinds = kinds_of(str(written(parameter.annotation)))
    free = matching(ANYTHING, called) is not None
    if "Any" in kinds:
        return []
    wrong = [value for right, value in OF_A_KIND if not right & kinds]
    for kind in ("float", "int"):
        if kind in kinds and not free:
            wrong += NUMBERS[kind]
            break
    if "str" in kinds and not free:
        wrong += NAMES
    if kinds & {"Path", "os.PathLike"}:
        wrong += ["", "a\0b"]
    return wrong


def tried(name: str, parameter: str, value: Any, folder: Path) -> str:
    """What is wrong with how a wrong value is refused; "" if it is well."""
    function, given = CALLS[name](folder)
    if isinstance(value, str) and value == "parts":
        value = dict.fromkeys(given[parameter], "text")
    try:
        function(**{**given, parameter: value})
    except (ValueError, TypeError, IndexError, KeyError, OSError) as error:
        return problem_with(error)
    except Exception as error:
        return f"raises a {type(error).__name__}: {str(error)[:150]}"
    return "passes"


def problem_with(error: Exception) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    assert trace is not None
    file, said = Path(trace.tb_frame.f_code.co_filename), str(error)
    line = linecache.getline(str(file), trace.tb_lineno).strip()
    if not isinstance(error, OSError):
        if not file.is_relative_to(ROOT) or file.is_relative_to(ROOT / "tests"):
            return f"is refused by {file.name} alone: {type(error).__name__}: {said[:150]}"
        if not line.startswith("raise "):
            return f"is refused by chance, in `{line[:60]}`: {type(error).__name__}: {said[:150]}"
        if isinstance(error, KeyError) and not said:
            return "is refused without a word"
    if len(said) >= 300:
        return f"is refused by {len(said)} characters: {said[:200]}"
    if not said.isprintable():
        return f"is refused by a message that is not printable: {said!r}"
    return ""


def arguments() -> Iterator[tuple[str, str]]:
    for name in sorted(CALLS):
        for parameter in parameters_of(name):
            yield name, parameter


def test_how_everything_public_is_called_is_known() -> None:
    """Whoever adds a name says here how it is called, or who calls it."""
    unknown = [
        name for name in public() if parameters_of(name) and name not in CALLS and matching(NOT_CALLED, name) is None
    ]
    assert unknown == []
    assert [name for name in CALLS if name not in public()] == []


@pytest.fixture(autouse=True)
def _tables_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nn.losses.LOSSES", dict(nn.LOSSES))
    monkeypatch.setattr("nn.metrics.base.METRICS", dict(nn.METRICS))


@pytest.mark.parametrize("name", sorted(CALLS))
def test_calls_that_are_right_are_made(name: str, tmp_path: Path) -> None:
    function, given = CALLS[name](tmp_path)
    function(**given)


@pytest.mark.parametrize(("name", "parameter"), [*arguments()])
def test_what_cannot_be_meant_is_refused(name: str, parameter: str, tmp_path: Path) -> None:
    argument = parameters_of(name)[parameter]
    wrong = wrong_values(name, argument)
    assert wrong or matching(ANYTHING, f"{name}.{parameter}") is not None, "which values are wrong? say it in WRONG"
    found = {shown(value): tried(name, parameter, value, tmp_path) for value in wrong}
    assert {value: problem for value, problem in found.items() if problem} == {}


def as_numpy_numbers(value: Any) -> list[Any]:
    if isinstance(value, bool):
        return [np.bool_(value)]
    if isinstance(value, int):
        return [np.int64(value), np.uint16(value), np.array(value)]
    return [np.float32(value), np.float64(value), np.array(value)] if isinstance(value, float) else []


@pytest.mark.parametrize(("name", "parameter"), [*arguments()])
def test_numbers_of_numpy_are_numbers(name: str, parameter: str, tmp_path: Path) -> None:
    argument = parameters_of(name)[parameter]
    _, given = CALLS[name](tmp_path)
    value = given.get(parameter, argument.default)
    for alike in as_numpy_numbers(value):
        function, given = CALLS[name](tmp_path)
        function(**{**given, parameter: alike})


def counted(trainer: Trainer) -> tuple[Any, ...]:
    steps = trainer.model.step, trainer.optimizer.steps, trainer.epoch, trainer.seen, len(trainer.history)
    return *steps, trainer.stopping, trainer.interrupted


@pytest.mark.parametrize("name", [name for name in sorted(CALLS) if name.startswith("nn.Trainer.")])
def test_a_call_that_is_refused_changes_nothing(name: str, tmp_path: Path) -> None:
    for parameter, argument in parameters_of(name).items():
        for value in wrong_values(name, argument):
            function, given = CALLS[name](tmp_path)
            owner = inspect.getclosurevars(function).nonlocals.get("self") or getattr(function, "__self__", None)
            assert isinstance(owner, Trainer)
            before, counters = owner.model.state_dict(), counted(owner)
            with pytest.raises((ValueError, TypeError)):
                function(**{**given, parameter: value})
            assert counted(owner) == counters
            for key, array in owner.model.state_dict().items():
                np.testing.assert_array_equal(array, before[key])


#: A call with an argument that there is not, or that is missing, and what is said of it.
MISNAMED: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], str]] = [
    (nn.Adam, (), {"lr": 0.1}, "Adam has no setting 'lr'; did you mean learning_rate?"),
    (nn.SGD, (), {"momentun": 0.9}, "SGD has no setting 'momentun'; did you mean momentum?"),
    (Linear, (3, 2), {"use_bias": False}, "Linear has no setting 'use_bias'; did you mean bias?"),
    (Linear, (3,), {}, "Linear: missing a required argument: 'out_features'; it takes in_features, out_features, "),
    (nn.Dropout, (), {"p": 0.5}, "Dropout has no setting 'p'; did you mean rate?"),
    (nn.ReLU, (), {"inplace": True}, "ReLU has no setting 'inplace'; it has none"),
    (nn.ReLU, (True,), {}, "ReLU: too many positional arguments; it takes none"),
    (nn.BatchNorm, (3,), {"eps": 1e-3}, "BatchNorm has no setting 'eps'; did you mean epsilon?"),
    (
        nn.EarlyStopping,
        (),
        {"restore_best_weights": 1},
        "; did you mean restore_best?",
    ),
    (nn.optimizers.CosineDecay, (0.1,), {"lenght": 3}, "CosineDecay has no setting 'lenght'; did you mean length?"),
    (nn.losses.Huber, (), {"beta": 1.0}, "Huber has no setting 'beta'; did you mean delta?"),
    (Sequential, (Linear(3, 2),), {"device": "cpu"}, "Sequential has no setting 'device'; did you mean backend?"),
    (Trainer, (None,), {"optimiser": "sgd"}, "Trainer has no setting 'optimiser'; did you mean optimizer?"),
    (Dataset, (X, Y), {"names": ("a",)}, "Dataset has no setting 'names'; did you mean class_names?"),
    (OneEpoch, (5,), {}, "OneEpoch: too many positional arguments; it takes none"),
    (nn.optimizers.get_optimizer, ("adam",), {"lr": 1}, "Adam has no setting 'lr'; did you mean learning_rate?"),
]


@pytest.mark.parametrize(("call", "given", "named", "message"), MISNAMED)
def test_settings_that_there_are_not_are_named(
    call: Callable[..., Any], given: tuple[Any, ...], named: dict[str, Any], message: str
) -> None:
    with pytest.raises(TypeError, match=re.escape(message)):
        call(*given, **named)


@pytest.mark.parametrize("dtype", [np.float64, np.dtype("float64"), "float64"])
def test_a_dtype_may_be_given_as_one(dtype: Any, tmp_path: Path) -> None:
    model = Sequential(Linear(3, 2), backend="cpu", dtype=dtype)
    assert model.backend.dtype_name == "float64"
    assert rows().features(dtype).dtype == np.float64
    assert nn.load_model(saved_model(tmp_path), "cpu", dtype).backend.dtype_name == "float64"


def test_numbers_of_numpy_are_kept_as_those_of_python(tmp_path: Path) -> None:
    """A file can hold those."""
    layers = [nn.Standardize(3), Linear(np.int64(3), np.int32(2), np.bool_(True)), nn.Dropout(np.float32(0.25))]  # type: ignore[arg-type]
    nn.save_model(Sequential(layers, backend="cpu", seed=np.uint8(7)), tmp_path / "model.safetensors")  # type: ignore[arg-type]
    model = nn.load_model(tmp_path / "model.safetensors", "cpu")
    assert repr(model[1:]) == "(Linear(3, 2), Dropout(rate=0.25))"
    assert model.seed == 7


def test_classes_of_ones_own_have_their_settings_named_too() -> None:
    class Mine(nn.Callback):
        def __init__(self, often: int = 1) -> None:
            self.often = often

    class Anything(nn.Callback):
        def __init__(self, *given: Any, **named: Any) -> None:
            self.given, self.named = given, named

    with pytest.raises(TypeError, match=r"Mine has no setting 'oftne'; did you mean often\?"):
        Mine(**{"oftne": 2})
    made = Anything(1, 2, more=3)
    assert (made.given, made.named) == ((1, 2), {"more": 3})
