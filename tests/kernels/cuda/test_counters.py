"""Random numbers on CUDA whose counter lies in device memory, as a captured graph needs it."""

import numpy as np
import pytest

CALLS = (3, 0x123456789ABCDEF0, 2**64 - 1)


@pytest.mark.parametrize("call", CALLS)
def test_dropout_takes_its_call_from_the_cuda_device(cuda_kernels, call):
    x = np.ones(130, np.float32)
    draw = {"p": 0.5, "seed": 7}
    by_value = cuda_kernels.dropout(x, call=call, **draw)
    by_array = cuda_kernels.dropout(x, call=np.array(call, np.uint64), **draw)
    assert np.array_equal(by_value, by_array)
    assert not np.array_equal(by_value, cuda_kernels.dropout(x, call=call - 1, **draw))


@pytest.mark.parametrize("call", [3, 2**32 - 1])
def test_noise_takes_its_call_from_the_cuda_device(cuda_kernels, call):
    x, std, samples = np.ones((2, 3, 5, 7), np.float32), np.ones(2, np.float32), np.array([4, 1])
    draw = {"seed": 7, "stream": 2}
    by_value = cuda_kernels.image_noise(x, std, samples, call=call, **draw)
    by_array = cuda_kernels.image_noise(x, std, samples, call=np.array(call, np.uint64), **draw)
    assert np.array_equal(by_value, by_array)
    assert not np.array_equal(by_value, cuda_kernels.image_noise(x, std, samples, call=call - 1, **draw))
