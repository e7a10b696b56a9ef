"""What one of several processes does in tests/nn/test_mpi.py and beside it: ``python -m tests.helpers.mpi_program WHAT
ARGUMENTS...``. The device is that of the environment's XPNET_TEST_DEVICE, or the CPU."""

from __future__ import annotations

import itertools
import os
import signal
import sys
import threading
import time
import warnings
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

import nn
from backends import get_backend
from backends.collectives import Node, TreeSum, blocks_of, find_collectives, tree_sum
from backends.cuda import branches, processes
from tests.helpers.parts import PARTS, X, Y


def make(part: str, **arguments: Any) -> nn.Trainer:
    layers, optimizer, settings = PARTS[part]
    device, large = os.environ.get("XPNET_TEST_DEVICE", "cpu"), os.environ.get("XPNET_TEST_LARGE")
    ends = [nn.ReLU(), nn.Linear(16, 3)]
    if large:  # so many weights are, and so are updated, and summed, beside other launches
        branches.SECTION, ends = int(large), [nn.ReLU(), nn.Linear(16, 10), nn.ReLU(), nn.Linear(10, 3)]
    model = nn.Sequential(nn.Linear(12, 16), *layers, *ends, backend=device, seed=3)
    if large:
        model.backend.sums_from = int(large)
    fresh = type(optimizer)(**optimizer.settings())
    return nn.Trainer(model, "softmax_cross_entropy", fresh, distributed=True, **settings, **arguments)


def digest(trainer: nn.Trainer) -> str:
    state = trainer.model.state_dict()
    return sha256(b"".join(state[name].tobytes() for name in sorted(state))).hexdigest()[:16]


def bits(blocks: str) -> None:
    """The bits that each part of ``PARTS`` is trained to, and what the history tells."""
    rows = nn.Dataset(X, Y, image_shape=(3, 4))
    validation: Any = 0.25
    if "XPNET_TEST_DEVICE" in os.environ:  # to hold out a part of the rows imports scikit-learn for a second
        kept = len(X) // 4
        rows, validation = rows[kept:], rows[:kept]
    for part in PARTS:
        trainer = make(part, blocks=int(blocks))
        history = trainer.fit(rows, epochs=2, batch_size=32, validation=validation, callbacks=[nn.PrintEpochs()])
        found = digest(trainer), history[-1]["loss"], history[-1]["val_loss"], history[-1]["val_accuracy"]
        everywhere = trainer.backend.collectives.gather(found)
        assert len({*everywhere}) == 1, everywhere
        if trainer.backend.collectives.rank == 0:
            print(part, *found, flush=True)


def sums(*counts: str) -> None:
    """Sums of arrays of several lengths over so many blocks, beside those that one process makes by itself."""
    collectives = find_collectives()
    rank, size = collectives.rank, collectives.size
    for blocks in map(int, counts):
        for n in (1, 17, 1000, 1024, 1025, 100_003):
            values = [np.random.default_rng((b, n)).normal(size=n).astype(np.float32) for b in range(blocks)]
            expected = tree_sum([Node(b, 1) for b in range(blocks)], [one.copy() for one in values], np.add)
            tree = TreeSum[np.ndarray](np.add)
            for block in blocks_of(rank, size, blocks):
                tree.put(Node(block, 1), values[block])
            own, nodes = [one for _, one in tree.nodes], [node for node, _ in tree.nodes]
            for out in (np.full(n, np.nan, np.float32), own[-1]):
                found = collectives.sum_nodes(
                    [one.copy() if one is not out else one for one in own], nodes, blocks, out
                )
                assert found is out
                assert found.tobytes() == expected.tobytes(), (blocks, n)
    print(f"rank {rank} agrees", flush=True)


class Fails(nn.Callback):
    """Something happens to the last process, or to the first one, after so many steps; when is noted in a folder."""

    takes_parts, reads_gradients = True, False

    def __init__(self, how: str, step: int, folder: Path | None = None) -> None:
        self.how, self.step, self.folder = how, step, folder

    def on_batch_end(self, trainer: nn.Trainer, rows: int) -> None:
        collectives = trainer.backend.collectives
        who = 0 if self.how.startswith("first") else collectives.size - 1
        if collectives.rank != who or trainer.model.step < self.step:
            return
        if self.folder is not None:
            (self.folder / "happened").write_text(str(time.time()))
        if self.how == "gone":
            sys.exit(0)
        if "killed" in self.how:
            os.kill(os.getpid(), signal.SIGKILL)
        if "stopped" in self.how:
            os.kill(os.getpid(), signal.SIGSTOP)
        if self.how == "waits":  # for a lock that nobody gives back
            threading.Event().wait()
        if self.how == "works":  # for longer than one that hangs is waited for
            began, self.step = time.process_time(), 1000
            while time.process_time() < began + 4.0:
                sum(range(1000))
        if self.how == "other calls":
            collectives.broadcast("something")
        if self.how == "error":
            raise RuntimeError("a disk is gone")
        if self.how == "interrupted":
            trainer.interrupt("a test")


def estimators() -> None:
    """The bits that estimators are fitted to, and that one without a seed is the same on all processes."""
    collectives = find_collectives()
    given: dict[str, Any] = {"hidden_layer_sizes": (9,), "distributed": True, "blocks": 2, "batch_size": 32}
    for name, estimator in {
        "adam": nn.MLPClassifier(**given, random_state=0, max_iter=4, early_stopping=True, verbose=True),
        "partial": nn.MLPClassifier(**given, random_state=1, dropout=0.2),
        "sgd": nn.MLPRegressor(**given, solver="sgd", random_state=0, max_iter=3, learning_rate="adaptive"),
        "without": nn.MLPClassifier(**given, max_iter=2),
    }.items():
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            if name == "partial":
                for _ in range(3):
                    estimator.partial_fit(X, Y, classes=[0, 1, 2])
            else:
                estimator.fit(X, Y)
        bits = b"".join(x.tobytes() for x in [*estimator.coefs_, *estimator.intercepts_])
        found = sha256(bits).hexdigest()[:16], estimator.n_iter_, estimator.loss_, estimator.score(X, Y)
        everywhere = collectives.gather(found)
        assert len({*everywhere}) == 1, everywhere
        assert len(warned) == int(collectives.rank == 0 and name != "partial"), [str(one.message) for one in warned]
        if collectives.rank == 0:
            print(name, *("" if name == "without" else value for value in found), flush=True)


def sums_on_gpus() -> None:
    """The operation by itself, at once, by slices and by halves, beside the sum along the tree on this host."""
    backend = get_backend(os.environ["XPNET_TEST_DEVICE"])
    backend.train_with(find_collectives())
    rank, size = backend.collectives.rank, backend.collectives.size
    for short, by_slices in ((0, size), (0, 1), (processes.SHORT, size)):
        processes.SHORT, processes.BY_SLICES = short, by_slices
        for n, each in itertools.product((1, 2 * size, 1001), (1, 3, 5, 8)):
            blocks = each * size
            values = np.random.default_rng(n * blocks).normal(size=(blocks, n)).astype(np.float32)
            tree = TreeSum[Any](np.add)
            for block in range(rank * each, (rank + 1) * each):
                tree.put(Node(block, 1), values[block])
            with backend.use():
                own, out = [backend.asarray(x) for _, x in tree.nodes], backend.zeros((n,))
                found = backend.sum_over_processes(own, [node for node, _ in tree.nodes], blocks, out)
                assert found is out
            expected = tree_sum([Node(block, 1) for block in range(blocks)], values, np.add)
            np.testing.assert_array_equal(backend.to_numpy(out), expected)
    print(f"process {rank} has found {backend.sums_by} right", flush=True)


def captured(blocks: str, short: str, by_slices: str) -> None:
    """As ``bits``, but that steps and their sums are captured on a GPU, and are not launched one by one any more."""
    from tests.helpers.emulated_cuda import Stream, launched

    beside: list[str] = []
    end = Stream.end_capture

    def end_capture(self: Stream) -> Any:
        graph = end(self)
        beside.extend(node.name for node in graph.nodes if node.stream != graph.nodes[0].stream)
        return graph

    Stream.end_capture = end_capture  # type: ignore[method-assign]
    processes.SHORT, processes.BY_SLICES = int(short), int(by_slices)
    for part in ("momentum", "BatchNorm"):
        trainer = make(part, blocks=int(blocks))
        launched.names.clear()
        beside.clear()
        trainer.fit(nn.Dataset(X, Y, image_shape=(3, 4)), epochs=3, batch_size=32, callbacks=[nn.PrintEpochs()])
        assert trainer.backend.why_eager == ""
        if trainer.backend.collectives.rank == 0:
            calls = [launched.count(name) for name in ("graph", "all gather", "all to all")]
            print(
                part, digest(trainer), trainer.model.step, *calls, "+".join(beside).replace(" ", "_") or "-", flush=True
            )


def interrupted_capture() -> None:
    """The first capture of a step is interrupted, by somebody who waits for the device, on the last process alone."""
    from tests.helpers.emulated_cuda import get_current_stream, launched, wait_for_device

    class Waits(nn.Layer):
        """Computes nothing."""

        times = 0

        def forward(self, x: Any, ctx: nn.Context) -> Any:
            if get_current_stream().is_capturing() and ctx.backend.collectives.rank == 1:
                self.times += 1
                if self.times == 1:
                    wait_for_device()
            return x

        def backward(self, dy: Any, ctx: nn.Context) -> Any:
            return dy

    model = nn.Sequential(nn.Linear(12, 3), Waits(), backend=os.environ["XPNET_TEST_DEVICE"])
    trainer = nn.Trainer(model, distributed=True)
    trainer.fit(X, Y, epochs=3, batch_size=32)
    assert trainer.backend.why_eager == ""
    print(trainer.model.step, launched.count("graph"), launched.count("all gather"), flush=True)


def resumed(how: str, folder: str) -> None:
    """A run in checkpoints, which goes on where one is; something happens to it after 40 steps."""
    begun = time.time()
    trainer = make("BatchNorm", **({"blocks": 4} if how != "goes on" else {}))
    trainer.resume(folder, missing_ok=True)
    trainer.fit(X, Y, 4, 8, callbacks=[nn.Checkpoint(folder, epochs=1), Fails(how, 40, Path(folder))])
    if trainer.backend.collectives.rank == 0:
        print(trainer.model.step, digest(trainer), f"{time.time() - begun:.1f}", flush=True)


def wrong(what: str) -> None:
    """Something differs between the processes, or does not fit."""
    rank = find_collectives().rank
    part, rows, size = "momentum", X, 32
    if what == "data" and rank == 1:
        rows = X + np.float32(1)
    if what == "version" and rank == 1:
        nn.agreement.__version__ = "0.0.1"  # type: ignore[attr-defined]
    if what == "rows":
        size = 1
    trainer = make(part, **({"clip_norm": 2.0} if what == "setting" and rank == 1 else {}))
    if what == "parameters" and rank == 1:
        trainer.model.flat_parameters[0] = 5.0
    trainer.fit(rows, Y, 1, size)


def stops(folder: str) -> None:
    """A log, a model and lines of epochs; one process is asked to stop."""

    class Late(nn.Callback):
        def on_epoch_end(self, trainer: nn.Trainer, record: dict[str, Any]) -> None:
            if trainer.backend.collectives.rank == 1 and trainer.epoch == 3:
                trainer.stop("process 1")

    trainer = make("momentum")
    writers = [nn.CSVLog(f"{folder}/log.csv"), nn.SaveModel(f"{folder}/model.safetensors"), nn.PrintEpochs()]
    trainer.fit(X, Y, 10, 32, validation=0.25, callbacks=[*writers, Late()])
    print(f"rank {trainer.backend.collectives.rank} ended after {len(trainer.history)}", file=sys.stderr, flush=True)


def main(argv: list[str]) -> int:
    globals()[argv[0]](*argv[1:])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
