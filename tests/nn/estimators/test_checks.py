"""scikit-learn's own checks of estimators: all of them, those of its array-API dispatch too."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

pytest.importorskip("sklearn", "1.9", reason="an older scikit-learn has other checks")

PROGRAM = """
import json, sys, warnings, nn
from sklearn.utils.estimator_checks import check_estimator
warnings.simplefilter("ignore")
estimator = getattr(nn, sys.argv[1])(max_iter=30, **json.loads(sys.argv[2]))
results = check_estimator(estimator, on_fail=None, on_skip=None)
print(json.dumps([[result["check_name"], result["status"], str(result["exception"])] for result in results]))
"""
#: Why scikit-learn leaves a check out on some machines.
ABSENT = ("not installed", "not available", "is available", "MPS")


@pytest.mark.parametrize(
    ("name", "settings", "least"),
    [
        ("MLPClassifier", {}, 66),
        ("MLPRegressor", {}, 60),
        pytest.param("MLPClassifier", {"distributed": True, "blocks": 2}, 66, marks=pytest.mark.slow),
        pytest.param("MLPRegressor", {"distributed": True, "blocks": 2}, 60, marks=pytest.mark.slow),
    ],
)
def test_all_checks_of_scikit_learn_pass(name: str, settings: dict[str, Any], least: int) -> None:
    # SciPy reads the variable when it is imported.
    environment = os.environ | {"SCIPY_ARRAY_API": "1"}
    command = [sys.executable, "-c", PROGRAM, name, json.dumps(settings)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    results = json.loads(done.stdout)
    assert [found for found in results if found[1] == "failed"] == []
    skipped = [
        found
        for found in results
        if found[1] == "skipped"
        and not any(reason in found[2] for reason in ABSENT)
        and "does not have a decision_function" not in found[2]  # neither has scikit-learn's
    ]
    assert skipped == []
    assert sum(found[1] == "passed" for found in results) >= least
