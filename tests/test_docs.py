"""The pages that have to keep up with the package."""

import re
from pathlib import Path

import pytest

import xpnet

DOCS = Path(__file__).parents[1] / "docs"


@pytest.mark.parametrize("name", xpnet.__all__)
def test_every_public_name_has_its_place_in_the_reference(name):
    listed = "\n".join(page.read_text() for page in (DOCS / "reference").glob("*.md"))
    assert re.findall(rf"^ +{name}$", listed, re.MULTILINE) == [f"   {name}"]


def test_the_citation_names_this_version():
    assert f"\nversion: {xpnet.__version__}\n" in (DOCS / "CITATION.cff").read_text()


def test_the_changelog_tells_of_this_version():
    assert re.search(rf"^## {re.escape(xpnet.__version__)}\b", (DOCS / "changelog.md").read_text(), re.MULTILINE)


def test_every_test_that_a_promise_names_exists():
    """And is counted as a test: a function of that name in that file."""
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (DOCS / "promises.md").read_text())
    assert len(named) > 50
    assert len(named) == len(set(named))
    for file, name in named:
        source = (DOCS.parent / file).read_text()
        assert name.startswith("test_")
        assert re.search(rf"^def {name}\(", source, re.MULTILINE), f"{file}::{name}"


def test_every_promise_names_a_test():
    text = (DOCS / "promises.md").read_text().partition("## What is not promised")[0]
    promises = re.findall(r"^\*\*(?:.+\n)+\n(.*)", text, re.MULTILINE)
    assert len(promises) > 15
    assert all(line.startswith("- `tests/") for line in promises), promises
