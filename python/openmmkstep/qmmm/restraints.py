"""A restraint that keeps the molecules of the QM region together."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import openmm
from openmm import app

from .._units import ENERGY, NANOMETER, strip
from ._geometry import centre_atoms, check_indices, find_molecules, is_water, residue_label
from ._parts import check_same_size
from .box import box_vectors, half_width


def addFlatBottomRestraint(
    system: openmm.System,
    topology: app.Topology,
    qmAtoms: Iterable[int],
    molecules: Iterable[int] | None,
    radius,
    forceConstant,
    siteAtoms: Iterable[int] | None = None,
) -> int:
    """Keep QM waters, or any molecules, within a radius of the centre of the site.

    A CustomCentroidBondForce in force group 0 adds k/2 (r - r0)^2 for every molecule whose centre is farther than r0
    from the centroid of the site's atoms, and nothing within r0. The centre of a molecule is its only heavy atom, such
    as water's O, else the centroid of its atoms; all atoms of a centroid count the same. In a periodic System r is that
    of the nearest image, but OpenMM takes each centroid from positions as they are: the site's atoms must be near each
    other in those that the Context is given.

    Add it to the result of createQMMMSystem(), before the Context is made, not to the force-field System. OpenMM counts
    the molecules and the site as one molecule then, which it wraps and a barostat scales as a whole.

    Parameters
    ----------
    system : System
        the one to add the force to
    topology : Topology
        of the same system
    qmAtoms : iterable of int
        indices of the QM atoms
    molecules : iterable of int, or None
        atoms of the molecules to keep, at least one of each; None: the water molecules in ``qmAtoms``
    radius : float or Quantity
        r0 (nm)
    forceConstant : float or Quantity
        k (kJ/mol/nm^2)
    siteAtoms : iterable of int, optional
        atoms whose centroid is the centre; by default the QM atoms that are in no water and none of ``molecules``

    Returns
    -------
    int
        the index of the new force in the System

    Raises
    ------
    ValueError
        If an index, the radius or the force constant is not such, there are no molecules or no site, a molecule is part
        of the site, or the radius is not smaller than half of the periodic box.
    """
    check_same_size(topology, system)
    num = topology.getNumAtoms()
    qm = set(check_indices(qmAtoms, num, "qmAtoms"))
    radius, k = strip(radius, NANOMETER), strip(forceConstant, ENERGY / NANOMETER**2)
    if not 0 < radius < np.inf:
        raise ValueError(f"Expected a radius above 0 nm, found {radius}.")
    if not 0 < k < np.inf:
        raise ValueError(f"Expected a force constant above 0 kJ/mol/nm^2, found {k}.")
    periodic = system.usesPeriodicBoundaryConditions()
    if periodic:
        half = half_width(box_vectors(system))
        if radius >= half:
            raise ValueError(
                f"Expected a radius below half of the periodic box, {half:.3f} nm, found {radius:.3f} nm: the molecules would reach the next image of the site. Use a smaller radius or a larger box."
            )
    atoms = list(topology.atoms())
    parts = find_molecules(topology)
    waters = [part for part in parts if is_water([atoms[i] for i in part])]
    if molecules is None:
        kept = [part for part in waters if not qm.isdisjoint(part)]
        if not kept:
            raise ValueError("There are no water molecules in qmAtoms; say which molecules to keep.")
    else:
        wanted = set(check_indices(molecules, num, "molecules"))
        kept = [part for part in parts if not wanted.isdisjoint(part)]
    if siteAtoms is None:
        site = sorted(qm.difference(*waters, *kept))
        if not site:
            raise ValueError(
                "No QM atom is outside of the waters and the molecules to keep, so there is no centre; give siteAtoms."
            )
    else:
        site = check_indices(siteAtoms, num, "siteAtoms")
    for part in kept:
        if not set(site).isdisjoint(part):
            raise ValueError(
                f"{residue_label(atoms[part[0]].residue)} is a molecule to keep and part of the site; leave it out of one of the two."
            )
    force = openmm.CustomCentroidBondForce(2, "0.5*k*max(0, distance(g1, g2) - r0)^2")
    force.setName("FlatBottomRestraint")
    force.addPerBondParameter("k")
    force.addPerBondParameter("r0")
    centre = force.addGroup(site, [1.0] * len(site))
    for part in kept:
        members = centre_atoms([atoms[i] for i in part])
        force.addBond([centre, force.addGroup(members, [1.0] * len(members))], [k, radius])
    force.setUsesPeriodicBoundaryConditions(periodic)
    return system.addForce(force)
