"""A layer of one's own: a residual block, y = x + tanh(x W + b), checked, trained, saved and loaded.

Expected: test accuracy at least 0.95
"""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

import nn
from nn import SGD, Layer, Linear, Sequential, Softmax, Trainer
from nn.initializers import get_initializer


@dataclass(frozen=True, repr=False)
class Residual(Layer):
    """y = x + tanh(x W + b), for rows of ``size`` numbers."""

    size: int

    def parameters(self):
        n = self.size
        return {"weight": ((n, n), get_initializer("glorot_uniform")), "bias": ((n,), get_initializer("zeros"))}

    def forward(self, x, ctx):
        z = ctx.backend.matmul(x, ctx.parameters["weight"])
        ctx.saved = x, ctx.backend.bias_activation(z, ctx.parameters["bias"], "tanh")
        return x + ctx.saved[1]

    def backward(self, dy, ctx):
        """dz = dy (1 - tanh^2);  dW = x^T dz;  db = column sums of dz;  dx = dy + dz W^T"""
        x, y = ctx.saved
        dz = dy * (1 - y * y)
        ctx.backend.matmul(x, dz, transpose_a=True, out=ctx.gradients["weight"])
        ctx.backend.column_sum(dz, out=ctx.gradients["bias"])
        return dy + ctx.backend.matmul(dz, ctx.parameters["weight"], transpose_b=True) if ctx.needs_dx else None


small = Sequential(Linear(3, 4), Residual(4), Linear(4, 2), backend="cpu", dtype="float64")
print(nn.check_gradients(small, "softmax_cross_entropy", [[1.0, 2.0, 3.0], [0.5, -1.0, 0.0]], [0, 1]))

data = nn.load_data("digits")
model = Sequential(Linear(64, 32), Residual(32), Residual(32), Linear(32, 10), Softmax(), backend="cpu", seed=0)
trainer = Trainer(model, "softmax_cross_entropy", SGD(0.1, momentum=0.9))
trainer.fit(data.train, epochs=15, batch_size=32)
with TemporaryDirectory() as folder:
    nn.save_model(model, Path(folder, "digits.safetensors"))
    loaded = nn.load_model(Path(folder, "digits.safetensors"), "cpu")
assert np.array_equal(loaded.predict(data.test), model.predict(data.test))
print(f"test accuracy {trainer.evaluate(data.test)['accuracy']:.3f}")
