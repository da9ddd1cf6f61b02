"""Any OpenMM System as an ASE calculator, and the Atoms that go with it."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import numpy as np
import openmm
from ase import Atoms
from ase.calculators.calculator import Calculator, CalculatorSetupError, all_changes
from ase.constraints import FixAtoms, FixBondLengths
from openmm import app, unit

from ..qmmm._parts import find_nonbonded, particle_charges
from ._units import FORCE, KJ_PER_MOL, NANOMETER

_ENERGY = unit.kilojoule_per_mole


class OpenMMCalculator(Calculator):
    """The energy of an OpenMM System, or of some of its force groups, for ASE.

    Parameters
    ----------
    system : System
        without virtual sites; a copy is kept. Its constraints are not part of an energy: create_atoms() gives them to
        the Atoms
    groups : iterable of int, optional
        the force groups to evaluate; by default all. For a System of createQMMMSystem() ``range(3, 32)`` and 0 are the
        classical forces, 1 is xTB and 2 the model
    platform : str
        OpenMM's platform; 'Reference' is exact to rounding, 'CPU' faster

    Raises
    ------
    ValueError
        If the System has virtual sites.
    CalculatorSetupError
        When a calculation begins: for another number of atoms than the System has particles, or a periodic System
        and Atoms that are not periodic.
    """

    implemented_properties = ["energy", "free_energy", "forces"]
    nolabel = True
    name = "openmm"

    def __init__(self, system: openmm.System, groups: Iterable[int] | None = None, platform: str = "Reference"):
        super().__init__()
        virtual = sum(system.isVirtualSite(i) for i in range(system.getNumParticles()))
        if virtual:
            raise ValueError(
                f"OpenMMCalculator: the System has {virtual} virtual sites, which ASE would move like atoms; use a force "
                "field without them, such as TIP3P water."
            )
        self.system = copy.deepcopy(system)
        self.groups = None if groups is None else frozenset(groups)
        self.platform = platform
        self.forget()

    def forget(self) -> None:
        """Drop everything that depends on earlier geometries: results, and xTB's wavefunction (its warm start)."""
        self.results = {}
        self._context = None

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:
        """Compute energy and forces."""
        super().calculate(atoms, properties, system_changes)
        num = self.system.getNumParticles()
        if len(self.atoms) != num:
            raise CalculatorSetupError(
                f"OpenMMCalculator: the System has {num} particles, but there are {len(self.atoms)} atoms."
            )
        if self._context is None:
            platform = openmm.Platform.getPlatformByName(self.platform)
            self._context = openmm.Context(self.system, openmm.VerletIntegrator(0.001), platform)
        if self.system.usesPeriodicBoundaryConditions():
            if not all(self.atoms.pbc):
                raise CalculatorSetupError(
                    "OpenMMCalculator: the System is periodic, but the atoms are not; set atoms.cell and atoms.pbc = True."
                )
            self._context.setPeriodicBoxVectors(*(openmm.Vec3(*v) for v in self.atoms.cell.array / NANOMETER))
        self._context.setPositions(self.atoms.positions / NANOMETER)
        groups = -1 if self.groups is None else set(self.groups)
        state = self._context.getState(getEnergy=True, getForces=True, groups=groups)
        energy = state.getPotentialEnergy().value_in_unit(_ENERGY) * KJ_PER_MOL
        forces = state.getForces(asNumpy=True).value_in_unit(_ENERGY / unit.nanometer) * FORCE
        self.results = {"energy": energy, "free_energy": energy, "forces": forces}

    def get_virtual_charges(self, atoms) -> np.ndarray:
        """The charges (e) that a QM region of ase.calculators.qmmm.EIQMMM sees."""
        return np.array(particle_charges(find_nonbonded(self.system)))

    def add_virtual_sites(self, positions) -> np.ndarray:
        """The positions of these charges: those of the atoms."""
        return positions

    def redistribute_forces(self, forces) -> np.ndarray:
        """The forces on the atoms, from those on the charges."""
        return forces


def create_atoms(topology: app.Topology, system: openmm.System, positions) -> Atoms:
    """Make ASE Atoms of an OpenMM system: elements, masses, box, and its constraints as FixBondLengths.

    ASE's FixBondLengths is a loop in Python, 2 to 3 ms a rigid water and step: rather take flexible water.

    Parameters
    ----------
    topology : Topology
    system : System
        says masses, constraints, and whether it is periodic. Particles without mass become FixAtoms
    positions : array or Quantity of shape (n, 3)
        nm

    Returns
    -------
    Atoms
        without momenta or a calculator

    Raises
    ------
    ValueError
        If topology, System and positions are not of the same number of atoms, or an atom has no element.
    """
    elements = [atom.element for atom in topology.atoms()]
    if unit.is_quantity(positions):
        positions = positions.value_in_unit(unit.nanometer)
    positions = np.array(positions, dtype=float) * NANOMETER
    num = system.getNumParticles()
    if not len(elements) == num == len(positions):
        raise ValueError(
            f"Expected the same number of atoms everywhere, found {len(elements)} in the topology, {num} in the System and "
            f"{len(positions)} positions."
        )
    if None in elements:
        raise ValueError(f"Atom {elements.index(None)} has no element: ASE knows no virtual sites or dummy atoms.")
    masses = np.array([system.getParticleMass(i).value_in_unit(unit.dalton) for i in range(num)])
    atoms = Atoms([e.symbol for e in elements], positions=positions, masses=masses)
    if system.usesPeriodicBoundaryConditions():
        vectors = topology.getPeriodicBoxVectors() or system.getDefaultPeriodicBoxVectors()
        atoms.cell = np.array(vectors.value_in_unit(unit.nanometer)) * NANOMETER
        atoms.pbc = True
    constraints = [system.getConstraintParameters(i) for i in range(system.getNumConstraints())]
    found = []
    if constraints:
        lengths = [d.value_in_unit(unit.nanometer) * NANOMETER for _, _, d in constraints]
        found.append(FixBondLengths([(a, b) for a, b, _ in constraints], bondlengths=lengths))
    if not masses.all():
        atoms.set_masses(np.where(masses == 0, 1.0, masses))
        found.append(FixAtoms(np.flatnonzero(masses == 0)))
    atoms.set_constraint(found)
    return atoms
