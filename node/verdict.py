"""The founder's word on a candidate (DESIGN section 5, rule 7)."""

from node.records import Records
from protocol.errors import UserError
from protocol.identity import peer_id
from protocol.statements import Verdict

#: Fewer letters of a commit are easily another's too.
LEAST_LETTERS = 4


def verdict_on(records: Records, commit: str, *, approve: bool, now_ms: int) -> Verdict:
    """What this node's identity would say of a commit, or the one that begins like this. Raises UserError where it is
    not the founder, or there is no such commit.
    """
    founder = records.ledger.rules.founder
    if founder is None:
        raise UserError("this program has no founder, whose word would count: founder = … in program.md names one")
    if founder != records.me:
        raise UserError(f"only its founder, {peer_id(founder)}, judges; this home is {peer_id(records.me)}")
    return Verdict(now_ms, records.sequence, full_commit(records, commit), approve)


def full_commit(records: Records, begin: str) -> str:
    """The commit of the ledger that begins like this. Raises UserError where there is not just one."""
    found = [commit for commit in records.ledger.commits() if commit.startswith(begin.lower())]
    if len(begin) < LEAST_LETTERS or len(found) > 1:
        raise UserError(f"{begin!r} is not enough of a commit to tell it from others")
    if not found:
        raise UserError(f"no experiment of a commit {begin!r} is known: see waggle log")
    return found[0]
