"""A QM/MM set-up in a file: TOML for the usual ones, Python for all others."""

from __future__ import annotations

import runpy
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import openmm
from openmm import app, unit

from .._units import NANOMETER
from .regions import selectAtoms, selectResidues
from .system import createQMMMSystem

SECTIONS = ("sample", "train", "check")


@dataclass
class QMMMSetup:
    """What the steps from a molecule to its model need to know of the system.

    Attributes
    ----------
    topology : Topology
    positions : Quantity
        of all particles, to start from
    create : callable
        create(model) returns the QM/MM System: with a KStepModelForce if ``model`` is the path of a model file, without
        if it is None
    options : dict of str to dict
        settings for 'sample', 'train' and 'check', passed to sampleFrames(), trainModel() and checkModel()
    """

    topology: app.Topology
    positions: unit.Quantity
    create: Callable[[str | Path | None], openmm.System]
    options: dict[str, dict] = field(default_factory=dict)


def readSetup(path: str | Path) -> QMMMSetup:
    """Read a set-up.

    A TOML file has a section [system] for the force field and a section [qmmm] for the QM region, whose keys besides
    ``atoms`` are parameters of createQMMMSystem(); paths are relative to the file:

        [system]
        topology = "complex.pdb"                  # also .cif; .prmtop with positions = "complex.inpcrd"
        forcefield = ["amber14-all.xml", "amber14/tip3p.xml"]      # not for .prmtop
        nonbondedMethod = "PME"                   # createSystem()'s; lengths in nm, masses in dalton
        nonbondedCutoff = 1.0
        constraints = "HBonds"
        hydrogenMass = 3.0
        [qmmm]
        atoms = "resname LIG"                     # MDTraj's language; or [0, 1, 2]; or residues = ["A:27", "LIG"]
        charge = 0
        [sample]
        temperatures = [300, 500]

    A Python file (ending in .py; it is run, so read it first if it is not yours) defines ``topology``, ``positions`` and
    ``create(model)`` as in QMMMSetup, and may define ``options``.

    Raises
    ------
    ValueError
        If the file lacks something or has something unknown; the message says what was expected.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"There is no set-up file '{path}'.")
    if path.suffix == ".py":
        return _from_python(path)
    if path.suffix != ".toml":
        raise ValueError(f"Expected a set-up file that ends in .toml or .py, found '{path.name}'.")
    try:
        content = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise ValueError(f"'{path}' is not valid TOML: {e}.") from e
    return _from_toml(content, path)


def _from_python(path: Path) -> QMMMSetup:
    names = runpy.run_path(str(path), run_name="kstep_setup")
    missing = [name for name in ("topology", "positions", "create") if name not in names]
    if missing:
        raise ValueError(
            f"'{path}' must define topology, positions and create(model), which returns the QM/MM System; it lacks {', '.join(missing)}."
        )
    setup = QMMMSetup(*(names[name] for name in ("topology", "positions", "create")), names.get("options", {}))
    unknown = sorted(set(setup.options) - set(SECTIONS))
    if unknown:
        raise ValueError(f"The options in '{path}' may have the sections {SECTIONS}, found {unknown}.")
    return setup


def _from_toml(content: dict, path: Path) -> QMMMSetup:
    try:
        # The rest of the package does not need pydantic.
        from ._setup_schema import SetupFile, ValidationError
    except ImportError as e:
        raise ImportError("Set-up files in TOML need pydantic: pip install 'openmmkstep[train]'.") from e
    try:
        parsed = SetupFile.model_validate(content)
    except ValidationError as e:
        lines = [f"{'.'.join(map(str, error['loc']))}: {error['msg']}" for error in e.errors()]
        raise ValueError(f"'{path}' is not a set-up file as it should be: {'; '.join(lines)}.") from e
    topology, positions, mm = _force_field_system(parsed.system, path.parent)
    qmmm = parsed.qmmm.model_dump(exclude_unset=True, exclude={"atoms", "residues"})
    atoms = _qm_atoms(parsed.qmmm, topology)

    def create(model=None) -> openmm.System:
        return createQMMMSystem(topology, mm, atoms, model=model, positions=positions, **qmmm)

    return QMMMSetup(topology, positions, create, {name: content[name] for name in SECTIONS if name in content})


def _qm_atoms(qmmm, topology: app.Topology) -> list[int]:
    if (qmmm.atoms is None) == (qmmm.residues is None):
        raise ValueError("The section [qmmm] must have either atoms or residues, which are the QM region.")
    if qmmm.residues is not None:
        return selectResidues(topology, qmmm.residues)
    if isinstance(qmmm.atoms, str):
        return selectAtoms(topology, qmmm.atoms)
    return list(qmmm.atoms)


def _force_field_system(section, folder: Path) -> tuple[app.Topology, unit.Quantity, openmm.System]:
    file = folder / section.topology
    if not file.is_file():
        raise ValueError(f"There is no topology file '{file}' (paths are relative to the set-up file).")
    options = {
        "nonbondedMethod": getattr(app, section.nonbondedMethod),
        "constraints": None if section.constraints == "None" else getattr(app, section.constraints),
        "rigidWater": section.rigidWater,
        "removeCMMotion": False,
    }
    for name in ("nonbondedCutoff", "switchDistance"):
        if getattr(section, name) is not None:
            options[name] = getattr(section, name) * NANOMETER
    if section.hydrogenMass is not None:
        options["hydrogenMass"] = section.hydrogenMass * unit.dalton
    if section.ewaldErrorTolerance is not None:
        options["ewaldErrorTolerance"] = section.ewaldErrorTolerance
    if file.suffix in (".prmtop", ".parm7"):
        if section.positions is None or section.forcefield:
            raise ValueError(
                "An AMBER topology needs positions (an inpcrd or rst7 file) and no forcefield in the section [system]."
            )
        coordinates = app.AmberInpcrdFile(str(folder / section.positions))
        prmtop = app.AmberPrmtopFile(str(file), periodicBoxVectors=coordinates.boxVectors)
        return prmtop.topology, coordinates.positions, prmtop.createSystem(**options)
    if not section.forcefield:
        raise ValueError(f"'{file.name}' needs a forcefield in the section [system]: a list of OpenMM's XML files.")
    reader = app.PDBxFile if file.suffix in (".cif", ".pdbx") else app.PDBFile
    structure = reader(str(file))
    if section.positions is not None:
        raise ValueError(f"The positions come from '{file.name}' itself; leave them out of the section [system].")
    local = [str(folder / name) if (folder / name).is_file() else name for name in section.forcefield]
    system = app.ForceField(*local).createSystem(structure.topology, **options)
    return structure.topology, structure.positions, system
