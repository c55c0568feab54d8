"""The benchmark's report: made of its figures, of nothing else, and complete. Nothing is measured here."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from bench import prose, report
from bench.compare import LOADS
from tests.support.app import ROOT

FOUND: dict[str, Any] = json.loads((report.FOLDER / "results.json").read_text())
# As they were set before the work began; what is reached says the report.
SET = {
    "Protected, CPU µs": {"≤ 0.55 times textbook"},
    "Rotation, CPU µs": {"≤ 0.25 times textbook", "≤ 0.3 times simplejwt"},
    "Refreshes per second, 100,000 live sessions": {"≥ 3 times Express"},
    "1,000 protected/s with 10 sign-ins/s: p99 of protected": {"≤ 10 ms"},
    "Four workers, PSS": {"≤ 120 MB"},
    "Python function calls per protected request": {"≤ 700"},
}


def test_the_page_is_what_the_figures_make() -> None:
    assert (report.FOLDER / "README.md").read_text() == report.page(FOUND)


def test_the_figures_are_written_as_the_benchmark_writes_them() -> None:
    assert (report.FOLDER / "results.json").read_text() == report.as_json(FOUND)


def test_every_target_is_judged_by_the_bound_that_was_set() -> None:
    judged: dict[str, set[str]] = {}
    for target in report.TARGETS:
        figure = next(name for name in SET if target.figure.startswith(name))
        judged.setdefault(figure, set()).add(target.words())
    assert judged == SET


def test_a_target_that_is_missed_is_shown_as_missed() -> None:
    calls = report.TARGETS[-1].bound
    missed = {**FOUND, "calls": {"ours": calls + 1, "textbook": 2000}}
    reached = {**FOUND, "calls": {"ours": calls, "textbook": 2000}}
    assert report.targets_table(missed).splitlines()[-1].endswith("| **no** |")
    assert report.targets_table(reached).splitlines()[-1].endswith("| yes |")


def test_rows_under_another_server_are_explained_where_there_are_any() -> None:
    assert (prose.GRANIAN in report.page(FOUND)) == ("granian-sqlite" in FOUND["programs"])


@pytest.mark.parametrize("load", LOADS)
def test_every_program_was_measured_in_every_round(load: str) -> None:
    rounds = FOUND["about"]["rounds"]
    lengths = {len(values) for figures in FOUND["loads"][load].values() for values in figures.values()}
    assert lengths == {rounds}
    assert set(FOUND["loads"][load]) <= set(FOUND["programs"])


@pytest.mark.parametrize("name", sorted(re.findall(r"\((\w+\.svg)\)", prose.PAGE)))
def test_a_plot_is_there_and_does_not_change_with_the_day(name: str) -> None:
    drawing = (report.FOLDER / name).read_text()
    assert "<svg" in drawing
    assert "dc:date" not in drawing


def test_what_others_use_is_pinned_to_the_versions_that_we_use() -> None:
    def pins(name: str) -> dict[str, str]:
        return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", Path(ROOT / name).read_text(), re.MULTILINE))

    ours = {**pins("requirements-dev.txt"), **pins("requirements.txt")}
    theirs = pins("requirements-bench.txt")
    assert {"django", "djangorestframework-simplejwt", "matplotlib"} <= set(theirs)
    assert {name: version for name, version in theirs.items() if ours.get(name, version) != version} == {}
