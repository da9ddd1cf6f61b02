"""What would rot unseen: the texts that the mutation check replaces, and the version in its two places."""

import importlib.util
import re
import sys
from pathlib import Path

import openmmkstep

ROOT = Path(__file__).parents[2]


def test_mutations_apply():
    path = ROOT / "tests" / "mutation_check.py"
    spec = importlib.util.spec_from_file_location("mutation_check", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["mutation_check"] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    for mutation in module.MUTATIONS:
        assert mutation.old in (ROOT / mutation.file).read_text(), f"'{mutation.name}' changes nothing any more"


def test_version():
    declared = re.search(r"project\(openmmkstep VERSION ([0-9.]+)", (ROOT / "CMakeLists.txt").read_text()).group(1)
    assert openmmkstep.__version__ == declared
    assert f"## {declared}" in (ROOT / "CHANGELOG.md").read_text()
