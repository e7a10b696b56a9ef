"""The modules that PyTorch lacks. Nothing but ``torch_modules`` imports this, and only where PyTorch is asked for."""

from __future__ import annotations

from typing import Any

import torch


class Rescale(torch.nn.Module):  # type: ignore[misc, unused-ignore]
    """y = x * scale + shift: the numbers of raw rows as the network was trained on them."""

    def __init__(self, scale: float, shift: float) -> None:
        super().__init__()
        self.scale = scale
        self.shift = shift

    def forward(self, x: Any) -> Any:
        return x * self.scale + self.shift

    def extra_repr(self) -> str:
        return f"scale={self.scale}, shift={self.shift}"


class ChannelsFirst(torch.nn.Module):  # type: ignore[misc, unused-ignore]
    """Pictures (m, height, width, channels) as PyTorch has them, (m, channels, height, width); also (m, height, width),
    of one channel."""

    def forward(self, x: Any) -> Any:
        return x[:, None] if x.ndim == 3 else x.permute(0, 3, 1, 2)


class ChannelsLast(torch.nn.Module):  # type: ignore[misc, unused-ignore]
    """Pictures (m, channels, height, width) as xpnet has them, (m, height, width, channels)."""

    def forward(self, x: Any) -> Any:
        return x.permute(0, 2, 3, 1)


class Standardize(torch.nn.Module):  # type: ignore[misc, unused-ignore]
    """y = (x - mean) / sqrt(variance), column by column, in training and after."""

    mean: torch.Tensor
    variance: torch.Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("variance", torch.ones(features))

    def forward(self, x: Any) -> Any:
        return (x - self.mean) / torch.sqrt(self.variance)

    def extra_repr(self) -> str:
        return f"{len(self.mean)}"
