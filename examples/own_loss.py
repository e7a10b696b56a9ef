"""A loss of one's own: not the mean, but the value that nine of ten stay below.

The pinball loss of a quantile q is q d for a target d above the output and (1 - q) d for one d below. Its smallest mean
is at the q-quantile of the targets. (Koenker and Bassett, "Regression quantiles", Econometrica 1978.)

Expected: share of the test rows below the line at least 0.86 and at most 0.94
"""

import numpy as np

from nn import Adam, Linear, Sequential, Tanh, Trainer, check_gradients

QUANTILE = 0.9


def pinball(xp, outputs, targets):
    """The loss of each row, and its derivative with respect to the outputs."""
    above = targets - outputs
    losses = xp.mean(xp.maximum(QUANTILE * above, (QUANTILE - 1) * above), axis=1)
    return losses, xp.where(above > 0, -QUANTILE, 1 - QUANTILE) / outputs.shape[1]


def made_up(rows, rng):
    """Waiting times by the hour of the day: long around noon, and then they vary the most."""
    hour = rng.uniform(8, 18, rows)
    busy = np.exp(-(((hour - 12) / 2) ** 2))
    return (hour[:, None] - 13) / 3, 5 + 10 * busy + rng.gamma(2, 1 + 3 * busy)


rng = np.random.default_rng(0)
x, minutes = made_up(4000, rng)
model = Sequential(Linear(1, 24), Tanh(), Linear(24, 24), Tanh(), Linear(24, 1), backend="cpu", seed=0)
trainer = Trainer(model, pinball, Adam(0.01))
trainer.fit(x, minutes, epochs=25, batch_size=64)

small = Sequential(Linear(1, 3), Tanh(), Linear(3, 1), backend="cpu", dtype="float64")
print(check_gradients(small, pinball, x[:5], minutes[:5]))
x_test, minutes_test = made_up(4000, rng)
for hour in (9, 12, 15):
    print(f"at {hour:2d} o'clock nine of ten wait less than {model.predict([[(hour - 13) / 3]])[0]:.1f} minutes")
print(f"share of the test rows below the line {np.mean(minutes_test < model.predict(x_test)):.3f}")
