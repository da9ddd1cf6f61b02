"""How long may a macro-step be? Energy drift of the demo's droplet in NVE, for plain xTB and the mollified impulse.

    python benchmarks/drift.py --picoseconds 30 --starts 4 "mollified 4 fs" "plain 2 fs, 3u"

runs each of the named settings (all by default) from several starts, adds every run to the results file as soon as it
is done, and prints a table of everything in the file: the mean drift and its error, the rms over starts, the drift that
the growth of the energy's spread implies (less noisy; see analysis.heating_rate()), and xTB calls per ps; then the largest macro-step that holds the drift below a limit, beside plain xTB's best. One thread; a run of
30 ps takes two to ten minutes. Runs that are in the file already are not repeated.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "examples"))

from alanine_dipeptide import comparison
from alanine_dipeptide.comparison import Setting, equilibrate, run
from alanine_dipeptide.droplet import Droplet

from openmmkstep import findMollification
from openmmkstep.analysis import drift, heating_rate

EQUILIBRATION = 10.0  # ps

# Name: base step (fs), k, heavy hydrogens.
PLAIN = {
    "plain 0.5 fs": (0.5, 1, False),
    "plain 1 fs": (1.0, 1, False),
    "plain 2 fs, 3u": (2.0, 1, True),
    "plain 2.5 fs, 3u": (2.5, 1, True),
}
MOLLIFIED = {
    "mollified 4 fs": (0.5, 8, False),
    "mollified 5 fs": (0.5, 10, False),
    "mollified 6 fs": (0.5, 12, False),
    "mollified 5 fs, 3u": (1.0, 5, True),
    "mollified 6 fs, 3u": (1.0, 6, True),
    "mollified 8 fs, 3u": (1.0, 8, True),
    "deep 4 fs": (0.5, 8, False),
    "deep 6 fs": (0.5, 12, False),
    "deep 5 fs, 3u": (1.0, 5, True),
    "deep 8 fs, 3u": (1.0, 8, True),
}


def setting(name: str, picoseconds: float, bonds: list) -> Setting:
    dt, k, heavy = (PLAIN | MOLLIFIED)[name]
    scheme = "plain" if name in PLAIN else "impulse"
    return Setting(name, scheme, dt / 1000, k, picoseconds, heavy, bonds if name in MOLLIFIED else [])


def measure(droplet: Droplet, name: str, picoseconds: float, seed: int, temperature: float) -> dict:
    """One run from an equilibrated start."""
    comparison.TEMPERATURE = temperature
    start = equilibrate(droplet, EQUILIBRATION, 100 + seed)
    bonds = []
    if name in MOLLIFIED:
        bonds = findMollification(droplet.topology, droplet.create_system(True), start, deep=name.startswith("deep"))
    result = run(droplet, setting(name, picoseconds, bonds), start, seed)
    slope, error = drift(result.times, result.energies)
    return {
        "setting": name,
        "seed": seed,
        "temperature": temperature,
        "picoseconds": picoseconds,
        "drift": slope,
        "error": error,
        "heating_rate": heating_rate(result.times, result.energies, temperature) if picoseconds >= 8 else None,
        "redone": int(result.statistics.get("redone", 0)),
        "calls_per_ps": result.calls_per_ps,
        "seconds_per_ps": result.seconds_per_ps,
        "qm_temperature": float(np.mean(result.qm_temperatures)),
    }


def report(runs: list[dict], limit: float) -> str:
    lines = [
        f"{'':22s}{'T, K':>6s}{'runs':>6s}{'ps':>7s}{'drift, kJ/mol/ps':>22s}{'rms':>8s}{'spread':>8s}{'xTB/ps':>9s}{'s/ps':>8s}",
    ]
    best = {}
    keys = sorted(
        {(r["setting"], r["temperature"]) for r in runs}, key=lambda k: (list(PLAIN | MOLLIFIED).index(k[0]), k[1])
    )
    for name, temperature in keys:
        group = [r for r in runs if (r["setting"], r["temperature"]) == (name, temperature)]
        slopes = np.array([r["drift"] for r in group])
        # The runs' own error estimates, since the spread of a few runs is known badly.
        error = np.sqrt(sum(r["error"] ** 2 for r in group)) / len(group)
        rms = float(np.sqrt((slopes**2).mean()))
        rates = [r["heating_rate"] for r in group if r["heating_rate"] is not None]
        rate = f"{np.mean(rates):8.3f}" if rates else f"{'':8s}"
        calls = float(np.mean([r["calls_per_ps"] for r in group]))
        lines.append(
            f"{name:22s}{temperature:6.0f}{len(group):6d}{sum(r['picoseconds'] for r in group):7.0f}"
            f"{slopes.mean():12.4f} +- {error:.4f}{rms:8.3f}{rate}{calls:9.0f}{np.mean([r['seconds_per_ps'] for r in group]):8.2f}"
        )
        kind = "plain" if name in PLAIN else "mollified"
        if temperature == 300 and rms <= limit and calls < best.get(kind, ("", np.inf))[1]:
            best[kind] = (name, calls)
    lines.append("")
    for kind, (name, calls) in best.items():
        lines.append(
            f"Fewest xTB calls with an rms drift of at most {limit} kJ/mol/ps, {kind}: {name} ({calls:.0f}/ps)"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="*", help="names of settings; all by default; 'none' only prints the table")
    parser.add_argument("--starts", type=int, default=4)
    parser.add_argument("--picoseconds", type=float, default=30.0)
    parser.add_argument("--temperature", type=float, default=300.0, help="of the start (K); try hot ones too")
    parser.add_argument("--limit", type=float, default=0.05, help="largest drift (kJ/mol/ps)")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results" / "drift.json")
    args = parser.parse_args()
    names = args.settings or list(PLAIN | MOLLIFIED)
    runs = json.loads(args.results.read_text()) if args.results.exists() else []
    done = {(r["setting"], r["seed"], r["temperature"]) for r in runs}
    args.results.parent.mkdir(parents=True, exist_ok=True)
    droplet = Droplet()
    for name in (n for n in names if n != "none"):
        for seed in range(1, args.starts + 1):
            if (name, seed, args.temperature) not in done:
                runs.append(measure(droplet, name, args.picoseconds, seed, args.temperature))
                args.results.write_text(json.dumps(runs, indent=1))
    print(report(runs, args.limit))


if __name__ == "__main__":
    main()
