"""The steps of the CI, each in an environment of its own: ``nox -l`` lists them, ``nox -s tests-3.13`` runs one.

What stands after ``--`` goes to the tool: ``nox -s tests-3.11 -- tests/nn -x``.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import nox

PYTHONS = ["3.11", "3.12", "3.13", "3.14"]
#: The bound in pyproject.toml; it has no wheels for the newest Pythons.
LOWEST_NUMPY = "2.1.*"
#: Extras of which the other sessions have not all, and their tests.
EXTRAS = {
    "streams,tables": ("tests/nn/data", "tests/nn/test_streamed_runs.py", "tests/cli/test_streamed.py"),
    "mpi": ("tests/nn/test_mpi.py", "tests/cli/test_processes.py"),
    "dask": ("tests/test_docs_sweeps.py",),
}
#: What somebody who uses the package may write, and what is wrong in it.
USER = "import nn\nmodel = nn.Sequential(nn.Linear(2, 1), backend='cpu')\nmodel.predict(1, 2, 3, 4)\n"

nox.needs_version = ">=2024.4"
nox.options.sessions = ["lint", "types", "tests", "lowest", "docs", "exchange", "extras", "package"]
nox.options.default_venv_backend = "venv"


def one_thread(session: nox.Session) -> None:
    session.env["OPENBLAS_NUM_THREADS"] = "1"


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """The test suite on one version of Python."""
    one_thread(session)
    session.install("-e", ".[test]")
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session(python=PYTHONS[0])
def lowest(session: nox.Session) -> None:
    """The test suite with the lowest NumPy that pyproject.toml allows."""
    one_thread(session)
    session.install("-e", ".[test]", f"numpy=={LOWEST_NUMPY}")
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """ruff, and the form of the code."""
    session.install("ruff>=0.15")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """mypy; strict in nn and backends."""
    session.install("-e", ".[dev]")
    session.run("mypy", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """What the README, docs/ and docstrings quote, name and run; then the pages are built, without a warning."""
    one_thread(session)
    session.install("-e", ".[test,docs]")
    pages = ("tests/test_docs.py", "tests/test_readme.py", "tests/test_docstrings.py")
    session.run("python", "-m", "pytest", *pages, *session.posargs)
    session.run("python", "-m", "sphinx", "-W", "docs", "build/docs")


@nox.session
def exchange(session: nox.Session) -> None:
    """Networks and arrays to and from the libraries that the other sessions have not: ONNX, PyTorch, Keras, polars."""
    one_thread(session)
    session.install("-e", ".[exchange]")
    tests = ("tests/nn/storage", "tests/nn/data", "tests/nn/test_device_rows.py", "tests/test_docs_exchange.py")
    session.run("python", "-m", "pytest", *tests, *session.posargs)


@nox.session
@nox.parametrize("extras", [nox.param(extras, id=extras.partition(",")[0]) for extras in EXTRAS])
def extras(session: nox.Session, extras: str) -> None:
    """Rows in zarr and Parquet, processes of MPI, a cluster of Dask: ``nox -s "extras(mpi)"``."""
    one_thread(session)
    session.install("-e", f".[test,{extras}]")
    session.run("python", "-m", "pytest", "-n", "0", *EXTRAS[extras], *session.posargs)


@nox.session
def package(session: nox.Session) -> None:
    """The wheel: it holds the marks of types, it runs from another folder, and a user's mypy sees its types."""
    folder = Path(session.create_tmp())
    session.install("build", "mypy")
    session.run("python", "-m", "build", "--wheel", "--outdir", str(folder), ".", silent=True)
    wheel = max(folder.glob("*.whl"), key=lambda path: path.stat().st_mtime)
    inside = zipfile.ZipFile(wheel).namelist()
    for name in ("backends", "nn", "recipes"):
        if f"{name}/py.typed" not in inside:
            session.error(f"{wheel.name} lacks {name}/py.typed")
    session.install(str(wheel))
    (folder / "user.py").write_text(USER, encoding="utf-8")
    with session.chdir(folder):
        session.run("xpnet-train", "--epochs", "3", "--quiet")
        found = str(session.run("mypy", "user.py", success_codes=[1], silent=True))
    if "Too many arguments" not in found:
        session.error(f"a user's mypy does not see the types of nn:\n{found}")


@nox.session
def mutation(session: nox.Session) -> None:
    """Faults that no test notices: ``nox -s mutation -- nn/data --sample 200``; slow."""
    session.install("-e", ".[mutation,numba]")
    session.run("python", "-m", "benchmarks.mutation", *session.posargs)
