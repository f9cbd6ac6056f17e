"""What a run gives back, whatever kind it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass
class Outcome:
    """What a run gives back beside its files; probabilities are ``(N, C)`` of the test and validation rows.

    What is decided by them, and how that is scored, follows from the task of the labels (`feathertune.tasks`).
    """

    test: np.ndarray
    validation: np.ndarray
    fields: dict[str, Any]
