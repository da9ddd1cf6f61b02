"""A bias in a TOML file."""

from __future__ import annotations

import dataclasses
import os
import tomllib
from pathlib import Path

from .bias import CollectiveVariable, Metadynamics, UmbrellaWindows

_KINDS = {"umbrella": UmbrellaWindows, "metadynamics": Metadynamics}


def readBias(path: str | os.PathLike) -> UmbrellaWindows | Metadynamics:
    """Read a bias for sampleFrames().

    The file names a collective variable and one of two biases, whose keys are the attributes of the class; particles
    count from 0, units are nm, rad and kJ/mol:

        [cv]
        kind = "distanceDifference"
        particles = [4, 9, 9, 12]
        [umbrella]
        centres = [-0.15, -0.1, -0.05, 0.0, 0.05, 0.1, 0.15]
        spring = 20000

    or ``[metadynamics]`` with minimum, maximum, width and so on.

    Raises
    ------
    ValueError
        If the file is not like that.
    """
    try:
        content = tomllib.loads(Path(path).read_text())
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise ValueError(f"The bias '{path}' cannot be read: {e}.") from e
    kinds = [name for name in content if name in _KINDS]
    if len(kinds) != 1 or set(content) != {"cv", kinds[0]}:
        raise ValueError(
            f"The bias '{path}' must have the sections [cv] and one of {sorted(_KINDS)}, found {sorted(content)}."
        )
    cv = CollectiveVariable(**_fields(content["cv"], CollectiveVariable, "cv", path))
    return _KINDS[kinds[0]](cv=cv, **_fields(content[kinds[0]], _KINDS[kinds[0]], kinds[0], path))


def _fields(section: dict, kind: type, name: str, path) -> dict:
    fields = {f.name: f for f in dataclasses.fields(kind) if f.name != "cv"}
    needed = {n for n, f in fields.items() if f.default is dataclasses.MISSING}
    if not isinstance(section, dict) or not needed <= set(section) <= set(fields):
        raise ValueError(
            f"The section [{name}] of '{path}' has the keys {sorted(fields)}, {sorted(needed)} are needed."
        )
    return {n: tuple(v) if isinstance(v, list) else v for n, v in section.items()}
