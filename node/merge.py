"""Two edits of one asset in one: line by line, and where lines conflict, tunable by tunable."""

from agent.domains import TunableError, same
from agent.tunables import read_tunables, write_tunables
from node.lineage import Lineage
from protocol.diffs import MAX_ASSET_BYTES
from protocol.statements import Scalar


async def merge(lineage: Lineage, name: str, base: bytes, ours: bytes, theirs: bytes) -> bytes | None:
    """The 3-way merge of two assets called ``name`` that come from ``base``; None where they conflict, or the merged
    one is too large.

    Tunables are declared on lines beside each other, where a merge of lines takes changes of two of them for a
    conflict. So where it finds one, values are merged by name, and lines as they are with the base's values.
    """
    merged = await lineage.merge(base, ours, theirs) or await _by_tunables(lineage, name, base, ours, theirs)
    return merged if merged is not None and len(merged) <= MAX_ASSET_BYTES else None


async def _by_tunables(lineage: Lineage, name: str, base: bytes, ours: bytes, theirs: bytes) -> bytes | None:
    old, one, other = (_values(asset, name) for asset in (base, ours, theirs))
    shared = old.keys() & one.keys() & other.keys()
    moved = {key: one[key] for key in shared if not same(one[key], old[key])}
    for key in shared:
        if not same(other[key], old[key]) and not same(moved.setdefault(key, other[key]), other[key]):
            return None
    kept = {key: old[key] for key in shared}
    try:
        plain = await lineage.merge(base, write_tunables(ours, name, kept), write_tunables(theirs, name, kept))
        return None if plain is None else write_tunables(plain, name, moved)
    except TunableError:  # one of them has another domain now, or is gone
        return None


def _values(asset: bytes, name: str) -> dict[str, Scalar]:
    return {key: tunable.value for key, tunable in read_tunables(asset, name).items()}
