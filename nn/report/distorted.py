"""Pictures as training with random distortions sees them."""

from __future__ import annotations

import numpy as np

from backends import get_backend

from ..data import Augment, Dataset
from ..feed import AugmentedFeed, Rows
from ..memory import Workspace
from ..picture_shape import shape_to_distort


def distorted(data: Dataset, augment: Augment, epochs: int, seed: int = 0) -> np.ndarray:
    """The rows of ``data`` as a trainer of a network with that seed sees them in each of the first epochs, as numbers
    of the data set: (epochs, n, height, width, channels), float64.

    Raises:
        DataError: the rows are no pictures.
    """
    backend, shape = get_backend("cpu", "float64"), shape_to_distort(data)
    x = backend.asarray(data.x)
    rows = Rows(data, x, backend.zeros((len(data),)), 1.0, 0.0, False, None)
    # As for a network that scales: what the feed gives are the numbers of the data set.
    feed = AugmentedFeed(Workspace(backend), rows, augment, shape, seed=seed, network_scales=True)
    seen = []
    for epoch in range(1, epochs + 1):
        feed.begin_epoch(epoch)
        seen.append(np.array(feed.batch(0, len(data))[0]).reshape(-1, *shape))
    return np.stack(seen)
