"""The libraries of the xTB engines: where Python packages have them, and what is found on this machine."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ENGINES = ("libxtb", "tblite")

_VARIABLES = {"libxtb": "OPENMMKSTEP_LIBXTB", "tblite": "OPENMMKSTEP_LIBTBLITE"}
_PACKAGES = {"libxtb": ("xtb", "../xtb.libs/libxtb*.so*"), "tblite": ("tblite", "_libtblite*.so")}
_PROBE = """
import importlib.util, sys
# The compiled module alone: quick, and free of what else the package imports.
engine, module, package_file = sys.argv[1:]
spec = importlib.util.spec_from_file_location("_openmmkstep", module)
bindings = importlib.util.module_from_spec(spec)
spec.loader.exec_module(bindings)
bindings.XtbForce_setPackageFile(engine, package_file)
print(*bindings.XtbForce_getEngineInfo(engine), sep="\\n")
"""


class EngineFile(NamedTuple):
    """The library of an engine that can be loaded.

    Attributes
    ----------
    version : str
        empty if the library does not tell
    file : str
        its path
    """

    version: str
    file: str


def find_engine(engine: str) -> Path | None:
    """The library of an engine in its PyPI package, or None if that is not installed. Imports nothing."""
    package, pattern = _PACKAGES[engine]
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    folder, _, name = pattern.rpartition("/")
    libraries = sorted((Path(spec.origin).parent / folder).resolve().glob(name))
    return libraries[0] if libraries else None


def probe_engine(engine: str, file: str | None = None) -> EngineFile | str:
    """Load an engine in a process of its own, which a library that does not fit may take down.

    Parameters
    ----------
    engine : str
        'libxtb' or 'tblite'
    file : str, optional
        the library; default: whichever is found

    Returns
    -------
    EngineFile, or the message that says why it cannot be loaded
    """
    from . import _openmmkstep as bindings

    environment = dict(os.environ)
    if file is not None:
        environment[_VARIABLES[engine]] = file
    command = [sys.executable, "-c", _PROBE, engine, bindings.__file__, str(find_engine(engine) or "")]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if result.returncode == 0:
        return EngineFile(*result.stdout.splitlines())
    if result.returncode < 0:
        return f"{engine}: loading {file or 'it'} ended the process with signal {-result.returncode}."
    return result.stderr.partition("OpenMMException: ")[2].strip() or result.stderr.strip()


def engine_lines() -> list[str]:
    """One line for each engine, and one for each other library of it that is found besides the one in use."""
    from . import _openmmkstep as bindings

    lines = []
    for engine in ENGINES:
        used = probe_engine(engine)
        if isinstance(used, str):
            lines.append(f"{engine}: not usable: {used}")
            continue
        found = {}
        for name, file in zip(*bindings.XtbForce_getEnginePlaces(engine), strict=True):
            # A soname has no slash, and only the loader knows where it is.
            if not file or ("/" in file and not Path(file).exists()):
                continue
            is_used = "/" in file and str(Path(file).resolve()) == used.file
            other = used if is_used else probe_engine(engine, file)
            if isinstance(other, EngineFile):
                found.setdefault(other.file, (name, other))
        name, _ = found.pop(used.file)
        lines.append(f"{_label(engine, used)}, from {name}")
        lines += [f"  not used: {_label(engine, other)}, from {name}" for name, other in found.values()]
    return lines


def _label(engine: str, library: EngineFile) -> str:
    return f"{engine} {library.version or 'of unknown version'}: {library.file}"
