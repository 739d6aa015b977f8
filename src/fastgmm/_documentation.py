"""Where the documentation is: an installed package has docstrings and none of the pages."""

from __future__ import annotations

HOME = "https://github.com/fastgmm/fastgmm"
DOCS = f"{HOME}/tree/main/docs"


def page(path: str) -> str:
    """Address of a page, by its path in the repository."""
    return f"{HOME}/blob/main/{path}"
