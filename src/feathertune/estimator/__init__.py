"""Texts in scikit-learn: `TextClassifier` and `TextRegressor`, on the path that ``feathertune train`` takes.

Loads no torch until one is fitted or predicts. Not for comparing methods: that takes a study.
"""

from feathertune.estimator.classifier import TextClassifier
from feathertune.estimator.regressor import TextRegressor

__all__ = ["TextClassifier", "TextRegressor"]
