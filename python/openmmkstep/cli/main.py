"""Arguments of the command kstep, and what is called for each subcommand."""

from __future__ import annotations

import argparse
import sys
import tomllib
import warnings
from pathlib import Path

DESCRIPTION = """
From xTB to a k-step model. SETUP is a file that says what the system is: TOML, or Python for anything unusual; see
openmmkstep.qmmm.readSetup().
"""
SETTING = """NAME=VALUE of the Python function, VALUE as in TOML, such as walkers=4 or 'temperatures=[300, 400]'"""
BIAS = "TOML file with umbrella windows or metadynamics along a collective variable; see openmmkstep.data.readBias()"


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    options = _parser().parse_args(arguments)
    warnings.filterwarnings("ignore", message=".*torch.jit.*", category=DeprecationWarning)
    try:
        print(options.run(options))
    except (ValueError, OSError, ImportError) as e:
        print(f"kstep {options.command}: {e}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"kstep {options.command}: interrupted; the same command goes on from here.", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="kstep", description=DESCRIPTION)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, run, help: str, setup: bool = True, settings: str = "") -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=help, description=help[0].upper() + help[1:] + ".")
        command.set_defaults(run=run)
        if setup:
            command.add_argument("setup", type=Path, metavar="SETUP", help="the set-up file (.toml or .py)")
        if settings:
            command.add_argument("--set", action="append", default=[], help=f"{SETTING}; see openmmkstep.{settings}()")
        command.add_argument("--seed", type=int, help="of everything random (default: 1)")
        command.add_argument("--quiet", action="store_true", help="no progress bars")
        return command

    command = add("model", _model, "sample, train, improve and check: everything from a set-up to a checked model")
    command.add_argument(
        "--folder", type=Path, default=Path("kstep-model"), help="for all results (default: kstep-model)"
    )
    command.add_argument("--minutes", type=float, default=40, help="for sampling and training (default: 40)")
    command.add_argument("--rounds", type=int, help="of active learning (default: 2)")
    command.add_argument("--bias", type=Path, help=BIAS)
    command.add_argument(
        "--cluster", help="'serial', or the address of a dask scheduler (default: this machine's cores)"
    )

    command = add("sample", _sample, "run walkers and label their frames by xTB", settings="data.sampleFrames")
    command.add_argument("--output", type=Path, default=Path("data.kstep"), help="the dataset (default: data.kstep)")
    command.add_argument("--model", type=Path, help="model file that drives the walkers; default: xTB does")
    command.add_argument("--picoseconds", type=float, help="length of each walker's run")
    command.add_argument("--temperatures", type=float, nargs="+", help="K")
    command.add_argument("--walkers", type=int)
    command.add_argument("--bias", type=Path, help=BIAS)
    command.add_argument(
        "--cluster", help="'serial', or the address of a dask scheduler (default: this machine's cores)"
    )

    command = add("train", _train, "train a model on datasets", setup=False, settings="training.trainModel")
    command.add_argument("data", type=Path, nargs="+", metavar="DATASET")
    command.add_argument("--folder", type=Path, default=Path("training"), help="for the model (default: training)")
    command.add_argument("--seconds", type=float, help="how long (default: 600)")
    command.add_argument("--steps", type=int, help="or for how many steps")
    command.add_argument("--start", type=Path, help="model or checkpoint to go on from")

    command = add("check", _check, "tell what a model is fit for", settings="validation.checkModel")
    command.add_argument("model", type=Path, metavar="MODEL")
    command.add_argument("--data", type=Path, help="dataset of frames that the model has not seen")
    command.add_argument("--folder", type=Path, default=Path("check"), help="for check.html and plots (default: check)")
    command.add_argument("--bias", type=Path, help=f"{BIAS}: D is told along it")
    command.add_argument("--quick", action="store_true", help="a small part of everything")
    command.add_argument("--allow-native-code", action="store_true", help="run the machine code of a compiled model")

    command = add("improve", _improve, "sample with a model, label, train again, compare", settings="improveModel")
    command.add_argument("model", type=Path, metavar="MODEL")
    command.add_argument("data", type=Path, nargs="+", metavar="DATASET", help="what the model was trained on")
    command.add_argument("--kept", type=Path, nargs="+", default=[], help="datasets of FrameKeeper")
    command.add_argument("--folder", type=Path, default=Path("improved"), help="for all results (default: improved)")
    command.add_argument(
        "--picoseconds", type=float, default=10, help="of each walker's run; 0: only --kept (default: 10)"
    )
    command.add_argument("--bias", type=Path, help=BIAS)
    command.add_argument("--seconds", type=float, help="how long to train (default: 600)")
    command.add_argument(
        "--cluster", help="'serial', or the address of a dask scheduler (default: this machine's cores)"
    )

    command = add("export", _export, "write a model in another format", setup=False)
    command.add_argument("model", type=Path, metavar="MODEL")
    command.add_argument("output", type=Path, metavar="OUTPUT")
    command.add_argument("--format", choices=("torchscript", "aotinductor"), default="aotinductor")
    return parser


def _settings(options, *names: str, section: dict | None = None) -> dict:
    """Keyword arguments: the set-up's section, then the flags that were given, then --set."""
    result = dict(section or {})
    result |= {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    if options.seed is not None:
        result["seed"] = options.seed
    result["progress"] = not options.quiet
    for item in getattr(options, "set", []):
        name, separator, _ = item.partition("=")
        try:
            result |= tomllib.loads(item)
        except tomllib.TOMLDecodeError as e:
            raise ValueError(f"--set {item}: expected NAME=VALUE with a VALUE as in TOML ({e}).") from e
        if not separator or not name.strip().isidentifier():
            raise ValueError(f"--set {item}: expected NAME=VALUE.")
    return result


def _call(function, *arguments, **settings):
    """Call it; unknown settings get a sentence instead of a trace."""
    import inspect

    allowed = [p.name for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY]
    unknown = sorted(set(settings) - set(allowed))
    if unknown:
        raise ValueError(f"unknown setting {', '.join(unknown)}; there are {', '.join(sorted(allowed))}.")
    return function(*arguments, **settings)


def _model(options) -> str:
    from ..data import readBias
    from ..pipeline import makeModel
    from ..qmmm import readSetup

    settings = _settings(options, "minutes", "rounds", "cluster")
    if options.bias is not None:
        settings["bias"] = readBias(options.bias)
    return str(_call(makeModel, readSetup(options.setup), options.folder, **settings))


def _sample(options) -> str:
    from ..data import readBias, sampleFrames
    from ..qmmm import readSetup

    setup = readSetup(options.setup)
    names = ("model", "picoseconds", "temperatures", "walkers", "cluster")
    settings = _settings(options, *names, section=setup.options.get("sample"))
    if options.bias is not None:
        settings["bias"] = readBias(options.bias)
    settings["topology"] = setup.topology
    dataset = _call(sampleFrames, setup.create(None), setup.positions, options.output, **settings)
    return f"{options.output}: {len(dataset)} frames"


def _train(options) -> str:
    from ..data import MergedDataset
    from ..training import trainModel

    settings = _settings(options, "seconds", "steps", "start")
    return str(_call(trainModel, MergedDataset(options.data), options.folder, **settings))


def _check(options) -> str:
    from ..data import Dataset, readBias
    from ..qmmm import readSetup
    from ..validation import checkModel

    setup = readSetup(options.setup)
    settings = _settings(options, section=setup.options.get("check")) | {"topology": setup.topology}
    if options.data is not None:
        settings["data"] = Dataset(options.data)
    if options.bias is not None:
        settings["bias"] = readBias(options.bias)
    if options.quick:
        settings["quick"] = True
    if options.allow_native_code:
        settings["allowNativeCode"] = True
    report = _call(checkModel, setup.create(None), setup.positions, options.model, folder=options.folder, **settings)
    return f"{report}\n{options.folder / 'check.html'} has the plots."


def _improve(options) -> str:
    from ..data import readBias
    from ..improve import improveModel
    from ..qmmm import readSetup

    setup = readSetup(options.setup)
    settings = _settings(options, "picoseconds", "cluster") | {"topology": setup.topology, "kept": options.kept}
    if options.bias is not None:
        settings["bias"] = readBias(options.bias)
    settings["sample"] = {k: v for k, v in setup.options.get("sample", {}).items() if k != "picoseconds"}
    settings["train"] = setup.options.get("train", {}) | (
        {"seconds": options.seconds} if options.seconds is not None else {}
    )
    return str(
        _call(
            improveModel, setup.create(None), setup.positions, options.model, options.data, options.folder, **settings
        )
    )


def _export(options) -> str:
    from ..training import exportModel

    exportModel(options.model, options.output, format=options.format)
    return f"{options.output} written"
