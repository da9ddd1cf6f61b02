"""The start of a training: the quadratic part by least squares."""

from __future__ import annotations

import torch

from .model import PHI_SCALE

SIGMA = {"force": 50.0, "energy": 2.0, "charge": 0.01}
"""Errors that the fit weighs by (kJ/mol/nm, kJ/mol, e): what a quadratic form can reach."""
RIDGE = 1e-3
_OPERATIONS = 4e11  # multiplications that the fit may take; sets its number of frames


def fit_frames(layout) -> int:
    """How many frames are worth their time in the fit."""
    unknowns = len(layout.quadratic) + len(layout.fit_products()[0]) + 1
    return max(60, min(2000, int(_OPERATIONS / (unknowns**2 * (4 * layout.n_atoms + 1)))))


def fit_quadratic(model, descriptors, samples, batch=8) -> float:
    """Fit matrix and vector of the quadratic part to energies, forces and charges; return the constant of the fit."""
    layout = model.layout
    n, n_phi = layout.n_atoms, layout.n_phi
    chosen = torch.tensor(layout.quadratic, dtype=torch.int64)
    rows, columns = (torch.from_numpy(k) for k in layout.fit_products())
    first, second = chosen[rows], chosen[columns]
    size = len(chosen) + len(rows) + 1
    gram, right = torch.zeros(size, size), torch.zeros(size)
    eye = torch.eye(layout.n_features)
    # The region's charge is not fitted: it belongs to the mean of phi.
    per_atom = model.total * PHI_SCALE
    weight = torch.cat([torch.full((3 * n,), 1 / SIGMA["force"]), torch.full((n_phi,), 1 / SIGMA["charge"])])
    for begin in range(0, len(samples), batch):
        part = samples[begin : begin + batch]
        count = len(part)
        phi = part.phi - part.phi.mean(1, keepdim=True)
        z, jacobian = descriptors(part.x, phi)
        slopes = []
        for k in range(count):
            g_x, g_phi = descriptors.pull_back(eye, jacobian[k : k + 1])
            slopes.append(
                torch.cat([g_x.flatten(1), g_phi - g_phi.mean(1, keepdim=True)] if n_phi else [g_x.flatten(1)], 1)
            )
        slopes = torch.stack(slopes)  # frame, descriptor, coordinate
        terms = z[:, first, None] * slopes[:, second] + z[:, second, None] * slopes[:, first]
        slopes = torch.cat([slopes[:, chosen], terms], 1).transpose(1, 2)
        values = torch.cat([z[:, chosen], z[:, first] * z[:, second], torch.ones(count, 1)], 1)
        gradient = -part.force
        if n_phi:
            gradient = gradient - part.charge[:, None] * part.phi_gradient
        target = torch.cat([gradient.flatten(1), part.charge - per_atom] if n_phi else [gradient.flatten(1)], 1)
        energy = part.energy - per_atom * part.phi.sum(1)
        design = torch.zeros(count, len(weight) + 1, size)
        design[:, :-1, :-1] = slopes * weight[:, None]
        design[:, -1] = values / SIGMA["energy"]
        target = torch.cat([target * weight, energy[:, None] / SIGMA["energy"]], 1)
        design = design.flatten(0, 1)
        gram.addmm_(design.T, design)
        right.addmv_(design.T, target.flatten())
    gram = gram.double() + RIDGE * len(samples) * torch.eye(size, dtype=torch.float64)
    solution = torch.linalg.solve(gram, right.double()).float()
    with torch.no_grad():
        model.linear.copy_(solution[: len(chosen)])
        model.matrix.zero_()
        model.matrix[rows, columns] = solution[len(chosen) : -1]
    return float(solution[-1])
