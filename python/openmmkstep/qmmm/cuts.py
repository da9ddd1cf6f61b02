"""Covalent bonds between the QM and the MM region: where link hydrogens go, and where a cut makes no sense."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from openmm import app

from .graph import neighbourLists

LINK_DISTANCE = {5: 0.115, 6: 0.109, 7: 0.101, 8: 0.096, 14: 0.142, 15: 0.138, 16: 0.134, 34: 0.151}
"""Length (nm) of a bond to hydrogen by atomic number of the other end; B, Si, P, Se: sum of the covalent radii."""

_LARGEST_RING = 8
_MOST_PROBLEMS = 5
_COVALENT = (1, *LINK_DISTANCE)
# Fewer neighbours than these mean a multiple bond, or a charge that delocalizes.
_SATURATED = {5: 3, 6: 4, 7: 3, 8: 2, 14: 4, 15: 3, 16: 2, 34: 2}
_MULTIPLE = (app.Double, app.Triple, app.Aromatic)
_CHALCOGENS = (8, 16, 34)
_NONMETALS = (9, 17, 35, 53, *_COVALENT)


class Cut(NamedTuple):
    """A covalent bond between the regions.

    Attributes
    ----------
    qm : int
        index of the QM host, which gets a link hydrogen
    mm : int
        index of the MM host, towards which the link hydrogen points
    distance : float
        of the link hydrogen from the QM host (nm)
    """

    qm: int
    mm: int
    distance: float


def findCuts(topology: app.Topology, qmAtoms: Iterable[int]) -> list[Cut]:
    """Find all bonds between the QM and the MM region.

    Parameters
    ----------
    topology : Topology
        must hold all bonds and hydrogens. Types and orders of bonds are used where it has them; otherwise double bonds
        are recognized by the numbers of neighbours
    qmAtoms : iterable of int
        indices of the QM atoms

    Returns
    -------
    list of Cut
        sorted by QM host, then MM host; empty if the QM region is whole molecules

    Raises
    ------
    ValueError
        If bonds are missing, or if a bond cannot be cut: one to hydrogen or another terminal atom, of a ring of up to
        eight atoms, a multiple bond, a bond to a metal; or if two QM atoms share an MM host. The message says of each
        of these cuts what to do.
    """
    region = set(qmAtoms)
    molecule = _Molecule(topology)
    molecule.check_bonds(region)
    pairs = sorted({(a, b) for a in region for b in molecule.bonded(a) if b not in region})
    problems = [p for p in (_problem(molecule, region, q, m) for q, m in pairs) if p]
    if len(problems) > _MOST_PROBLEMS:
        further = len(problems) - _MOST_PROBLEMS
        problems[_MOST_PROBLEMS:] = [f"The same goes for {further} further bonds: is qmAtoms what you meant?"]
    if problems:
        raise ValueError("\n".join(problems))
    return [Cut(q, m, LINK_DISTANCE[molecule.number(q)]) for q, m in pairs]


def cutWarnings(topology: app.Topology, qmAtoms: Iterable[int], cuts: Iterable[Cut]) -> list[str]:
    """Say which cuts work but deserve care.

    Parameters
    ----------
    topology : Topology
        as in findCuts()
    qmAtoms : iterable of int
        indices of the QM atoms
    cuts : iterable of Cut
        what findCuts() returned

    Returns
    -------
    list of str
        a sentence for each polar cut (no C-C bond), peptide bond, conjugated single bond, QM atom with several link
        hydrogens, and pair of MM hosts that are bonded or have a neighbour in common
    """
    region = set(qmAtoms)
    molecule = _Molecule(topology)
    cuts = sorted(cuts)
    sentences = [s for s in (_bond_warning(molecule, cut) for cut in cuts) if s]
    for qm in sorted({c.qm for c in cuts}):
        hosts = [c.mm for c in cuts if c.qm == qm]
        if len(hosts) > 1:
            names = " and ".join(molecule.name(m) for m in hosts)
            sentences.append(
                f"{molecule.name(qm)} is cut from {names}: it bears {len(hosts)} link hydrogens, whose shared host "
                "feels the errors of all of them. A larger QM region with cuts further apart is safer."
            )
    for i, first in enumerate(cuts):
        for second in cuts[i + 1 :]:
            shared = set(molecule.neighbours[first.mm]) & set(molecule.neighbours[second.mm]) - region
            if second.mm in molecule.neighbours[first.mm] or shared:
                how = "have a neighbour in common" if shared else "are bonded to each other"
                sentences.append(
                    f"The MM hosts {molecule.name(first.mm)} and {molecule.name(second.mm)} {how}: their boundary "
                    "charges are moved onto each other's atoms and the link hydrogens come close. Put the atoms "
                    "between the two cuts into the QM region."
                )
    return sentences


class _Molecule:
    """Elements, neighbours and bond orders of a topology."""

    def __init__(self, topology: app.Topology):
        self.topology = topology
        self.atoms = list(topology.atoms())
        self._bonded = neighbourLists(topology)
        real = [a.element is not None for a in self.atoms]
        # Virtual sites and lone pairs say nothing about the bonds that an atom has.
        self.neighbours = [[j for j in others if real[j]] for others in self._bonded]
        self._bonds = {frozenset((b.atom1.index, b.atom2.index)): b for b in topology.bonds() if b.type or b.order}

    def bonded(self, i: int) -> list[int]:
        """All particles bonded to an atom, ``neighbours`` being those that have an element."""
        return self._bonded[i]

    def number(self, i: int) -> int:
        """The atomic number, 0 of a particle without element."""
        element = self.atoms[i].element
        return 0 if element is None else element.atomic_number

    def name(self, i: int) -> str:
        residue = self.atoms[i].residue
        return f"{self.atoms[i].name} of {residue.name} {residue.id} (atom {i})"

    def check_bonds(self, region: set[int]) -> None:
        """Raise ValueError where bonds must be missing."""
        how = (
            "Add them: call topology.createStandardBonds() for standard residues, give CONECT records in the PDB file "
            "for others, or call topology.addBond()."
        )
        for residue in self.topology.residues():
            # Several ions in one residue need no bonds; extra particles often have none.
            covalent = [a.index for a in residue.atoms() if self.number(a.index) in _COVALENT]
            if len(covalent) < 2:
                continue
            inside = {i for i in covalent if any(self.atoms[j].residue is residue for j in self.neighbours[i])}
            if not inside:
                raise ValueError(
                    f"Expected bonds between the {len(covalent)} atoms of {residue.name} {residue.id}, found none: "
                    f"without them no cut can be found. {how}"
                )
            lonely = [i for i in covalent if i in region and not self.neighbours[i]]
            if lonely:
                raise ValueError(
                    f"Expected bonds of the QM atom {self.name(lonely[0])}, found none, although other atoms of its "
                    f"residue have bonds. {how}"
                )

    def multiple(self, a: int, b: int) -> bool | None:
        """Whether the bond is a double, triple or aromatic one; None if the topology does not say."""
        bond = self._bonds.get(frozenset((a, b)))
        if bond is None:
            return None
        return bond.type in _MULTIPLE or (bond.order is not None and bond.order > 1)

    def degree(self, i: int) -> int:
        """The number of neighbours, metals aside: they coordinate to an atom whatever its other bonds are."""
        return sum(self.number(j) in _NONMETALS for j in self.neighbours[i])

    def unsaturated(self, i: int) -> bool:
        return self.degree(i) < _SATURATED.get(self.number(i), 0)

    def amide(self, a: int, b: int) -> bool:
        """Whether a-b is the bond of an amide or thioamide between carbon and nitrogen."""
        carbon, nitrogen = sorted((a, b), key=self.number)
        if (self.number(carbon), self.number(nitrogen)) != (6, 7) or self.degree(carbon) != 3:
            return False
        return any(self.number(i) in _CHALCOGENS and self.degree(i) == 1 for i in self.neighbours[carbon])

    def conjugated(self, a: int, b: int) -> bool:
        """Whether both ends take part in a multiple bond, which then may be this one."""
        if self.unsaturated(a) and self.unsaturated(b):
            return True
        # An sp2 carbon with saturated neighbours only (guanidinium, amidinium) shares the lone pairs of its N and O.
        for carbon, other in ((a, b), (b, a)):
            if self.number(carbon) == 6 and self.unsaturated(carbon) and self.number(other) in (7, 8):
                if not any(self.unsaturated(i) for i in self.neighbours[carbon]):
                    return True
        return False

    def ring_size(self, a: int, b: int) -> int:
        """The number of atoms in the smallest ring through the bond a-b, 0 if it is larger than _LARGEST_RING."""
        seen, shell = {a}, [a]
        for size in range(2, _LARGEST_RING + 1):
            shell = [j for i in shell for j in self.neighbours[i] if (i, j) != (a, b)]
            shell = [j for j in dict.fromkeys(shell) if j not in seen]
            seen.update(shell)
            if b in seen:
                return size
        return 0


def _problem(molecule: _Molecule, region: set[int], qm: int, mm: int) -> str | None:
    """Why this bond cannot be cut and what to do, or None."""
    where = f"The bond between the QM atom {molecule.name(qm)} and the MM atom {molecule.name(mm)} cannot be cut:"
    together = "Put both atoms into the same region."
    for i in (qm, mm):
        number = molecule.number(i)
        if number == 0:
            return f"{where} {molecule.atoms[i].name} has no element, as virtual sites and lone pairs. {together}"
        if number == 1:
            return f"{where} {molecule.atoms[i].name} is a hydrogen. {together}"
        if len(molecule.neighbours[i]) == 1:
            return f"{where} {molecule.atoms[i].name} has no other bond: nothing is left beside the cut. {together}"
        if number not in LINK_DISTANCE:
            symbol = molecule.atoms[i].element.symbol
            return (
                f"{where} a link hydrogen cannot stand for a bond of {symbol}. Put {molecule.atoms[i].name} and the "
                "atoms that it binds into the same region and cut a C-C bond further away."
            )
    size = molecule.ring_size(qm, mm)
    if size:
        return f"{where} it is part of a ring of {size} atoms. Put the whole ring into the same region."
    multiple = molecule.multiple(qm, mm)
    if multiple:
        return f"{where} it is a double, triple or aromatic bond. Cut a C-C single bond instead."
    if multiple is None and molecule.conjugated(qm, mm) and not molecule.amide(qm, mm):
        return (
            f"{where} both atoms have too few neighbours for single bonds, so it may be a multiple bond. Cut a C-C "
            "single bond between saturated atoms instead, add missing hydrogens, or give the bond's order in the "
            "topology if it is a single bond."
        )
    shared = [i for i in molecule.neighbours[mm] if i in region and i != qm]
    if shared:
        return (
            f"{where} the MM atom is bonded to the QM atom {molecule.name(shared[0])} too, and one MM atom cannot be "
            "the host of two link hydrogens. Put the MM atom into the QM region as well."
        )
    return None


def _bond_warning(molecule: _Molecule, cut: Cut) -> str | None:
    where = f"The cut between the QM atom {molecule.name(cut.qm)} and the MM atom {molecule.name(cut.mm)}"
    if molecule.amide(cut.qm, cut.mm):
        return (
            f"{where} goes through the C-N bond of a peptide or amide, which is polar and partly double. Cut the "
            "C-C bond next to it (CA-C, or CA-CB of a side chain) instead."
        )
    if molecule.conjugated(cut.qm, cut.mm):
        return (
            f"{where} goes through a single bond between unsaturated atoms: a link hydrogen ends the conjugation. Cut "
            "a C-C bond between saturated atoms instead."
        )
    if {molecule.number(cut.qm), molecule.number(cut.mm)} != {6}:
        symbols = "-".join(molecule.atoms[i].element.symbol for i in (cut.qm, cut.mm))
        return (
            f"{where} goes through a {symbols} bond: a link hydrogen changes the charges there more than at a C-C "
            "bond. Cut the nearest C-C single bond instead if you can."
        )
    return None
