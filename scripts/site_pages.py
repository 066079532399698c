"""What `make docs` adds to the pages of docs/: README.md is the site's first page. A hook of mkdocs, named by mkdocs.yml."""

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent


WIDE = "---\nhide: [toc]\n---\n"
"""A page without its table of contents beside it: the first page has a table of six columns."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """README.md is `index.md`, and its links to docs/ lead to pages of the site."""
    text = (ROOT / "README.md").read_text().replace("](docs/", "](")
    files.append(File.generated(config, "index.md", content=WIDE + text))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Links of pages to README.md lead to the site's first page."""
    return markdown.replace("](../README.md", "](index.md")
