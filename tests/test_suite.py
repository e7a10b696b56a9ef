"""The suite itself: what its modules may reach, one thread of the BLAS, markers, workers, the summary of skips."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from backends.cpu.cores import cores

ROOT = Path(__file__).parent.parent
MODULES = {str(path.relative_to(ROOT)): path for path in sorted((ROOT / "tests").rglob("*.py"))}
#: Of other projects, which offer the same in no public way.
FOREIGN = {
    "_actions": "the flags of an argparse parser",
    "_obj": "what ctypes.byref points to",
    "_fields_": "of a ctypes structure",
    "_exit": "of os, which ends a forked process",
    "_replace": "of a named tuple",
    "_repr_html_": "what a notebook calls",
}

#: The tests that need MNIST's own files, and for each the one that shows the same on made-up rows.
TWINS = {
    "test_ten_lines_of_python_train_on_mnist": "test_ten_lines_of_python_train_where_there_is_no_mnist",
    "test_mnist_as_in_the_tutorial": "test_files_and_where",
    "test_momentum_reaches_its_figures_on_mnist": "test_a_recipe_tells_which_figures_are_reproduced",
    "test_other_libraries_end_with_the_same_accuracy": "test_every_backend_ends_a_recipe_with_the_same_accuracy",
    "test_one_vs_two_has_the_authors_rows": "test_one_vs_two_has_the_rows_of_these_two_digits",
    "test_the_real_mnist_files": "test_mnist_from_a_folder",
    "test_rows_of_mnist_stay_what_they_are": "test_a_drawing_fits_into_20_pixels_and_has_its_mass_in_the_middle",
    "trained_on_mnist": "test_bundled_digits_are_read_in_any_size_and_polarity",
    "test_drawn_digits_are_seen_by_a_network_of_mnist": "test_a_report_opens_is_drawn_on_and_sees_what_the_model_sees",
}


# ---- what tests may reach --------------------------------------------------------------------------------------------


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__") and name != "_" and name not in FOREIGN


def private_names(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """The private names of others that a module reaches: ``x._y``, ``from x import _y``, ``setattr(x, "_y", ...)``.

    What a class of the module's own has, ``self._y``, is its own affair.
    """
    for node in nodes:
        if isinstance(node, ast.Attribute):
            own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            if not own and is_private(node.attr):
                yield node.attr
        elif isinstance(node, ast.ImportFrom | ast.Import):
            for alias in node.names:
                yield from filter(is_private, alias.name.split("."))
        elif isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("getattr", "hasattr", "setattr", "delattr"):
                for argument in node.args:
                    if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                        yield from filter(is_private, argument.value.split("."))


@cache
def nodes() -> dict[str, list[ast.AST]]:
    """What the tests below read in each module; reading all of it takes seconds, and is done once."""
    read_here = (ast.Attribute, ast.ImportFrom, ast.Import, ast.Call, ast.FunctionDef)
    found = dict[str, list[ast.AST]]()
    for name, path in MODULES.items():
        found[name] = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, read_here)]
    return found


def test_tests_reach_no_private_names() -> None:
    reached = {(name, private) for name, found in nodes().items() for private in private_names(found)}
    assert reached == set()


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("model._stages", ["_stages"]),
        ("self.model._stages[0]._x", ["_stages", "_x"]),
        ("self._mine + cls._mine", []),
        ("x.__dict__", []),
        ("for _ in x.__iter__(): y._", []),
        ("from nn.model import Sequential, _checked_layers", ["_checked_layers"]),
        ("import nn._inside.part", ["_inside"]),
        ("monkeypatch.setattr(registry, '_prove', prove)", ["_prove"]),
        ("monkeypatch.setattr('backends.registry._prove', prove)", ["_prove"]),
        ("getattr(model, '_stages')", ["_stages"]),
        ("parser._actions", []),
    ],
)
def test_the_reader_of_private_names_sees_them(source: str, names: list[str]) -> None:
    assert sorted(private_names(ast.walk(ast.parse(source)))) == sorted(names)


def test_no_test_module_is_imported() -> None:
    """What several need is a fixture in a ``conftest.py``, or stands in ``tests/helpers``."""
    for name, found in nodes().items():
        for node in found:
            if isinstance(node, ast.ImportFrom):
                assert not node.level, f"{name} imports by dots: say from where"
                imported = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
            elif isinstance(node, ast.Import):
                imported = [alias.name for alias in node.names]
            else:
                continue
            for module in imported:
                last = module.split(".")[-1]
                assert not module.startswith("tests.") or not last.startswith(("test_", "conftest")), (name, module)


def needing_mnist() -> set[str]:
    """The tests that read MNIST's own files, and so are skipped where these are not."""
    return {
        node.name
        for found in nodes().values()
        for node in found
        if isinstance(node, ast.FunctionDef) and any(argument.arg == "mnist_dir" for argument in node.args.args)
    }


def test_nothing_is_tested_on_the_real_mnist_only() -> None:
    assert needing_mnist() == set(TWINS)
    source = "\n".join(path.read_text() for path in MODULES.values())
    assert [twin for twin in TWINS.values() if f"\ndef {twin}(" not in source] == []


# ---- one thread of the BLAS ------------------------------------------------------------------------------------------


def blas_threads() -> set[int]:
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


def test_the_blas_has_one_thread() -> None:
    """Here, where everything that the suite imports is loaded; and so it had when it was."""
    np.ones((300, 300)) @ np.ones((300, 300))
    assert blas_threads() <= {1}


def test_a_subprocess_has_one_thread_too() -> None:
    program = (
        "import numpy, threadpoolctl as t; "
        "print(*{pool['num_threads'] for pool in t.threadpool_info() if pool['user_api'] == 'blas'})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() in ([], ["1"])


# ---- how the suite runs: a small suite with the conftest of this one -------------------------------------------------

SUITE = """
import pytest
from tests.helpers.backends import make_backend

{mark}
@pytest.mark.parametrize("n", range(3))
def test_on_a_gpu(n):
    make_backend(("cuda:99", True))

@pytest.mark.parametrize("n", range(12))
def test_without_a_file(n):
    pytest.skip(f"there is no file {{n % 11}}")

@pytest.mark.slow
def test_of_minutes():
    pass
"""


def run_pytest(folder: Path, *arguments: str, mark: str = "") -> str:
    """What pytest prints about that suite, with the settings and the root ``conftest.py`` of this one."""
    (folder / "small").mkdir()
    (folder / "small" / "test_small.py").write_text(SUITE.format(mark=mark))
    settings = ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(folder), "-p", "tests.conftest"]
    command = [sys.executable, "-m", "pytest", *settings, "-p", "no:cacheprovider", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PY_COLORS": "0", "COLUMNS": "100"}
    environment.pop("PYTEST_XDIST_WORKER", None)  # this test may itself run in a worker
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False).stdout


def test_skips_are_summed_up_by_reason_and_slow_tests_left_out(tmp_path: Path) -> None:
    out = run_pytest(tmp_path, "small", mark="@pytest.mark.gpu")
    lines = out.partition("skipped, by reason")[2].splitlines()[1:]
    assert lines[0].split(maxsplit=1) == ["2", "there is no file 0"]
    assert len(lines[:-1]) == 10
    assert lines[9].split(maxsplit=1) == ["3", "for 3 other reasons (pytest -rs lists them)"]
    of_gpu = 1 if find_spec("cupy") is None else 3  # one stands for the others
    assert f"{12 + of_gpu} skipped" in lines[-1]
    assert (f"workers [{12 + of_gpu} items]" in out) == (cores() > 1)


def test_a_single_file_starts_no_workers(tmp_path: Path) -> None:
    out = run_pytest(tmp_path, "small/test_small.py", "-m", "gpu or slow", mark="@pytest.mark.gpu")
    assert "workers [" not in out
    assert "1 passed, 3 skipped, 12 deselected" in out
    assert "3  cuda: " in out


def test_a_test_that_needs_a_gpu_and_does_not_say_so_fails(tmp_path: Path) -> None:
    out = run_pytest(tmp_path, "small/test_small.py", "-k", "gpu")
    assert "failed" in out
    assert "small/test_small.py::test_on_a_gpu[0] needs a GPU, so it must be marked gpu (cuda: " in out
