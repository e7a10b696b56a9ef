"""What a run leaves: its folder, and the report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..data import Dataset
from ..history import finite
from ..report import write_report
from ..storage.model_file import model_bytes
from ..trainer import Trainer
from ..version import __version__
from .console import reason_of
from .flags import command_line
from .header import network_text
from .run_folder import HISTORY, WEIGHTS, RunFolder, elsewhere
from .settings import Settings


@dataclass(frozen=True)
class Saved:
    """What was written.

    Attributes:
        written: what went where, in words, a line each.
        problems: what could not be written where it belongs, and where it is instead, if anywhere, a sentence each.
        folder: of the weights; None where there are none.
    """

    written: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    folder: Path | None = None


def save_folder(
    folder: RunFolder,
    settings: Settings,
    trainer: Trainer,
    test: Dataset | None = None,
    found: Mapping[str, float] | None = None,
) -> Saved:
    """Write weights, history, settings and pictures; what the folder cannot take goes to another, a new one.

    Args:
        found: the result on the test rows.
    """
    about = {
        "xpnet": __version__,
        "device": trainer.backend.device.version(),
        "title": settings.title,
        "settings": settings.values,
        "optimizer": trainer.optimizer.to_json(),
        "stopped": trainer.history.stopped,
        "best_epoch": trainer.history.best_epoch,
        "monitor": trainer.history.monitor,
        "test": None if found is None else finite(dict(found)),
    }

    def draw(path: Path) -> list[str]:
        if not settings.plots:
            return []
        from ..report.plots import draw_all

        return draw_all(trainer, test, path, settings.confusion)

    files: dict[str, bytes] = {}
    if not folder.pictures_alone:
        history = trainer.history.to_json_lines().encode()
        files = {WEIGHTS: model_bytes(trainer.model, folder.record.run), HISTORY: history}
    try:
        path, names, error = folder.commit(files, about, draw)
    except OSError as lost:
        return Saved(problems=(f"nothing can be written to {folder.path}, nor elsewhere: {reason_of(lost)}",))
    said = f"wrote {', '.join(names)} to {path}"
    if error is None:
        return Saved((said,), folder=path)
    return Saved((said,), (f"{folder.path} cannot be written to: {reason_of(error)}; the files are in {path}",), path)


def save_report(
    settings: Settings, trainer: Trainer, name: str, training: Dataset, validation: Dataset | None, test: Dataset | None
) -> Saved:
    """Write the report that ``--report`` asks for.

    Args:
        name: of the data.
    """
    if settings.report is None:
        return Saved()
    counts = {"training": training, "validation": validation}

    def write(path: Path) -> None:
        write_report(
            path,
            trainer,
            test,
            title=settings.title or f"{name}: {network_text(settings, trainer, training.n_features)}",
            command=command_line(settings),
            settings=settings.values,
            rows={name: len(rows) for name, rows in counts.items() if rows is not None},
        )

    path = Path(settings.report)
    try:
        write(path)
    except OSError as error:
        problem = f"{path} cannot be written: {reason_of(error)}"
        try:
            folder, _ = elsewhere(lambda folder: write(folder / path.name), error)
        except OSError:
            return Saved(problems=(f"{problem}; neither can it elsewhere",))
        return Saved((f"wrote {folder / path.name}",), (f"{problem}; the report is in {folder}",))
    return Saved((f"wrote {path}",))
