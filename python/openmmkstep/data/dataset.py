"""A folder of labelled frames that grows block by block and survives being killed."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np

from .frames import Frames
from .provenance import findProvenance
from .region import Region

FORMAT = "openmmkstep dataset"
VERSION = 1
DESCRIPTION = "dataset.json"
UNITS = {
    "positions": "nm",
    "energies": "kJ/mol",
    "forces": "kJ/mol/nm",
    "charges": "e",
    "potentials": "kJ/mol/e",
    "potentialGradients": "kJ/mol/e/nm",
    "temperatures": "K",
    "trajectories": "1",
}
_BLOCK = re.compile(r"block-(\d+)-(\d+)\.h5")
_COLUMNS = "columns"


class Dataset:
    """Labelled frames of one region on disk: ``NAME.kstep/`` with ``dataset.json`` and HDF5 blocks.

    A block is written to a temporary file, forced to the disk and renamed, so that a killed writer loses no more than
    the block in work. It holds the arrays of Frames, each with its unit, and a checksum of all of them that reading
    verifies. Several processes may append at the same time if each has a walker number of its own.

    Parameters
    ----------
    folder : str or path
        of a dataset that create() made

    Raises
    ------
    FileNotFoundError
        If it is no dataset.
    ImportError
        If h5py is missing.
    ValueError
        If its description is damaged or of another version.
    """

    def __init__(self, folder: str | os.PathLike):
        self.folder = Path(folder)
        load_h5py()
        path = self.folder / DESCRIPTION
        if not path.is_file():
            raise FileNotFoundError(
                f"'{self.folder}' is not a dataset: it has no {DESCRIPTION}. sampleFrames() and Dataset.create() make one."
            )
        try:
            fields = json.loads(path.read_text())
            if (fields["format"], fields["version"]) != (FORMAT, VERSION):
                raise ValueError(
                    f"expected the format {FORMAT!r}, version {VERSION}, found {fields['format']!r}, {fields['version']}"
                )
            self.region = Region.fromDict(fields["region"])
            self.provenance = fields["provenance"]
        except (KeyError, TypeError, ValueError) as e:
            raise ValueError(
                f"The description '{path}' cannot be used: {e}. The blocks beside it are not affected; take the file from a "
                "backup, or from another dataset of the same region."
            ) from e

    @classmethod
    def create(cls, folder: str | os.PathLike, region: Region, provenance: dict | None = None) -> Dataset:
        """Make a new, empty dataset.

        Parameters
        ----------
        folder : str or path
            the folder to make, by convention ``*.kstep``; it may exist if it is no dataset yet
        region : Region
            what the frames are of
        provenance : dict, optional
            what JSON can hold, added to the versions of the software and the state of the git checkout one is in

        Raises
        ------
        FileExistsError
            If there is a dataset already.
        """
        load_h5py()
        folder = Path(folder)
        if (folder / DESCRIPTION).exists():
            raise FileExistsError(
                f"'{folder}' is a dataset already; open it with Dataset('{folder}'), or use another name."
            )
        folder.mkdir(parents=True, exist_ok=True)
        fields = {
            "format": FORMAT,
            "version": VERSION,
            "region": region.toDict(),
            "units": UNITS,
            "provenance": {**findProvenance(), **(provenance or {})},
        }
        write_atomically(folder / DESCRIPTION, (json.dumps(fields, indent=1) + "\n").encode())
        return cls(folder)

    @classmethod
    def openOrCreate(cls, folder: str | os.PathLike, region: Region, makeProvenance: Callable[[], dict]) -> Dataset:
        """Open a dataset of a region, or make one if there is none.

        Parameters
        ----------
        folder : str or path
        region : Region
        makeProvenance : callable
            returns what create() takes, if it is needed

        Raises
        ------
        ValueError
            If there is one of another region.
        """
        if not (Path(folder) / DESCRIPTION).exists():
            return cls.create(folder, region, makeProvenance())
        dataset = cls(folder)
        if dataset.region.digest() != region.digest():
            raise ValueError(
                f"The dataset '{folder}' is of another region (other atoms, bonds, charge or method) than this System's "
                "QM region; use another folder. If only a reaction has changed the bonds, give the topology that the dataset "
                "was made with: bonds by distance are those of the start."
            )
        return dataset

    @property
    def nextWalker(self) -> int:
        """The number after those of all walkers that have written a block."""
        return max((int(_BLOCK.fullmatch(p.name)[1]) + 1 for p in self.blocks()), default=0)

    @property
    def dampingLengths(self) -> list[float] | None:
        """With which phi was computed, for each atom (nm); None for a region that sees no charges."""
        return self.provenance.get("dampingLengths") or None

    def blocks(self, walker: int | None = None) -> list[Path]:
        """The files of all blocks, or of one walker's, in order; temporary files of killed writers are not among them."""
        found = [(m, p) for p in self.folder.iterdir() if (m := _BLOCK.fullmatch(p.name))]
        keys = sorted((int(m[1]), int(m[2]), p) for m, p in found)
        return [p for w, _, p in keys if walker is None or w == walker]

    def append(self, frames: Frames, walker: int = 0, number: int | None = None, columns: dict | None = None) -> Path:
        """Write a block.

        Parameters
        ----------
        frames : Frames
            at least one, of this dataset's region
        walker : int
            who writes; no other process may use the same number
        number : int, optional
            of the block; by default the next one. An existing block of that number is replaced
        columns : dict of str to array of shape (frames,), optional
            more about each frame, such as the value of a collective variable; see readColumn()

        Returns
        -------
        Path
            the file that was written

        Raises
        ------
        ValueError
            If there are no frames, they have another number of atoms, or a column has another length.
        """
        if len(frames) == 0 or frames.positions.shape[1] != self.region.numAtoms:
            raise ValueError(
                f"Expected frames of {self.region.numAtoms} atoms, at least one, found {len(frames)} of "
                f"{frames.positions.shape[1]}."
            )
        arrays = {name: getattr(frames, name) for name in Frames.names()}
        for name, values in (columns or {}).items():
            values = np.asarray(values, dtype=float)
            if values.shape != (len(frames),) or not re.fullmatch(r"\w+", name):
                raise ValueError(
                    f"The column '{name}' must have a name of letters and digits and one number for each of the "
                    f"{len(frames)} frames, found the shape {values.shape}."
                )
            arrays[f"{_COLUMNS}/{name}"] = values
        if number is None:
            earlier = self.blocks(walker)
            number = int(_BLOCK.fullmatch(earlier[-1].name)[2]) + 1 if earlier else 0
        for leftover in self.folder.glob(f"block-{walker:04d}-*.h5.tmp"):
            leftover.unlink(missing_ok=True)
        path = self.folder / f"block-{walker:04d}-{number:05d}.h5"
        with AtomicFile(path) as temporary, load_h5py().File(temporary, "w") as file:
            for name, values in arrays.items():
                file.create_dataset(name, data=values).attrs["unit"] = UNITS.get(name, "")
            file.attrs.update(
                {"format": FORMAT, "version": VERSION, "frames": len(frames), "region": self.region.digest()}
            )
            file.attrs["checksum"] = checksum(arrays)
        return path

    def read(self, walkers=None) -> Frames:
        """Read all frames.

        Parameters
        ----------
        walkers : sequence of int, optional
            of these walkers only

        Raises
        ------
        ValueError
            If a block is corrupt, truncated or of another region; the message says which and what to do.
        """
        parts = [Frames(**{n: a[n] for n in Frames.names()}) for a in map(self._read_block, self._chosen(walkers))]
        return Frames.concatenate(parts) if parts else Frames.empty(self.region.numAtoms)

    def readColumn(self, name: str, walkers=None) -> np.ndarray:
        """Read a column that append() was given, in the order of read(); NaN for frames without it."""
        parts = []
        for arrays in map(self._read_block, self._chosen(walkers)):
            parts.append(arrays.get(f"{_COLUMNS}/{name}", np.full(len(arrays["energies"]), np.nan)))
        return np.concatenate(parts) if parts else np.empty(0)

    def check(self) -> list[str]:
        """Read everything and return a sentence for each block that cannot be used; an empty list if all is well."""
        faults = []
        for path in self.blocks():
            try:
                self._read_block(path)
            except ValueError as e:
                faults.append(str(e))
        return faults

    def __len__(self) -> int:
        """Number of frames, from the headers of the blocks."""
        return sum(count_frames(path) for path in self.blocks())

    def _chosen(self, walkers) -> list[Path]:
        if walkers is None:
            return self.blocks()
        return [path for w in sorted(walkers) for path in self.blocks(w)]

    def _read_block(self, path: Path) -> dict[str, np.ndarray]:
        """The arrays of a block whose region and checksum are right."""
        advice = "Delete this file; the other blocks are not affected."
        try:
            with load_h5py().File(path, "r") as file:
                header = dict(file.attrs)
                arrays = {name: file[name][()] for name in file if name != _COLUMNS}
                for name in file.get(_COLUMNS, ()):
                    arrays[f"{_COLUMNS}/{name}"] = file[_COLUMNS][name][()]
            found = (str(header["format"]), int(header["version"]))
            expected, region = header["checksum"], header["region"]
        except (OSError, KeyError, RuntimeError, TypeError, ValueError, AttributeError) as e:
            raise ValueError(f"The block '{path}' is corrupt or truncated ({e}). {advice}") from e
        if found != (FORMAT, VERSION):
            raise ValueError(
                f"The block '{path}' is {found[0]!r}, version {found[1]}, not {FORMAT!r}, {VERSION}. {advice}"
            )
        if checksum(arrays) != expected or not set(Frames.names()) <= set(arrays):
            raise ValueError(f"The block '{path}' is corrupt: its checksum is wrong. {advice}")
        if region != self.region.digest():
            raise ValueError(
                f"The block '{path}' is of another region (other atoms, bonds, charge or method) than the dataset. {advice}"
            )
        return arrays


class AtomicFile:
    """``with AtomicFile(path) as temporary``: what is written to temporary appears under path at once, or not at all."""

    def __init__(self, path: Path):
        self.path, self.temporary = path, path.with_name(path.name + ".tmp")

    def __enter__(self) -> Path:
        return self.temporary

    def __exit__(self, kind, value, trace) -> None:
        if kind is not None:
            self.temporary.unlink(missing_ok=True)
            return
        sync(self.temporary)
        os.replace(self.temporary, self.path)
        sync(self.path.parent)


def sync(path: Path) -> None:
    """Force a file's contents, or a folder's names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file that is whole whenever it is there."""
    with AtomicFile(path) as temporary:
        temporary.write_bytes(data)


def checksum(arrays: dict[str, np.ndarray]) -> str:
    """SHA-256 of names, shapes, types and contents."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        values = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {values.dtype.str} {values.shape};".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()


def count_frames(path: Path) -> int:
    """The number of frames that a block says it holds; 0 if it cannot be read."""
    try:
        with load_h5py().File(path, "r") as file:
            return int(file.attrs["frames"])
    except (OSError, KeyError, RuntimeError, TypeError, ValueError):
        return 0


def load_h5py() -> ModuleType:
    """Import h5py.

    Raises
    ------
    ImportError
        If it is missing; the message says what to do.
    """
    try:
        import h5py
    except ImportError as e:
        raise ImportError("Datasets need h5py; run 'pip install openmmkstep[train]', or 'pip install h5py'.") from e
    return h5py
