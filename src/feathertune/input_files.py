"""Checks of input files: only regular files are read, since a pipe can block and can be read only once."""

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
    """Raise `error` for a pipe, a socket, a device, or a name that is not UTF-8; a missing file passes."""
    if not is_whole(str(path)):
        raise error(f"The file name {str(path)!a} is not UTF-8. Rename the file.")
    try:
        kind = _KINDS.get(stat.S_IFMT(path.stat().st_mode))
    except (OSError, ValueError):
        return
    if kind is not None:
        raise error(
            f"{path} is {kind}. Expected a regular file, because it is read twice. Save the content to a file, or pipe "
            "lines of text to `feathertune predict --input -`."
        )


def state_of(path: Path) -> tuple[int, ...]:
    """Return numbers that change when the file is changed or replaced."""
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
