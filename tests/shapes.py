"""Strategies for the sizes of a problem. The rows come from a seed: shrinking sizes is what helps."""

from __future__ import annotations

from typing import NamedTuple

import datasets
from hypothesis import strategies as st


class Case(NamedTuple):
    seed: int
    n_rows: int
    n_features: int
    n_components: int

    def problem(self, covariance_type, spread=2.0):
        """(X, start): `datasets.problem` of this size."""
        return datasets.problem(
            self.seed, self.n_rows, self.n_features, self.n_components, covariance_type, spread
        )


def cases(min_rows=60, max_rows=900, max_features=9, max_components=5):
    """Sizes with enough rows per component that no covariance comes near singular."""
    return st.builds(
        Case,
        seed=st.integers(0, 10_000),
        n_rows=st.integers(min_rows, max_rows),
        n_features=st.integers(1, max_features),
        n_components=st.integers(1, max_components),
    ).filter(lambda case: case.n_rows >= 4 * case.n_components * case.n_features)
