"""Reads of files in threads that read ahead."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from nn.data.streamed.many_reads import ManyReads
from nn.data.streamed.open_files import keep_files_open


def many_reads_or_skip() -> ManyReads:
    try:
        return ManyReads()
    except OSError as error:
        pytest.skip(f"this system makes no reads together ({error.strerror})")


def reading_ahead(read: Callable[[], object]) -> None:
    """Call it in a thread that keeps its files open."""

    def in_thread() -> None:
        keep_files_open()
        read()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(in_thread).result()
