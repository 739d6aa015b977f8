"""Slow, obvious stepwise EM in longdouble: raw moments, one batch after the other."""

from __future__ import annotations

import numpy as np
import oracle
from oracle import REAL, Model, real


class Moments:
    """Weighted sums of 1, x and x x' per component: (K,), (K, D), (K, D, D)."""

    def __init__(self, weight, first, second):
        self.parts = (weight, first, second)

    @classmethod
    def of_rows(cls, X, resp, sample_weight=None):
        """Of a batch, divided by its weight."""
        X, w = real(X), oracle.row_weights(X, sample_weight)
        share = real(resp) * (w / w.sum())[:, None]
        return cls(share.sum(axis=0), share.T @ X, np.einsum("nk,ni,nj->kij", share, X, X))

    @classmethod
    def of_model(cls, model: Model, reg_covar):
        """Moments whose M-step gives the model."""
        n_features = model.n_features
        n, m = model.weights, model.means
        second = []
        for k in range(model.n_components):
            matrix = oracle.covariance_matrix(model.covariance_type, model.covariances, k, n_features)
            matrix = matrix - REAL(reg_covar) * np.eye(n_features, dtype=REAL)
            second.append(n[k] * (matrix + np.outer(m[k], m[k])))
        return cls(n, n[:, None] * m, np.array(second))

    def mixed(self, other, share):
        share = REAL(share)
        return Moments(*((1 - share) * a + share * b for a, b in zip(self.parts, other.parts)))

    def model(self, covariance_type, reg_covar) -> Model:
        weight, first, second = self.parts
        means = first / weight[:, None]
        scatter = second - weight[:, None, None] * np.einsum("ki,kj->kij", means, means)
        n_features = means.shape[1]
        if covariance_type == "full":
            covariances = scatter / weight[:, None, None] + REAL(reg_covar) * np.eye(n_features, dtype=REAL)
        elif covariance_type == "tied":
            covariances = scatter.sum(axis=0) / weight.sum() + REAL(reg_covar) * np.eye(
                n_features, dtype=REAL
            )
        else:
            covariances = np.einsum("kii->ki", scatter) / weight[:, None]
            covariances = covariances if covariance_type == "diag" else covariances.mean(axis=1)
            covariances = covariances + REAL(reg_covar)
        return oracle.make_model(covariance_type, weight / weight.sum(), means, covariances)


def stepwise_em(batches, model: Model, reg_covar, steps, averaging=None):
    """The model after a step of the given length for each batch (X, sample_weight), and the bound of each.

    averaging : None, "steps" (the average of the running moments, the t-th counting t) or "epoch" (the mean
        of the batches' moments by weight)
    """
    running = Moments.of_model(model, reg_covar)
    bounds, total, sums, weight = [], REAL(0), None, REAL(0)
    for t, ((X, sample_weight), step) in enumerate(zip(batches, steps, strict=True), 1):
        bounds.append(float(oracle.lower_bound(X, model, sample_weight)))
        batch = Moments.of_rows(X, oracle.responsibilities(X, model), sample_weight)
        running = running.mixed(batch, step)
        if averaging is not None:
            added = running if averaging == "steps" else batch
            weight = REAL(t) if averaging == "steps" else oracle.row_weights(X, sample_weight).sum()
            total += weight
            sums = added if sums is None else sums.mixed(added, weight / total)
        model = running.model(model.covariance_type, reg_covar)
    return (model if sums is None else sums.model(model.covariance_type, reg_covar)), bounds
