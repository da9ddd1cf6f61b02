"""XtbForce and KStepModelForce: real OpenMM forces, with OpenMM's naming."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import openmm
from openmm import unit

from . import _openmmkstep as _c
from ._load import load_torch
from ._units import CHARGE, KELVIN, NANOMETER, strip
from .contract import check_archive
from .region_force import QMRegionForce


@dataclass
class QMRegionState:
    """The QM region in the field of the charges around it; n atoms, link atoms last.

    All derivatives are at fixed positions and (switched) charges of the surroundings.

    Attributes
    ----------
    positions : array of shape (n, 3)
        in one piece (nm)
    energy : float
        E_xTB without the subtractive term (kJ/mol)
    forces : array of shape (n, 3)
        kJ/mol/nm
    charges : array of shape (n,)
        Mulliken charges (e), nearly dE/dphi_a; zero for GFN-FF
    potentials : array of shape (n,)
        phi_a = k_e sum_j S_g Q_j / sqrt(R_aj^2 + d_a^2) (kJ/mol/e)
    potentialGradients : array of shape (n, 3)
        derivative of phi_a with respect to the position of atom a (kJ/mol/e/nm)
    """

    positions: np.ndarray
    energy: float
    forces: np.ndarray
    charges: np.ndarray
    potentials: np.ndarray
    potentialGradients: np.ndarray


class XtbForce(QMRegionForce):
    """The energy of a QM region by extended tight binding, in the field of embedding charges.

    E = E_xTB(x_QM; {S_g(j) Q_j at x_j}) - k_e sum_j S_g(j) sum_a C_aj / R_aj, with forces on every QM particle, every
    particle that a bond was cut to, and every charge. The QM region, with its link hydrogens, is one molecule. Needs an
    engine when a Context is created: libxtb (``pip install xtb``), or tblite (``pip install tblite``) where there are no
    embedding charges; see setEngine().

    GFN-FF derives its topology from the first geometry that a Context evaluates, so start from a reasonable one; it
    cannot be embedded. OpenMM's LocalEnergyMinimizer begins with a step of 1 nm, summed over all particles: a QM
    region without surroundings may be torn apart by it, and the SCF failure ends the minimization. A few hundred steps
    of LangevinMiddleIntegrator at 10 K do the same job.

    Parameters
    ----------
    method : str
        'GFN1-xTB', 'GFN2-xTB' or 'GFN-FF'
    particles : sequence of int
        indices of the particles in the QM region
    atomicNumbers : sequence of int
        the element of each of them (1-86), in the same order
    charge : int
        total charge of the QM region (e)
    multiplicity : int
        spin multiplicity 2S+1 of the QM region

    Raises
    ------
    OpenMMException
        For an unknown method or element, lists of different lengths or repeated particles. When a Context is created:
        for a multiplicity that the number of electrons, link hydrogens included, does not allow, and if there is no
        engine that can compute this. In dynamics: if the
        SCF fails from a warm and a cold start, or the periodic box is too small.
    ValueError
        For a charge that is not a whole number.
    """

    def __init__(
        self,
        method: str,
        particles: Sequence[int],
        atomicNumbers: Sequence[int],
        charge: int = 0,
        multiplicity: int = 1,
    ):
        number = strip(charge, CHARGE)
        if number != round(number):
            raise ValueError(f"XtbForce: the charge of the QM region must be a whole number, found {charge}.")
        xml = _c.XtbForce_create(
            method, [int(i) for i in particles], [int(n) for n in atomicNumbers], round(number), multiplicity
        )
        self.this = openmm.XmlSerializer.deserialize(xml).this

    def getMethod(self) -> str:
        """Get the method: 'GFN1-xTB', 'GFN2-xTB' or 'GFN-FF'."""
        return _c.XtbForce_getMethod(self)

    def getAtomicNumbers(self) -> list[int]:
        """Get the atomic number of each particle in the QM region."""
        return _c.XtbForce_getAtomicNumbers(self)

    def getCharge(self) -> int:
        """Get the total charge of the QM region (e)."""
        return _c.XtbForce_getCharge(self)

    def getMultiplicity(self) -> int:
        """Get the spin multiplicity 2S+1 of the QM region."""
        return _c.XtbForce_getMultiplicity(self)

    def getEngine(self) -> str:
        """Get the engine that was chosen: 'auto', 'libxtb' or 'tblite'."""
        return _c.XtbForce_getEngine(self)

    def setEngine(self, engine: str) -> None:
        """Set the engine that computes the energy. They agree to within 1e-3 kJ/mol.

        Parameters
        ----------
        engine : str
            'libxtb'; 'tblite', for GFN1-xTB and GFN2-xTB without embedding charges; or 'auto', the default: libxtb, or
            tblite if it can take its place where libxtb cannot be loaded and the environment variable
            OPENMMKSTEP_LIBXTB does not ask for it

        Raises
        ------
        OpenMMException
            For an unknown engine.
        """
        _c.XtbForce_setEngine(self, engine)

    def findEngine(self) -> str:
        """Find the engine that computes this force in this process, 'libxtb' or 'tblite', and load it.

        Raises
        ------
        OpenMMException
            If there is none, or it cannot do what this force asks for.
        """
        return _c.XtbForce_findEngine(self)

    def getAccuracy(self) -> float:
        """Get the accuracy of the SCF: a factor on the engine's own thresholds, smaller is tighter."""
        return _c.XtbForce_getAccuracy(self)

    def setAccuracy(self, accuracy: float) -> None:
        """Set the accuracy of the SCF: a factor on the engine's thresholds, whose own default is 1; here it is 0.05.

        What is left of the SCF drifts downhill in NVE: a guest of 30 atoms in water lost 0.043 kJ/mol/ps at 0.2, 0.011 at
        0.05 and 0.003 at 0.01. 0.05 costs 6 % more than 0.2, and 0.01 12 %.
        """
        _c.XtbForce_setAccuracy(self, accuracy)

    def getElectronicTemperature(self) -> unit.Quantity:
        """Get the electronic temperature of the Fermi smearing."""
        return _c.XtbForce_getElectronicTemperature(self) * KELVIN

    def setElectronicTemperature(self, temperature) -> None:
        """Set the electronic temperature of the Fermi smearing (K); the default is the engines' 300 K."""
        _c.XtbForce_setElectronicTemperature(self, strip(temperature, KELVIN))

    def getMaxIterations(self) -> int:
        """Get the largest number of SCF iterations."""
        return _c.XtbForce_getMaxIterations(self)

    def setMaxIterations(self, iterations: int) -> None:
        """Set the largest number of SCF iterations; the default is 250."""
        _c.XtbForce_setMaxIterations(self, iterations)

    def getNumThreads(self) -> int:
        """Get the number of threads that the engine uses."""
        return _c.XtbForce_getNumThreads(self)

    def setNumThreads(self, threads: int) -> None:
        """Set the number of threads that the engine uses; the default, 1, is the fastest below about 100 QM atoms."""
        _c.XtbForce_setNumThreads(self, threads)

    def getPartialCharges(self, context: openmm.Context) -> unit.Quantity:
        """Get the Mulliken charge of each QM particle, then of each link atom, at the Context's current positions."""
        return _c.XtbForce_getPartialCharges(self, context) * CHARGE

    def computeQMRegion(self, context: openmm.Context, dampingLengths: Sequence[float] = ()) -> QMRegionState:
        """Compute what a model of the QM region is trained on, at the Context's current positions.

        The n QM atoms are the QM particles, then the link atoms, whose forces are not passed on to the ends of their
        bonds here. Costs no calculation where the Context has one at these positions already.

        Parameters
        ----------
        context : Context
            made with this force
        dampingLengths : sequence of float
            d_a for each QM atom (nm); may be empty if there are no charges around

        Returns
        -------
        QMRegionState

        Raises
        ------
        OpenMMException
            If the SCF fails, the periodic box is too small, or the damping lengths do not fit.
        """
        return QMRegionState(*_c.XtbForce_computeQMRegion(self, context, [strip(d, NANOMETER) for d in dampingLengths]))

    @staticmethod
    def getEngineInfo(engine: str) -> tuple[str, str]:
        """Get the version (empty if the library does not tell) and the file of 'libxtb' or 'tblite', and load it.

        Raises
        ------
        OpenMMException
            If it cannot be loaded; the message lists where it was looked for.
        """
        return _c.XtbForce_getEngineInfo(engine)

    @staticmethod
    def getElementHardness(method: str, atomicNumber: int) -> float:
        """Get the hardness (Hartree) of an element in 'GFN1-xTB' or 'GFN2-xTB': that of an embedding charge."""
        return _c.XtbForce_getElementHardness(method, atomicNumber)


class KStepModelForce(QMRegionForce):
    """A k-step model that is a potential: a file with a contract (see ModelContract, saveModel() and exportModel()).

    U = U_model(x_QM, phi) - k_e sum_j S_g(j) sum_a C_aj / R_aj, where phi_a is the damped potential of the charges at
    QM atom a, if the contract has that input; QM atoms are the particles followed by the link atoms. It stands in for the corrector: in a System that also
    holds a force in the corrector's force group, it contributes nothing to an evaluation that includes that group.
    Needs torch.

    Parameters
    ----------
    model : str or path
        the model file; its bytes are read now and travel with this object when that is serialized
    particles : sequence of int
        indices of the particles in the QM region, in the order of the contract's species (see matchModel())
    allowNativeCode : bool
        whether a model that is an AOTInductor package (machine code, see exportModel()) may run. It can do anything that
        you can: say True only for files that you made or whose origin you trust. This is not serialized. A process that
        reads the force from XML must call allowNativeCode(), or have the environment variable
        OPENMMKSTEP_ALLOW_NATIVE_CODE=1; copies in this process need neither

    Raises
    ------
    ImportError
        If torch is missing or of another version than openmmkstep was built with.
    OpenMMException
        If the file cannot be read or the particles are repeated. When a Context is created: if the file is not a
        model file with a contract, the contract does not fit the System, or its machine code is not allowed or of another
        torch version or processor.
    ValueError
        If the file is not a model file, or is truncated, corrupt or tampered with.
    """

    def __init__(self, model: str | os.PathLike, particles: Sequence[int], allowNativeCode: bool = False):
        load_torch()
        xml = _c.KStepModelForce_create(os.fspath(model), [int(i) for i in particles])
        self.this = openmm.XmlSerializer.deserialize(xml).this
        check_archive(self.getModelData())
        if allowNativeCode:
            self.allowNativeCode()

    def allowNativeCode(self) -> None:
        """Allow this process to run the machine code in this model, if it is an AOTInductor package."""
        _c.KStepModelForce_allowNativeCode(self)

    def getModelData(self) -> bytes:
        """Get the bytes of the model file."""
        return _c.KStepModelForce_getModelData(self)

    def getCorrectorForceGroup(self) -> int:
        """Get the force group of the corrector that this force stands in for."""
        return _c.KStepModelForce_getCorrectorForceGroup(self)

    def setCorrectorForceGroup(self, group: int) -> None:
        """Set the force group of the corrector that this force stands in for; the default is 1."""
        _c.KStepModelForce_setCorrectorForceGroup(self, group)

    def getNumThreads(self) -> int:
        """Get the number of threads that torch uses for this model."""
        return _c.KStepModelForce_getNumThreads(self)

    def setNumThreads(self, threads: int) -> None:
        """Set the number of threads that torch uses for this model; the default, 1, is the fastest for small models."""
        _c.KStepModelForce_setNumThreads(self, threads)

    def getDevice(self) -> str:
        """Get the device that torch runs the model on."""
        return _c.KStepModelForce_getDevice(self)

    def setDevice(self, device: str) -> None:
        """Set the device that torch runs the model on: 'cpu' (the default), 'cuda' or 'cuda:N'.

        It need not be that of the Context's platform. A GPU pays for large networks only: positions, phi, forces and charges
        travel at each evaluation, and the networks of this package take less time on the host. Without CUDA in torch, or for
        an AOTInductor package, which is made for the host, creating a Context raises an OpenMMException.
        """
        _c.KStepModelForce_setDevice(self, device)

    def isOutsideTrainingRegion(self, context: openmm.Context) -> bool:
        """Whether the Context's current positions are outside the region of validity that the model's contract declares."""
        return _c.KStepModelForce_isOutsideTrainingRegion(self, context)


def cast(object):
    """Give an object that OpenMM returned as a plain Force or Integrator the methods of its own class.

    System.getForce(), XmlSerializer.deserialize() and CompoundIntegrator.getIntegrator() return the base class for
    plugin types.

    Parameters
    ----------
    object : openmm.Force or openmm.Integrator

    Returns
    -------
    XtbForce, KStepModelForce or KStepIntegrator
        another view of the same object, with the same ownership; any other object is returned unchanged
    """
    from .integrator import KStepIntegrator

    candidates = []
    if isinstance(object, openmm.Force):
        candidates = [(XtbForce, _c.XtbForce_isInstance), (KStepModelForce, _c.KStepModelForce_isInstance)]
    elif isinstance(object, openmm.Integrator):
        candidates = [(KStepIntegrator, _c.KStepIntegrator_isInstance)]
    for cls, is_instance in candidates:
        if not isinstance(object, cls) and is_instance(object):
            view = cls.__new__(cls)
            view.this = object.this
            return view
    return object
