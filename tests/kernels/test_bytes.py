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
