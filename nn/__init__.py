"""Networks with hand-written forward, backpropagation and momentum, on any backend.

>>> from nn import Linear, ReLU, SGD, Sequential, Softmax, Trainer, load_data
>>> data = load_data("digits")
>>> model = Sequential(Linear(64, 32), ReLU(), Linear(32, 10), Softmax(), backend="cpu")
>>> history = Trainer(model, optimizer=SGD(0.1, momentum=0.9)).fit(data.train, epochs=5)
>>> bool(history[-1]["accuracy"] > 0.9)
True
"""

from __future__ import annotations

from .activations import ReLU, Sigmoid, Softmax, Tanh
from .callbacks import Callback, PrintEpochs, ProgressBar
from .checkpoint import load_model, save_model
from .compare import Comparison, Finding
from .compare import compare as compare_backends  # `nn.compare` is the module
from .data import DataError, Dataset
from .datasets import Data, load_data
from .gradients import GradientError, GradientReport, check_gradients
from .history import History
from .layers import Context, Dropout, Flatten, Layer, Linear
from .losses import LOSSES, Loss, get_loss
from .model import Sequential
from .optimizers import SGD, Adam, Optimizer
from .trainer import Trainer, TrainingDiverged

__version__ = "0.1.0"

__all__ = [
    "LOSSES",
    "SGD",
    "Adam",
    "Callback",
    "Comparison",
    "Context",
    "Data",
    "DataError",
    "Dataset",
    "Dropout",
    "Finding",
    "Flatten",
    "GradientError",
    "GradientReport",
    "History",
    "Layer",
    "Linear",
    "Loss",
    "Optimizer",
    "PrintEpochs",
    "ProgressBar",
    "ReLU",
    "Sequential",
    "Sigmoid",
    "Softmax",
    "Tanh",
    "Trainer",
    "TrainingDiverged",
    "check_gradients",
    "compare_backends",
    "get_loss",
    "load_data",
    "load_model",
    "save_model",
]
