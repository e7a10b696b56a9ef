"""Charts as SVG text: curves by epoch, points beside a diagonal. Their colours are the page's (``page/page.css``)."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import cycle, pairwise

WIDTH, HEIGHT = 520, 300
LEFT, RIGHT, TOP, BOTTOM = 56, 74, 28, 42
#: Values that span more than this factor are drawn on a logarithmic scale: on a linear one their end would look flat.
LOG_FROM = 10.0
#: Beyond these, numbers are taken for 0: they are not far from what a float cannot hold.
LOG_TO, SMALLEST = 1e100, 1e-200
#: Curves of at most so many points have a dot for each.
MOST_DOTS = 30
#: The classes of curves, which have their colours from the page.
COLORS = ("c0", "c1", "c2", "c3", "c4", "c5")


@dataclass(frozen=True)
class Curve:
    """A line of a chart: its name, and its points (x, y) from left to right."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Scale:
    """Where values lie on an axis, as a fraction of its length."""

    low: float
    high: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        if self.logarithmic:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        """Round numbers between both ends, three to eight of them where there are so many."""
        if self.logarithmic:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            for digits in ((1,), (1, 3), (1, 2, 5)):
                found = [digit * 10.0**decade for decade in decades for digit in digits]
                found = [value for value in found if self.low <= value <= self.high]
                if len(found) >= 3:
                    return found[:: math.ceil(len(found) / 8)]
        step = round_step((self.high - self.low) / 5)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [number * step for number in range(first, last + 1)]


def round_step(least: float) -> float:
    """The smallest of 1, 2, 5 times a power of ten that is at least ``least``."""
    power: float = 10.0 ** math.floor(math.log10(least))
    return next(digit * power for digit in (1, 2, 5, 10) if digit * power >= least * (1 - 1e-9))


def scale_of(values: Iterable[float], *, may_be_logarithmic: bool = False) -> Scale:
    """A scale on which finite ``values`` lie, with some air at both ends; logarithmic, if it may, where they span
    decades."""
    values = list(values)
    low, high = min(values), max(values)
    size = max(abs(low), abs(high))
    if may_be_logarithmic and low > SMALLEST and LOG_FROM < high / low < LOG_TO:
        air = (high / low) ** 0.05
        return Scale(low / air, high * air, logarithmic=True)
    is_flat = high - low <= 1e-9 * size or size < SMALLEST
    air = (0.5 * size if size > SMALLEST else 1.0) if is_flat else 0.06 * (high - low)
    bounded = low >= 0.0 and high <= 1.0  # shares and losses do not go below 0, shares not above 1
    return Scale(max(low - air, 0.0) if low >= 0 else low - air, min(high + air, 1.0 + 0.01) if bounded else high + air)


def curves(
    title: str,
    lines: Sequence[Curve],
    *,
    best: int | None = None,
    percent: bool = False,
    may_be_logarithmic: bool = False,
) -> str:
    """A chart of ``lines`` by epoch.

    Args:
        title: what is drawn, above the chart and for those who do not see it.
        lines: each has a color by its position, whether or not those before it have points.
        best: the epoch to be marked.
        percent: whether values are shares.
        may_be_logarithmic: whether values that span decades are drawn on a logarithmic scale.
    """
    colored = [(line, color) for line, color in zip(lines, cycle(COLORS), strict=False) if line.points]
    lines = [line for line, _ in colored]
    epochs = [x for line in lines for x, _ in line.points]
    across = Scale(min(epochs) - 0.5 * (len({*epochs}) == 1), max(epochs) + 0.5 * (len({*epochs}) == 1))
    up = scale_of((y for line in lines for _, y in line.points), may_be_logarithmic=may_be_logarithmic)
    spot = _spots(across, up)
    inside = [_grid(up, percent), _epochs(across)]
    if best is not None and across.low <= best <= across.high:
        x = spot(best, up.low)[0]
        inside.append(f'<line class="best" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
        inside.append(f'<text class="best" x="{x:.1f}" y="{TOP - 8}" text-anchor="middle">best: {best}</text>')
    ends = _apart([spot(*line.points[-1])[1] for line in lines])
    for (line, color), end in zip(colored, ends, strict=True):
        at = [spot(*point) for point in line.points]
        if len(at) > 1 and not are_rare(line.points, len({*epochs})):
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in at)
            inside.append(f'<polyline class="line {color}" points="{path}"/>')
        dots = at if len(at) <= MOST_DOTS else at[-1:]
        inside += [f'<circle class="dot {color}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in dots]
        value = shown(line.points[-1][1], percent)
        inside.append(f'<text class="end {color}" x="{at[-1][0] + 7:.1f}" y="{end + 4:.1f}">{value}</text>')
    hover = [
        {"name": line.name, "points": [[x, round(spot(x, y)[0], 1), shown(y, percent)] for x, y in line.points]}
        for line in lines
    ]
    legend = "".join(f'<span class="key {color}">{escape(line.name)}</span>' for line, color in colored)
    scale = ", logarithmic" if up.logarithmic else ""
    return (
        f'<figure><figcaption>{escape(title)}{scale}<span class="keys">{legend}</span></figcaption>'
        f"{_svg(title + ' by epoch', inside, hover)}</figure>"
    )


def scatter(title: str, points: Sequence[tuple[float, float]]) -> str:
    """A chart of (true, predicted), with the diagonal on which they are equal."""
    values = [value for point in points for value in point]
    low, high = min(values), max(values)
    air = 0.05 * (high - low) or 0.5 * abs(high) or 1.0
    scale = Scale(low - air, high + air)
    spot = _spots(scale, scale)
    (x1, y1), (x2, y2) = spot(scale.low, scale.low), spot(scale.high, scale.high)
    inside = [_grid(scale, percent=False)]
    for tick in scale.ticks():
        inside.append(f'<text class="tick" x="{spot(tick, 0)[0]:.1f}" y="{HEIGHT - BOTTOM + 17}">{tick:g}</text>')
    inside += [
        f'<text class="name" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 6}">true value</text>',
        f'<text class="name" transform="translate(14 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)">predicted</text>',
        f'<line class="best" x1="{x1:.1f}" x2="{x2:.1f}" y1="{y1:.1f}" y2="{y2:.1f}"/>',
    ]
    for true, predicted in points:
        x, y = spot(true, predicted)
        inside.append(f'<circle class="point" cx="{x:.1f}" cy="{y:.1f}" r="3"><title>{true:g}: {predicted:.5g}</title>')
        inside.append("</circle>")
    return f"<figure><figcaption>{escape(title)}</figcaption>{_svg(title, inside)}</figure>"


def shown(value: float, percent: bool = False) -> str:
    """A value with four digits."""
    return f"{value:.2%}" if percent else f"{value:.4g}"


def _spots(across: Scale, up: Scale) -> Callable[[float, float], tuple[float, float]]:
    """Where in the picture a point (x, y) is drawn."""
    width, height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    return lambda x, y: (LEFT + across(x) * width, TOP + (1.0 - up(y)) * height)


def _grid(up: Scale, percent: bool) -> str:
    found = []
    ticks = up.ticks()
    step = min((b - a for a, b in pairwise(ticks)), default=1.0)
    for tick in ticks:
        y = TOP + (1.0 - up(tick)) * (HEIGHT - TOP - BOTTOM)
        text = f"{tick:.{max(0, -math.floor(math.log10(step * 100) + 1e-9))}%}" if percent else f"{tick:.6g}"
        found.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        found.append(f'<text class="tick y" x="{LEFT - 8}" y="{y + 4:.1f}">{text}</text>')
    return "".join(found)


def epoch_ticks(first: int, last: int) -> list[int]:
    """Which epochs an axis names: round ones, the first and the last."""
    step = 1 if last - first < 10 else int(round_step((last - first) / 6))
    between = [tick for tick in range(first, last) if tick % step == 0]
    between = [tick for tick in between if min(tick - first, last - tick) >= 0.6 * step]
    return list(dict.fromkeys((first, *between, last)))


def are_rare(points: Sequence[tuple[float, float]], epochs: int) -> bool:
    """Whether so few of the epochs have a point that points should be drawn, and no line from one to the next."""
    return 2 * len(points) <= epochs and len(points) <= MOST_DOTS


def _epochs(across: Scale) -> str:
    """Whole numbers below the axis."""
    ticks = epoch_ticks(math.ceil(across.low), math.floor(across.high))
    width = WIDTH - LEFT - RIGHT
    found = [
        f'<text class="tick" x="{LEFT + across(tick) * width:.1f}" y="{HEIGHT - BOTTOM + 17}">{tick}</text>'
        for tick in ticks
    ]
    found.append(f'<text class="name" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 6}">epoch</text>')
    return "".join(found)


def _apart(heights: list[float], least: float = 13.0) -> list[float]:
    """Heights of labels, moved so that none covers another."""
    order = sorted(range(len(heights)), key=heights.__getitem__)
    placed = list(heights)
    for before, after in pairwise(order):
        placed[after] = max(placed[after], placed[before] + least)
    return placed


def _svg(title: str, inside: Iterable[str], hover: object = None) -> str:
    data = "" if hover is None else f' data-hover="{escape(json.dumps(hover, separators=(",", ":")))}"'
    return (
        f'<svg class="chart" role="img" aria-label="{escape(title)}" viewBox="0 0 {WIDTH} {HEIGHT}"{data}>'
        f'{"".join(inside)}<line class="cursor" y1="{TOP}" y2="{HEIGHT - BOTTOM}" hidden=""/></svg>'
    )
