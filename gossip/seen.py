"""A bounded memory of what was met."""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

Name = TypeVar("Name", bound=Hashable)


class Seen(Generic[Name]):
    """Remembers the last ``most`` names."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._names: OrderedDict[Name, None] = OrderedDict()

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def add(self, name: Name) -> bool:
        """True if the name is new."""
        if name in self._names:
            self._names.move_to_end(name)
            return False
        self._names[name] = None
        if len(self._names) > self._most:
            self._names.popitem(last=False)
        return True
