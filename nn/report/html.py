"""A report of a run as one HTML file: curves, figures, pictures, and a pad on which a person draws for the network.

The page needs no network and no library: its style and its script (``page/``), pictures and weights stand in it. What
it says stands in it as JSON, too, which ``python -m nn compare`` reads (``nn.report.compared``).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from ..data import Dataset
from ..files import write_atomically
from ..trainer import Trainer
from ..version import __version__
from .collected import REGRESSION, all_names, collect, curve_names, look_of, shortened
from .convolutions import convolutions, filters_of, maps_of
from .embedded import BITS, NO_PICTURES, NO_PROBABILITIES, drawings_of, network_of, pen_of, why_not
from .pictures import from_0_to_1, picture_shape, pictures_of, range_of
from .plots.weights import weights_of_pixels
from .png import data_uri, signed
from .svg import Curve, curves, scatter

#: No report is larger, in bytes.
MOST_BYTES = 1_000_000
#: A confusion matrix of more classes is a picture.
MOST_CELLS = 30
MOST_UNITS = 64
#: Channels of a filter that are shown.
MOST_CHANNELS = 16
#: Feature maps of a row, and how large they are.
MOST_MAPS = 32
MOST_MAP_PIXELS = 32
#: Names of classes are cut after so many letters in the matrix.
LONGEST_NAME = 40
#: Pictures are drawn with at most so many pixels a side.
MOST_PIXELS = 64
#: Rows of a table that is folded away.
MOST_LINES = 200

PAGE = Path(__file__).parent / "page"


def write_report(
    path: str | Path,
    trainer: Trainer,
    test: Dataset | tuple[Any, Any] | None = None,
    *,
    title: str = "",
    command: str = "",
    settings: Mapping[str, Any] | None = None,
    rows: Mapping[str, int] | None = None,
) -> None:
    """Write a report of the trainer's run to ``path``, whole or not at all: HTML, less than 1 MB.

    Where the trainer averages parameters, the report is of the averaged ones, as a saved model is.

    Args:
        test: rows to judge the network by, which it has not seen; without them there are curves and settings only.
            Where they are pictures of one channel, the page has a pad to draw on.
        title: what was trained on what.
        command: the command line that repeats the run.
        settings: what else decides the run, by name: numbers, text, lists.
        rows: how many rows there were, as in ``{"training": 60000}``; the test rows are counted.

    Raises:
        ValueError, TypeError: ``test`` does not fit the network, or a number of ``settings`` is not finite.
        FileNotFoundError: there is no such folder.
    """
    data = None if test is None else trainer.model.dataset(test)
    with trainer.averaged():
        found = collect(trainer, data, title=title, command=command, settings=settings, rows=rows)
        page = _page_under(MOST_BYTES, trainer, data, found)
    write_atomically(path, page.encode())


def _page_under(most: int, trainer: Trainer, data: Dataset | None, found: dict[str, Any]) -> str:
    """The page with the weights as exact as its size allows, and without them where it allows none."""
    why = why_not(trainer.model, data)
    drawings = None if data is None or why else drawings_of(trainer.model, data)
    if data is not None and drawings is not None:
        names, pen = all_names(trainer.model, data), pen_of(drawings)
        around = len(_page(found, sections(found, trainer, data, drawing(BITS[-1], pen)), None).encode())
        for bits in BITS:
            network = network_of(trainer.model, data, names, bits, pen)
            if around + len(as_json(network)) < most:
                return _page(found, sections(found, trainer, data, drawing(bits, pen)), network)
        why = "its weights would make the page larger than 1 MB"
    return _page(found, sections(found, trainer, data, no_drawing(why)), None)


def _page(found: Mapping[str, Any], main: str, network: Mapping[str, Any] | None) -> str:
    return page_text(found["title"] or "A network trained by xpnet", lead(found), main, found, network)


def page_text(
    title: str, lead: str, main: str, report: Mapping[str, Any], network: Mapping[str, Any] | None = None
) -> str:
    """The whole page: a title (text), the line below it and the sections (HTML), and what is embedded as JSON.

    Names of files may have bytes in them that are no UTF-8: what stands for these has no place in a page.
    """
    page = Template((PAGE / "page.html").read_text(encoding="utf-8")).substitute(
        title=escape(title),
        lead=lead,
        main=main,
        version=escape(__version__),
        style=(PAGE / "page.css").read_text(encoding="utf-8"),
        script=(PAGE / "page.js").read_text(encoding="utf-8"),
        report=as_json(report),
        network=as_json(network),
    )
    return page.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def as_json(content: Any) -> str:
    """JSON that can stand inside a ``<script>``: nothing in it ends the element."""
    return json.dumps(content, default=str, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


# ---- sections --------------------------------------------------------------------------------------------------------


def sections(found: dict[str, Any], trainer: Trainer, data: Dataset | None, draw: str) -> str:
    """All of them, from the result down to the settings."""
    return "\n".join(
        (
            figures(found),
            section("Training", training_curves(found), history_table(found["history"])),
            draw,
            classes(found["classes"]) if "classes" in found else "",
            mistakes(found["classes"], trainer, data) if "classes" in found and data is not None else "",
            values(found["values"]) if "values" in found else "",
            weights(trainer, data),
            filters(trainer),
            feature_maps(trainer, data, found["classes"]["examples"])
            if data is not None and "examples" in found.get("classes", {})
            else "",
            about(found),
        )
    )


def section(head: str, *parts: str) -> str:
    return f"<section><h2>{escape(head)}</h2>\n" + "\n".join(parts) + "\n</section>"


def lead(found: Mapping[str, Any]) -> str:
    """The network and what it was trained by, in a line."""
    network = found["network"]
    text = f"{network['parameters']:,} parameters, {network['loss']}, {network['optimizer']}"
    text += f"; training pictures distorted: {network['augment']}" if network["augment"] else ""
    return escape(text + (f"; stopped: {found['stopped']}" if found["stopped"] else ""))


def figures(found: Mapping[str, Any]) -> str:
    """The result in large figures."""
    shown: list[tuple[str, str, str]] = []
    classes = found.get("classes")
    for name, value in found["result"].items():
        small = ""
        if name == "accuracy" and classes:
            small = f"{classes['correct']:,} of {found['rows']['test']:,}"
        shown.append((f"test {in_words(name)}", figure(name, value), small))
    shown.sort(key=lambda entry: entry[0] != "test accuracy")
    if found["best"]["epoch"] is not None:
        why = f"by {found['best']['why'].replace('val_', 'validation ')}"
        why += "; its weights are in the model" if found["best"]["kept"] else ""
        shown.append(("best epoch", f"{found['best']['epoch']:,} of {found['epochs']:,}", why))
    elif found["epochs"]:
        shown.append(("epochs", f"{found['epochs']:,}", ""))
    if found["epochs"]:
        rate = [value for value in found["history"].get("rows_per_second", []) if value is not None]
        small = f"{np.median(rate):,.0f} rows per second" if rate else ""
        shown.append(("training time", duration(found["seconds"]), small))
    inside = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}<small>{escape(small)}</small></dd></div>"
        for name, value, small in shown
    )
    return f'<dl class="figures">{inside}</dl>' if inside else ""


def in_words(name: str) -> str:
    """A figure by its name in words."""
    return REGRESSION.get(name, name.replace("_", " "))


def figure(name: str, value: float | None) -> str:
    """A figure of a result, accuracies in percent; None stands for one that is not finite."""
    if value is None:
        return "not finite"
    return f"{value:.2%}" if "accuracy" in name else f"{value:.4g}"


def duration(seconds: float) -> str:
    """A time as a person says it."""
    if seconds < 90:
        return f"{seconds:.3g} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def training_curves(found: Mapping[str, Any], name: str = "training") -> str:
    """A chart for each column of the history and its twin of the validation rows; the learning rate where it moves."""
    history, best = found["history"], found["best"]["epoch"]
    if not history:
        return '<p class="note">Nothing was trained.</p>'
    charts = []
    for column in curve_names(history):
        lines = [Curve(name, points(history, column)), Curve("validation", points(history, f"val_{column}"))]
        if any(line.points for line in lines):
            charts.append(curves(in_words(column), lines, best=best, **look_of(column)))
    rates = points(history, "learning_rate")
    note = "Training: the mean over an epoch, each batch before its update. Validation: after the epoch."
    if len({rate for _, rate in rates}) > 1:
        charts.append(curves("learning rate", [Curve("learning rate", rates)], best=best))
    elif rates:
        note += f" The learning rate was {rates[0][1]:g} throughout."
    return f'<div class="charts">{"".join(charts)}</div><p class="note">{note}</p>'


def points(history: Mapping[str, Sequence[Any]], column: str) -> list[tuple[float, float]]:
    """(epoch, value) of the epochs that have one."""
    pairs = zip(history["epoch"], history.get(column, []), strict=False)
    return [(epoch, value) for epoch, value in pairs if value is not None]


def history_table(history: Mapping[str, Sequence[Any]]) -> str:
    """The numbers behind the curves, folded away."""
    if not history:
        return ""
    rows = list(zip(*history.values(), strict=True))
    step = -(-len(rows) // MOST_LINES)
    rows = [row for index, row in enumerate(rows) if index % step == 0 or index == len(rows) - 1]
    cells = [["" if value is None else f"{value:.6g}" for value in row] for row in rows]
    which = "every epoch" if step == 1 else f"one of {step} epochs"
    return f"<details><summary>The numbers, {which}</summary>{table(list(history), cells)}</details>"


def classes(found: Mapping[str, Any]) -> str:
    """The confusion matrix beside the figures of each class."""
    head = f"{found['correct']:,} of {found['correct'] + found['wrong']:,} test rows are correct"
    if "table" not in found:
        return section("Classes", f"<p>{head}. There are {found['count']:,} classes, too many for a table.</p>")
    cells = [
        [name, f"{entry['precision']:.4f}", f"{entry['recall']:.4f}", f"{entry['f1']:.4f}", f"{entry['rows']:,}"]
        for name, entry in zip(found["names"], found["table"], strict=True)
    ]
    return section(
        "Classes",
        f'<div class="columns"><div class="wide">{confusion(found, head)}</div>',
        f'<div class="wide">{table(["class", "precision", "recall", "f1", "rows"], cells)}</div></div>',
    )


def confusion(found: Mapping[str, Any], head: str) -> str:
    """A row for each true class, a column for each predicted one; the colour of a cell is its share of its row."""
    counts, names = np.array(found["confusion"]), [shortened(name, LONGEST_NAME) for name in found["names"]]
    shares = (counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)) ** (1 / 3)  # mistakes are rare: tell 1% from 0
    caption = f"{head}. Rows are the true classes, columns the predicted ones."
    if len(names) > MOST_CELLS:
        pixels = np.zeros((*shares.shape, 4), np.uint8)
        pixels[..., :3], pixels[..., 3] = (37, 99, 176), np.rint(shares * 255)
        image = f'<img src="{data_uri(pixels)}" alt="confusion matrix" style="width:100%;image-rendering:pixelated">'
        return f"<figure><figcaption>{escape(caption)}</figcaption>{image}</figure>"
    lines = []
    for name, row, share in zip(names, counts, shares, strict=True):
        inside = "".join(
            f'<td style="--share:{part:.2f}" title="{escape(name)} taken for {escape(other)}: {count:,}"'
            f"{' class=full' if part > 0.6 else ' class=none' if not count else ''}>{count}</td>"
            for other, count, part in zip(names, row, share, strict=True)
        )
        lines.append(f'<tr><th scope="row">{escape(name)}</th>{inside}</tr>')
    across = "".join(f'<th scope="col">{escape(name)}</th>' for name in names)
    return (
        f'<table class="matrix"><caption>{escape(caption)}</caption><thead><tr><td></td>{across}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table>"
    )


def mistakes(found: Mapping[str, Any], trainer: Trainer, data: Dataset) -> str:
    """What the network is sure of and mistaken: pictures where rows are pictures, else a table."""
    if "mistakes" not in found:
        return ""
    worst = found["mistakes"]
    wrong = found["wrong"]
    if not worst:
        return section("Mistakes", "<p>There are none: all test rows are predicted correctly.</p>")
    which = f"The {len(worst)} surest of {wrong:,} mistakes" if len(worst) < wrong else "All mistakes, the surest first"
    note = f'<p class="note">{which}: what was predicted, with its probability, and what is true.</p>'
    images = pictures(trainer, data, [m["row"] for m in worst])
    if images is None:
        cells = [[m["row"], m["predicted"], figure("", m["probability"]), m["label"]] for m in worst]
        return section("Surest mistakes", note, table(["row", "predicted", "probability", "label"], cells))
    items = "".join(
        f'<li title="row {m["row"]}"><img src="{data_uri(image)}" alt="test row {m["row"]}, a picture of '
        f'{escape(m["label"])}"><span class="wrong">{escape(m["predicted"])}</span> {figure("", m["probability"])}'
        f"<br>is {escape(m['label'])}</li>"
        for m, image in zip(worst, images, strict=True)
    )
    return section("Surest mistakes", note, f'<ul class="pictures">{items}</ul>')


def pictures(trainer: Trainer, data: Dataset, rows: Sequence[int]) -> np.ndarray | None:
    """Rows as uint8 pictures, grey or in colours, of at most ``MOST_PIXELS`` a side; None where they are none."""
    found = pictures_of(trainer.model, data, rows)
    if found is None:
        return None
    step = -(-max(found.shape[1:3]) // MOST_PIXELS)
    scaled = from_0_to_1(found[:, ::step, ::step], *range_of(data))
    pixels: np.ndarray = np.rint(scaled * 255).astype(np.uint8)
    return pixels


def values(found: Mapping[str, Any]) -> str:
    """Predicted beside true values."""
    shown, of_all = len(found["points"]), found["all_points"]
    which = f"{shown:,} of {of_all:,} test values" if shown < of_all else f"all {of_all:,} test values"
    chart = scatter("predicted against true", found["points"]) if found["points"] else ""
    return section(
        "Values",
        f'<p class="note">{which}; on the dashed line both are equal.</p>',
        f'<div class="charts">{chart}</div>',
    )


def weights(trainer: Trainer, data: Dataset | None) -> str:
    """The weights of each unit of the first layer as a picture, where there is one for each pixel."""
    shape = None if data is None else picture_shape(trainer.model, data)
    found = None if shape is None else weights_of_pixels(trainer.model, shape)
    if found is None or shape is None:
        return ""
    units = found.shape[1]
    images = found.T[:MOST_UNITS].reshape(-1, *shape)
    images = images.mean(axis=3) if images.ndim == 4 else images
    step = -(-max(images.shape[1:]) // MOST_PIXELS)
    items = "".join(
        f'<li><img src="{data_uri(signed(image[::step, ::step]))}" alt="weights of unit {unit}" title="unit {unit}: '
        f'{image.min():.3g} to {image.max():.3g}"></li>'
        for unit, image in enumerate(images)
    )
    which = f"{len(images)} of {units:,} units" if len(images) < units else f"all {units} unit{'s' * (units != 1)}"
    note = f"What {which} look for: ink on red raises their sum, on blue lowers it. Each has a scale of its own."
    return section(
        "Weights of the first layer", f'<p class="note">{note}</p>', f'<ul class="pictures weights">{items}</ul>'
    )


def filters(trainer: Trainer) -> str:
    """The filters of the first convolution, all on one scale, their channels side by side."""
    if not convolutions(trainer.model):
        return ""
    index, weights = filters_of(trainer.model)
    shown = weights[:MOST_UNITS, :MOST_CHANNELS]
    limit = float(np.abs(shown).max())
    items = "".join(
        f'<li><img src="{data_uri(signed(side_by_side(each), limit))}" alt="filter {number}" title="filter {number}: '
        f'{each.min():.3g} to {each.max():.3g}"></li>'
        for number, each in enumerate(shown)
    )
    of_layer = f"{some(len(shown), len(weights), 'filter')} of layer {index}, {trainer.model[index]!r}"
    note = f"What {of_layer}, look for: ink on red raises the answer, on blue lowers it. All have one scale."
    if (channels := weights.shape[1]) > 1:
        note += f" Of each filter {some(shown.shape[1], channels, 'channel')} stand side by side."
    return section(
        "Filters of the first convolution",
        f'<p class="note">{escape(note)}</p>',
        f'<ul class="pictures weights">{items}</ul>',
    )


def side_by_side(images: np.ndarray) -> np.ndarray:
    """Pictures (n, h, w) as one, (h, w') with a column of zeros between them."""
    return np.concatenate([np.pad(image, ((0, 0), (0, 1))) for image in images], axis=1)[:, :-1]


def some(shown: int, total: int, what: str) -> str:
    """How many of them are shown, in words."""
    return f"{shown} of {total:,} {what}s" if shown < total else f"all {total} {what}s" if total > 1 else f"the {what}"


def feature_maps(trainer: Trainer, data: Dataset, examples: Sequence[Mapping[str, Any]]) -> str:
    """What the filters of the first convolution answer to a test row that is predicted correctly and to one that is
    not, all on one scale."""
    model, rows = trainer.model, [example["row"] for example in examples]
    images = pictures(trainer, data, rows)
    if images is None:
        return ""
    layers, maps = maps_of(model, data[np.array(rows)])
    total, step = maps.shape[1], -(-max(maps.shape[2:]) // MOST_MAP_PIXELS)
    maps = maps[:, :MOST_MAPS, ::step, ::step]
    limit = float(np.abs(maps).max())
    parts = []
    for example, image, found in zip(examples, images, maps, strict=True):
        row, label, predicted = example["row"], escape(example["label"]), escape(example["predicted"])
        seen = f"seen as {label}" if predicted == label else f'taken for <span class="wrong">{predicted}</span>'
        answers = "".join(
            f'<li><img src="{data_uri(signed(each, limit))}" alt="map {number} of test row {row}" '
            f'title="map {number}: {each.min():.3g} to {each.max():.3g}"></li>'
            for number, each in enumerate(found)
        )
        parts.append(
            f'<div class="maps"><figure><img src="{data_uri(image)}" alt="test row {row}, a picture of {label}">'
            f"<figcaption>test row {row}: {label}, {seen}</figcaption></figure>"
            f'<ul class="pictures weights">{answers}</ul></div>'
        )
    computed = " and ".join(f"layer {index}, {model[index]!r}" for index in layers)
    which = some(maps.shape[1], total, "filter")
    note = f"What {which} of {computed}, answer to a test row: red above 0, blue below. All have one scale."
    return section("Feature maps", f'<p class="note">{escape(note)}</p>', *parts)


def drawing(bits: int, pen: Mapping[str, Any]) -> str:
    """The pad, beside it what the network gets and what it says."""
    rounded = f" Its weights are rounded to {bits} bits here, so that the page stays small." if bits < 32 else ""
    height = round(280 * pen["height"] / pen["width"])
    small = f'width="{pen["width"]}" height="{pen["height"]}"'
    return section(
        "Draw for the network",
        '<p class="note">The drawing is scaled and centred like the rows that the network has learnt from. The network '
        f"runs in this page.{rounded}</p>",
        f'<div id="draw"><div><canvas id="pad" width="280" height="{height}" style="height:{height}px" role="img" '
        'aria-label="pad to draw on"></canvas><button id="clear" type="button">Clear</button>'
        '<button id="row" type="button">Show a test row</button></div>'
        f'<div><canvas id="seen" {small} role="img" aria-label="what the network gets"></canvas>'
        '<p class="note">what it gets</p></div>'
        '<div><p id="answer" role="status"></p><dl id="bars" aria-label="probabilities"></dl></div></div>',
        "<noscript><p>This needs JavaScript.</p></noscript>",
    )


def no_drawing(why: str) -> str:
    """Nothing, unless the rows are pictures and something else is in the way."""
    if why in (NO_PICTURES, NO_PROBABILITIES):
        return ""
    return section("Draw for the network", f'<p class="note">Not offered here: {escape(why)}.</p>')


def about(found: Mapping[str, Any]) -> str:
    """How to repeat the run: command, network, rows, settings, versions, checksum."""
    command = f"<p>The command that repeats it:</p><pre>{escape(found['command'])}</pre>" if found["command"] else ""
    rows = [f"{count:,} {name}" for name, count in found["rows"].items()]
    facts = [
        ("run", found["run"]),
        ("network", ", ".join(found["network"]["layers"])),
        ("loss", found["network"]["loss"]),
        ("optimizer", found["network"]["optimizer"]),
        ("augment", found["network"]["augment"]),
        ("seed", str(found["network"]["seed"])),
        ("rows", ", ".join(rows)),
        *found["environment"].items(),
        ("SHA-256 of the weights", found["weights_sha256"]),
    ]
    settings = [(name, said(value)) for name, value in found["settings"].items()]
    listed = f"<details><summary>All settings</summary>{pairs(settings)}</details>" if settings else ""
    return section("This run", command, listed, pairs([fact for fact in facts if fact[1]]))


def said(value: Any) -> str:
    """The value of a setting; long ones are cut."""
    text = (
        "none" if value is None else json.dumps(value, default=str) if isinstance(value, list | tuple) else str(value)
    )
    return text if len(text) <= 300 else f"{text[:300]} ..."


def pairs(entries: Iterable[tuple[str, str]]) -> str:
    rows = "".join(f'<tr><th scope="row">{escape(name)}</th><td>{escape(text)}</td></tr>' for name, text in entries)
    return f'<div class="wide"><table class="plain text"><tbody>{rows}</tbody></table></div>'


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table whose first column names its rows."""
    top = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    lines = "".join(
        f'<tr><th scope="row">{escape(str(first))}</th>{"".join(f"<td>{escape(str(cell))}</td>" for cell in rest)}</tr>'
        for first, *rest in rows
    )
    return f'<div class="wide"><table class="plain"><thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table></div>'
