"""Ctrl-C while a command of ours is being loaded: exit code 130 without a word. Other programs are left alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import backends

ROOT = Path(backends.__file__).parents[1]
pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals as POSIX has them")
#: A library that interrupts whoever imports it, and would drop the exception.
INTERRUPTS = """
import os, signal, time
try:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(1)
except KeyboardInterrupt:
    pass
raise ImportError("no such library")
"""


def interrupted(folder: Path, words: list[str], handler: int) -> tuple[int, str, str]:
    """Exit code and output of Python with these words, where NumPy interrupts it."""
    (folder / "numpy").mkdir()
    (folder / "numpy" / "__init__.py").write_text(INTERRUPTS)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}
    done = subprocess.run(
        [sys.executable, *words], env=environment, cwd=folder, capture_output=True, text=True, check=False,
        preexec_fn=lambda: signal.signal(signal.SIGINT, handler),
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("words", [["-m", "nn", "predict", "m", "x"], ["-W", "error", "-m", "backends"]])
def test_a_command_ends_without_a_word(words: list[str], tmp_path: Path) -> None:
    assert interrupted(tmp_path, words, signal.SIG_DFL) == (130, "", "")


@pytest.mark.parametrize("words", [["-c", "import nn"], ["-m", "mine"], ["-m", "mine", "-m", "nn"]])
def test_other_programs_get_the_exception(words: list[str], tmp_path: Path) -> None:
    """Also a package of their own, which imports ours."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "__init__.py").write_text("import nn\n")
    (tmp_path / "mine" / "__main__.py").write_text("")
    code, _, err = interrupted(tmp_path, words, signal.SIG_DFL)
    assert code == 1
    assert "no such library" in err


def test_a_command_that_ignores_ctrl_c_goes_on(tmp_path: Path) -> None:
    """As one that a shell has started in the background."""
    code, _, err = interrupted(tmp_path, ["-m", "nn"], signal.SIG_IGN)
    assert code == 1
    assert "no such library" in err


@pytest.mark.parametrize("module", ["nn", "backends"])
def test_main_catches_it_by_itself(module: str) -> None:
    """When everything is loaded, the handler is Python's again."""
    program = (
        "import runpy, signal, sys\n"
        f"sys.argv[:] = ['-m', '--version' if {module!r} == 'nn' else 'nothing']\n"
        f"sys.orig_argv = ['python', '-m', {module!r}]\n"
        "try:\n"
        f"    runpy.run_module('{module}.__main__', run_name='__main__')\n"
        "except SystemExit:\n"
        "    print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False,
                          preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))  # fmt: skip
    assert done.stdout.endswith("True\n"), done.stderr


def test_ctrl_c_ends_the_doctor_without_a_traceback() -> None:
    program = (
        "import sys\nimport backends.__main__ as doctor\ndef stop(*_): raise KeyboardInterrupt\n"
        "doctor.examine = stop\nsys.exit(doctor.main([]))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
