"""How many rows a window and a block have by default, and whether the chunks of a file suit them."""

from __future__ import annotations

from ...messages import OneSentence
from ..checks import warn_user
from .placement import rows_in_step
from .reading import row_bytes
from .source import Source

#: The window has so many bytes of rows, unless it is said how many rows.
WINDOW_BYTES = 1 << 28
#: A window is read in so many blocks; in fewer, down to the least, where they have less than so many bytes.
BLOCKS, LEAST_BLOCKS, LEAST_BLOCK_BYTES = 256, 64, 1 << 16
#: Chunks of which a window holds fewer than so many mix too few parts of the data, and are unpacked time and again.
FEWEST_CHUNKS = 32


class StreamWarning(OneSentence, UserWarning):
    """Data that are stored in a way that takes long to read in any order."""


def default_window(rows: Source) -> int:
    """How many rows of a source are shuffled together."""
    return max(WINDOW_BYTES // row_bytes(rows), 1)


def default_block(rows: Source, window: int, *, with_gaps: bool) -> int:
    """How many rows of a source are read together.

    Args:
        with_gaps: whether some of its rows are left out.
    """
    least = -(-LEAST_BLOCK_BYTES // row_bytes(rows))
    block = max(window // BLOCKS, min(least, window // LEAST_BLOCKS), 1)
    if rows.chunk == 1:
        period = rows_in_step(rows)
        return block // period * period or block
    # Rows that are left out move the blocks against the chunks, so that each block ends in the middle of one.
    together = max(min(4, window // (FEWEST_CHUNKS * rows.chunk)), 1) if with_gaps else 1
    return max(block // rows.chunk, together) * rows.chunk


def warn_of_chunks(rows: Source, n: int, window: int) -> None:
    """Warn where a window of ``n`` rows of a source has few of its chunks."""
    chunk, most = rows.chunk, max(window // FEWEST_CHUNKS, 1)
    if n <= window or chunk <= most:
        return
    chunks = getattr(rows, "chunks_are", "chunks")
    has = f"has only {window // chunk}" if chunk <= window else "is smaller than one"
    warn_user(
        f"{rows.name} is stored in {chunks} of {chunk:,} rows, and a window of {window:,} rows {has}, so that rows are "
        f"mixed badly and read several times over: store it in {chunks} of {most:,} rows at most, or say "
        f"window={min(FEWEST_CHUNKS * chunk, n)}",
        StreamWarning,
    )
