"""Arrays that hold the same numbers, by their bytes."""

import numpy as np
import pytest

from fastgmm.kernels._bytes import same_arrays


@pytest.mark.parametrize("shape", [(0,), (1,), (3, 4), (2, 3, 3)])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64])
def test_equal_until_a_number_changes(shape, dtype):
    array = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    kept = array.copy()
    assert same_arrays((array, array), (kept, array))
    for index in np.ndindex(shape):
        array[index] += 1
        assert not same_arrays((kept, array), (kept, kept))
        array[index] -= 1
    assert same_arrays((array,), (kept,))


def test_strides_of_axes_that_do_not_matter():
    """Of a single row they may be anything; the array is in one piece all the same."""
    array = np.arange(12.0).reshape(4, 3)[::2][:1]
    assert array.flags.c_contiguous
    assert same_arrays((array,), (array.copy(order="C"),))


def test_equal_bytes_of_other_shapes():
    array = np.zeros((2, 6))
    for shape in [(6, 2), (12,), (2, 3, 2), (1, 2, 6)]:
        assert not same_arrays((array.reshape(shape),), (array,))


def test_other_order_of_the_same_bytes():
    """Numbers that are the same in memory may lie in other places of the array."""
    array = np.arange(4.0).reshape(2, 2)
    assert not same_arrays((array.T,), (array,))


def test_bytes_alone_are_not_enough():
    array = np.zeros((2, 3))
    for other in (
        np.zeros((3, 2)),
        np.zeros((2, 3), dtype=np.int64),
        np.zeros((2, 3), order="F"),  # kept arrays are C-contiguous; this one is made anew at each call
        np.zeros((2, 6))[:, ::2],
        np.ma.masked_array(array, mask=[[1, 0, 0], [0, 0, 0]]),
        array.tolist(),
        -array,  # -0 equals 0, but 1 / -0 does not
    ):
        assert not same_arrays((other,), (array,))
    with pytest.raises(ValueError, match=r"zip|argument"):
        same_arrays((array,), (array, array))
