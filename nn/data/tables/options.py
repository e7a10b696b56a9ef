"""What a user says of a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from backends.arguments import is_whole_number, shown

from ..checks import DataError, DataTypeError
from ..columns import IMPUTATIONS, Column
from .head import ColumnName

Task = Literal["auto", "classes", "values"]


@dataclass(frozen=True)
class TableOptions:
    """What a user says of a table.

    Attributes:
        label: the column of the label or the target: its name, or its number from 1, or from the end by -1; several for
            targets that are values. None: it is found, see ``nn.data.tables.head``.
        task: ``"classes"``: the labels are names or numbers of classes. ``"values"``: they are numbers to fit.
            ``"auto"``: values where more than half of the labels are numbers with a fraction, else classes.
        impute: ``"mean"``, ``"median"`` or ``"most_frequent"``: what stands for missing values, of the training rows.
            None: they are refused.
        categorical: the columns of categories, each of which becomes a column of zeros and ones; ``()``: every column
            with text in it. None: text is refused.
        columns: what was learnt of another table, ``data.columns`` or ``model.units.columns``, which is done to this
            one too, its columns taken by their names; None: it is learnt of this one.

    Raises:
        DataError: a task or an imputation is unknown.
    """

    label: ColumnName | Sequence[ColumnName] | None = None
    task: Task = "auto"
    impute: str | None = None
    categorical: Sequence[ColumnName] | None = None
    columns: Sequence[Column] | None = None

    def __post_init__(self) -> None:
        if self.columns is not None and (self.impute is not None or self.categorical is not None):
            raise DataError("columns says what to do with missing values and text; leave out impute and categorical")
        several = isinstance(self.label, Sequence) and not isinstance(self.label, str | bytes)
        for column in self.label if several else [self.label]:  # type: ignore[union-attr]
            if not (column is None or isinstance(column, str) or is_whole_number(column)):
                raise DataTypeError(
                    f"label must be the name of a column, or its number from 1 or -1, not {shown(column)}"
                )
        if not isinstance(self.task, str) or self.task not in ("auto", "classes", "values"):
            raise DataError(f"task must be 'auto', 'classes' or 'values', not {shown(self.task)}")
        if self.impute is not None and (not isinstance(self.impute, str) or self.impute not in IMPUTATIONS):
            known = f"{', '.join(IMPUTATIONS[:-1])} or {IMPUTATIONS[-1]}"
            raise DataError(f"impute must be {known}, not {shown(self.impute)}")
        if self.categorical is not None:
            if isinstance(self.categorical, str | bytes) or not isinstance(self.categorical, Sequence):
                raise DataTypeError(f"categorical must be a list of columns, as in [{shown(self.categorical)}]")
            for column in self.categorical:
                if not (isinstance(column, str) or is_whole_number(column)):
                    raise DataTypeError(f"categorical must be names or numbers of columns, not {shown(column)}")
        if self.columns is not None and not (
            isinstance(self.columns, Sequence) and all(isinstance(column, Column) for column in self.columns)
        ):
            raise DataTypeError(f"columns must be those of a Dataset, as in data.columns, not {shown(self.columns)}")

    @property
    def learns(self) -> bool:
        """Whether something is to be learnt of the training rows."""
        return self.impute is not None or self.categorical is not None or self.columns is not None
