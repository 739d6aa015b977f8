"""save and load: what comes back is what was saved."""

from __future__ import annotations

import json
import os
import stat
import sys

import numpy as np
import pytest
from saved_files import assert_equal, members_of

from fastgmm import GaussianMixture, persistence

ARRAYS = ("weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_")


@pytest.fixture
def saved(fitted, tmp_path):
    path = tmp_path / "mixture.npz"
    fitted.save(path)
    return path


# ---- there and back --------------------------------------------------------------------------------------


def test_there_and_back(fitted, saved, rows):
    loaded = GaussianMixture.load(saved)
    assert_equal(fitted, loaded)
    for name in ("score_samples", "predict", "predict_proba", "bic"):
        np.testing.assert_array_equal(getattr(loaded, name)(rows), getattr(fitted, name)(rows))
    np.testing.assert_array_equal(loaded.sample(9)[0], fitted.sample(9)[0])
    for name in ARRAYS:
        assert getattr(loaded, name).flags.writeable
    loaded.set_params(warm_start=True).fit(rows)


def test_all_that_a_constructor_takes(rows, tmp_path):
    mixture = GaussianMixture(
        np.int64(3),
        covariance_type="diag",
        tol=np.float64(1e-2),
        reg_covar=0,
        max_iter=0,
        n_init=2,
        init_params="random",
        weights_init=np.array([0.5, 0.5, 0.0]),
        means_init=np.zeros((3, 2)),
        precisions_init=np.ones((3, 2)),
        warm_start=True,
        verbose=False,
        verbose_interval=3,
        n_jobs=-1,
        repair="floor",
    ).fit(rows)
    mixture.save(tmp_path / "mixture")
    loaded = GaussianMixture.load(tmp_path / "mixture")
    for name, value in mixture.get_params().items():
        np.testing.assert_array_equal(getattr(loaded, name), value)
    assert loaded.lower_bound_ == -np.inf


@pytest.mark.parametrize("random_state", [None, 7, np.int64(7)])
def test_seeds(fitted, tmp_path, random_state):
    fitted.set_params(random_state=random_state).save(tmp_path / "mixture")
    assert GaussianMixture.load(tmp_path / "mixture").random_state == random_state


def test_random_state_goes_on_where_it_was(fitted, tmp_path):
    fitted.set_params(random_state=np.random.RandomState(3))
    fitted.sample(5)
    fitted.save(tmp_path / "mixture")
    loaded = GaussianMixture.load(tmp_path / "mixture")
    np.testing.assert_array_equal(loaded.sample(9)[0], fitted.sample(9)[0])
    fitted.set_params(random_state=np.random.RandomState(np.random.PCG64()))
    with pytest.raises(ValueError, match="random_state must be"):
        fitted.save(tmp_path / "mixture")


def test_feature_names(rows, tmp_path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(rows, columns=["Breite", "Höhe ↑"])
    mixture = GaussianMixture(2, random_state=0).fit(frame)
    mixture.save(tmp_path / "mixture")
    loaded = GaussianMixture.load(tmp_path / "mixture")
    assert_equal(mixture, loaded)
    np.testing.assert_array_equal(loaded.predict(frame), mixture.predict(frame))


def test_mixtures_that_were_not_fitted_here(fitted, rows, tmp_path):
    made = GaussianMixture.from_parameters(
        fitted.weights_, fitted.means_, fitted.covariances_, fitted.covariance_type
    )
    made.save(tmp_path / "made")
    assert_equal(made, GaussianMixture.load(tmp_path / "made"))
    by_hand = GaussianMixture(3, covariance_type=fitted.covariance_type)
    for name in ("weights_", "means_", "covariances_", "precisions_cholesky_"):
        setattr(by_hand, name, getattr(fitted, name))
    by_hand.save(tmp_path / "by_hand")
    loaded = GaussianMixture.load(tmp_path / "by_hand")
    assert not hasattr(loaded, "converged_")
    np.testing.assert_array_equal(loaded.predict_proba(rows), fitted.predict_proba(rows))


def test_wide_ranges(tmp_path):
    """Parameters far from 1 are valid, and come back bit for bit."""
    covariances = np.array([[[1e-280, 1e-143], [1e-143, 1e-4]], [[1e200, 0], [0, 1e-200]]])
    made = GaussianMixture.from_parameters([1.0, 0.0], [[1e300, -1e-300], [0, 5e-324]], covariances)
    made.save(tmp_path / "made")
    assert_equal(made, GaussianMixture.load(tmp_path / "made"))


# ---- the file --------------------------------------------------------------------------------------------


def test_the_file_is_a_plain_archive(fitted, saved):
    members = members_of(saved)
    np.testing.assert_array_equal(members["means_"], fitted.means_)
    header = json.loads(members["header"].tobytes())
    assert (header["format"], header["version"], header["estimator"]) == ("fastgmm", 2, "GaussianMixture")
    assert header["history"] == fitted.history_


def test_equal_mixtures_make_equal_files(fitted, saved, tmp_path):
    GaussianMixture.load(saved).save(tmp_path / "again.npz")
    assert (tmp_path / "again.npz").read_bytes() == saved.read_bytes()


def test_the_path_is_taken_as_it_is(fitted, tmp_path):
    fitted.save(str(tmp_path / "mixture.model"))
    assert [path.name for path in tmp_path.iterdir()] == ["mixture.model"]
    with pytest.raises(FileNotFoundError):
        fitted.save(tmp_path / "missing" / "mixture.npz")
    with pytest.raises(FileNotFoundError):
        GaussianMixture.load(tmp_path / "mixture.npz")


def test_a_failing_save_leaves_the_old_file(fitted, saved, monkeypatch):
    before = saved.read_bytes()

    def full(*args, **kwargs):
        raise OSError("No space left on device")

    for name in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(persistence.os, name, full)
            with pytest.raises(OSError, match="No space left"):
                fitted.save(saved)
        assert saved.read_bytes() == before
        assert [path.name for path in saved.parent.iterdir()] == [saved.name]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions and links")
def test_permissions_and_links(fitted, tmp_path):
    before = os.umask(0o027)
    try:
        fitted.save(tmp_path / "mixture")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "mixture").stat().st_mode) == 0o640
    (tmp_path / "link").symlink_to("mixture")
    fitted.set_params(tol=0.5).save(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert GaussianMixture.load(tmp_path / "mixture").tol == 0.5


def test_what_could_not_be_loaded_is_not_saved(fitted, tmp_path):
    fitted.weights_ = fitted.weights_[:2]
    with pytest.raises(
        ValueError, match="This GaussianMixture cannot be saved: weights_ should have the shape"
    ):
        fitted.save(tmp_path / "mixture")
    assert not list(tmp_path.iterdir())
