"""What moves are told by: the bound of components as they are, of pairs as one, and what entropy is lost."""

import numpy as np
import pytest
from scipy.special import xlogy

from fastgmm.blocks import ArrayData
from fastgmm.passes import accumulate
from fastgmm.structures import STRUCTURES
from fastgmm.variational import Evidence, Prior
from fastgmm.variational import moves_components as parts
from fastgmm.variational.moves_merge import applied, candidates, merges
from fastgmm.variational.moves_rows import SMALLEST_SHARE, Belonging, rows_wanted, sample_of

TYPES = ("full", "tied", "diag", "spherical")
PRIORS = ("dirichlet_process", "dirichlet_distribution")
N, D, K = 120, 3, 5


def case(covariance_type, kind, labels, X, n_components):
    """Evidence and its posterior of rows that are labelled, and the bound of these, term by term."""
    structure = STRUCTURES[covariance_type]
    full = np.cov(X.T) + 0.1 * np.eye(D)
    covariance = {"full": full, "tied": full, "diag": np.diag(full), "spherical": np.array(2.0)}[
        covariance_type
    ]
    prior = Prior(kind, 0.7, 1.3, X.mean(axis=0) + 0.2, D + 0.5, covariance)
    evidence = Evidence(structure, prior, float(len(X)), 0.0, 1)
    data = ArrayData(X)
    statistics = accumulate(
        data, structure, data.frame(1, structure.common_scale), n_components, 1, labels=labels
    )
    parameters = evidence.estimate(statistics, None).parameters
    scores = evidence._summed_scores(statistics, parameters)
    return evidence, parameters, scores - evidence.divergence(parameters)


def rows(seed=0):
    """Rows, and labels of which the first has most rows, and so on."""
    rng = np.random.default_rng(seed)
    labels = np.sort(rng.choice(K, size=N, p=[0.3, 0.25, 0.2, 0.15, 0.1]))
    order = np.argsort(-np.bincount(labels, minlength=K), kind="stable")
    labels = np.argsort(order)[labels]
    return rng.standard_normal((N, D)) * [1, 2, 0.5] + rng.normal(size=(K, D))[labels] * 2, labels


@pytest.mark.parametrize("covariance_type", TYPES)
@pytest.mark.parametrize("kind", PRIORS)
def test_bound_of_responsibilities(covariance_type, kind):
    """Of responsibilities 0 and 1 the bound is the evidence of counts and of each component's rows."""
    X, labels = rows()
    evidence, parameters, bound = case(covariance_type, kind, labels, X, K)
    components = parts.of_parameters(evidence, parameters)
    assert np.allclose(components.counts, np.bincount(labels), rtol=1e-12)
    assert np.allclose(components.means, [X[labels == k].mean(axis=0) for k in range(K)], rtol=1e-10)
    again = parts.to_parameters(evidence, components)
    for name, old, new in zip(parameters._fields, parameters, again):
        assert np.allclose(new, old, rtol=1e-10, atol=1e-13), name
    if covariance_type != "tied":
        value = parts.log_evidence_of_counts(evidence.prior, components.counts, K)
        value += parts.log_evidence_of_rows(evidence, components).sum()
        assert value == pytest.approx(bound, rel=1e-11)


@pytest.mark.parametrize("covariance_type", TYPES)
@pytest.mark.parametrize("kind", PRIORS)
@pytest.mark.parametrize("keep", [False, True])
def test_gain_of_a_merge(covariance_type, kind, keep):
    """What a merge is expected to gain is what it gains where it makes labels of labels."""
    X, labels = rows(1)
    evidence, parameters, bound = case(covariance_type, kind, labels, X, K)
    belonging = Belonging(ArrayData(X), evidence, parameters)
    nobody = (np.zeros(0, dtype=np.intp), np.zeros(0))
    belonging.of = [nobody] * K  # as of labels: no entropy to lose
    found = candidates(evidence, parameters, belonging, keep)
    assert len(found) == K * (K - 1) // 2
    for gain, first, second in found:
        joined = np.where(labels == second, first, labels)
        order = np.argsort(-np.bincount(joined, minlength=K), kind="stable")
        joined = np.argsort(order)[joined]
        _, _, after = case(covariance_type, kind, joined, X, K if keep else K - 1)
        assert gain == pytest.approx(after - bound, abs=1e-8 * abs(bound))


@pytest.mark.parametrize("covariance_type", TYPES)
def test_merged_components_are_those_of_all_their_rows(covariance_type):
    X, labels = rows(2)
    evidence, parameters, _ = case(covariance_type, PRIORS[0], labels, X, K)
    components = parts.of_parameters(evidence, parameters)
    joined = np.where(labels == 4, 1, labels)
    joined = np.where(joined == 3, 0, joined)
    _, expected, _ = case(covariance_type, PRIORS[0], joined, X, 3)
    got = parts.to_parameters(evidence, applied(evidence, components, [(0.0, 1, 4), (0.0, 0, 3)], keep=False))
    for name, old, new in zip(expected._fields, expected, got):
        assert np.allclose(new, old, rtol=1e-9, atol=1e-12), name


def test_entropy_that_is_lost():
    X, labels = rows(3)
    weight = np.random.default_rng(0).integers(1, 4, size=N).astype(float)
    evidence, parameters, _ = case("full", PRIORS[0], labels, X, K)
    data = ArrayData(X, weight)
    belonging = Belonging(data, evidence, parameters)
    dense = np.zeros((N, K))
    for k, (index, shares) in enumerate(belonging.of):
        dense[index, k] = shares
    assert np.allclose(dense.sum(axis=1), 1.0, atol=K * SMALLEST_SHARE)
    scale = N / weight.sum()

    def entropy(shares):
        return -scale * float(weight @ xlogy(shares, shares).sum(axis=1))

    before = entropy(dense)
    assert belonging.lost_entropy(1, 3) == pytest.approx(
        before - entropy(np.column_stack([dense[:, 1] + dense[:, 3], dense[:, [0, 2, 4]]])), rel=1e-9
    )
    belonging.merge(1, 3)
    dense[:, 1] += dense[:, 3]
    dense[:, 3] = 0.0
    assert belonging.lost_entropy(0, 1) == pytest.approx(
        entropy(dense) - entropy(np.column_stack([dense[:, 0] + dense[:, 1], dense[:, 2:]])), rel=1e-9
    )
    assert belonging.lost_entropy(0, 3) == 0.0


def test_greedy_merges_end_where_none_gains():
    X, _ = rows(4)
    labels = np.arange(N) % K  # one cluster, told apart by nothing
    X = X - X.mean(axis=0)
    evidence, parameters, _ = case("full", PRIORS[0], labels, X, K)
    belonging = Belonging(ArrayData(X), evidence, parameters)
    pairs = merges(evidence, parameters, belonging, keep=False)
    assert 1 <= len(pairs) <= K - 1
    assert all(gain > 0.0 for gain, _, _ in pairs)
    assert len({second for _, _, second in pairs}) == len(pairs)


def test_samples():
    X = np.arange(200_000.0)[:, None]
    assert sample_of(ArrayData(X[:5000]), rows_wanted(4)).n_rows == 5000
    some = sample_of(ArrayData(X), rows_wanted(4))
    assert 65536 <= some.n_rows < 2 * 65536
    assert (np.diff(some.X[:, 0]) > 0).all()
    weight = np.zeros(200_000)
    weight[::50] = 2.0
    alternating = np.arange(1 << 18)[:, None] % 2 * 1.0
    assert 0.4 < sample_of(ArrayData(alternating), rows_wanted(4)).X.mean() < 0.6
    few = sample_of(ArrayData(X, weight), rows_wanted(4))
    assert few.n_rows == 4000
    assert (few.sample_weight == 2.0).all()
