"""``python -m benchmarks.gpu.trained``: a network trained on the CPU and on a GPU, and the two runs compared.

With MNIST's files in the folder named by XPNET_DATA it is the recipe ``momentum``; else a network on scikit-learn's
digits. Each device trains from the same start in float32, and the test accuracies must be the same within ``SPREAD``,
or two rows where that is more; then ``--compare`` makes the first steps on both in lockstep, tensor by tensor.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import train
from backends import DeviceError, get_backend

SPREAD = 0.002
RECIPE = ["--recipe", "momentum"]
DIGITS = [
    *("--data", "digits", "--hidden", "64", "--activation", "sigmoid", "--learning-rate", "0.5", "--momentum", "0.9"),
    *("--dampening", "0.9", "--batch-size", "32", "--epochs", "30"),
]


def main(argv: Sequence[str] | None = None) -> int:
    """Train, compare and print; 1 if the devices disagree."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.trained", description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cuda", help="cuda, or cuda:N")
    parser.add_argument("--digits", action="store_true", help="digits even where MNIST is there")
    parser.add_argument("--limit", type=int, metavar="ROWS", help="use only the first ROWS rows: a try")
    parser.add_argument("--epochs", type=int, help="of the training; as the recipe says")
    parser.add_argument("--steps", type=int, default=200, help="that are compared")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where figures go, after each device")
    settings = parser.parse_args(argv)
    try:
        get_backend(settings.device)
    except DeviceError as error:
        parser.error(str(error))
    flags = [*(DIGITS if settings.digits or not os.environ.get("XPNET_DATA") else RECIPE), "--quiet"]
    for flag, value in (("--epochs", settings.epochs), ("--limit", settings.limit)):
        flags += [] if value is None else [flag, str(value)]
    print(f"`python train.py {' '.join(flags)}`\n")
    print("| device | training, s | last epoch, s | test loss | test accuracy | test rows |\n|---|---|---|---|---|---|")
    found: dict[str, Any] = {"flags": flags}
    for device in ("cpu", settings.device):
        found[device] = run(flags, device)
        print("| " + " | ".join([device, *(f"{value:.6g}" for value in found[device].values())]) + " |", flush=True)
        write(settings.json, found)
    of_cpu, of_gpu = found["cpu"], found[settings.device]
    found["same"] = abs(of_gpu["test_accuracy"] - of_cpu["test_accuracy"]) <= max(SPREAD, 2 / of_cpu["test_rows"])
    print(f"\nThe accuracies are {'the same' if found['same'] else 'NOT the same'}.\n", flush=True)
    code = train.main([*flags, "--compare", f"cpu,{settings.device}", "--compare-steps", str(settings.steps)])
    found["agree"] = code == 0
    write(settings.json, found)
    return int(not (found["same"] and found["agree"]))


def run(flags: list[str], device: str) -> dict[str, float]:
    """Train on a device: seconds and the result."""
    prepared = train.prepare(train.parse([*flags, "--device", device])[0])
    begun = perf_counter()
    train.train(prepared)
    seconds = perf_counter() - begun
    result = prepared.test_result
    assert result is not None
    assert prepared.test is not None
    return {
        "seconds": seconds,
        "last_epoch": prepared.trainer.history[-1]["seconds"],
        "test_loss": result["loss"],
        "test_accuracy": result["accuracy"],
        "test_rows": len(prepared.test),
    }


def write(path: Path | None, found: dict[str, Any]) -> None:
    if path is not None:
        path.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
