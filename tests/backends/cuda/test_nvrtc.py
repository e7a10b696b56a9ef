"""The CUDA texts as NVIDIA's compiler reads them, with the options that they are compiled with. No GPU is needed."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from backends.cuda.launch import Parameter, parameters, texts
from backends.cuda.source.sizes import OPTIONS

cupy: Any = pytest.importorskip("cupy", exc_type=ImportError)

#: What CuPy adds to the options of a module (``cupy.cuda.compiler``), beside the kind of GPU.
ADDED = ("-ftz=true", "--device-as-default-execution-space")
#: Of each generation that xpnet may meet: CUDA 13 knows none before 75.
GENERATIONS = (75, 80, 90, 100, 120)
#: Bytes of shared memory that a block may have without asking for more.
SHARED_BYTES = 48 * 1024
#: Bytes of a thread that the compiler may keep in memory for want of registers.
MOST_SPILLED = 128


def compiled(text: str, *options: str) -> tuple[bytes, str]:
    """What NVRTC makes of a CUDA text: PTX or machine code, and what it has to say.

    Skips where it is not here, or does not know the options.
    """
    nvrtc = cupy.cuda.nvrtc
    try:
        program = nvrtc.createProgram(text, "kernels.cu", (), ())
    except Exception as error:
        pytest.skip(f"no NVRTC ({error})")
    try:
        nvrtc.compileProgram(program, (*OPTIONS, *ADDED, *options))
        is_code = any(option.startswith("-arch=sm_") for option in options)
        return (nvrtc.getCUBIN if is_code else nvrtc.getPTX)(program), nvrtc.getProgramLog(program)
    except nvrtc.NVRTCError:
        raise AssertionError(nvrtc.getProgramLog(program)) from None
    finally:
        nvrtc.destroyProgram(program)


def in_ptx(parameter: Parameter) -> str:
    """The type that a parameter must have in PTX: of as many bits, and of the same kind where it is no address."""
    if parameter.is_array:
        return "u64"
    kind = "f" if parameter.dtype.kind == "f" else "u"
    return f"{kind}{8 * np.dtype(parameter.dtype).itemsize}"


@pytest.mark.parametrize("real", ["float", pytest.param("double", marks=pytest.mark.slow)])
def test_every_kernel_takes_what_it_is_launched_with(real: str) -> None:
    """CuPy hands on the addresses of arguments, and nobody holds their sizes against the kernel's."""
    for text in texts(real):
        ptx, log = compiled(text, "-arch=compute_90")
        assert "warning" not in log
        entries = re.findall(r"\.entry (\w+)\((.*?)\)", ptx.decode(), re.DOTALL)
        found = {name: re.findall(r"\.param \.(\w+)", declared) for name, declared in entries}
        known = parameters(text, real)
        assert found == {name: [*map(in_ptx, of)] for name, of in known.items()}
        assert known


@pytest.mark.slow
@pytest.mark.parametrize("generation", GENERATIONS)
@pytest.mark.parametrize("real", ["float", "double"])
def test_every_kernel_fits_into_a_block_of_every_gpu(real: str, generation: int) -> None:
    for text in texts(real):
        code, log = compiled(text, f"-arch=sm_{generation}", "-Xptxas=-v")
        assert code.startswith(b"\x7fELF")
        told = re.findall(r"entry function '(\w+)'.*?(\d+) bytes spill stores.*?Used ([^\n]*)", log, re.DOTALL)
        assert {name for name, *_ in told} == {*parameters(text, real)}
        for name, spilled, used in told:
            shared = re.search(r"(\d+) bytes smem", used)
            assert shared is None or int(shared[1]) <= SHARED_BYTES, f"{name}: {used}"
            assert int(spilled) <= MOST_SPILLED, f"{name}: {spilled} bytes in memory for want of registers"
