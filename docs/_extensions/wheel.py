"""Takes the pages that have code, and what they show, into the wheel, for `xpnet notebooks`."""

from pathlib import Path

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PLACE = "xpnet/course/pages"


class CustomBuildHook(BuildHookInterface):
    """Named in pyproject.toml. An editable installation needs none of this: it reads the pages where they are."""

    def initialize(self, version, build_data):
        docs = Path(self.root) / "docs"
        if version == "editable":
            return
        pages = [path for path in docs.rglob("*.md") if "file_format: mystnb" in path.read_text(encoding="utf-8")[:200]]
        text = "".join(page.read_text(encoding="utf-8") for page in pages)
        data = [path for path in (docs / "_static").iterdir() if f"_static/{path.name}" in text]
        for path in [*pages, *data]:
            name = path.relative_to(docs).as_posix()
            if not name.startswith("_build"):
                build_data["force_include"][str(path)] = f"{PLACE}/{name}"
