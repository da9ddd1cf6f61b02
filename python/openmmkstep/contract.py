"""The k-step model contract: what a model file says about itself, and the file that carries it.

A model is a TorchScript file (a ZIP archive) with the contract as the extra file ``kstep_contract.xml``. The contract is
XML that OpenMM's XmlSerializer can read, so that the C++ code needs no parser of its own. Reading it runs nothing of the
model's code.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import math
import os
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass, field

from ._archive import Archive
from ._load import load_torch

CONTRACT_FILE = "kstep_contract.xml"
CONTRACT_VERSION = 1
_MAX_CONTRACT_BYTES = 1_000_000
_UNITS = {"length": "nm", "energy": "kJ/mol", "charge": "e", "time": "ps"}
_INPUTS = {
    "potential": [("positions",), ("positions", "phi")],
    "jump": [("positions", "velocities"), ("positions", "velocities", "forces")],
}
_OUTPUTS = {
    "potential": [("energy",), ("energy", "forces"), ("energy", "forces", "charges")],
    "jump": [("displacements", "velocity_changes")],
}
_STRUCTURE = {
    "Bond": ("atom1", "atom2"),
    "Handedness": ("center", "atom1", "atom2", "atom3", "sign"),
    "Side": ("atom1", "atom2", "atom3", "atom4", "sign"),
}
_FIELDS = {"Bond": "bonds", "Handedness": "handedness", "Side": "sides"}


@dataclass
class ModelContract:
    """What a k-step model is, takes and returns.

    Units are nm, kJ/mol, e, ps, and kJ/mol/e for the potential. A *potential* is called as ``forward(positions)`` or
    ``forward(positions, phi)`` with float64 tensors of shapes (n, 3) and (n,), and returns the energy (a scalar), or
    (energy, forces) or (energy, forces, charges) with forces = -dE/dpositions at constant phi (n, 3) and charges =
    dE/dphi (n,). phi_a = k_e sum_j Q_j / sqrt(R_aj^2 + d_a^2) is the potential of the embedding charges Q_j at atom a.

    Parameters
    ----------
    species : sequence of int
        atomic numbers of the atoms, in order
    kind : str
        'potential' or 'jump'
    inputs, outputs : sequence of str
        ('positions',) or ('positions', 'phi'); ('energy',), ('energy', 'forces') or ('energy', 'forces', 'charges')
    dampingLengths : sequence of float, optional
        d_a for each atom (nm), required with phi input
    method : str
        level of theory the model was trained on, such as 'GFN2-xTB'
    charge, multiplicity : int
        of the molecule
    hardnessElement : int, optional
        element of the embedding charges in training (see XtbForce.addEmbeddingCharge()), required with phi input
    k, dt : int, float, optional
        base steps covered by a jump model and its base step (ps); None for potentials
    cutoff : float, optional
        distance (nm) beyond which atoms do not interact; None if there is none
    trainingTemperatures : sequence of float
        temperatures (K) of the training data
    distanceRanges : sequence of (int, int, float, float)
        (atom1, atom2, minimum, maximum): the distances (nm) of pairs of atoms that the model was trained for, its region
        of validity. KStepIntegrator does not use the model outside of it; empty if it is not known
    bonds : sequence of (int, int)
        pairs of bonded atoms. With them matchModel() finds the model's atoms in a system of another order; without, the
        order must be the same
    handedness : sequence of (int, int, int, int, int)
        (centre, a, b, c, sign): the sign of (x_a - x_centre) . [(x_b - x_centre) x (x_c - x_centre)], which is the same
        in all training data, see findHandedness()
    sides : sequence of (int, int, int, int, int)
        (a, b, c, d, sign): whether a and d are on the same side (1) of the bond b-c in all training data, or on opposite
        ones (-1), see findSides()
    versions : dict
        versions of the software that made the model

    Raises
    ------
    ValueError
        If the fields contradict each other; the message says what was expected.
    """

    species: Sequence[int]
    kind: str = "potential"
    inputs: Sequence[str] = ("positions",)
    outputs: Sequence[str] = ("energy",)
    dampingLengths: Sequence[float] | None = None
    method: str = "GFN2-xTB"
    charge: int = 0
    multiplicity: int = 1
    hardnessElement: int | None = None
    k: int | None = None
    dt: float | None = None
    cutoff: float | None = None
    trainingTemperatures: Sequence[float] = ()
    distanceRanges: Sequence[tuple[int, int, float, float]] = ()
    bonds: Sequence[tuple[int, int]] = ()
    handedness: Sequence[tuple[int, int, int, int, int]] = ()
    sides: Sequence[tuple[int, int, int, int, int]] = ()
    versions: dict[str, str] = field(default_factory=dict)

    def __post_init__(self):
        self.species = tuple(int(n) for n in self.species)
        self.inputs, self.outputs = tuple(self.inputs), tuple(self.outputs)
        self.trainingTemperatures = tuple(float(t) for t in self.trainingTemperatures)
        self.distanceRanges = tuple(
            (int(a), int(b), float(low), float(high)) for a, b, low, high in self.distanceRanges
        )
        for a, b, low, high in self.distanceRanges:
            if not (0 <= a < len(self.species) and 0 <= b < len(self.species) and a != b and 0 <= low < high):
                raise ValueError(
                    f"A distance range is (atom1, atom2, minimum, maximum in nm) of two of the {len(self.species)} atoms, "
                    f"found {(a, b, low, high)}."
                )
        self._check_structure()
        if self.dampingLengths is not None:
            self.dampingLengths = tuple(float(d) for d in self.dampingLengths)
        if self.kind not in _INPUTS:
            raise ValueError(f"The kind of a model must be 'potential' or 'jump', found {self.kind!r}.")
        for name, allowed in (("inputs", _INPUTS[self.kind]), ("outputs", _OUTPUTS[self.kind])):
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"The {name} of a {self.kind} model must be one of {allowed}, found {getattr(self, name)}."
                )
        if not self.species or not all(1 <= n <= 86 for n in self.species):
            raise ValueError("A contract needs the atomic number (1-86) of every atom.")
        if "phi" in self.inputs:
            if (
                self.dampingLengths is None
                or len(self.dampingLengths) != len(self.species)
                or min(self.dampingLengths) <= 0
            ):
                raise ValueError(
                    f"A model with phi input needs a positive damping length for each of its {len(self.species)} atoms."
                )
            if self.hardnessElement is None:
                raise ValueError(
                    "A model with phi input needs the hardness element of the charges it was trained with."
                )
            if self.outputs == ("energy", "forces"):
                raise ValueError("A model with phi input that returns forces must return charges (dE/dphi) too.")
        elif "charges" in self.outputs:
            raise ValueError("Charges are dE/dphi: only a model with phi input can return them.")
        if self.kind == "jump" and (self.k is None or self.dt is None or self.k < 1 or not 0 < self.dt < math.inf):
            raise ValueError(
                f"A jump model must declare its k and dt: base steps, at least 1, and ps, positive; found {self.k} and {self.dt}."
            )

    def _check_structure(self) -> None:
        atoms = range(len(self.species))
        self.bonds = tuple(sorted({(min(int(a), int(b)), max(int(a), int(b))) for a, b in self.bonds}))
        if not all(a in atoms and b in atoms and a != b for a, b in self.bonds):
            raise ValueError(f"A bond is a pair of the {len(atoms)} atoms, found {self.bonds}.")
        for name in ("handedness", "sides"):
            marks = tuple(tuple(int(i) for i in mark) for mark in getattr(self, name))
            setattr(self, name, marks)
            for mark in marks:
                if len(mark) != 5 or len({i for i in mark[:4] if i in atoms}) != 4 or mark[4] not in (1, -1):
                    raise ValueError(
                        f"An entry of {name} is four different ones of the {len(atoms)} atoms and a sign, found {mark}."
                    )
            if marks and not self.bonds:
                raise ValueError(f"A contract with {name} needs bonds: without them atoms cannot be told apart.")

    def toXml(self) -> str:
        """Write the contract as XML."""
        root = ET.Element("KStepContract", type="KStepModelContract", version=str(CONTRACT_VERSION), kind=self.kind)
        ET.SubElement(root, "Units", _UNITS)
        for tag, names in (("Input", self.inputs), ("Output", self.outputs)):
            parent = ET.SubElement(root, tag + "s")
            for name in names:
                ET.SubElement(parent, tag, name=name)
        atoms = ET.SubElement(root, "Atoms")
        for i, number in enumerate(self.species):
            atom = ET.SubElement(atoms, "Atom", number=str(number))
            if self.dampingLengths is not None:
                atom.set("dampingLength", repr(self.dampingLengths[i]))
        theory = {"method": self.method, "charge": str(self.charge), "multiplicity": str(self.multiplicity)}
        if self.hardnessElement is not None:
            theory["hardnessElement"] = str(self.hardnessElement)
        ET.SubElement(root, "LevelOfTheory", theory)
        if self.kind == "jump":
            ET.SubElement(root, "Jump", k=str(self.k), dt=repr(float(self.dt)))
        if self.cutoff is not None:
            ET.SubElement(root, "Cutoff", distance=repr(float(self.cutoff)))
        if self.distanceRanges:
            validity = ET.SubElement(root, "Validity")
            for a, b, low, high in self.distanceRanges:
                ET.SubElement(validity, "Distance", atom1=str(a), atom2=str(b), min=repr(low), max=repr(high))
        if self.bonds:
            structure = ET.SubElement(root, "Structure")
            for tag, keys in _STRUCTURE.items():
                for values in getattr(self, _FIELDS[tag]):
                    ET.SubElement(structure, tag, {k: str(v) for k, v in zip(keys, values, strict=True)})
        training = ET.SubElement(root, "Training")
        for temperature in self.trainingTemperatures:
            ET.SubElement(training, "Temperature", value=repr(temperature))
        versions = ET.SubElement(root, "Versions")
        for name, version in self.versions.items():
            ET.SubElement(versions, "Software", name=name, version=str(version))
        ET.indent(root)
        return ET.tostring(root, encoding="unicode")

    @classmethod
    def fromXml(cls, text: str) -> ModelContract:
        """Read a contract.

        Raises
        ------
        ValueError
            If the text is malformed, of an unknown version or in other units, or contradicts itself.
        """
        try:
            root = ET.fromstring(text)
            if root.get("type") != "KStepModelContract" or root.get("version") != str(CONTRACT_VERSION):
                raise ValueError(
                    f"expected a KStepModelContract of version {CONTRACT_VERSION}, found {root.get('type')} {root.get('version')}"
                )
            if root.find("Units").attrib != _UNITS:
                raise ValueError(f"expected the units {_UNITS}, found {root.find('Units').attrib}")
            atoms, theory, jump, cutoff = (root.find(tag) for tag in ("Atoms", "LevelOfTheory", "Jump", "Cutoff"))
            inputs = [e.get("name") for e in root.find("Inputs")]
            hardness = theory.get("hardnessElement")
            return cls(
                species=[int(a.get("number")) for a in atoms],
                kind=root.get("kind"),
                inputs=inputs,
                outputs=[e.get("name") for e in root.find("Outputs")],
                dampingLengths=[float(a.get("dampingLength")) for a in atoms] if "phi" in inputs else None,
                method=theory.get("method"),
                charge=int(theory.get("charge")),
                multiplicity=int(theory.get("multiplicity")),
                hardnessElement=None if hardness is None else int(hardness),
                k=None if jump is None else int(jump.get("k")),
                dt=None if jump is None else float(jump.get("dt")),
                cutoff=None if cutoff is None else float(cutoff.get("distance")),
                trainingTemperatures=[float(t.get("value")) for t in root.find("Training")],
                distanceRanges=[
                    (int(r.get("atom1")), int(r.get("atom2")), float(r.get("min")), float(r.get("max")))
                    for r in root.findall("Validity/Distance")
                ],
                **{
                    _FIELDS[tag]: [[int(e.get(key)) for key in keys] for e in root.findall(f"Structure/{tag}")]
                    for tag, keys in _STRUCTURE.items()
                },
                versions={s.get("name"): s.get("version") for s in root.find("Versions")},
            )
        except (ET.ParseError, AttributeError, TypeError, ValueError) as e:
            raise ValueError(f"The contract in the model file cannot be used: {e}") from e


def saveModel(module, path: str | os.PathLike, contract: ModelContract) -> None:
    """Write a k-step model: TorchScript with its contract.

    Parameters
    ----------
    module : torch.nn.Module or torch.jit.ScriptModule
        the model; a plain module is scripted. Its ``forward`` takes what the contract's inputs say
    path : str or path
        the file to write, by convention ``*.pt``
    contract : ModelContract
        versions of torch and openmmkstep are added to it where missing

    Raises
    ------
    ValueError
        If ``forward`` takes another number of arguments than the contract has inputs.
    """
    torch = load_torch()
    if not isinstance(module, torch.jit.ScriptModule):
        module = torch.jit.script(module)
    found = len(module.forward.schema.arguments) - 1
    if found != len(contract.inputs):
        raise ValueError(f"The contract's inputs are {contract.inputs}, but forward() takes {found} argument(s).")
    versions = {
        "torch": torch.__version__,
        "openmmkstep": importlib.metadata.version("openmmkstep"),
        **contract.versions,
    }
    text = dataclasses.replace(contract, versions=versions).toXml()
    torch.jit.save(module, os.fspath(path), _extra_files={CONTRACT_FILE: text})


def readContract(path: str | os.PathLike | bytes) -> ModelContract:
    """Read the contract of a model file, or of its content, without running any of its code; torch is not needed.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is not a TorchScript file, is truncated, or carries no contract or one that cannot be used.
    """
    if isinstance(path, bytes):
        return ModelContract.fromXml(_read_archive(path, "model"))
    with open(path, "rb") as file:
        return ModelContract.fromXml(_read_archive(file.read(), path))


def check_archive(data: bytes) -> None:
    """Check a model file's bytes before torch, which trusts what it reads and can crash on it, loads them.

    Raises
    ------
    ValueError
        If the bytes are not a model file, or truncated, corrupt or tampered with. Whether there is a contract is not
        checked.
    """
    Archive(data, "The model").check_content()


def is_native(data: bytes) -> bool:
    """Whether the bytes of a model file are those of an AOTInductor package, which holds machine code."""
    return Archive(data, "The model").isNative


def allow_native(data: bytes, allowed: bool, what: str) -> bool:
    """Whether the bytes of a model are machine code that may run: the caller says so, or the environment does.

    Raises
    ------
    ValueError
        If they are, and may not.
    """
    if not is_native(data):
        return False
    if not allowed and os.environ.get("OPENMMKSTEP_ALLOW_NATIVE_CODE") != "1":
        raise ValueError(
            f"{what} is machine code, which runs with all your rights: say allowNativeCode=True if you trust whoever made "
            "it, or use the TorchScript file."
        )
    return True


def _read_archive(data: bytes, path) -> str:
    archive = Archive(data, path)
    info = archive.entries.get(f"extra/{CONTRACT_FILE}")
    if info is None:
        raise ValueError(
            f"The model file '{path}' carries no contract; write models with openmmkstep.saveModel(), which adds one."
        )
    if info.file_size > _MAX_CONTRACT_BYTES:
        raise ValueError(
            f"The contract in '{path}' is larger than {_MAX_CONTRACT_BYTES} bytes; the file is not what saveModel() wrote."
        )
    return archive.read(f"extra/{CONTRACT_FILE}").decode(errors="replace")
