"""Puts the pages that lie beside `docs/` on the site, and makes links between pages lead from page to page.

All pages link by paths of the repository, as GitHub shows them. On the site a link to something that is no page, such
as a recipe, is left as its text.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
PAGES = {
    "data/README.md": "data-sets.md",
    "eval/README.md": "evaluation.md",
    "recipes/README.md": "recipes.md",
    "examples/README.md": "examples.md",
    "benchmarks/README.md": "step-cost.md",
    "benchmarks/gpu/README.md": "gpu.md",
    "benchmarks/LOG.md": "log.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
"""Path in the repository -> path on the site."""
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)\s]+)\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that lie beside `docs/`."""
    for path, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / path).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page, config: MkDocsConfig, files: Files) -> str:
    """Turn each link to a file of the repository into a link to its page."""
    places = {site: path for path, site in PAGES.items()}
    here = places.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    return LINK.sub(lambda link: _on_site(link, posixpath.dirname(here)), markdown)


def _on_site(link: re.Match, folder: str) -> str:
    text, target = link.groups()
    if re.match(r"\w+:|#", target):
        return link[0]
    path, hash_sign, anchor = target.partition("#")
    path = posixpath.normpath(posixpath.join(folder, path))
    if not (ROOT / path).exists():
        raise FileNotFoundError(f"{link[0]}: there is no {path}")
    path = f"{path}/README.md" if (ROOT / path / "README.md").exists() else path
    page = PAGES.get(path, path.removeprefix("docs/") if path.startswith("docs/") else None)
    return text if page is None else f"[{text}]({page}{hash_sign}{anchor})"
