"""Which waggledance this is."""

import importlib.metadata
from functools import cache


@cache
def version() -> str:
    try:
        return importlib.metadata.version("waggledance")
    except importlib.metadata.PackageNotFoundError:
        return "0+source"  # run from a checkout that is not installed
