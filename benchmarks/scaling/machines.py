"""Networks that are measured and simulated, and the machines of the simulation, with where their figures are from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from nn import layers as nn_layers

from .model import Compute, Link, Machine


@dataclass(frozen=True)
class Network:
    """What is trained.

    Attributes:
        name: what it is.
        parameters: their number.
        flops: floating-point operations of a training step for each row.
        rows: of a batch on one process.
    """

    name: str
    parameters: int
    flops: float
    rows: int


def fully_connected(widths: Sequence[int], rows: int) -> Network:
    """The network with these widths: six operations for each weight and row, four in the first layer."""
    weights = [n_in * n_out for n_in, n_out in pairwise(widths)]
    flops = 6.0 * sum(weights) - 2.0 * weights[0]
    return Network("-".join(map(str, widths)), sum(weights) + sum(widths[1:]), flops, rows)


#: Widths of the networks that are measured, by their names.
WIDTHS = {"small": (784, 30, 10), "middle": (784, 800, 10), "wide": (784, 2000, 2000, 10)}


def layers_of(widths: Sequence[int]) -> list[nn_layers.Layer]:
    """Layers of these widths, with ReLU between them."""
    found: list[nn_layers.Layer] = []
    for n_in, n_out in pairwise(widths):
        found += [nn_layers.Linear(n_in, n_out), nn_layers.ReLU()]
    return found[:-1]


#: He et al.: Deep residual learning for image recognition, 2016: 25.6 million parameters, 3.8e9 multiplications and
#: additions for a picture, forward; three times as many for a training step.
RESNET_50 = Network("ResNet-50", 25_600_000, 3 * 2 * 3.8e9, 32)

#: Which part of the peak of a GPU in float32 a step is taken to reach: an assumption.
OF_PEAK = 0.5
#: Seconds of a step whatever its rows are: a captured graph of some 20 kernels; an assumption.
FIXED_ON_GPU = 50e-6

#: Latencies and launches are those by which NCCL 2.19 chooses its algorithm (src/graph/tuning.cc: ring, Simple). How
#: many messages of a group are under way at a time is an assumption.
H100 = Machine(
    "8 H100 a node, NVLink, 400 Gb/s InfiniBand for each",
    per_node=8,
    inside=Link(3.4e-6, 1 / 360e9),
    between=Link(14.0e-6, 1 / 47e9),
    add=3 / 3.35e12,
    launch=8.4e-6,
    at_once=8,
    is_gpu=True,
    source="NVLink 450 GB/s in each direction (NVIDIA, HGX H100), 80 % of it assumed; 46 to 48 GB/s for each card of "
    "400 Gb/s (NVIDIA/nccl-tests, issue 290); memory 3.35 TB/s; latencies: NCCL 2.19, src/graph/tuning.cc",
)
H100_PEAK = 67e12

P100 = Machine(
    "MN-1: 8 P100 a node, PCIe, two 56 Gb/s InfiniBand for all eight",
    per_node=8,
    inside=Link(5.7e-6, 1 / 12e9),
    between=Link(14.0e-6, 8 / 14e9),
    add=3 / 0.732e12,
    launch=8.4e-6,
    at_once=8,
    is_gpu=True,
    source="nodes and InfiniBand: Preferred Networks, 'MN-1: a GPU cluster behind 15-min ImageNet', 2017; PCIe of "
    "12 GB/s and latencies: NCCL 2.19; memory 732 GB/s and 10.6 TFLOPS: NVIDIA",
)
P100_PEAK = 10.6e12

#: T. Akiba, K. Fukuda, S. Suzuki: ChainerMN: Scalable Distributed Deep Learning Framework, 2017, arXiv:1710.11351:
#: ResNet-50 on ImageNet, up to 128 GPUs.
CHAINERMN = 128, 0.90

#: Messages of Open MPI over Ethernet of 40 Gb/s: J. Squyres (Cisco), "MPI over 40Gb Ethernet", 2014.
ETHERNET_40 = Link(1.93e-6, 8 / 37.23e9)


def on_gpu(network: Network, peak: float) -> Compute:
    """Steps of a network on a GPU with that peak."""
    return Compute(FIXED_ON_GPU, network.flops / (OF_PEAK * peak))


def nodes_like_this(per_node: int, inside: Link, add: float) -> Machine:
    """Many machines like the one that was measured, joined by Ethernet, whose link all processes of a node share."""
    overhead = inside.latency  # of a call from Python, and of processes that share cores, is in it
    between = Link(overhead + ETHERNET_40.latency, per_node * ETHERNET_40.per_byte)
    return Machine(
        f"nodes like this machine ({per_node} processes), 40 Gb/s Ethernet",
        per_node=per_node,
        inside=inside,
        between=between,
        add=add,
        source="in a node: measured here; between nodes: 1.93 us and 37.23 Gb/s (Cisco, Open MPI over usNIC, 2014) "
        "beside the latency of a call measured here",
    )
