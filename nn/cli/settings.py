"""Every setting of a run, an entry each: from it come its flags, its key in recipes, its checks, its help and its docs.

To add a setting, add a field to ``Settings``; the tests then ask for one that shows what it does.
"""

# ruff: noqa: RUF009 (a field that a function makes is what dataclasses.field is, whatever the function is called)
from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Any

from backends import PRECISIONS, device_help

from ..data.columns import IMPUTATIONS
from ..data.sources import is_absent
from ..data.streamed.from_path import can_be_stored
from ..data.tables import is_table
from ..initializers import initializer_names
from ..layers import ACTIVATION_LAYERS, NORMS
from ..losses import ALIASES, LOSSES, loss_settings
from ..metrics import metric_names
from ..optimizers import OPTIMIZERS
from .architecture import LAYERS, Units, read_layers
from .entry import Setting
from .kinds import (
    ABOVE_0,
    BELOW_1,
    BELOW_90,
    CHECKPOINT_EVERY,
    CLASS,
    CLASS_WEIGHT,
    CLASSES,
    COLUMNS,
    DEVICES,
    INITIAL,
    INITIAL_VALUES,
    INTEGER,
    LOG,
    METRIC,
    NAMES,
    NUMBER,
    NUMBERS,
    PAIR,
    PART_OF_ROWS,
    SHARE,
    SIZE,
    STRINGS,
    SWITCH,
    TEXT,
    UP_TO_1,
    UP_TO_180,
    WIDTHS,
    WINDOW,
    Kind,
    at_least,
    shown,
)

#: What can stand after a hidden layer.
ACTIVATIONS = ("identity", *ACTIVATION_LAYERS)
#: The optimizers that come with xpnet; one that a script defines is not known to the command line.
OWN_OPTIMIZERS = {name: rule for name, rule in sorted(OPTIMIZERS.items()) if rule.__module__.startswith("nn.")}
#: The momentum of SGD on the command line. (From Python it is 0.)
USUAL_MOMENTUM = 0.9
#: What the libraries of matrix products take, a C int.
MOST_THREADS = 2**31 - 1
#: The schedules of the learning rate, by name.
SCHEDULES = ("constant", "step", "exponential", "cosine", "one_cycle", "plateau")
#: What a schedule multiplies the learning rate by, and after how many epochs, unless it is said.
DECAY_FACTORS = {"step": 0.1, "exponential": 0.95, "plateau": 0.1}
DECAY_EVERY = {"step": 10.0, "exponential": 1.0}
#: Why a setting would do nothing in a run with these settings; "" where it does something.
Reason = Callable[["Settings"], str]


def when(test: Callable[[Settings], Any], why: str) -> Reason:
    """The reason ``why``, for settings of which ``test`` is true."""
    return lambda settings: why if test(settings) else ""


UNTRAINED = when(lambda s: s.epochs == 0, "nothing is trained")
STEPS_COMPARED = when(lambda s: s.compare, "--compare makes every step and shows no epoch")
NO_STOPPING = when(lambda s: s.early_stopping is None, "there is no early stopping")
COMPARED = when(lambda s: s.compare, "--compare shows neither epochs nor a test result")
SILENT = when(lambda s: s.quiet, "--quiet prints the result only")
SILENT_AND_UNDRAWN = when(lambda s: s.quiet and not s.plots, "--quiet prints the result only")
SILENT_AND_UNSEEN = when(lambda s: s.quiet and s.validation is None, "--quiet prints the result only")
NO_HIDDEN = when(lambda s: not has_hidden(s), "there is no hidden layer")
NO_UNITS = when(lambda s: has_hidden(s) and not has_units(s), "there is no fully connected hidden layer")
CONTINUED = when(lambda s: s.start_from is not None, "--weights gives them")
NO_DECAY = when(lambda s: weight_decay_of(s) == 0, "there is no weight decay")
NO_MOMENTUM = when(lambda s: momentum_of(s) == 0, "the momentum is 0")
ROWS_GIVEN = when(lambda s: s.rows is not None, "the rows are written out")
# Of a file that is not there it is said that it is not, when it is looked for.
NO_TABLE = when(lambda s: s.rows is not None or not (is_table(s.data) or is_absent(s.data)), "the data are no table")
UNDISTORTED = when(lambda s: not is_distorted(s), "no picture is distorted")
NO_WINDOWS = when(
    lambda s: not (can_be_stored(s.data) or is_absent(s.data)),
    "only .npy, zarr, HDF5 and Parquet are read in windows",
)
NO_OUTPUT = when(lambda s: s.output is None, "there is no --output")
DEVICES_NAMED = when(lambda s: s.compare, "--compare names the devices itself, as in cpu,cuda/reference")


def has_hidden(settings: Settings) -> bool:
    """Whether there is a hidden layer with weights, and so an activation."""
    if settings.layers is None:
        return bool(settings.hidden)
    return any(entry.has_weights for entry in read_layers(settings.layers))


def has_units(settings: Settings) -> bool:
    """Whether a hidden layer is fully connected."""
    if settings.layers is None:
        return bool(settings.hidden)
    return any(isinstance(entry, Units) for entry in read_layers(settings.layers))


def is_distorted(settings: Settings) -> bool:
    """Whether training pictures are distorted."""
    names = (entry.name for entry in fields(Settings) if entry.name.startswith("augment_"))
    return any(getattr(settings, name) for name in names if name != "augment_fill")


def optimizer_settings(optimizer: str) -> list[str]:
    """What can be set of an optimizer, by name."""
    return list(inspect.signature(OWN_OPTIMIZERS[optimizer]).parameters)


def momentum_of(settings: Settings) -> float:
    """The momentum of a run; 0 where the optimizer has none. SGD has one here unless it is said to be 0."""
    if "momentum" not in optimizer_settings(settings.optimizer):
        return 0.0
    usual = USUAL_MOMENTUM if settings.optimizer == "sgd" else 0.0
    return usual if settings.momentum is None else settings.momentum


def weight_decay_of(settings: Settings) -> float:
    """The weight decay of a run."""
    own = inspect.signature(OWN_OPTIMIZERS[settings.optimizer]).parameters["weight_decay"].default
    return float(own if settings.weight_decay is None else settings.weight_decay)


def of_schedule(*names: str) -> Reason:
    return lambda s: "" if s.schedule in names else f"the schedule is {s.schedule}"


def in_words(values: Mapping[str, float]) -> str:
    """As in "0.1 for step, 0.95 for exponential"."""
    return ", ".join(f"{shown(value)} for {name}" for name, value in values.items())


def of_optimizer(name: str) -> Reason:
    return lambda s: "" if name in optimizer_settings(s.optimizer) else f"{s.optimizer} has no {name}"


def of_loss(name: str) -> Reason:
    return lambda s: "" if name in loss_settings(s.loss) else f"{s.loss} has no {name}"


def own_defaults(name: str) -> str:
    """The default of a setting that each optimizer has one of its own for, in words."""
    parameters = {optimizer: inspect.signature(rule).parameters for optimizer, rule in OWN_OPTIMIZERS.items()}
    return in_words({optimizer: own[name].default for optimizer, own in parameters.items() if name in own})


def setting(default: Any, flags: str, kind: Kind, help: str, **others: Any) -> Any:
    """A field of ``Settings``; ``flags`` are separated by spaces, the rest is as in ``Setting``."""
    return field(default=default, metadata={"flags": tuple(flags.split()), "kind": kind, "help": help, **others})


_recipes = partial(setting, group="recipes")
_compute = partial(setting, group="where to compute")
_data = partial(setting, group="data", table="data")
_network = partial(setting, group="network", table="network")
_training = partial(setting, group="training", table="training")
_report = partial(setting, group="output", table="report")
_output = partial(setting, group="output")


# fmt: off
@dataclass(frozen=True)
class Settings:
    """The settings of one run: flags override the recipe, which overrides the defaults.

    A line each: the default, the flags, the kind of value, and what it says. Beside them stand, at the end, what a
    recipe says in words, which settings were given by a flag, the flags by which this is another problem than the
    recipe's, and which one of a recipe's several runs it is, from 1.
    """

    recipe: str | None = _recipes(None, "--recipe", TEXT,
        "run a recipe by its name, or your own by its path (.toml); flags override it")
    list_recipes: bool = _recipes(False, "--list-recipes", SWITCH, "show the recipes, a line each, and exit")

    device: str = _compute("auto", "--device", TEXT,
        device_help(), metavar="DEVICE", idle=(DEVICES_NAMED,))
    dtype: str = _compute("float32", "--dtype", TEXT, "of every number", table="training",
        choices=("float32", "float64"))
    threads: int | None = _compute(None, "--threads", INTEGER,
        "threads of the matrix products on the CPU, at most; small products take fewer. Another number may change "
        "the last bits of the results", check=at_least(1, MOST_THREADS), unset="all cores")
    processes: int | None = _compute(None, "--processes", INTEGER,
        "train by so many processes on this machine, each on its part of every batch; needs an MPI, pip install "
        "'xpnet[mpi]'. On several machines: mpiexec -n N python train.py ...", check=at_least(1),
        unset="one, or as many as mpiexec, torchrun or srun has started",
        idle=(UNTRAINED, when(lambda s: s.compare, "--compare is done by one")))
    precision: str = _compute("float32", "--precision", TEXT,
        "of products of float32 matrices: tf32 and bf16 round the factors to 10 and 7 bits after the point, for the "
        "tensor cores of NVIDIA GPUs from Ampere on", choices=tuple(PRECISIONS),
        idle=(when(lambda s: s.compare, "--compare allows for the rounding of --dtype alone"),))
    reference: bool = _compute(False, "--reference", SWITCH,
        "use the reference operations instead of those written for the device", idle=(DEVICES_NAMED,))
    compare: list[str] | None = _compute(None, "--compare", DEVICES,
        "instead of training, make the same steps on two devices or more, as in cpu,cuda, and say where they first "
        "differ beyond rounding; cpu/reference are the reference operations of a device")
    compare_steps: int = _compute(200, "--compare-steps", INTEGER, "compare at most N of the steps of --epochs",
        check=at_least(1), idle=(when(lambda s: not s.compare, "there is no --compare"),))

    data: str = _data("digits", "--data", TEXT,
        "digits (comes with scikit-learn), mnist, or a file: .npz, .h5, .zarr or a folder of .npy files with x, y, or "
        "x_train, y_train, x_test, y_test; x.npy beside y.npy; a table .csv, .tsv or .parquet with a column `label`, "
        "or see --label", metavar="SOURCE", idle=(ROWS_GIVEN,))
    data_dir: str | None = _data(None, "--data-dir", TEXT, "folder with the four MNIST files", metavar="DIR",
        unset="the environment variable XPNET_DATA, else the user's cache, into which they are downloaded",
        idle=(ROWS_GIVEN, when(lambda s: s.data.lower() != "mnist", "only --data mnist is read from a folder")))
    window: int | str | None = _data(None, "--window", WINDOW,
        "of .npy, .zarr, .h5 and .parquet: how many rows are in memory at a time, to be shuffled, while the others "
        "stay in the file; or `full`: load them all", check=at_least(1),
        unset="load up to 2 GiB, and read what is larger in windows of 256 MiB", idle=(ROWS_GIVEN, NO_WINDOWS))
    limit: int | None = _data(None, "--limit", INTEGER, "use only the first ROWS rows to train, and to test",
        metavar="ROWS", check=at_least(1), unset="all rows")
    test_fraction: float = _data(0.2, "--test-fraction", NUMBER,
        "how much to set aside for the test, by class, of data that come without test rows; 0 for nothing",
        metavar="FRACTION", check=BELOW_1, idle=(ROWS_GIVEN,))
    validation: int | float | str | None = _data(None, "--validation", SHARE,
        "evaluate after each epoch on so many of the training rows, held out by class: a fraction such as 0.1 or a "
        "number of rows; or `test`: on the test rows, holding out nothing", check=PART_OF_ROWS, unset="no evaluation",
        idle=(UNTRAINED, when(lambda s: s.compare and s.validation == "test", "--compare evaluates nothing")))
    label: tuple[str, ...] | None = _data(None, "--label", COLUMNS,
        "of a table: the column of the label or the target, by name or by number, from 1, or from the end by -1; "
        "several of values to fit", unset="known by its name or its contents, or asked for", idle=(NO_TABLE,))
    task: str = _data("auto", "--task", TEXT,
        "of a table: whether its label column holds classes or values to fit; auto: values for a loss that fits values",
        choices=("auto", "classes", "values"), idle=(NO_TABLE,))
    impute: str | None = _data(None, "--impute", TEXT,
        "of a table: what stands for missing values, of the training rows", choices=IMPUTATIONS, unset="refuse them",
        idle=(NO_TABLE,))
    categorical: tuple[str, ...] | None = _data(None, "--categorical", replace(COLUMNS, count="*"),
        "of a table: columns of categories, each of which becomes a column of zeros and ones; without a name, every "
        "column with text in it", unset="refuse text", idle=(NO_TABLE,))
    only: tuple[int | str, ...] | None = _data(None, "--only", CLASSES, "use only the rows of these classes",
        unset="all classes",
        idle=(when(lambda s: s.positive is not None, "`positive` already says which classes there are"),))
    positive: int | str | None = _data(None, "--positive", CLASS, "tell this class from all others",
        unset="tell all classes apart",
        idle=(when(lambda s: s.only is not None, "`only` already says which classes there are"),))
    shift: float | None = _data(None, "--shift", NUMBER, "add X to the scaled pixels", unset="add nothing")
    augment_shift: float = _data(0.0, "--augment-shift", NUMBER,
        "shift each training picture by up to so many pixels, drawn anew in each epoch, as all of --augment-...",
        metavar="PIXELS", check=at_least(0), idle=(UNTRAINED,))
    augment_rotation: float = _data(0.0, "--augment-rotation", NUMBER,
        "turn training pictures by up to so many degrees to either side", metavar="DEGREES", check=UP_TO_180,
        idle=(UNTRAINED,))
    augment_scale: float = _data(0.0, "--augment-scale", NUMBER,
        "stretch training pictures, in width and in height, to between 1 - X and 1 + X", check=BELOW_1,
        idle=(UNTRAINED,))
    augment_shear: float = _data(0.0, "--augment-shear", NUMBER,
        "let upright lines of training pictures lean by up to so many degrees", metavar="DEGREES", check=BELOW_90,
        idle=(UNTRAINED,))
    augment_elastic: tuple[float, float] | None = _data(None, "--augment-elastic", PAIR,
        "distort training pictures elastically, as Simard et al. (2003): displace pixels by noise that a Gaussian of "
        "SIGMA pixels has smoothed, times ALPHA; 34 4 in their paper", metavar="ALPHA SIGMA", unset="not at all",
        idle=(UNTRAINED,))
    augment_flip: str | None = _data(None, "--augment-flip", TEXT,
        "mirror training pictures, each or not, by a draw of its own for each direction",
        choices=("horizontal", "vertical", "both"), unset="none", idle=(UNTRAINED,))
    augment_cutout: int = _data(0, "--augment-cutout", INTEGER,
        "fill a square of training pictures, of so many pixels on a side, anywhere", metavar="PIXELS",
        check=at_least(0), idle=(UNTRAINED,))
    augment_fill: float = _data(0.0, "--augment-fill", NUMBER,
        "what a distorted picture has where there was none, and in a cutout, in the numbers of the data: 255 is white",
        idle=(UNTRAINED, UNDISTORTED))
    rows: list[Any] | None = _data(None, "", NUMBERS, "the training rows, written out", unset="those of `data`",
        idle=(when(lambda s: "data" in s.given, "--data says where the rows come from"),))
    targets: list[Any] | None = _data(None, "", NUMBERS, "the targets of `rows`; whole numbers are classes",
        unset="no targets", idle=(when(lambda s: s.rows is None, "there are no `rows` to which they belong"),))

    hidden: tuple[int, ...] = _network((64,), "--hidden --n_h", WIDTHS,
        "units of each hidden layer, as in --hidden 300 100; none at all is a linear model", check=at_least(1),
        idle=(when(lambda s: s.layers is not None, "--layers says which hidden layers there are"),))
    layers: str | None = _network(None, "--layers", TEXT,
        "hidden layers for pictures, as in 32C3-MP2-64C3-MP2-128N: filters of 3 x 3, pooling of 2 x 2 (MP: maximum, "
        "AP: mean), fully connected units; 32C5s2p1 has a stride of 2 and a padding of 1, GAP and GMP pool the whole "
        "picture", metavar="LAYERS", check=LAYERS, unset="those of --hidden",
        idle=(when(lambda s: "hidden" in s.given, "--hidden says which hidden layers there are"),))
    outputs: int | None = _network(None, "", INTEGER, "units of the last layer", check=at_least(1),
        unset="one for each class; one for two classes and binary_cross_entropy or focal")
    activation: str = _network("relu", "--activation", TEXT, "of the hidden layers", choices=ACTIVATIONS,
        idle=(NO_HIDDEN,))
    output_activation: str | None = _network(None, "", TEXT, "of the last layer", choices=(*ACTIVATIONS, "softmax"),
        unset="that of the loss; for mean_squared_error sigmoid, or none to fit the values of a table")
    init: str | float = _network("glorot_uniform", "--init", INITIAL,
        f"initial values of the weights: a number, {initializer_names()}", metavar="NAME", check=INITIAL_VALUES,
        idle=(when(lambda s: s.weights is not None, "the weights are written out"), CONTINUED))
    bias_init: str | float = _network("zeros", "--bias-init", INITIAL, "initial values of the biases, likewise",
        metavar="NAME", check=INITIAL_VALUES,
        idle=(when(lambda s: s.biases is not None, "the biases are written out"), CONTINUED))
    weights: list[Any] | None = _network(None, "", NUMBERS, "the weights of each layer, written out",
        unset="those of `init`")
    biases: list[Any] | None = _network(None, "", NUMBERS, "the biases of each layer, written out",
        unset="those of `bias_init`")
    standardize: bool = _network(False, "--standardize", SWITCH,
        "bring each column to mean 0 and variance 1, by the statistics of the training rows, which the model keeps")
    norm: str | None = _network(None, "--norm", TEXT, "normalization before each activation of a hidden layer",
        choices=tuple(NORMS), unset="none", idle=(NO_HIDDEN,))
    dropout: float = _network(0.0, "--dropout", NUMBER, "dropout after each fully connected hidden layer",
        metavar="RATE", check=BELOW_1, idle=(NO_HIDDEN, NO_UNITS, UNTRAINED))

    start_from: str | None = _network(None, "--weights", TEXT,
        "start from a trained model of the same architecture: a file .safetensors, or the folder that --output wrote",
        metavar="MODEL", unset="initial values",
        idle=(when(lambda s: s.weights is not None or s.biases is not None, "the weights are written out"),))

    loss: str = _training("softmax_cross_entropy", "--loss", TEXT,
        "what training makes small", choices=(*LOSSES, *ALIASES))
    label_smoothing: float | None = _training(None, "--label-smoothing", NUMBER,
        "of softmax_cross_entropy: the share of each label that is spread over all classes", check=BELOW_1,
        unset="0", idle=(UNTRAINED, of_loss("label_smoothing")))
    delta: float | None = _training(None, "--delta", NUMBER,
        "of huber: the error up to which it is squared, and absolute beyond", check=ABOVE_0, unset="1",
        idle=(UNTRAINED, of_loss("delta")))
    gamma: float | None = _training(None, "--gamma", NUMBER,
        "of focal: how much less what is nearly right counts", check=at_least(0), unset="2",
        idle=(UNTRAINED, of_loss("gamma")))
    focal_alpha: float | None = _training(None, "--focal-alpha", NUMBER,
        "of focal: the weight of a yes; a no has 1 - X", check=UP_TO_1, unset="0.25",
        idle=(UNTRAINED, of_loss("alpha")))
    class_weight: str | dict[int | str, float] | None = _training(None, "--class-weight", CLASS_WEIGHT,
        "what the training rows of a class count, as in 0=1 1=5, classes by number or name (in a recipe also a table, "
        "{0 = 1, 1 = 5}); or `balanced`: all classes the same", unset="all rows the same", idle=(UNTRAINED,))
    epochs: int = _training(30, "--epochs", INTEGER, "passes over the training rows", check=at_least(0))
    batch_size: int | None = _training(32, "--batch-size --batch_size", SIZE,
        "rows per update, or `full`: all rows at once", check=at_least(1), idle=(UNTRAINED,))
    shuffle: bool = _training(True, "--no-shuffle", SWITCH, "visit the rows in their order", idle=(UNTRAINED,))
    optimizer: str = _training("sgd", "--optimizer", TEXT, "how parameters are updated", choices=tuple(OWN_OPTIMIZERS),
        idle=(UNTRAINED,))
    learning_rate: float | None = _training(None, "--lr --learning-rate", NUMBER, "learning rate", metavar="RATE",
        check=ABOVE_0, unset=own_defaults("learning_rate"), idle=(UNTRAINED,))
    momentum: float | None = _training(None, "--momentum --beta", NUMBER,
        "of sgd and rmsprop: how much of the velocity stays", check=BELOW_1,
        unset=f"{USUAL_MOMENTUM} for sgd, 0 for rmsprop", idle=(UNTRAINED, of_optimizer("momentum")))
    dampening: float = _training(0.0, "--dampening", NUMBER,
        "of sgd: the gradient enters the velocity times 1 - dampening. 0 is classical momentum; dampening equal to the "
        "momentum makes the velocity a moving average of the gradients, which moves as if with a learning rate "
        "1 - momentum times as large", check=BELOW_1, idle=(UNTRAINED, of_optimizer("dampening"), NO_MOMENTUM))
    nesterov: bool = _training(False, "--nesterov", SWITCH, "of sgd: Nesterov's momentum",
        idle=(UNTRAINED, of_optimizer("nesterov"), NO_MOMENTUM))
    alpha: float | None = _training(None, "--alpha --rho", NUMBER,
        "of rmsprop: how much of the mean of the squared gradients stays", check=BELOW_1, unset=own_defaults("alpha"),
        idle=(UNTRAINED, of_optimizer("alpha")))
    beta1: float | None = _training(None, "--beta1", NUMBER,
        "of adam and adamw: how much of the mean of the gradients stays", check=BELOW_1, unset=own_defaults("beta1"),
        idle=(UNTRAINED, of_optimizer("beta1")))
    beta2: float | None = _training(None, "--beta2", NUMBER,
        "of adam and adamw: how much of the mean of their squares stays", check=BELOW_1, unset=own_defaults("beta2"),
        idle=(UNTRAINED, of_optimizer("beta2")))
    epsilon: float | None = _training(None, "--epsilon --eps", NUMBER,
        "of all but sgd: added to the root that gradients are divided by", check=at_least(0),
        unset=own_defaults("epsilon"), idle=(UNTRAINED, of_optimizer("epsilon")))
    epsilon_inside: bool = _training(False, "--epsilon-inside", SWITCH,
        "of rmsprop and adagrad: epsilon is added before the root is taken, as Keras and TensorFlow do",
        idle=(UNTRAINED, of_optimizer("epsilon_inside")))
    epsilon_hat: bool = _training(False, "--epsilon-hat", SWITCH,
        "of adam and adamw: epsilon is added to the root before its correction, as Keras and scikit-learn do",
        idle=(UNTRAINED, of_optimizer("epsilon_hat")))
    clip_norm: float | None = _training(None, "--clip-norm", NUMBER,
        "multiply all gradients by one number before an update where the norm of all together is above X",
        check=ABOVE_0, unset="no limit", idle=(UNTRAINED,))
    clip_value: float | None = _training(None, "--clip-value", NUMBER,
        "move each gradient into [-X, X] before an update", check=ABOVE_0, unset="no limit", idle=(UNTRAINED,))
    accumulate: int = _training(1, "--accumulate", INTEGER,
        "batches per update: the gradients of N batches make it, as one batch of so many rows would",
        check=at_least(1), idle=(UNTRAINED, when(lambda s: s.batch_size is None, "all rows at once are one batch")))
    blocks: int | None = _training(None, "--blocks", INTEGER,
        "cut each batch into so many blocks of rows, whose gradients are added up in a fixed order: runs with as many "
        "have the same bits on any number of processes that divides it", check=at_least(1),
        unset="as many as processes", idle=(UNTRAINED, when(lambda s: s.compare, "--compare takes batches whole")))
    average: float | None = _training(None, "--average", NUMBER,
        "evaluate, predict with and save a moving average of the parameters, which keeps X of itself at each update, "
        "0.999 for instance", check=BELOW_1, unset="none", idle=(UNTRAINED,))
    early_stopping: int | None = _training(None, "--early-stopping", INTEGER,
        "stop after so many epochs without a better one, and keep the weights of the best", metavar="PATIENCE",
        check=at_least(0), unset="train for all epochs", idle=(UNTRAINED, STEPS_COMPARED))
    monitor: str | None = _training(None, "--monitor", TEXT,
        "of early stopping: what is to become better, loss, accuracy, or one of --metrics, of the validation rows as "
        "in val_accuracy", unset="val_loss where there are validation rows, else loss",
        idle=(UNTRAINED, STEPS_COMPARED, NO_STOPPING))
    min_delta: float = _training(0.0, "--min-delta", NUMBER, "of early stopping: how much better counts",
        check=at_least(0), idle=(UNTRAINED, STEPS_COMPARED, NO_STOPPING))
    restore_best: bool = _training(True, "--no-restore-best", SWITCH,
        "of early stopping: keep the weights of the last epoch", idle=(UNTRAINED, STEPS_COMPARED, NO_STOPPING))
    centered: bool = _training(False, "--centered", SWITCH,
        "of rmsprop: gradients are divided by the root of their variance, not of their mean square",
        idle=(UNTRAINED, of_optimizer("centered")))
    lr_decay: float = _training(0.0, "--lr-decay", NUMBER,
        "of adagrad: update n has the learning rate divided by 1 + (n - 1) X", check=at_least(0),
        idle=(UNTRAINED, of_optimizer("lr_decay")))
    initial_accumulator_value: float = _training(0.0, "--initial-accumulator-value", NUMBER,
        "of adagrad: where the sums of squares start", check=at_least(0),
        idle=(UNTRAINED, of_optimizer("initial_accumulator_value")))
    weight_decay: float | None = _training(None, "--weight-decay", NUMBER,
        "decay of the weights, not the biases: each step shrinks them by learning rate times RATE", metavar="RATE",
        check=at_least(0), unset=own_defaults("weight_decay"), idle=(UNTRAINED, of_optimizer("weight_decay")))
    decoupled: bool = _training(True, "--no-decoupled", SWITCH,
        "weight decay is added to the gradient and passes through the rule, as in PyTorch's SGD, Adam and RMSprop",
        idle=(UNTRAINED, of_optimizer("decoupled"), NO_DECAY))
    l1: float = _training(0.0, "--l1", NUMBER,
        "adds X times the sign of each weight to its gradient, as a loss with X times the sum of their sizes does",
        check=at_least(0), idle=(UNTRAINED, of_optimizer("l1")))
    schedule: str = _training("constant", "--schedule", TEXT,
        "how the learning rate changes: step, every so many epochs; exponential, smoothly; cosine, down to --min-lr at "
        "the end; one_cycle, up to --lr and far down; plateau, where the loss no longer falls", choices=SCHEDULES,
        idle=(UNTRAINED,))
    warmup: float | None = _training(None, "--warmup", NUMBER,
        "raise the learning rate in a line from 0 over the first EPOCHS; of one_cycle: how long it rises",
        metavar="EPOCHS", check=ABOVE_0, unset="no warm-up; 30 % of the epochs for one_cycle",
        idle=(UNTRAINED, when(lambda s: s.schedule == "plateau", "the schedule is plateau")))
    decay_every: float | None = _training(None, "--decay-every", NUMBER,
        "of step and exponential: multiply the learning rate by --decay-factor in so many epochs", metavar="EPOCHS",
        check=ABOVE_0, unset=in_words(DECAY_EVERY), idle=(UNTRAINED, of_schedule(*DECAY_EVERY)))
    decay_factor: float | None = _training(None, "--decay-factor", NUMBER,
        "of step, exponential and plateau: what the learning rate is multiplied by", check=ABOVE_0,
        unset=in_words(DECAY_FACTORS), idle=(UNTRAINED, of_schedule(*DECAY_FACTORS)))
    min_lr: float = _training(0.0, "--min-lr", NUMBER, "of cosine and plateau: the least learning rate",
        metavar="RATE", check=at_least(0), idle=(UNTRAINED, of_schedule("cosine", "plateau")))
    plateau_patience: int | None = _training(None, "--plateau-patience", INTEGER,
        "of plateau: let N epochs without a lower loss pass, that of the validation rows where there are any",
        check=at_least(0), unset="10", idle=(UNTRAINED, of_schedule("plateau")))
    seed: int = _training(0, "--seed", INTEGER,
        "of initial values, shuffles, dropout and validation rows; the test rows are the same for every seed",
        check=at_least(0, None))

    every: int = _report(1, "--every", INTEGER, "print, and evaluate on, every N-th epoch only", check=at_least(1),
        idle=(UNTRAINED, COMPARED, SILENT_AND_UNSEEN))
    metrics: tuple[str, ...] = _report((), "--metrics", NAMES,
        f"of the test rows, and of the validation rows after each epoch: {', '.join(metric_names()[2:])}",
        check=METRIC, unset="loss, and accuracy of classes", idle=(COMPARED,))
    train_metrics: bool = _report(False, "--train-metrics", SWITCH,
        "tell --metrics of the training rows, too, which costs a pass over them in each epoch that is evaluated",
        idle=(UNTRAINED, COMPARED, when(lambda s: not s.metrics, "there are no --metrics")))
    confusion: str = _report("true", "--confusion", TEXT, "what the rows of the confusion matrix are",
        choices=("true", "predicted"), idle=(COMPARED, SILENT_AND_UNDRAWN))
    predictions: int = _report(0, "--predictions", INTEGER, "print N predictions beside what is true",
        check=at_least(0), idle=(COMPARED, SILENT))
    predict: list[Any] | None = _report(None, "", NUMBERS, "print the outputs for these rows", unset="no rows")
    show: tuple[str, ...] = _report((), "", STRINGS, "print the inside of a small network",
        choices=("outputs", "layers", "loss", "gradients"), unset="nothing")
    plots: bool = _output(False, "--plots", SWITCH, "draw the cost curve and other pictures (needs matplotlib)")
    output: str | None = _output(None, "--output", TEXT,
        "write weights.safetensors, history.jsonl, settings.json and the pictures to this folder, which holds no other "
        "run (pictures alone go to runs/NAME); of a recipe of several runs, to a folder in it for each", metavar="DIR")
    report: str | None = _output(None, "--report", TEXT,
        "write one HTML file to this path: curves, figures, pictures, and a pad to draw digits for the network",
        metavar="FILE", idle=(COMPARED,))
    log: str | None = _output(None, "--log", TEXT,
        "write a line for each epoch to this file, .jsonl or .csv, as soon as it has ended", metavar="FILE", check=LOG,
        idle=(UNTRAINED, STEPS_COMPARED))
    tensorboard: str | None = _output(None, "--tensorboard", TEXT,
        "write event files for TensorBoard to this folder (needs tensorboardX)", metavar="DIR",
        idle=(UNTRAINED, STEPS_COMPARED))
    quiet: bool = _output(False, "--quiet", SWITCH, "print the result only")
    resume: str | None = _output(None, "--resume", TEXT,
        "go on with the run that this folder of --output holds: its settings are those of the run; only where it is "
        "computed, where the same data lie, what is printed and drawn, and --epochs may be others", metavar="DIR")
    checkpoint_every: str = _output("1 minute", "--checkpoint-every", TEXT,
        "how often all that the run needs to go on is written to the folder of --output: '10 minutes', '500 steps', "
        "'2 epochs' or 2, or never", metavar="WHEN", check=CHECKPOINT_EVERY,
        idle=(UNTRAINED, STEPS_COMPARED, NO_OUTPUT))
    overwrite: bool = _output(False, "--overwrite", SWITCH,
        "replace the run that the folder of --output holds: its files are removed, and no others", idle=(NO_OUTPUT,))

    title: str = ""
    author: dict[str, str] = field(default_factory=dict)
    reproduced: dict[str, list[Any]] = field(default_factory=dict)
    given: frozenset[str] = frozenset()
    changed: tuple[str, ...] = ()
    part: int = 0

    @property
    def leaves_files(self) -> bool:
        """Whether something is left of the run beside what it prints."""
        return self.plots or any((self.output, self.report, self.log, self.tensorboard))

    @property
    def values(self) -> dict[str, Any]:
        """The settings by name, without what stands beside them."""
        return {name: getattr(self, name) for name in SETTINGS}
# fmt: on


#: The settings by name, in the order of ``--help``.
SETTINGS: dict[str, Setting] = {
    entry.name: Setting(entry.name, entry.default, **entry.metadata) for entry in fields(Settings) if entry.metadata
}
#: What a recipe holds and a flag may change, and the problem is still the same one.
SAME_PROBLEM = {"dtype", "data_dir", "seed"}
#: The settings that recipes may hold, by the table in which they stand.
TABLES: dict[str, dict[str, Setting]] = {
    table: {name: entry for name, entry in SETTINGS.items() if entry.table == table}
    for table in ("data", "network", "training", "report")
}
