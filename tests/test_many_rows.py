"""More rows and elements than 32 bits can count, without the memory for them.

Sparse files and anonymous mappings cost memory only where they are written, so arrays can be as large as the
largest in use: a row number or an offset cut to 32 bits reads zeros, or another row, and is found out.
"""

from __future__ import annotations

import mmap
import sys

import datasets
import numpy as np
import oracle
import pytest
from row_scores import summary
from running import assert_same_bits, log_density, parameters_of, responsibilities, run_em

from fastgmm.blocks import ArrayData
from fastgmm.frame import Frame
from fastgmm.kernels import _pass
from fastgmm.passes import accumulate
from fastgmm.structures import STRUCTURES

posix = pytest.mark.skipif(sys.platform == "win32", reason="sparse files")
# Elsewhere pages that are only read are counted as memory, too.
linux = pytest.mark.skipif(sys.platform != "linux", reason="lazy memory without reservation")

MANY_ROWS = 2**32 + 2**31 + 1_234  # past what signed and unsigned 32 bits hold
LAST = 517  # of these the last ones are looked at; the others are all zero
MAP_NORESERVE = 0x4000


def zeros(shape: tuple[int, ...], dtype: type) -> np.ndarray:
    """An array of zeros that takes memory only where it is written."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    try:
        memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE)
    except OSError:
        pytest.skip(f"this machine does not give {size} bytes of address space")
    return np.frombuffer(memory, dtype=dtype).reshape(shape)


@posix
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_rows_far_apart(tmp_path, dtype):
    """Offsets beyond 2^32 elements: few rows spread over a sparse file, read as they lie there."""
    n_rows, n_features = 500, 3
    distance = 2**32 // 400 + 17  # elements from row to row
    assert (n_rows - 1) * distance > 2**32
    path = tmp_path / "sparse.bin"
    with open(path, "wb") as file:
        try:
            file.truncate((n_rows * distance + n_features) * np.dtype(dtype).itemsize)
        except OSError:
            pytest.skip("the file system has no sparse files of this size")
    flat = np.memmap(path, dtype=dtype, mode="r+")
    strides = distance * flat.itemsize, flat.itemsize
    wide = np.lib.stride_tricks.as_strided(flat, (n_rows, n_features), strides, writeable=True)
    wide[:] = datasets.problem(9, n_rows, n_features, 3, "full")[0]
    dense = np.array(wide)
    for kind in oracle.COVARIANCE_TYPES:
        start = datasets.problem(9, n_rows, n_features, 3, kind)[1]
        structure, parameters = STRUCTURES[kind], parameters_of(kind, start)
        for output in (log_density, responsibilities):
            found, expected = (output(rows, structure, parameters, 2) for rows in (wide, dense))
            np.testing.assert_array_equal(found, expected)
        assert_same_bits(run_em(wide, kind, start, 2), run_em(dense, kind, start, 2))
    del wide, flat


def test_more_than_two_to_the_31_elements():
    """N x D past 2^31, without the memory: one row seen very often. Each is visited once."""
    n_features, n_rows = 4096, 2**31 // 4096 + 12_345
    row = np.linspace(-1.0, 1.0, n_features, dtype=np.float32)[None]
    X = np.broadcast_to(row, (n_rows, n_features))
    assert X.size > 2**31
    start = np.ones(1), np.zeros((1, n_features)), np.ones(1)
    structure, parameters = STRUCTURES["spherical"], parameters_of("spherical", start)
    one = log_density(row, structure, parameters, 1)[0]
    result = summary(ArrayData(X), structure, parameters, 2)
    assert result.total_weight == n_rows
    assert result.log_likelihood == pytest.approx(n_rows * one, rel=1e-10)


@pytest.mark.slow
def test_fit_of_more_than_two_to_the_31_elements():
    n_features, n_rows = 4096, 2**31 // 4096 + 12_345
    row = np.linspace(-1.0, 1.0, n_features, dtype=np.float32)[None]
    start = np.ones(1), np.zeros((1, n_features)), np.ones(1)
    result = run_em(
        np.broadcast_to(row, (n_rows, n_features)), "spherical", start, 1, reg_covar=1.0, n_threads=2
    )
    np.testing.assert_allclose(result.parameters.means[0], row[0].astype(float), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(result.parameters.covariances, 1.0, rtol=1e-9)


@linux
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_row_numbers_past_32_bits(dtype, isa):
    """Everything that is indexed by row, read and written at the end of arrays of that many rows."""
    rows, start = datasets.problem(9, LAST, 1, 2, "diag")
    weight = np.random.default_rng(1).uniform(0.5, 2.0, LAST)
    shares = np.random.default_rng(2).dirichlet(np.ones(2), LAST)
    structure, parameters = STRUCTURES["diag"], parameters_of("diag", start)
    frame = ArrayData(rows).frame(1)
    score_map = structure.score_map(parameters, frame, 1)
    begin = MANY_ROWS - LAST

    def run(X, begin, end, row_weight, given, labels, out):
        sums = []
        for source in ("scores", "given", "labels"):
            sweep = _pass.Pass(X, row_weight, frame, 2)
            sweep.visit(begin, end)
            if source == "scores":
                sweep.score(score_map)
                sweep.write(**out)
            elif source == "given":
                sweep.give_responsibilities(given)
            else:
                sweep.give_labels(labels)
            sweep.accumulate(_pass.DIAGONAL, 2, True, None, None, _pass.VECTOR, False, False)
            result = sweep.run(2)
            sums += [result["head"], result["weight"], result["terms"]]
        return sums

    def outputs(n, make):
        return {
            "log_density": make((n,), np.float64),
            "labels": make((n,), np.int64),
            "responsibilities": make((n, 2), np.float64),
            "scores": make((n, 2), np.float64),
        }

    few = outputs(LAST, np.zeros)
    labels = few["labels"]  # read after they were written
    expected = run(np.asarray(rows, dtype), 0, LAST, weight, shares, labels, few)
    many = {
        "X": zeros((MANY_ROWS, 1), dtype),
        "row_weight": zeros((MANY_ROWS,), np.float64),
        "given": zeros((MANY_ROWS, 2), np.float64),
        "labels": zeros((MANY_ROWS,), np.int64),
    }
    for array, values in zip(many.values(), (rows, weight, shares, labels), strict=True):
        array[begin:] = values
    out = outputs(MANY_ROWS, zeros)
    for found, wanted in zip(run(**many, begin=begin, end=MANY_ROWS, out=out), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)
    assert np.unique(labels).size == 2
    for name, wanted in few.items():
        np.testing.assert_array_equal(out[name][begin:], wanted, err_msg=name)


def test_a_pass_visits_one_range_after_another():
    """A range is checked against the rows there are, not against the range before."""
    X, n_rows = np.arange(400.0)[:, None], 400
    sweep = _pass.Pass(X, None, Frame(np.zeros(1), np.ones(1)), 1)
    sweep.give_labels(np.zeros(n_rows, dtype=np.int64))
    sweep.accumulate(_pass.LINEAR, 1, True, None, None, _pass.SCALAR, False, False)
    for begin, end in ((0, 10), (10, 20), (390, n_rows), (0, n_rows), (7, 7)):
        sweep.visit(begin, end)
        assert sweep.run(1)["terms"][0, 0] == X[begin:end].sum()
    for begin, end in ((0, n_rows + 1), (-1, 5), (9, 8)):
        with pytest.raises(IndexError, match=f"rows {begin} to {end} of {n_rows}"):
            sweep.visit(begin, end)
    # in an order, places in it count
    sweep.in_order(np.array([5, 3, 8], dtype=np.uint32))
    for begin, end in ((0, 1), (1, 3)):
        sweep.visit(begin, end)
        assert sweep.run(1)["terms"][0, 0] == sum((5, 3, 8)[begin:end])
    with pytest.raises(IndexError, match="rows 0 to 4 of 3"):
        sweep.visit(0, 4)


@linux
@pytest.mark.parametrize("n_rows", [2**31 + 100_003, pytest.param(2**32 + 100_003, marks=pytest.mark.slow)])
def test_schedule_of_more_rows_than_32_bits_count(n_rows):
    """Every row is visited once, the last ones, the only ones that are not zero, among them.

    More than a chunk of rows lies beyond the power of two, so that a chunk begins there.
    """
    X = zeros((n_rows, 1), np.float32)
    rows = np.linspace(1.0, 2.0, LAST)
    X[-LAST:, 0] = rows
    data, structure = ArrayData(X), STRUCTURES["diag"]
    parameters = parameters_of("diag", (np.ones(1), np.zeros((1, 1)), np.ones((1, 1))))
    frame = Frame(np.zeros(1), np.ones(1))
    statistics = accumulate(data, structure, frame, 1, 2, score_map=structure.score_map(parameters, frame, 1))
    _, chunk_rows, _ = _pass.plan(n_rows, 1, 1, 2, 16)
    assert n_rows % 2**31 > 2 * chunk_rows
    exact = X[-LAST:, 0].astype(float)
    assert statistics.total_weight == n_rows
    assert statistics.weight[0] == pytest.approx(n_rows, rel=1e-12)
    assert statistics.first[0, 0] == pytest.approx(exact.sum(), rel=1e-12)
    assert statistics.second[0, 0] == pytest.approx((exact**2).sum(), rel=1e-12)
