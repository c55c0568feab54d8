"""The account page with the brand of an operator."""

from collections.abc import Iterator

import pytest

from tests.browser.conftest import new_visitor
from tests.support.account_scenes import Site, Visitor, devices
from tests.support.axe import may_install_axe, run_axe


@pytest.fixture
def customer(branded: Site) -> Iterator[Visitor]:
    """Give a user of the branded service."""
    visitor = new_visitor(branded)
    yield visitor
    visitor.close()


def test_brand_is_shown_under_the_security_policy(customer: Visitor) -> None:
    customer.open()
    customer.expect_text("#sign-in-title", "Sign in to Harbour Bank")
    assert customer.page.title() == "Sign in to Harbour Bank"
    customer.page.wait_for_function("document.querySelector('.logo').naturalWidth === 40")
    colors = customer.page.evaluate("getComputedStyle(document.querySelector('.primary')).backgroundColor")
    assert colors == "rgb(138, 109, 0)"
    links = customer.page.locator("footer a")
    assert [(each.inner_text(), each.get_attribute("href")) for each in links.all()] == [
        ("Help", "https://help.example.com/"),
        ("Imprint", "https://example.com/imprint"),
    ]
    assert customer.errors + customer.page.evaluate("violations") == []


@may_install_axe
def test_colour_of_the_brand_can_be_read_in_both_schemes(customer: Visitor, axe: str) -> None:
    devices(customer)
    assert run_axe(customer.page, axe) == []


def test_logo_opened_by_itself_runs_no_script(customer: Visitor) -> None:
    response = customer.page.goto(f"{customer.site.origin}/static/logo")
    assert response is not None
    assert response.headers["content-type"].startswith("image/svg+xml")
    assert "sandbox" in response.headers["content-security-policy"]
