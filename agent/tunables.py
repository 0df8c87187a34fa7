"""What an asset says may be tuned, read from its text and written back into it (``agent.declarations`` has the forms).

Assets come from strangers and from language models, so ``read_tunables`` takes anything; ``check_tunables``
says what it left out and why.
"""

import json
from collections.abc import Mapping

from agent.declarations import Site, declared, kind, python_literal
from agent.domains import Tunable, TunableError, fit, same
from protocol.statements import MAX_TUNABLES, Scalar


def read_tunables(asset: bytes, name: str) -> dict[str, Tunable]:
    """The tunables of the asset whose file name is ``name``, in its order, at most ``MAX_TUNABLES``.

    Empty where the asset can't be parsed; a declaration that can't be understood is left out.
    """
    try:
        sites = [site for site in declared(asset, name) if isinstance(site, Site)]
    except TunableError:
        return {}
    found = {site.tunable.name: site.tunable for site in sites}
    return dict(list(found.items())[:MAX_TUNABLES])


def check_tunables(asset: bytes, name: str) -> list[str]:
    """What is wrong with the asset's declarations, one line each; empty where all is well."""
    try:
        sites = declared(asset, name)
    except TunableError as error:
        return [str(error)]
    complaints = [str(site) for site in sites if isinstance(site, TunableError)]
    names = {site.tunable.name for site in sites if isinstance(site, Site)}
    if len(names) > MAX_TUNABLES:
        complaints.append(f"{name}: {len(names)} tunables; only the first {MAX_TUNABLES} are used")
    return complaints


def write_tunables(asset: bytes, name: str, values: Mapping[str, Scalar]) -> bytes:
    """``asset`` with ``values`` in place of the literals there; every other byte stays.

    A literal that has its value already stays as it is written. Raises ``TunableError`` for an asset
    that can't be parsed, a name that is no tunable and a value outside its domain.
    """
    sites = {site.tunable.name: site for site in declared(asset, name) if isinstance(site, Site)}
    literal = json.dumps if kind(name) == ".json" else python_literal
    edits: list[tuple[Site, bytes]] = []
    for key, wanted in values.items():
        if key not in sites:
            raise TunableError(f"{name}: {key} is not a tunable of this asset")
        site = sites[key]
        value = fit(site.tunable.domain, wanted)
        if value is None:
            raise TunableError(f"{name}: {key}: {wanted!r} is outside {site.tunable.domain}")
        if not same(value, site.tunable.value):
            edits.append((site, literal(value).encode()))
    for site, text in sorted(edits, key=lambda edit: edit[0].start, reverse=True):
        asset = asset[: site.start] + text + asset[site.end :]
    return asset
