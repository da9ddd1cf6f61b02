"""Writes XtbShells.cpp: the shells of each element in GFN1-xTB and GFN2-xTB and their chemical hardness, from tblite.

    pip install "tblite==0.8.0"
    python make_xtb_shells.py XtbShells.cpp

The numbers are those of the papers: Grimme, Bannwarth, Shushkov, J. Chem. Theory Comput. 2017, 13, 1989 (GFN1) and
Bannwarth, Ehlert, Grimme, J. Chem. Theory Comput. 2019, 15, 1652 (GFN2). A shell's hardness is gam*lgam (Hartree).
"""

import sys
import tempfile
import tomllib
from pathlib import Path

from tblite import _libtblite

SYMBOLS = (
    "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr Y Zr Nb Mo "
    "Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl "
    "Pb Bi Po At Rn"
).split()
HEADER = """// Written by make_xtb_shells.py, which says where the numbers are from.
#include "openmmkstep/internal/XtbShells.h"

using namespace OpenMMKStep;

namespace {

// Hardness of the element in Hartree; number of shells; angular momentum, hardness and reference occupation of each.
"""
FOOTER = """
} // namespace

const XtbShells& XtbShells::get(bool isGFN1, int atomicNumber) {
    return (isGFN1 ? gfn1 : gfn2)[atomicNumber-1];
}
"""


def parameters(method: str) -> dict:
    """The parameters of all elements as tblite dumps them."""
    ffi, lib = _libtblite.ffi, _libtblite.lib
    error, param, table = lib.tblite_new_error(), lib.tblite_new_param(), lib.tblite_new_table(ffi.NULL)
    getattr(lib, f"tblite_export_{method}_param")(error, param)
    lib.tblite_dump_param(error, param, table)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "param.toml"
        lib.tblite_dump_table(error, table, ffi.new("char[]", str(file).encode()))
        if lib.tblite_check_error(error):
            raise RuntimeError(f"tblite could not export the parameters of {method}")
        return tomllib.loads(file.read_text())["element"]


def main() -> None:
    text = HEADER
    for method in ("gfn1", "gfn2"):
        text += f"const XtbShells {method}[86] = {{\n"
        elements = parameters(method)
        for symbol in SYMBOLS:
            element = elements[symbol]
            momenta = ["spdf".index(shell[-1]) for shell in element["shells"]]
            hardness = [element["gam"] * factor for factor in element["lgam"]]
            lists = (momenta, (f"{h:.12g}" for h in hardness), (f"{n:g}" for n in element["refocc"]))
            columns = ", ".join("{" + ", ".join(map(str, values)) + "}" for values in lists)
            text += f"    {{{element['gam']:.7f}, {len(momenta)}, {columns}}}, // {symbol}\n"
        text += "};\n"
    Path(sys.argv[1]).write_text(text + FOOTER)


if __name__ == "__main__":
    main()
