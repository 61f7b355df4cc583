"""What is counted before a data folder is taken into the roster."""
from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from fedtui.data_folder import ClassCounts, count, subfolders
from poweranger.client.folder import scan
from poweranger.errors import UserError


def fill(folder: Path, **classes: int) -> Path:
    for name, images in classes.items():
        (folder / name).mkdir(parents=True)
        for number in range(images):
            (folder / name / f"{number}.PNG").write_bytes(b"not looked at")
    return folder


class TestFolder:
    def test_images_are_counted_by_class_also_in_deeper_folders(self, tmp_path: Path) -> None:
        fill(tmp_path, cat=3, dog=2)
        fill(tmp_path / "cat", more=4)
        (tmp_path / "dog" / "notes.txt").write_text("x")
        (tmp_path / "dog" / ".hidden.png").write_text("x")
        (tmp_path / "beside.png").write_text("x")
        assert count(tmp_path) == ClassCounts({"cat": 7, "dog": 2}, others=1, complete=True)

    def test_dicom_files_are_known_by_their_mark_where_the_name_tells_nothing(self, tmp_path: Path) -> None:
        (tmp_path / "ct").mkdir()
        for name, content in (("IM1", bytes(128) + b"DICM"), ("1.2.840.5", bytes(128) + b"DICM"), ("a.dcm", b""), ("README", b"x"), ("2.txt", b"")):
            (tmp_path / "ct" / name).write_bytes(content)
        os.mkfifo(tmp_path / "ct" / "pipe")
        assert count(tmp_path) == ClassCounts({"ct": 3}, others=3, complete=True)

    def test_empty_and_hidden_folders_are_no_classes(self, tmp_path: Path) -> None:
        fill(tmp_path, cat=1, empty=0, **{".git": 5})
        assert count(tmp_path).classes == {"cat": 1}

    def test_a_loop_of_links_ends_and_linked_classes_count(self, tmp_path: Path) -> None:
        fill(tmp_path / "elsewhere", dog=2)
        fill(tmp_path / "data", cat=1)
        os.symlink(tmp_path / "data" / "cat", tmp_path / "data" / "cat" / "again")
        os.symlink(tmp_path / "elsewhere" / "dog", tmp_path / "data" / "dog")
        assert count(tmp_path / "data").classes == {"cat": 1, "dog": 2}

    def test_it_agrees_with_what_a_client_finds(self, shared_data: Path) -> None:
        folder = scan(str(shared_data / "mednist6"), lambda line: None)
        found = {name: sum(file.label == label for file in folder.files) for label, name in enumerate(folder.classes)}
        assert count(shared_data / "mednist6").classes == found

    @pytest.mark.parametrize(("make", "says"), [
        (lambda folder: None, "no class folders"),
        (lambda folder: fill(folder, cat=0), "no images"),
        (lambda folder: fill(folder, **{"a\x1b[31m": 1}), "unprintable"),
    ])
    def test_what_cannot_be_used_is_said(self, tmp_path: Path, make: object, says: str) -> None:
        make(tmp_path)  # type: ignore[operator]
        with pytest.raises(UserError, match=says):
            count(tmp_path)

    def test_counting_tells_how_far_it_is_and_can_be_ended(self, tmp_path: Path) -> None:
        fill(tmp_path, a=1, b=1, c=1)
        seen: list[dict[str, int]] = []
        counts = count(tmp_path, lambda counts: seen.append(counts.classes) or len(seen) < 2)  # type: ignore[func-returns-value]
        assert seen == [{"a": 1}, {"a": 1, "b": 1}] and not counts.complete

    def test_subfolders_are_folders_and_npz_files(self, tmp_path: Path) -> None:
        fill(tmp_path, dog=0, cat=0, **{".cache": 0})
        (tmp_path / "set.npz").touch()
        (tmp_path / "readme.md").touch()
        assert subfolders(tmp_path) == ["cat", "dog", "set.npz"]
        assert subfolders(tmp_path / "absent") == []


class TestNpz:
    def test_labels_are_counted(self, tmp_path: Path) -> None:
        labels = np.array([[2], [10], [10]])
        np.savez(tmp_path / "set.npz", train_labels=labels, val_labels=labels[:1], test_labels=labels, train_images=np.zeros((3, 4, 4), np.uint8))
        counts = count(tmp_path / "set.npz")
        assert counts == ClassCounts({"2": 2, "10": 2}, complete=True)
        assert list(counts.classes) == ["2", "10"]
        np.savez(tmp_path / "set.npz", train_labels=labels, val_labels=np.array(["normal"]))
        assert list(count(tmp_path / "set.npz").classes) == ["2", "10", "normal"]

    def test_rubbish_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "set.npz").write_bytes(b"PK")
        with pytest.raises(UserError, match="no readable"):
            count(tmp_path / "set.npz")
        np.save(tmp_path / "array.npy", np.zeros(3))
        with pytest.raises(UserError, match="no readable"):
            count((tmp_path / "array.npy").rename(tmp_path / "array.npz"))
        with zipfile.ZipFile(tmp_path / "other.npz", "w") as archive:
            archive.writestr("readme", "x")
        with pytest.raises(UserError, match="no images"):
            count(tmp_path / "other.npz")
        with pytest.raises(UserError, match="does not exist"):
            count(tmp_path / "absent.npz")
