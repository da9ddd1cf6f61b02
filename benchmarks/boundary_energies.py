"""The covalent boundary against all-QM: what RCD, charge shift and no correction of the MM host's charge do.

    python benchmarks/boundary_energies.py

Capped residues of villin (ACE-X-NME), not periodic, at the all-QM minimum, GFN2-xTB with accuracy 0.01. 'delete' is what
createQMMMSystem refuses (Z1): the host's charge taken away from the QM region; it is here to show why.

1. Deprotonation energies at fixed geometry: E(without the proton) - E(with it) in QM/MM minus the same with all atoms in
   the QM region. The force field gives the backbone of ASP other charges than that of ASH (as of LYN and LYS); with
   these the difference would hold the MM region's change too, which is no part of a deprotonation. So both states have
   one System, with the proton and without it: the MM charges, what is moved to the MM host, the Lennard-Jones and the
   bonded terms across the boundary are the same. The fixed charges of the QM atoms differ, and drop out: without a cutoff
   what the NonbondedForce adds for them is subtracted again, exactly.
2. Interaction energy with a water molecule along a hydrogen bond of the side chain, E(r) - E(infinitely far), the water in
   the QM or the MM region. The latter is compared with the peptide in the QM region and the water in the MM region too,
   for a TIP3P water is not an xTB water without any cut.
3. The cut bond and its angles at the minimum that starts from the all-QM minimum.
4. Errors of the forces on QM atoms by the number of bonds from the MM host, over snapshots of all-QM dynamics at 300 K.
   HIP's HD1 (four bonds away) is 0.16 nm from a carbonyl oxygen of the backbone: its error is that of a short hydrogen
   bond between the regions, not of the cut.
5. Fixed charges of the force field against mean Mulliken charges: without a cutoff the energy is the same; with one they
   decide what is cut off. Errors against no cutoff in a droplet of water.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from pathlib import Path

import numpy as np
import openmm
from openmm import app, unit
from tqdm import tqdm

from openmmkstep import XtbForce, cast, createQMMMSystem
from openmmkstep.qmmm import QMMMWarning

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))
from qmmm_systems.peptides import force_field, make_droplet
from qmmm_systems.protonation import Molecule, deprotonated, protonated_peptide

BOUNDARIES = ("rcd", "charge-shift", "none", "delete")
# Variant, name of the cuts, QM atoms of the middle residue (None: the side chain).
REGIONS = (
    ("ASH", "CA-CB", None),
    ("LYS", "CA-CB", None),
    ("LYS", "CD-CE", "CE HE2 HE3 NZ HZ1 HZ2 HZ3"),
    ("LYS", "CE-NZ (polar)", "NZ HZ1 HZ2 HZ3"),
    ("HIP", "CA-CB", None),
    ("ASH", "two C-N (polar)", "N H CA HA CB HB2 HB3 CG OD1 OD2 HD2 C O"),
)
# Variant, without its proton, atom of the side chain next to the water, whether the side chain is the donor.
HYDROGEN_BONDS = (
    ("LYS", False, ("NZ", "HZ1"), True),
    ("ASH", False, ("OD2", "HD2"), True),
    ("ASH", True, ("CG", "OD2"), False),
)
DISTANCES = np.array([0.16, 0.18, 0.20, 0.22, 0.25, 0.30, 0.40, 0.60])  # nm, of H...O
FAR = 100.0  # nm
CUTOFFS = ((0.8, 1.0), (1.0, 1.2))  # nm, switching distance and cutoff
PLATFORM = "Reference"


def xtb_of(system: openmm.System) -> XtbForce:
    return next(f for f in map(cast, system.getForces()) if isinstance(f, XtbForce))


def make_system(molecule: Molecule, qm: list[int], boundary: str = "rcd", **kwargs) -> tuple[openmm.System, list[str]]:
    """The QM/MM System, and what createQMMMSystem warned about. The QM charge is spread evenly unless charges are given."""
    options = {"charges": [molecule.charge / len(qm)] * len(qm)} | kwargs
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", QMMMWarning)
        known = "none" if boundary == "delete" else boundary
        system = createQMMMSystem(
            molecule.topology, molecule.system, qm, charge=molecule.charge, boundary=known, **options
        )
    xtb = xtb_of(system)
    xtb.setAccuracy(0.01)
    if boundary == "delete":
        charges = {}
        for j in range(xtb.getNumEmbeddingCharges()):
            particle, charge, _ = xtb.getEmbeddingChargeParameters(j)
            charges[particle] = charge
        for i in range(xtb.getNumLinkAtoms()):
            mm = xtb.getLinkAtomParameters(i)[1]
            xtb.addVirtualCharge([mm], [1.0], -charges.get(mm, 0.0 * unit.elementary_charge))
    return system, [str(w.message) for w in caught]


def all_qm(molecule: Molecule) -> openmm.System:
    return make_system(molecule, list(range(molecule.topology.getNumAtoms())))[0]


def context_of(system: openmm.System, positions: np.ndarray, integrator=None) -> openmm.Context:
    integrator = integrator or openmm.VerletIntegrator(0.001)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName(PLATFORM))
    context.setPositions(positions)
    return context


def energy_forces(context: openmm.Context, positions: np.ndarray | None = None) -> tuple[float, np.ndarray]:
    if positions is not None:
        context.setPositions(positions)
    state = context.getState(getEnergy=True, getForces=True)
    return state.getPotentialEnergy()._value, state.getForces(asNumpy=True)._value


def positions_of(context: openmm.Context) -> np.ndarray:
    return np.array(context.getState(getPositions=True).getPositions(asNumpy=True)._value)


def minimize(system: openmm.System, positions: np.ndarray, tolerance: float = 5.0, steps: int = 2000) -> np.ndarray:
    """Positions where the rms force is below the tolerance (kJ/mol/nm), by Barzilai-Borwein steps of at most 5 pm.

    The first trial step of LocalEnergyMinimizer moves the few atoms here by some 0.2 nm, too far for an SCF to converge.
    """
    context = context_of(system, positions)
    x, f = positions.copy(), energy_forces(context)[1]
    length = 1e-6
    for _ in range(steps):
        if np.sqrt((f**2).mean()) < tolerance:
            return x
        step = length * f
        step *= min(1.0, 0.005 / np.linalg.norm(step, axis=1).max())
        new = energy_forces(context, x + step)[1]
        change = f - new
        length = float(np.clip((step * step).sum() / abs((step * change).sum()), 1e-7, 1e-4))
        x, f = x + step, new
    raise RuntimeError(f"Expected an rms force below {tolerance} kJ/mol/nm after {steps} steps, found more.")


def region_of(molecule: Molecule, names: str | None) -> list[int]:
    if names is None:
        return molecule.side_chain()
    atoms = list(molecule.topology.residues())[1].atoms()
    return [a.index for a in atoms if a.name in names.split()]


def deprotonation(peptides: dict[str, Molecule]) -> list[dict]:
    """Errors (kJ/mol) of each scheme for each region, the all-QM value, the charge of the MM host, the warnings."""
    rows = []
    for variant, cut, names in tqdm(REGIONS, desc="deprotonation"):
        states = [peptides[variant], deprotonated(peptides[variant], variant)]
        with_proton, without = (energy_forces(context_of(all_qm(m), m.positions))[0] for m in states)
        row = {"residue": variant, "cut": cut, "all QM": without - with_proton, "errors": {}}
        for boundary in BOUNDARIES:
            energies = []
            for molecule in states:
                system, row["warnings"] = make_system(molecule, region_of(molecule, names), boundary)
                energies.append(energy_forces(context_of(system, molecule.positions))[0])
            row["errors"][boundary] = energies[1] - energies[0] - row["all QM"]
        xtb = xtb_of(system)
        hosts = {xtb.getLinkAtomParameters(i)[1] for i in range(xtb.getNumLinkAtoms())}
        charges = [xtb.getEmbeddingChargeParameters(j) for j in range(xtb.getNumEmbeddingCharges())]
        row["host charges"] = [q._value for particle, q, _ in charges if particle in hosts]
        rows.append(row)
    return rows


def with_water(molecule: Molecule, names: tuple[str, str], donor: bool, distance: float) -> Molecule:
    """The molecule and a water in line with its bond between two atoms, the hydrogen bond H...O that long (nm)."""
    start, end = (molecule.positions[molecule.index(name)] for name in names)
    axis = (end - start) / np.linalg.norm(end - start)
    across = np.linalg.svd(axis[None])[2][1]
    half, length = np.radians(104.52 / 2), 0.09572
    if donor:
        oxygen = end + distance * axis
        directions = [np.cos(half) * axis + s * np.sin(half) * across for s in (1, -1)]
    else:
        oxygen = end + (distance + length) * axis
        directions = [-axis, -np.cos(2 * half) * axis + np.sin(2 * half) * across]
    water = app.Topology()
    residue = water.addResidue("HOH", water.addChain())
    atoms = [water.addAtom(n, app.Element.getBySymbol(n[0]), residue) for n in ("O", "H1", "H2")]
    for hydrogen in atoms[1:]:
        water.addBond(atoms[0], hydrogen)
    modeller = app.Modeller(molecule.topology, molecule.positions * unit.nanometer)
    modeller.add(water, np.array([oxygen, *(oxygen + length * d for d in directions)]) * unit.nanometer)
    system = openmm.XmlSerializer.clone(molecule.system)
    _append_water(system)
    x = np.array(modeller.positions.value_in_unit(unit.nanometer))
    return Molecule(modeller.topology, system, x, molecule.charge)


def _append_water(system: openmm.System) -> None:
    """Add a flexible TIP3P molecule to a System of the force field."""
    water = app.Topology()
    residue = water.addResidue("HOH", water.addChain())
    atoms = [water.addAtom(n, app.Element.getBySymbol(n[0]), residue) for n in ("O", "H1", "H2")]
    for hydrogen in atoms[1:]:
        water.addBond(atoms[0], hydrogen)
    added = force_field().createSystem(water, rigidWater=False, removeCMMotion=False)
    first = system.getNumParticles()
    forces = {type(f): f for f in system.getForces()}
    for i in range(3):
        system.addParticle(added.getParticleMass(i))
    for force in added.getForces():
        target = forces[type(force)]
        if isinstance(force, openmm.HarmonicBondForce):
            for i in range(force.getNumBonds()):
                a, b, *rest = force.getBondParameters(i)
                target.addBond(first + a, first + b, *rest)
        elif isinstance(force, openmm.HarmonicAngleForce):
            for i in range(force.getNumAngles()):
                a, b, c, *rest = force.getAngleParameters(i)
                target.addAngle(first + a, first + b, first + c, *rest)
        elif isinstance(force, openmm.NonbondedForce):
            for i in range(3):
                target.addParticle(*force.getParticleParameters(i))
            for i in range(force.getNumExceptions()):
                a, b, *rest = force.getExceptionParameters(i)
                target.addException(first + a, first + b, *rest)


def hydrogen_bonds(peptides: dict[str, Molecule]) -> list[dict]:
    """Interaction energies (kJ/mol) along each hydrogen bond."""
    rows = []
    for variant, without, names, donor in tqdm(HYDROGEN_BONDS, desc="hydrogen bonds"):
        peptide = deprotonated(peptides[variant], variant) if without else peptides[variant]
        complexes = [with_water(peptide, names, donor, d) for d in (*DISTANCES, FAR)]
        peptide_atoms = list(range(len(peptide.positions)))
        water = [len(peptide_atoms) + i for i in range(3)]
        side_chain = peptide.side_chain()
        regions = {"all QM": (peptide_atoms + water, "rcd"), "peptide QM, water MM": (peptide_atoms, "rcd")}
        for boundary in BOUNDARIES:
            regions[f"{boundary}, water QM"] = (side_chain + water, boundary)
            regions[f"{boundary}, water MM"] = (side_chain, boundary)
        curves = {}
        for name, (qm, boundary) in regions.items():
            context = context_of(make_system(complexes[0], qm, boundary)[0], complexes[0].positions)
            energies = np.array([energy_forces(context, c.positions)[0] for c in complexes])
            curves[name] = list(energies[:-1] - energies[-1])
        where = f"{variant} without {names[1]}..." if without else f"{variant} {names[1]}...O"
        rows.append({"bond": where, "distances": list(DISTANCES), "curves": curves})
    return rows


def geometry(peptides: dict[str, Molecule]) -> list[dict]:
    """The cut bond CA-CB (pm) and angles around it (degrees) at the minimum of each scheme."""
    rows = []
    for variant, molecule in tqdm(peptides.items(), desc="geometry"):
        bond = [molecule.index("CA"), molecule.index("CB")]
        last = next(n for n in ("CG", "SG") if n in [a.name for a in molecule.topology.atoms()])
        angles = [("N", "CA", "CB"), ("C", "CA", "CB"), ("CA", "CB", last), ("CA", "CB", "HB2")]
        minima = {"all QM": molecule.positions}
        for boundary in BOUNDARIES:
            system, _ = make_system(molecule, molecule.side_chain(), boundary)
            minima[boundary] = minimize(system, molecule.positions)
        row = {"residue": variant, "values": {}}
        for name, x in minima.items():
            values = {"CA-CB": 1e3 * float(np.linalg.norm(x[bond[0]] - x[bond[1]]))}
            for angle in angles:
                a, b, c = (x[molecule.index(n)] for n in angle)
                cosine = (a - b) @ (c - b) / np.linalg.norm(a - b) / np.linalg.norm(c - b)
                values["-".join(angle)] = float(np.degrees(np.arccos(cosine)))
            row["values"][name] = values
        rows.append(row)
    return rows


def bonds_from(molecule: Molecule, start: int) -> np.ndarray:
    """The number of bonds of each atom from one of them."""
    result = np.full(len(molecule.positions), len(molecule.positions))
    result[start] = 0
    for _ in result:
        for bond in molecule.topology.bonds():
            a, b = bond.atom1.index, bond.atom2.index
            result[a], result[b] = min(result[a], result[b] + 1), min(result[b], result[a] + 1)
    return result


def forces(peptides: dict[str, Molecule], snapshots: int) -> list[dict]:
    """Rms error (kJ/mol/nm, per component) of the forces on the QM atoms by the number of bonds from the MM host."""
    rows = []
    for variant, molecule in tqdm(peptides.items(), desc="forces"):
        integrator = openmm.LangevinMiddleIntegrator(300, 5, 0.0005)
        integrator.setRandomNumberSeed(1)
        reference = context_of(all_qm(molecule), molecule.positions, integrator)
        reference.setVelocitiesToTemperature(300, 1)
        integrator.step(200)
        frames = []
        for _ in range(snapshots):
            integrator.step(50)
            frames.append((positions_of(reference), energy_forces(reference)[1]))
        side_chain = molecule.side_chain()
        distances = bonds_from(molecule, molecule.index("CA"))[side_chain]
        row = {"residue": variant, "rms of all QM": float(np.sqrt(np.mean([f[side_chain] ** 2 for _, f in frames])))}
        for boundary in BOUNDARIES:
            context = context_of(make_system(molecule, side_chain, boundary)[0], molecule.positions)
            errors = np.array([energy_forces(context, x)[1][side_chain] - f[side_chain] for x, f in frames])
            row[boundary] = {
                int(d): float(np.sqrt((errors[:, distances == d] ** 2).mean())) for d in sorted(set(distances))
            }
        rows.append(row)
    return rows


def fixed_charges(peptide: Molecule, waters: int, snapshots: int) -> dict:
    """Force-field against Mulliken charges of a lysine's side chain in a droplet: spread of the energy error, force errors."""
    modeller = app.Modeller(peptide.topology, peptide.positions * unit.nanometer)
    make_droplet(modeller, waters)
    system = force_field().createSystem(modeller.topology, removeCMMotion=False)
    integrator = openmm.LangevinMiddleIntegrator(300, 5, 0.001)
    integrator.setRandomNumberSeed(1)
    start = np.array(modeller.positions.value_in_unit(unit.nanometer))
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName("CPU"), {"Threads": "1"})
    context.setPositions(start)
    openmm.LocalEnergyMinimizer.minimize(context, 10, 500)
    integrator.step(1000)
    frames = []
    for _ in range(snapshots):
        integrator.step(500)
        frames.append(positions_of(context))
    droplet = Molecule(modeller.topology, system, frames[0], peptide.charge)
    qm = droplet.side_chain()
    atoms = list(droplet.topology.atoms())
    oxygens = [a.index for a in atoms if a.residue.name == "HOH" and a.name == "O"]
    result = {"charges": {}, "errors": []}
    references = {}
    for kind in tqdm(("forcefield", "mulliken"), desc="fixed charges"):
        options = {"charges": kind, "positions": droplet.positions * unit.nanometer}
        full, _ = make_system(droplet, qm, **options)
        xtb = xtb_of(full)
        given = [xtb.getFixedCharge(a)._value for a in range(len(qm))]
        result["charges"][kind] = {atoms[i].name: q for i, q in zip(qm, given, strict=True)}
        whole = context_of(full, frames[0])
        references[kind] = [energy_forces(whole, x) for x in frames]
        for switching, cutoff in CUTOFFS:
            system, _ = make_system(
                droplet, qm, cutoff=cutoff, switchingDistance=switching, **options | {"charges": given}
            )
            short = context_of(system, frames[0])
            found = [energy_forces(short, x) for x in frames]
            differences = [(e - e0, f - f0) for (e, f), (e0, f0) in zip(found, references[kind], strict=True)]
            row = {"charges": kind, "cutoff": cutoff, "mean dE": float(np.mean([e for e, _ in differences]))}
            row["sd dE"] = float(np.std([e for e, _ in differences]))
            row["QM forces"] = float(np.sqrt(np.mean([f[qm] ** 2 for _, f in differences])))
            row["water forces"] = float(np.sqrt(np.mean([f[oxygens] ** 2 for _, f in differences])))
            result["errors"].append(row)
    pairs = zip(references["forcefield"], references["mulliken"], strict=True)
    result["largest difference without cutoff"] = max(abs(a[0] - b[0]) for a, b in pairs)
    return result


def report(results: dict) -> None:
    print("\nDeprotonation energy, error against all-QM (kJ/mol)")
    print(f"  {'':24s}{'all QM':>9s}{''.join(f'{b:>14s}' for b in BOUNDARIES)}   charges of MM hosts (e), warnings")
    for row in results["deprotonation"]:
        errors = "".join(f"{row['errors'][b]:14.1f}" for b in BOUNDARIES)
        hosts = " ".join(f"{q:+.3f}" for q in row["host charges"])
        print(
            f"  {row['residue'] + ' ' + row['cut']:24s}{row['all QM']:9.1f}{errors}   {hosts}, {len(row['warnings'])}"
        )
    for row in results["hydrogen bonds"]:
        print(f"\nInteraction with water, {row['bond']} (kJ/mol); H...O in nm")
        print(f"  {'':26s}{''.join(f'{d:8.2f}' for d in row['distances'])}")
        for name, curve in row["curves"].items():
            print(f"  {name:26s}{''.join(f'{e:8.1f}' for e in curve)}")
    for row in results["geometry"]:
        print(f"\nMinimum of {row['residue']}: CA-CB (pm), angles (degrees)")
        print(f"  {'':14s}{''.join(f'{n:>12s}' for n in row['values']['all QM'])}")
        for name, values in row["values"].items():
            print(f"  {name:14s}{''.join(f'{v:12.1f}' for v in values.values())}")
    for row in results["forces"]:
        print(
            f"\nForces on QM atoms of {row['residue']}, rms {row['rms of all QM']:.0f} kJ/mol/nm: error by bonds from the MM host"
        )
        print(f"  {'':14s}{''.join(f'{d:>8d}' for d in map(int, row['rcd']))}")
        for boundary in BOUNDARIES:
            print(f"  {boundary:14s}{''.join(f'{v:8.1f}' for v in row[boundary].values())}")
    data = results["fixed charges"]
    print(f"\nFixed charges; largest difference without cutoff {data['largest difference without cutoff']:.1e} kJ/mol")
    print("  charges     cutoff    mean dE      sd dE  QM forces  O forces (kJ/mol, kJ/mol/nm)")
    for row in data["errors"]:
        numbers = [row[k] for k in ("mean dE", "sd dE", "QM forces", "water forces")]
        print(f"  {row['charges']:12s}{row['cutoff']:6.1f}{''.join(f'{v:11.2f}' for v in numbers)}")


def plot(results: dict, path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(15, 4.5), layout="constrained")
    rows = results["deprotonation"]
    for n, boundary in enumerate(BOUNDARIES):
        axes[0].bar(np.arange(len(rows)) + 0.2 * (n - 1.5), [r["errors"][boundary] for r in rows], 0.2, label=boundary)
    axes[0].set_xticks(range(len(rows)), [f"{r['residue']}\n{r['cut']}" for r in rows], fontsize="small")
    axes[0].set_ylabel("error of the deprotonation energy, kJ/mol")
    bond = results["hydrogen bonds"][0]
    for name in ("all QM", "peptide QM, water MM", "rcd, water QM", "rcd, water MM"):
        axes[1].plot(bond["distances"], bond["curves"][name], "o-", label=name)
    axes[1].set_xlabel(f"{bond['bond']}, nm")
    axes[1].set_ylabel("interaction energy, kJ/mol")
    for row in results["forces"]:
        for boundary, style in (("rcd", "o-"), ("delete", "x--")):
            values = row[boundary]
            axes[2].plot([int(d) for d in values], list(values.values()), style, label=f"{row['residue']}, {boundary}")
    axes[2].set_xlabel("bonds from the MM host")
    axes[2].set_ylabel("rms error of QM forces, kJ/mol/nm")
    for ax in axes:
        ax.legend()
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--snapshots", type=int, default=10, help="for the errors of forces and of cutoffs (default: 10)"
    )
    parser.add_argument("--waters", type=int, default=300, help="in the droplet (default: 300)")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/boundary_energies.json"))
    args = parser.parse_args()
    args.output.parent.mkdir(parents=True, exist_ok=True)
    peptides = {variant: protonated_peptide(variant) for variant in ("ASH", "LYS", "HIP")}
    for molecule in tqdm(peptides.values(), desc="all-QM minima"):
        molecule.positions = minimize(all_qm(molecule), molecule.positions)
    stages = {
        "deprotonation": lambda: deprotonation(peptides),
        "hydrogen bonds": lambda: hydrogen_bonds(peptides),
        "geometry": lambda: geometry(peptides),
        "forces": lambda: forces(peptides, args.snapshots),
        "fixed charges": lambda: fixed_charges(peptides["LYS"], args.waters, args.snapshots),
    }
    results = {}
    for name, stage in stages.items():
        results[name] = stage()
        args.output.write_text(json.dumps(results, indent=2))
    report(results)
    plot(results, args.output.with_suffix(".png"))
    print(f"\nNumbers: {args.output}; plot: {args.output.with_suffix('.png')}")


if __name__ == "__main__":
    main()
