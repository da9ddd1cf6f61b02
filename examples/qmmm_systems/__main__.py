"""python -m qmmm_systems NAME: prepare a system, equilibrate it and print its sizes."""

from __future__ import annotations

import argparse
import sys

from . import SYSTEMS


def main() -> None:
    parser = argparse.ArgumentParser(prog="qmmm_systems", description=__doc__)
    parser.add_argument(
        "names", nargs="+", choices=[*SYSTEMS, "all"], metavar="NAME", help=", ".join([*SYSTEMS, "all"])
    )
    parser.add_argument("--picoseconds", type=float, help="length of the equilibration; 0: none, for a quick look")
    args = parser.parse_args()
    settings = {} if args.picoseconds is None else {"picoseconds": args.picoseconds}
    for name in SYSTEMS if "all" in args.names else args.names:
        try:
            system = SYSTEMS[name](**settings)
        except FileNotFoundError as error:
            sys.exit(str(error))
        print(f"{name}: {system.summary()}", flush=True)


if __name__ == "__main__":
    main()
