"""How rows are cut into blocks and chunks and shared among threads."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time

import numpy as np
import pytest
from running import parameters_of

from fastgmm.blocks import ArrayData
from fastgmm.frame import frame_of_parameters
from fastgmm.kernels import _pass
from fastgmm.passes import accumulate
from fastgmm.structures import STRUCTURES


def plan(n_rows, n_components, n_features, n_terms):
    size = 8 + n_components * (1 + n_terms)
    return _pass.plan(n_rows, n_components, n_features, n_terms, size)


@pytest.mark.parametrize(
    ("shape", "block_rows"),
    [
        ((4, 2, 5), 384),
        ((16, 3, 9), 384),
        ((64, 3, 9), 384),
        ((8, 8, 44), 384),
        ((16, 16, 152), 192),
        ((32, 16, 152), 192),
        ((32, 32, 560), 96),
        ((128, 64, 2144), 96),
    ],
    ids=str,
)
def test_rows_of_a_block(shape, block_rows):
    """What the benchmarks were tuned with: another constant must not move it unnoticed."""
    assert plan(1_000_000, *shape)[0] == block_rows


@pytest.mark.parametrize("n_rows", [1, 95, 96, 97, 1024, 65_537, 1_000_003, 2**40])
@pytest.mark.parametrize("shape", [(1, 1, 2), (3, 2, 5), (16, 16, 152), (128, 64, 2144), (999, 512, 131_840)])
def test_chunks_cover_the_rows(n_rows, shape):
    block_rows, chunk_rows, n_chunks = plan(n_rows, *shape)
    assert chunk_rows % block_rows == 0
    assert (n_chunks - 1) * chunk_rows < n_rows <= n_chunks * chunk_rows


def test_large_models_have_several_chunks():
    """Sums of 2 GB or 136 MB: four chunks, so that four threads have work and four sums memory."""
    assert plan(100_000, 2000, 512, 131_840)[2] == 4
    assert plan(100_000, 512, 256, 33_152)[2] == 4
    size = 2**22 // 8  # 4 MiB each
    assert _pass.plan(2**25, 64, 64, 2144, size)[2] == 64


def prepared(covariance_type, n_components, n_features, n_rows=10):
    """Structure, frame, score map, and one row seen n_rows times."""
    structure = STRUCTURES[covariance_type]
    means = np.linspace(-1, 1, n_components)[:, None] * np.ones(n_features)
    covariances = {
        "full": np.stack([np.eye(n_features)] * n_components),
        "tied": np.eye(n_features),
        "diag": np.ones((n_components, n_features)),
        "spherical": np.ones(n_components),
    }[covariance_type]
    weights = np.full(n_components, 1 / n_components)
    parameters = parameters_of(covariance_type, (weights, means, covariances))
    frame = frame_of_parameters(
        weights, parameters.means, structure.variances(parameters), structure.common_scale
    )
    X = np.broadcast_to(np.linspace(-2, 2, n_features), (n_rows, n_features))
    return structure, frame, structure.score_map(parameters, frame, 1), X


def test_projected_matrices_are_worth_threads():
    """Without features a pair costs D^2, not D: these passes take milliseconds on one thread."""
    structure, frame, score_map, X = prepared("full", 2, 100, 200)
    assert score_map.always_project
    assert score_map.coef is None
    sweep = _pass.Pass(X, None, frame, 2)
    sweep.score(score_map)
    assert sweep.useful_threads(16) > 1
    # matrix moments about centres of given rows likewise
    sweep = _pass.Pass(X, None, frame, 2)
    sweep.give_labels(np.zeros(200, dtype=np.int64))
    slots, about = np.arange(2, dtype=np.intc), np.zeros((2, 100))
    sweep.accumulate(_pass.NO_TERMS, 0, False, slots, about, structure.moment_shape, False, False)
    assert structure.moment_shape == _pass.MATRIX
    assert sweep.useful_threads(16) > 1
    # vectors remain cheap
    _, frame, score_map, X = prepared("diag", 2, 100, 200)
    sweep = _pass.Pass(X, None, frame, 2)
    sweep.score(score_map)
    assert sweep.useful_threads(16) == 1


def test_missing_arrays_are_refused():
    _, frame, _, X = prepared("full", 2, 3)
    sweep = _pass.Pass(X, None, frame, 2)
    with pytest.raises(TypeError):
        sweep.give_labels(None)
    with pytest.raises(TypeError):
        sweep.give_responsibilities(None)
    with pytest.raises(TypeError):
        sweep.accumulate(0, 0, False, np.arange(2, dtype=np.intc), None, _pass.MATRIX, False, False)
    with pytest.raises(TypeError, match="go together"):
        sweep.write(keys=np.zeros(10, np.int32))
    with pytest.raises(TypeError, match="go together"):
        sweep.write(key_densities=np.zeros(10, np.float32))


def test_outputs_that_do_not_fit_are_refused():
    """Kernels write where they are told to."""
    _, frame, _, X = prepared("full", 2, 3)
    sweep = _pass.Pass(X, None, frame, 2)
    read_only = np.zeros(10)
    read_only.flags.writeable = False
    for name, bad in [
        ("log_density", np.zeros(10, np.float32)),
        ("log_density", np.zeros(20)[::2]),
        ("log_density", read_only),
        ("labels", np.zeros(10)),
        ("responsibilities", np.zeros(10)),
        ("scores", np.zeros((2, 10)).T),
    ]:
        with pytest.raises(ValueError, match=r"[Bb]uffer|contiguous|read-only"):
            sweep.write(**{name: bad})


@pytest.mark.parametrize("n_rows", [1, 3000])
@pytest.mark.parametrize("n_threads", [1, 2])
def test_outputs_without_sums(n_rows, n_threads):
    """The outputs are those of a pass that gives sums, too."""
    _, frame, score_map, X = prepared("full", 3, 2, n_rows)
    filled = []
    for finish in ("run", "fill"):
        sweep = _pass.Pass(X, None, frame, 3)
        sweep.score(score_map)
        out = {
            "log_density": np.full(n_rows, np.nan),
            "labels": np.full(n_rows, -1),
            "responsibilities": np.full((n_rows, 3), np.nan),
            "scores": np.full((n_rows, 3), np.nan),
        }
        sweep.write(**out)
        getattr(sweep, finish)(n_threads)
        filled.append(out)
    for name, expected in filled[0].items():
        assert np.isfinite(expected).all()
        assert (expected >= 0).all() or name in ("log_density", "scores")
        np.testing.assert_array_equal(filled[1][name], expected)


def test_enumerations():
    """The numbers of job.h under Python's names, none mistaken for another."""
    assert (_pass.NO_TERMS, _pass.LINEAR, _pass.SPHERICAL, _pass.DIAGONAL, _pass.FULL) == (0, 1, 2, 3, 4)
    assert (_pass.SCALAR, _pass.VECTOR, _pass.MATRIX) == (0, 1, 2)
    head = (_pass.LOG_LIKELIHOOD, _pass.LOG_MAX, _pass.WEIGHT, _pass.PAIRS, _pass.PAIRS_CENTRED)
    assert head == (0, 1, 2, 3, 4)


class Stop(Exception):
    """Raised by a signal handler."""


@contextlib.contextmanager
def alarms(handler, first, interval=0.0):
    """Call handler(signal, frame) `first` seconds from now and then every `interval` seconds."""
    if threading.current_thread() is not threading.main_thread():
        pytest.skip("only the main thread handles signals")
    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, first, interval)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.skipif(os.name != "posix", reason="needs interval timers")
@pytest.mark.skipif(not _pass.openmp_enabled(), reason="needs threads")
class TestSignals:
    """A pass of five long chunks on four threads: while the fifth is computed, three have nothing to do.

    In most runs the caller's thread, the only one that can run signal handlers, is one of the three.
    """

    CHUNK_ROWS = 1056
    CHUNK_SECONDS = 0.5

    def sweep(self, n_components, n_chunks):
        n_features, n_rows = 64, n_chunks * self.CHUNK_ROWS
        _, frame, score_map, X = prepared("tied", n_components, n_features, n_rows)
        score_map.always_project = True
        assert plan(n_rows, n_components, n_features, 0)[1:] == (self.CHUNK_ROWS, n_chunks)
        sweep = _pass.Pass(X, None, frame, n_components)
        sweep.score(score_map)
        return sweep

    @pytest.fixture
    def long_sweep(self):
        n_components = 200
        sweep = self.sweep(n_components, 1)
        start = time.perf_counter()
        sweep.run(1)
        return self.sweep(int(n_components * self.CHUNK_SECONDS / (time.perf_counter() - start)) + 1, 5)

    def test_handlers_run_to_the_end_of_a_pass(self, long_sweep):
        for _ in range(2):
            moments = [time.perf_counter()]
            with alarms(lambda *_: moments.append(time.perf_counter()), 0.01, 0.01):  # noqa: B023
                long_sweep.run(4)
            moments.append(time.perf_counter())
            assert np.diff(moments).max() < 0.6 * self.CHUNK_SECONDS

    def test_exceptions_of_handlers_end_a_pass(self, long_sweep):
        def stop(*_):
            raise Stop

        start = time.perf_counter()
        with alarms(stop, 0.1), pytest.raises(Stop):
            long_sweep.run(4)
        assert time.perf_counter() - start < self.CHUNK_SECONDS


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("centred", ["none", "some", "all"])
def test_labels_are_responsibilities_of_one(ordered, centred, isa):
    """Blocks look at the components of their labels only, and at none for rows without one."""
    rng = np.random.default_rng(0)
    n_rows, K = 1003, 17
    structure, frame = prepared("full", K, 3)[:2]
    X = rng.standard_normal((n_rows, 3))
    weight = rng.uniform(0.0, 2.0, n_rows)
    labels = rng.integers(-1, K - 1, n_rows)  # the last component has no rows
    labels[:300] = -1  # whole blocks without any
    labels[400:700] = 5
    given = np.zeros((n_rows, K))
    given[np.flatnonzero(labels >= 0), labels[labels >= 0]] = 1.0
    order = rng.permutation(n_rows).astype(np.uint32) if ordered else None
    slots = {"none": None, "some": [0, 5, 16], "all": range(K)}[centred]
    arguments = {}
    if slots is not None:
        about = rng.standard_normal((K, 3))
        arguments = {"centres": about, "centred": np.isin(np.arange(K), slots)}
    data = ArrayData(X, weight)
    found, expected = (
        accumulate(data, structure, frame, K, 2, order=order, **source, **arguments)
        for source in ({"labels": labels}, {"responsibilities": given})
    )
    for name in ("weight", "first", "second"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)
    assert found.weight[K - 1] == 0
    assert found.total_weight == expected.total_weight
