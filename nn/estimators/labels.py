"""Labels of any kind as the targets of a network, and its outputs as labels."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import csr_array, csr_matrix, issparse, isspmatrix
from sklearn.utils.multiclass import check_classification_targets, type_of_target


class Labels(NamedTuple):
    """What the labels of a classifier are.

    Attributes:
        kind: ``"binary"`` (one or two classes), ``"multiclass"`` or ``"multilabel"``.
        classes: (k,) sorted; for several labels a row 0, ..., k - 1.
        sparse: what makes a sparse matrix of labels like those in training; None where these were dense.
    """

    kind: str
    classes: np.ndarray
    sparse: Any = None

    @classmethod
    def of(cls, y: Any, classes: Any = None) -> Labels:
        """What ``y``, (n,) or (n, k), dense or sparse, says; of one label a row with these classes, where given.

        Raises:
            ValueError: they are values; or several classes a row that are no yes or no.
        """
        check_classification_targets(y)
        kind = type_of_target(y, input_name="y")
        if kind == "multiclass-multioutput":
            raise ValueError(
                "Multioutput target data is not supported: several labels a row must be columns of 0 and 1; "
                "sklearn.preprocessing.MultiLabelBinarizer makes them"
            )
        if kind.startswith("multilabel"):
            sparse = None if not issparse(y) else csr_matrix if isspmatrix(y) else csr_array
            return cls("multilabel", np.arange(y.shape[1]), sparse)
        found = np.unique(y if classes is None else np.asarray(classes))
        return cls("binary" if len(found) <= 2 else "multiclass", found)

    def missing(self, y: Any) -> bool:
        """Whether a label is none of the classes."""
        if self.kind == "multilabel":
            return y.ndim != 2 or bool(y.shape[1] != len(self.classes))
        return y.ndim != 1 or not np.isin(y, self.classes).all()

    def encode(self, y: Any) -> np.ndarray:
        """(n,) int64 numbers of classes, or (n, k) floats for several labels a row. All of them are known."""
        if self.kind == "multilabel":
            return np.asarray(y.toarray() if issparse(y) else y).astype(np.float32)
        numbers: np.ndarray = np.searchsorted(self.classes, y).astype(np.int64)
        return numbers

    def decode(self, probabilities: np.ndarray) -> Any:
        """The labels of rows, from (n, outputs) probabilities."""
        if self.kind == "multilabel":
            found = (probabilities > 0.5).astype(np.int64)
            return found if self.sparse is None else self.sparse(found)
        if len(self.classes) == 1:
            return np.full(len(probabilities), self.classes[0], dtype=self.classes.dtype)
        if probabilities.shape[1] == 1:
            return self.classes[(probabilities[:, 0] > 0.5).astype(np.int64)]
        return self.classes[probabilities.argmax(axis=1)]

    def probabilities(self, outputs: np.ndarray) -> np.ndarray:
        """(n, k) probabilities of the classes, from (n, outputs): those of a row add up to 1, where it has one class.

        One output is that of the second class. Several that are answers to yes-or-no questions are divided by their
        sum.
        """
        if self.kind == "multilabel":
            return outputs
        if len(self.classes) == 1:
            return np.ones((len(outputs), 1), dtype=outputs.dtype)
        if outputs.shape[1] == 1:
            return np.concatenate([1.0 - outputs, outputs], axis=1)
        sums = outputs.sum(axis=1, keepdims=True)
        return np.where(sums > 0.0, outputs / np.where(sums > 0.0, sums, 1.0), 1.0 / outputs.shape[1])
