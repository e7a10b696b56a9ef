"""Networks with hand-written forward, backpropagation and momentum, on any backend.

>>> from nn import Linear, ReLU, SGD, Sequential, Softmax, Trainer, load_data
>>> data = load_data("digits")
>>> model = Sequential(Linear(64, 32), ReLU(), Linear(32, 10), Softmax(), backend="cpu")
>>> history = Trainer(model, optimizer=SGD(0.1, momentum=0.9)).fit(data.train, epochs=5)
>>> bool(history[-1]["accuracy"] > 0.9)
True
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from backends import OutOfMemoryError

from .callbacks import (
    Callback,
    Checkpoint,
    CSVLog,
    EarlyStopping,
    JSONLog,
    LambdaCallback,
    LearningRateSchedule,
    PrintEpochs,
    ProgressBar,
    ReduceOnPlateau,
    SaveModel,
    TensorBoard,
)
from .data import Augment, Data, DataError, Dataset, StreamedDataset, load_data
from .divergence import TrainingDiverged
from .history import History
from .layers import (
    ELU,
    GELU,
    AvgPool2d,
    BatchNorm,
    BatchNorm2d,
    ChannelsLast,
    Context,
    Conv2d,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    GlobalMaxPool2d,
    Layer,
    LayerNorm,
    LeakyReLU,
    Linear,
    MaxPool2d,
    ReLU,
    Reshape,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Standardize,
    Tanh,
)
from .losses import LOSSES, Loss, get_loss, register_loss
from .metrics import METRICS, Metric, TopK, register_metric
from .model import Sequential
from .optimizers import (
    SGD,
    Adagrad,
    Adam,
    AdamW,
    CosineDecay,
    ExponentialDecay,
    LinearWarmup,
    OneCycle,
    Optimizer,
    RMSProp,
    StepDecay,
)
from .portable import AbsentDeviceWarning
from .report import plots
from .storage import (
    CheckpointError,
    CheckpointWarning,
    export_onnx,
    from_keras,
    from_sklearn,
    from_torch,
    load_model,
    save_model,
    to_keras,
    to_sklearn,
    to_torch,
)
from .summary import Summary
from .trainer import Trainer
from .verify import Comparison, Finding, GradientError, GradientReport, check_gradients
from .verify import compare as compare_backends
from .version import __version__ as __version__

if TYPE_CHECKING:
    from .estimators import MLPClassifier, MLPRegressor

__all__ = [
    "ELU",
    "GELU",
    "LOSSES",
    "METRICS",
    "SGD",
    "AbsentDeviceWarning",
    "Adagrad",
    "Adam",
    "AdamW",
    "Augment",
    "AvgPool2d",
    "BatchNorm",
    "BatchNorm2d",
    "CSVLog",
    "Callback",
    "ChannelsLast",
    "Checkpoint",
    "CheckpointError",
    "CheckpointWarning",
    "Comparison",
    "Context",
    "Conv2d",
    "CosineDecay",
    "Data",
    "DataError",
    "Dataset",
    "Dropout",
    "EarlyStopping",
    "ExponentialDecay",
    "Finding",
    "Flatten",
    "GlobalAvgPool2d",
    "GlobalMaxPool2d",
    "GradientError",
    "GradientReport",
    "History",
    "JSONLog",
    "LambdaCallback",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "LearningRateSchedule",
    "Linear",
    "LinearWarmup",
    "Loss",
    "MLPClassifier",
    "MLPRegressor",
    "MaxPool2d",
    "Metric",
    "OneCycle",
    "Optimizer",
    "OutOfMemoryError",
    "PrintEpochs",
    "ProgressBar",
    "RMSProp",
    "ReLU",
    "ReduceOnPlateau",
    "Reshape",
    "SaveModel",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Standardize",
    "StepDecay",
    "StreamedDataset",
    "Summary",
    "Tanh",
    "TensorBoard",
    "TopK",
    "Trainer",
    "TrainingDiverged",
    "check_gradients",
    "compare_backends",
    "export_onnx",
    "from_keras",
    "from_sklearn",
    "from_torch",
    "get_loss",
    "load_data",
    "load_model",
    "plots",
    "register_loss",
    "register_metric",
    "save_model",
    "to_keras",
    "to_sklearn",
    "to_torch",
]

#: What takes long to import, as it needs scikit-learn, and so is imported when it is first asked for.
_LATER = {"MLPClassifier": "estimators", "MLPRegressor": "estimators"}


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})


#: Modules by the names that they had in version 0.1, and where they are now.
_MOVED = {
    "activations": "layers.activations",
    "archives": "data.archives",
    "checkpoint": "storage.model_file",
    "compare": "verify.compare",
    "csv_table": "data.tables",
    "datasets": "data.sources",
    "gradients": "verify.gradients",
    "mnist": "data.mnist",
    "plots": "report.plots",
    "rounding": "verify.rounding",
}
for _old, _new in _MOVED.items():
    sys.modules[f"{__name__}.{_old}"] = sys.modules[f"{__name__}.{_new}"]
