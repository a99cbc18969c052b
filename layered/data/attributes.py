"""The error for an attribute that neither a loader nor its data set has."""

from __future__ import annotations

from typing import Any

from layered.foundation.errors import nearest


class NoSuchAttribute(AttributeError):
    """Names who was asked, and the nearest name that one of them has. That is looked for when the message is read, not when
    `hasattr` only asks.
    """

    def __init__(self, name: str, *owners: Any) -> None:
        super().__init__(name)
        self.missing, self.owners = name, owners

    def __str__(self) -> str:
        kinds = [type(owner).__name__ for owner in self.owners]
        problem = f"neither {kinds[0]} nor its {' nor its '.join(kinds[1:])} has '{self.missing}'"
        near = nearest(self.missing, {name for o in self.owners for name in dir(o) if not name.startswith("_")}, 1)
        return problem + (f"; did you mean '{near[0]}'?" if near else "")
