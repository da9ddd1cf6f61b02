"""Where data come from: versions, the git checkout, the System."""

from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import subprocess

import openmm

_PACKAGES = ("openmmkstep", "openmm", "xtb", "torch", "numpy", "h5py")


def findProvenance(system: openmm.System | None = None) -> dict:
    """Find out what made something, as JSON can hold it.

    Parameters
    ----------
    system : System, optional
        adds the SHA-256 of its XML

    Returns
    -------
    dict
        ``versions`` of the packages (None where one is not installed), ``created`` (UTC), ``git`` (``commit`` and whether
        the checkout was ``modified``; None outside of one), and ``system`` if there is one
    """
    result = {
        "versions": {name: _version(name) for name in _PACKAGES},
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "git": _git_state(),
    }
    if system is not None:
        result["system"] = systemDigest(system)
    return result


def systemDigest(system: openmm.System) -> str:
    """SHA-256 of a System's XML."""
    return hashlib.sha256(openmm.XmlSerializer.serialize(system).encode()).hexdigest()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git_state() -> dict | None:
    """The commit of the working directory and whether anything in it differs."""

    def git(*arguments: str) -> str:
        command = ["git", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "modified": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None
