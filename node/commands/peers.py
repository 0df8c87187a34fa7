"""``waggle peers`` and ``waggle identity``: who is there, and who this home is."""

import json

from node.archive import Json, ask, open_archive
from node.config import Identity, Peers
from node.home import Home
from node.logs import clean


def peers(command: Peers) -> int:
    """Those that a running node heard lately, else those that its home remembers. Raises UserError."""
    home = Home(command.home)
    found = ask(home, "/api/peers")
    if found is None:
        with open_archive(home) as archive:
            found = [{"address": address} for address in archive.records.journal.peers()]
    if command.json:
        print(json.dumps(found, indent=2))
        return 0
    for one in found:
        print(clean(_line(one)))
    if not found:
        print("no peers are known yet")
    return 0


def _line(one: Json) -> str:
    if "peer" not in one:
        return f"{one['address']}   remembered; no node runs here now"
    link = "me" if one["me"] else "connected" if one["connected"] else "heard of"
    where = next(iter(one["addresses"]), "dials out only")
    counts = f"{one['experiments']} experiments, {one['records']} records, {one['peers']} peers"
    return f"{one['peer']}   {link:9}   {one['tier']}   {counts}   {where}"


def identity(command: Identity) -> int:
    """The peer id of a home, whose key is made now where it has none. Raises UserError."""
    home = Home(command.home)
    home.create()
    peer = home.identity().peer_id
    print(json.dumps({"peer_id": peer, "home": str(home.path)}) if command.json else peer)
    return 0
