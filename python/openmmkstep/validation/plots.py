"""The plots of a check."""

from __future__ import annotations

import numpy as np

from .report import ModelReport

_COLOURS = ("#1f5fa8", "#c8553d", "#4a8f5a", "#8a6bb0")


def makePlots(report: ModelReport) -> dict:
    """Figures (matplotlib) by the name of their file, for the parts that the report has.

    Raises
    ------
    ImportError
        If matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as e:
        raise ImportError("The plots of a check need matplotlib; install it with 'pip install matplotlib'.") from e
    figures = {}

    def start(name: str, xlabel: str, ylabel: str):
        figure = Figure(figsize=(5.2, 3.7), layout="constrained")
        axes = figure.subplots()
        axes.set(xlabel=xlabel, ylabel=ylabel)
        axes.spines[["top", "right"]].set_visible(False)
        figures[name] = figure
        return axes

    drawings = (
        (report.errors, _forces),
        (report.errors, _elements),
        (report.sampling, _differences),
        (report.sampling, _acceptance),
        (report.frequencies, _frequencies),
        (report.steps, _drift),
        (report.coordinate, _coordinate),
    )
    for part, draw in drawings:
        if part is not None:
            draw(report, start)
    return figures


def _forces(report: ModelReport, start) -> None:
    axes = start("forces", "corrector, kJ/mol/nm", "model, kJ/mol/nm")
    pairs = report.errors.scatter
    if len(pairs):
        ends = [pairs.min(), pairs.max()]
        axes.plot(ends, ends, color="0.6", linewidth=0.8)
        axes.plot(*pairs.T, ".", markersize=2, color=_COLOURS[0])
    axes.set_title(f"Force components on QM atoms, RMSE {report.errors.force}")


def _elements(report: ModelReport, start) -> None:
    axes = start("elements", "", "force RMSE, kJ/mol/nm")
    reports = [r for r in (report.errors, report.gas, report.baseline) if r is not None]
    for i, r in enumerate(reports):
        place = np.arange(len(r.byElement)) + 0.8 * i / len(reports)
        values = list(r.byElement.values())
        axes.bar(
            place,
            [v.value for v in values],
            0.8 / len(reports),
            yerr=[0 if np.isnan(v.error) else v.error for v in values],
            color=_COLOURS[i],
            label=r.source,
        )
        axes.set_xticks(np.arange(len(r.byElement)) + 0.4 - 0.4 / len(reports), list(r.byElement))
    if any(v.value > 0 for r in reports for v in r.byElement.values()):
        axes.set_yscale("log")
    axes.legend(fontsize=7)
    axes.set_title("Force error by element")


def _differences(report: ModelReport, start) -> None:
    sampling = report.sampling
    values = np.concatenate(sampling.D)
    values = values[np.isfinite(values)]
    axes = start("d_histogram", "D - <D>, kJ/mol", "density")
    axes.hist(values, bins=60, density=True, color=_COLOURS[0])
    spread = values.std()
    if spread > 0:
        x = np.linspace(values.min(), values.max(), 200)
        normal = np.exp(-0.5 * (x / spread) ** 2) / np.sqrt(2 * np.pi) / spread
        axes.plot(x, normal, color=_COLOURS[1], label="normal distribution")
        axes.legend(fontsize=8)
    axes.set_title(f"sd(D) {sampling.sd} kJ/mol")
    axes = start("d_time", "time, ps", "D - <D>, kJ/mol")
    for i, (t, d) in enumerate(zip(sampling.times, sampling.D, strict=True)):
        axes.plot(t, np.where(np.isfinite(d), d, np.nan), linewidth=0.6, color=_COLOURS[i % len(_COLOURS)])
    axes.set_title("D along the runs on the model")


def _acceptance(report: ModelReport, start) -> None:
    axes = start("acceptance", "k", "accepted share")
    steps = sorted({a.baseStepSize for a in report.sampling.acceptance})
    for colour, step in zip(_COLOURS, steps, strict=False):
        chosen = [a for a in report.sampling.acceptance if a.baseStepSize == step]
        for name, style in (("first", "o-"), ("any", "s--")):
            found = [getattr(a, name) for a in chosen]
            label = f"{1e3 * step:g} fs, " + ("first test" if name == "first" else f"one of {chosen[0].chances} tests")
            errors = [0 if np.isnan(v.error) else v.error for v in found]
            axes.errorbar(
                [a.k for a in chosen],
                [v.value for v in found],
                errors,
                fmt=style,
                color=colour,
                label=label,
                markersize=4,
            )
    if steps:
        axes.set_xscale("log", base=2)
        axes.legend(fontsize=8)
    axes.set_ylim(top=1.005)
    axes.set_title("Predicted acceptance of metropolis")


def _frequencies(report: ModelReport, start) -> None:
    found = report.frequencies
    axes = start("frequencies", "corrector, 1/cm", "model - corrector, 1/cm")
    axes.axhline(0, color="0.6", linewidth=0.8)
    axes.plot(found.corrector, found.model - found.corrector, "o", markersize=4, color=_COLOURS[0])
    axes.set_title(f"Harmonic frequencies, {found.environment}: rms {found.rms:.2g}/cm")


def _drift(report: ModelReport, start) -> None:
    axes = start("drift", "macro-step h, fs", "predicted drift, kJ/mol/ps")
    for colour, row in zip(_COLOURS, report.steps.rows, strict=False):
        values = np.array([d.value for d in row.drifts])
        errors = np.nan_to_num([d.error for d in row.drifts])
        low = np.minimum(errors, 0.9 * values)  # a logarithmic axis has no room for negative ends
        axes.errorbar(1e3 * row.steps, values, [low, errors], fmt="o-", markersize=4, color=colour, label=row.kind)
    axes.axhline(report.steps.tolerance, color="0.6", linewidth=0.8)
    if any(d.value > 0 for row in report.steps.rows for d in row.drifts):
        axes.set_yscale("log")
    axes.legend(fontsize=8)
    axes.set_title("Predicted drift of impulse schemes")


def _coordinate(report: ModelReport, start) -> None:
    found = report.coordinate
    axes = start("coordinate", "collective variable", "sd(D), kJ/mol")
    centres = (found.edges[1:] + found.edges[:-1]) / 2
    axes.errorbar(
        centres, [s.value for s in found.sd], np.nan_to_num([s.error for s in found.sd]), fmt="o-", color=_COLOURS[0]
    )
    other = axes.twinx()
    other.plot(centres, [a.value for a in found.acceptance], "s--", color=_COLOURS[1])
    other.set_ylabel("accepted at the first test", color=_COLOURS[1])
    axes.set_title("Along the collective variable")
