"""``python -m backends``: the list of devices with its remedies, and the command line of the check."""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import backends.__main__
from backends import Device, DeviceError, ErrorKind, doctor, find_device
from backends.__main__ import main
from backends.base import DTYPES
from backends.check import OPERATIONS, Result
from backends.cpu.numpy_backend import NumpyBackend
from backends.cuda import remedies
from backends.devices import memory
from tests.helpers.broken_cupy import BROKEN, cupy_with
from tests.helpers.emulated_cuda import EmulatedCudaDevice


def run(capsys: pytest.CaptureFixture[str], *flags: str) -> tuple[int, str, str]:
    """The exit code, and what was printed and complained about."""
    try:
        code: Any = main(flags)
    except SystemExit as error:
        code = error.code
    return code, *capsys.readouterr()


# ---- the command line ------------------------------------------------------------------------------------------------


def test_the_list_says_what_is_ready(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith("cpu                        ready: numpy ")
    assert any(line.startswith("array_api_strict:device1   ready: array_api_strict ") for line in lines)
    assert any(line.startswith("cuda:0 ") for line in lines)


def test_the_list_of_named_devices(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "--device", "cpu")[0] == 0
    code, out, _ = run(capsys, "--device", "cpu", "gpu")
    assert code == 1  # one that was asked for cannot be used
    first, second = out.splitlines()
    assert first.startswith("cpu ")
    assert second.startswith(
        "gpu                        not usable: unknown device 'gpu' (did you mean cuda?); known are "
    )
    assert "pip" not in second


def test_check_prints_a_table_and_totals(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "check", "--every", "50", "--device", "cpu", "array_api_strict")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith("cpu: numpy ")
    assert lines[1].split() == ["operation", "dtype", "cases", "rel.", "error", "error/bound", "verdict"]
    for operation in OPERATIONS:
        for dtype in DTYPES:
            assert sum(line.split()[:2] == [operation, dtype] for line in lines) == 2
    assert "array_api_strict, reference operations: array_api_strict " in out
    assert " cases on 2 backends, seed 0, in " in lines[-1]
    assert lines[-1].endswith(" s: all within their bounds")


def test_check_leaves_out_float64_where_a_device_has_none(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ("--device", "array_api_strict:no_float64", "--dtype", "float64", "float32", "--operation", "copy")
    code, out, _ = run(capsys, "check", *flags)
    assert code == 0
    assert re.findall(r"^  copy +(\w+)", out, flags=re.MULTILINE) == ["float32"]


def test_what_is_printed_of_a_check() -> None:
    right = Result("copy", "float64", 12, 1e-17, 0.25, "random")
    wrong = Result("matmul", "float32", 1234, 0.5, 5678.0, "random", 3, "random 1x1: got 2 instead of 1")
    assert backends.__main__.table([right, wrong]).splitlines() == [
        "  operation                 dtype     cases rel. error error/bound  verdict",
        "  copy                      float64      12    1.0e-17       0.250  ok",
        "  matmul                    float32    1234    5.0e-01     5.7e+03  WRONG in 3",
        "      random 1x1: got 2 instead of 1",
    ]
    almost = backends.__main__.table([replace(right, ratio=999.9994), replace(right, ratio=1000.0)]).splitlines()
    assert [line.split()[4] for line in almost[1:]] == ["999.999", "1e+03"]
    assert backends.__main__.totals([right, wrong, wrong], 2, 7, 2.4) == (
        "2,480 cases on 2 backends, seed 7, in 2 s: 6 out of bounds, in matmul"
    )
    assert backends.__main__.totals([right], 1, 0, 0.6) == (
        "12 cases on 1 backend, seed 0, in 1 s: all within their bounds"
    )


def test_check_of_everything_here(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "check", "--operation", "argmax", "item", "--dtype", "float64", "--seed", "5")
    assert code == 0
    for start in ("cpu: ", "cpu, reference operations: ", "array_api_strict:device1, reference operations: "):
        assert f"\n{start}" in f"\n{out}"
    assert "float32" not in out
    assert ", seed 5, " in out


def test_check_of_the_reference_operations(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "check", "--operation", "argmax", "--device", "cpu", "--reference", "--against", "cpu")
    assert code == 0
    assert out.startswith("cpu, reference operations, against cpu: numpy ")
    assert " cases on 1 backend, seed 0" in out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--device", "gpu"), "python -m backends: error: unknown device 'gpu' (did you mean cuda?); known are auto, "),
        (("--device", "cpu", "cpu:1"), "python -m backends: error: cpu:1: NumPy has one device; say 'cpu'"),
        (("--against", "nonsense"), "python -m backends: error: unknown device 'nonsense'; known are auto, "),
        (("--seed", "-1"), "python -m backends: error: --seed must be at least 0, not -1"),
        (("--every", "0"), "python -m backends: error: --every must be at least 1, not 0"),
        (("--dtype", "float16"), "invalid choice: 'float16'; did you mean float"),
        (("--operation", "fourier"), "invalid choice: 'fourier' (choose from "),
        (("--operation", "mamul"), "argument --operation: invalid choice: 'mamul'; did you mean matmul?"),
        (("--evry", "3"), "unrecognized arguments: --evry 3; did you mean --every?"),
        (("--xyz", "1"), "unrecognized arguments: --xyz 1 (--help lists all)"),
        (("--seed", "many"), "argument --seed: invalid int value: 'many' (--help lists all)"),
    ],
)
def test_wrong_usage(capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], message: str) -> None:
    code, out, err = run(capsys, "check", *flags)
    assert (code, out) == (2, "")
    assert message in err
    assert err.startswith("python -m backends: error: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize("called", ["python -m backends", "xpnet-doctor", "xpnet doctor"])
def test_the_program_calls_itself_what_it_was_called(
    called: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = {"python -m backends": "/x/backends/__main__.py", "xpnet-doctor": "/usr/bin/xpnet-doctor"}
    paths["xpnet doctor"] = "/usr/bin/xpnet"
    monkeypatch.setattr(sys, "argv", [paths[called]])
    code, out, err = run(capsys, "chek")
    assert (code, out) == (2, "")
    assert err.startswith(f"{called}: error: ")
    assert err.endswith("unexpected 'chek'; did you mean check?\n")
    assert run(capsys, "--help")[1].startswith(f"usage: {called} ")
    assert run(capsys, "check", "--help")[1].startswith(f"usage: {called} check ")


def test_a_device_alone_is_told_how_devices_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "cuda")[2].endswith("error: unexpected 'cuda'; devices are named as in --device cuda\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_an_output_that_cannot_be_written_is_no_traceback() -> None:
    command, root = [sys.executable, "-m", "backends", "--device", "cpu"], Path(backends.__file__).parents[1]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, cwd=root, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "python -m backends: error: the output cannot be written: No space left on device\n"


def test_every_flag_is_among_the_words_that_may_be_meant(capsys: pytest.CaptureFixture[str]) -> None:
    shown = run(capsys, "--help")[1] + run(capsys, "check", "--help")[1]
    assert set(re.findall(r"--[a-z]+", shown)) == set(backends.__main__.FLAGS)


def test_a_reader_that_leaves_is_exit_code_141(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As of ``python -m backends | head -1``; what is still in the buffer goes nowhere, and is no second error."""

    def nobody_reads(specs: Any) -> Any:
        print("a line in the buffer")
        raise BrokenPipeError

    monkeypatch.setattr(backends.__main__, "examine", nobody_reads)
    with (tmp_path / "out").open("w") as out:
        monkeypatch.setattr(sys, "stdout", out)
        assert main([]) == 141
    assert (tmp_path / "out").read_text() == ""


def test_check_says_what_is_out_of_bounds_and_where(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    right = NumpyBackend.argmax
    monkeypatch.setattr(NumpyBackend, "argmax", lambda self, x: right(self, x) + 1)
    flags = ["--device", "cpu", "--operation", "argmax", "all_finite", "--dtype", "float32", "--every", "10"]
    code, out, _ = run(capsys, "check", *flags)
    assert code == 1
    lines = out.splitlines()
    wrong = next(number for number, line in enumerate(lines) if line.split()[:2] == ["argmax", "float32"])
    cases = int(lines[wrong].split()[2])
    assert lines[wrong].split()[3:] == ["inf", "inf", "WRONG", "in", str(cases)]
    assert lines[wrong + 1].startswith("      ")
    assert "instead of exactly" in lines[wrong + 1]
    (finite,) = (line.split() for line in lines if line.split()[:2] == ["all_finite", "float32"])
    assert finite[3:] == ["0.0e+00", "0.000", "ok"]
    assert re.fullmatch(
        rf"{cases + int(finite[2])} cases on 1 backend, seed 0, in \d+ s: {cases} out of bounds, in argmax", lines[-1]
    )


def test_the_console_script_is_this_main() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert project["scripts"]["xpnet-doctor"] == "backends.__main__:main"


# ---- the doctor, for GPUs that cannot be used ------------------------------------------------------------------------

TOO_OLD = "cupy-cuda13x needs a driver for CUDA 13, and this one supports CUDA 12.4: update the driver, or "
BOTH = "cupy-cuda12x and cupy-cuda13x are installed both and overwrite each other's files: "
BOTH += "pip uninstall -y cupy-cuda12x cupy-cuda13x; pip install '{}[ctk]'"
NO_DRIVER = "there is no NVIDIA driver on this machine; if it has an NVIDIA GPU, install the driver"

#: what is broken (a key of BROKEN), the wheels installed, CUDA of the driver, whether NVRTC is there; what to do.
PATIENTS: list[tuple[str, list[str], tuple[int, int] | None, bool, str]] = [
    ("not installed", [], None, False, f"{NO_DRIVER}, then pip install 'cupy-cuda13x[ctk]'"),
    ("not installed", [], (12, 8), False, "the driver supports CUDA 12.8: pip install 'cupy-cuda12x[ctk]'"),
    ("not installed", [], (13, 0), False, "the driver supports CUDA 13.0: pip install 'cupy-cuda13x[ctk]'"),
    ("not installed", [], (14, 1), False, "the driver supports CUDA 14.1: pip install 'cupy-cuda13x[ctk]'"),
    ("not installed", [], (11, 4), False, "the driver supports CUDA 11.4, and CuPy needs 12 or newer: update it"),
    ("no driver", ["cupy-cuda13x"], None, True, NO_DRIVER),
    (
        "no driver", ["cupy-cuda13x"], (12, 4), True,
        f"{TOO_OLD}pip uninstall -y cupy-cuda13x; pip install 'cupy-cuda12x[ctk]'",
    ),
    ("no driver", ["cupy-cuda12x"], (12, 1), True, "update the driver, which supports CUDA 12.1"),
    ("no GPU", ["cupy-cuda12x"], (13, 0), True, "nvidia-smi -L must list a GPU"),
    ("no toolkit", ["cupy-cuda12x"], (12, 8), False, "the CUDA toolkit is missing: pip install 'cupy-cuda12x[ctk]'"),
    ("no toolkit", ["cupy-cuda12x"], (12, 8), True, "pip install --force-reinstall 'cupy-cuda12x[ctk]'"),
    ("a part not installed", ["cupy-cuda13x"], (13, 0), True, "pip install --force-reinstall 'cupy-cuda13x[ctk]'"),
    ("broken import", ["cupy-cuda12x"], (12, 8), False, "the CUDA toolkit is missing: pip install 'cupy-cuda12x[ctk]'"),
    ("broken import", ["cupy-cuda12x", "cupy-cuda13x"], (13, 0), True, BOTH.format("cupy-cuda13x")),
    ("no toolkit", ["cupy-cuda12x", "cupy-cuda13x"], (12, 2), True, BOTH.format("cupy-cuda12x")),
    (
        "no memory", ["cupy-cuda13x"], (13, 0), True,
        "end the process that holds the memory (nvidia-smi shows it), or take another GPU",
    ),
]  # fmt: skip


def machine(
    monkeypatch: pytest.MonkeyPatch, wheels: list[str], driver: tuple[int, int] | None, nvrtc: bool = True
) -> None:
    """A machine with those wheels, driver and compiler."""
    distributions = [*wheels, *["nvidia-cuda-nvrtc-cu12"] * nvrtc, "numpy"]
    found = [type("Distribution", (), {"metadata": {"Name": name}}) for name in distributions]
    monkeypatch.setattr(importlib.metadata, "distributions", lambda: found)
    monkeypatch.setattr(remedies, "cuda_of_driver", lambda: driver)
    for name in ("CUDA_PATH", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("nothing_found_yet")
@pytest.mark.parametrize(("broken", "wheels", "driver", "nvrtc", "what_to_do"), PATIENTS)
def test_what_to_do_about_a_gpu(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    broken: str,
    wheels: list[str],
    driver: tuple[int, int] | None,
    nvrtc: bool,
    what_to_do: str,
) -> None:
    breaks, reason, *_ = BROKEN[broken]
    breaks(monkeypatch)
    machine(monkeypatch, wheels, driver, nvrtc)
    code, out, _ = run(capsys, "--device", "cuda")
    assert code == 1
    first, second = out.splitlines()
    if broken == "not installed":  # instead of the wheels for every driver, those for this one are named below
        reason = "CuPy is not installed"
    assert first == f"{'cuda':<26} not usable: {reason}"
    assert second == f"{'':<26} what to do: {what_to_do}"


@pytest.mark.usefixtures("nothing_found_yet")
def test_a_gpu_number_too_high(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "cupy", cupy_with(lambda: 2))
    machine(monkeypatch, ["cupy-cuda13x"], (13, 0))
    _, out, _ = run(capsys, "--device", "cuda:2")
    first, second = out.splitlines()
    assert first.endswith("not usable: there is no GPU of that number; this machine has cuda:0 to cuda:1")
    assert second.endswith(
        "what to do: take one of those numbers, from 0; CUDA_VISIBLE_DEVICES renumbers the GPUs and hides the others"
    )


@pytest.mark.usefixtures("nothing_found_yet")
def test_an_environment_in_which_a_gpu_would_compute_wrongly(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    breaks, reason, *_ = BROKEN["streams per thread"]
    breaks(monkeypatch)
    machine(monkeypatch, ["cupy-cuda13x"], (13, 0))
    _, out, _ = run(capsys, "--device", "cuda")
    first, second = out.splitlines()
    assert first.endswith(f"not usable: {reason}")
    assert second.endswith("what to do: unset it and start Python again: CuPy reads it when it is imported")


def test_a_gpu_hidden_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, ["cupy-cuda13x"], (13, 0))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    advice = remedies.remedy(ErrorKind.NO_GPU)
    assert advice == "nvidia-smi -L must list a GPU; CUDA_VISIBLE_DEVICES is '-1', which may hide it"


@pytest.mark.usefixtures("nothing_found_yet")
@pytest.mark.parametrize(
    ("spec", "module", "title", "install"),
    [
        ("torch", "torch", "PyTorch", "pip install torch"),
        ("torch:cpu", "torch", "PyTorch", "pip install torch"),
        ("numba", "numba", "Numba", "pip install numba"),
        ("array_api_strict:device1", "array_api_strict", "array-api-strict", "pip install array-api-strict"),
    ],
)
def test_a_library_that_is_not_installed(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    spec: str,
    module: str,
    title: str,
    install: str,
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    code, out, _ = run(capsys, "--device", spec)
    assert code == 1
    first, second = out.splitlines()
    assert first == f"{spec:<26} not usable: {title} is not installed"
    assert second == f"{'':<26} what to do: {install}"
    _, everything, _ = run(capsys)  # which lists what could be installed, too
    assert f"{module:<26} not usable: {title} is not installed\n{second}\n" in everything


@pytest.mark.parametrize(
    ("kind", "what_to_do"),
    [
        (ErrorKind.CANNOT_IMPORT, "python -c 'import numba' must work first"),
        (ErrorKind.NO_MEMORY, "end the process that holds the memory, or take another device"),
        (ErrorKind.CANNOT_COMPUTE, ""),
        (ErrorKind.NO_SUCH_DEVICE, ""),
    ],
)
def test_remedies_of_other_libraries_follow_from_the_kind(kind: ErrorKind, what_to_do: str) -> None:
    found = doctor.finding("numba", DeviceError("any prose, even: no GPU of that number", kind, "numba"))
    assert found == doctor.Finding("numba", reason="any prose, even: no GPU of that number", remedy=what_to_do)


def raised(error: Exception) -> Device:
    raise error


@pytest.mark.parametrize("has_cuda", [True, False])
def test_a_gpu_of_pytorch_is_listed_where_it_has_one(monkeypatch: pytest.MonkeyPatch, has_cuda: bool) -> None:
    stand_in = SimpleNamespace(cuda=SimpleNamespace(is_available=lambda: has_cuda))
    monkeypatch.setitem(sys.modules, "torch", stand_in)
    monkeypatch.setattr(doctor, "available", lambda: [("cpu", find_device("cpu"))])
    error = DeviceError("it has no memory left", ErrorKind.NO_MEMORY)
    monkeypatch.setattr(doctor, "find_device", lambda spec: find_device(spec) if spec == "cpu" else raised(error))
    assert [found.spec for found in doctor.examine()] == ["cpu", *["torch:cuda"] * has_cuda]
    assert [found.spec for found in doctor.examine(["cpu"])] == ["cpu"]


def test_a_device_that_works_needs_no_remedy() -> None:
    found = doctor.finding("cpu", find_device("cpu"))
    assert (found.reason, found.remedy) == ("", "")


def test_free_and_total_memory_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "absent")
    pages = {"SC_PAGE_SIZE": 4096, "SC_AVPHYS_PAGES": 3 * 2**17, "SC_PHYS_PAGES": 7 * 2**18}
    monkeypatch.setattr(os, "sysconf", pages.__getitem__, raising=False)
    cpu = find_device("cpu")
    assert cpu.memory() == (3 * 2**29, 7 * 2**30)
    assert doctor.finding("cpu", cpu).text.endswith(", 1.5 of 7.0 GiB of memory free")
    (tmp_path / "absent").write_text("MemTotal: 7340032 kB\nMemFree: 1572864 kB\nMemAvailable:    2097152 kB\n")
    assert cpu.memory() == (2 * 2**30, 7 * 2**30)


@pytest.mark.parametrize("error", [ValueError, OSError, AttributeError])
def test_where_the_system_says_nothing_of_memory_nothing_is_told(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def unknown(name: str) -> int:
        raise error(name)

    monkeypatch.setattr(os, "sysconf", unknown, raising=False)
    cpu = find_device("cpu")
    assert cpu.memory() is None
    assert doctor.finding("cpu", cpu).text == f"{cpu.version()} on {cpu.hardware()}"


def test_a_driver_that_does_not_say_how_much_memory_there_is_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(self: Device) -> None:
        raise RuntimeError("from the driver")

    monkeypatch.setattr(Device, "memory", unknown)
    assert "memory" not in doctor.finding("cpu", find_device("cpu")).text


def test_both_wheels_are_mentioned_even_where_the_gpu_works(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, ["cupy-cuda12x", "cupy-cuda13x"], (13, 0))
    monkeypatch.setattr(EmulatedCudaDevice, "version", lambda self: "cupy 14.2.0")
    monkeypatch.setattr(EmulatedCudaDevice, "hardware", lambda self: "a GPU")
    device = EmulatedCudaDevice()
    first, second = doctor.finding("cuda:0", device).lines()
    assert first == f"{'cuda:0':<26} ready: cupy 14.2.0 on a GPU, 0.0 of 1.0 GiB of memory free"
    assert second == f"{'':<26} but: {BOTH.format('cupy-cuda13x')}"


def test_what_the_driver_says(monkeypatch: pytest.MonkeyPatch) -> None:
    class Library:
        def __init__(self, status: int) -> None:
            self.status = status

        def cuDriverGetVersion(self, number: Any) -> int:
            number._obj.value = 12080
            return self.status

    for library, version in ((Library(0), (12, 8)), (Library(3), None)):
        monkeypatch.setattr(ctypes, "CDLL", lambda name, library=library: library)
        assert remedies.cuda_of_driver() == version
    monkeypatch.setattr(ctypes, "CDLL", lambda name: (_ for _ in ()).throw(OSError("not found")))
    assert remedies.cuda_of_driver() is None
