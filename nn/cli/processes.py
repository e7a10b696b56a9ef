"""A run by several processes: ``--processes N`` starts them through MPI's launcher; each then finds that it is one."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from socket import gethostname
from tempfile import TemporaryDirectory
from time import monotonic, sleep
from typing import Any

from backends.collectives import Collectives, ProcessError, find_collectives, launched
from backends.cpu.cores import cores
from backends.cuda.device import gpu_count
from backends.devices import host_memory

from .kinds import UsageError, usage_errors
from .settings import Settings
from .signals import FORWARDED, PRESSED_ONCE

#: What libraries of matrix products read how many threads they have.
THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
#: Names the folder in which processes that end together leave their exit codes for who has started them, see ``left``.
EXIT_CODES = "XPNET_EXIT_CODES"
#: What the files there are called by which processes tell that signals no longer kill them.
READY = "ready-"
#: ... and what the one is called by which some tell that they have left before there was anything to be lost.
EARLY = "early"
#: Who has started them looks so often, and gives the others so long to leave as well: seconds.
POLL, MOST_LATE = 0.05, 1.0
#: Exit codes for SIGKILL: those of Open MPI and of MPICH, and that of a launcher to which it happens itself.
KILLED = (128 + 9, 9, -9)
#: Bytes that a process takes of its own, on digits: Python, NumPy and MPI, without what all processes share.
LEAST_MEMORY = 50_000_000
#: Lets Open MPI start more processes than there are cores, and as root in a container. Others do so anyway.
OF_OPEN_MPI = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
}


def to_start(settings: Settings) -> int:
    """How many processes are to be started for a run; 1 if none, as where this one was started as one of them."""
    return settings.processes or 1 if launched() == 1 else 1


def start_processes(settings: Settings, argv: Sequence[str] | None, tell: Callable[[str], None]) -> int:
    """Run the same command line in so many processes, and wait for them; the exit code.

    Signals that end this process interrupt those, as soon as they can be interrupted: MPI's launcher would kill them.

    Raises:
        UsageError: there is no MPI, or there are fewer GPUs, or less memory than they take; or no temporary folder.
    """
    count, words = to_start(settings), sys.orig_argv[1:] if argv is None else ["-m", "train", *argv]
    launcher = _launcher()
    if settings.device in ("cuda", "cupy") and 0 < (gpus := gpu_count()) < count:
        raise UsageError(
            f"--processes {count}: this machine has {gpus} GPU{'s'[: gpus > 1]}, and each process needs one of its "
            "own; start fewer, or say --device cpu"
        )
    needed, memory = count * LEAST_MEMORY, host_memory()
    if memory is not None and needed > memory[0]:
        raise UsageError(
            f"--processes {count}: these take {needed / 1e9:.1f} GB at least, and {memory[0] / 1e9:.1f} GB are free; "
            f"start fewer (this machine has {cores()} cores)"
        )
    if count > cores():
        tell(f"warning: {count} processes share the {cores()} cores of this machine, and take turns")
    each = settings.threads or max(cores() // count, 1)
    environment = OF_OPEN_MPI | os.environ | dict.fromkeys(THREADS, str(each)) | {FORWARDED: "1"}
    command = [launcher, "-n", str(count), sys.executable, *words]
    with usage_errors(OSError):  # the disk is full
        codes = TemporaryDirectory(prefix="xpnet-")
    environment |= {EXIT_CODES: codes.name}
    caught, first, has_begun = list[int](), list[float](), threading.Event()

    def interrupt(signum: int) -> None:
        has_begun.wait()
        while len(list(Path(codes.name).glob(f"{READY}*"))) < count and process.poll() is None:
            sleep(POLL)
        process.send_signal(signum)
        while process.poll() is None and not Path(codes.name, EARLY).exists():
            sleep(POLL)
        # One that has lost the signal in a library (``Signals``) would wait for those that have left.
        sleep(MOST_LATE)
        process.terminate()

    def forward(signum: int, frame: Any) -> None:
        if caught and monotonic() - first[0] < PRESSED_ONCE:
            return
        if caught:  # the second one ends all at once
            if has_begun.is_set():
                process.terminate()
        else:
            other = signal.SIGUSR2 if signum == signal.SIGINT else signal.SIGUSR1
            threading.Thread(target=interrupt, args=(other,), daemon=True).start()
            first.append(monotonic())
        caught.append(signum)

    before = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    for signum, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(signum, forward)
    try:
        # Not before signals are caught: one that came in between would end this process and leave the others behind.
        process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, start_new_session=True)
        has_begun.set()
        code = process.wait() or max((int(file.name) for file in Path(codes.name).glob("[0-9]*")), default=0)
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
        codes.cleanup()
    if caught and code:
        return 128 + caught[0]
    if code in KILLED:
        goes_on = "" if settings.output is None else f"; --resume {settings.output} goes on from the last checkpoint"
        tell(
            "error: one of the processes was killed, perhaps as memory ran short (the log of the system tells): "
            f"start fewer, or give them less by --batch-size or --window{goes_on}"
        )
    return code if code >= 0 else 128 - code


def tell_starter(what: str) -> bool:
    """Leave a file of that name for who has started this process; whether there is somebody, who can read it."""
    folder = os.environ.get(EXIT_CODES)
    if folder is not None:
        with suppress(OSError):
            Path(folder, what).touch()
            return True
    return False


def can_be_interrupted() -> None:
    """Tell who has started this process that signals no longer kill it."""
    tell_starter(f"{READY}{os.getpid()}")


def left_early(code: int) -> int:
    """The exit code, as ``left``, of a process that was interrupted before it had begun to train."""
    tell_starter(EARLY)
    return left(code)


def left(code: int) -> int:
    """The exit code of a process whose others end, too, by themselves: 0 where ``start_processes``, which has started
    it, finds the true one. At any other MPI's launcher would say, in eight lines, that it has seen it."""
    is_told = code != 0 and tell_starter(str(code))
    os.environ.pop(EXIT_CODES, None)
    return 0 if is_told else code


def _launcher() -> str:
    beside = Path(sys.executable).parent / "mpiexec"
    found = str(beside) if beside.exists() else shutil.which("mpiexec")
    if os.name == "nt":
        raise UsageError("--processes: Windows has no such signals; start them by mpiexec -n N python train.py ...")
    if found is None or find_spec("mpi4py") is None:
        raise UsageError("--processes needs mpi4py and an MPI: pip install 'xpnet[mpi]'")
    return found


def processes_of(settings: Settings) -> Collectives:
    """The processes of a run; this one alone where nobody has started others.

    Raises:
        UsageError: they cannot train together, or are not as many as was asked for.
    """
    if launched() == 1:
        return Collectives()
    try:
        found = find_collectives()
    except ProcessError as error:
        raise UsageError(str(error)) from None
    if settings.processes not in (None, found.size):
        raise UsageError(f"--processes {settings.processes}, but {found.size} have been started; leave it out")
    if settings.compare:
        raise UsageError("--compare is done by one process; start it without mpiexec")
    return found


def processes_started(known: Collectives) -> Collectives:
    """Those that were started, where an error has come up before a run knows of any but this one."""
    try:
        return find_collectives() if known.size == 1 and launched() > 1 else known
    except ProcessError:
        return known


def threads_of(settings: Settings, collectives: Collectives) -> int | None:
    """Threads of the matrix products: those that are asked for; else, of several processes, a share of the cores."""
    if settings.threads is not None or collectives.size == 1:
        return settings.threads
    here = collectives.gather(gethostname()).count(gethostname())
    return max(min((os.cpu_count() or 1) // here, cores()), 1)


@contextmanager
def first_tells(collectives: Collectives) -> Iterator[None]:
    """Of several processes the first one alone prints and warns meanwhile."""
    if collectives.rank == 0:
        yield
        return
    stdout = sys.stdout
    with open(os.devnull, "w", encoding="utf-8") as nowhere, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sys.stdout = nowhere
        try:
            yield
        finally:
            sys.stdout = stdout
