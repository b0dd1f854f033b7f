"""A classifier for scikit-learn's pipelines, grids and cross-validation. Importing this module imports scikit-learn."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from xpnet.data.datasets import Dataset
from xpnet.nn.activations import ReLU
from xpnet.nn.layers import Dense, Dropout, Layer
from xpnet.nn.network import Network
from xpnet.nn.optimizers import Adam
from xpnet.training.fit import fit


class Classifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A multilayer perceptron with scikit-learn's interface: `fit`, `predict`, `predict_proba`, `score`.

    Samples are rows of numbers. Bring the features to a common scale first, for example with ``StandardScaler`` in a
    pipeline. Labels may be numbers or strings.

    Parameters
    ----------
    hidden_sizes : sequence of int
        The number of units in each hidden layer; a ReLU follows each.
    dropout : float
        The share of hidden units to drop in training.
    learning_rate : float
        The learning rate of Adam.
    epochs, batch_size : int
        The number of passes through the samples, and the number of samples per step.
    class_weight : "balanced" or dict, optional
        The weight of each label; labels that are not named have a weight of 1. "balanced" gives all the same sum.
    backend : str, optional
        See `xpnet.get_backend`.
    dtype : {"float32", "float64"}
        The dtype of parameters and arithmetic.
    random_state : int
        The seed of all random numbers.

    Attributes
    ----------
    classes_ : array
        The labels.
    network_ : TrainedNetwork
        The trained network, for everything else, such as exporting.
    history_ : History
        One record per epoch. Its test columns hold the loss and accuracy on a single training sample; to hold out
        samples, use scikit-learn's own tools.
    n_features_in_ : int
        The number of features.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.model_selection import cross_val_score
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from xpnet.sklearn import Classifier
    >>> model = make_pipeline(StandardScaler(), Classifier((20,), learning_rate=0.01, epochs=30))
    >>> bool(cross_val_score(model, *load_iris(return_X_y=True)).mean() > 0.9)
    True
    """

    def __init__(
        self,
        hidden_sizes: Any = (100,),
        *,
        dropout: float = 0.0,
        learning_rate: float = 1e-3,
        epochs: int = 50,
        batch_size: int = 32,
        class_weight: Any = None,
        backend: str | None = None,
        dtype: str = "float32",
        random_state: int = 0,
    ) -> None:
        self.hidden_sizes = hidden_sizes
        self.dropout = dropout
        self.learning_rate = learning_rate
        self.epochs = epochs
        self.batch_size = batch_size
        self.class_weight = class_weight
        self.backend = backend
        self.dtype = dtype
        self.random_state = random_state

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train on samples X of shape (n, features) with labels y of shape (n,) and, optionally, a weight for each."""
        X, y = validate_data(self, X, y, dtype=np.dtype(self.dtype))
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"y: has one class only, {self.classes_[0]}, and a classifier needs two")
        layers: list[Layer] = []
        for units in self.hidden_sizes:
            layers += [Dense(units), ReLU(), *([Dropout(self.dropout)] if self.dropout else [])]
        network = Network([*layers, Dense(len(self.classes_))], input_shape=(X.shape[1],))
        # A dataset needs a test set, so one training sample serves as one.
        names = tuple(str(label) for label in self.classes_)
        data = Dataset("scikit-learn", X, labels, X[:1], labels[:1], len(names), class_names=names)
        run = fit(
            network,
            data,
            optimizer=Adam(self.learning_rate),
            epochs=self.epochs,
            batch_size=self.batch_size,
            class_weight=self.class_weight,
            sample_weight=sample_weight,
            seed=self.random_state,
            backend=self.backend,
            dtype=self.dtype,
            progress=False,
        )
        self.network_, self.history_ = run.network, run.history
        return self

    def predict_proba(self, X: Any) -> NDArray[Any]:
        """Return the probability of each class, an array of shape (n, classes)."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.dtype(self.dtype), reset=False)
        return np.asarray(self.network_.predict_proba(X))

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the most probable label of each sample."""
        check_is_fitted(self)
        return np.asarray(self.classes_[np.argmax(self.predict_proba(X), axis=1)])
