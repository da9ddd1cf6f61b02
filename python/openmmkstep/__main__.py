"""``python -m openmmkstep``: say what is installed and whether it fits together."""

from . import check_installation

print(check_installation())
