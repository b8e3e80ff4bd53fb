"""What the commands share: errors as one line and exit code 2."""

import dataclasses
import sys
from typing import NoReturn

import tyro

from dcgan_jax.config import InputError


def parse(arguments: type, *, description: str, **defaults):
    """Build the dataclass ``arguments`` from the command line, with other defaults for the fields named.

    ``--help`` and mistakes end the program here.
    """
    default = None
    if defaults:
        missing = {field.name: tyro.MISSING for field in dataclasses.fields(arguments)}
        default = arguments(**{**missing, **defaults})
    try:
        return tyro.cli(arguments, description=description, default=default, config=(tyro.conf.OmitArgPrefixes,))
    except InputError as error:
        refuse(error)


def refuse(error: InputError) -> NoReturn:
    """Report bad input and exit with code 2."""
    print(f"error: {error}", file=sys.stderr)
    raise SystemExit(2)
