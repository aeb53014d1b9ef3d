"""Whether networks that have learnt the same agree about a radiograph: the spread of a deep ensemble.

Source: Lakshminarayanan et al. 2017, arXiv 1612.01474.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bmdkit.evaluation.familiarity import ACCEPTED_SHARE, rate_against
from bmdkit.evaluation.plausibility import Quality

LEAST = 1e-9


@dataclass(frozen=True)
class Disagreement:
    """How far networks usually are apart.

    Attributes:
        limit: Standard deviation over the networks up to which a prediction is accepted, in its unit.

    Example:
        >>> usual = Disagreement.of(np.array([[0.70, 0.72], [0.90, 0.88]]))
        >>> usual.check(np.array([0.6, 0.9]))[0]
        'reject'
    """

    limit: float

    @classmethod
    def of(cls, predicted: np.ndarray) -> Disagreement:
        """Of predictions (n, networks), best of patients that nothing was learnt from."""
        return cls(max(float(np.quantile(np.std(predicted, axis=1), ACCEPTED_SHARE)), LEAST))

    def strangeness(self, values: np.ndarray) -> float:
        """How far the networks' predictions (networks,) are apart, in parts of the limit."""
        return float(np.std(values)) / self.limit

    def check(self, values: np.ndarray) -> tuple[Quality, tuple[str, ...]]:
        """Compare how far the networks' predictions (networks,) are apart with what is usual.

        Returns:
            accept, review or reject; and what was measured against what is allowed, in words.
        """
        return rate_against(self.limit, float(np.std(values)), "the networks disagree: standard deviation")
