"""Files written whole or not at all, the hashes that name unfinished work, and the console that shows its progress."""

import hashlib
import tempfile
from collections.abc import Generator, Iterable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import TypeVar, cast

from rich.console import Console
from rich.progress import track
from torch import Tensor

console = Console(stderr=True)
"""Where progress is shown: what a command prints stays free for other programs."""


T = TypeVar("T")


def tracked(items: Iterable[T], description: str, *, total: int | None = None) -> AbstractContextManager[Iterator[T]]:
    """The items one by one, with their progress on the console, which ends with the block, however that ends.

    Left to the garbage collector, rich's thread might be joined in the midst of drawing another one, and wait for ever.
    """
    return closing(cast(Generator[T], track(items, description, total=total, console=console)))


def key(command: str, *, inputs: Iterable[Tensor] = ()) -> str:
    """A short hash that changes with the command, and with any number in the tensors that it is carried out on."""
    digest = hashlib.sha256(command.encode())
    for tensor in inputs:
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]


def check_writable(path: Path) -> None:
    """Raise OSError where no file can be written at ``path``, or in it if it is a folder; no folder is made."""
    path = path.resolve()
    there = next(place for place in (path, *path.parents) if place.exists())
    folder = path.parent if there == path and not path.is_dir() else there
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise OSError(f"nothing can be written at {path}: {error.strerror}") from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A free path beside ``path`` on which to write a file or make a folder; parent folders are made.

    It takes the place of ``path`` when the block succeeds; when it fails, what was written is gone and ``path`` stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as scratch:
        fresh = Path(scratch, path.name)
        yield fresh
        if not (fresh.is_dir() and path.exists()):
            fresh.replace(path)
            return
        old = path.rename(Path(scratch, f"old.{path.name}"))
        try:
            fresh.replace(path)
        except BaseException:
            old.rename(path)
            raise
