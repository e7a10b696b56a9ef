"""Classes from a table: is a tumour benign or malignant, by 30 measurements?

Expected: test accuracy at least 0.95
"""

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

from nn import Adam, Dataset, Dropout, Linear, ReLU, Sequential, Softmax, Trainer

table = load_breast_cancer()
x, x_test, y, y_test = train_test_split(table.data, table.target, test_size=0.25, stratify=table.target, random_state=0)

# The columns differ by orders of magnitude: bring each to mean 0 and standard deviation 1 on the training rows.
mean, std = x.mean(axis=0), x.std(axis=0)
x, x_test = (x - mean) / std, (x_test - mean) / std

names = tuple(str(name) for name in table.target_names)
train = Dataset(x, y, class_names=names)
model = Sequential(Linear(30, 16), ReLU(), Dropout(0.2), Linear(16, 2), Softmax(), backend="cpu", seed=0)
trainer = Trainer(model, "softmax_cross_entropy", Adam(0.01, weight_decay=1.0))
trainer.fit(train, epochs=30, batch_size=32)

print(trainer.summary(batch_size=32))
print("the first five:", model.predict_names(x_test[:5]), "in truth:", [names[label] for label in y_test[:5]])
missed = np.flatnonzero(model.predict(x_test) != y_test)
print(f"wrong on {len(missed)} of {len(y_test)} test rows")
print(f"test accuracy {trainer.evaluate(x_test, y_test)['accuracy']:.3f}")
