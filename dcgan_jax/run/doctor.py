"""What the metrics say about the health of a run."""

from typing import NamedTuple


class Finding(NamedTuple):
    """One thing that the metrics show: its name, whether it is bad, since when, and a sentence with what to try."""

    name: str
    alarm: bool
    step: int
    text: str


def findings(lines: list[dict], *, images: int) -> list[Finding]:
    """Read the metrics of a run of ``images`` images, oldest line first."""
    return []
