"""For mkdocs: links that lead out of `docs/`, which work in a source tree, on a site of `docs/` alone."""

import re
from pathlib import Path, PurePosixPath
from posixpath import normpath

LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((\.\./[^)\s#]+)(#[^)]*)?\)")


def on_page_markdown(markdown, page, config, **kwargs):
    """Turns them into links to the repository where `repo_url` is set, else into text and path."""
    root = Path(config.config_file_path).parent
    folder = PurePosixPath("docs", page.file.src_uri).parent

    def outside(link):
        text, path = link[1], normpath(folder / link[2])
        if path.startswith("docs/") or not (root / path).exists():
            return link[0]  # Its own business, or a mistake that mkdocs names.
        if config.repo_url:
            return f"[{text}]({config.repo_url.rstrip('/')}/blob/HEAD/{path}{link[3] or ''})"
        return f"`{path}`" if text.strip("`") == path else f"{text} (`{path}`)"

    return LINK.sub(outside, markdown)
