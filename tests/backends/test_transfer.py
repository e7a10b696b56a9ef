"""Arrays of a device that threads write while it computes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from backends import Backend
from tests.helpers.emulated_cuda import EmulatedCudaDevice, needs_compiler, pinned_at
from tests.helpers.with_emulated import WITH_EMULATED, made


@pytest.fixture(params=WITH_EMULATED)
def backend(request: pytest.FixtureRequest) -> Backend:
    return made(request.param, "float32")


def filler(value: int) -> Callable[[Sequence[np.ndarray]], None]:
    def fill(host: Sequence[np.ndarray]) -> None:
        for number, array in enumerate(host):
            array[...] = value + number

    return fill


FLOAT, BYTE, INT = np.dtype("f4"), np.dtype("u1"), np.dtype("i8")


def test_parts_of_arrays_are_written_by_threads(backend: Backend) -> None:
    with backend.use():
        x, order = backend.empty((40, 3), backend.xp.uint8), backend.empty((40,), backend.xp.int64)
        transfer = backend.device.transfer([3 * 4, 8 * 4], 3)
        after = transfer.mark()
        with ThreadPoolExecutor(3) as pool:
            futures = [
                pool.submit(
                    transfer.write,
                    [x[start : start + 4, ...], order[start : start + 4, ...]],
                    [BYTE, INT],
                    filler(start),
                    after,
                )
                for start in range(0, 40, 4)
            ]
        for future in futures:
            future.result()
        transfer.join()
        found = backend.to_numpy(backend.copy(x)), backend.to_numpy(backend.copy(order))
        transfer.close()
    expected = np.repeat(np.arange(0, 40, 4), 4)
    np.testing.assert_array_equal(found[0], np.repeat(expected[:, None], 3, axis=1))
    np.testing.assert_array_equal(found[1], expected + 1)


def test_an_error_while_filling_is_that_of_the_caller(backend: Backend) -> None:
    with backend.use():
        x = backend.zeros((4,))
        transfer = backend.device.transfer([16], 1)

        def fill(host: Sequence[np.ndarray]) -> None:
            raise OSError("the disk is gone")

        for _ in range(3):  # and what was needed for it can be used again
            with pytest.raises(OSError, match="the disk is gone"):
                transfer.write([x], [FLOAT], fill)
        transfer.write([x], [FLOAT], filler(7))
        transfer.join()
        np.testing.assert_array_equal(backend.to_numpy(backend.copy(x)), 7.0)
        transfer.close()


# ---- on a GPU, whose copies the emulated device makes as late as it may ----------------------------------------------


@needs_compiler
def test_copies_are_made_between_the_steps_before_and_the_steps_after() -> None:
    device = EmulatedCudaDevice()
    with device.use():
        x = device.from_numpy(np.zeros(8, np.float32))
        transfer = device.transfer([32], 1)
        transfer.write([x], [FLOAT], filler(3), transfer.mark())
        np.testing.assert_array_equal(device.to_numpy(x), 0.0)  # nobody has asked for it yet
        transfer.join()
        np.testing.assert_array_equal(device.to_numpy(x), 3.0)


@needs_compiler
def test_a_copy_waits_for_the_steps_that_were_launched_before_its_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    device = EmulatedCudaDevice()
    log = list[tuple[str, bool]]()
    stream = type(device.stream)
    wait_event = stream.wait_event

    def logged(self: Any, event: Any) -> None:
        log.append(("the copies wait" if event.stream is device.stream else "the steps wait", self is device.stream))
        wait_event(self, event)

    monkeypatch.setattr(stream, "wait_event", logged)
    with device.use():
        x = device.from_numpy(np.zeros(8, np.float32))
        transfer = device.transfer([32], 1)
        transfer.write([x], [FLOAT], filler(3), transfer.mark())
        transfer.join()
    assert log == [("the copies wait", False), ("the steps wait", True)]


@needs_compiler
def test_a_buffer_is_filled_anew_only_when_it_has_been_copied() -> None:
    """Of more writes than there are buffers, each has its own numbers."""
    device = EmulatedCudaDevice()
    with device.use():
        x = device.from_numpy(np.zeros((20, 4), np.float32))
        transfer = device.transfer([16], 1)
        for row in range(20):
            transfer.write([x[row]], [FLOAT], filler(row))
        transfer.join()
        np.testing.assert_array_equal(device.to_numpy(x)[:, 0], np.arange(20))


@needs_compiler
def test_large_buffers_are_few() -> None:
    before, device = {*pinned_at}, EmulatedCudaDevice()
    sizes = {}
    for size in (1000, 20 << 20, 200 << 20):
        transfer = device.transfer([size], 4)
        sizes[size] = [len(memory) for at, memory in pinned_at.items() if at not in before]
        transfer.close()
    assert sizes == {1000: [1024] * 8, 20 << 20: [20 << 20] * 3, 200 << 20: [200 << 20] * 2}


@needs_compiler
def test_memory_of_the_host_is_given_back_after_the_last_copy() -> None:
    before = len(pinned_at)
    device = EmulatedCudaDevice()
    with device.use():
        x = device.from_numpy(np.zeros(4, np.float32))
        transfer = device.transfer([16], 2)
        assert len(pinned_at) == before + 4
        transfer.write([x], [FLOAT], filler(5))
        transfer.close()
        assert len(pinned_at) == before
        device.synchronize()
        np.testing.assert_array_equal(device.to_numpy(x), 5.0)
