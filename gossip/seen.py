"""A bounded memory of what was met."""

from collections import OrderedDict


class Seen:
    """Remembers the last ``most`` names."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._names: OrderedDict[str, None] = OrderedDict()

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def add(self, name: str) -> bool:
        """True if the name is new."""
        if name in self._names:
            self._names.move_to_end(name)
            return False
        self._names[name] = None
        if len(self._names) > self._most:
            self._names.popitem(last=False)
        return True
