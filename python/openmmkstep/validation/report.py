"""The result of a check: as text, as JSON, as files."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ._statistics import Estimate
from .coordinate import CoordinateReport
from .errors import ErrorReport
from .frequencies import FrequencyReport
from .sampling import SamplingReport
from .speed import SpeedReport
from .stability import StabilityReport
from .steps import StepReport

_JSON_VERSION = 1


@dataclass
class ModelReport:
    """What checkModel() found; parts that were not asked for or not possible are None.

    Attributes
    ----------
    title : str
        what was checked
    temperature : float
        K
    errors, gas, baseline : ErrorReport, optional
        along runs on the model; in the gas phase; of GFN-FF in the gas phase
    data : list of ErrorReport
        on the frames that were given, those with and without charges around them apart
    sampling : SamplingReport, optional
    stability : StabilityReport, optional
    frequencies : FrequencyReport, optional
    steps : StepReport, optional
        predicted drift
    speed : SpeedReport, optional
    coordinate : CoordinateReport, optional
        along the collective variable that was given
    verdict : list of str
    notes : list of str
        what could not be done and why
    seconds : dict of str to float
        wall time of each part
    """

    title: str
    temperature: float
    errors: ErrorReport | None = None
    data: list[ErrorReport] = field(default_factory=list)
    gas: ErrorReport | None = None
    baseline: ErrorReport | None = None
    sampling: SamplingReport | None = None
    stability: StabilityReport | None = None
    frequencies: FrequencyReport | None = None
    steps: StepReport | None = None
    speed: SpeedReport | None = None
    coordinate: CoordinateReport | None = None
    verdict: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    def tables(self) -> list[tuple[str, list[list[str]]]]:
        """All numbers as (title, rows of text); the first row of each has the names of the columns."""
        found = [
            _error_table([e for e in (self.errors, *self.data, self.gas, self.baseline) if e is not None]),
            *(_sampling_tables(self.sampling) if self.sampling else []),
            _coordinate_table(self.coordinate),
            _stability_table(self.stability),
            _frequency_table(self.frequencies),
            _step_table(self.steps),
            _speed_table(self.speed),
        ]
        return [t for t in found if t is not None]

    def __str__(self) -> str:
        lines = [self.title, "=" * len(self.title)]
        lines += [f"- {sentence}" for sentence in self.verdict + self.notes]
        for title, rows in self.tables():
            widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
            lines += ["", title]
            for row in rows:
                cells = [row[0].ljust(widths[0])] + [c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True)]
                lines.append("  " + "  ".join(cells).rstrip())
        return "\n".join(lines)

    def toJson(self) -> str:
        """Everything as JSON; an estimate is {"value", "error"}, and what is not finite is null."""
        return json.dumps({"format": "kstep-check", "version": _JSON_VERSION} | _plain(self), indent=1)

    def write(self, folder: str | os.PathLike) -> None:
        """Write check.json, plots (PNG) and check.html, which holds the plots, into a folder.

        Raises
        ------
        ImportError
            If matplotlib is missing.
        """
        from .page import writePage

        path = Path(folder)
        path.mkdir(parents=True, exist_ok=True)
        (path / "check.json").write_text(self.toJson())
        writePage(self, path)


def _plain(value):
    """As JSON can hold it."""
    if isinstance(value, Estimate):
        return {"value": _plain(value.value), "error": _plain(value.error)}
    if dataclasses.is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray | list | tuple):
        return [_plain(v) for v in (value.tolist() if isinstance(value, np.ndarray) else value)]
    if isinstance(value, float | np.floating):
        return float(f"{value:.8g}") if math.isfinite(value) else None
    if isinstance(value, np.integer | np.bool_):
        return value.item()
    return value


def _error_table(reports: list[ErrorReport]):
    if not reports:
        return None
    elements = list(dict.fromkeys(e for r in reports for e in r.byElement))
    header = ["", "frames", "forces", *elements, "sd(energy)", "charges / e", "near MM atoms"]
    nothing = Estimate(np.nan, np.nan)
    rows = [
        [
            r.source,
            str(r.frames),
            r.force.text(),
            *(r.byElement.get(e, nothing).text() for e in elements),
            r.energySd.text(),
            r.charges.text(2),
            r.nearAtoms.text(),
        ]
        for r in reports
    ]
    return "Errors: RMSE of force components (kJ/mol/nm), all and by element; energies (kJ/mol)", [header, *rows]


def _sampling_tables(report: SamplingReport):
    yield (
        f"D = U_corrector - U_model along runs on the model at {report.temperature:g} K (kJ/mol)",
        [
            ["", "value"],
            ["standard deviation", report.sd.text()],
            ["mean", report.mean.text(6)],
            ["skewness", report.skewness.text(2)],
            ["correlation time, ps", f"{report.correlationTime:.2g}"],
            ["values", str(report.samples)],
            ["effective share of frames (reweight)", report.effectiveFraction.text()],
            ["Pareto k-hat (reweight)", f"{report.paretoK:.2f}"],
        ],
    )
    if not report.acceptance:
        return
    rows = [["k, step", "first test", f"one of {report.acceptance[0].chances}", "flips/ps", "D/D0", "xTB calls/ps"]]
    for a in report.acceptance:
        numbers = (a.first, a.any, a.flipRate, a.diffusionRatio, a.callsPerPs)
        rows.append([f"{a.k}, {1e3 * a.baseStepSize:g} fs", *(n.text() for n in numbers)])
    yield "Predicted acceptance of metropolis", rows


def _stability_table(report: StabilityReport | None):
    if report is None:
        return None
    rows = [["", "value"], ["runs, ps in all", f"{report.runs}, {report.picoseconds:g}"]]
    rows.append(["runs that broke down", str(len(report.faults))])
    rows.append(["structures without corrector energy", str(report.failures)])
    if report.rangesKnown:
        rows.append(["share of time outside of the trained region", report.outside.text(2)])
        rows.append(["excursions", str(report.excursions)])
    rows.append(["model energy less its mean, kJ/mol", "{:.1f} to {:.1f}".format(*report.energyRange)])
    rows.append(["D less its mean, kJ/mol", "{:.2f} to {:.2f}".format(*report.differenceRange)])
    for pair, (low, high) in sorted(report.bondRanges.items()):
        rows.append([f"{pair} bonds, nm", f"{low:.4f} to {high:.4f}"])
    return "Stability on the model alone", rows


def _frequency_table(report: FrequencyReport | None):
    if report is None:
        return None
    rows = [["mode", "corrector", "model", "difference", "overlap"]]
    for i, (a, b, o) in enumerate(zip(report.corrector, report.model, report.overlaps, strict=True)):
        rows.append([str(i + 1), f"{a:.1f}", f"{b:.1f}", f"{b - a:+.1f}", f"{o:.3f}"])
    rows.append(["rms", "", "", f"{report.rms:.2f}", ""])
    rows.append(["largest", "", "", f"{report.largest:+.2f}", ""])
    return f"Harmonic frequencies, {report.environment} (1/cm; imaginary ones negative)", rows


def _step_table(report: StepReport | None):
    if report is None:
        return None
    rows = [["h, fs", *(row.kind for row in report.rows)]]
    for i, h in enumerate(report.rows[0].steps):
        rows.append([f"{1e3 * h:g}", *(row.drifts[i].text(2) for row in report.rows)])
    rows.append([f"largest h below {report.tolerance:g}", *(f"{1e3 * row.largest:g}" for row in report.rows)])
    mass = "" if report.hydrogenMass is None else f", hydrogens of {report.hydrogenMass:g} u"
    return f"Predicted drift of impulse schemes (kJ/mol/ps){mass}", rows


def _speed_table(report: SpeedReport | None):
    if report is None:
        return None
    c = report.costs
    rows = [["", "xTB calls/ps", "s/ps", "over plain 0.5 fs", "over plain 2 fs, 3 u"]]
    for r in report.rows:
        rows.append(
            [r.name, f"{r.callsPerPs:.1f}", f"{r.secondsPerPs:.3g}", f"{r.overPlain:.1f}", f"{r.overHeavyPlain:.1f}"]
        )
    times = ", ".join(
        f"{name} {Estimate(1e3 * t.value, 1e3 * t.error).text()} ms"
        for name, t in (("corrector", c.corrector), ("model", c.model), ("rest of a step", c.common))
    )
    return f"Predicted speed on this machine, {c.platform} platform ({times})", rows


def _coordinate_table(report: CoordinateReport | None):
    if report is None:
        return None
    rows = [["from", "to", "frames", "mean D", "sd(D)", "first test"]]
    for i, n in enumerate(report.frames):
        numbers = (report.mean[i].text(6), report.sd[i].text(), report.acceptance[i].text())
        rows.append([f"{report.edges[i]:.4g}", f"{report.edges[i + 1]:.4g}", str(n), *numbers])
    return "Along the collective variable (kJ/mol)", rows
