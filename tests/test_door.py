"""``import xpnet``: the one door to ``nn`` and ``backends``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import backends
import nn
import xpnet


def test_everything_of_nn_is_there_and_is_the_same() -> None:
    assert xpnet.nn is nn
    assert xpnet.backends is backends
    assert xpnet.__version__ == nn.__version__
    assert set(xpnet.__all__) == {*nn.__all__, "nn", "backends"}
    assert all(getattr(xpnet, name) is getattr(nn, name) for name in nn.__all__)


def test_another_package_of_the_name_is_told(tmp_path: Path) -> None:
    (tmp_path / "nn").mkdir()
    (tmp_path / "nn" / "__init__.py").write_text("")
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{Path(xpnet.__file__).parent}"}
    ended = subprocess.run(
        [sys.executable, "-c", "import xpnet"], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert ended.returncode == 1
    assert "xpnet needs its own package nn, but Python finds another one at" in ended.stderr
