"""The pages that have to keep up with the package."""

import doctest
import importlib
import re
from pathlib import Path

import click
import pytest

import xpnet
from xpnet.cli import cli

DOCS = Path(__file__).parents[1] / "docs"

NEED_A_NETWORK = {"load_mnist", "fetch_mnist"}
"""Their examples are not run: everything else has one that is."""


def listed_names():
    """The names in the reference's tables, each with the module that it is imported from."""
    for page in sorted((DOCS / "reference").glob("*.md")):
        module = None
        for line in page.read_text().splitlines():
            if match := re.match(r"\.\. currentmodule:: (\S+)$", line):
                module = match[1]
            elif match := re.match(r"   (\w+)$", line):
                yield module, match[1]


@pytest.mark.parametrize("name", xpnet.__all__)
def test_every_public_name_has_its_place_in_the_reference(name):
    assert [listed for _, listed in listed_names()].count(name) == 1


@pytest.mark.parametrize("module", ["xpnet.data", "xpnet.plots"])
def test_every_public_name_of_a_package_is_in_the_reference(module):
    assert set(importlib.import_module(module).__all__) <= {name for _, name in listed_names()}


def test_every_name_in_the_reference_has_an_example():
    without = []
    for module, name in listed_names():
        text = getattr(importlib.import_module(module), name).__doc__ or ""
        examples = doctest.DocTestParser().get_examples(text)
        if not examples or (name not in NEED_A_NETWORK and all(doctest.SKIP in e.options for e in examples)):
            without.append(f"{module}.{name}")
    assert not without


def test_every_command_is_in_the_reference_and_every_option_says_what_it_does():
    headings = re.findall(r"^## xpnet (\w+)$", (DOCS / "reference" / "cli.md").read_text(), re.MULTILINE)
    assert sorted(headings) == sorted(cli.commands)
    for command in cli.commands.values():
        assert command.help
        assert [option.name for option in command.params if isinstance(option, click.Option) and not option.help] == []


def test_the_citation_names_this_version():
    assert f"\nversion: {xpnet.__version__}\n" in (DOCS / "CITATION.cff").read_text()


def test_the_changelog_tells_of_this_version():
    assert re.search(rf"^## {re.escape(xpnet.__version__)}\b", (DOCS / "changelog.md").read_text(), re.MULTILINE)
