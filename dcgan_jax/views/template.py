"""The pages' templates, filled."""

import re
from collections.abc import Mapping


def filled(template: str, parts: Mapping[str, str]) -> str:
    """The template with its parts in place of ``{{part}}``.

    All are put in at once: what a part holds is never taken for the place of another.

    Args:
      template: the text of a page.
      parts: each ready for its place: escaped for HTML, or as JSON without ``<``.
    """
    return re.sub(r"\{\{(\w+)\}\}", lambda place: parts[place[1]], template)
