"""A run's files to its folder in Drive: what is missing there or has changed since, and nothing twice."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from fedtui.drive.choice import Chosen
from fedtui.drive.service import Drive, Remote
from fedtui.drive.store import Store
from fedtui.drive.transfer import Content, Transfer

NEW, CHANGED, THERE = "new", "changed", "already there"


@dataclass(frozen=True)
class Planned:
    """A file and what an upload would do with it: `new`, `changed` or `already there`; `remote` is its like in Drive."""

    file: Chosen
    state: str
    remote: Remote | None = None


@dataclass(frozen=True)
class Plan:
    """What an upload of a run would do; `folder` is None when there is none yet."""

    run: str
    account: str
    folder: Remote | None
    files: tuple[Planned, ...]

    @property
    def to_send(self) -> list[Planned]:
        """The files that would leave this machine."""
        return [planned for planned in self.files if planned.state != THERE]


def plan(drive: Drive, run: str, files: Sequence[Chosen]) -> Plan:
    """Compare a run's files with what Drive has of them, by size and MD5."""
    account, folder = drive.account(), drive.find_folder(run)
    there = drive.files(folder) if folder else {}
    return Plan(run, account, folder, tuple(_compare(file, there.get(file.name)) for file in files))


def upload(drive: Drive, plan: Plan, store: Store, advance: Callable[[Chosen, int], object]) -> Remote:
    """Send what `plan` says; the run's folder.

    Parameters
    ----------
    advance : told, again and again, a file and how many bytes of it have arrived.

    Raises
    ------
    UploadFailed
        When it cannot go on. What has arrived stays, also of the file it stopped in.
    """
    folder = plan.folder or drive.make_folder(plan.run)
    for planned in plan.to_send:
        file, there = planned.file, planned.remote
        with Content(file.path) as content:
            request = partial(drive.new_content, there, content) if there else partial(drive.new_file, folder, file.name, content)
            target = there.id if there else folder.id
            Transfer(f"{plan.run}/{file.name}", target, content, request, store, drive.patience).run(partial(advance, file))
    return folder


def _compare(file: Chosen, there: Remote | None) -> Planned:
    if there is None:
        return Planned(file, NEW)
    with Content(file.path) as content:
        same = (content.size(), content.md5) == (there.size, there.md5)
    return Planned(file, THERE if same else CHANGED, there)
