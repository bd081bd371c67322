"""What the tests of several modules say in one word."""

import torch


def close(actual, expected, tolerance=1e-10):
    """Whether two tensors agree within the tolerance, absolute and relative."""
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)
