"""Libraries that are imported where they are used."""

from __future__ import annotations

from pathlib import Path

import pytest

from nn.storage.optional import library


def test_a_library_that_lacks_another_one_is_told_with_what_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fond_of_others.py").write_text("import certainly_not_there")
    monkeypatch.syspath_prepend(tmp_path)
    told = "it needs fond_of_others, which needs certainly_not_there here: pip install certainly_not_there"
    with pytest.raises(ImportError, match=f"^{told}$"):
        library("fond_of_others", "it")
    with pytest.raises(ImportError, match=r"^it needs absent, which is not installed: pip install absent$"):
        library("absent", "it")
