"""Reports of a finished run: text, the figures of its author, pictures."""

from __future__ import annotations

from . import plots
from .collected import weights_checksum
from .html import write_report
from .reproduced import figure_text, figures, is_reproduced, reproduced_text, span_text
from .text import classification_text, inside_text, predictions_text, result_text

__all__ = [
    "classification_text",
    "figure_text",
    "figures",
    "inside_text",
    "is_reproduced",
    "plots",
    "predictions_text",
    "reproduced_text",
    "result_text",
    "span_text",
    "weights_checksum",
    "write_report",
]
