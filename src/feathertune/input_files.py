"""Input files: only regular ones are read, since a pipe may keep its reader waiting and can be read once only."""

from __future__ import annotations

import stat
from pathlib import Path

from feathertune.errors import DataError, FeathertuneError, is_whole

_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def check_regular(path: Path, error: type[FeathertuneError] = DataError) -> None:
    """Raise an error for a pipe, a socket, a device, or a name that is not UTF-8; a missing file passes."""
    if not is_whole(str(path)):
        raise error(f"The name of the file {str(path)!a} is not UTF-8. Rename it.")
    try:
        kind = _KINDS.get(stat.S_IFMT(path.stat().st_mode))
    except (OSError, ValueError):
        return
    if kind is not None:
        raise error(
            f"{path} is {kind}. Expected a file, which can be read twice: save the content to a file, or pass lines "
            "of text to `feathertune predict --input -`."
        )


def state_of(path: Path) -> tuple[int, ...]:
    """Return numbers that differ if a file was changed or replaced."""
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
