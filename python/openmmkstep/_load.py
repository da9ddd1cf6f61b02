"""Loading the compiled parts, with one readable sentence where something does not fit."""

from __future__ import annotations

import importlib
import importlib.metadata
import re
from types import ModuleType

from ._engines import ENGINES, engine_lines, find_engine

_PLUGIN_FILE = "libOpenMMKStepReference.so"


def _installed_version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _minor(version: str) -> str:
    return ".".join(version.split("+")[0].split(".")[:2])


def load_bindings() -> ModuleType:
    """Import OpenMM, the compiled module and the platform plugin, in this order.

    Raises
    ------
    ImportError
        If OpenMM is missing or of another version than the one openmmkstep was built with, or if a library or the
        plugin could not be loaded. The message says what was expected, what was found and what to do.
    """
    try:
        import openmm
    except ImportError as e:
        raise ImportError(
            f"openmmkstep needs OpenMM, which cannot be imported ({e}); run 'pip install openmm==8.6.1'."
        ) from e
    try:
        bindings = importlib.import_module("openmmkstep._openmmkstep")
    except ImportError as e:
        raise ImportError(
            f"The compiled part of openmmkstep cannot be loaded with OpenMM {_installed_version('openmm')} ({e}); "
            "reinstall openmmkstep in this environment, so that it is built for the OpenMM that is installed."
        ) from e
    found = _installed_version("openmm")
    if bindings.openmmVersion != "unknown" and found is not None and _minor(found) != _minor(bindings.openmmVersion):
        raise ImportError(
            f"openmmkstep was built for OpenMM {bindings.openmmVersion} but OpenMM {found} is installed; "
            f"run 'pip install openmm=={bindings.openmmVersion}' or rebuild openmmkstep."
        )
    # Where a platform of OpenMM's cannot be loaded, our kernels for it cannot either, and need not be.
    failures = [
        f for f in openmm.Platform.getPluginLoadFailures() if "KStep" in f and not re.search("KStep(OpenCL|CUDA)", f)
    ]
    if failures:
        raise ImportError(
            f"OpenMM {found} could not load the plugin of openmmkstep ({'; '.join(failures)}); reinstall openmmkstep."
        )
    if not openmm.Platform.getPlatformByName("Reference").supportsKernels(["IntegrateKStepStep"]):
        raise ImportError(
            f"OpenMM did not load {_PLUGIN_FILE}; it looks for plugins in {openmm.version.openmm_library_path}/plugins, "
            "or where the environment variable OPENMM_PLUGIN_DIR says. Reinstall openmmkstep next to this OpenMM."
        )
    for engine in ENGINES:
        path = find_engine(engine)
        if path is not None:
            bindings.XtbForce_setPackageFile(engine, str(path))
    return bindings


def load_torch() -> ModuleType:
    """Import torch and check that it is the version that openmmkstep was built with.

    Raises
    ------
    ImportError
        If torch is missing or its minor version differs (torch's C++ interface changes with every minor version).
    """
    expected = importlib.import_module("openmmkstep._openmmkstep").torchVersion
    try:
        import torch
    except ImportError as e:
        raise ImportError(
            f"k-step models need torch, which cannot be imported ({e}); run 'pip install torch=={expected}'."
        ) from e
    if _minor(torch.__version__) != _minor(expected):
        raise ImportError(
            f"openmmkstep was built with torch {expected} but torch {torch.__version__} is installed; "
            f"run 'pip install torch=={expected}' or rebuild openmmkstep."
        )
    return torch


def check_installation() -> str:
    """Describe what is installed: a line each for OpenMM with its platforms, torch, the xTB engines and openmm-torch."""
    import openmm

    from .torchforce import probeOpenMMTorch

    bindings = load_bindings()
    platforms = [openmm.Platform.getPlatform(i) for i in range(openmm.Platform.getNumPlatforms())]
    names = [p.getName() for p in platforms if p.supportsKernels(["IntegrateKStepStep"])]
    try:
        torch = f"torch {load_torch().__version__}"
    except ImportError as e:
        torch = f"torch: not usable: {e}"
    return "\n".join(
        [
            f"openmmkstep {bindings.version}",
            f"OpenMM {_installed_version('openmm')} (built for {bindings.openmmVersion}); KStepIntegrator runs on: {', '.join(names)}",
            torch,
            *engine_lines(),
            probeOpenMMTorch().message,
        ]
    )
