"""The benchmark report is complete and generated only from recorded results."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from bench import prose, report
from bench.compare import LOADS
from tests.support.app import ROOT

RESULTS: dict[str, Any] = json.loads((report.FOLDER / "results.json").read_text())
# The targets as set before the optimisation work. The report states which ones are reached.
TARGETS = {
    "Protected, CPU µs": {"≤ 0.55 times textbook"},
    "Rotation, CPU µs": {"≤ 0.25 times textbook", "≤ 0.3 times simplejwt"},
    "Refreshes per second, 100,000 live sessions": {"≥ 3 times Express"},
    "1,000 protected/s with 10 sign-ins/s: p99 of protected": {"≤ 10 ms"},
    "Four workers, PSS": {"≤ 120 MB"},
    "Python function calls per protected request": {"≤ 700"},
}


def test_page_is_generated_from_the_results() -> None:
    assert (report.FOLDER / "README.md").read_text() == report.page(RESULTS)


def test_results_file_has_the_format_of_the_benchmark() -> None:
    assert (report.FOLDER / "results.json").read_text() == report.as_json(RESULTS)


def test_every_target_has_its_original_bound() -> None:
    bounds: dict[str, set[str]] = {}
    for target in report.TARGETS:
        figure = next(name for name in TARGETS if target.figure.startswith(name))
        bounds.setdefault(figure, set()).add(target.words())
    assert bounds == TARGETS


def test_missed_target_is_shown_as_missed() -> None:
    calls = report.TARGETS[-1].bound
    missed = {**RESULTS, "calls": {"ours": calls + 1, "textbook": 2000}}
    reached = {**RESULTS, "calls": {"ours": calls, "textbook": 2000}}
    assert report.targets_table(missed).splitlines()[-1].endswith("| **no** |")
    assert report.targets_table(reached).splitlines()[-1].endswith("| yes |")


def test_rows_of_another_server_are_explained_if_there_are_any() -> None:
    assert (prose.GRANIAN in report.page(RESULTS)) == ("granian-sqlite" in RESULTS["programs"])


@pytest.mark.parametrize("load", LOADS)
def test_every_program_was_measured_in_every_round(load: str) -> None:
    rounds = RESULTS["about"]["rounds"]
    lengths = {len(values) for figures in RESULTS["loads"][load].values() for values in figures.values()}
    assert lengths == {rounds}
    assert set(RESULTS["loads"][load]) <= set(RESULTS["programs"])


@pytest.mark.parametrize("name", sorted(re.findall(r"\((\w+\.svg)\)", prose.PAGE)))
def test_plot_exists_and_contains_no_date(name: str) -> None:
    plot = (report.FOLDER / name).read_text()
    assert "<svg" in plot
    assert "dc:date" not in plot


def test_shared_dependencies_have_the_versions_of_the_service() -> None:
    def pins(name: str) -> dict[str, str]:
        return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", Path(ROOT / name).read_text(), re.MULTILINE))

    ours = {**pins("requirements-dev.txt"), **pins("requirements.txt")}
    theirs = pins("requirements-bench.txt")
    assert {"django", "djangorestframework-simplejwt", "matplotlib"} <= set(theirs)
    assert {name: version for name, version in theirs.items() if ours.get(name, version) != version} == {}
