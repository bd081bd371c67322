"""A file or a folder takes the place of the old one whole, or not at all."""

import threading
from pathlib import Path

import pytest

from lib.files import check_writable, replacing, tracked


def make(path: Path, text: str, *, folder: bool) -> None:
    """A file with the text, or a folder of one such file that is called by it."""
    if folder:
        path.mkdir()
    (path / text if folder else path).write_text(text)


def held(path: Path) -> list[str]:
    """The text of the file, or of each file of the folder."""
    return [file.read_text() for file in (sorted(path.iterdir()) if path.is_dir() else [path])]


@pytest.mark.parametrize("folder", [False, True], ids=["file", "folder"])
def test_success_takes_the_place_and_failure_leaves_it(folder, tmp_path):
    path = tmp_path / "deep" / "deeper" / "one.txt"
    for text in ("first", "second"):
        with replacing(path) as fresh:
            make(fresh, text, folder=folder)
            assert path.exists() == (text == "second"), "nothing changes before the block ends"
            assert fresh.name == path.name and fresh.stat().st_dev == path.parent.stat().st_dev
        assert held(path) == [text]
    with pytest.raises(KeyboardInterrupt), replacing(path) as fresh:
        make(fresh, "third", folder=folder)
        raise KeyboardInterrupt
    assert held(path) == ["second"]
    assert list(path.parent.iterdir()) == [path], "no trace is left beside it"


@pytest.mark.parametrize("folder", [False, True], ids=["file", "folder"])
def test_a_block_that_writes_nothing_is_an_error_and_leaves_the_old(folder, tmp_path):
    path = tmp_path / "one"
    make(path, "old", folder=folder)
    with pytest.raises(FileNotFoundError), replacing(path):
        pass
    assert held(path) == ["old"] and list(tmp_path.iterdir()) == [path]


def test_what_is_written_can_be_read_by_all_that_could_before(tmp_path):
    """The modes are those of a file and a folder that are made in place, not those of a private temporary one."""
    for folder in (False, True):
        make(tmp_path / f"plain {folder}", "text", folder=folder)
        with replacing(tmp_path / f"replaced {folder}") as fresh:
            make(fresh, "text", folder=folder)
        plain, replaced = (tmp_path / f"{how} {folder}" for how in ("plain", "replaced"))
        assert plain.stat().st_mode == replaced.stat().st_mode


def test_a_folder_that_cannot_be_put_in_place_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "one"
    make(path, "old", folder=True)

    def no(*_):
        raise OSError("no")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="no"), replacing(path) as fresh:
        make(fresh, "new", folder=True)
        patch.setattr(Path, "replace", no)
    assert held(path) == ["old"] and list(tmp_path.iterdir()) == [path]


def test_whether_a_place_can_be_written_is_told_without_making_it(tmp_path):
    for place in (tmp_path, tmp_path / "new", tmp_path / "deep" / "deeper" / "new"):
        check_writable(place)
        assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    check_writable(tmp_path / "file")
    with pytest.raises(OSError, match=r"nothing can be written at .*file/new: Not a directory"):
        check_writable(tmp_path / "file" / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_progress_ends_with_its_block_where_that_fails():
    """Its threads are not left to the garbage collector, which might join one while another one is drawn.

    They are told to end, and rich joins but one of them: the other may take a moment more.
    """
    before = set(threading.enumerate())
    with pytest.raises(ValueError, match="in the midst") as kept, tracked([1, 2], "counting") as shown:
        for _ in shown:
            raise ValueError("in the midst")
    begun = set(threading.enumerate()) - before
    for thread in begun:
        thread.join(timeout=10)
    assert kept.traceback and not any(thread.is_alive() for thread in begun)
