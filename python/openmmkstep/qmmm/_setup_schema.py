"""The schema of set-up files in TOML."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

__all__ = ["SetupFile", "ValidationError"]


class _Section(BaseModel):
    # Strict: "1.0" is no number, 1.5 no integer. Unknown keys are mistakes.
    model_config = ConfigDict(extra="forbid", strict=True)


class SystemSection(_Section):
    """The force-field System: files, and createSystem()'s options (nm, dalton)."""

    topology: str
    positions: str | None = None
    forcefield: list[str] = []
    nonbondedMethod: Literal["NoCutoff", "PME", "Ewald", "LJPME"] = "PME"
    nonbondedCutoff: float | None = None
    switchDistance: float | None = None
    constraints: Literal["None", "HBonds", "AllBonds", "HAngles"] = "None"
    rigidWater: bool = True
    hydrogenMass: float | None = None
    ewaldErrorTolerance: float | None = None


class QMMMSection(_Section):
    """The QM region, and createQMMMSystem()'s options."""

    atoms: str | list[int] | None = None
    residues: str | list[str] | None = None
    method: str = "GFN2-xTB"
    charge: int = 0
    multiplicity: int = 1
    embedding: Literal["electrostatic", "mechanical", "none"] = "electrostatic"
    cutoff: float | None = None
    switchingDistance: float | None = None
    boundary: str = "rcd"
    charges: str | list[float] = "auto"
    engine: Literal["auto", "libxtb", "tblite"] = "auto"


class SetupFile(_Section):
    """The whole file."""

    system: SystemSection
    qmmm: QMMMSection
    sample: dict = {}
    train: dict = {}
    check: dict = {}
