"""A fixed repulsion between those atoms of a large molecule whose distance no descriptor has.

Without it nothing would keep a hydrogen from passing through another part of the molecule: the networks see such a contact
by other distances only. It is subtracted from the labels of a training and added by the model for simulations.
"""

from __future__ import annotations

import torch

_RADII = {1: 0.110, 5: 0.192, 6: 0.170, 7: 0.155, 8: 0.152, 9: 0.147, 14: 0.210, 15: 0.180, 16: 0.180, 17: 0.175}
_RADII |= {35: 0.185, 53: 0.198}  # van der Waals radii, nm (Bondi 1964; Mantina et al. 2009)
_OTHER_RADIUS = 0.2
_ENERGY = 0.4  # kJ/mol of two atoms at the sum of their radii
_FAR = 1e6  # nm^2, added to the squared distances of all other pairs


class Repulsion:
    """Sum of _ENERGY (R / r)^12, with the sum R of both radii, over the pairs without a descriptor.

    Attributes
    ----------
    strengths : tensor of shape (n, n)
        _ENERGY R^12 in kJ/mol nm^12, 0 for all other pairs; (0, 0) if there are none
    far : tensor of shape (n, n)
        _FAR where the strength is 0
    """

    def __init__(self, layout):
        self.pairs = layout.undescribed
        n = layout.n_atoms if self.pairs else 0
        self.strengths = torch.zeros(n, n, dtype=torch.float64)
        for i, j in self.pairs:
            size = sum(_RADII.get(layout.species[a], _OTHER_RADIUS) for a in (i, j))
            self.strengths[i, j] = self.strengths[j, i] = _ENERGY * size**12
        self.far = _FAR * (self.strengths == 0).double()

    def __call__(self, positions):
        """Energies (frames) and forces (frames, n, 3) of positions (frames, n, 3), in float64."""
        x = torch.as_tensor(positions, dtype=torch.float64)
        if not self.pairs:
            return x.new_zeros(len(x)), torch.zeros_like(x)
        squared = (x * x).sum(2)
        squared = squared[:, :, None] + squared[:, None] - 2 * x @ x.transpose(1, 2) + self.far
        energy = self.strengths / squared**6
        push = 12 * energy / squared
        return 0.5 * energy.sum((1, 2)), push.sum(2, keepdim=True) * x - push @ x
