"""The CSV files of the reporters: a header, a line for each report, going on after a restart."""

from __future__ import annotations

import csv
import itertools
from pathlib import Path
from typing import TextIO

from openmm import app

from .restart import cutTable


def open_table(
    reporter, simulation, file: Path, columns: list[str], interval: int, append: bool, advice: str
) -> tuple[TextIO, list[list[str]]]:
    """Open a reporter's file for writing.

    Parameters
    ----------
    reporter : object
        whose file it is
    simulation : Simulation
    file : Path
    columns : list of str
    interval : int
        steps between lines
    append : bool
        go on with the file of an interrupted run; lines later than the current step are cut
    advice : str
        the last sentence of the error where the columns differ

    Returns
    -------
    (text file, list of list of str)
        the open file, with its header, and the lines that are kept

    Raises
    ------
    ValueError
        If the file to append to has other columns or lacks lines, or a CheckpointReporter comes before the reporter.
    """
    name, step = type(reporter).__name__, simulation.currentStep
    for other in itertools.takewhile(lambda r: r is not reporter, simulation.reporters):
        if isinstance(other, app.CheckpointReporter):
            raise ValueError(
                f"{name}: put it before the CheckpointReporter in simulation.reporters. Else a run that is killed between "
                "the two lacks a line when it goes on from the checkpoint."
            )
    header = "#" + ",".join(f'"{column}"' for column in columns)
    if not append or cutTable(file, step) == 0:
        out = open(file, "w", newline="")
        out.write(header + "\n")
        out.flush()
        return out, []
    with open(file, newline="") as kept:
        found = kept.readline().rstrip("\n")
        rows = list(csv.reader(kept))
    if found != header:
        raise ValueError(f"{name}: expected the columns {header} in '{file}', found {found}. {advice}")
    last = int(rows[-1][0])
    if last < step - step % interval:
        raise ValueError(
            f"{name}: expected lines up to step {step - step % interval} in '{file}', but the last is of step {last}. "
            "Restore an older checkpoint, or write to a new file."
        )
    return open(file, "a", newline=""), rows
