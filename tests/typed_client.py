"""A user's program as type checkers see it: test_typing.py gives it to mypy --strict, and nothing runs it.

Lines that end in "type: ignore" hold what a type checker must find: where it does not, mypy says that the
comment is unused.
"""

from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray

import fastgmm
from fastgmm import BayesianGaussianMixture, GaussianMixture, MiniBatchGaussianMixture

X = np.zeros((100, 2))
mixture = GaussianMixture(2, covariance_type="diag", prior=fastgmm.ConjugatePrior(), acceleration="anderson")
assert_type(mixture.fit(X, sample_weight=np.ones(100)), GaussianMixture)
assert_type(mixture.set_params(tol=0.1).set_fit_request(sample_weight=True), GaussianMixture)
assert_type(mixture.fit_predict(X), NDArray[np.int64])
assert_type(mixture.means_, NDArray[np.float64])
assert_type(mixture.lower_bounds_, list[float])
assert_type(mixture.converged_, bool)
assert_type(mixture.predict_proba(X), NDArray[np.float64])
assert_type(MiniBatchGaussianMixture(averaging="steps").partial_fit(X).n_steps_, int)
assert_type(BayesianGaussianMixture(n_components="auto", moves=["split"]).fit(X), BayesianGaussianMixture)
assert_type(fastgmm.show_config("dicts")["BLAS"], Any)

GaussianMixture(covariance_type="ful")  # type: ignore[arg-type]
BayesianGaussianMixture(moves=["split", "brith"])  # type: ignore[list-item]
mixture.fit_predcit(X)  # type: ignore[attr-defined]
mixture.fit(X, sample_weights=None)  # type: ignore[call-arg]
print(mixture.mean_)  # type: ignore[attr-defined]
