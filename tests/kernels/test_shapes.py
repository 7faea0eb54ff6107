import pytest

from nnk.kernels.shapes import conv_output_size, pool_output_size


def starts_by_hand(size, kernel, stride, padding, dilation, ceil_mode):
    """The positions at which a window may start, found by walking."""
    reach = dilation * (kernel - 1) + 1
    count, start = 0, -padding
    while start + reach <= size + padding:
        count, start = count + 1, start + stride
    hangs_over = start + reach < size + padding + stride
    return count + 1 if ceil_mode and hangs_over and start < size else count


@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("dilation", [1, 2, 3])
@pytest.mark.parametrize("stride", [1, 2, 3, 5])
@pytest.mark.parametrize("kernel", [1, 2, 3, 4])
def test_sizes_are_those_of_walking_windows(kernel, stride, dilation, ceil_mode):
    for padding in range(kernel // 2 + 1):
        for size in range(max(1, dilation * (kernel - 1) + 1 - 2 * padding), 14):
            want = starts_by_hand(size, kernel, stride, padding, dilation, ceil_mode)
            assert pool_output_size(size, kernel, stride, padding, dilation, ceil_mode) == want
            if not ceil_mode:
                assert conv_output_size(size, kernel, stride, padding, dilation) == want


@pytest.mark.parametrize(("before", "after"), [(0, 0), (1, 0), (0, 3), (2, 1)])
def test_only_the_sum_of_both_paddings_counts(before, after):
    assert conv_output_size(9, 3, 2, (before, after), 1) == (9 + before + after - 3) // 2 + 1


def test_a_kernel_that_does_not_fit_gives_no_position():
    assert conv_output_size(2, 5, 1, 1, 1) < 1
    assert conv_output_size(3, 3, 4, 0, 3) < 1


def test_sizes_are_those_of_torch():
    torch = pytest.importorskip("torch")
    for size in range(3, 14):
        for kernel, padding in ((2, 1), (3, 0), (3, 1)):
            for stride in (1, 2, 3):
                for ceil_mode in (False, True):
                    y = torch.nn.functional.max_pool1d(
                        torch.zeros(1, 1, size), kernel, stride, padding, ceil_mode=ceil_mode
                    )
                    assert pool_output_size(size, kernel, stride, padding, 1, ceil_mode) == y.shape[2]
