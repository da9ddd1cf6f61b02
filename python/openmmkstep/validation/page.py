"""The page of a check: one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import html
import io
from pathlib import Path
from string import Template

from .plots import makePlots
from .report import ModelReport

_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>$title</title>
<style>
body { font: 15px/1.45 sans-serif; max-width: 68rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.05rem; margin-top: 2rem; }
table { border-collapse: collapse; font-size: 0.88rem; display: block; overflow-x: auto; }
th, td { padding: 0.15rem 0.7rem; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
img { max-width: 32rem; width: 49%; min-width: 20rem; }
li.bad { color: #a33; }
</style>
</head>
<body>
<h1>$title</h1>
<h2>Verdict</h2>
<ul>
$verdict
</ul>
<div>
$plots
</div>
$tables
<p>Written by openmmkstep. A value is followed by its standard error.</p>
</body>
</html>
""")


def writePage(report: ModelReport, folder: Path) -> None:
    """Write the plots as PNG files, and check.html with the same plots inside.

    Raises
    ------
    ImportError
        If matplotlib is missing.
    """
    images = []
    for name, figure in makePlots(report).items():
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=130)
        (folder / f"{name}.png").write_bytes(buffer.getvalue())
        data = base64.b64encode(buffer.getvalue()).decode()
        images.append(f'<img alt="{html.escape(name)}" src="data:image/png;base64,{data}">')
    page = _PAGE.substitute(
        title=html.escape(report.title),
        verdict="\n".join(_sentence(s) for s in report.verdict + report.notes),
        plots="\n".join(images),
        tables="\n".join(_table(title, rows) for title, rows in report.tables()),
    )
    (folder / "check.html").write_text(page, encoding="utf-8")


def _sentence(text: str) -> str:
    bad = ' class="bad"' if text.startswith(("Not ", "Caution")) else ""
    return f"<li{bad}>{html.escape(text)}</li>"


def _table(title: str, rows: list[list[str]]) -> str:
    def line(cells: list[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(c).replace('+-', '&plusmn;')}</{tag}>" for c in cells) + "</tr>"

    body = "\n".join([line(rows[0], "th"), *(line(row, "td") for row in rows[1:])])
    return f"<h2>{html.escape(title)}</h2>\n<table>\n{body}\n</table>"
