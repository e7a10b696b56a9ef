"""What tests that start the script as a program of its own share."""

from __future__ import annotations

import numpy as np
import pytest

from nn import load_data


@pytest.fixture(scope="session")
def digits_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Some digits, training and test rows, as an archive. A program that reads them there need not load scikit-learn,
    which takes most of the time of a short run; what the tests show is not in the rows."""
    data = load_data("digits")
    assert data.test is not None
    train, test = data.train[:400], data.test[:100]
    path = tmp_path_factory.mktemp("rows") / "some.npz"
    np.savez(path, x_train=train.features(), y_train=train.y, x_test=test.features(), y_test=test.y)
    return str(path)
