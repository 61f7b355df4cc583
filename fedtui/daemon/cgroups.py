"""The memory cgroups that this process lives in, versions 1 and 2: their limits, what they use, whom the kernel killed."""
from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

NO_LIMIT = 1 << 60  # version 1 spells "no limit" as the largest multiple of a page


@dataclass(frozen=True)
class Group:
    """One group; `folder` is where the kernel shows it. What a group does not tell is None."""

    folder: Path
    version: int

    @property
    def limit(self) -> int | None:
        """Bytes that it may use. Above `memory.high` the kernel already slows its processes down until they crawl."""
        names = ("memory.limit_in_bytes",) if self.version == 1 else ("memory.max", "memory.high")
        limits = [limit for name in names if (limit := self._number(name)) is not None and limit < NO_LIMIT]
        return min(limits, default=None)

    @property
    def used(self) -> int | None:
        """Bytes in use without the file pages that the kernel drops first when it needs room."""
        current = self._number("memory.usage_in_bytes" if self.version == 1 else "memory.current")
        inactive = self._counters("memory.stat").get("total_inactive_file" if self.version == 1 else "inactive_file", 0)
        return None if current is None else max(current - inactive, 0)

    @property
    def oom_kills(self) -> int | None:
        """How many of its processes the kernel has killed for want of memory."""
        return self._counters("memory.oom_control" if self.version == 1 else "memory.events").get("oom_kill")

    @property
    def pressure(self) -> Path:
        """Where the kernel tells how long its processes wait for memory; version 1 has no such file."""
        return self.folder / "memory.pressure"

    def _number(self, name: str) -> int | None:
        try:
            return int((self.folder / name).read_text())
        except (OSError, ValueError):  # absent at the root; "max" for no limit
            return None

    def _counters(self, name: str) -> dict[str, int]:
        try:
            words = [line.split() for line in (self.folder / name).read_text().splitlines()]
        except OSError:
            return {}
        return {fields[0]: int(fields[1]) for fields in words if len(fields) == 2 and fields[1].isdigit()}


def own_groups(proc: Path = Path("/proc")) -> list[Group]:
    """This process's groups from its own up to the root, those of both versions where a machine mixes them."""
    try:
        mine: dict[int, str] = {}
        for line in (proc / "self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers or "memory" in controllers.split(","):
                mine[1 if controllers else 2] = path
        mounts = [_mount(line) for line in (proc / "self/mountinfo").read_text().splitlines()]
    except (OSError, ValueError):
        return []
    groups = []
    for version, root, point in filter(None, mounts):
        if version in mine:
            path = mine.pop(version)
            below = path[len(root) :] if root != "/" and path.startswith(root) else path  # a container sees a part of the tree
            folder = point / below.strip("/")
            while folder.is_relative_to(point):
                groups.append(Group(folder, version))
                folder = folder.parent
    return groups


def _mount(line: str) -> tuple[int, str, Path] | None:
    """Version, root inside the hierarchy, and mount point of a line of `mountinfo` that mounts a memory hierarchy."""
    fields, _, rest = line.partition(" - ")
    kind, _, options = rest.split(" ", 2)
    if kind != "cgroup2" and not (kind == "cgroup" and "memory" in options.split(",")):
        return None
    root, point = (re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), text) for text in fields.split()[3:5])
    return (2 if kind == "cgroup2" else 1), root, Path(point)
