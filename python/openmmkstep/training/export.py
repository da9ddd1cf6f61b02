"""exportModel: a TorchScript model as machine code (an AOTInductor package), with the same contract."""

from __future__ import annotations

import dataclasses
import logging
import os
import platform
import shutil
import tempfile
import zipfile
from pathlib import Path

import numpy as np

from .._load import load_torch
from ..contract import CONTRACT_FILE, ModelContract, check_archive, is_native, readContract

FORMATS = ("torchscript", "aotinductor")
_TOLERANCE = 1e-6
"""Largest deviation from the TorchScript model, relative to the largest number of the same kind."""
_PROCESSOR = "x86-64-v3"
_KEPT = (".so", ".json", "archive_format", "archive_version", ".data/version", "byteorder")


def exportModel(
    model: str | os.PathLike, path: str | os.PathLike, format: str = "torchscript", *, positions=None
) -> None:
    """Write a model file in another form, with the same contract.

    'torchscript' is the portable form, for any machine. 'aotinductor' compiles the model, its gradient included, to
    machine code for processors with AVX2 (x86-64-v3), for the installed torch version and for one thread; it needs g++.
    The result is compared with the original before it is written. KStepModelForce loads such a package only where it is
    told that the code may run, see there.

    Parameters
    ----------
    model : str or path
        a TorchScript model file with contract, as saveModel() writes
    path : str or path
        the file to write, by convention ``*.pt`` or ``*.pt2``
    format : str
        'torchscript' or 'aotinductor'
    positions : array of shape (n, 3) or (frames, n, 3), optional
        geometries (nm) to trace and compare the model at. Default: four random ones, which do for models without
        branches that depend on the geometry

    Raises
    ------
    ImportError
        If torch is missing or of another version than openmmkstep was built with.
    OSError
        If a file cannot be read or written.
    ValueError
        For another format, a model that is no TorchScript potential, one that cannot be compiled, or one whose
        compiled form gives other results.
    """
    if format not in FORMATS:
        raise ValueError(f"Expected one of the formats {', '.join(FORMATS)}, found {format!r}.")
    torch = load_torch()
    data = Path(model).read_bytes()
    check_archive(data)
    contract = readContract(model)
    if is_native(data):
        raise ValueError(
            f"'{model}' is compiled already, and machine code cannot be turned into another form. Export the TorchScript file "
            "that it was made of."
        )
    if format == "torchscript":
        _replace(path, lambda target: target.write_bytes(data))
        return
    if contract.kind != "potential":
        raise ValueError(f"Only potentials can be compiled, '{model}' is of the kind {contract.kind!r}.")
    if platform.machine() not in ("x86_64", "AMD64"):
        raise ValueError(
            f"Packages are made for x86-64 processors, this is {platform.machine()}; use the TorchScript file."
        )
    module = torch.jit.load(os.fspath(model), map_location="cpu").eval()
    function = _explicit(torch, module, contract)
    examples = _examples(torch, contract, positions)
    outputs = ("energy", "forces") + (("charges",) if "phi" in contract.inputs else ())
    versions = {**contract.versions, "torch": torch.__version__, "processor": _PROCESSOR}
    text = dataclasses.replace(contract, outputs=outputs, versions=versions).toXml()
    with tempfile.TemporaryDirectory() as folder:
        package = _compile(torch, function, examples[0], Path(folder) / "model.pt2", model)
        _compare(torch, function, package, examples, outputs, model)
        _replace(path, lambda target: _add_contract(package, target, text))


def _explicit(torch, module, contract: ModelContract):
    """The model as a function that returns a tuple of energy, forces and, with phi, charges."""
    if "forces" in contract.outputs:
        return lambda *inputs: tuple(module(*inputs))

    def function(*inputs):
        inputs = [i.detach().requires_grad_(True) for i in inputs]
        energy = module(*inputs).sum()
        gradients = torch.autograd.grad(energy, inputs, allow_unused=True)
        gradients = [torch.zeros_like(i) if g is None else g for g, i in zip(gradients, inputs, strict=True)]
        return energy.detach(), -gradients[0], *gradients[1:]

    return function


def _examples(torch, contract: ModelContract, positions) -> list[tuple]:
    n = len(contract.species)
    rng = np.random.default_rng(7)
    if positions is None:
        # Atoms 0.15 nm apart on a lattice, shaken.
        side = int(np.ceil(n ** (1 / 3)))
        lattice = 0.15 * np.stack(np.meshgrid(*[np.arange(side)] * 3), axis=-1).reshape(-1, 3)[:n]
        frames = lattice + rng.normal(scale=0.015, size=(4, n, 3))
    else:
        frames = np.asarray(positions, dtype=float)
        frames = frames[None] if frames.ndim == 2 else frames
        if frames.ndim != 3 or frames.shape[1:] != (n, 3) or not len(frames):
            raise ValueError(f"Expected positions of shape ({n}, 3) or (frames, {n}, 3), found {frames.shape}.")
    phi = rng.normal(scale=50, size=(len(frames), n))  # kJ/mol/e
    return [
        tuple(torch.tensor(v, dtype=torch.float64) for v in ((x, p) if "phi" in contract.inputs else (x,)))
        for x, p in zip(frames, phi, strict=True)
    ]


def _compile(torch, function, example: tuple, package: Path, model) -> Path:
    from torch.fx.experimental.proxy_tensor import make_fx

    options = {
        "cpp.march": _PROCESSOR,
        "cpp.simdlen": 256,
        # Models this small are slower with more threads.
        "cpp.threads": 1,
        # What is compiled is one function: headers compiled beforehand and worker processes take longer than they save.
        "cpp_cache_precompile_headers": False,
        "compile_threads": 1,
    }
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        # torch.export does not take gradients; what make_fx has traced holds them as operations like any other.
        traced = make_fx(function)(*example)
        with torch.no_grad():
            exported = torch.export.export(traced, example)
        return Path(
            torch._inductor.aoti_compile_and_package(
                exported, package_path=os.fspath(package), inductor_configs=options
            )
        )
    except Exception as e:  # torch's compiler raises its own classes, Python's and those of the model
        lines = str(e).strip().splitlines() or [type(e).__name__]
        reason = " ... ".join(
            dict.fromkeys((lines[0], lines[-1]))
        )  # what torch says, and what a model that throws does
        raise ValueError(
            f"'{model}' cannot be compiled ({reason}). AOTInductor needs g++, shapes that do not depend on the geometry, and "
            "no branches on values; use the TorchScript file, which has no such limits."
        ) from e
    finally:
        torch.set_num_threads(threads)


def _compare(torch, function, package: Path, examples: list[tuple], names, model) -> None:
    compiled = load_package(torch, package)
    for example in examples:
        results = zip(names, compiled(*example), function(*example), strict=True)
        for name, found, expected in results:
            error = (found.reshape(-1) - expected.detach().reshape(-1)).abs().max().item()
            scale = expected.abs().max().item()
            if not error <= _TOLERANCE * max(scale, 1.0):
                raise ValueError(
                    f"The compiled form of '{model}' gives other {name}: they differ by {error:.3g} of {scale:.3g}. A branch that "
                    "depends on the geometry does that, or float32 where double precision is needed; use the TorchScript "
                    "file."
                )


def load_package(torch, package: Path):
    """An AOTInductor package as a function; runs its machine code."""
    # It warns that the package is for other processors than this one, which is what was asked for.
    logger = logging.getLogger("torch.export.pt2_archive._package")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        return torch._inductor.aoti_load_package(os.fspath(package), run_single_threaded=True)
    finally:
        logger.setLevel(level)


def _add_contract(package: Path, target: Path, text: str) -> None:
    """What KStepModelForce needs of a package, and the contract."""
    with zipfile.ZipFile(package) as old, zipfile.ZipFile(target, "w") as new:
        for item in old.infolist():
            if item.filename.endswith(_KEPT):
                new.writestr(zipfile.ZipInfo(item.filename), old.read(item))
        root = old.namelist()[0].split("/")[0]
        new.writestr(zipfile.ZipInfo(f"{root}/extra/{CONTRACT_FILE}"), text)


def _replace(path: str | os.PathLike, write) -> None:
    """Write a file beside the path and move it there, so that a failure leaves what was there before."""
    target = Path(path)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        new = Path(folder) / target.name
        write(new)
        shutil.move(new, target)
