"""What the site shows beyond the pages in docs/: the modules of the method, the reference of every key, pictures.

mkdocs calls these functions (`hooks:` in mkdocs.yml). An entry of the navigation such as `Reference: reference/` stands
for the pages of that folder.
"""

from __future__ import annotations

import json
import posixpath
import re
import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
PICTURE = re.compile(r"(?:\.\./)+outputs/report/([\w.]+)")
# In the order in which they are best read.
METHOD = ("schedule", "forward", "prediction", "denoiser", "objective", "descent", "batches", "optimizer", "trainer", "guidance",
          "sampler.walk", "sampler.protocol", "sampler.steps", "sampler.multistep", "sampler.grid", "inpainting",
          "distillation", "noise")  # fmt: skip


def generated() -> dict[str, str]:
    """Path in docs/ -> Markdown, in the order of the navigation."""
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    from diffusion_cli.options import reference

    return (
        {f"library/{name}.md": f"# {name}\n\n::: diffusion_cli.{name}\n" for name in METHOD}
        | reference.pages()
        | {f"notebooks/{file.stem}.md": page_of(file) for file in NOTEBOOKS}
    )


def page_of(notebook: Path) -> str:
    """A notebook as a page: its texts and its code, and where the file is."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    texts = []
    for cell in cells:
        text = "".join(cell["source"])
        texts.append(text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
    texts.insert(1, f"[The notebook as a file]({notebook.name})")
    return "\n\n".join(texts) + "\n"


def on_config(config: MkDocsConfig) -> None:
    """Puts the pages of a folder where the navigation names the folder, after an index.md that lies there."""
    folder = Path(config.docs_dir)
    pages = [*(file.relative_to(folder).as_posix() for file in sorted(folder.rglob("*.md"))), *generated()]
    for entry in config.nav or []:
        title, place = next(iter(entry.items())) if isinstance(entry, dict) else ("", entry)
        if not isinstance(place, str) or not place.endswith("/"):
            continue
        section: dict[str, list[str]] = {"": [place + "index.md"]}
        for path in pages:
            if path.startswith(place) and path not in section[""]:
                below = path.removeprefix(place).rpartition("/")[0]
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
