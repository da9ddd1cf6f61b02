"""The systems by name; each function makes one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import openmm
from openmm import app, unit

from .equilibration import equilibrate
from .files import load_amber, load_dhfr, load_villin
from .peptides import capped_peptide, droplet_restraint, force_field, make_droplet, solvate
from .prepared import PreparedSystem


def options(cutoff: float, periodic: bool = True) -> dict:
    """Arguments of createSystem(); cutoff (nm) of the direct space and of Lennard-Jones."""
    common = {"constraints": app.HBonds, "rigidWater": True, "removeCMMotion": False}
    if not periodic:
        return common | {"nonbondedMethod": app.NoCutoff}
    # An energy that jumps at the cutoff would hide what the QM/MM part does to its conservation.
    return common | {
        "nonbondedMethod": app.PME,
        "nonbondedCutoff": cutoff * unit.nanometer,
        "switchDistance": (cutoff - 0.1) * unit.nanometer,
        "ewaldErrorTolerance": 1e-4,
    }


def _dalton(mass: float | None):
    return None if mass is None else mass * unit.dalton


def _finish(
    name: str, description: str, topology, positions, mm_system, picoseconds: float, minimize: bool, **region
) -> PreparedSystem:
    x, box = equilibrate(name, topology, mm_system(), positions, picoseconds, minimize)
    if box is not None:
        topology.setPeriodicBoxVectors(box * unit.nanometer)
    return PreparedSystem(name, description, topology, mm_system, x, box, **region)


def _from_force_field(name, description, modeller: app.Modeller, settings: dict, picoseconds, restraint=None, **region):
    def mm_system(hydrogen_mass: float | None = None, **more) -> openmm.System:
        mass = _dalton(hydrogen_mass)
        system = force_field().createSystem(modeller.topology, hydrogenMass=mass, **(settings | more))
        if restraint is not None:
            system.addForce(openmm.CustomExternalForce(restraint))
        return system

    return _finish(name, description, modeller.topology, modeller.positions, mm_system, picoseconds, True, **region)


def _from_amber(name, description, prmtop: app.AmberPrmtopFile, positions, settings: dict, picoseconds, **region):
    def mm_system(hydrogen_mass: float | None = None, **more) -> openmm.System:
        return prmtop.createSystem(hydrogenMass=_dalton(hydrogen_mass), **(settings | more))

    return _finish(name, description, prmtop.topology, positions, mm_system, picoseconds, False, **region)


def atoms_of(topology: app.Topology, *parts: tuple) -> tuple[int, ...]:
    """Atom indices, sorted. A part is (residue index, names of its atoms); without names the whole residue.

    Raises
    ------
    ValueError
        If a residue does not have an atom of the name.
    """
    residues, found = list(topology.residues()), []
    for index, *names in parts:
        atoms = {a.name: a.index for a in residues[index].atoms()}
        if missing := set(names) - set(atoms):
            raise ValueError(f"Residue {residues[index]} has no atoms {sorted(missing)}; it has {sorted(atoms)}.")
        found += [atoms[n] for n in names] if names else list(atoms.values())
    return tuple(sorted(found))


def side_chain(topology: app.Topology, index: int) -> tuple:
    """A part for atoms_of(): a side chain from its CB on, so that the cut is CB|CA."""
    backbone = {"N", "H", "CA", "HA", "C", "O"}
    residue = list(topology.residues())[index]
    return (index, *(a.name for a in residue.atoms() if a.name not in backbone))


def up_to_carbonyl(topology: app.Topology, index: int) -> tuple:
    """A part for atoms_of(): a residue without its carbonyl group, so that the cut is CA|C."""
    residue = list(topology.residues())[index]
    return (index, *(a.name for a in residue.atoms() if a.name not in ("C", "O")))


def alanine(picoseconds: float = 20.0) -> PreparedSystem:
    """All of alanine dipeptide in water."""
    folder = "alanine-dipeptide-explicit/alanine-dipeptide"
    prmtop, inpcrd = load_amber(f"{folder}.prmtop", f"{folder}.crd")
    return _from_amber(
        "alanine",
        "Alanine dipeptide in 749 TIP3P waters; all of its 22 atoms are QM. The box is too small for the default radii.",
        prmtop,
        inpcrd.positions,
        options(1.0),
        picoseconds,
        qm_atoms=tuple(range(22)),
        cutoff=0.85,
        switching_distance=0.65,
    )


def alanine_cut(picoseconds: float = 20.0) -> PreparedSystem:
    """The middle of the same alanine dipeptide."""
    whole = alanine(picoseconds)
    return replace(
        whole,
        name="alanine-cut",
        description="The same box with two C-C bonds cut: the first peptide group and the alpha carbon with its methyl are QM.",
        qm_atoms=atoms_of(whole.topology, (0, "C", "O"), up_to_carbonyl(whole.topology, 1)),
        cutoff=None,
        switching_distance=None,
    )


def peptide_20(picoseconds: float = 50.0) -> PreparedSystem:
    """20 QM and 499 MM atoms."""
    return _peptide(
        "peptide-20",
        "Ace-Ala-Ile-Ala-Ala-Cys-NMe (a helix of DHFR) in a droplet of 149 TIP3P waters, cut at two CA-C bonds.",
        capped_peptide(*load_dhfr(), 80, 84),
        waters=149,
        radius=1.15,
        picoseconds=picoseconds,
    )


def peptide_30(picoseconds: float = 50.0) -> PreparedSystem:
    """30 QM and 998 MM atoms."""
    return _peptide(
        "peptide-30",
        "Ace-Ser-Ala-Phe-Ala-Asn-NMe (a helix of villin) in a droplet of 317 TIP3P waters, cut at two CA-C bonds.",
        capped_peptide(*load_villin(), 14, 18),
        waters=317,
        radius=1.42,
        picoseconds=picoseconds,
    )


def _peptide(name, description, modeller: app.Modeller, waters: int, radius: float, picoseconds: float):
    """Five residues between caps in a droplet; a periodic box of this size would leave less than 0.6 nm for the radii.

    QM are the carbonyl group of the second residue, the third, and the fourth without its carbonyl group.
    """
    make_droplet(modeller, waters)
    topology = modeller.topology
    (carbon,) = atoms_of(topology, (3, "CA"))
    return _from_force_field(
        name,
        description,
        modeller,
        options(0.0, periodic=False),
        picoseconds,
        droplet_restraint(topology, radius, carbon),
        qm_atoms=atoms_of(topology, (2, "C", "O"), (3,), up_to_carbonyl(topology, 4)),
    )


def aspartate(picoseconds: float = 20.0) -> PreparedSystem:
    """A charged molecule with counter-ions."""
    modeller = capped_peptide(*load_dhfr(), 26, 26)
    solvate(modeller, 3.4, 0.15)
    return _from_force_field(
        "aspartate",
        "Ace-Asp-NMe, charge -1, all of its 24 atoms QM, in 0.15 M sodium chloride.",
        modeller,
        options(1.0),
        picoseconds,
        qm_atoms=atoms_of(modeller.topology, (0,), (1,), (2,)),
        charge=-1,
    )


def cb7_b2(picoseconds: float = 20.0) -> PreparedSystem:
    """A guest in its host."""
    prmtop, inpcrd = load_amber("cb7-b2/complex-explicit.prmtop", "cb7-b2/complex-explicit.inpcrd")
    return _from_amber(
        "cb7-b2",
        "The guest B2 (a diol of 30 atoms, QM) in the host cucurbit[7]uril and 1,445 TIP3P waters.",
        prmtop,
        inpcrd.positions,
        options(1.0),
        picoseconds,
        qm_atoms=atoms_of(prmtop.topology, (1,)),
    )


def dhfr(picoseconds: float = 2.0) -> PreparedSystem:
    """Three side chains of an enzyme's active site."""
    prmtop, inpcrd = load_amber("dhfr/JAC.prmtop", "dhfr/JAC.inpcrd")
    topology = prmtop.topology
    return _from_amber(
        "dhfr",
        "The active site of dihydrofolate reductase in water: the side chains of Asp27, Thr113 and Trp22, cut at CA-CB.",
        prmtop,
        inpcrd.positions,
        options(0.9),
        picoseconds,
        qm_atoms=atoms_of(topology, *(side_chain(topology, number - 1) for number in (22, 27, 113))),
        charge=-1,
    )


SYSTEMS: dict[str, Callable[..., PreparedSystem]] = {
    "alanine": alanine,
    "alanine-cut": alanine_cut,
    "peptide-20": peptide_20,
    "peptide-30": peptide_30,
    "aspartate": aspartate,
    "cb7-b2": cb7_b2,
    "dhfr": dhfr,
}
