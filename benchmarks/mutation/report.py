"""What a search found, kept in a file, and the report of it: a table by module and every mutant that nobody noticed."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from .equivalent import KINDS, Entry, key

NOTICED = ("killed", "timeout")
OUTCOMES = (*NOTICED, "survived", "no tests", "equivalent")


@dataclass(frozen=True)
class Tested:
    """A mutant that was tested.

    Attributes:
        path, line: where it is.
        inside: the function or class around it.
        diff: the lines that change, with ``-`` and ``+`` before them.
        outcome: ``killed``, ``timeout``, ``survived`` or ``no tests``.
        is_cut: whether some of its tests were left out, for they take too long.
    """

    path: str
    line: int
    inside: str
    diff: list[str]
    outcome: str
    is_cut: bool = False

    @property
    def key(self) -> tuple[str, str, str, str]:
        removed, added = ("\n".join(line[1:] for line in self.diff if line[0] == sign) for sign in "-+")
        return key(self.path, self.inside, removed, added)


@dataclass
class Search:
    """What was tested, and ``about``: how, in words. ``seconds`` is the time for the tests of one mutant."""

    about: str
    seconds: float
    tested: list[Tested] = field(default_factory=list)

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")

    @staticmethod
    def load(path: Path) -> Search:
        kept = json.loads(path.read_text(encoding="utf-8"))
        return Search(kept["about"], kept["seconds"], [Tested(**mutant) for mutant in kept["tested"]])


def contradicted(search: Search, entries: Sequence[Entry]) -> list[Tested]:
    """The mutants that are listed as no fault, but were noticed by a test: their entries are wrong."""
    keys = {entry.key for entry in entries}
    return [mutant for mutant in search.tested if mutant.outcome in NOTICED and mutant.key in keys]


def table(search: Search, entries: Sequence[Entry]) -> list[str]:
    """Counts by file and of all, and two shares: noticed of all, and of those that are not equivalent."""
    keys = {entry.key for entry in entries}
    outcomes: dict[str, Counter[str]] = defaultdict(Counter)
    for mutant in search.tested:
        listed = mutant.outcome not in NOTICED and mutant.key in keys
        outcomes[mutant.path]["equivalent" if listed else mutant.outcome] += 1
    rows = [*sorted(outcomes.items()), ("**all**", sum(outcomes.values(), Counter[str]()))]
    return [
        f"| file | mutants | {' | '.join(OUTCOMES)} | noticed of all | of those not equivalent |",
        f"|---|{'---|' * (len(OUTCOMES) + 3)}",
        *(
            f"| {path} | {counts.total()} | {' | '.join(str(counts[outcome]) for outcome in OUTCOMES)} "
            f"| {share(counts, counts.total())} | {share(counts, counts.total() - counts['equivalent'])} |"
            for path, counts in rows
        ),
    ]


def share(counts: Counter[str], total: int) -> str:
    return f"{sum(counts[outcome] for outcome in NOTICED) / total:.1%}" if total else "-"


def text(search: Search, entries: Sequence[Entry]) -> str:
    """The whole report."""
    by_key = {entry.key: entry for entry in entries}
    unnoticed = sorted((m for m in search.tested if m.outcome not in NOTICED), key=lambda m: (m.path, m.line, m.diff))
    faults = [line for m in unnoticed if m.key not in by_key for line in shown(m, search.seconds)]
    lines = [*table(search, entries), "", search.about, ""]
    if faults:
        lines += ["## Not noticed", "", *faults]
    equivalent = [(by_key[m.key], m) for m in unnoticed if m.key in by_key]
    if equivalent:
        lines += ["## Equivalent", "", "Survivors that `benchmarks/mutation/equivalent.toml` lists, by kind.", ""]
    for kind, words in KINDS.items():
        of_kind = [(entry, mutant) for entry, mutant in equivalent if entry.kind == kind]
        if of_kind:
            lines += [f"### {kind}: {words} ({len(of_kind)})", ""]
        for entry, mutant in of_kind:
            lines += [f"`{mutant.path}:{mutant.line}`: {' '.join(entry.reason.split())}", ""]
            lines += ["```diff", *mutant.diff, "```", ""]
    return "\n".join(lines).rstrip() + "\n"


def shown(mutant: Tested, seconds: float) -> list[str]:
    more = f", after {seconds:g} s of its tests" if mutant.is_cut else ""
    return [f"`{mutant.path}:{mutant.line}` {mutant.outcome}{more}", "", "```diff", *mutant.diff, "```", ""]
