"""Results on disk: a JSON file of sections, each a list of rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import problems
from harness import Row

FORMAT = 1


class Results:
    """Rows of all sections, stored at every change so that an interrupted run loses nothing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        content = json.loads(path.read_text()) if path.exists() else {}
        if content.get("format") != FORMAT:
            content = {"machine": {}, "sections": {}}
        self._machine: dict[str, Any] = content["machine"]
        self._sections: dict[str, list[Row]] = content["sections"]

    @property
    def machine(self) -> dict[str, Any]:
        return self._machine

    @machine.setter
    def machine(self, description: dict[str, Any]) -> None:
        # What was not part of this run (a peer left out) keeps its last description.
        libraries = {**self._machine.get("libraries", {}), **description["libraries"]}
        self._machine = {**description, "libraries": libraries}
        self._store()

    def rows(self, section: str) -> list[Row]:
        """Rows of a section in the order of the problems and types."""
        order = {name: index for index, name in enumerate(problems.NAMES)}
        types = {name: index for index, name in enumerate(problems.COVARIANCE_TYPES)}
        return sorted(
            self._sections.get(section, []),
            key=lambda row: (
                order.get(row.get("problem", ""), len(order)),
                types.get(row.get("type", ""), 0),
            ),
        )

    def replace(self, section: str, key: tuple[str, ...], row: Row) -> None:
        """Add a row, in place of an earlier one with the same key."""

        def identity(each: Row) -> list[Any]:
            return [each[name] for name in key]

        kept = [each for each in self._sections.get(section, []) if identity(each) != identity(row)]
        self._sections[section] = [*kept, row]
        self._store()

    def _store(self) -> None:
        content = {"format": FORMAT, "machine": self._machine, "sections": self._sections}
        temporary = self.path.with_suffix(".json.part")
        temporary.write_text(json.dumps(content, indent=1) + "\n")
        temporary.replace(self.path)
