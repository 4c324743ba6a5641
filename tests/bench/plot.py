"""The plot of docs/performance.md: how long each kind of work takes, Kelou beside Postfix alone."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any


def draw(report: dict[str, Any], path: Path) -> None:
    """Bars for medians, lines for the span between fastest and slowest."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    results = report["results"]
    names = [name for name in results if f"{name} alone" in results]
    figure, axes = pyplot.subplots(figsize=(9, 1.2 + 0.5 * len(names)))
    for shift, suffix, label, colour in ((-0.2, "", "Kelou", "#2a6f97"), (0.2, " alone", "Postfix alone", "#b0b7bd")):
        values = [results[name + suffix] for name in names]
        middle = [statistics.median(one) for one in values]
        spans = [[m - min(one) for m, one in zip(middle, values, strict=True)], [max(one) - m for m, one in zip(middle, values, strict=True)]]
        places = [place + shift for place in range(len(names))]
        axes.barh(places, middle, 0.38, xerr=spans, label=label, color=colour, error_kw={"elinewidth": 1})
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("seconds from submission to the last copy (median, fastest and slowest)")
    machine = report["machine"]
    axes.set_title(f"{machine['processors']}, Postfix {machine['postfix']}", fontsize=9)
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
