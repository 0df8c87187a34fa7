"""What an asset may be: source that a person or a model has edited, and no data in disguise.

The exam's texts are public where a program's data are, and a hundred kilobytes in an asset hold most of their
information, or the weights of a model that was trained for a week. Words compress; that doesn't.
"""

import lzma

from protocol.diffs import MAX_ASSET_BYTES
from trainer.program import Program

#: Four times what the built-in asset has.
MIN_PACKED_BYTES = 16 * 1024
#: An asset may grow to so many times what the program's own one holds.
GROWTH = 4


def packed(asset: bytes) -> int:
    """The bytes that it compresses to: about the information that it holds."""
    return len(lzma.compress(asset, format=lzma.FORMAT_ALONE, preset=6))


def objection(program: Program, asset: bytes) -> str:
    """Why this is no asset of the program, in one line; "" where it is one."""
    if len(asset) > MAX_ASSET_BYTES:
        return f"an asset of {len(asset)} bytes, at most {MAX_ASSET_BYTES}"
    room, size = max(MIN_PACKED_BYTES, GROWTH * packed(program.asset)), packed(asset)
    if size > room:
        return f"an asset of {size} bytes when compressed, at most {room}: it holds data"
    return ""
