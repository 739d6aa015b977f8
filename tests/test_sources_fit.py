"""A fit does not depend on where its rows come from, nor on the number of threads."""

from __future__ import annotations

import warnings

import datasets
import joblib
import numpy as np
import pytest
from running import forced_pruning
from streams import PART_ROWS, WAYS, make_parts_small, source_of
from tolerances import PRUNED, SUM_RELATIVE

from fastgmm import GaussianMixture
from fastgmm import sources as package
from fastgmm.sources import StreamedData, streamed
from fastgmm.sources.streamed import PartsCollector

N, D, K = 4 * PART_ROWS + 777, 3, 4

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch):
    make_parts_small(monkeypatch)


def problem(covariance_type, dtype=np.float64):
    X, start = datasets.problem(5, N, D, K, covariance_type)
    return X.astype(dtype), datasets.init_arguments(covariance_type, start)


def weights_of(kind):
    if kind == "unweighted":
        return None
    weight = np.random.default_rng(0).uniform(0.0, 2.0, N)
    weight[::7] = 0.0
    weight[PART_ROWS : 2 * PART_ROWS] = 0.0  # a part that does not count
    return weight


def fit(X, start, covariance_type, sample_weight=None, n_jobs=1, n_iter=20):
    mixture = GaussianMixture(
        K, covariance_type=covariance_type, tol=0.0, max_iter=n_iter, n_jobs=n_jobs, **start
    )
    return mixture.fit(X, sample_weight=sample_weight)


@pytest.mark.parametrize("way", WAYS)
def test_weighted_as_in_memory(way, tmp_path):
    X, start = problem("full")
    weight = weights_of("weighted")
    expected = fit(X, start, "full", weight)
    found = fit(source_of(way, X, weight, tmp_path), start, "full")
    np.testing.assert_allclose(found.lower_bounds_, expected.lower_bounds_, rtol=SUM_RELATIVE)


@pytest.mark.parametrize("way", WAYS)
def test_same_as_in_memory(way, covariance_type, tmp_path):
    X, start = problem(covariance_type)
    expected = fit(X, start, covariance_type)
    found = fit(source_of(way, X, None, tmp_path), start, covariance_type)
    np.testing.assert_allclose(found.lower_bounds_, expected.lower_bounds_, rtol=SUM_RELATIVE)
    assert found.n_features_in_ == D


@pytest.mark.parametrize("way", WAYS)
def test_float32(way, tmp_path):
    X, start = problem("full", np.float32)
    source = source_of(way, X, None, tmp_path)
    data = StreamedData(source, 1)
    assert {part.X.dtype for part in data.parts()} == {np.dtype(np.float32)}
    expected = fit(X, start, "full")
    np.testing.assert_allclose(
        fit(source, start, "full").lower_bounds_, expected.lower_bounds_, rtol=SUM_RELATIVE
    )


@pytest.mark.parametrize("way", ["shards", "generator"])
def test_forced_pruning(way, covariance_type, tmp_path):
    """What a pass may skip is 4.7e-15 of a component; 20 of them in a row stay within as many PRUNED."""
    X, start = problem(covariance_type)
    with forced_pruning("never"):
        expected = fit(X, start, covariance_type)
    with forced_pruning("always"):
        found = fit(source_of(way, X, None, tmp_path), start, covariance_type)
    np.testing.assert_allclose(found.lower_bounds_, expected.lower_bounds_, rtol=20 * PRUNED)
    assert found.history_["pairs"][-1] < (N / 32) * K  # something was skipped


def test_files_of_any_format_have_the_same_bits(tmp_path):
    """Rows are cut into the same parts however they are spread over files."""
    X, start = problem("full")
    weight = weights_of("weighted")
    ways = [
        way for way in WAYS if way in ("memmap", "npy", "shards", "fortran", "parquet", "feather", "table")
    ]
    bits = {fit(source_of(way, X, weight, tmp_path), start, "full").means_.tobytes() for way in ways}
    assert len(bits) == 1


@pytest.mark.parametrize("pruning", ["always", "never"])
def test_same_bits_on_any_number_of_threads(pruning, covariance_type, tmp_path):
    X, start = problem(covariance_type)
    with forced_pruning(pruning):
        fits = [
            fit(source_of("shards", X, weights_of("weighted"), tmp_path), start, covariance_type, None, n, 4)
            for n in (1, 2, 3)
        ]
    for name in ("means_", "covariances_", "weights_", "lower_bounds_"):
        assert len({np.asarray(getattr(mixture, name)).tobytes() for mixture in fits}) == 1, name


def test_default_start_is_the_same_each_time(tmp_path):
    X, _ = problem("full")
    source = source_of("npy", X, None, tmp_path)
    first, second = (GaussianMixture(K, random_state=3).fit(source) for _ in range(2))
    assert first.means_.tobytes() == second.means_.tobytes()
    in_memory = GaussianMixture(K, random_state=3).fit(X)
    assert abs(first.lower_bound_ - in_memory.lower_bound_) < 1e-2  # another sample, the same clusters


def test_large_memory_maps_are_streamed(tmp_path, monkeypatch):
    X, start = problem("full")
    np.save(tmp_path / "rows.npy", X)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    assert package.as_source(mapped) is None
    monkeypatch.setattr(package, "LARGEST_AT_ONCE", X.nbytes - 1)
    weight = weights_of("weighted")
    source = package.as_source(mapped, weight)
    assert isinstance(source, package.MappedRows)
    assert sum(len(block.X) for block in source.blocks()) == N
    np.testing.assert_allclose(
        fit(mapped, start, "full", weight).lower_bounds_,
        fit(X, start, "full", weight).lower_bounds_,
        rtol=SUM_RELATIVE,
    )


def test_bounds_of_all_parts_stay_within_their_budget(tmp_path, monkeypatch):
    """Parts beyond the budget are dense, and the fit is the same."""
    X, start = problem("full")
    source = source_of("npy", X, None, tmp_path)
    expected = fit(source, start, "full")
    collectors = []
    make = PartsCollector.__init__

    def remember(self, *args):
        make(self, *args)
        collectors.append(self)

    monkeypatch.setattr(PartsCollector, "__init__", remember)
    with forced_pruning("always"):
        fit(source, start, "full", n_iter=2)
        sizes = [each.pruning.bytes_kept for each in collectors[-1].parts.values()]
        assert all(size > 0 for size in sizes)
        monkeypatch.setattr(streamed, "BOUNDS_BYTES", sum(sizes[:2]) + 1)
        found = fit(source, start, "full")
    parts = list(collectors[-1].parts.values())
    assert [part.pruning.possible for part in parts][:4] == [True, True, False, False]
    assert sum(part.pruning.bytes_kept for part in parts if part.pruning.possible) <= streamed.BOUNDS_BYTES
    assert [part.pruning.order is not None for part in parts] == [part.pruning.possible for part in parts]
    assert all(part.data is None for part in parts)  # nothing holds on to rows
    np.testing.assert_allclose(found.lower_bounds_, expected.lower_bounds_, rtol=20 * PRUNED)


def test_fits_in_a_pool_of_threads(tmp_path):
    X, start = problem("full")
    source = source_of("npy", X, None, tmp_path)
    expected = fit(source, start, "full", n_iter=5)

    def one(_):
        with warnings.catch_warnings():
            return fit(source, start, "full", n_jobs=2, n_iter=5)

    for found in joblib.Parallel(n_jobs=3, backend="threading")(joblib.delayed(one)(i) for i in range(6)):
        assert found.means_.tobytes() == expected.means_.tobytes()


def test_warm_start_and_several_starts(tmp_path):
    X, _ = problem("full")
    source = source_of("npy", X, None, tmp_path)
    mixture = GaussianMixture(K, n_init=3, random_state=0, warm_start=True, max_iter=5, tol=0.0).fit(source)
    before = mixture.lower_bound_
    assert mixture.fit(source).lower_bound_ > before


def test_single_precision(tmp_path):
    X, start = problem("full", np.float32)
    source = source_of("npy", X, None, tmp_path)
    mixture = GaussianMixture(K, tol=0.0, max_iter=20, arithmetic="float32", **start).fit(source)
    assert sum(mixture.history_["pairs_single"]) > 0
    assert mixture.lower_bound_ == pytest.approx(fit(X, start, "full").lower_bound_, rel=1e-6)
