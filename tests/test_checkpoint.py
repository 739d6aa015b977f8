"""Fits that go on from a checkpoint end as if they had never been stopped."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import checkpoint_fits as fits
import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from fastgmm import BlockRows, GaussianMixture, RepairWarning, em
from fastgmm.blocks import ArrayData
from fastgmm.structures import STRUCTURES

UNPRUNED = [name for name in fits.OPTIONS if "pruned" not in name]


class Stopped(BaseException):
    """Stands for the end of the process."""


@pytest.fixture(autouse=True)
def _as_before():
    with fits.put_back():
        yield


@pytest.fixture
def path(tmp_path):
    return tmp_path / "fit.npz"


class Passes:
    """Counts passes, and stops before one of them."""

    def __init__(self, monkeypatch):
        self.n, self.stop_at = 0, None
        collect = em.Maximiser.collect

        def counted(*arguments):
            self.n += 1
            if self.n == self.stop_at:
                raise Stopped
            return collect(*arguments)

        monkeypatch.setattr(em.Maximiser, "collect", counted)

    def stop(self, name, at, **more):
        """Make a fit until before its pass number `at`; whether it came there."""
        self.n, self.stop_at = 0, at
        try:
            fits.fit(name, **more)
        except Stopped:
            return True
        finally:
            self.stop_at = None
        return False


@pytest.fixture
def passes(monkeypatch):
    return Passes(monkeypatch)


def seed_global_state(seed=3):
    np.random.seed(seed)


# ---- the promise -----------------------------------------------------------------------------------------


def killed(folder, n_kills, names):
    script = Path(fits.__file__)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(script.parent), *sys.path])}
    command = [sys.executable, str(script), str(folder), "1", str(n_kills), *names]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def assert_unharmed(results, names, n_kills):
    assert [result["name"] for result in results] == names
    for result in results:
        assert result["kills"] >= n_kills
        assert result["ends"] >= 1
        assert result["differ"] == [], result
        assert result["left_over"] == []


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot be forked here")


@needs_fork
def test_killed_fits_end_with_the_same_bits(tmp_path):
    """At random moments, also while a file is being written; the slow tests do so with all fits."""
    names = [
        "plain",
        "drawn from the global state",
        "tied",
        "pruned",
        "accelerated",
        "race",
        "float32",
        "stream",
    ]
    names += ["pruned stream", "repairs", "bayesian accelerated"]
    assert_unharmed(killed(tmp_path, 2, names), names, 2)


@needs_fork
@pytest.mark.slow
@pytest.mark.parametrize("name", fits.OPTIONS)
def test_fits_killed_often(tmp_path, name):
    assert_unharmed(killed(tmp_path, 40, [name]), [name], 40)


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("name", UNPRUNED)
def test_a_checkpoint_changes_nothing_where_nothing_is_pruned(path, name, every):
    """So all that iterations take over from those before them is kept."""
    seed_global_state()
    without = fits.fit(name)
    seed_global_state()
    assert fits.fit(name, checkpoint=path, checkpoint_every=every) == without


def test_what_a_maximiser_remembers_is_all_kept():
    """And what is not, is as in a new one."""
    data = ArrayData(fits.overlapping())
    structure = STRUCTURES["tied"]

    def new():
        return em.Maximiser(data, structure, data.frame(1), em.EMOptions(), 3)

    first = new()
    for of, name, value in (
        (first.repairs, "n_reseeds", np.array([3, 0, 1])),
        (first.repairs, "floored", np.array([False, True, False])),
        (first.repairs, "repaired", {0, 2}),
        (first.repairs, "n_repairs", 5),
        (first, "hopeless", np.array([True, False, False])),
        (first, "single", True),
        (first, "double_passes", 2),
        (first, "shared_second", np.eye(4)),
    ):
        setattr(of, name, value)
    first.n_active = 1.5
    kept, pruning_before = first.state(), first.collector.pruning
    second = new()
    for maximiser in (first, second):
        maximiser.restore(kept)
        assert maximiser.repairs.n_reseeds.tolist() == [3, 0, 1]
        assert maximiser.hopeless.tolist() == [True, False, False]
        assert maximiser.repairs.floored.tolist() == [False, True, False]
        assert (maximiser.repairs.repaired, maximiser.repairs.n_repairs) == ({0, 2}, 5)
        assert maximiser.single is True
        assert maximiser.double_passes == 2
        np.testing.assert_array_equal(maximiser.shared_second, np.eye(4))
        assert maximiser.n_active == np.inf
    assert first.collector.pruning is not pruning_before
    # nothing else may be remembered without being kept or made anew
    assert set(vars(first)) == {
        # the same throughout
        *("structure", "frame", "options", "n_components", "n_positive", "objective", "collector"),
        *("seconds", "pairs", "pairs_centred", "pairs_single", "statistics"),  # of one iteration
        *("repairs", "hopeless", "single", "double_passes", "shared_second", "n_active"),
    }
    assert set(vars(first.repairs)) == {"n_reseeds", "floored", "repaired", "n_repairs"}


@pytest.mark.parametrize("of_two_kinds", [False, True])
def test_which_bounds_are_compared_is_kept(tmp_path, of_two_kinds, monkeypatch):
    """A bound in float64 is not compared with one in float32, also not by a fit that goes on."""
    seen, state, iterate = [], em._Loop.state, em._Loop.iterate

    def marked(loop):
        loop.of_two_kinds = of_two_kinds
        return state(loop)

    def watched(loop):
        seen.append(loop.of_two_kinds)
        if len(seen) == 4:
            raise Stopped
        return iterate(loop)

    monkeypatch.setattr(em._Loop, "state", marked)
    monkeypatch.setattr(em._Loop, "iterate", watched)
    with pytest.raises(Stopped):
        fits.fit("plain", checkpoint=tmp_path / "fit.npz")
    fits.fit("plain", checkpoint=tmp_path / "fit.npz")
    assert seen[3:5] == [of_two_kinds] * 2  # in the fit that wrote it down, and in the one that read it


@pytest.mark.parametrize("name", ["pruned", "pruned stream"])
def test_a_checkpoint_changes_hardly_anything_where_passes_are_pruned(path, name):
    fits.prepare(name)
    X = fits.rows_of(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        without, kept = fits.mixture_of(name).fit(X), fits.mixture_of(name, checkpoint=path).fit(X)
    np.testing.assert_allclose(kept.lower_bounds_, without.lower_bounds_, rtol=1e-11)
    np.testing.assert_allclose(kept.means_, without.means_, rtol=0, atol=1e-8)
    # each time the order of the rows is made anew: hardly anything is known of their blocks for a pass
    pairs = np.array(kept.history_["pairs"])
    assert pairs.min() < 0.85 * pairs[0]
    assert pairs.sum() >= sum(without.history_["pairs"])


@pytest.mark.parametrize("name", fits.OPTIONS)
def test_stopped_before_any_pass(path, name, passes):
    seed_global_state()
    whole = fits.fit(name, checkpoint=path)
    n_passes, at = passes.n, 1
    while at <= n_passes:
        path.unlink()
        seed_global_state()
        assert passes.stop(name, at, checkpoint=path)
        if path.exists():  # else nothing had been drawn for good
            seed_global_state(99)
        else:
            seed_global_state()
        passes.n = 0
        assert fits.fit(name, checkpoint=path, n_jobs=1, verbose=False) == whole
        at += 1 if at < 4 else 9


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("at", [2, 5, 24])
def test_components_that_were_repaired_before_are_named(path, passes, at):
    """Also those that were repaired when the start was made."""
    X = fits.rows_of("repairs")

    def warned(**more):
        with pytest.warns(RepairWarning) as caught:
            fits.mixture_of("repairs", init_params="kmeans", **more).fit(X)
        return str(caught[0].message)

    whole = warned()
    assert passes.stop("repairs", at, init_params="kmeans", checkpoint=path)
    assert warned(checkpoint=path) == whole
    assert warned(checkpoint=path) == whole


def test_passes_are_not_made_again(path, passes):
    """A fit that goes on makes the passes since the last checkpoint, and the seeding is not done again."""
    assert passes.stop("plain", 18, checkpoint=path)  # 17 iterations, kept after 15
    passes.n = 0
    fits.fit("plain", checkpoint=path)
    assert passes.n == 30 - 15
    passes.n = 0
    fits.fit("plain", checkpoint=path)
    assert passes.n == 0


@pytest.mark.parametrize("name", ["plain", "race", "drawn from the global state"])
def test_a_fit_that_has_ended_is_there_at_once(path, name, passes):
    whole = fits.fit(name, checkpoint=path)
    content = path.read_bytes()
    passes.n = 0
    with pytest.warns(ConvergenceWarning, match="did not converge"):
        mixture = fits.mixture_of(name, checkpoint=path).fit(fits.rows_of(name))
    assert fits.ended(mixture) == whole
    assert passes.n == 0
    assert path.read_bytes() == content


@pytest.mark.parametrize("name", ["plain", "race of two", "race"])
def test_a_fit_that_has_converged_is_there_at_once(path, name, passes):
    whole = fits.fit(name, tol=0.02, checkpoint=path)
    assert whole["converged_"] == "True"
    passes.n = 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mixture = fits.mixture_of(name, tol=0.02, checkpoint=path).fit(fits.rows_of(name))
    assert fits.ended(mixture) == whole
    assert passes.n == 0


def test_the_global_random_state_is_left_alone_by_a_fit_that_goes_on(path):
    fits.fit("drawn from the global state", checkpoint=path)
    seed_global_state()
    before = np.random.get_state()
    fits.fit("drawn from the global state", checkpoint=path)
    np.testing.assert_array_equal(before[1], np.random.get_state()[1])


def test_warm_starts(path, passes):
    """Each goes on from another start, and is another fit."""
    X = fits.overlapping()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        first = fits.mixture_of("plain", max_iter=5).fit(X)
        without = fits.mixture_of("plain", warm_start=True)
        without.__dict__.update({k: v for k, v in vars(first).items() if k.endswith("_")})
        kept = fits.mixture_of("plain", warm_start=True, checkpoint=path)
        kept.__dict__.update({k: v for k, v in vars(first).items() if k.endswith("_")})
        passes.n, passes.stop_at = 0, 20
        with pytest.raises(Stopped):
            kept.fit(X)
        passes.stop_at = None
        assert fits.ended(kept.fit(X)) == fits.ended(without.fit(X))
        assert passes.n == 20 + 30 - 18 + 30
    with pytest.raises(ValueError, match=r"belongs to another fit \(what warm_start continues from"):
        kept.fit(X)


# ---- what may differ -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["plain", "accelerated", "repairs", "race"])
def test_more_iterations_for_a_fit_that_was_stopped(path, name, passes):
    whole = fits.fit(name, max_iter=45, checkpoint=path)
    path.unlink()
    assert passes.stop(name, 14, max_iter=20, checkpoint=path)
    assert fits.fit(name, max_iter=45, checkpoint=path, n_jobs=2) == whole


@pytest.mark.parametrize("name", ["plain", "spherical"])
def test_more_iterations_for_a_fit_that_has_ended(path, name):
    """Plain EM has no memory: so these are the bits of the longer fit."""
    whole = fits.fit(name, max_iter=40)
    fits.fit(name, max_iter=20, checkpoint=path)
    assert fits.fit(name, max_iter=40, checkpoint=path) == whole
    assert fits.fit(name, max_iter=20, checkpoint=path) == whole  # what has been done is not taken back


def test_more_iterations_for_a_race_that_has_ended(path, passes):
    fits.fit("race", checkpoint=path)
    passes.n = 0
    assert fits.fit("race", max_iter=50, checkpoint=path)["n_iter_"] == "50"
    assert passes.n == 20  # of the run that was kept


# ---- files of other fits ---------------------------------------------------------------------------------


@pytest.fixture
def begun(path, passes):
    """A fit that was stopped in the middle."""
    assert passes.stop("plain", 12, checkpoint=path)
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_components": 4}, "n_components: 5 there, 4 now"),
        ({"tol": 1e-4}, "tol: 1e-05 there, 0.0001 now"),
        ({"reg_covar": 0.1}, "reg_covar: 1e-06 there, 0.1 now"),
        ({"covariance_type": "diag"}, "covariance_type: 'full' there, 'diag' now"),
        ({"random_state": 8}, "random_state: 7 there, 8 now"),
        ({"random_state": None}, "random_state: 7 there, None now"),
        ({"init_params": "random"}, "init_params: 'kmeans' there, 'random' now"),
        ({"n_init": 2}, "n_init: 1 there, 2 now"),
        ({"repair": "floor"}, "repair: 'reseed' there, 'floor' now"),
        ({"acceleration": "anderson"}, "acceleration: None there, 'anderson' now"),
        ({"arithmetic": "float32"}, "arithmetic: 'float64' there, 'float32' now"),
        ({"means_init": np.eye(5, 4)}, r"means_init: None there, 'array of shape \(5, 4\), [0-9a-f]+' now"),
    ],
)
def test_other_options(begun, changes, message):
    content = begun.read_bytes()
    mixture = fits.mixture_of("plain", checkpoint=begun, **changes)
    before = dict(vars(mixture))
    with pytest.raises(ValueError, match=rf"belongs to another fit \({message}\). Delete the file"):
        mixture.fit(fits.overlapping())
    assert begun.read_bytes() == content
    assert vars(mixture) == before


class Other(GaussianMixture):
    pass


def test_another_estimator(begun):
    options = fits.mixture_of("plain", checkpoint=begun).get_params()
    with pytest.raises(ValueError, match="estimator: 'GaussianMixture' there, 'Other' now"):
        Other(**options).fit(fits.overlapping())


def other_rows():
    X = fits.overlapping()
    moved = X.copy()
    moved[1234, 2] += 1e-6
    return {
        "number of rows of X: 2000 there, 1999 now": (X[:-1], None),
        "number of features of X: 4 there, 3 now": (X[:, :3], None),
        "type of X: 'float64' there, 'float32' now": (X.astype(np.float32), None),
        "means and scales of X": (moved, None),
        "some rows of X": (X[::-1], None),
        "rows of positive weight: 2000 there, 1999 now": (X, np.r_[0.0, np.ones(1999)]),
        "sum of sample_weight: 2000.0 there, 2001.0 now": (X, np.r_[2.0, np.ones(1999)]),
        "blocks of X: None there, '[0-9a-f]+' now": (BlockRows([X[:1000], X[1000:]]), None),
    }


@pytest.mark.parametrize("message", list(other_rows()))
def test_other_rows(begun, message):
    X, weight = other_rows()[message]
    content = begun.read_bytes()
    with pytest.raises(ValueError, match=rf"belongs to another fit.*{message}"):
        fits.mixture_of("plain", checkpoint=begun).fit(X, sample_weight=weight)
    assert begun.read_bytes() == content


def test_blocks_cut_elsewhere(path):
    fits.prepare("stream")
    X = fits.overlapping()
    with pytest.warns(ConvergenceWarning):
        fits.mixture_of("plain", checkpoint=path).fit(BlockRows([X[:900], X[900:]]))
    with pytest.raises(ValueError, match="blocks of X"):
        fits.mixture_of("plain", checkpoint=path).fit(BlockRows([X[:1000], X[1000:]]))


def test_a_random_state_is_left_alone_where_rows_differ(path, passes):
    assert passes.stop("race", 12, checkpoint=path)
    mixture = fits.mixture_of("race", checkpoint=path, random_state=np.random.RandomState(5))
    before = mixture.random_state.get_state()[1].copy()
    with pytest.raises(ValueError, match="another fit"):
        mixture.fit(fits.overlapping() + 1.0)
    np.testing.assert_array_equal(before, mixture.random_state.get_state()[1])


def test_a_random_state_is_left_alone_by_rows_that_are_refused(path, passes):
    assert passes.stop("race", 12, checkpoint=path)
    mixture = fits.mixture_of("race", checkpoint=path, random_state=np.random.RandomState(5))
    before = mixture.random_state.get_state()[1].copy()
    bad = fits.overlapping()
    bad[7, 1] = np.nan
    for X, options in (
        (bad, {}),
        (fits.overlapping()[:3], {}),
        (fits.overlapping(), {"sample_weight": "no"}),
    ):
        with pytest.raises(ValueError, match=r"."):
            mixture.fit(X, **options)
    np.testing.assert_array_equal(before, mixture.random_state.get_state()[1])


def test_a_race_that_would_be_no_race(path, passes):
    assert passes.stop("race", 12, checkpoint=path)
    with pytest.raises(ValueError, match=r"runs are compared \(n_init, max_iter\): \[3, 8\] there, \[\] now"):
        fits.fit("race", max_iter=3, checkpoint=path)


def test_another_kind_of_random_state(path):
    random_state = np.random.RandomState(np.random.PCG64(3))
    with pytest.raises(ValueError, match="not of PCG64"):
        fits.mixture_of("plain", checkpoint=path, random_state=random_state).fit(fits.overlapping())


@pytest.mark.parametrize(
    "changes",
    [
        {"checkpoint": 3},
        {"checkpoint_every": 0},
        {"checkpoint_every": 1.5},
        {"max_time": 0},
        {"max_time": -1.0},
        {"max_time": "1 h"},
    ],
)
def test_options_that_are_not_valid(changes):
    with pytest.raises(ValueError, match=f"'{next(iter(changes))}' parameter"):
        GaussianMixture(2, **changes).fit(fits.overlapping())


def test_a_mixture_with_a_checkpoint_can_be_saved(path, tmp_path):
    with pytest.warns(ConvergenceWarning):
        mixture = fits.mixture_of("plain", checkpoint=path).fit(fits.overlapping())
    mixture.save(tmp_path / "mixture.npz")
    loaded = GaussianMixture.load(tmp_path / "mixture.npz")
    assert loaded.checkpoint is None
    assert fits.ended(loaded) == fits.ended(mixture)


def test_no_file_without_iterations(path):
    fits.fit("plain", max_iter=0, checkpoint=path)
    assert not path.exists()
