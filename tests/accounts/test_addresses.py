"""Which addresses are stored, and which spellings are one."""

import time

import pytest

from tokenapp import accounts, errors

KELVIN, CIRCLED_G, DOTLESS_I = "\u212a", "\u24d6", "\u0131"


@pytest.mark.parametrize(
    "address",
    [
        "alice@example.com",
        "Alice.B+tag@Example.COM",
        "o'neil_42@mail.example.co.uk",
        "a@xn--bcher-kva.example",
        "a@b\u00fccher.example",
        f"al{DOTLESS_I}ce@example.com",
        "\u7528\u6237@example.com",
        "a" * 64 + "@example.com",
    ],
)
def test_address_is_accepted_as_given(address: str) -> None:
    assert accounts.check_address(address) == address


@pytest.mark.parametrize(
    "address",
    [
        "",
        "alice",
        "@example.com",
        "alice@",
        "alice@localhost",
        "a@b@example.com",
        "alice..b@example.com",
        ".alice@example.com",
        "alice@example..com",
        "alice@-example.com",
        "alice@[127.0.0.1]",
        '"a b"@example.com',
        "alice@example.com\r\nBcc: eve@example.com",
        "alice\n@example.com",
        "alice @example.com",
        "alice@exam ple.com",
        "alice@example.com, eve@example.com",
        "<alice@example.com>",
        "alice\x00@example.com",
        "a" * 65 + "@example.com",
        "a@" + "b" * 64 + ".com",
        "a@" + ".".join(["b" * 60] * 5),
        f"alice@{CIRCLED_G}mail.com",
        f"alice@{KELVIN}iosk.example",
        f"{KELVIN}im@example.com",
        "alice@stra\u00dfe.example",
        "alice@example\uff0ecom",
        "alice@www.example\u3002com",
    ],
)
def test_address_is_rejected(address: str) -> None:
    with pytest.raises(errors.AddressRejected):
        accounts.check_address(address)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Alice@Example.com", "alice@example.com"),
        (f"alice@{CIRCLED_G}mail.com", "alice@gmail.com"),
        (f"{KELVIN}im@example.com", "kim@example.com"),
        ("a@xn--bcher-kva.example", "a@B\u00dcCHER.example"),
        (" alice@example.com ", "alice@example.com"),
    ],
)
def test_spellings_are_one_address(one: str, other: str) -> None:
    assert accounts.canonical(one) == accounts.canonical(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (f"al{DOTLESS_I}ce@example.com", "alice@example.com"),
        ("alice@example.com", "alice@example.org"),
        ("a@xn--zzzzzz.example", "a@zzzzzz.example"),
    ],
)
def test_different_addresses_stay_different(one: str, other: str) -> None:
    assert accounts.canonical(one) != accounts.canonical(other)


def test_long_garbage_is_rejected_quickly() -> None:
    began = time.monotonic()
    for garbage in ("a" * 250, "a." * 120 + "@", "a" * 60 + "!@" + "-" * 150):
        assert not accounts.is_deliverable(garbage)
    assert time.monotonic() - began < 1
