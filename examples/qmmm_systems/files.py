"""Where the structures come from: files inside the packages openmm and openmmtools."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from openmm import app, unit

INSTALL = "pip install --no-deps openmmtools==0.27.0"


def openmmtools_data() -> Path:
    """The data folder of openmmtools, found without importing it: only its files are needed, not what it depends on.

    Raises
    ------
    FileNotFoundError
        If openmmtools is not installed.
    """
    spec = importlib.util.find_spec("openmmtools")
    folder = Path(next(iter(spec.submodule_search_locations))) / "data" if spec else None
    if folder is None or not folder.is_dir():
        raise FileNotFoundError(
            "The package openmmtools, whose files this system is made from, was not found. "
            f"Install it by '{INSTALL}' (its own dependencies are not needed)."
        )
    return folder


def load_amber(prmtop: str, coordinates: str) -> tuple[app.AmberPrmtopFile, app.AmberInpcrdFile]:
    """AMBER files of openmmtools; the topology has the periodic box of the coordinates."""
    folder = openmmtools_data()
    inpcrd = app.AmberInpcrdFile(str(folder / coordinates))
    return app.AmberPrmtopFile(str(folder / prmtop), periodicBoxVectors=inpcrd.boxVectors), inpcrd


def load_villin() -> tuple[app.Topology, unit.Quantity]:
    """The villin headpiece (35 residues) in water: a test file of openmm itself."""
    pdb = app.PDBFile(str(Path(app.__file__).parent / "data" / "test.pdb"))
    return pdb.topology, pdb.positions


def load_dhfr() -> tuple[app.Topology, unit.Quantity]:
    """Dihydrofolate reductase (159 residues) in water, the joint AMBER and CHARMM benchmark (JAC)."""
    prmtop, inpcrd = load_amber("dhfr/JAC.prmtop", "dhfr/JAC.inpcrd")
    return prmtop.topology, inpcrd.positions
