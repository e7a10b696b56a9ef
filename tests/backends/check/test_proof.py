"""The matrix of proof in docs/agreement.md has what the code has, and says of a GPU what the record of one says.

That its cells are what the check shows is tested in ``test_check.py``, by the runs of the check there.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backends import Backend, get_backend
from backends.activations import ACTIVATIONS, Activation
from backends.base import DTYPES
from backends.check import MAKERS, OPERATIONS, cases, parts
from backends.cpu.numpy_backend import NumpyBackend
from backends.cuda.cupy_backend import CupyBackend
from backends.registry import LIBRARIES
from backends.updates import RULES, Rule
from benchmarks import gpu_record
from benchmarks.gpu_record import Record, Tried, commit_of, main, read, record_of, try_operations, write
from tests import proof
from tests.helpers.backends import BACKENDS, make_backend
from tests.helpers.emulated_cuda import EmulatedCudaDevice, needs_compiler
from tests.proof import Matrix, merged, of_dtype, tables, with_gpu

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FUSED, BASE = ("cuda", True), ("cuda", False)


# ---- rows, columns and cells -----------------------------------------------------------------------------------------


def assert_has_what_the_code_has(matrix: Matrix) -> None:
    headings = [proof.heading(which) for which in BACKENDS]
    assert set(matrix.operations) == {(row, column) for row in gpu_record.operations() for column in headings}
    assert set(matrix.kernels) == {(name, proof.SHOWN) for dtype in DTYPES for name in proof.kernel_names(dtype)}
    for cell in (*matrix.operations.values(), *matrix.kernels.values()):
        for dtype in DTYPES:
            assert any(of_dtype(cell, dtype).startswith(word) for word in proof.LEGEND), cell
        assert proof.WRONG not in cell


def test_the_page_has_a_row_for_each_operation_and_each_kernel_and_no_other() -> None:
    assert_has_what_the_code_has(proof.committed())


@pytest.mark.parametrize("what", ["operation", "activation", "rule", "backend", "gone"])
def test_a_row_or_a_column_that_is_missing_or_left_over_is_noticed(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if what == "operation":
        monkeypatch.setitem(MAKERS, "layer_norm", MAKERS["softmax"])
    elif what == "activation":
        monkeypatch.setitem(ACTIVATIONS, "twice", Activation("twice", lambda xp, z: 2 * z, None))
    elif what == "rule":
        monkeypatch.setitem(RULES, "sign", Rule("sign", lambda xp, gradient, state, number: (xp.sign(gradient), {})))
    elif what == "backend":
        monkeypatch.setattr("tests.backends.check.test_proof.BACKENDS", [*BACKENDS, ("numba", False)])
    else:
        monkeypatch.delitem(MAKERS, "argmax")
    with pytest.raises(AssertionError):
        assert_has_what_the_code_has(proof.committed())


def test_a_blank_cell_an_unknown_word_and_a_kernel_that_is_gone_are_noticed() -> None:
    page = proof.PAGE.read_text(encoding="utf-8")
    assert_has_what_the_code_has(tables(page))
    for before, after in (
        ("| this CPU |", "| |"),
        ("| this CPU |", "| somewhere |"),
        ("| `argmax` | em", "| `x` | em"),
    ):
        assert before in page
        with pytest.raises(AssertionError):
            assert_has_what_the_code_has(tables(page.replace(before, after, 1)))
    with pytest.raises(ValueError, match="there must be two tables between"):
        tables(page.replace(proof.BEGIN, ""))


def test_the_measured_agreement_is_of_the_operations_that_there_are() -> None:
    """That of ``python -m benchmarks.agreement``: a table of each dtype against the formulas, and one of pairs."""
    text = (proof.ROOT / "benchmarks" / "results" / "agreement.md").read_text(encoding="utf-8")
    tables_of = [part.split("\n\n")[0].splitlines()[1:] for part in text.split("| operation |")[1:]]
    assert len(tables_of) == 2 * len(DTYPES)
    for lines in tables_of:
        assert [line.split("|")[1].strip() for line in lines[1:]] == list(OPERATIONS)
    assert "WRONG" not in text


def test_there_is_a_column_for_every_library() -> None:
    columns = {(spec.partition(":")[0], fused) for spec, fused in BACKENDS}
    for library in LIBRARIES:
        assert (library.names[0], library.backend is not None) in columns
    for spec in ("cpu", "cuda"):
        assert {(spec, True), (spec, False)} <= columns


def test_parts_are_all_cases_of_their_operations() -> None:
    assert {part.split()[0] for part in parts()} == MAKERS.keys()
    for operation in MAKERS:
        names = [part for part in parts() if part.split()[0] == operation]
        with np.errstate(all="ignore"):
            whole = [case.name for case in cases(operation, "float32")]
            of_parts = [case.name for part in names for case in cases(part, "float32")]
        assert sorted(of_parts) == sorted(whole)
        assert len(names) == {"bias_activation": 10, "bias_activation_backward": 10, "update": 4}.get(operation, 1)


def test_a_cell_says_which_dtype_it_is_about_where_they_differ() -> None:
    assert merged({"float32": "emulated", "float64": "emulated"}) == "emulated"
    both = {"float32": f"{proof.EMULATED} by `a`, `b`; GPU at 1, when", "float64": proof.COMPILED}
    assert {dtype: of_dtype(merged(both), dtype) for dtype in DTYPES} == both
    assert of_dtype("this CPU", "float64") == "this CPU"


# ---- what is seen on this machine ------------------------------------------------------------------------------------


class Wrong(NumpyBackend):
    """Its ReLU is none, and it forgets to wait."""

    def bias_activation(self, z: Any, bias: Any, activation: str = "identity", **options: Any) -> Any:
        return super().bias_activation(z, bias, "tanh" if activation == "relu" else activation, **options)

    def synchronize(self) -> None:
        raise RuntimeError("no such thing")


def test_what_is_wrong_is_said_of_that_part_alone() -> None:
    shown = proof.show(Wrong(get_backend("cpu").device), every=20)
    assert {row for row, cell in shown.cells.items() if cell == proof.WRONG} == {"bias_activation relu", "record"}
    assert shown.cells["synchronize"] == proof.NOT_RUN  # it was never called with success
    assert shown.cells["use"] == proof.CPU


def test_operations_without_a_result_are_counted_and_the_backend_is_as_it_was() -> None:
    backend = get_backend("cpu")
    before = dict(vars(backend))
    tried = {it.operation: it for it in try_operations(backend, every=50)}
    assert list(tried) == gpu_record.operations()
    assert tried["synchronize"].calls == 5 * 1
    assert tried["use"].calls == sum(it.calls for name, it in tried.items() if name not in ("use", "synchronize"))
    assert vars(backend) == before


# ---- the record of a GPU ---------------------------------------------------------------------------------------------


def a_record(**changes: Any) -> Record:
    tried = [Tried("cuda:0", True, "float32", operation, 9) for operation in ("matmul", "softmax", "argmax")]
    tried[2] = dataclasses.replace(tried[2], wrong=2, first_wrong="random 7x5: got 1 instead of 2")
    record = Record(
        commit=COMMIT,
        date="2026-11-21",
        seed=0,
        every=1,
        text=gpu_record.text_digests(),
        devices=[{"spec": "cuda:0", "library": "cupy 14.0", "hardware": "NVIDIA H200, driver for CUDA 13.0"}],
        tried=tried,
    )
    return dataclasses.replace(record, **changes)


def test_the_page_claims_of_a_gpu_what_is_recorded_and_nothing_else() -> None:
    record = read()
    page = proof.PAGE.read_text(encoding="utf-8")
    assert f"\n{proof.gpus(record)}\n" in page
    for which in BACKENDS:
        for operation in gpu_record.operations():
            cell = proof.committed().operations[operation, proof.heading(which)]
            for dtype in DTYPES:
                said, it = of_dtype(cell, dtype), proof.on_gpu(record, which, operation, dtype)
                assert (proof.ON_GPU in said) == (it is not None), (which, operation)
                if record is not None and it is not None:
                    assert f"{proof.ON_GPU} {record.commit[:7]}" in said
                    assert (proof.WRONG in said) == (it.wrong > 0)


def test_what_a_record_makes_of_a_cell() -> None:
    record = a_record()
    assert with_gpu("emulated", record, FUSED, "softmax", "float32") == "GPU at 0123456"
    assert with_gpu("stand-in", record, FUSED, "matmul", "float32") == "GPU at 0123456"
    assert with_gpu("emulated", record, FUSED, "argmax", "float32") == "WRONG on a GPU at 0123456"
    for which, operation, dtype in (
        (FUSED, "softmax", "float64"), (BASE, "softmax", "float32"), (FUSED, "multiply", "float32"),
        (("cpu", True), "softmax", "float32"),
    ):  # fmt: skip
        assert with_gpu("as before", record, which, operation, dtype) == "as before"
    assert with_gpu("not run", None, FUSED, "softmax", "float32") == "not run"
    assert with_gpu("emulated", a_record(tried=[Tried("cuda:0", True, "float32", "softmax", 0)]), FUSED, "softmax",
                    "float32") == "emulated"  # fmt: skip


def test_a_gpu_that_ran_another_cuda_text_is_no_proof_of_this_one() -> None:
    older = a_record(text={**gpu_record.text_digests(), "float32": "0" * 64})
    said = "emulated; GPU at 0123456, when the CUDA text was another"
    assert with_gpu("emulated", older, FUSED, "softmax", "float32") == said
    assert with_gpu("stand-in", older, FUSED, "matmul", "float32") == "GPU at 0123456"  # no text of ours is in it


def test_the_digests_are_of_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    before = gpu_record.text_digests()
    assert before.keys() == set(DTYPES)
    assert before["float32"] != before["float64"]
    monkeypatch.setitem(ACTIVATIONS, "relu", dataclasses.replace(ACTIVATIONS["relu"], cuda_forward="z"))
    after = gpu_record.text_digests()
    assert all(before[dtype] != after[dtype] for dtype in DTYPES)


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "gpu.json"
    assert read(path) is None
    write(a_record(), path)
    assert read(path) == a_record()
    assert sum('"operation"' in line for line in path.read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"commit": "main"}, "a commit is 40 hex digits, not 'main'"),
        ({"text": {}}, "`text` must have float32, float64, not "),
        ({"devices": [{"spec": "cuda:0", "library": "cupy 14.0", "hardware": ""}]}, "without its library or its hardw"),
        ({"devices": []}, r"Tried\(spec='cuda:0'.* cannot be"),
        ({"tried": [Tried("cuda:0", True, "float16", "softmax", 1)]}, "cannot be"),
        ({"tried": [Tried("cuda:0", True, "float32", "softmax", 1, 2)]}, "cannot be"),
    ],
)
def test_a_record_that_cannot_be_is_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "gpu.json"
    write(a_record(**changes), path)
    with pytest.raises(ValueError, match=rf"gpu.json is no record of a GPU: .*{message}"):
        read(path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 2}', '{"format": 1, "tried": []}', "GPU"])
def test_a_file_that_is_no_record_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "gpu.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"gpu.json is no record of a GPU: "):
        read(path)


@needs_compiler
def test_no_record_is_made_of_what_is_no_gpu() -> None:
    emulated: Backend = CupyBackend(EmulatedCudaDevice())
    for backends in ([emulated], [get_backend("cpu")], []):
        with pytest.raises(ValueError, match="a record is of backends on a GPU, not of "):
            record_of(backends, COMMIT)


def test_the_command_needs_a_gpu_and_a_commit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "gpu.json"
    for flags in (["--device", "cpu"], ["--commit", "f" * 40]):
        assert main([*flags, "--output", str(out)]) == 2
        assert capsys.readouterr().err.startswith("python -m benchmarks.gpu_record: error: ")
    assert not out.exists()


def git(folder: Path, *words: str) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    return subprocess.run(["git", *who, *words], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not here")
def test_the_commit_is_what_ran(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="this folder is no repository of git: say what is tried by --commit"):
        commit_of(tmp_path)
    assert commit_of(tmp_path, COMMIT) == COMMIT
    (tmp_path / "backends").mkdir()
    (tmp_path / "backends" / "base.py").write_text("x = 1\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    head = git(tmp_path, "rev-parse", "HEAD")
    assert commit_of(tmp_path) == commit_of(tmp_path, head) == head
    (tmp_path / "notes.txt").write_text("of no importance")
    assert commit_of(tmp_path) == head
    with pytest.raises(ValueError, match="is not what is checked out: that is"):
        commit_of(tmp_path, COMMIT)
    (tmp_path / "backends" / "base.py").write_text("x = 2\n")
    with pytest.raises(ValueError, match=r"commit the changes of backends/ first"):
        commit_of(tmp_path)


@pytest.mark.gpu
def test_a_gpu_is_recorded(tmp_path: Path) -> None:
    make_backend(FUSED)
    path = tmp_path / "gpu.json"
    record = record_of([get_backend("cuda")], COMMIT, every=20)
    write(record, path)
    assert read(path) == record
    assert [it.first_wrong for it in record.tried if it.wrong or not it.calls] == []
    assert json.loads(path.read_text())["devices"][0]["library"].startswith("cupy ")
