"""An autoencoder: pictures of digits, 64 pixels each, through 8 numbers and back.

The targets are the rows themselves. Principal components do the same with straight lines, which is the measure here.

Expected: error of the principal components divided by ours at least 1.3
"""

import numpy as np
from sklearn.decomposition import PCA

from nn import Adam, Linear, ReLU, Sequential, Sigmoid, Trainer, load_data

data = load_data("digits")
x, x_test = data.train.features(), data.test.features()  # from 0 to 1

encoder = [Linear(64, 48), ReLU(), Linear(48, 8)]
decoder = [Linear(8, 48), ReLU(), Linear(48, 64), Sigmoid()]
model = Sequential(*encoder, *decoder, backend="cpu", seed=0)
trainer = Trainer(model, "mean_squared_error", Adam(0.003))
trainer.fit(x, x, epochs=60, batch_size=32)

again = model.predict(x_test)
error = np.mean((again - x_test) ** 2)
pca = PCA(8).fit(x)
straight = np.mean((pca.inverse_transform(pca.transform(x_test)) - x_test) ** 2)

codes = model.layer_outputs(x_test)["2"]  # what the encoder makes of the rows
print("the 8 numbers of the first digit:", np.round(codes[0], 1))
for line, line_again in zip(x_test[0].reshape(8, 8), again[0].reshape(8, 8), strict=True):
    print(*("".join(" .:*#"[min(int(5 * pixel), 4)] * 2 for pixel in row) for row in (line, line_again)), sep="  |  ")
print(f"mean squared error {error:.4f}, by principal components {straight:.4f}")
print(f"error of the principal components divided by ours {straight / error:.2f}")
