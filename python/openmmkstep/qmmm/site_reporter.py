"""SiteReporter: which molecules come near the QM region, and which leave it."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from .._table import open_table
from .._units import NANOMETER, PICOSECOND, strip
from ..analysis.temperature import qmRegions
from ._geometry import (
    box_array,
    centre_atoms,
    check_indices,
    find_molecules,
    is_water,
    minimum_image,
    nearest_distances,
    positions_array,
    residue_label,
)

_COLUMNS = [
    "Step",
    "Time (ps)",
    "MM Molecules in Site",
    "Closest MM Molecule",
    "Closest MM Distance (nm)",
    "Farthest QM Molecule",
    "Farthest QM Distance (nm)",
]
_NAMED = 8
"""How many molecules a warning names."""


class SiteReporter:
    """Watches the molecules around the QM region; goes into ``simulation.reporters``.

    Solvent molecules are what they were made at the start, QM or MM, wherever they go. The site is everything within a
    radius of the site's atoms, which are the QM atoms that are not water, unless others are given. The reporter looks
    at molecules of a single residue (solvent, ions) without atoms of the site: QM ones, which belong into it, and MM
    ones, which do not. The place of a molecule is its only heavy atom, such as water's O, else the centroid of its
    atoms; in a periodic system the nearest image counts.

    Every line of the CSV file has the columns Step; Time (ps); MM Molecules in Site, their number; Closest MM Molecule
    and Closest MM Distance (nm); Farthest QM Molecule and Farthest QM Distance (nm). A molecule is given as name,
    chain:residue id, a distance is that to the nearest atom of the site (addFlatBottomRestraint() measures from the
    site's centroid); both are blank where there is no such molecule.

    A Python warning names the MM molecules that were found in the site and the QM molecules found outside, each once
    until it has gone back. A reporter that continues a file begins anew with that.

    Parameters
    ----------
    file : str or Path
        the CSV file
    reportInterval : int
        steps (macro-steps of a KStepIntegrator) between lines
    radius : float or Quantity
        how far the site reaches from its atoms (nm)
    qmAtoms : iterable of int, optional
        indices of the QM atoms; by default the particles of the System's XtbForce and k-step model
    siteAtoms : iterable of int, optional
        the atoms of the site; needed where all QM molecules are water
    append : bool
        go on with the file of an interrupted run. When the run goes on, lines later than the Simulation's current step
        (restored from a checkpoint) and a torn last line are cut. Put this reporter before the CheckpointReporter.

    Raises
    ------
    ValueError
        For an interval below 1 or a radius that is not above 0. At the first step: if there are no QM atoms or no site,
        a file to append to has other columns or lacks lines, or a CheckpointReporter comes first.
    """

    def __init__(
        self,
        file,
        reportInterval: int,
        radius,
        qmAtoms: Iterable[int] | None = None,
        siteAtoms: Iterable[int] | None = None,
        append: bool = False,
    ):
        if reportInterval < 1:
            raise ValueError(f"SiteReporter: expected an interval of at least one step, found {reportInterval}.")
        self._radius = strip(radius, NANOMETER)
        if not 0 < self._radius < np.inf:
            raise ValueError(f"SiteReporter: expected a radius above 0 nm, found {self._radius}.")
        self._path = Path(file)
        self._interval = reportInterval
        self._qmAtoms = None if qmAtoms is None else list(qmAtoms)
        self._siteAtoms = None if siteAtoms is None else list(siteAtoms)
        self._append = append
        self._out = None

    def describeNextReport(self, simulation) -> dict:
        """Say when the next report is due. Of the State it needs only the positions."""
        if self._out is None:
            self._start(simulation)
        steps = self._interval - simulation.currentStep % self._interval
        return {"steps": steps, "periodic": False, "include": ["positions"]}

    def report(self, simulation, state) -> None:
        """Write a line and warn of molecules that crossed the border of the site."""
        x = positions_array(state.getPositions(asNumpy=True), simulation.topology.getNumAtoms())
        box = box_array(state.getPeriodicBoxVectors()) if self._periodic else None
        mm, qm = self._distances(self._mm, x, box, farthest=False), self._distances(self._qm, x, box, farthest=True)
        row = [simulation.currentStep, state.getTime().value_in_unit(PICOSECOND), int((mm <= self._radius).sum())]
        for molecules, r, place in ((self._mm, mm, np.argmin), (self._qm, qm, np.argmax)):
            row += [molecules[place(r)][0], f"{r[place(r)]:.4f}"] if molecules else ["", ""]
        csv.writer(self._out, lineterminator="\n").writerow(row)
        self._out.flush()
        before = f"SiteReporter: at step {simulation.currentStep} "
        inside = self._changed(self._mm, mm, mm <= self._radius, self._inside)
        outside = self._changed(self._qm, qm, qm > self._radius, self._outside)
        if inside:
            warnings.warn(
                f"{before}MM molecules are within {self._radius:g} nm of the QM site: {inside}. They are treated by force field where QM molecules are meant to be.",
                stacklevel=2,
            )
        if outside:
            warnings.warn(
                f"{before}QM molecules are farther than {self._radius:g} nm from the QM site: {outside}. A restraint keeps them in; see addFlatBottomRestraint().",
                stacklevel=2,
            )

    def _start(self, simulation) -> None:
        topology, num = simulation.topology, simulation.topology.getNumAtoms()
        qm = self._qmAtoms
        if qm is None:
            qm = qmRegions(simulation.system).get("QM", [])
            if not qm:
                raise ValueError("SiteReporter: the System has no XtbForce and no k-step model; give qmAtoms.")
        qm = set(check_indices(qm, num, "SiteReporter: qmAtoms"))
        atoms = list(topology.atoms())
        molecules = find_molecules(topology)
        if self._siteAtoms is None:
            site = sorted(qm.difference(*(m for m in molecules if is_water([atoms[i] for i in m]))))
            if not site:
                raise ValueError("SiteReporter: all QM atoms are in water molecules; give siteAtoms.")
        else:
            site = check_indices(self._siteAtoms, num, "SiteReporter: siteAtoms")
        self._site, inSite = np.array(site), set(site)
        self._mm, self._qm = [], []
        for members in molecules:
            residue = atoms[members[0]].residue
            if any(atoms[i].residue is not residue for i in members) or not inSite.isdisjoint(members):
                continue
            places = self._mm if qm.isdisjoint(members) else self._qm
            places.append((residue_label(residue), centre_atoms([atoms[i] for i in members])))
        self._periodic = simulation.system.usesPeriodicBoundaryConditions()
        self._inside, self._outside = set(), set()
        advice = "It is no SiteReporter's; write to a new file."
        self._out, _ = open_table(self, simulation, self._path, _COLUMNS, self._interval, self._append, advice)

    def _distances(self, molecules, x: np.ndarray, box: np.ndarray | None, farthest: bool) -> np.ndarray:
        """The distance of each molecule's centre to the nearest atom of the site."""
        first = x[[members[0] for _, members in molecules]].reshape(-1, 3)
        centres = first.copy()
        for n, (_, members) in enumerate(molecules):
            if len(members) > 1:
                centres[n] += minimum_image(x[members] - first[n], box).mean(axis=0)
        reach = np.inf if farthest else self._radius
        r = nearest_distances(centres, x[self._site], box, reach)
        if len(r) and box is not None and r.min() > max(reach, np.diag(box).min() / 2):
            r = nearest_distances(centres, x[self._site], box)
        return r

    def _changed(self, molecules, r: np.ndarray, now: np.ndarray, known: set[int]) -> str:
        """Those for which ``now`` became true, as text; ``known`` is brought up to date."""
        current = {int(n) for n in np.flatnonzero(now)}
        new = sorted(current - known, key=lambda n: r[n])
        known.clear()
        known.update(current)
        named = [f"{molecules[n][0]} at {r[n]:.3f} nm" for n in new[:_NAMED]]
        return ", ".join(named) + (f" and {len(new) - _NAMED} more" if len(new) > _NAMED else "")

    def __del__(self):
        if getattr(self, "_out", None) is not None:
            self._out.close()
