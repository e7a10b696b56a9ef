"""Values from a table: how far will diabetes have gone in a year, by ten measurements of today?

The rows are few and the noise is large: no model explains much more than half of the variance. A linear one is hard to
beat, so it stands beside.

Expected: test R2 at least 0.35
"""

from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression
from sklearn.metrics import mean_absolute_error, r2_score
from sklearn.model_selection import train_test_split

from nn import Adam, Linear, Sequential, Tanh, Trainer

x, y = load_diabetes(return_X_y=True, scaled=False)
x, x_test, y, y_test = train_test_split(x, y, test_size=0.25, random_state=0)
mean, std = x.mean(axis=0), x.std(axis=0)
x, x_test = (x - mean) / std, (x_test - mean) / std
center, spread = y.mean(), y.std()  # targets near 0 and 1 are quicker to learn

model = Sequential(Linear(10, 16), Tanh(), Linear(16, 1), backend="cpu", seed=0)
trainer = Trainer(model, "mean_squared_error", Adam(0.003, weight_decay=1.0))
trainer.fit(x, (y - center) / spread, epochs=60, batch_size=32)

predicted = model.predict(x_test) * spread + center
linear = LinearRegression().fit(x, y).predict(x_test)
print(f"linear regression: R2 {r2_score(y_test, linear):.3f}, off by {mean_absolute_error(y_test, linear):.1f}")
print(f"the network is off by {mean_absolute_error(y_test, predicted):.1f}")
print(f"test R2 {r2_score(y_test, predicted):.3f}")
