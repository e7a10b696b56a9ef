"""Pictures of a run: the cost curve, the confusion matrix, rows beside their predictions, the first layer's weights,
the filters of a convolution and what they answer.

Each is a matplotlib ``Figure``, which a notebook shows and ``figure.savefig(path)`` writes. Matplotlib is optional, so
it is imported only when something is drawn; and never through pyplot, so that drawing needs no screen and leaves the
caller's own figures and settings alone.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from backends.arguments import check_path

from ...data import Dataset
from ...trainer import Trainer
from ..convolutions import convolutions
from ..pictures import picture_shape
from .curves import cost_curve
from .distortions import augmentation
from .layout import check_installed, new_figure, write_picture
from .predictions import confusion_heat_map, digit_grid, predicted_against_true, worst_mistakes
from .weights import feature_maps, filters, first_layer_weights, weights_of_pixels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "PICTURES",
    "augmentation",
    "check_installed",
    "confusion_heat_map",
    "cost_curve",
    "digit_grid",
    "draw_all",
    "feature_maps",
    "filters",
    "first_layer_weights",
    "new_figure",
    "predicted_against_true",
    "weights_of_pixels",
    "worst_mistakes",
    "write_picture",
]

#: The files that ``draw_all`` may write.
PICTURES = (
    "cost.png", "confusion.png", "digits.png", "mistakes.png", "values.png", "weights.png", "filters.png", "maps.png",
)  # fmt: skip


def draw_all(trainer: Trainer, test: Dataset | None, folder: str | Path, rows_are: str = "true") -> list[str]:
    """Write the pictures that make sense for this run to ``folder`` as PNG, each file whole or not at all.

    Args:
        test: rows to predict; without them there is a cost curve only.
        folder: must be there.
        rows_are: see ``confusion_heat_map``.

    Returns:
        The names of the files: those of ``PICTURES`` that were written.
    """
    check_installed()
    model, pictures, folder = trainer.model, dict[str, Callable[[], "Figure"]](), check_path("folder", folder)
    if len(trainer.history):
        pictures["cost.png"] = lambda: cost_curve(trainer.history)
    if test is not None and test.has_classes and model.task == "classes":
        pictures["confusion.png"] = lambda: confusion_heat_map(trainer, test, rows_are)
        if picture_shape(model, test) is not None:
            pictures["digits.png"] = lambda: digit_grid(trainer, test)
            if model.output_activation:  # without probabilities no mistake is worse than another
                pictures["mistakes.png"] = lambda: worst_mistakes(trainer, test)
    if test is not None and test.has_targets and not test.has_classes and model.task == "values":
        pictures["values.png"] = lambda: predicted_against_true(trainer, test)
    shape = None if test is None else picture_shape(model, test)
    if test is not None and shape is not None:
        if weights_of_pixels(model, shape) is not None:
            pictures["weights.png"] = lambda: first_layer_weights(model, shape)
        if convolutions(model):
            pictures["filters.png"] = lambda: filters(model)
            pictures["maps.png"] = lambda: feature_maps(model, test[:1])
    for name, draw in pictures.items():
        write_picture(draw(), folder / name, trainer.history.run)
    return list(pictures)
