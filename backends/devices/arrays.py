"""Any array, of whatever library and device, to NumPy."""

from __future__ import annotations

from typing import Any

import array_api_compat
import numpy as np


def as_numpy(x: Any) -> np.ndarray:
    """``x`` (number, list, or array of any library and device) as a NumPy array.

    Raises:
        TypeError: it is ragged, sparse, text, or otherwise not numbers.
    """
    if isinstance(x, np.ndarray | np.generic):
        array = np.asarray(x)
    elif type(x).__module__.startswith(("scipy.sparse", "cupyx.scipy.sparse")):
        raise TypeError("a sparse matrix cannot be used here; pass its .toarray()")
    elif is_torch_tensor(x):
        array = plain_tensor(x).cpu().numpy()
    elif array_api_compat.is_cupy_array(x):
        array = x.get()
    elif hasattr(x, "__dlpack__"):
        array = _from_dlpack(x)
    else:
        try:
            array = np.asarray(x)
        except ValueError as error:
            raise TypeError(f"this cannot be an array of numbers: {error}") from None
    if array.dtype.kind not in "biuf":
        raise TypeError(f"an array of numbers is needed, not of dtype {array.dtype}")
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def array_like(x: Any, like: Any) -> Any:
    """``x``, an array of any library, as one of the library and on the device of ``like``: the same memory where both
    are on one device and the library shares it. Lists and numbers stand for NumPy.

    Raises:
        TypeError: ``like`` is no array.
    """
    if isinstance(like, np.ndarray | np.generic | list | tuple | int | float):
        return as_numpy(x)
    if is_torch_tensor(like):
        if is_torch_tensor(x):
            return x.to(like.device)
        import torch

        return torch.asarray(x if is_on_cuda(x) else as_numpy(x)).to(like.device)
    if array_api_compat.is_cupy_array(like):
        import cupy

        with like.device:
            return cupy.from_dlpack(x) if is_on_cuda(x) else cupy.asarray(as_numpy(x))
    if not hasattr(like, "__array_namespace__"):
        raise TypeError(f"like must be an array, a DataFrame or a Series, not {type(like).__name__}")
    xp = like.__array_namespace__()
    return array_api_compat.to_device(xp.from_dlpack(as_numpy(x)), like.device)


def dense_tensor(x: Any) -> Any:
    """A PyTorch tensor without its history."""
    if str(x.layout) != "torch.strided":
        raise TypeError("a sparse tensor cannot be used here; pass its .to_dense()")
    return x.detach()


def plain_tensor(x: Any) -> Any:
    """A PyTorch tensor as other libraries take it: dense, without its history, in a dtype that they have too."""
    tensor = dense_tensor(x)
    return tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor


def is_torch_tensor(x: Any) -> bool:
    return type(x).__module__.partition(".")[0] == "torch"


def _from_dlpack(x: Any) -> np.ndarray:
    if str(getattr(x, "dtype", "")) == "bfloat16":
        x = x.astype("float32")
    try:
        return np.asarray(np.from_dlpack(x))
    except (BufferError, RuntimeError, TypeError, AttributeError) as error:
        if not hasattr(x, "__array_namespace__"):
            raise TypeError(f"NumPy cannot read this {type(x).__name__}: {first_line(error)}") from None
        # Not on a device whose memory the host can read: the first device of a library is, by custom, the host's.
        namespace = x.__array_namespace__()
        host = namespace.__array_namespace_info__().devices()[0]
        return np.array(np.from_dlpack(x.to_device(host)))


def is_on_cuda(x: Any) -> bool:
    if not hasattr(x, "__dlpack_device__"):
        return False
    kind, _ = x.__dlpack_device__()
    return int(kind) == 2  # kDLCUDA


def first_line(error: BaseException) -> str:
    """What an error says, in a line."""
    return str(error).strip().partition("\n")[0] or type(error).__name__
