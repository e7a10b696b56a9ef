"""Lay the reports of two runs or more side by side: what differs in their settings, their figures, and their curves."""

from __future__ import annotations

import json
import re
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import count
from pathlib import Path
from typing import Any

from ..files import check_writable, what_is_no_file, write_atomically
from .collected import FORMAT, NO_CURVES, look_of
from .html import duration, figure, in_words, page_text, points, said, section, table
from .svg import Curve, curves

#: How many epochs the terminal shows.
MOST_EPOCHS = 12
#: Settings that say what becomes of a run, and not what it is.
BESIDE_THE_RUN = ("report", "output", "overwrite", "resume", "checkpoint_every", "quiet")
#: Values of settings are cut after so many letters on a terminal.
WIDEST = 40
Report = dict[str, Any]
#: A line of a table: its name and what each run has there.
Line = tuple[str, list[str]]
#: For the help of the command.
EXAMPLES = (
    ("python -m nn compare a.html b.html", "what differs between two runs, and their curves"),
    ("python -m nn compare runs/*.html --output all.html", "several runs, also as a page"),
)


def arguments(parser: ArgumentParser) -> None:
    """The words of ``python -m nn compare``."""
    parser.add_argument("reports", nargs="+", metavar="REPORT", help="files that train.py --report wrote; two or more")
    parser.add_argument("--output", metavar="FILE", help="write the comparison as HTML, too, with the curves")


def run(options: Namespace) -> int:
    """Print the comparison, and write it where that is asked for."""
    if len(options.reports) < 2:
        raise ValueError("there is nothing to compare with; name two reports or more")
    if options.output is not None:
        check_writable(Path(options.output), "--output")
    found = [read_report(path) for path in options.reports]
    names = short_names(options.reports)
    print(comparison_text(found, names))
    if options.output is not None:
        write_atomically(Path(options.output), comparison_page(found, names).encode())
        print(f"\nwrote {options.output}")
    return 0


def read_report(path: str | Path) -> Report:
    """What ``write_report`` wrote to ``path``, as numbers and text.

    Raises:
        ValueError: it is no report of this version of xpnet, or cannot be read.
    """
    if kind := what_is_no_file(Path(path)):
        raise ValueError(f"{path} is {kind}, not a file; name the file that train.py --report wrote")
    try:
        page = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise ValueError(f"{path} cannot be read: {reason}") from None
    found = re.search(r'<script type="application/json" id="report">(.*?)</script>', page, flags=re.DOTALL)
    try:
        report = json.loads(found[1]) if found else None
    except (ValueError, RecursionError):
        report = None
    if not isinstance(report, dict) or report.get("format") != FORMAT:
        raise ValueError(f"{path} is no report that this version of xpnet wrote; train.py --report FILE writes one")
    return report


def short_names(paths: Sequence[str]) -> list[str]:
    """The names of files without their folders, where these tell them apart; else as they were given."""
    names = [Path(path).name for path in paths]
    if len({*names}) == len(names):
        return names
    if len({*paths}) == len(paths):
        return list(paths)
    numbers = count(1)
    return [f"{path} ({next(numbers)})" for path in paths]


# ---- what is compared ------------------------------------------------------------------------------------------------


def different_settings(reports: Sequence[Report]) -> list[Line]:
    """Settings, network, rows and versions in which the runs differ."""
    tables = [
        {
            **report["settings"],
            "layers": ", ".join(report["network"]["layers"]),
            "optimizer, as it ended": report["network"]["optimizer"],
            **({} if report["settings"] else in_network(report["network"])),
            **{f"{name} rows": rows for name, rows in report["rows"].items()},
            **{name: text for name, text in report["environment"].items() if name != "written"},
        }
        for report in reports
    ]
    names = dict.fromkeys(name for found in tables for name in found if name not in BESIDE_THE_RUN)
    lines = []
    for name in names:
        values = [said(found[name]) if name in found else "-" for found in tables]
        if len({*values}) > 1:
            lines.append((name.replace("_", " "), values))
    return lines


def in_network(network: Mapping[str, Any]) -> dict[str, Any]:
    """What else the settings would tell, of a report without them; those of earlier versions know no augment."""
    told = {name: network[name] for name in ("loss", "seed")}
    return told | {"augment": network.get("augment") or "nothing"}


def figures(reports: Sequence[Report]) -> list[Line]:
    """The results, and what they cost."""
    lines: list[Line] = []
    for name in dict.fromkeys(name for report in reports for name in report["result"]):
        cells = [figure(name, report["result"][name]) if name in report["result"] else "-" for report in reports]
        lines.append((f"test {in_words(name)}", cells))
    best = [report["best"]["epoch"] for report in reports]
    return [
        *lines,
        ("epochs", [f"{report['epochs']:,}" for report in reports]),
        ("best epoch", ["-" if epoch is None else f"{epoch:,}" for epoch in best]),
        ("training time", [duration(report["seconds"]) for report in reports]),
        ("parameters", [f"{report['network']['parameters']:,}" for report in reports]),
        ("SHA-256 of the weights", [report["weights_sha256"][:16] for report in reports]),
    ]


def columns(reports: Sequence[Report]) -> list[str]:
    """The columns of the histories that are curves; the learning rate where it moves within a run."""
    names = dict.fromkeys(name for report in reports for name in report["history"])
    moves = any(len({*report["history"].get("learning_rate", [])}) > 1 for report in reports)
    left_out = NO_CURVES - ({"learning_rate"} if moves else set())
    return [name for name in names if name not in left_out]


def title_of(column: str) -> str:
    """A column of the history in words."""
    base = column.removeprefix("val_")
    if base in NO_CURVES:
        return base.replace("_", " ")
    return f"{in_words(base)}, {'validation' if column != base else 'training'}"


# ---- as text ---------------------------------------------------------------------------------------------------------


def comparison_text(reports: Sequence[Report], names: Sequence[str]) -> str:
    """Settings that differ, figures and curves, for a terminal."""
    differ = different_settings(reports)
    parts = [
        text_table(("", [*names]), [("run", [report["title"] or "-" for report in reports]), *figures(reports)]),
        text_table(("settings that differ", [*names]), differ) if differ else "no setting differs",
    ]
    for column in columns(reports):
        if lines := at_epochs(reports, column):
            parts.append(text_table((f"{title_of(column)}, by epoch", [*names]), lines))
    return "\n\n".join(parts)


def at_epochs(reports: Sequence[Report], column: str) -> list[Line]:
    """The values of a column at some epochs, the first and the last among them."""
    curves_of = [dict(points(report["history"], column)) for report in reports]
    epochs = sorted({epoch for curve in curves_of for epoch in curve})
    step = -(-len(epochs) // MOST_EPOCHS)
    shown = [epoch for index, epoch in enumerate(epochs) if index % step == 0 or index == len(epochs) - 1]
    return [
        (f"{epoch:g}", [figure(column, curve[epoch]) if epoch in curve else "-" for curve in curves_of])
        for epoch in shown
    ]


def text_table(head: Line, lines: Iterable[Line]) -> str:
    """A table of columns that are as wide as they must be."""
    rows = [[name, *cells] for name, cells in (head, *lines)]
    rows = [[cell if len(cell) <= WIDEST else f"{cell[: WIDEST - 3]}..." for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


# ---- as a page -------------------------------------------------------------------------------------------------------


def comparison_page(reports: Sequence[Report], names: Sequence[str]) -> str:
    """The same as HTML, with the curves over each other."""
    charts = []
    for column in columns(reports):
        lines = [Curve(name, points(report["history"], column)) for name, report in zip(names, reports, strict=True)]
        if any(line.points for line in lines):
            charts.append(curves(title_of(column), lines, **look_of(column)))
    differ = different_settings(reports)
    head = ["", *names]
    main = (
        section("Figures", table(head, [(name, *cells) for name, cells in figures(reports)])),
        section("Curves", f'<div class="charts">{"".join(charts)}</div>') if charts else "",
        section("Settings that differ", table(head, [(name, *cells) for name, cells in differ]))
        if differ
        else section("Settings", "<p>None differs.</p>"),
    )
    runs = (
        f"{name}: {report['title']}" if report["title"] else name for name, report in zip(names, reports, strict=True)
    )
    return page_text(
        title=" and ".join(names), lead=escape("; ".join(runs)), main="\n".join(main), report={"format": "comparison"}
    )
