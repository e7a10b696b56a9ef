"""Any table at all: what was written is read, and what cannot be read is one sentence."""

from __future__ import annotations

import csv
import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from nn.data import DataError, load_data
from nn.data.tables import read_csv

IN_A_FOLDER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False, width=32) | st.integers(-1000, 1000)
NAMES = st.text(alphabet="abcXYZ äé-_;,|\t\"'.", min_size=1, max_size=6).map(
    lambda text: f"k{text}k"
)  # not "nan", which is missing


@IN_A_FOLDER
@given(
    rows=st.integers(1, 3).flatmap(
        lambda width: st.lists(st.lists(NUMBERS, min_size=width, max_size=width), min_size=2, max_size=6)
    ),
    separator=st.sampled_from(",;\t|"),
    names=st.lists(NAMES, min_size=2, max_size=2, unique=True),
    at=st.integers(0, 3),
    from_end=st.booleans(),
    seed=st.integers(0, 9),
)
def test_what_was_written_is_read(
    tmp_path: Path, rows: list[list[Any]], separator: str, names: list[str], at: int, from_end: bool, seed: int
) -> None:
    width = len(rows[0])
    at = min(at, width)
    labels = [names[i] for i in np.random.default_rng(seed).integers(0, 2, len(rows))]
    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator)
    header = [f"column {i}" for i in range(width)]
    header.insert(at, "kind")
    writer.writerow(header)
    for row, label in zip(rows, labels, strict=True):
        writer.writerow([*row[:at], label, *row[at:]])
    (tmp_path / "t.csv").write_text(text.getvalue(), encoding="utf-8", newline="")
    for way in ("kind", at - width - 1 if from_end else at + 1):
        data = read_csv(tmp_path / "t.csv", label=way)
        np.testing.assert_array_equal(data.x, np.array(rows, dtype=float))
        assert [(data.class_names or ())[number] for number in data.y] == labels
        slow = read_csv(tmp_path / "t.csv", label=way, impute="mean", categorical=())
        np.testing.assert_array_equal(slow.x, data.x)
        np.testing.assert_array_equal(slow.y, data.y)


@settings(IN_A_FOLDER, max_examples=300)
@given(
    text=st.text(alphabet='0012.,,,\n\n;\t"ab-eNA?y| ', max_size=60),
    options=st.fixed_dictionaries(
        {},
        optional={
            "label": st.sampled_from([1, -1, "a", "label"]),
            "task": st.sampled_from(["classes", "values", "auto"]),
            "impute": st.sampled_from(["mean", "median", "most_frequent"]),
            "categorical": st.sampled_from([(), [1], ["a"], [1, 2]]),
        },
    ),
)
@example(text="label,a\n0,\n1,\n", options={"impute": "mean"})
@example(text="a,label\n1e308,0\n-1e308,1\n", options={"impute": "mean"})
def test_any_text_is_read_or_refused_in_a_sentence(tmp_path: Path, text: str, options: dict[str, Any]) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text, encoding="utf-8", newline="")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            data = load_data(path, test_fraction=0, **options).train
        except DataError as error:
            assert "\n" not in str(error)  # noqa: PT017 (many tables are read)
            return
    assert np.isfinite(data.x).all()
    assert data.x.shape[1] >= 1
    assert len(data) >= 1
