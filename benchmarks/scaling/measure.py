"""What processes of MPI measure: ``mpiexec -n P python -m benchmarks.scaling.measure '{...}'``; the first one prints.

Everything that is compared takes turns in one run. Where one process works alone the others sleep. In a turn a call is
repeated for about so many seconds; each took what the slowest process took, and the turn is the lower quartile of its
calls: what else runs on a machine makes some of them far longer.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from math import ceil
from time import perf_counter, sleep
from typing import Any

import numpy as np

from backends import StepNumbers, get_backend
from backends.collectives import Collectives, Node
from backends.collectives.mpi import MpiCollectives
from backends.typing import HostArray
from nn import SGD, Dataset, Sequential, Trainer
from nn.steps import Recordings

from .machines import WIDTHS, layers_of

#: Bytes of the messages from which the model of this machine is made.
MESSAGES = [1 << power for power in range(6, 25, 2)]
RATE = 1e-4
LEAST_ROUNDS = 3


class EitherSum(MpiCollectives):
    """Processes that add up along the tree or, while ``plain`` is true, in the order of MPI's own allreduce."""

    plain = False

    def sum_nodes(self, own: Sequence[HostArray], nodes: Sequence[Node], blocks: int, out: HostArray) -> HostArray:
        if not self.plain:
            return super().sum_nodes(own, nodes, blocks, out)
        from mpi4py import MPI

        (values,) = own
        self._communicator.Allreduce(MPI.IN_PLACE if values is out else values, out)
        return out


class Group:
    """The processes, and what they do together to measure.

    Args:
        communicator: of mpi4py.
        seconds: of each turn.
        limit: seconds after which no further round of turns is begun, once there are three.
    """

    def __init__(self, communicator: Any, seconds: float, limit: float = 0.0) -> None:
        self.communicator, self.seconds, self.limit = communicator, seconds, limit
        self.rank, self.size = communicator.Get_rank(), communicator.Get_size()
        self._repeats: dict[str, int] = {}

    def rounds(self, most: int) -> Iterator[int]:
        """The numbers of rounds, as many for all processes."""
        begun = perf_counter()
        for number in range(most):
            if number >= LEAST_ROUNDS and self.communicator.bcast(perf_counter() - begun > self.limit):
                return
            yield number

    def together(self, name: str, call: Callable[[], Any], before: Callable[[], Any] | None = None) -> float:
        """Seconds of a call that all make, ``before`` each of which is not timed: the lower quartile of a turn."""

        def turn(repeats: int) -> float:
            own = np.zeros(repeats)
            for number in range(repeats):
                if before is not None:
                    before()
                if before is not None or number == 0:
                    self.communicator.Barrier()
                begun = perf_counter()
                call()
                own[number] = perf_counter() - begun
            slowest = np.max(self.communicator.allgather(own), axis=0)
            return float(np.quantile(slowest, 0.25))

        if name not in self._repeats:
            turn(2)
            self._repeats[name] = max(1, ceil(self.seconds / turn(3)))
        turn(1)
        return turn(self._repeats[name])

    def alone(self, name: str, call: Callable[[], Any] | None) -> float:
        """Seconds of a call that the first process makes while the others, which have None, sleep; 0 for those."""
        found = 0.0
        if call is not None:
            by_itself = Group(_NoOne(), self.seconds)
            by_itself._repeats = self._repeats
            found = by_itself.together(name, call)
        request = self.communicator.Ibarrier()
        while not request.Test():
            sleep(0.002)
        return found


class _NoOne:
    """A communicator of one process."""

    def Get_rank(self) -> int:
        return 0

    def Get_size(self) -> int:
        return 1

    def Barrier(self) -> None:
        pass

    def bcast(self, value: bool) -> bool:
        return value

    def allgather(self, value: HostArray) -> list[HostArray]:
        return [value]


# ---- messages and sums -----------------------------------------------------------------------------------------------


def messages(group: Group) -> dict[str, Any]:
    """What the model of this machine is made from: exchanges of all processes in pairs, and additions."""
    partner, found = group.rank ^ 1, {}
    for size in MESSAGES:
        source, sent, received = (np.ones(size, np.uint8) for _ in range(3))
        requests = [group.communicator.Recv_init(received, partner), group.communicator.Send_init(sent, partner)]
        exchange, written = partial(_exchange, requests), partial(np.copyto, sent, source)
        found[size] = [group.together(f"message {size}", exchange, written) for _ in range(LEAST_ROUNDS)]
    left, right = np.zeros(1 << 20, np.float32), np.zeros(1 << 20, np.float32)
    add = [group.together("add", lambda: np.add(left, right, out=left)) for _ in range(LEAST_ROUNDS)]
    return {"exchange": found, "add": [seconds / left.nbytes for seconds in add]}


def _exchange(requests: list[Any]) -> None:
    from mpi4py import MPI

    MPI.Prequest.Startall(requests)
    MPI.Request.Waitall(requests)


def sums(group: Group, collectives: EitherSum, n: int, rounds: int) -> dict[str, list[float]]:
    """Seconds of both sums of n floats, one block in each process, in turns. The floats have just been written, as
    gradients have."""
    source = np.random.default_rng(group.rank).normal(size=n).astype(np.float32)
    values = source.copy()
    written = partial(np.copyto, values, source)
    nodes = [Node(group.rank, 1)]
    found: dict[str, list[float]] = {"tree": [], "allreduce": []}
    for _ in group.rounds(rounds):
        for name, seconds in found.items():
            collectives.plain = name == "allreduce"
            add_up = partial(collectives.sum_nodes, [values], nodes, group.size, values)
            seconds.append(group.together(name, add_up, written))
    return found


# ---- steps -----------------------------------------------------------------------------------------------------------


class Steps:
    """Training steps of a network, recorded as ``fit`` has them, all on the first rows of an epoch.

    Args:
        widths: of the network.
        blocks: that each batch is cut into.
        rows: how many there are.
    """

    def __init__(self, widths: Sequence[int], collectives: Collectives, blocks: int, rows: int) -> None:
        backend = get_backend("cpu")
        backend.collectives = collectives
        model = Sequential(*layers_of(widths), seed=0, backend=backend)
        self._trainer = Trainer(model, "softmax_cross_entropy", SGD(RATE, momentum=0.9), blocks=blocks)
        rng = np.random.default_rng(0)
        x, y = rng.integers(0, 256, (rows, widths[0]), np.uint8), rng.integers(0, widths[-1], rows)
        self._rows = self._trainer.upload(Dataset(x, y, scale=1 / 255))
        self._epoch = Recordings().epoch(self._trainer, self._rows, rows, True, False)
        self._epoch.feed.begin_epoch(1)
        self._numbers = StepNumbers(0, 0, 1, RATE)

    def make(self, rows: int) -> None:
        """A step on a batch of so many rows."""
        self._epoch.step(self._numbers, rows)
        self._numbers = self._numbers._replace(step=self._numbers.step + 1, update=self._numbers.update + 1)


def steps(
    group: Group, collectives: EitherSum, widths: Sequence[int], rows: int, rounds: int
) -> dict[str, list[float]]:
    """Seconds of steps: of one process on the batch and on a part of it, of all with both sums on the batch (strong
    scaling) and on a batch as many times as large (weak scaling)."""
    size = group.size
    one = Steps(widths, Collectives(), 1, rows) if group.rank == 0 else None
    all_of_them = Steps(widths, collectives, size, rows * size)
    found: dict[str, list[float]] = {"one": [], "one, a part": []}
    found |= {f"{scaling}, {name}": [] for scaling in ("strong", "weak") for name in ("tree", "allreduce")}
    for _ in group.rounds(rounds):
        for name, seconds in found.items():
            if name.startswith("one"):
                count = rows if name == "one" else rows // size
                seconds.append(group.alone(name, partial(one.make, count) if one is not None else None))
                continue
            collectives.plain = name.endswith("allreduce")
            count = rows * size if name.startswith("weak") else rows
            seconds.append(group.together(name, partial(all_of_them.make, count)))
    return found


def blocks_on_one(group: Group, widths: Sequence[int], rows: int, rounds: int) -> dict[str, list[float]]:
    """Seconds of steps of one process on a batch in 1, 2 and 4 blocks, in turns."""
    made = {count: Steps(widths, Collectives(), count, rows) for count in (1, 2, 4)}
    found: dict[str, list[float]] = {str(count): [] for count in made}
    for _ in group.rounds(rounds):
        for count, one in made.items():
            found[str(count)].append(group.together(f"{count} blocks", partial(one.make, rows)))
    return found


def main(argv: Sequence[str]) -> None:
    """Measure as asked for, and print it where this is the first process."""
    asked = json.loads(argv[0])
    rounds = asked["rounds"]
    if asked["what"] == "blocks":
        found: dict[str, Any] = {}
        for name in asked["networks"]:
            group = Group(_NoOne(), asked["seconds"], asked["limit"])
            found[name] = blocks_on_one(group, WIDTHS[name], asked["batch"], rounds)
    else:
        from mpi4py import MPI

        communicator = MPI.COMM_WORLD
        group, collectives = Group(communicator, asked["seconds"]), EitherSum(communicator)
        found = {"engine": MPI.Get_library_version().partition(",")[0], "messages": messages(group)}
        for name in asked["networks"]:
            widths = WIDTHS[name]
            n = Sequential(*layers_of(widths), backend=get_backend("cpu")).store.layout.size
            group_of = Group(communicator, asked["seconds"], asked["limit"])
            found[name] = {
                "n": n,
                "sums": sums(group_of, collectives, n, rounds),
                "steps": steps(group_of, collectives, widths, asked["batch"], rounds),
            }
    if group.rank == 0:
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
