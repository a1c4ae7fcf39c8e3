"""The random directions v of the backward passes: a basis where they can be, white everywhere."""

import pytest
import torch
from quick import perturbed
from reference import images
from torch import nn

from kpnb.estimator.rates import LARGEST_ORTHONORMAL, Directions


def groups(moving, features, first, count):
    """Directions v (n, count, features) for a made-up pattern of moving features."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, features)).double()
    p = perturbed(net, images(len(moving), 4, dtype=torch.float64)[:, :1], "1", False)
    return Directions(p, moving)(first, count)


def test_directions_are_a_basis_of_the_moving_features():
    moving = torch.zeros(2, 9, dtype=torch.bool)
    moving[0, [1, 4, 5]] = True
    moving[1, :7] = True
    v = groups(moving, 9, 0, 21)
    assert not v.masked_select(~moving.unsqueeze(1)).any()
    for sample, size in ((0, 3), (1, 7)):
        inside = v[sample][:, moving[sample]]
        for group in inside.split(size):
            eye = size * torch.eye(size, dtype=torch.float64)
            torch.testing.assert_close(group @ group.T, eye, rtol=0, atol=1e-9)
    assert not torch.allclose(v[0, :3], v[0, 3:6])  # another basis every time
    torch.testing.assert_close(groups(moving, 9, 5, 8), v[:, 5:13])  # numbered, however asked for


@pytest.mark.parametrize("features", [4, LARGEST_ORTHONORMAL + 1])
def test_directions_are_white(features):
    """E[v v^T] = I also for a part of a group, and where there are too many for a basis."""
    moving = torch.ones(1, features, dtype=torch.bool)
    moving[0, 2] = features > LARGEST_ORTHONORMAL
    v = groups(moving, features, 0, 3000)[0, 1::3, :4]
    expected = moving[0, :4].double().diag()
    torch.testing.assert_close(v.T @ v / len(v), expected, rtol=0, atol=0.15)
