"""The figures of one model: on photographs, rooms, held things and clips."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Result:
    """The figures of one subject."""

    name: str
    groups: dict[str, dict[str, float]] = field(default_factory=dict)
    buckets: dict[str, dict[str, float]] = field(default_factory=dict)
    clips: dict[str, dict[str, float]] = field(default_factory=dict)
    rooms: dict[str, dict[str, float]] = field(default_factory=dict)  # with nobody in them
    held: dict[str, dict[str, float]] = field(default_factory=dict)  # things before the chest
    pictures: dict[str, dict[str, float]] = field(default_factory=dict)
    milliseconds: float | None = None  # CPU time of one run of the network, one thread

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "name": self.name,
            "groups": self.groups,
            "buckets": self.buckets,
            "clips": self.clips,
            "rooms": self.rooms,
            "held": self.held,
            "milliseconds": self.milliseconds,
            "pictures": self.pictures,
        }
