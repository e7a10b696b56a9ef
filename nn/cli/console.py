"""Standard output and standard error that never cost a run: a reader that leaves, a full disk, a closed stream."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from ..messages import OneSentence


class OutputLost(Exception):
    """Nobody reads what is printed, or it cannot be written, and nothing else is left of the run.

    Attributes:
        error: what went wrong.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(reason_of(error))
        self.error = error


def reason_of(error: Exception) -> str:
    """What went wrong, in words."""
    return str(getattr(error, "strerror", None) or error)


class Sink:
    """A text stream that is written to as long as it can be; what comes later is dropped.

    What its encoding does not have is written as Python escapes it.

    Attributes:
        error: why it can be written to no longer; None as long as it can.
        is_needed: whether that ends the run, by ``OutputLost``; else it goes on.
    """

    def __init__(self, stream: TextIO | None, on_error: Any = None) -> None:
        self._stream = stream
        self._on_error = on_error
        self.error: Exception | None = None
        self.is_needed = False

    def write(self, text: str) -> int:
        if self._stream is not None and self.error is None:
            try:
                try:
                    self._stream.write(text)
                except UnicodeEncodeError:
                    encoding = self._stream.encoding
                    self._stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
            except (OSError, ValueError) as error:  # ValueError: somebody closed it
                self._leave(error)
        return len(text)

    def flush(self) -> None:
        if self._stream is not None and self.error is None:
            try:
                self._stream.flush()
            except (OSError, ValueError) as error:
                self._leave(error)

    def isatty(self) -> bool:
        return self._stream is not None and self.error is None and self._stream.isatty()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_stream"], name)

    def _leave(self, error: Exception) -> None:
        self.error = error
        # What the stream still holds would be an error again when Python ends.
        with suppress(OSError, ValueError, AttributeError):
            handle = os.open(os.devnull, os.O_WRONLY)
            os.dup2(handle, self.fileno())
            os.close(handle)
        if self.is_needed:
            raise OutputLost(error)
        if self._on_error is not None:
            self._on_error(error)


@contextmanager
def lasting_streams(program: str) -> Iterator[Sink]:
    """Standard output and standard error are ``Sink``s meanwhile; gives that of the output.

    Where the output is lost and the run goes on, standard error says so.
    """
    _occupy_closed_handles()

    def tell(error: Exception) -> None:
        why = "nobody reads the output any more" if isinstance(error, BrokenPipeError) else ""
        why = why or f"the output cannot be written: {reason_of(error)}"
        print(f"{program}: {why}; the run goes on and writes its files", file=sys.stderr, flush=True)

    def show(message: Warning | str, category: type[Warning], *others: Any, **named: Any) -> None:
        if issubclass(category, OneSentence):  # of ours; whose line of code it is helps nobody
            print(f"{program}: warning: {message}", file=sys.stderr, flush=True)
        else:
            show_others(message, category, *others, **named)

    stdout, stderr, show_others = sys.stdout, sys.stderr, warnings.showwarning
    out = Sink(stdout, tell)
    sys.stdout, sys.stderr, warnings.showwarning = out, Sink(stderr), show
    try:
        yield out
        out.flush()
    finally:
        sys.stdout, sys.stderr, warnings.showwarning = stdout, stderr, show_others


def _occupy_closed_handles() -> None:
    """A program may be started without standard streams. The next file that is opened would have the handle of one, and
    whatever a library writes to standard error would go into that file."""
    for handle in (0, 1, 2):
        try:
            os.fstat(handle)
        except OSError:
            with suppress(OSError):
                os.open(os.devnull, os.O_RDWR)
