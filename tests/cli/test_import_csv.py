"""The forms of CSV that ``flask users import`` reads, and those that it rejects."""

from pathlib import Path

import pytest
from flask import Flask

from tests.support.app import PASSWORD
from tests.support.commandline import can_sign_in, error_of, run
from tests.support.user_files import CHEAP_HASH, invalid_lines, usernames

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
ATTACKER = f"root-admin,{CHEAP_HASH},bye"
# One value of a field that another person chose, as programs that do not follow RFC 4180 write it.
MALFORMED = {
    "escaped by a backslash": f'bob,{CHEAP_HASH},"hello \\"\n{ATTACKER}\nlast"\n',
    "escaped by a backslash, with a second value": f'bob,{CHEAP_HASH},"a \\"\n{ATTACKER},"\neve,x,"\ny,z"\n',
    "quotation marks not doubled": f'bob,{CHEAP_HASH},"he said "hi"\n{ATTACKER}\nlast"\n',
    "never closed": f'bob,{CHEAP_HASH},"hello\n{ATTACKER}\n',
    "in the middle of a value": f'bob,{CHEAP_HASH},5" disk\n{ATTACKER}\n',
    "space before the quotation mark": f'bob,{CHEAP_HASH}, "hello\n{ATTACKER}\nlast"\n',
    "carriage return outside of quotation marks": f"bob,{CHEAP_HASH},hello\r{ATTACKER}\rlast\n",
    "line break escaped by a backslash": f"bob,{CHEAP_HASH},hello\\\n{ATTACKER}\nlast,x,y\n",
    "in apostrophes": f"bob,{CHEAP_HASH},'hello\n{ATTACKER}\nlast'\n",
    "an apostrophe alone": f"bob,{CHEAP_HASH},'\n{ATTACKER}\n'\n",
    "formula of a spreadsheet": f'="bob",{CHEAP_HASH},\n{ATTACKER}\n',
}


def write(folder: Path, content: str | bytes, encoding: str = "utf-8") -> Path:
    file = folder / "users.csv"
    file.write_bytes(content.encode(encoding) if isinstance(content, str) else content)
    return file


def test_inside_of_a_quoted_value_is_not_a_record(app: Flask, tmp_path: Path) -> None:
    lines = f'username,password_hash,bio\nalice,{CHEAP_HASH},"hello\n{ATTACKER}\nlast"\ncarol,{CHEAP_HASH},\n'
    dry = run(app, "users", "import", str(write(tmp_path, lines)), "--dry-run")
    assert dry.stdout == "Would create alice.\nWould create carol.\nWould import 2 users; found 0 invalid lines.\n"
    run(app, "users", "import", str(write(tmp_path, lines)))
    assert usernames(app) == ["alice", "carol"]


def test_name_with_line_breaks_makes_its_record_invalid(app: Flask, tmp_path: Path) -> None:
    lines = f'username,password_hash\n"x\nroot-admin,{CHEAP_HASH}\nlast",{CHEAP_HASH}\nalice,{CHEAP_HASH}\nbob,\n'
    found = invalid_lines(app, write(tmp_path, lines))
    assert list(found) == [2, 6]
    assert "A user name must" in found[2]
    assert usernames(app) == ["alice"]


@pytest.mark.parametrize("form", MALFORMED)
def test_file_that_is_not_csv_is_rejected_as_a_whole(app: Flask, tmp_path: Path, form: str) -> None:
    content = f"username,password_hash,bio\nalice,{CHEAP_HASH},\n{MALFORMED[form]}dave,{CHEAP_HASH},\n"
    ((number, reason),) = invalid_lines(app, write(tmp_path, content)).items()
    assert number >= 3
    assert "The whole file is rejected" in reason
    assert usernames(app) == []


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ('"bob,a long enough password', "A quotation mark is never closed."),
        ('"bob"x,a long enough password', "A value in quotation marks is followed by other text."),
        ('b"ob,a long enough password', "A value that is not in quotation marks contains a quotation mark"),
    ],
)
def test_reason_of_a_malformed_record_names_its_cause_and_line(
    app: Flask, tmp_path: Path, record: str, reason: str
) -> None:
    content = f'username,password\n"alice",{PASSWORD}\n{record}\n'
    result = run(app, "users", "import", str(write(tmp_path, content)), code=1)
    assert result.stderr.startswith(f"line 3: {reason}")
    assert result.stdout == "Imported 0 users; found 1 invalid line.\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r", "\r\r\n"])
def test_encodings_and_line_ends_of_other_programs_are_read(
    app: Flask, tmp_path: Path, encoding: str, line_end: str
) -> None:
    lines = ["username,password", f'"zoë",{PASSWORD}', "bob,short", ""]
    assert list(invalid_lines(app, write(tmp_path, line_end.join(lines), encoding))) == [3]
    assert usernames(app) == ["zoë"]


def test_utf_16_with_the_mark_of_big_endian_is_read(app: Flask, tmp_path: Path) -> None:
    run(app, "users", "import", str(write(tmp_path, f"\ufeffusername,password\nzoë,{PASSWORD}\n", "utf-16-be")))
    assert usernames(app) == ["zoë"]


def test_two_byte_order_marks_are_ignored(app: Flask, tmp_path: Path) -> None:
    run(app, "users", "import", str(write(tmp_path, f"\ufeff\ufeffusername,password\nalice,{PASSWORD}\n")))
    assert usernames(app) == ["alice"]


@pytest.mark.parametrize("start", ["", "sep={0}\r\n", '"sep={0}"\r\n'])
@pytest.mark.parametrize("delimiter", [";", "\t", ",", "|"])
def test_other_delimiters_are_recognised_or_declared(app: Flask, tmp_path: Path, delimiter: str, start: str) -> None:
    content = start.format(delimiter) + delimiter.join(["username", "password\r\nalice", "a, b; c | d long enough"])
    if delimiter == "|" and not start:
        assert "separated by commas" in error_of(run(app, "users", "import", str(write(tmp_path, content)), code=1))
        return
    file = write(tmp_path, content if delimiter == "\t" else content.replace("a, b; c | d", '"a, b; c | d') + '"')
    run(app, "users", "import", str(file))
    assert can_sign_in(app, password="a, b; c | d long enough")


@pytest.mark.parametrize(
    "content", [b"PK\3\4\0\0", b"\x1f\x8b\x08\0", "username,password\n".encode("utf-32"), bytes(range(256))]
)
def test_file_that_is_not_text_is_rejected_by_a_sentence_that_says_so(
    app: Flask, tmp_path: Path, content: bytes
) -> None:
    message = error_of(run(app, "users", "import", str(write(tmp_path, content)), code=1))
    assert "The file is not text in UTF-8 or UTF-16" in message


@pytest.mark.parametrize("password", ["'tis a long enough one", "a long enough one\\\\", "it's long enough, isn't it"])
def test_apostrophes_and_backslashes_of_one_line_are_kept(app: Flask, tmp_path: Path, password: str) -> None:
    cell = f'"{password}"' if "," in password else password
    run(app, "users", "import", str(write(tmp_path, f"username,password\nalice,{cell}\nben,{PASSWORD}\n")))
    assert can_sign_in(app, password=password)


def test_lines_after_a_declared_delimiter_keep_their_numbers(app: Flask, tmp_path: Path) -> None:
    content = f"sep=;\nusername;password\nalice;{PASSWORD}\nbob;short\n"
    assert list(invalid_lines(app, write(tmp_path, content))) == [4]


def test_rows_without_any_value_are_blank_lines(app: Flask, tmp_path: Path) -> None:
    run(app, "users", "import", str(write(tmp_path, f"username;password\n;\nalice;{PASSWORD}\n;\n  \n")))
    assert usernames(app) == ["alice"]


@pytest.mark.parametrize("missing", ["NULL", "\\N", ""])
def test_missing_values_of_databases_are_not_passwords(app: Flask, tmp_path: Path, missing: str) -> None:
    lines = [f"alice,{missing},{CHEAP_HASH}", f"bob,{missing},{missing}", f"{missing},,{CHEAP_HASH}"]
    found = invalid_lines(app, write(tmp_path, "username,password,password_hash\n" + "\n".join(lines)))
    assert list(found) == [3, 4]
    assert "either a password or a password_hash" in found[3]
    assert "1 to" in found[4]
    assert usernames(app) == ["alice"]


def test_person_called_null_is_imported_from_a_quoted_value(app: Flask, tmp_path: Path) -> None:
    run(app, "users", "import", str(write(tmp_path, f'username,password_hash\n"NULL","{CHEAP_HASH}"\n')))
    assert usernames(app) == ["null"]


def test_address_is_the_user_name_if_there_is_no_other(app: Flask, tmp_path: Path) -> None:
    run(app, "users", "import", str(write(tmp_path, f"Email,password_hash\nAlice@Example.com,{CHEAP_HASH}\n")))
    assert usernames(app) == ["alice@example.com"]


def test_columns_that_are_not_used_are_named(app: Flask, tmp_path: Path) -> None:
    content = f"id,email,username,password_hash\n1,alice@example.com,alice,{CHEAP_HASH}\n"
    assert run(app, "users", "import", str(write(tmp_path, content))).stderr == "Ignored columns: id.\n"
    assert usernames(app) == ["alice"]


@pytest.mark.parametrize("quote", ["", '"'])
@pytest.mark.parametrize("length", [66_000, 140_000])
def test_very_long_value_makes_only_its_record_invalid(app: Flask, tmp_path: Path, quote: str, length: int) -> None:
    bio = quote + "x" * length + quote
    content = f"username,password_hash,bio\nalice,{CHEAP_HASH},\nbob,{CHEAP_HASH},{bio}\ncarol,{CHEAP_HASH},\n"
    assert invalid_lines(app, write(tmp_path, content)) == {3: "The line is longer than 65536 bytes."}
    assert usernames(app) == ["alice", "carol"]


def test_characters_lost_by_the_export_make_the_line_invalid(app: Flask, tmp_path: Path) -> None:
    ((_, reason),) = invalid_lines(app, write(tmp_path, f"username,password_hash\nzo\ufffd,{CHEAP_HASH}\n")).items()
    assert "characters were lost" in reason


def test_latin_1_is_rejected_by_name(app: Flask, tmp_path: Path) -> None:
    content = f"username,password_hash\nzoë,{CHEAP_HASH}\nalice,{CHEAP_HASH}\n"
    reasons = invalid_lines(app, write(tmp_path, content, "latin-1"))
    assert reasons == {2: "The line is not UTF-8: export the file as UTF-8."}
    assert usernames(app) == ["alice"]


def test_equal_reasons_are_counted_at_the_end(app: Flask, tmp_path: Path) -> None:
    content = "username,password\n" + "".join(f"user{number},short\n" for number in range(1000))
    shown = run(app, "users", "import", str(write(tmp_path, content)), code=1).stderr.splitlines()
    reason = "The password must have at least 15 characters."
    assert shown == [*(f"line {number}: {reason}" for number in range(2, 12)), f"990 more lines: {reason}"]
