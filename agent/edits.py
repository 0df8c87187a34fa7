"""Edits as a model gives them: exact search and replace, or a whole file; a refusal says what is wrong, and where."""

import ast
import json
from collections.abc import Sequence

from protocol.diffs import MAX_ASSET_BYTES

#: More blocks than this are a whole file.
MAX_BLOCKS = 64


class EditError(Exception):
    """An edit that can't be run; the text is for who made it."""


def replace_blocks(asset: str, blocks: Sequence[tuple[str, str]]) -> str:
    """``asset`` with each (search, replace) done in turn. Raises EditError where a search does not fit exactly once."""
    if not 0 < len(blocks) <= MAX_BLOCKS:
        raise EditError(f"expected 1 to {MAX_BLOCKS} blocks, got {len(blocks)}")
    for number, (search, replace) in enumerate(blocks, 1):
        found = asset.count(search) if search else 0
        if found != 1:
            raise EditError(f"block {number}: {_why(asset, search, found)}")
        asset = asset.replace(search, replace)
    return asset


def check(asset: str, name: str) -> bytes:
    """The bytes of a new asset. Raises EditError for one that can't be read as what its name says."""
    data = asset.encode("utf-8", "replace")
    if len(data) > MAX_ASSET_BYTES:
        raise EditError(f"{name} would have {len(data)} bytes, at most {MAX_ASSET_BYTES}")
    try:
        if name.endswith(".py"):
            ast.parse(asset, name)
        elif name.endswith(".json"):
            json.loads(asset)
    except SyntaxError as error:
        raise EditError(f"{name} line {error.lineno}: {error.msg}: {(error.text or '').strip()[:100]}") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise EditError(f"{name}: {error}") from None
    return data


def _why(asset: str, search: str, found: int) -> str:
    if not search:
        return "the text to search for is empty"
    if found:
        return f"the text occurs {found} times: take more lines around it, so that it occurs once"
    first = search.strip().splitlines()[0].strip() if search.strip() else ""
    near = [number for number, line in enumerate(asset.splitlines(), 1) if first and first in line]
    if near:
        return f"the text does not occur; its first line is like line {near[0]}: copy it exactly, blanks included"
    return "the text does not occur: copy it exactly from the asset, without line numbers"
