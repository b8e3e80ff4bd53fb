"""The pages' templates, filled."""

import importlib.resources
import re
from collections.abc import Mapping


def filled(name: str, parts: Mapping[str, str]) -> str:
    """The template ``name`` with its parts in place of ``{{part}}``.

    All are put in at once: what a part holds is never taken for the place of another.

    Args:
      name: of a file beside this one.
      parts: each ready for its place: escaped for HTML, or as JSON without ``<``.
    """
    page = importlib.resources.files("dcgan_jax.views").joinpath(name).read_text(encoding="utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda place: parts[place[1]], page)
