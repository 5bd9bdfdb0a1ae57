"""What the site shows beyond the pages in docs/: the modules of the method, the reference of every key, pictures.

mkdocs calls these functions (`hooks:` in mkdocs.yml). An entry of the navigation such as `Reference: reference/` stands
for the pages of that folder.
"""

from __future__ import annotations

import posixpath
import re
import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
PICTURE = re.compile(r"(?:\.\./)+outputs/report/([\w.]+)")
# In the order in which they are best read.
METHOD = ("schedule", "forward", "prediction", "denoiser", "objective", "optimizer", "trainer", "guidance", "sampler",
          "multistep", "inpainting", "noise")  # fmt: skip


def generated() -> dict[str, str]:
    """Path in docs/ -> Markdown, in the order of the navigation."""
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    from diffusion_cli.options import reference

    return {
        f"library/{name}.md": f"# {name}\n\n::: diffusion_cli.{name}\n" for name in METHOD
    } | reference.pages()


def on_config(config: MkDocsConfig) -> None:
    """Puts the pages of a folder where the navigation names the folder, after an index.md that lies there."""
    pages = [*generated()]
    for entry in config.nav or []:
        title, folder = next(iter(entry.items())) if isinstance(entry, dict) else ("", entry)
        if not isinstance(folder, str) or not folder.endswith("/"):
            continue
        section: dict[str, list[str]] = {"": [folder + "index.md"]}
        for path in pages:
            if path.startswith(folder) and path not in section[""]:
                below = path.removeprefix(folder).rpartition("/")[0]
                section.setdefault(below.capitalize(), []).append(path)
        loose = section.pop("")
        entry[title] = [*loose[:1], *({name: paths} for name, paths in section.items()), *loose[1:]]


def on_files(files: Files, config: MkDocsConfig) -> None:
    for path, text in generated().items():
        files.append(File.generated(config, path, content=text))


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Pictures of the report are taken into the site; their paths in docs/ also hold for who reads the files as they are."""

    def taken(match: re.Match[str]) -> str:
        uri = f"pictures/{match[1]}"
        if files.get_file_from_path(uri) is None:
            files.append(
                File.generated(config, uri, abs_src_path=str(ROOT / "outputs" / "report" / match[1]))
            )
        return posixpath.relpath(uri, posixpath.dirname(page.file.src_uri))

    return PICTURE.sub(taken, markdown)
