"""Selections of atoms for the QM region."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from openmm import app

from .._units import NANOMETER, strip
from ._geometry import (
    box_array,
    check_indices,
    nearest_distances,
    positions_array,
    residue_label,
)
from .graph import neighbour_lists

AMINO_ACIDS = frozenset(
    "ALA ARG ASH ASN ASP CYM CYS CYX GLH GLN GLU GLY HID HIE HIP HIS HSD HSE HSP ILE LEU LYN LYS MET PHE PRO SER THR "
    "TRP TYR VAL".split()
)
"""The names of the twenty amino acids in all states of protonation."""
CAPS = frozenset(("ACE", "NH2", "NHE", "NMA", "NME"))
"""The names of the groups at the ends of capped peptides."""

_SHOWN = 12
"""How many of the possible choices an error lists."""


def selectResidues(topology: app.Topology, residues) -> list[int]:
    """Select the atoms of whole residues.

    Parameters
    ----------
    topology : Topology
    residues : str, (str, str or int), Residue, or a sequence of these
        'A:27' or ('A', 27) is the residue with the id 27 of the chain with the id A ('A:27B': with an insertion code;
        ':27': of a chain without an id), any other string is the name of residues, such as 'LIG', and a Residue of the
        topology is itself. A tuple is always one residue; several go into a list.

    Returns
    -------
    list of int
        sorted indices of the atoms

    Raises
    ------
    ValueError
        If there is no such residue, or several share a chain and an id; the message says what exists.
    """
    return _atoms_of(_find_residues(topology, residues))


def selectLigand(topology: app.Topology, name: str, index: int | None = None) -> list[int]:
    """Select the atoms of one residue by its name.

    Parameters
    ----------
    topology : Topology
    name : str
        the residue's name. It must occur once, unless ``index`` is given
    index : int, optional
        which of the residues of this name, from 0

    Returns
    -------
    list of int
        sorted indices of the atoms

    Raises
    ------
    ValueError
        If the name does not occur, or occurs more than once, or index is too large.
    """
    found = _by_name(topology, name)
    if index is None and len(found) > 1:
        raise ValueError(
            f"Expected one residue named {name!r}, found {len(found)}: {_listed(residue_label(r) for r in found)}. Choose one with index=0 to {len(found) - 1}, or use selectResidues()."
        )
    if index is not None and not 0 <= index < len(found):
        raise ValueError(f"Expected an index from 0 to {len(found) - 1} of the residues named {name!r}, found {index}.")
    return _atoms_of([found[index or 0]])


def selectAtoms(topology: app.Topology, selection: str) -> list[int]:
    """Select atoms with MDTraj's selection language.

    Parameters
    ----------
    topology : Topology
    selection : str
        such as 'resname LIG' or 'chainid 0 and resSeq 27 and sidechain'. Chains are counted by ``chainid`` from 0

    Returns
    -------
    list of int
        sorted indices of the atoms

    Raises
    ------
    ImportError
        If MDTraj is not installed.
    ValueError
        If MDTraj cannot read the selection, or it selects no atom.
    """
    try:
        import mdtraj
    except ImportError as e:
        raise ImportError(
            f"selectAtoms() needs MDTraj, which cannot be imported ({e}). Install it with: pip install 'openmmkstep[select]'"
        ) from e
    try:
        found = mdtraj.Topology.from_openmm(topology).select(selection)
    except Exception as e:  # MDTraj evaluates the expression as Python, so that a mistake can raise anything
        raise ValueError(f"MDTraj cannot evaluate the selection {selection!r}: {e}") from e
    if len(found) == 0:
        raise ValueError(
            f"The selection {selection!r} selects no atom. The residues' names are {_listed(_names(topology))}."
        )
    return sorted(int(i) for i in found)


def selectWithin(
    topology: app.Topology, positions, atoms: Iterable[int], radius, boxVectors=None, sideChains: bool = False
) -> list[int]:
    """Select all residues, each as a whole, that have an atom within a radius of given atoms, and these atoms.

    A water molecule is a residue. Of two cysteines in a disulfide bond both are taken.

    Parameters
    ----------
    topology : Topology
    positions : array of shape (atoms, 3) or Quantity
        in nm
    atoms : iterable of int
        the centre, such as a ligand
    radius : float or Quantity
        in nm
    boxVectors : array of shape (3, 3) or Quantity, optional
        of the periodic box (nm), in which the shortest distance counts; by default the topology's, if it has any
    sideChains : bool
        whether to take only the side chains of the standard amino acids (from C-beta on), of which an atom of the side
        chain must be within the radius. Glycine, proline and the caps of peptides, which have none that could be cut
        off, are left out then. The given ``atoms`` are part of the result in any case

    Returns
    -------
    list of int
        sorted indices of the atoms. The region may cut peptide bonds; createQMMMSystem() judges them

    Raises
    ------
    ValueError
        If positions, atoms, radius or box vectors are not such; or, with sideChains, the topology lacks bonds.
    """
    atoms = check_indices(atoms, topology.getNumAtoms(), "atoms")
    x = positions_array(positions, topology.getNumAtoms())
    box = box_array(topology.getPeriodicBoxVectors() if boxVectors is None else boxVectors)
    radius = strip(radius, NANOMETER)
    if not radius > 0:
        raise ValueError(f"Expected a radius above 0 nm, found {radius}.")
    near = nearest_distances(x, x[atoms], box, radius) <= radius
    neighbours = neighbour_lists(topology)
    parts: dict[app.topology.Residue, list[int]] = {}
    for residue in topology.residues():
        if sideChains and residue.name in CAPS:
            parts[residue] = []
        elif sideChains and residue.name in AMINO_ACIDS:
            parts[residue] = [] if _why_not(residue, neighbours) else _side_chain(residue, neighbours)
        else:
            parts[residue] = [atom.index for atom in residue.atoms()]
    chosen = [residue for residue, part in parts.items() if near[part].any()]
    disulfides = _disulfide_partners(topology, neighbours)
    partners = [partner for residue in chosen for partner in disulfides.get(residue, [])]
    return sorted({*atoms, *(i for residue in (*chosen, *partners) for i in parts[residue])})


def selectSideChains(topology: app.Topology, residues) -> list[int]:
    """Select the side chains of amino acids from C-beta on, so that the cut goes through the bond of C-alpha and C-beta.

    Parameters
    ----------
    topology : Topology
    residues
        as for selectResidues()

    Returns
    -------
    list of int
        sorted indices of the atoms

    Raises
    ------
    ValueError
        If there is no such residue; for one without a side chain that can be cut off (glycine, proline, no amino acid);
        for one of two cysteines in a disulfide bond; if the topology lacks bonds.
    """
    found = _find_residues(topology, residues)
    neighbours = neighbour_lists(topology)
    disulfides = _disulfide_partners(topology, neighbours)
    for residue in found:
        if reason := _why_not(residue, neighbours):
            raise ValueError(
                f"{residue_label(residue)} {reason}. Leave it out, or take the whole residue with selectResidues()."
            )
        for partner in disulfides.get(residue, []):
            if partner not in found:
                raise ValueError(
                    f"{residue_label(residue)} has a disulfide bond to {residue_label(partner)}, which would be cut. Select both or neither."
                )
    return sorted(i for residue in found for i in _side_chain(residue, neighbours))


def _find_residues(topology: app.Topology, wanted) -> list[app.topology.Residue]:
    """The residues in the topology's order, each once."""
    if isinstance(wanted, str | tuple | app.topology.Residue):
        wanted = [wanted]
    wanted = list(wanted)
    if not wanted:
        raise ValueError("Expected residues to select, found an empty sequence.")
    found = set()
    for item in wanted:
        if isinstance(item, app.topology.Residue):
            if item not in set(topology.residues()):
                raise ValueError(f"The residue {residue_label(item)} is one of another Topology.")
            found.add(item)
        elif isinstance(item, str) and ":" not in item:
            found.update(_by_name(topology, item))
        elif isinstance(item, str):
            found.add(_by_id(topology, *item.rsplit(":", 1)))
        elif isinstance(item, tuple) and len(item) == 2:
            found.add(_by_id(topology, *map(str, item)))
        else:
            raise ValueError(
                f"Expected a residue as 'A:27', ('A', 27), a residue's name or a Residue, found {item!r}. Several residues go into a list."
            )
    return sorted(found, key=lambda residue: residue.index)


def _by_name(topology: app.Topology, name: str) -> list[app.topology.Residue]:
    found = [residue for residue in topology.residues() if residue.name == name]
    if not found:
        raise ValueError(f"There is no residue named {name!r}. The residues' names are {_listed(_names(topology))}.")
    return found


def _by_id(topology: app.Topology, chain: str, number: str) -> app.topology.Residue:
    chain, number = chain.strip(), number.strip()
    # A file may hold several chains with one id, such as a protein and its waters.
    residues = [r for c in topology.chains() if c.id.strip() == chain for r in c.residues()]
    if not residues:
        ids = dict.fromkeys(repr(c.id.strip()) for c in topology.chains())
        raise ValueError(f"There is no chain {chain!r} (for residue {number!r}). The chains are {_listed(ids)}.")
    found = [r for r in residues if r.id + r.insertionCode.strip() == number]
    if not found:
        ids = (r.id + r.insertionCode.strip() for r in residues)
        raise ValueError(f"There is no residue {number!r} in chain {chain!r}. Its residues are {_listed(ids)}.")
    if len(found) > 1:
        raise ValueError(
            f"Several residues are '{chain}:{number}': {_listed(r.name for r in found)}. Give the Residue object itself, from topology.residues()."
        )
    return found[0]


def _names(topology: app.Topology) -> Iterable[str]:
    return dict.fromkeys(residue.name for residue in topology.residues())


def _listed(values: Iterable[str]) -> str:
    """The first and the last of the values, separated by commas."""
    values = list(values)
    if len(values) > _SHOWN:
        values = [*values[: _SHOWN - 2], "...", values[-1]]
    return ", ".join(values)


def _atoms_of(residues: Iterable[app.topology.Residue]) -> list[int]:
    return sorted(atom.index for residue in residues for atom in residue.atoms())


def _why_not(residue: app.topology.Residue, neighbours: Sequence[Sequence[int]]) -> str:
    """Why the residue's side chain cannot be cut off, as the rest of a sentence; empty if it can."""
    names = {atom.name: atom.index for atom in residue.atoms()}
    if "CA" not in names or "CB" not in names:
        glycine = residue.name == "GLY"
        return "has no side chain" if glycine else "has no atoms CA and CB, between which the cut would be"
    if names["CB"] not in neighbours[names["CA"]]:
        raise ValueError(
            f"The topology has no bond between CA and CB of {residue_label(residue)}. Add the bonds with Topology.createStandardBonds() or addBond()."
        )
    if set(neighbours[names["CA"]]) & set(_side_chain(residue, neighbours)) != {names["CB"]}:
        return "has a side chain that is part of a ring with the backbone, which cannot be cut"
    return ""


def _side_chain(residue: app.topology.Residue, neighbours: Sequence[Sequence[int]]) -> list[int]:
    """The atoms of the residue that are reached from CB without CA."""
    names = {atom.name: atom.index for atom in residue.atoms()}
    inside, found = set(names.values()) - {names["CA"]}, [names["CB"]]
    for i in found:  # grows while it is read
        found += [j for j in neighbours[i] if j in inside and j not in found]
    return found


def _disulfide_partners(
    topology: app.Topology, neighbours: Sequence[Sequence[int]]
) -> dict[app.topology.Residue, list[app.topology.Residue]]:
    """The residues to which a residue has bonds between sulfur atoms."""
    sulfur = {atom.index: atom.residue for atom in topology.atoms() if atom.element is app.element.sulfur}
    partners: dict[app.topology.Residue, list[app.topology.Residue]] = {}
    for i, residue in sulfur.items():
        found = [sulfur[j] for j in neighbours[i] if j in sulfur]
        partners.setdefault(residue, []).extend(found)
    return partners
