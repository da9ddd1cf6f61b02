#!/usr/bin/env python3
"""Breaks the C++ sources on purpose, one mistake at a time, and checks that a test notices.

Not part of ctest. Run it after changing the integrator or its tests, from anywhere:

    python tests/mutation_check.py [--folder FOLDER] [--only WORD]

It works on a copy in FOLDER (a temporary folder by default; a folder that is kept saves the first build), with the
Python, cmake and ninja of the environment it is run in. Each mutation takes some seconds to build and up to a minute to
test. The exit status is 1 if a mutation goes unnoticed.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
INTEGRATOR = "openmmkstep/src/KStepIntegrator.cpp"
STEPS = "openmmkstep/src/KStepIntegratorSteps.cpp"
FORCES = "openmmkstep/src/KStepIntegratorForces.cpp"
FAULTS = "openmmkstep/src/KStepIntegratorFaults.cpp"
REGIONS = "openmmkstep/src/KStepIntegratorRegions.cpp"
DIVISION = "openmmkstep/src/StepDivision.cpp"
MONITOR = "openmmkstep/src/FaultMonitor.cpp"
STATE = "openmmkstep/src/KStepIntegratorState.cpp"
MOLLIFICATION = "openmmkstep/src/Mollification.cpp"
RESONANCE = "openmmkstep/src/KStepResonance.cpp"
QM_REGION = "openmmkstep/src/QMRegionForceImpl.cpp"
EMBEDDING = "openmmkstep/src/Embedding.cpp"
PARTICLE_FORCES = "openmmkstep/include/openmmkstep/internal/ParticleForces.h"
KERNEL = "platforms/reference/src/ReferenceKStepKernels.cpp"
METROPOLIS_TEST = "tests/TestKStepMetropolis.h"


@dataclass(frozen=True)
class Mutation:
    """Replace ``old`` (its first occurrence) by ``new``; the given test must then fail."""

    name: str
    file: str
    old: str
    new: str
    test: str
    samplingOnly: bool = False
    """Take out the tests that look at single steps, to see whether the sampling tests notice by themselves."""


MUTATIONS = [
    Mutation("no flip after rejection", STEPS, "restore(-1)", "restore(1)", "Metropolis"),
    Mutation(
        "no flip after rejection (sampling)",
        STEPS,
        "restore(-1)",
        "restore(1)",
        "Metropolis",
        True,
    ),
    Mutation(
        "a new random number for each chance (sampling)",
        STEPS,
        "statistics.chances++;",
        "statistics.chances++; threshold += GAS_CONSTANT*temperature*log(uniform)-GAS_CONSTANT*temperature*log(((random()>>11)+0.5)*0x1p-53)*GAS_CONSTANT*temperature;",
        "Metropolis",
        True,
    ),
    Mutation("positions not restored", KERNEL, "*data.positions = savedPositions;", "", "Metropolis"),
    Mutation("positions not restored (sampling)", KERNEL, "*data.positions = savedPositions;", "", "Metropolis", True),
    Mutation(
        "samples counted by chance",
        STEPS,
        "statistics.chances++;",
        "statistics.chances++; context->setStepCount(context->getStepCount()+1);",
        "Metropolis",
    ),
    Mutation(
        "energy of the start not restored (sampling)",
        STEPS,
        "        modelEnergy = startModelEnergy;\n        correctorEnergy = startCorrectorEnergy;\n        fastEnergy",
        "        correctorEnergy = startCorrectorEnergy;\n        fastEnergy",
        "Metropolis",
        True,
    ),
    Mutation("forces not restored (sampling)", KERNEL, "slots[i] = savedSlots[i];", ";", "Metropolis", True),
    Mutation(
        "wrong temperature in the test (sampling)",
        STEPS,
        "*GAS_CONSTANT*temperature;",
        "*GAS_CONSTANT*1.1*temperature;",
        "Metropolis",
        True,
    ),
    Mutation(
        "no second corrector kick",
        STEPS,
        "computeCorrection();\n    getKernel().kick(*context, IntegrateKStepStepKernel::Correction, 0.5*h);",
        "computeCorrection();",
        "Impulse",
    ),
    Mutation(
        "kicks not palindromic",
        STEPS,
        "IntegrateKStepStepKernel::Fast, 0.5*baseStepSize",
        "IntegrateKStepStepKernel::Fast, baseStepSize",
        "Impulse",
    ),
    Mutation(
        "on-step kinetic energy",
        FORCES,
        "double shift = 0.5*baseStepSize;",
        "double shift = 0;",
        "Langevin",
    ),
    Mutation(
        "friction of half a step",
        KERNEL,
        "exp(-regionFriction[i]*interval)",
        "exp(-0.5*regionFriction[i]*interval)",
        "Langevin",
    ),
    Mutation(
        "noise 2 % too strong",
        KERNEL,
        "regionTemperature[i]*(1-decay[i]*decay[i])",
        "1.02*regionTemperature[i]*(1-decay[i]*decay[i])",
        "Langevin",
    ),
    Mutation(
        "velocities not constrained",
        STEPS,
        "    getKernel().constrainVelocities(*context, getConstraintTolerance());\n    if (!isfinite",
        "    if (!isfinite",
        "Langevin",
    ),
    Mutation(
        "other integrators' steps unnoticed", FORCES, "context->getStepCount() != lastStepCount || ", "", "Context"
    ),
    Mutation("other force groups unnoticed", FORCES, " || getCommonGroups() != lastCommonGroups", "", "Context"),
    Mutation("a new box unnoticed", FORCES, "changed |= (box[i] != lastBox[i]);", ";", "Context"),
    Mutation(
        "the model's group shown to others",
        INTEGRATOR,
        "getIntegrationForceGroups() & ~(1<<(scheme",
        "getIntegrationForceGroups() & ~(0<<(scheme",
        "Context",
    ),
    Mutation("checkpoint without the Metropolis random state", STATE, "stringstream(state) >> random;", "", "Context"),
    Mutation("checkpoint without the noise's random state", KERNEL, "random.loadCheckpoint(stream);", "", "Context"),
    Mutation(
        "checkpoint without the kept Gaussian number",
        KERNEL,
        "stream.read((char*) &nextGaussianIsValid, sizeof(bool));",
        "bool unused; stream.read((char*) &unused, sizeof(bool));",
        "Context",
    ),
    Mutation(
        "mollified kick without its projection",
        MOLLIFICATION,
        "(total-bond->direction*bond->direction.dot(total))",
        "total",
        "Mollified",
    ),
    Mutation(
        "fixed end without the rest of the force", MOLLIFICATION, "forces[bond->fixed] -= onDelta;", "", "Mollified"
    ),
    Mutation(
        "only the moving end counts in a subtree's force",
        MOLLIFICATION,
        "total += forces[i];",
        "total = forces[bond->moving];",
        "DeepMollification",
    ),
    Mutation(
        "a bond moves its end alone",
        MOLLIFICATION,
        "x[i] += shift;",
        "if (i == bond.moving) x[i] += shift;",
        "DeepMollification",
    ),
    Mutation(
        "an angle's reference feels nothing", MOLLIFICATION, "forces[a->other] += onOther;", "", "DeepMollification"
    ),
    Mutation(
        "an angle's kick without the turning plane",
        MOLLIFICATION,
        "-a->arm*a->axis.dot(onP)-onP*a->arm.dot(a->axis)",
        "",
        "DeepMollification",
    ),
    Mutation(
        "virtual sites not mollified",
        KERNEL,
        "positions[particles[i]] = mollified[i];\n    if (hasVirtualSites)",
        "positions[particles[i]] = mollified[i];\n    if (false)",
        "DeepMollification",
    ),
    Mutation(
        "straight angles not noticed", MOLLIFICATION, "a.height < STRAIGHT*a.armLength", "false", "DeepMollification"
    ),
    Mutation(
        "an undefined A(x) ends the run",
        FAULTS,
        "catch (const MollificationError& e) {",
        "catch (const MollificationError& e) { restore(); throw;",
        "DeepMollification",
    ),
    Mutation("positions left mollified", KERNEL, "    *getData(context).positions = truePositions;", "", "Mollified"),
    Mutation(
        "mollified bonds count as resonant",
        RESONANCE,
        "held.insert(minmax(bond.particle1, bond.particle2));",
        "",
        "Resonance",
    ),
    Mutation(
        "the period by the corrector", RESONANCE, "hasModel ? modelForceGroup", "false ? modelForceGroup", "Resonance"
    ),
    Mutation("the period of the hydrogen alone", RESONANCE, "+1/system.getParticleMass(bond.heavy)", "", "Resonance"),
    Mutation(
        "left where the last period was computed",
        RESONANCE,
        "        getKernel().restoreState(*context, 1);\n    }\n    catch",
        "    }\n    catch",
        "Resonance",
    ),
    Mutation(
        "another step size not checked", RESONANCE, "h == resonanceCheckedFor", "resonanceCheckedFor != 0", "Resonance"
    ),
    Mutation(
        "bias of the wrong sign (sampling)",
        STEPS,
        "return d-(correctorEnergy-modelEnergy);",
        "return (correctorEnergy-modelEnergy)-d;",
        "Resonance",
    ),
    Mutation(
        "D kept after a barostat's trial",
        FORCES,
        "valid = Validity();\n        noticeChangedContext();",
        "context->getPeriodicBoxVectors(lastBox[0], lastBox[1], lastBox[2]);",
        "Context",
    ),
    Mutation(
        "D kept whatever changes",
        INTEGRATOR,
        "    valid = Validity();\n    isStateLost = false;",
        "    isStateLost = false;",
        "Context",
    ),
    # Under friction the barostat's question for the energy makes the integrator look at the box too, so one line alone
    # breaks nothing there.
    Mutation(
        "D kept when the box changes",
        FORCES,
        "    if (isContextChanged())\n        valid = Validity();",
        "",
        "Context",
    ),
    Mutation(
        "barostat sees the model too",
        INTEGRATOR,
        "getIntegrationForceGroups() & ~(1<<(scheme",
        "getIntegrationForceGroups() & ~(0<<(scheme",
        "Barostat",
    ),
    Mutation(
        "barostat sees the true energy in reweight",
        INTEGRATOR,
        '(scheme == "reweight" ? correctorForceGroup : modelForceGroup)',
        "modelForceGroup",
        "Barostat",
    ),
    Mutation(
        "damped oscillator with half the friction",
        KERNEL,
        "exp(-regionFriction[i]*interval)",
        "exp(-0.5*regionFriction[i]*interval)",
        "IntegratorSuite",
    ),
    Mutation(
        "constraints left out",
        KERNEL,
        "data.constraints->apply(positions, newPositions, invMasses, tolerance);",
        "",
        "IntegratorSuite",
    ),
    Mutation(
        "mollified bond feels the corrector",
        MOLLIFICATION,
        "(total-bond->direction*bond->direction.dot(total))",
        "total",
        "IntegratorSuite",
    ),
    Mutation("failed step not undone", FAULTS, "getKernel().restoreState(*context, 1);", ";", "Errors"),
    Mutation(
        "barostat sees the model in place of the corrector",
        INTEGRATOR,
        "correctorForceGroup : modelForceGroup));",
        "correctorForceGroup : context == NULL ? modelForceGroup : correctorForceGroup));",
        "Barostat",
    ),
    Mutation(
        "NaN not noticed",
        STEPS,
        "if (!isfinite(correctorEnergy-modelEnergy) || !getKernel()",
        "if (false && !getKernel()",
        "Errors",
    ),
    Mutation("constraints not counted", REGIONS, "degreesOfFreedom[region1] -= 0.5;", "", "Regions"),
    Mutation("centre of mass not counted", REGIONS, "degreesOfFreedom[j] -= 3*masses[j]/totalMass;", ";", "Regions"),
    Mutation("relaxation twice as fast", REGIONS, "exp(-rate*getStepSize())", "exp(-2*rate*getStepSize())", "Regions"),
    Mutation(
        "all regions at one temperature",
        REGIONS,
        "temperatures.push_back(region.temperature);",
        "temperatures.push_back(temperature);",
        "Regions",
    ),
    Mutation("shadow work of the wrong sign", STEPS, "+shadowWork < threshold", "-shadowWork < threshold", "Regions"),
    Mutation("heat taken for work", STEPS, "-startEnergy-heat;", "-startEnergy;", "Regions"),
    Mutation("weights of the wrong sign", STEPS, "logWeight = -d/", "logWeight = d/", "Reweight"),
    Mutation(
        "reweight's barostat sees the corrector",
        INTEGRATOR,
        'scheme == "reweight" ? correctorForceGroup : modelForceGroup',
        'scheme == "none" ? correctorForceGroup : modelForceGroup',
        "Reweight",
    ),
    Mutation("noise not repeated", FAULTS, "getKernel().loadCheckpoint(*context, startKernel);", "", "Recovery"),
    Mutation("outliers of D let through", MONITOR, "return OutlierD;", ";", "Recovery"),
    Mutation("outliers of the force let through", MONITOR, "return OutlierForce;", ";", "Recovery"),
    Mutation("k grows too early", DIVISION, "SUCCESSES_TO_GROW = 10", "SUCCESSES_TO_GROW = 9", "Recovery"),
    Mutation(
        "plain steps left too early",
        DIVISION,
        "SUCCESSES_TO_LEAVE_PLAIN = 8",
        "SUCCESSES_TO_LEAVE_PLAIN = 7",
        "Recovery",
    ),
    Mutation("energy of plain steps not looked at", FORCES, "if (!isfinite(energy))", "if (false)", "Errors"),
    Mutation("division not restored", STATE, "read(stream, division);", "StepDivision d; read(stream, d);", "Restart"),
    Mutation("forces kept at a checkpoint", STATE, "    valid = Validity();", "", "Restart"),
    Mutation(
        "forces of earlier positions left", PARTICLE_FORCES, "forces[particle] = OpenMM::Vec3();", ";", "QMRegion"
    ),
    Mutation(
        "no particles but charges feel the switching",
        EMBEDDING,
        "getParticles(current.images[i].group))\n            addToList(particle);",
        "getParticles(current.images[i].group))\n            (void) particle;",
        "QMRegion",
    ),
    Mutation("no force on link hosts", EMBEDDING, "addToList(link.particle);", "(void) link;", "QMRegion"),
    Mutation("computed for all groups", QM_REGION, "if ((groups & (1<<forceGroup)) == 0)", "if (false)", "QMRegion"),
    Mutation(
        "every evaluation a trial", QM_REGION, "isEnergyWanted = includeEnergy;", "isEnergyWanted = true;", "QMRegion"
    ),
    Mutation("a trial's forces are the last ones", QM_REGION, "            forces.clear();", "", "QMRegion"),
    Mutation(
        "errors lose their type",
        QM_REGION,
        "catch (const OpenMMException&) {\n        isResultValid = false;\n        throw;",
        "catch (const OpenMMException& e) {\n        isResultValid = false;\n        throw OpenMMException(e.what());",
        "QMRegion",
    ),
    Mutation(
        "errors of other libraries let through", QM_REGION, "throw OpenMMException(e.what());", "throw;", "QMRegion"
    ),
    Mutation(
        "a failed result kept",
        QM_REGION,
        "catch (const exception& e) {\n        isResultValid = false;",
        "catch (const exception& e) {\n        isResultValid = true;",
        "QMRegion",
    ),
]


def copySources(folder: Path) -> None:
    """Copy what the C++ build needs, leaving unchanged files alone so that they are not compiled again."""
    for name in ["CMakeLists.txt", "openmmkstep", "platforms", "python", "serialization", "tests"]:
        files = [ROOT / name] if (ROOT / name).is_file() else [f for f in (ROOT / name).rglob("*") if f.is_file()]
        for source in files:
            target = folder / "source" / source.relative_to(ROOT)
            if not target.exists() or target.read_bytes() != source.read_bytes():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)


def build(folder: Path, test: str) -> None:
    """Configure if needed and build the plugin and one test."""
    if not (folder / "build/build.ninja").exists():
        import pybind11

        subprocess.run(
            [
                "cmake",
                "-G",
                "Ninja",
                "-S",
                folder / "source",
                "-B",
                folder / "build",
                "-DBUILD_TESTING=ON",
                f"-DPython_EXECUTABLE={sys.executable}",
                f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
            ],
            check=True,
            stdout=subprocess.DEVNULL,
        )
    result = subprocess.run(
        ["ninja", "-C", folder / "build", "OpenMMKStepReference", f"TestReferenceKStep{test}"],
        capture_output=True,
        text=True,
    )
    if result.returncode != 0:
        sys.exit(f"The build failed:\n{result.stdout}")


def runTest(folder: Path, test: str) -> tuple[bool, str]:
    """Run one test on the Reference platform: whether it passed, and its message where it did not."""
    result = subprocess.run(
        [
            "ctest",
            "--test-dir",
            folder / "build",
            "--output-on-failure",
            "--no-tests=error",
            "-R",
            f"TestKStep{test}_Reference",
        ],
        capture_output=True,
        text=True,
    )
    if "Not Run" in result.stdout:
        sys.exit(f"The test could not be run:\n{result.stdout}")
    message = re.search("exception: .*", result.stdout)
    return result.returncode == 0, message.group() if message else result.stdout


def weaken(folder: Path) -> None:
    """Take the tests of single steps out of the Metropolis test."""
    path = folder / "source" / METROPOLIS_TEST
    text = path.read_text()
    for test in ["testPerfectModel", "testRejection", "testStatisticsOfD", "testPathAgainstReference"]:
        assert f"    {test}();\n" in text
        text = text.replace(f"    {test}();\n", "")
    path.write_text(text)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--folder", type=Path, help="where the copy and its build go (kept); default: a temporary folder"
    )
    parser.add_argument("--only", default="", help="run only the mutations whose name contains this")
    arguments = parser.parse_args()
    temporary = tempfile.TemporaryDirectory() if arguments.folder is None else None
    folder = arguments.folder or Path(temporary.name)
    mutations = [m for m in MUTATIONS if arguments.only in m.name]
    copySources(folder)
    for test in sorted({m.test for m in mutations}):
        build(folder, test)
        passed, message = runTest(folder, test)
        if not passed:
            sys.exit(f"TestKStep{test} fails without any mutation:\n{message}")
    unnoticed = []
    for mutation in mutations:
        copySources(folder)
        path = folder / "source" / mutation.file
        text = path.read_text()
        if mutation.old not in text:
            sys.exit(f"'{mutation.name}': the text to replace is not in {mutation.file}; bring this script up to date.")
        path.write_text(text.replace(mutation.old, mutation.new, 1))
        if mutation.samplingOnly:
            weaken(folder)
        build(folder, mutation.test)
        passed, message = runTest(folder, mutation.test)
        print(
            f"{'UNNOTICED' if passed else 'noticed  '}  {mutation.name}{'' if passed else ': ' + message}", flush=True
        )
        if passed:
            unnoticed.append(mutation.name)
    copySources(folder)
    print(f"{len(mutations) - len(unnoticed)} of {len(mutations)} mutations noticed.")
    return 1 if unnoticed else 0


if __name__ == "__main__":
    sys.exit(main())
