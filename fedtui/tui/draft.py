"""Changes to the run configuration that are not saved yet."""
from __future__ import annotations

from fedtui.tui.project_file import ProjectFile
from poweranger.errors import UserError
from poweranger.run_config import Value, resolve


class Draft:
    """What the user has changed in the file's values. Undo also goes back behind a save: it makes a change of it.

    Attributes
    ----------
    file : what the changes are made to; `take` brings a newer one.
    changes : the new values by key.
    """

    def __init__(self, file: ProjectFile) -> None:
        self.file = file
        self.changes: dict[str, Value] = {}
        self._steps: list[tuple[str, Value | None]] = []  # a key, and its value before; None for the file's, when that is wrong

    def value(self, name: str) -> Value:
        """A key's value with the changes made."""
        return self.changes.get(name, self.file.entries[name].value)

    def read(self, name: str, text: str) -> Value:
        """The value that `text` stands for.

        Raises
        ------
        UserError
            When it is not allowed, by itself or together with the other values.
        """
        value = self.file.entries[name].key.parse(text)
        try:
            resolve({other: self.value(other) for other in self.file.entries})
        except UserError:  # the values contradict each other already: one at a time must be enough to mend that
            return value
        resolve({other: value if other == name else self.value(other) for other in self.file.entries})
        return value

    def set(self, name: str, value: Value) -> None:
        """Change a key; the file's own value takes the change back."""
        wrong = self.file.entries[name].wrong and name not in self.changes
        if value == self.value(name) and not wrong:
            return
        self._steps.append((name, None if wrong else self.value(name)))
        self._change(name, value)

    def undo(self) -> str | None:
        """Take the last step back; the key it was about, None when there is none."""
        if not self._steps:
            return None
        name, value = self._steps.pop()
        if value is None:
            if name not in self.changes:  # it was saved: what was wrong in the file does not come back
                return self.undo()
            del self.changes[name]
        else:
            self._change(name, value)
        return name

    def drop(self) -> None:
        """Go back to the file's values."""
        self.changes.clear()
        self._steps.clear()

    def take(self, file: ProjectFile) -> None:
        """Go on from what the file holds now; what it holds already is no change any more."""
        self.file = file
        for name, value in list(self.changes.items()):
            self._change(name, value)

    def _change(self, name: str, value: Value) -> None:
        entry = self.file.entries[name]
        if value == entry.value and type(value) is type(entry.value) and not entry.wrong:
            self.changes.pop(name, None)
        else:
            self.changes[name] = value
