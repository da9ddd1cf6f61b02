"""Cutting a run's files back to the step of its checkpoint, so that it goes on without gaps and repetitions."""

from __future__ import annotations

import os
import struct
from pathlib import Path


def cutTable(file, step: int) -> int:
    """Take lines later than a step, and a last line that was torn, out of a CSV file with a column 'Step'.

    For the files of KStepReporter (which does this by itself) and StateDataReporter. The file is only shortened.

    Parameters
    ----------
    file : str or Path
        need not exist
    step : int
        the last step to keep

    Returns
    -------
    int
        the number of lines that are left, the header not counted; 0 if the file has no complete header (it is empty
        then), so that it can be passed as ``append=`` to StateDataReporter

    Raises
    ------
    ValueError
        If there is no column 'Step', or a line that is not the last one has none.
    """
    path = Path(file)
    if not path.exists():
        return 0
    content = path.read_bytes()
    end, lines = 0, 0
    column = None
    for number, line in enumerate(content.splitlines(keepends=True), 1):
        if not line.endswith(b"\n"):
            break
        cells = [cell.strip() for cell in line.decode().split(",")]
        if column is None:
            names = [cell.strip('#"') for cell in cells]
            if "Step" not in names:
                raise ValueError(f"Expected a column 'Step' in the first line of '{path}', found {names}.")
            column = names.index("Step")
        else:
            try:
                found = int(cells[column])
            except (ValueError, IndexError):
                raise ValueError(f"Line {number} of '{path}' has no step; repair or remove the file.") from None
            if found > step:
                break
            lines += 1
        end += len(line)
    if lines == 0:
        end = 0
    if end < len(content):
        os.truncate(path, end)
    return lines


def cutTrajectory(file, step: int) -> bool:
    """Take frames later than a step, and a torn frame, out of a DCD file that a DCDReporter wrote.

    Parameters
    ----------
    file : str or Path
        need not exist
    step : int
        the last step to keep: simulation.currentStep after loadCheckpoint()

    Returns
    -------
    bool
        whether frames are left: what DCDReporter's argument ``append`` must be

    Raises
    ------
    ValueError
        If the file is not one of OpenMM's DCD files, or ends before the step.
    """
    path = Path(file)
    if not path.exists():
        return False
    with open(path, "r+b") as dcd:
        header = dcd.read(276)
        if len(header) < 276:
            return False  # killed before the first frame: the header is written together with it
        if header[:8] != struct.pack("<i4s", 84, b"CORD") or struct.unpack_from("<2i", header, 88) != (84, 164):
            raise ValueError(f"'{path}' is not a DCD file as OpenMM writes it.")
        first, interval = struct.unpack_from("<2i", header, 12)
        box, atoms = struct.unpack_from("<i", header, 48)[0], struct.unpack_from("<i", header, 268)[0]
        frame = 3 * (4 * atoms + 8) + (56 if box else 0)
        wanted = 0 if step < first else (step - first) // interval + 1
        if wanted == 0:
            return False
        found = (path.stat().st_size - 276) // frame
        if found < wanted:
            raise ValueError(
                f"Expected {wanted} frames up to step {step} in '{path}', found {found}. The checkpoint is newer than the "
                "trajectory: restore an older checkpoint, or start a new trajectory file."
            )
        # Frames first: a crash in between leaves a file with a wrong count, which this function mends.
        dcd.truncate(276 + wanted * frame)
        dcd.seek(8)
        dcd.write(struct.pack("<i", wanted))
        dcd.seek(20)
        dcd.write(struct.pack("<i", first + (wanted - 1) * interval))
    return True
