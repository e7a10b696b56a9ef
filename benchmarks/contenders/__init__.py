"""What trains in ``benchmarks.epoch``: the same network, rows, batches and optimizer in every library.

A contender is a class with ``epoch()``, which trains once over all rows in a fresh order and returns when that is
finished, ``epochs(count)``, and ``accuracy(x, y)``. Its imports happen when it is made, so that a process has only its
own. All use SGD with dampened momentum 0.9, v <- 0.9 v + 0.1 g, and hold the rows as their own users would: on the
device from the start, and on a GPU as bytes where converting them costs no launch of its own.
"""

from __future__ import annotations

from .base import Contender
from .jax import Jax, JaxUnrolled
from .keras import Keras
from .products import Products
from .pytorch import Torch, TorchCompile, TorchGraph, TorchGraphCompiled
from .scikit_learn import ScikitLearn
from .tutorial import Tutorial
from .xpnet import Xpnet, XpnetNumba

#: Everybody, by name.
CONTENDERS: dict[str, type[Contender]] = {
    contender.name: contender
    for contender in (
        *(Products, Xpnet, XpnetNumba, Jax, JaxUnrolled, Keras),
        *(Torch, TorchCompile, TorchGraph, TorchGraphCompiled, ScikitLearn, Tutorial),
    )
}
