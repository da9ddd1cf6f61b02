"""A fixed repulsion between atoms that are not bonded: what a potential does where it was never trained.

Networks and a quadratic form know nothing of contacts that the training data do not have, and a hole there ends a run. So
pairs three bonds apart or more repel each other by a fixed r^-12, which is subtracted from the labels of a training and
added by the model for simulations. It is weak at all distances that the data cover.
"""

from __future__ import annotations

import numpy as np
import torch

from ..data import graph

_RADII = {1: 0.110, 5: 0.192, 6: 0.170, 7: 0.155, 8: 0.152, 9: 0.147, 14: 0.210, 15: 0.180, 16: 0.180, 17: 0.175}
_RADII |= {35: 0.185, 53: 0.198}  # van der Waals radii, nm (Bondi 1964; Mantina et al. 2009)
_OTHER_RADIUS = 0.2
_ENERGY = 0.4  # kJ/mol of two atoms at the sum of their radii
_LARGEST = 2.0  # kJ/mol at the closest contacts of the data: hydrogen bonds and transferred protons are closer than radii say
_CLOSEST = 0.005  # share of the frames that may be closer still, such as those of a model's faults
_FRAMES = 4000
_REACH = 3  # bonds
_FAR = 1e6  # nm^2, added to the squared distances of all other pairs


class Repulsion:
    """Sum of _ENERGY (R / r)^12, with the sum R of both radii, over pairs of atoms that are not near by their bonds.

    Parameters
    ----------
    layout : Layout

    Attributes
    ----------
    strengths : tensor of shape (n, n)
        kJ/mol nm^12; 0 for all other pairs
    """

    def __init__(self, layout):
        self.layout = layout
        radii = np.array([_RADII.get(z, _OTHER_RADIUS) for z in layout.species])
        strengths = _ENERGY * np.add.outer(radii, radii) ** 12
        self.strengths = torch.from_numpy(np.where(layout.steps >= _REACH, strengths, 0.0))

    def weaken(self, positions):
        """Make it weak at the distances that structures have, whatever the order of equal atoms.

        Parameters
        ----------
        positions : array of shape (frames, n, 3)
            nm
        """
        x = np.asarray(positions, dtype=float)
        x = x[:: max(1, len(x) // _FRAMES)]
        closest = np.zeros((x.shape[1],) * 2)
        for i in range(x.shape[1]):
            closest[i] = np.quantile(np.linalg.norm(x - x[:, i : i + 1], axis=-1), _CLOSEST, axis=0)
        orders = graph.permutations(self.layout.species, self.layout.bonds)
        for order in np.asarray(orders, dtype=int).reshape(-1, x.shape[1]):
            closest = np.minimum(closest, closest[np.ix_(order, order)])
        self.strengths = torch.minimum(self.strengths, torch.from_numpy(_LARGEST * closest**12))

    def __call__(self, positions):
        """Energies (frames) and forces (frames, n, 3) of positions (frames, n, 3), in float64."""
        x = torch.as_tensor(positions, dtype=torch.float64)
        squared = (x * x).sum(2)
        squared = squared[:, :, None] + squared[:, None] - 2 * x @ x.transpose(1, 2) + far(self.strengths)
        energy = self.strengths / squared**6
        push = 12 * energy / squared
        return 0.5 * energy.sum((1, 2)), push.sum(2, keepdim=True) * x - push @ x


def far(strengths):
    """What keeps r^2 from zero where the strength is 0: a tensor of the same shape."""
    return _FAR * (strengths == 0).double()
