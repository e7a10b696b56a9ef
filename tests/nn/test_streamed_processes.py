"""Rows that are larger than memory, on several processes: each reads and holds its own part, and all have the bits of
one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backends import Backend, get_backend
from backends.collectives import Collectives
from nn import (
    SGD,
    Augment,
    BatchNorm,
    Checkpoint,
    CheckpointError,
    Dropout,
    Linear,
    ReLU,
    Sequential,
    Softmax,
    Trainer,
    TrainingDiverged,
)
from nn.data.streamed import StreamedDataset
from nn.data.streamed.order import ALL_LANES, LANES, Order, lanes_of
from nn.evaluation import shared_totals_of, totals_of
from nn.storage.checkpoint import newest_checkpoint
from tests.helpers.processes import together
from tests.helpers.resumed import Kill, Killed, outcome
from tests.helpers.streamed import CountingSource, reading_threads
from tests.helpers.with_emulated import EMULATED, made

RNG = np.random.default_rng(7)
N, BATCH, WINDOW = 1316, 48, 400  # windows of 384, 384, 384 and 164 rows
X = RNG.integers(0, 256, (N, 36), dtype=np.uint8)
Y = RNG.integers(0, 4, N)
WEIGHTS = RNG.uniform(0, 2, N)
AUGMENT = Augment(shift=1, rotation=10, cutout=2)
OPTIONS: dict[str, dict[str, Any]] = {"plain": {}, "augmented": {"augment": AUGMENT}, "accumulated": {"accumulate": 2}}


def trainer_of(backend: Backend, **options: Any) -> Trainer:
    layers = (Linear(36, 12), BatchNorm(12), ReLU(), Dropout(0.3), Linear(12, 4), Softmax())
    model = Sequential(*layers, backend=backend, seed=5)
    return Trainer(model, **{"optimizer": SGD(0.1, momentum=0.9)} | options)


def trainer_with(collectives: Collectives, **options: Any) -> Trainer:
    backend = get_backend("cpu")
    backend.collectives = collectives
    return trainer_of(backend, **options)


def arrays(trainer: Trainer) -> dict[str, bytes]:
    found: dict[str, bytes] = outcome(trainer)["arrays"]
    return found


def streamed(x: Any = X, y: Any = Y, **options: Any) -> StreamedDataset:
    settings: dict[str, Any] = {"window": WINDOW, "block": 5, "scale": 1 / 255, "image_shape": (6, 6)}
    return StreamedDataset(x, y, **settings | options)


def counted(**options: Any) -> tuple[CountingSource, StreamedDataset]:
    """Rows of which nothing has been read since they were looked at."""
    source = CountingSource(X)
    data = streamed(source, **options)
    assert data.units.high == 255
    source.forget()
    return source, data


# ---- the same bits ---------------------------------------------------------------------------------------------------


#: Each option with even and odd numbers of processes, and as many as there are blocks; eight, each of which is a thread
#: and computes as long as one that is alone, once. All of them with all are slow.
FEW = {("plain", 8, (2, 8)), ("augmented", 4, (2, 4)), ("accumulated", 4, (4,)), *((name, 3, (3,)) for name in OPTIONS)}
MANY = {(name, blocks, sizes) for name in OPTIONS for blocks, sizes in ((8, (2, 4, 8)), (6, (2, 3, 6)))}


@pytest.mark.parametrize(
    ("name", "blocks", "processes"),
    [*sorted(FEW), *(pytest.param(*case, marks=pytest.mark.slow) for case in sorted(MANY))],
)
def test_any_number_of_processes_has_the_same_bits(name: str, blocks: int, processes: tuple[int, ...]) -> None:
    def run(collectives: Collectives) -> tuple[dict[str, Any], list[Any]]:
        trainer = trainer_with(collectives, blocks=blocks, **OPTIONS[name])
        held_out = streamed(X[:600] // 2, Y[:600])
        trainer.fit(streamed(weights=WEIGHTS), 2, BATCH, validation=held_out)
        return arrays(trainer), [(record["loss"], record["val_loss"]) for record in trainer.history]

    alone = run(Collectives())
    for size in processes:
        for found in together(size, run):
            assert found == alone
    assert not reading_threads()


@pytest.mark.parametrize("rows", [1153, 1160])  # of which 1 and 8 are the last window
def test_a_window_may_have_no_row_for_a_process(rows: int) -> None:
    def run(collectives: Collectives) -> dict[str, bytes]:
        backend = get_backend("cpu")
        backend.collectives = collectives
        trainer = Trainer(Sequential(Linear(36, 4), backend=backend, seed=2), blocks=12)
        trainer.fit(streamed(X[:rows], Y[:rows]), 2, BATCH)
        return arrays(trainer)

    assert together(4, run) == [run(Collectives())] * 4


def test_without_a_shuffle_each_process_reads_all_and_has_the_same_bits() -> None:
    def run(collectives: Collectives) -> dict[str, Any]:
        source, data = counted()
        trainer = trainer_with(collectives, blocks=4)
        trainer.fit(data, 2, BATCH, shuffle=False)
        assert source.rows == 2 * N
        return arrays(trainer)

    assert together(4, run) == [run(Collectives())] * 4


@pytest.mark.parametrize("batches", [9, 28, 31])  # in the second window, at the end of epoch 1, in epoch 2
def test_a_run_goes_on_on_fewer_processes_in_the_middle_of_an_epoch(tmp_path: Path, batches: int) -> None:
    def begins(collectives: Collectives) -> None:
        trainer, callbacks = trainer_with(collectives, blocks=4), [Checkpoint(tmp_path, steps=1), Kill(batches)]
        with pytest.raises(Killed):
            trainer.fit(counted()[1], 3, BATCH, callbacks=callbacks)

    def goes_on(collectives: Collectives) -> dict[str, Any]:
        trainer, (source, data) = trainer_with(collectives), counted()
        trainer.resume(tmp_path)
        seen, epoch = trainer.seen, trainer.epoch
        trainer.fit(data, 3, BATCH, callbacks=[Checkpoint(tmp_path / "again", epochs=3)])
        left = (N - seen // 384 * 384 if seen else 0) + (3 - epoch - bool(seen)) * N
        assert source.rows < 0.52 * left  # no window that has been trained on
        return arrays(trainer)

    together(4, begins)
    whole = trainer_with(Collectives(), blocks=4)
    whole.fit(streamed(), 3, BATCH)
    assert together(2, goes_on) == [arrays(whole)] * 2


def test_a_checkpoint_of_another_order_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("nn.streamed_feed.StreamedRows.settings", property(lambda rows: {"window": 400, "block": 5}))
        with pytest.raises(Killed):
            trainer_of(get_backend("cpu")).fit(streamed(), 2, BATCH, callbacks=[Checkpoint(tmp_path, steps=1), Kill(7)])
    state = newest_checkpoint(tmp_path)
    assert state is not None
    assert "lanes" not in state["fit"]
    trainer = trainer_of(get_backend("cpu"))
    trainer.resume(tmp_path)
    with pytest.raises(CheckpointError, match="its lanes is None, and here 192"):
        trainer.fit(streamed(), 2, BATCH)


# ---- what each of them reads and holds -------------------------------------------------------------------------------


@pytest.mark.parametrize(("blocks", "processes"), [(4, 1), (4, 2), (4, 4), (8, 8), (6, 6), (6, 2), (5, 5)])
def test_a_process_reads_and_holds_its_part(blocks: int, processes: int) -> None:
    def run(collectives: Collectives) -> tuple[int, int, int]:
        source, data = counted()
        trainer = trainer_with(collectives, blocks=blocks)
        with trainer.backend.use():
            rows: Any = trainer.upload(data)
        trainer.fit(rows, 2, BATCH)
        return source.rows, len(rows.x), len(rows.ring.arrays["order"])

    found = together(processes, run)
    lanes = [lanes_of(range(blocks * rank // processes, blocks * (rank + 1) // processes), blocks)
             for rank in range(processes)]  # fmt: skip
    orders = [Order.of(N, WINDOW, 5, BATCH, lanes=own) for own in lanes]
    for (read, held, positions), order in zip(found, orders, strict=True):
        assert read == 2 * sum(len(order.part(index)) for index in range(4))
        assert held == 2 * order.most_read
        assert positions == 2 * 384
        assert read <= 2 * N * (1 / processes + 2 / LANES)
        assert held <= 2 * 384 * (1 / processes + 2 / LANES)
    if LANES % blocks == 0:
        assert sum(read for read, _, _ in found) == 2 * N


@pytest.mark.parametrize("processes", [1, 2, 3, 8])
def test_an_evaluation_reads_each_row_once_on_one_process(processes: int) -> None:
    def run(collectives: Collectives) -> tuple[int, int, bytes]:
        source, data = counted()
        trainer = trainer_with(collectives, blocks=processes)
        with trainer.backend.use():
            totals = shared_totals_of(trainer, trainer.upload(data), 100)
        return source.rows, len(source.threads), totals.tobytes()

    found = together(processes, run)
    alone = trainer_of(get_backend("cpu"))
    expected = totals_of(alone, alone.upload(streamed()), 100)
    assert [totals for _, _, totals in found] == [alone.backend.to_numpy(expected).tobytes()] * processes
    assert sum(rows for rows, _, _ in found) == N
    assert max(rows for rows, _, _ in found) - min(rows for rows, _, _ in found) <= 100


def test_more_processes_than_batches_are_evaluated_on() -> None:
    def run(collectives: Collectives) -> tuple[int, bytes]:
        source, data = counted()
        trainer = trainer_with(collectives, blocks=4)
        with trainer.backend.use():
            return source.rows, shared_totals_of(trainer, trainer.upload(data), 600).tobytes()

    assert len({totals for _, totals in together(4, run)}) == 1


@pytest.mark.parametrize("augmented", [False, True])
@pytest.mark.parametrize("which", [("cpu", True), ("cpu", False), ("array_api_strict", False), EMULATED], ids=str)
def test_the_ring_of_a_part_gives_its_slots_of_each_batch(
    which: tuple[str, bool], augmented: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where rows and positions come to the device in many pieces, by two buffers, and in a shorter batch."""
    monkeypatch.setattr("nn.data.streamed.reader.PIECE", 2000)
    monkeypatch.setattr("backends.cuda.transfer.MOST_BYTES", 1)
    feeds, options = [], OPTIONS["augmented" if augmented else "plain"]
    blocks, count = range(1, 3), 5
    for lanes in (ALL_LANES, lanes_of(blocks, count)):
        trainer = trainer_of(made(which, "float32"), **options)
        rows = trainer.upload(streamed(weights=WEIGHTS))
        rows.reserve(BATCH, lanes)
        feeds.append((trainer.backend, rows, trainer.feed(rows, True, augmented=True)))
    (_, whole, _), (_, part, _) = feeds
    assert part.x.shape[0] < 0.45 * whole.x.shape[0]
    for epoch in (1, 2):
        for _, _, feed in feeds:
            feed.begin_epoch(epoch, BATCH)
        for start in range(0, N, BATCH):
            rows_of_batch = min(BATCH, N - start)
            own = range(rows_of_batch * blocks.start // count, rows_of_batch * blocks.stop // count)
            expected, found = (
                [
                    backend.to_numpy(array).copy()
                    for array in feed.batch(feed.position(start), len(own), offset=own.start)
                    if array is not None
                ]
                for backend, _, feed in feeds
            )
            assert len(found) == 3
            for one, other in zip(found, expected, strict=True):
                np.testing.assert_array_equal(one, other)
    for _, rows, _ in feeds:
        rows.close()


def test_the_same_rows_are_trained_on_by_parts_and_evaluated() -> None:
    """A window in order may be longer than a part of a shuffled one."""

    def run(collectives: Collectives) -> tuple[dict[str, Any], list[float]]:
        trainer = trainer_with(collectives, blocks=4)
        with trainer.backend.use():
            rows = trainer.upload(streamed())
        trainer.fit(rows, 3, BATCH, validation=rows)
        return arrays(trainer), trainer.history["val_loss"]

    assert together(4, run) == [run(Collectives())] * 4


# ---- what goes wrong -------------------------------------------------------------------------------------------------


def test_a_divergence_is_told_as_on_one_process() -> None:
    def run(collectives: Collectives) -> str:
        backend = get_backend("cpu")
        backend.collectives = collectives
        model = Sequential(Linear(36, 8), ReLU(), Linear(8, 4), backend=backend, seed=2)
        trainer = Trainer(model, optimizer=SGD(lambda update: 1e30 if update == 36 else 0.05), blocks=4)
        with pytest.raises(TrainingDiverged) as raised:
            trainer.fit(streamed(), 3, BATCH)
        assert raised.value.layer is not None
        return str(raised.value)

    assert together(2, run) == [run(Collectives())] * 2
    assert not reading_threads()


def test_a_row_that_cannot_be_read_ends_the_process_that_reads_it_and_with_it_the_others() -> None:
    order = Order.of(N, WINDOW, 5, BATCH, seed=5)
    row, seen = int(order.rows(1, 2)[-1]), dict[int, bool]()  # of the last slot, which the last process has

    def work(collectives: Collectives) -> None:
        source, data = counted()
        source.fails_at = row
        try:
            trainer_with(collectives, blocks=2).fit(data, 1, BATCH)
        finally:
            seen[collectives.rank] = any(row in rows for rows in source.ranges)

    with pytest.raises(OSError, match="the disk is gone"):
        together(2, work)
    assert seen == {0: False, 1: True}
    assert not reading_threads()
