"""The table of libraries: what a row needs, what it adds, and what help says of it."""

from __future__ import annotations

import sys

import pytest

from backends import Backend, DeviceError, ErrorKind, available, device_help, get_backend, registry
from backends.cpu.numpy_backend import NumpyBackend
from backends.devices import ArrayApiDevice, Library
from backends.registry import LIBRARIES, find_device, find_library
from tests.helpers.backends import make_backend


class OwnBackend(NumpyBackend):
    """Operations of a library's own."""


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, nothing_found_yet: None) -> Library:
    """One more row: a library with two spellings, a device of its own making, and operations of its own."""
    row = Library(
        names=("fake", "faked"),
        title="Fake",
        module="array_api_strict",
        about="a library for this test",
        install="pip install fake",
        takes="a number",
        default="1",
        find=lambda number: ArrayApiDevice("array_api_strict", f"device{number}"),
        listed=lambda: ("1", "2"),
        backend=lambda: OwnBackend,
        precisions=("float32", "bf16"),
        also_called=("phony",),
    )
    monkeypatch.setattr(registry, "LIBRARIES", [*LIBRARIES, row])
    return row


@pytest.mark.usefixtures("fake")
def test_a_library_is_added_by_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    device = find_device("fake")
    assert device.spec == "fake:1"
    assert device is find_device("fake:1") is find_device("faked") is find_device("fake:01")
    assert device is not find_device("fake:2")
    assert type(get_backend("fake")) is OwnBackend
    assert type(get_backend("fake", fused=False)) is Backend
    assert [spec for spec, _ in available()][-2:] == ["fake:1", "fake:2"]
    assert device_help().endswith("fake or fake:N (a library for this test), or another installed array-API library")
    for spec, meant in (("phony:2", "fake:2"), ("fakee", "fake"), ("phony", "fake")):
        with pytest.raises(DeviceError, match=rf"\(did you mean {meant}\?\); known are .*, fake, fake:N, or another"):
            get_backend(spec)
    with pytest.raises(DeviceError, match="fake:1 has no tf32 products") as caught:
        get_backend("fake", precision="tf32")
    assert caught.value.kind is ErrorKind.LACKS_PRECISION


@pytest.mark.usefixtures("fake")
def test_only_libraries_of_the_table_are_offered_for_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "array_api_strict", None)
    with pytest.raises(DeviceError, match=r"^fake: Fake is not installed \(pip install fake\)$") as caught:
        get_backend("fake")
    assert caught.value.kind is ErrorKind.NOT_INSTALLED


@pytest.mark.usefixtures("nothing_found_yet")
def test_a_row_needs_no_more_than_names(monkeypatch: pytest.MonkeyPatch) -> None:
    row = Library(names=("plain",), title="Plain", module="array_api_strict")
    monkeypatch.setattr(registry, "LIBRARIES", [row])
    assert find_device("plain:Device1") is find_device("plain:device1")
    backend = get_backend("plain:device1")
    assert (type(backend), backend.device.spec) == (Backend, "plain:device1")
    assert backend.to_numpy(backend.asarray([1.0])).tolist() == [1.0]


@pytest.mark.usefixtures("nothing_found_yet")
def test_a_library_that_is_not_installed_and_names_no_command(monkeypatch: pytest.MonkeyPatch) -> None:
    row = Library(names=("plain",), title="Plain", module="no_such_module_anywhere")
    monkeypatch.setattr(registry, "LIBRARIES", [row])
    with pytest.raises(DeviceError, match=r"^plain: Plain is not installed$") as caught:
        find_device("plain")
    assert caught.value.kind is ErrorKind.NOT_INSTALLED


def test_the_help_names_every_library() -> None:
    assert device_help() == (
        "auto (a GPU that works, else the CPU, with Numba where that works), cpu (NumPy), cuda or cuda:N (an NVIDIA "
        "GPU, through CuPy), numba (NumPy, with loops compiled by Numba), torch (PyTorch), array_api_strict (the "
        "array-API standard and nothing else, for tests), or another installed array-API library"
    )


@pytest.mark.parametrize("library", LIBRARIES, ids=lambda library: library.title)
def test_rows_are_complete(library: Library) -> None:
    assert library.about
    assert "pip install" in library.install
    assert [find_library(name) for name in library.names] == [library] * len(library.names)
    names = [name for other in LIBRARIES for name in (*other.names, *other.also_called)]
    assert all(names.count(name) == 1 for name in (*library.names, *library.also_called))


@pytest.mark.parametrize(
    "spec", ["cpu", "numba", pytest.param("cuda", marks=pytest.mark.gpu), "torch", "array_api_strict"]
)
def test_a_device_says_whether_its_library_has_a_backend(spec: str) -> None:
    device = make_backend((spec, True)).device
    assert device.has_overrides == (find_library(spec).backend is not None)
    assert get_backend(spec).fused == device.has_overrides
