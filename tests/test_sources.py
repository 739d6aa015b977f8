"""Rows that are read block by block: reading ahead, putting blocks together, the survey, what is refused."""

from __future__ import annotations

import gc
import importlib.util
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from contextlib import closing

import numpy as np
import oracle
import pytest
from streams import PART_ROWS, make_parts_small
from tolerances import EPS, SUM_RELATIVE

from fastgmm import BlockRows, GaussianMixture
from fastgmm.sources import Source, StreamedData, as_source
from fastgmm.sources.base import PARTS_ALIVE, Block
from fastgmm.sources.prefetch import prefetched


def surveyed(source, n_seeds=50, seed=0):
    data = StreamedData(source, 1)
    data.survey(lambda _: n_seeds, np.random.RandomState(seed))
    return data


def rows(n, D=3, seed=0):
    return np.random.default_rng(seed).normal(size=(n, D))


# ---- reading ahead ---------------------------------------------------------------------------------------


def readers():
    return [thread for thread in threading.enumerate() if thread.name == "fastgmm-reader"]


def wait_for(condition, seconds=5.0):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


def test_prefetched_keeps_the_order():
    assert list(prefetched(iter(range(1000)))) == list(range(1000))
    assert list(prefetched(iter([]))) == []


def test_prefetched_reads_in_another_thread():
    def items():
        yield threading.current_thread().name

    assert list(prefetched(items())) == ["fastgmm-reader"]


@pytest.mark.parametrize("kind", [ValueError, SystemExit, KeyboardInterrupt, MemoryError])
def test_prefetched_forwards_exceptions_where_they_belong(kind):
    def items():
        yield 1
        yield 2
        raise kind("no more")

    ahead = prefetched(items())
    assert [next(ahead), next(ahead)] == [1, 2]
    with pytest.raises(kind, match=r"no more"):
        next(ahead)
    assert wait_for(lambda: not readers())


def test_closing_early_ends_the_thread_and_the_iterator():
    closed = threading.Event()

    def items():
        try:
            yield from range(10**9)
        finally:
            closed.set()

    ahead = prefetched(items())
    assert next(ahead) == 0
    assert readers()
    ahead.close()
    assert closed.is_set()
    assert not readers()


class Part:
    """An item that can be counted."""


def test_no_more_parts_are_alive_than_stated():
    alive, most = weakref.WeakSet(), 0

    def items():
        nonlocal most
        for _ in range(30):
            part = Part()
            alive.add(part)
            most = max(most, len(alive))
            yield part
            del part

    for part in prefetched(items()):
        time.sleep(0.002)  # so that the reader is as far ahead as it gets
        del part
    assert most == PARTS_ALIVE


def test_memory_may_be_used_again_as_stated(monkeypatch):
    """A source with PARTS_ALIVE buffers for large blocks, one for small ones: none changes in use."""
    make_parts_small(monkeypatch)
    large = PART_ROWS
    sizes = [
        3,
        5,
        large,
        2,
        2 * large + 1,
        *[9] * 40,
        large,
        1,
        1,
        large,
        large + 3,
        *[700] * 12,
        large,
        large,
        8,
    ]

    class Reusing(Source):
        def blocks(self):
            buffers = [np.empty((3 * large, 3)) for _ in range(PARTS_ALIVE)]
            small, n_large, first = np.empty((1000, 3)), 0, 0
            for size in sizes:
                buffer = small
                if size >= large:
                    buffer = buffers[n_large % PARTS_ALIVE]
                    n_large += 1
                buffer[:] = -1.0
                buffer[:size] = np.arange(first, first + size)[:, np.newaxis]
                first += size
                yield Block(buffer[:size, :2], buffer[:size, 2], "")

    data = StreamedData(Reusing(), 1)
    for _ in range(2):
        expected = 0
        for part in data.parts():
            time.sleep(0.002)  # so that the reader is as far ahead as it gets
            numbers = np.arange(expected, expected + part.n_rows)
            assert np.array_equal(part.X, np.repeat(numbers[:, np.newaxis], 2, axis=1))
            assert np.array_equal(part.sample_weight, numbers)
            expected += part.n_rows
        assert expected == sum(sizes)


INTERRUPTED = """
import signal
import numpy as np, sys, warnings
from fastgmm import GaussianMixture
signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs ignore it
X = np.random.default_rng(0).normal(size=(200_000, 8))
def blocks():
    for i in range(50):
        if i == 2:
            print("reading", flush=True)
        yield X
mixture = GaussianMixture(16, max_iter=10_000, tol=0.0)
try:
    mixture.fit(blocks)
except KeyboardInterrupt:
    print("interrupted", hasattr(mixture, "means_"), flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT for a child process")
def test_ctrl_c_ends_a_fit_promptly(clean_environment):
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED], stdout=subprocess.PIPE, text=True, env=clean_environment
    )
    try:
        assert process.stdout.readline() == "reading\n"
        time.sleep(0.3)
        began = time.monotonic()
        os.kill(process.pid, signal.SIGINT)
        out, _ = process.communicate(timeout=30)
    finally:
        process.kill()
        process.stdout.close()
        process.wait()
    assert out.split("\n")[-2] == "interrupted False"
    assert time.monotonic() - began < 5.0  # a pass would take longer, the fit hours


# ---- parts -----------------------------------------------------------------------------------------------


def parts_of(source):
    return [(part.X.copy(), part.sample_weight) for part in StreamedData(source, 1).parts()]


def test_small_blocks_are_put_together_and_large_ones_cut(monkeypatch):
    make_parts_small(monkeypatch)
    X = rows(3 * PART_ROWS + 5)
    small = [X[first : first + 100] for first in range(0, len(X), 100)]
    sizes = [len(part) for part, _ in parts_of(BlockRows(small))]
    assert sum(sizes) == len(X)
    assert min(sizes[:-1]) * X[0].nbytes >= 1 << 14
    sizes = [len(part) for part, _ in parts_of(BlockRows([X]))]
    assert sizes == [PART_ROWS] * 3 + [5]
    for blocks in (small, [X], [X[:0], X[:1], X[1:], X[:0]]):
        assert np.array_equal(np.concatenate([part for part, _ in parts_of(BlockRows(blocks))]), X)


def test_weights_and_types_of_blocks_put_together():
    X = rows(10)

    class Mixed(Source):
        def blocks(self):
            yield Block(X[:4].astype(np.float32), None, "block 0")
            yield Block(X[4:7], np.array([2.0, 0.0, 1.0]), "block 1")
            yield Block(X[7:].tolist(), None, "block 2")

    ((part, weight),) = parts_of(Mixed())
    assert part.dtype == np.float64
    assert np.array_equal(part[:4], X[:4].astype(np.float32))
    assert np.array_equal(part[4:], X[4:])
    assert weight.tolist() == [1, 1, 1, 1, 2, 0, 1, 1, 1, 1]


def test_blocks_may_be_frames_integers_and_of_any_layout():
    X = np.random.default_rng(0).integers(0, 50, (300, 3))
    expected = surveyed(BlockRows([X.astype(float)]))
    kinds = [X, np.asfortranarray(X.astype(float)), X[::-1][::-1].astype(">f8"), X.tolist()]
    for name in ("pandas", "polars"):
        if importlib.util.find_spec(name):
            columns = dict(zip("abc", X.T))
            kinds.append(importlib.import_module(name).DataFrame(columns))
    for kind in kinds:
        found = surveyed(BlockRows(lambda kind=kind: iter([kind, X[:0]])))
        assert np.array_equal(found.mean, expected.mean)
        assert np.array_equal(found.spread, expected.spread)


def test_rows_that_change_between_passes_are_refused():
    n_calls = 0

    def blocks():
        nonlocal n_calls
        n_calls += 1
        yield rows(100 if n_calls < 3 else 99)

    with pytest.raises(ValueError, match=r"gives other rows than when it was read first: part 0 now has 99"):
        GaussianMixture(2, tol=0.0).fit(blocks)


@pytest.mark.parametrize("now", ["more", "fewer"])
def test_more_or_fewer_parts_are_refused(monkeypatch, now):
    make_parts_small(monkeypatch)
    n = {"more": [2, 3], "fewer": [3, 2]}[now]
    data = StreamedData(BlockRows(lambda: iter([rows(PART_ROWS)] * n[0])), 1)
    list(data.parts())
    n.pop(0)
    with pytest.raises(ValueError, match=r"same rows in the same order"):
        list(data.parts())


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_found(bad):
    blocks = [rows(10), rows(20), rows(30)]
    blocks[1][7, 2] = bad
    with pytest.raises(ValueError, match=f"first is {bad} in row 7 of block 1, column 2"):
        GaussianMixture(2).fit(BlockRows(blocks))


def test_errors_leave_the_attributes_as_they_were():
    mixture = GaussianMixture(2, random_state=0).fit(rows(100))
    before = mixture.means_.tobytes(), sorted(vars(mixture))
    with pytest.raises(ValueError, match=r"features in block 1, but 3 are expected"):
        mixture.fit(BlockRows([rows(50), rows(50, D=4)]))
    with pytest.raises(ValueError, match=r"no rows"):
        mixture.fit(lambda: iter([]))
    assert (mixture.means_.tobytes(), sorted(vars(mixture))) == before


def test_one_row_is_refused_as_in_memory():
    with pytest.raises(ValueError, match=r"X has 1 row\(s\), but 2 or more are needed for a fit"):
        GaussianMixture(1).fit(BlockRows([rows(1)]))


def test_blocks_that_are_frames_have_the_same_columns():
    pandas = pytest.importorskip("pandas")
    X = pandas.DataFrame(rows(100), columns=list("abc"))
    other = X[["b", "a", "c"]]
    mixture = GaussianMixture(2, random_state=0).fit([X[:50], X[50:]])
    assert mixture.feature_names_in_.tolist() == ["a", "b", "c"]
    for call in (mixture.score, mixture.predict, mixture.accumulate, mixture.fit):
        with pytest.raises(
            ValueError, match=r"columns of block 1 are \['b', 'a', 'c'\], but \['a', 'b', 'c'\]"
        ):
            call([X[:50], other[50:]])
    with pytest.raises(ValueError, match=r"columns of block 0"):
        mixture.score([other])
    assert mixture.score([X.to_numpy()]) == mixture.score([X])
    assert not hasattr(GaussianMixture(2, random_state=0).fit([X.to_numpy()]), "feature_names_in_")


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        ([1.0, -1.0], "non-negative, but it is -1.0 for row 1 of block 0"),
        ([1.0, np.nan], "finite and non-negative, but it is nan for row 1 of block 0"),
        ([1.0], r"have the shape \(1,\), expected \(2,\)"),
        ([0.0, 0.0], "all are zero"),
        ([1e200, 1.0], r"largest weight is 1e\+200"),
    ],
)
def test_bad_weights(weight, message):
    with pytest.raises(ValueError, match=message):
        GaussianMixture(1).fit(BlockRows([(rows(2), weight)], weighted=True))


# ---- the survey ------------------------------------------------------------------------------------------


@pytest.mark.extended
@pytest.mark.parametrize("scale", [1.0, 1e-140, 1e140, 1e-3])
@pytest.mark.parametrize("offset", [0.0, 1e8])
def test_survey_measures_as_longdouble_does(scale, offset, monkeypatch):
    make_parts_small(monkeypatch)
    X = rows(3 * PART_ROWS, seed=2)
    X[:PART_ROWS] += 5.0  # parts lie apart
    X = (X + offset) * np.array([scale, 1.0, -2.0 * scale])
    weight = np.random.default_rng(1).uniform(0.0, 3.0, len(X))
    weight[PART_ROWS : 2 * PART_ROWS] = 0.0
    cuts = [0, 5, PART_ROWS, 2 * PART_ROWS, len(X)]
    blocks = [(X[a:b], weight[a:b]) for a, b in itertools.pairwise(cuts)]
    data = surveyed(BlockRows(blocks, weighted=True))
    w = oracle.real(weight)[:, None]
    exact = oracle.real(X)
    mean = (w * exact).sum(axis=0) / w.sum()
    spread = np.sqrt((w * (exact - mean) ** 2).sum(axis=0) / w.sum())
    # a mean is as exact as its rows are, the spread as differences from it
    np.testing.assert_array_less(np.abs(data.mean - mean), 1e-13 * spread + 4 * EPS * np.abs(mean))
    # means of parts are rounded before they are put together
    lost = SUM_RELATIVE + 4 * EPS * np.abs(mean) / spread
    np.testing.assert_array_less(np.abs(data.spread - spread) / spread, lost)
    assert (data.n_rows, data.n_positive) == (len(X), int((weight > 0).sum()))
    assert data.total_weight == pytest.approx(weight.sum(), rel=1e-14)


def test_values_too_far_apart_for_variances_are_refused():
    X = rows(100)
    X[:50, 1], X[50:, 1] = -1e300, 1e300
    with pytest.raises(ValueError, match=r"column 1.*Rescale X"):
        GaussianMixture(1).fit(BlockRows([X[:50], X[50:]]))


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
@pytest.mark.parametrize("many", [list, tuple, lambda frames: lambda: iter(frames)])
def test_frames_of_any_kind_are_blocks(library, many):
    module = pytest.importorskip(library)
    X = rows(100)
    make = module.table if library == "pyarrow" else module.DataFrame
    frames = [make(dict(zip("abc", part.T))) for part in (X[:30], X[30:])]
    mixture = GaussianMixture(2, random_state=0).fit(many(frames))
    assert mixture.feature_names_in_.tolist() == ["a", "b", "c"]
    assert mixture.score(many(frames)) == mixture.score([X])


# ---- what is a source ------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [lambda: iter([rows(5)]), lambda: (block for block in [rows(5)])])
def test_iterators_are_refused(make):
    for call in (as_source, BlockRows, GaussianMixture().fit):
        with pytest.raises(TypeError, match=r"can be read only once.*generator function itself"):
            call(make())


def test_weighted_blocks_must_be_pairs():
    with pytest.raises(TypeError, match=r"Block 1 should be a pair \(X, sample_weight\), got ndarray"):
        list(BlockRows([(rows(2), [1, 1]), rows(2)], weighted=True).blocks())


def test_weights_beside_blocks_are_refused():
    with pytest.raises(TypeError, match=r"sample_weight cannot be given beside X.*weighted=True"):
        GaussianMixture().fit([rows(5)], sample_weight=np.ones(5))


def test_arrays_and_what_becomes_arrays_are_no_sources():
    for X in (rows(5), rows(5).tolist(), [[1, 2], [3, 4]], [], (), rows(5)[0], None, 3.0):
        assert as_source(X) is None
    assert isinstance(as_source([rows(5), rows(5)]), BlockRows)
    assert isinstance(as_source(lambda: iter([rows(5)])), BlockRows)


def test_reading_ends_when_a_pass_fails():
    class Failing(Exception):
        pass

    data = StreamedData(BlockRows([rows(2_000_000)] * 3), 1)
    try:
        with closing(data.parts()) as parts:
            for _ in parts:
                raise Failing
    except Failing:
        pass
    gc.collect()
    assert wait_for(lambda: not readers())
