"""The account page's modules, joined into one script."""

import subprocess
from pathlib import Path

import pytest

from tests.support.programs import find_program
from tokenapp.api import account_page, modules


def written(folder: Path, **sources: str) -> Path:
    """Write modules, and return the path of the one named entry."""
    for name, source in sources.items():
        (folder / f"{name}.js").write_text(source)
    return folder / "entry.js"


def test_joined_script_does_what_the_modules_do(tmp_path: Path) -> None:
    entry = written(
        tmp_path,
        entry='import { add as plus, ONE } from "./sums.js";\nimport { two } from "./two.js";\n'
        "console.log(plus(ONE, two()));\n",
        sums="const hidden = 40;\nexport const ONE = 1;\nexport function add(a, b) {\n  return a + b + hidden;\n}\n",
        two='import { ONE } from "./sums.js";\nconst hidden = ONE;\nexport const two = () => hidden + ONE;\n',
    )
    joined = modules.join(entry)
    (tmp_path / "joined.mjs").write_text(joined)
    done = subprocess.run([find_program("node"), tmp_path / "joined.mjs"], capture_output=True, text=True, check=True)
    assert done.stdout == "43\n"
    assert joined.count("export function add".removeprefix("export ")) == 1


@pytest.mark.parametrize(
    "source",
    [
        'import { entry } from "./entry.js";\n',
        'import other from "./other.js";\n',
        'import "./other.js";\n',
        "export default 1;\n",
        "export let changing = 1;\n",
        'const later = await import("./other.js");\n',
    ],
)
def test_forms_that_cannot_be_joined_are_errors(tmp_path: Path, source: str) -> None:
    entry = written(tmp_path, entry='import { a } from "./other.js";\n', other=source)
    with pytest.raises(ValueError, match=r"\.js"):
        modules.join(entry)


def test_every_module_of_the_page_is_in_its_script() -> None:
    joined = modules.join(account_page.FOLDER / "account.js")
    for path in account_page.FOLDER.rglob("*.js"):
        assert path.read_text().split("\n", 1)[0] in joined, path.name


def test_every_view_has_a_section_and_a_module_or_belongs_to_the_page() -> None:
    names = {*account_page.VIEWS, *account_page.SECTIONS}
    assert {path.stem for path in (account_page.FOLDER / "views").glob("*.html")} == names
    assert {path.stem for path in (account_page.FOLDER / "views").glob("*.js")} == names
