"""Draw the plots of the report as reproducible SVG."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt

from bench.prose import WORDS
from bench.report import middle, name_of

COLOURS = {"ours": "#1f6feb", "granian": "#8250df", "textbook": "#b08800", "simplejwt": "#2f7d4f", "express": "#8b8f97"}
# Without sign-ins: their bars would be far longer than the others.
SHOWN = ("protected", "rotation", "damped", "logout")


def draw(found: dict[str, Any], folder: Path) -> None:
    """Draw all plots into a folder."""
    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "tokenapp", "svg.fonttype": "path", "font.size": 9})
    _bars(found, folder / "cpu.svg", ("cpu_us",), "CPU µs per request")
    _bars(found, folder / "latency.svg", ("p50_ms", "p99_ms"), "ms: p50, and p99 in outline")


def _bars(found: dict[str, Any], file: Path, figures: tuple[str, ...], label: str) -> None:
    """Draw a panel for each load, with a bar for each program."""
    heights = [len(found["loads"][load]) for load in SHOWN]
    figure, panels = plt.subplots(
        len(SHOWN), 1, figsize=(8, 0.34 * sum(heights) + 3), height_ratios=heights, layout="constrained"
    )
    for panel, load in zip(panels, SHOWN, strict=True):
        programs = found["loads"][load]
        names = [name_of(found, key) for key in programs]
        colours = [COLOURS[key.partition("-")[0]] for key in programs]
        values = [middle(each[figures[0]]) for each in programs.values()]
        bars = panel.barh(names, values, color=colours, height=0.7)
        if len(figures) > 1:
            tails = [middle(each[figures[1]]) for each in programs.values()]
            panel.barh(names, tails, color="none", edgecolor=colours, height=0.7)
        panel.bar_label(bars, fmt="%.0f" if figures[0].endswith("us") else "%.1f", padding=3)
        panel.invert_yaxis()
        panel.set_title(WORDS[load], loc="left", fontsize=10)
        panel.spines[["top", "right"]].set_visible(False)
        panel.margins(x=0.08)
    panels[-1].set_xlabel(label)
    figure.savefig(file, metadata={"Date": None, "Creator": None})
    plt.close(figure)
