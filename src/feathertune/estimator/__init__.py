"""scikit-learn estimators for texts, trained as by ``feathertune train``; torch loads at `fit` or `predict`."""

from feathertune.estimator.classifier import TextClassifier
from feathertune.estimator.regressor import TextRegressor

__all__ = ["TextClassifier", "TextRegressor"]
