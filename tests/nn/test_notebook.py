"""A notebook, executed: what it shows of models and histories, and of training while it runs."""

from __future__ import annotations

import re
from typing import Any

import pytest

from nn import History
from nn.notebook import html_table

CELLS = [
    "import numpy as np\nfrom nn import *\nx = np.eye(8, dtype=np.float32).repeat(4, 0)\ny = np.arange(8).repeat(4)",
    "model = Sequential(Linear(8, 5), ReLU(), Linear(5, 8), Softmax(), backend='cpu')\nmodel",
    "import time\nslowly = LambdaCallback(on_epoch_end=lambda trainer, record: time.sleep(0.02))\n"
    "trainer = Trainer(model, callbacks=[ProgressBar(), slowly])\nhistory = trainer.fit(x, y, epochs=30, batch_size=4)",
    "history",
    "trainer.summary()",
]


@pytest.fixture(scope="module")
def outputs() -> list[list[Any]]:
    """What each cell gives."""
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    nbclient.NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
    return [cell["outputs"] for cell in notebook["cells"]]


def html(outputs: list[Any]) -> str:
    (result,) = [output for output in outputs if output["output_type"] == "execute_result"]
    return str(result["data"]["text/html"])


def test_a_model_is_a_table_of_its_layers(outputs: list[list[Any]]) -> None:
    shown = html(outputs[1])
    assert shown.count("<tr>") == 6  # the head, four layers, the sum
    assert "Linear(8, 5)" in shown
    assert ">93<" in shown  # all parameters


def test_training_shows_a_bar(outputs: list[list[Any]]) -> None:
    text = "".join(output["text"] for output in outputs[2])
    assert {output["name"] for output in outputs[2]} == {"stderr"}
    assert "/960" in text
    assert re.search(r"epoch \d+/30: +[1-9]", text)
    assert "Traceback" not in text


def test_a_history_is_a_table_of_its_first_and_last_epochs(outputs: list[list[Any]]) -> None:
    shown = html(outputs[3])
    assert shown.count("<tr>") == 12  # the head, five, a gap, five
    assert "accuracy" in shown
    assert ">30<" in shown
    assert ">15<" not in shown


def test_a_summary_tells_of_its_memory(outputs: list[list[Any]]) -> None:
    assert "memory: parameters" in html(outputs[4])


def test_what_stands_in_a_table_is_text() -> None:
    assert "<b>" not in html_table(["<b>"], [["<b>"]], caption="<b>")
    history = History([{"epoch": 1, "loss": 0.123456}])
    history.stopped = "<script>"
    assert "<script>" not in history._repr_html_()
    assert "0.1235" in history._repr_html_()
