"""Whether openmm-torch works here: its one wheel goes with one torch only, and the wrong one can crash the process."""

from __future__ import annotations

import importlib
import importlib.util
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from .._load import _installed_version

_NEEDED = (
    "Version 1.5 needs torch 2.9, the CUDA build from PyPI, also where there is no GPU; in an environment of its own run: "
    "pip install openmmtorch==1.5 'torch>=2.9,<2.10' openmm==8.6.1"
)
_TRIED = {"openmmtorch": "1.5", "torch": "2.9", "openmm": "8.6"}
_KERNEL = "CalcTorchForce"


@dataclass(frozen=True)
class OpenMMTorchProbe:
    """What probeOpenMMTorch() found.

    Attributes
    ----------
    works : bool
        whether a TorchForce gave the right energy and forces
    versions : dict
        of the packages openmmtorch, torch and openmm; None for those that are not installed
    message : str
        what was found and, where it does not work, what is needed
    """

    works: bool
    versions: dict[str, str | None]
    message: str


def probeOpenMMTorch(timeout: float = 300) -> OpenMMTorchProbe:
    """Find out whether openmm-torch works with the torch and OpenMM that are installed.

    A TorchForce is evaluated in a process of its own, since versions that do not fit can end in a crash.

    Parameters
    ----------
    timeout : float
        seconds to wait for that process

    Returns
    -------
    OpenMMTorchProbe
    """
    versions = {name: _installed_version(name) for name in _TRIED}
    for name in ("openmmtorch", "torch"):
        if importlib.util.find_spec(name) is None:
            return OpenMMTorchProbe(False, versions, f"openmm-torch: {name} is not installed. {_NEEDED}")
    found = f"openmm-torch {versions['openmmtorch']} with torch {versions['torch']} and OpenMM {versions['openmm']}"
    trial = Path(__file__).with_name("_trial.py")
    try:
        process = subprocess.run(
            [sys.executable, str(trial)], capture_output=True, text=True, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired:
        return OpenMMTorchProbe(False, versions, f"{found} did not finish a trial within {timeout} s.")
    if process.returncode == 0 and process.stdout.split()[-1:] == ["works"]:
        return OpenMMTorchProbe(True, versions, f"{found} works.")
    # The exception may be followed by a stack trace of torch's.
    lines = re.findall(r"^[\w.]*(?:Error|Exception)\b.*", process.stderr, re.MULTILINE)
    reason = lines[-1] if lines else f"exit code {process.returncode}"
    if process.returncode < 0:
        reason = f"the process ended with {signal.Signals(-process.returncode).name}"
    return OpenMMTorchProbe(False, versions, f"{found} does not work ({reason}). {_NEEDED}")


def load_openmmtorch() -> ModuleType:
    """Import openmmtorch where it works, and have OpenMM load its plugin.

    OpenMM looks for plugins when it is imported; where torch was not imported by then, that of openmm-torch did not find
    torch's libraries, and is loaded now.

    Raises
    ------
    ImportError
        If it is not installed, or does not work with the installed torch.
    """
    versions = {name: _installed_version(name) or "" for name in _TRIED}
    if not all((versions[name] + ".").startswith(start + ".") for name, start in _TRIED.items()):
        probe = probeOpenMMTorch()
        if not probe.works:
            raise ImportError(probe.message)
    import openmm

    importlib.import_module("torch")
    openmmtorch = importlib.import_module("openmmtorch")
    reference = openmm.Platform.getPlatformByName("Reference")
    if not reference.supportsKernels([_KERNEL]):
        reasons = _load_plugins(Path(openmm.version.openmm_library_path) / "plugins")
        if not reference.supportsKernels([_KERNEL]):
            raise ImportError(
                f"OpenMM cannot load the plugin of openmm-torch ({'; '.join(reasons) or 'it was not found'}). {_NEEDED}"
            )
    return openmmtorch


def _load_plugins(folder: Path) -> list[str]:
    """Load openmm-torch's plugins; why some could not be (there is one for each platform, and not all platforms work)."""
    import openmm

    reasons = []
    for file in sorted(folder.glob("libOpenMMTorch*.so")):
        try:
            openmm.Platform.loadPluginLibrary(str(file))
        except openmm.OpenMMException as e:
            reasons.append(str(e))
    return reasons
