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
