"""The report of ``python -m benchmarks.gpu``, as Markdown and as JSON, made anew after each part."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nn.files import write_atomically

from .parts import Outcome, Part

#: Of what a part printed, the last lines.
LINES = 80


def write(folder: Path, about: dict[str, Any], parts: dict[str, Part], outcomes: dict[str, Outcome]) -> None:
    """``gpu.md`` and ``gpu.json``, and beside them the tables that parts have written."""
    folder.mkdir(parents=True, exist_ok=True)
    for outcome in outcomes.values():
        for name, text in outcome.tables.items():
            write_atomically(folder / name, text.encode())
    write_atomically(folder / "gpu.md", markdown(about, parts, outcomes).encode())
    record = {"about": about, "parts": {name: as_record(parts[name], outcomes.get(name)) for name in parts}}
    write_atomically(folder / "gpu.json", (json.dumps(record, indent=1) + "\n").encode())


def as_record(part: Part, outcome: Outcome | None) -> dict[str, Any]:
    """A part in the JSON."""
    known: dict[str, Any] = {"command": ["python", "-m", part.module, *part.arguments], "at_most": part.seconds}
    if outcome is None:
        return known | {"verdict": "not begun"}
    known |= {"verdict": outcome.verdict, "seconds": round(outcome.seconds, 2)}
    return known | {"result": outcome.result, "output": outcome.output, "errors": tail(outcome.errors)}


def markdown(about: dict[str, Any], parts: dict[str, Part], outcomes: dict[str, Outcome]) -> str:
    """What the machine is, a table of the parts, and what each of them found."""
    lines = ["# On a GPU", "", "| | |", "|---|---|"]
    for name, value in about.items():
        shown = ", ".join(f"{key} {text}" for key, text in value.items()) if isinstance(value, dict) else value
        lines.append(f"| {name} | {shown} |")
    lines += ["", "| part | | seconds | at most |", "|---|---|---|---|"]
    for name, part in parts.items():
        outcome = outcomes.get(name)
        verdict, spent = ("not begun", "") if outcome is None else (outcome.verdict, f"{outcome.seconds:.1f}")
        lines.append(f"| {part.title} | {verdict} | {spent} | {part.seconds:.0f} |")
    for name, outcome in outcomes.items():
        lines += ["", f"## {parts[name].title}: {outcome.verdict}", "", *shown_output(parts[name], outcome)]
    return "\n".join([*lines, ""])


def shown_output(part: Part, outcome: Outcome) -> list[str]:
    """What a part printed; where something is wrong, its errors too."""
    lines = []
    if outcome.output.strip():
        lines += [outcome.output.strip()] if part.is_markdown else ["```", tail(outcome.output), "```"]
    if outcome.errors.strip() and not outcome.good:
        lines += ["", "```", tail(outcome.errors), "```"]
    return lines


def tail(text: str) -> str:
    lines = text.strip().splitlines()
    return "\n".join(lines[-LINES:])
