"""XtbForce and KStepModelForce as ASE calculators, with ASE's interface for point charges around them."""

from __future__ import annotations

import os

import numpy as np
import openmm
from ase.calculators.calculator import (
    Calculator,
    CalculatorSetupError,
    SCFError,
    all_changes,
)
from openmm import unit

from ..contract import readContract
from ..forces import KStepModelForce, XtbForce
from ..qmmm.system import HARDNESS_ELEMENT
from ..region_force import QMRegionForce
from ._units import FORCE, KJ_PER_MOL, NANOMETER

_ENERGY = unit.kilojoule_per_mole
_SCF_FAILURES = ("failed at the current positions", "does not accept the molecule at the current positions")


class PointCharges:
    """Point charges around a molecule, in the form that ASE's QM/MM calculators use (``calc.embed()``).

    Attributes
    ----------
    charges : array of shape (m,)
        e
    positions : array of shape (m, 3)
        Angstrom; None until set_positions() was called
    """

    def __init__(self, charges):
        self.set_charges(charges)
        self.positions = None
        self._forces = None

    def set_charges(self, charges) -> None:
        """Set the charges (e)."""
        self.charges = np.array(charges, dtype=float).ravel()

    def set_positions(self, positions, com_pv=None) -> None:
        """Set the positions (Angstrom); centres of molecules, which ASE may give too, are not needed."""
        positions = np.array(positions, dtype=float)
        if positions.shape != (len(self.charges), 3):
            raise ValueError(
                f"Expected the positions of {len(self.charges)} point charges, found an array of shape {positions.shape}."
            )
        self.positions = positions

    def get_forces(self, calc: Calculator) -> np.ndarray:
        """Get the forces on the charges (eV/Angstrom) at the last geometry that the calculator computed."""
        if self._forces is None:
            raise RuntimeError("There are no forces on the point charges yet: ask the calculator for the energy first.")
        return self._forces.copy()


class QMRegionCalculator(Calculator):
    """What the calculators of a QM region share: a Context of a molecule and the point charges around it."""

    implemented_properties = ["energy", "free_energy", "forces"]
    nolabel = True

    def __init__(self, **parameters):
        self.point_charges: PointCharges | None = None
        self._seen = None
        self.forget()
        super().__init__(**parameters)

    def set(self, **parameters) -> dict:
        """Set parameters; see the class.

        Raises
        ------
        TypeError
            If there is no parameter of that name.
        """
        for name in parameters:
            if name not in self.default_parameters:
                raise TypeError(
                    f"{type(self).__name__} has no parameter {name!r}; it has {', '.join(self.default_parameters)}."
                )
        changed = super().set(**parameters)
        if changed:
            self.forget()
        return changed

    def forget(self) -> None:
        """Drop everything that depends on earlier geometries: results, and xTB's wavefunction (its warm start)."""
        self.results = {}
        self._context = self._force = self._key = None

    def embed(self, charges=None) -> PointCharges:
        """Put point charges around the molecule, as ase.calculators.qmmm.EIQMMM does.

        Parameters
        ----------
        charges : sequence of float
            e; their positions follow by ``set_positions()`` of what is returned

        Returns
        -------
        PointCharges
        """
        self._check_embedding()
        self.point_charges = PointCharges([] if charges is None else charges)
        self.forget()
        return self.point_charges

    def check_state(self, atoms, tol=1e-15) -> list[str]:
        """What has changed since the last calculation, point charges included."""
        changes = super().check_state(atoms, tol=tol)
        points = self.point_charges
        if points is not None and self._seen is not None:
            charges, positions = self._seen
            if not (np.array_equal(points.charges, charges) and np.array_equal(points.positions, positions)):
                changes.append("positions")
        return changes

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:
        """Compute energy and forces, and the forces on the point charges."""
        super().calculate(atoms, properties, system_changes)
        if any(self.atoms.pbc):
            raise CalculatorSetupError(
                f"{type(self).__name__} computes a molecule, but the atoms are periodic (pbc = {list(self.atoms.pbc)}). Set "
                "atoms.pbc = False, or take the molecule out of its box with LinkAtoms or one of ASE's QM/MM calculators."
            )
        points = self.point_charges
        if points is not None and len(points.charges) and points.positions is None:
            raise CalculatorSetupError("The point charges have no positions; call their set_positions().")
        self._update_context()
        positions = self.atoms.positions
        if points is not None and len(points.charges):
            positions = np.vstack([positions, points.positions])
        try:
            self._context.setPositions(positions / NANOMETER)
            state = self._context.getState(getEnergy=True, getForces=True)
        except openmm.OpenMMException as e:
            if any(phrase in str(e) for phrase in _SCF_FAILURES):
                raise SCFError(str(e)) from e
            raise
        energy = state.getPotentialEnergy().value_in_unit(_ENERGY) * KJ_PER_MOL
        forces = state.getForces(asNumpy=True).value_in_unit(_ENERGY / unit.nanometer) * FORCE
        num = len(self.atoms)
        self.results = {"energy": energy, "free_energy": energy, "forces": forces[:num].copy()}
        self._add_results()
        self._seen = None
        if points is not None:
            points._forces = forces[num:].copy()
            self._seen = points.charges.copy(), None if points.positions is None else points.positions.copy()

    def _update_context(self) -> None:
        charges = self.point_charges.charges if self.point_charges is not None else np.zeros(0)
        key = (*self.atoms.numbers.tolist(), self._molecule_key(), len(charges))
        if self._key != key:
            self._force = self._make_force()
            for j, charge in enumerate(charges):
                self._force.addEmbeddingCharge(len(self.atoms) + j, charge, self._hardness_element())
            system = openmm.System()
            for _ in range(len(self.atoms) + len(charges)):
                system.addParticle(1.0)
            system.addForce(self._force)
            platform = openmm.Platform.getPlatformByName("Reference")
            try:
                self._context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
            except openmm.OpenMMException as e:
                raise CalculatorSetupError(str(e)) from e
            self._key = key
        elif self._seen is not None and not np.array_equal(charges, self._seen[0]):
            for j, charge in enumerate(charges):
                self._force.setEmbeddingChargeParameters(j, len(self.atoms) + j, charge, self._hardness_element())
            self._force.updateParametersInContext(self._context)

    def _add_results(self) -> None:
        """Properties beyond energy and forces."""

    def _molecule_key(self):
        """What of the atoms, apart from their elements, the force depends on."""

    def _check_embedding(self) -> None:
        """Raise an error if there can be no point charges."""

    def _hardness_element(self) -> int:
        raise NotImplementedError

    def _make_force(self) -> QMRegionForce:
        raise NotImplementedError


class XtbForceCalculator(QMRegionCalculator):
    """Extended tight binding by XtbForce (libxtb), for a molecule with or without point charges around it.

    Parameters
    ----------
    method : str
        'GFN1-xTB', 'GFN2-xTB' or 'GFN-FF'. GFN-FF takes its topology from the first geometry and sees no point charges
    charge : int, optional
        total charge (e); by default the sum of the atoms' initial charges
    multiplicity : int, optional
        spin multiplicity; by default 1 plus the sum of the atoms' initial magnetic moments
    accuracy : float
        of the SCF: a factor on libxtb's thresholds. 0.05, tighter than libxtb's own 1, is for dynamics
    electronic_temperature : float
        K
    max_iterations : int
        of the SCF
    num_threads : int
        that libxtb uses
    hardness_element : int, optional
        element whose hardness damps the point charges; by default neon for GFN2-xTB, helium for GFN1-xTB

    Raises
    ------
    CalculatorSetupError
        When a calculation begins: for an unknown method, a charge that is not whole, a multiplicity that does not fit, or
        periodic atoms.
    SCFError
        If the SCF fails from a warm and a cold start.
    """

    name = "xtbforce"
    default_parameters = {
        "method": "GFN2-xTB",
        "charge": None,
        "multiplicity": None,
        "accuracy": 0.05,
        "electronic_temperature": 300.0,
        "max_iterations": 250,
        "num_threads": 1,
        "hardness_element": None,
    }

    @property
    def implemented_properties(self) -> list[str]:
        """GFN-FF has no Mulliken charges."""
        charges = [] if self.parameters.get("method") == "GFN-FF" else ["charges"]
        return [*QMRegionCalculator.implemented_properties, *charges]

    def _molecule_key(self) -> tuple[int, int]:
        p = self.parameters
        charge = self.atoms.get_initial_charges().sum() if p.charge is None else p.charge
        if abs(charge - round(charge)) > 1e-6:
            source = "the atoms' initial charges add up to" if p.charge is None else "charge is"
            raise CalculatorSetupError(
                f"The charge of the molecule must be a whole number, but {source} {charge:g}; give XtbForceCalculator a charge."
            )
        unpaired = self.atoms.get_initial_magnetic_moments().sum()
        multiplicity = 1 + round(abs(unpaired)) if p.multiplicity is None else p.multiplicity
        return round(charge), multiplicity

    def _make_force(self) -> XtbForce:
        p = self.parameters
        charge, multiplicity = self._molecule_key()
        try:
            force = XtbForce(p.method, range(len(self.atoms)), self.atoms.numbers.tolist(), charge, multiplicity)
            force.setAccuracy(p.accuracy)
            force.setElectronicTemperature(p.electronic_temperature)
            force.setMaxIterations(p.max_iterations)
            force.setNumThreads(p.num_threads)
        except openmm.OpenMMException as e:
            raise CalculatorSetupError(str(e)) from e
        return force

    def _add_results(self) -> None:
        if self.parameters.method != "GFN-FF":
            self.results["charges"] = np.array(self._force.getPartialCharges(self._context)._value)

    def _check_embedding(self) -> None:
        if self.parameters.method not in HARDNESS_ELEMENT:
            raise CalculatorSetupError(
                f"{self.parameters.method} cannot see point charges; use GFN1-xTB or GFN2-xTB, or mechanical embedding "
                "(ase.calculators.qmmm.SimpleQMMM)."
            )

    def _hardness_element(self) -> int:
        return self.parameters.hardness_element or HARDNESS_ELEMENT[self.parameters.method]


class KStepModelCalculator(QMRegionCalculator):
    """A k-step model that is a potential: a file with a contract, see ModelContract.

    Parameters
    ----------
    model : str or path
        the model file
    allow_native_code : bool
        whether a model that is an AOTInductor package (machine code) may run, see KStepModelForce
    num_threads : int
        that torch uses

    Raises
    ------
    ImportError
        If torch is missing or of another version than openmmkstep was built with.
    OSError, ValueError
        If the file cannot be read, or is not a model file with the contract of a potential.
    CalculatorSetupError
        When a calculation begins: if the atoms are not those of the contract, in its order, or are periodic.
    """

    name = "kstepmodel"
    default_parameters = {"model": None, "allow_native_code": False, "num_threads": 1}

    def __init__(self, model: str | os.PathLike, allow_native_code: bool = False, num_threads: int = 1):
        super().__init__(model=os.fspath(model), allow_native_code=allow_native_code, num_threads=num_threads)

    def set(self, **parameters) -> dict:
        """Set parameters; see the class."""
        changed = super().set(**parameters)
        if "model" in changed:
            self.contract = readContract(self.parameters.model)
            if self.contract.kind != "potential":
                raise ValueError(
                    f"Expected a model that is a potential, but '{self.parameters.model}' is of the kind "
                    f"{self.contract.kind!r}; give direct models to KStep(scheme='jump')."
                )
        return changed

    def is_outside_training_region(self, atoms) -> bool:
        """Whether the atoms are outside the region of validity that the model's contract declares."""
        self.get_potential_energy(atoms)
        return self._force.isOutsideTrainingRegion(self._context)

    def _make_force(self) -> KStepModelForce:
        p = self.parameters
        if tuple(self.atoms.numbers) != self.contract.species:
            raise CalculatorSetupError(
                f"The model '{p.model}' is for atoms of the elements {list(self.contract.species)} in this order, found "
                f"{self.atoms.numbers.tolist()}. Reorder the atoms (openmmkstep.matchModel() finds the order), put link "
                "hydrogens last, or use the right model."
            )
        force = KStepModelForce(p.model, range(len(self.atoms)), p.allow_native_code)
        force.setNumThreads(p.num_threads)
        return force

    def _hardness_element(self) -> int:
        return self.contract.hardnessElement or HARDNESS_ELEMENT.get(self.contract.method, 10)
