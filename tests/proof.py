"""``python -m tests.proof``: writes the matrix of proof in ``docs/agreement.md``: how each operation was shown.

The check of ``backends.check`` is run in full on every backend that is here and on the emulated GPU; what ran on a GPU
comes from the record that ``python -m benchmarks.gpu_record`` wrote on a machine with one. The tests in
``tests/backends/check`` hold the page against what the code has and against what they see pass.
"""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from backends import Backend, DeviceError, get_backend
from backends.base import DTYPES
from backends.cuda.cupy_backend import CupyBackend
from backends.cuda.launch import parameters, texts
from backends.registry import find_library
from benchmarks.gpu_record import Record, Tried, operations, read, text_digests, try_operations
from tests.helpers.backends import BACKENDS, NOT_HERE, is_on_gpu
from tests.helpers.emulated_cuda import HAS_COMPILER, EmulatedCudaDevice, launched
from tests.helpers.joined_steps import joined_steps

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "agreement.md"
BEGIN, END = "<!-- proof: python -m tests.proof writes this -->\n", "<!-- /proof -->"
#: The heading of the only column of the table of kernels.
SHOWN = "shown"
REALS = {"float32": "float", "float64": "double"}
Which = tuple[str, bool]

CPU, EMULATED, STAND_IN, COMPILED = "this CPU", "emulated", "stand-in", "compiled only"
NOT_RUN, NOT_INSTALLED, WRONG = "not run", "not installed", "WRONG"
ON_GPU = "GPU at"
#: What launches of products are called on the emulated GPU, where something else stands for cuBLAS.
PRODUCT = "gemm"
#: What runs the kernels that no operation launches: those that launches of several are joined into.
JOINED = "joined steps"
#: The kernels of recording: whatever is recorded, they are a proof of ``record`` alone.
OF_RECORDING = {"set_numbers", "advance_numbers"}
LEGEND = {
    CPU: "every case of the check is within its bound on the CPU of the machine that wrote this page",
    EMULATED: "likewise on the emulated GPU: g++ compiled the kernels' CUDA text, and it ran on the CPU",
    STAND_IN: "likewise, but what computes is not xpnet's own: NumPy or C++ stood for CuPy, cuBLAS or CUDA's graphs. "
    "It shows that they are called correctly, and nothing of what they compute",
    COMPILED: "the compiler takes the kernel, and no case of the check runs it; tests of its own may, emulated",
    NOT_RUN: "nothing was shown; this needs a GPU",
    NOT_INSTALLED: "the library was not there where this page was written",
    ON_GPU: "and a commit: every case of the check was within its bound on a GPU, as the code was then",
    WRONG: "a case is not within its bound",
}


@dataclass
class Shown:
    """What was seen of a backend in one dtype.

    Attributes:
        tried: the results, an operation each.
        cells: for each operation, how it was shown.
        kernels: on the emulated GPU, the operations that launched each kernel, or ``JOINED``.
    """

    tried: list[Tried] = field(default_factory=list)
    cells: dict[str, str] = field(default_factory=dict)
    kernels: dict[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Matrix:
    """The two tables of the page: how each operation was shown, by (operation, backend), and what runs each kernel, by
    (kernel, SHOWN)."""

    operations: dict[tuple[str, str], str]
    kernels: dict[tuple[str, str], str]


# ---- what is seen ----------------------------------------------------------------------------------------------------


def show(backend: Backend, every: int = 1) -> Shown:
    """Run the check of a backend on this CPU."""
    shown, is_emulated = Shown(), isinstance(backend.device, EmulatedCudaDevice)
    launched.names.clear()
    for it in try_operations(backend, every=every):
        names = set(launched.names)
        launched.names.clear()
        own = names & kernel_names(backend.dtype_name)
        own -= set() if it.operation == "record" else OF_RECORDING
        is_own = bool(own) and PRODUCT not in names and it.operation != "record"  # graphs are a stand-in's
        for name in sorted(own):
            shown.kernels.setdefault(name, []).append(it.operation)
        how = CPU if not is_emulated else EMULATED if is_own else STAND_IN
        shown.cells[it.operation] = WRONG if it.wrong else how if it.calls else NOT_RUN
        shown.tried.append(it)
    if is_emulated:
        for name in sorted(kernels_of_joined_steps(backend.dtype_name) - shown.kernels.keys()):
            shown.kernels[name] = [JOINED]
    return shown


def kernels_of_joined_steps(dtype: str) -> set[str]:
    """What the steps of ``tests.helpers.joined_steps`` launch, each of which raises where a result is wrong."""
    names: set[str] = set()
    for step in joined_steps():
        step(dtype)
        names.update(launched.names)
    launched.names.clear()
    return names & kernel_names(dtype) - OF_RECORDING


@cache
def kernel_names(dtype: str) -> frozenset[str]:
    """The kernels of the CUDA text."""
    real = REALS[dtype]
    return frozenset(name for text in texts(real) for name in parameters(text, real))


def kernel_cells(kernels: Mapping[str, Iterable[str]], dtype: str) -> dict[str, str]:
    """For each kernel, the operations in whose check it ran; a compiler that is here has compiled all of them."""
    cells = {}
    for name in sorted(kernel_names(dtype)):
        by = ", ".join(f"`{operation}`" for operation in kernels.get(name, ()))
        cells[name] = f"{EMULATED} by {by}" if by else COMPILED if HAS_COMPILER else NOT_RUN
    return cells


def on_gpu(record: Record | None, which: Which, operation: str, dtype: str) -> Tried | None:
    """What is recorded of an operation on a GPU."""
    found = record.tried if record is not None and is_on_gpu(which[0]) else []
    same = (it for it in found if (it.fused, it.operation, it.dtype) == (which[1], operation, dtype))
    return next((it for it in same if it.calls), None)


def with_gpu(cell: str, record: Record | None, which: Which, operation: str, dtype: str) -> str:
    """A cell, with what is recorded of a GPU before what an emulator shows."""
    it = on_gpu(record, which, operation, dtype)
    if record is None or it is None:
        return cell
    at = f"{ON_GPU} {record.commit[:7]}"
    if it.wrong:
        return f"{WRONG} on a {at}"
    same_text = record.text[dtype] == text_digests()[dtype]
    return at if same_text or cell != EMULATED else f"{cell}; {at}, when the CUDA text was another"


# ---- the page --------------------------------------------------------------------------------------------------------


def heading(which: Which) -> str:
    """The name of a backend in the table."""
    spec, fused = which
    library = find_library(spec)
    device = spec.partition(":")[2]
    of_base = library.backend is not None and not fused
    return library.title + (f" {device}" if device else "") + (", base class" if of_base else "")


def merged(of_dtypes: Mapping[str, str]) -> str:
    """One cell for both dtypes."""
    cells = set(of_dtypes.values())
    return cells.pop() if len(cells) == 1 else "; ".join(f"{dtype}: {cell}" for dtype, cell in of_dtypes.items())


def of_dtype(cell: str, dtype: str) -> str:
    """What a cell says of a dtype."""
    match = re.match(rf"(?:.*; )?{dtype}: (.*?)(?:; float\d\d: .*)?$", cell)
    return match[1] if match else cell


def see_everything() -> Matrix:
    """Run everything that can be run here: half a minute."""
    record = read()
    cells: dict[tuple[str, str], str] = {}
    kernels: dict[str, dict[str, str]] = {}
    for which in BACKENDS:
        found = {}
        for dtype in DTYPES:
            print(f"{heading(which)} {dtype}", flush=True)
            shown, otherwise = try_here(which, dtype)
            if which == ("cuda", True):
                kernels[dtype] = kernel_cells(shown.kernels, dtype)
            for it in shown.tried:
                if it.wrong:
                    print(f"{it.operation}: WRONG in {it.wrong}: {it.first_wrong}", file=sys.stderr)
            found[dtype] = {
                operation: with_gpu(shown.cells.get(operation, otherwise), record, which, operation, dtype)
                for operation in operations()
            }
        for operation in operations():
            cells[operation, heading(which)] = merged({dtype: found[dtype][operation] for dtype in DTYPES})
    names = sorted(set[str]().union(*kernels.values()))
    return Matrix(cells, {(n, SHOWN): merged({dtype: kernels[dtype][n] for dtype in DTYPES}) for n in names})


def try_here(which: Which, dtype: str) -> tuple[Shown, str]:
    """What is seen of a backend here, and what its other cells say."""
    if which == ("cuda", True):
        return (show(CupyBackend(EmulatedCudaDevice(), dtype)) if HAS_COMPILER else Shown()), NOT_RUN
    if is_on_gpu(which[0]):
        return Shown(), NOT_RUN
    try:
        return show(get_backend(which[0], dtype, which[1])), NOT_RUN
    except DeviceError as error:
        if error.kind not in NOT_HERE:
            raise
        return Shown(), NOT_INSTALLED


def text_of(matrix: Matrix, record: Record | None) -> str:
    """What stands between the marks in the page."""
    words = (f"- **{word}**: {meaning}." for word, meaning in LEGEND.items())
    lines = [textwrap.fill(word, 120, subsequent_indent="  ") for word in words]
    lines += ["", gpus(record), ""]
    names = [heading(which) for which in BACKENDS]
    lines += table("operation", operations(), names, matrix.operations)
    of_kernels = (
        "The kernels of the CUDA text, and the operations in whose check each ran on the emulated GPU. Those of "
        f"`{JOINED}` do the work of several operations in a recorded step: there each of their results is held against "
        "its bound, or against the bits of the single operations (`tests/helpers/joined_steps.py`)."
    )
    lines += ["", textwrap.fill(of_kernels, 120), ""]
    lines += table("kernel", sorted({name for name, _ in matrix.kernels}), [SHOWN], matrix.kernels)
    return "\n".join(lines) + "\n"


def gpus(record: Record | None) -> str:
    """Which GPU ran what."""
    if record is None:
        return "No run on a GPU has been recorded yet."
    devices = "; ".join(f"{device['library']} on {device['hardware']}" for device in record.devices)
    return f"Recorded on a GPU: {devices}, {record.date}, at commit `{record.commit}`, every input no. {record.every}."


def table(corner: str, rows: Sequence[str], columns: Sequence[str], cells: Mapping[tuple[str, str], str]) -> list[str]:
    """A table in Markdown."""
    lines = [f"| {corner} | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    return lines + [f"| `{row}` | {' | '.join(cells[row, column] for column in columns)} |" for row in rows]


def tables(page: str) -> Matrix:
    """The tables of a page.

    Raises:
        ValueError: there are no two between the marks.
    """
    inside = page.partition(BEGIN)[2].partition(END)[0]
    found: list[dict[tuple[str, str], str]] = []
    columns: list[str] = []
    for line in inside.splitlines():
        if not line.startswith("|"):
            columns = []
        elif not columns:
            columns = [cell.strip() for cell in line.strip("|").split("|")][1:]
            found.append({})
        elif not line.startswith("|---"):
            row, *cells = (cell.strip() for cell in line.strip().removeprefix("|").removesuffix("|").split("|"))
            found[-1] |= {(row.strip("`"), column): cell for column, cell in zip(columns, cells, strict=True)}
    if len(found) != 2:
        raise ValueError(f"{PAGE}: there must be two tables between {BEGIN.strip()} and {END}")
    return Matrix(*found)


def committed() -> Matrix:
    """The tables of the page as it is."""
    return tables(PAGE.read_text(encoding="utf-8"))


def main() -> int:
    """Write the page; 1 if an operation is wrong somewhere."""
    page = PAGE.read_text(encoding="utf-8")
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        print(f"{PAGE}: the marks {BEGIN.strip()} and {END} must be there", file=sys.stderr)
        return 2
    matrix = see_everything()
    PAGE.write_text(before + begin + text_of(matrix, read()) + end + after, encoding="utf-8")
    print(f"wrote {PAGE}")
    return 1 if any(WRONG in cell for cell in matrix.operations.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
