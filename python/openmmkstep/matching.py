"""matchModel: which atom of a system is which atom of a model."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from openmm import app, unit

from .contract import ModelContract
from .covalent import findBondingPatterns
from .handedness import cosines, neighbourLists, volumes

_MAX_CANDIDATES = 5_000
"""Orders of the skeleton that are tried; a molecule of eight equal t-butyl groups has more."""


def matchModel(
    contract: ModelContract,
    species: Sequence[int],
    bonds: Sequence[tuple[int, int]],
    positions=None,
    *,
    numLinkAtoms: int = 0,
    names: Sequence[str] | None = None,
) -> list[int]:
    """Find the model's atoms in a system.

    Elements and bonds must be the same. Among the orders that these allow, one is chosen whose labels of equal atoms
    (the hydrogens of a methyl group, say) have the handedness of the model's training data at the given positions. The
    system's own order is kept if it is right.

    Where the training data hold a reaction, which the distance ranges of the contract tell (findReactivePairs()), its
    bonds may be those of educt, product or any structure between them.

    Parameters
    ----------
    contract : ModelContract
        of the model. If it has no bonds the order of the species must be the system's
    species : sequence of int
        atomic numbers of the system's n atoms
    bonds : sequence of (int, int)
        pairs of bonded ones among them
    positions : array or Quantity of shape (n, 3), optional
        nm, molecules whole. Without them the handedness of labels is not looked at
    numLinkAtoms : int
        that many atoms at the end of both are link hydrogens, which correspond to one another
    names : sequence of str, optional
        what to call the system's atoms in messages

    Returns
    -------
    list of int
        order: ``species[order[i]]`` is the model's atom i

    Raises
    ------
    ValueError
        If the system is another molecule than the model's: another formula, protonation, connectivity or enantiomer.
        The message names the difference.
    """
    species = [int(z) for z in species]
    names = names or [f"atom {i} ({_symbol(z)})" for i, z in enumerate(species)]
    if not contract.bonds:
        if list(contract.species) != species:
            raise ValueError(
                f"Expected a model for the elements {species}, in this order, found one for {list(contract.species)}. The "
                "contract of this model names no bonds, so its atoms cannot be found in another order."
            )
        return list(range(len(species)))
    x = None if positions is None else _as_array(positions, len(species))
    patterns = findBondingPatterns(contract.species, contract.bonds, contract.distanceRanges)
    same = list(range(len(species)))
    own = tuple(sorted({(min(a, b), max(a, b)) for a, b in bonds}))
    if list(contract.species) == species and own in patterns and not _wrong_marks(contract, same, x):
        return same
    refusals = []
    for pattern in patterns:
        try:
            return _match(contract, pattern, species, own, x, numLinkAtoms, names)
        except ValueError as e:
            refusals.append(e)
    raise refusals[0]


def _match(contract, pattern, species, bonds, x, num_links: int, names) -> list[int]:
    """matchModel() if the model's bonds are these."""
    model = _Molecule(list(contract.species), pattern, num_links)
    system = _Molecule(species, bonds, num_links)
    if sorted(model.species) != sorted(species) or _refine(model, system) is None:
        raise ValueError(_describe_difference(model, system, names))
    wrong: list[tuple[str, tuple[int, ...], list[int]]] | None = None
    for count, skeleton in enumerate(_skeleton_orders(model, system)):
        if count == _MAX_CANDIDATES:
            raise ValueError(
                f"The model's molecule is so symmetric that {_MAX_CANDIDATES} orders of its atoms were tried and none has the "
                "handedness of its training data. Give the atoms in the order of the model."
            )
        order, found = _place_leaves(model, system, skeleton, contract, x)
        if not found:
            return order
        if wrong is None or len(found) < len(wrong):
            wrong = found
    if wrong is None:
        raise ValueError(_describe_difference(model, system, names))
    raise ValueError(_describe_wrong_mark(wrong[0], names))


class _Molecule:
    """Elements and bonds; leaves are the atoms other than link atoms with one neighbour, which has more."""

    def __init__(self, species: list[int], bonds: Sequence[tuple[int, int]], num_links: int):
        n = len(species)
        self.species = species
        self.bonds = sorted((min(a, b), max(a, b)) for a, b in bonds)
        self.neighbours = neighbourLists(n, self.bonds)
        self.link = [i >= n - num_links for i in range(n)]
        self.is_leaf = [len(ends) == 1 and len(self.neighbours[ends[0]]) > 1 for ends in self.neighbours]
        self.colours = list(zip(species, self.link, strict=True))

    def leaves(self, atom: int) -> list[int]:
        return [i for i in self.neighbours[atom] if self.is_leaf[i]]


def _refine(model: _Molecule, system: _Molecule) -> list | None:
    """Colour atoms by their surroundings, alike in both, until that tells no more apart; None if the colours differ."""
    molecules = (model, system)
    while True:
        keys = [
            [(m.colours[i], tuple(sorted(m.colours[j] for j in m.neighbours[i]))) for i in range(len(m.species))]
            for m in molecules
        ]
        numbers = {key: i for i, key in enumerate(sorted({*keys[0], *keys[1]}))}
        before = len(set(model.colours) | set(system.colours))
        for m, own in zip(molecules, keys, strict=True):
            m.colours = [numbers[key] for key in own]
        if sorted(model.colours) != sorted(system.colours):
            return None
        if len(numbers) == before:
            return model.colours


def _skeleton_orders(model: _Molecule, system: _Molecule) -> Iterator[dict[int, int]]:
    """All ways to place the atoms that are no leaves, by following the bonds."""
    sequence: list[int] = []
    rest = [i for i in range(len(model.species)) if not model.is_leaf[i]]
    rarity = Counter(model.colours)
    while len(sequence) < len(rest):
        placed = set(sequence)
        open_atoms = [i for i in rest if i not in placed]
        # Those bonded to a placed atom first, the most distinct of them before others.
        sequence.append(
            min(open_atoms, key=lambda i: (not placed & set(model.neighbours[i]), rarity[model.colours[i]], i))
        )
    place: dict[int, int] = {}

    def candidates(atom: int) -> list[int]:
        bonded = [place[j] for j in model.neighbours[atom] if j in place]
        pool = system.neighbours[bonded[0]] if bonded else range(len(system.species))
        taken = set(place.values())
        return [
            s
            for s in sorted(pool, key=lambda s: s != atom)
            if s not in taken
            and system.colours[s] == model.colours[atom]
            and not system.is_leaf[s]
            and len(taken & set(system.neighbours[s])) == len(bonded)
            and all(b in system.neighbours[s] for b in bonded)
        ]

    stack = [iter(candidates(sequence[0]))] if sequence else []
    while stack:
        atom = sequence[len(stack) - 1]
        place.pop(atom, None)
        choice = next(stack[-1], None)
        if choice is None:
            stack.pop()
            continue
        place[atom] = choice
        if len(stack) == len(sequence):
            yield dict(place)
        else:
            stack.append(iter(candidates(sequence[len(stack)])))


def _place_leaves(
    model: _Molecule, system: _Molecule, skeleton: dict[int, int], contract: ModelContract, x: np.ndarray | None
) -> tuple[list[int], list]:
    """The best order with this skeleton, and the marks of the contract that are wrong with it.

    A mark ties at most two groups of leaves, those on the ends of a double bond. The groups of the others are turned
    one by one.
    """
    order = [skeleton.get(i, -1) for i in range(len(model.species))]
    choices: dict[int, list[list[tuple[int, int]]]] = {}
    for atom, image in skeleton.items():
        own, theirs = model.leaves(atom), system.leaves(image)
        if own:
            choices[atom] = [
                list(zip(own, turned, strict=True))
                for turned in itertools.permutations(sorted(theirs, key=lambda s: s not in own))
                if all(model.colours[a] == system.colours[b] for a, b in zip(own, turned, strict=True))
            ]
            for a, b in choices[atom][0]:
                order[a] = b
    if x is None:
        return order, []
    for linked in _linked_centres(model, choices, contract):
        atoms = {a for centre in linked for a, _ in choices[centre][0]}
        best = None
        for combination in itertools.product(*(choices[centre] for centre in linked)):
            trial = list(order)
            for pairs in combination:
                for a, b in pairs:
                    trial[a] = b
            wrong = len(_wrong_marks(contract, trial, x, atoms))
            if best is None or wrong < best[0]:
                best = (wrong, trial)
            if not wrong:
                break
        order = best[1]
    return order, _wrong_marks(contract, order, x)


def _linked_centres(model: _Molecule, choices: dict, contract: ModelContract) -> list[list[int]]:
    """Centres with leaves, those together whose leaves occur in one mark."""
    group = {centre: [centre] for centre in choices}
    for mark in contract.sides:
        ends = [model.neighbours[i][0] for i in (mark[0], mark[3]) if model.is_leaf[i]]
        if len(ends) == 2 and group[ends[0]] is not group[ends[1]]:
            merged = group[ends[0]] + group[ends[1]]
            group.update(dict.fromkeys(merged, merged))
    return list({id(g): g for g in group.values()}.values())


def _wrong_marks(
    contract: ModelContract, order: list[int], x: np.ndarray | None, atoms: set[int] | None = None
) -> list:
    """The marks, of some of the model's atoms or all, that have another sign in the system."""
    if x is None:
        return []
    wrong = []
    for name, measure in (("handedness", volumes), ("sides", cosines)):
        marks = [m for m in getattr(contract, name) if atoms is None or atoms & set(m[:4])]
        for mark in marks:
            image = [order[i] for i in mark[:4]]
            if measure(x[None], image)[0] * mark[4] <= 0:
                wrong.append((name, image, mark[4]))
    return wrong


def _as_array(positions, num: int) -> np.ndarray:
    if unit.is_quantity(positions):
        positions = positions.value_in_unit(unit.nanometer)
    x = np.array([list(p) for p in positions], dtype=float)
    if x.shape != (num, 3):
        raise ValueError(f"Expected positions of {num} atoms, found an array of shape {x.shape}.")
    return x


def _symbol(number: int) -> str:
    return app.Element.getByAtomicNumber(number).symbol


def _formula(species: Sequence[int]) -> str:
    """In Hill's order."""
    counts = Counter(_symbol(z) for z in species)
    first = [s for s in ("C", "H") if s in counts] if "C" in counts else []
    return "".join(
        s + (str(counts[s]) if counts[s] > 1 else "") for s in first + sorted(s for s in counts if s not in first)
    )


def _without_hydrogens(molecule: _Molecule) -> tuple[_Molecule, list[int]]:
    heavy = [i for i, z in enumerate(molecule.species) if z != 1]
    place = {a: i for i, a in enumerate(heavy)}
    bonds = [(place[a], place[b]) for a, b in molecule.bonds if a in place and b in place]
    return _Molecule([molecule.species[i] for i in heavy], bonds, 0), heavy


def _describe_difference(model: _Molecule, system: _Molecule, names: Sequence[str]) -> str:
    """A sentence on what makes two molecules different."""
    formulas = f"the model is of {_formula(model.species)}, the system's QM region is {_formula(system.species)}"
    (core, atoms), (other, others) = _without_hydrogens(model), _without_hydrogens(system)
    if sorted(core.species) != sorted(other.species):
        return f"The model is of another molecule: {formulas}. Use a model that was trained for this molecule."
    counts = [
        [sum(m.species[j] == 1 for j in m.neighbours[i]) for i in heavy]
        for m, heavy in ((model, atoms), (system, others))
    ]
    best = None
    if _refine(core, other) is not None:
        core.is_leaf, other.is_leaf = [False] * len(atoms), [False] * len(others)
        for place in itertools.islice(_skeleton_orders(core, other), 1000):
            differing = [(b, counts[0][a], counts[1][b]) for a, b in place.items() if counts[0][a] != counts[1][b]]
            if best is None or len(differing) < len(best):
                best = differing
    if best:
        where = ", ".join(f"{names[others[b]]} has {c}, not {m}" for b, m, c in best)
        kind = "protonation state" if sorted(model.species) != sorted(system.species) else "tautomer"
        return (
            f"The model is of another {kind}: {formulas}; the number of hydrogens on {where} as in the model. Use a model that "
            "was trained for this one, or change the protonation of the system."
        )
    return (
        f"The model's molecule has other bonds: {formulas}, but the atoms are not bonded in the same way"
        + _first_odd_atom(model, system, names)
        + ". Check the bonds of the topology, or use a model that was trained for this molecule."
    )


def _first_odd_atom(model: _Molecule, system: _Molecule, names: Sequence[str]) -> str:
    """An atom of the system with neighbours that no atom of the model has."""

    def surroundings(m: _Molecule, i: int) -> tuple:
        return (m.species[i], m.link[i], tuple(sorted(m.species[j] for j in m.neighbours[i])))

    left = Counter(surroundings(model, i) for i in range(len(model.species)))
    for i in range(len(system.species)):
        own = surroundings(system, i)
        left[own] -= 1
        if left[own] < 0:
            bonded = " ".join(_symbol(z) for z in own[2]) or "nothing"
            return f": {names[i]} is bonded to {bonded}, which fewer atoms of the model are"
    return ""


def _describe_wrong_mark(mark: tuple, names: Sequence[str]) -> str:
    kind, image, _ = mark
    if kind == "handedness":
        return (
            f"The model is of another stereoisomer: at {names[image[0]]} the system has the opposite handedness, and no "
            "exchange of equal atoms mends that. Use a model that was trained for this stereoisomer, or check the "
            "positions."
        )
    return (
        f"The model is of another isomer: {names[image[0]]} and {names[image[3]]} are on other sides of the bond "
        f"{names[image[1]]} - {names[image[2]]} than in the model's training data (cis against trans), and no exchange of "
        "equal atoms mends that. Use a model that was trained for this isomer, or check the positions."
    )
