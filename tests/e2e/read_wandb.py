"""Prints what a ``.wandb`` file holds as JSON: settings, history and exit code. Run where wandb is installed.

The file is a log in the format of LevelDB: blocks of 32 KiB with records of checksum, length, kind and data.
"""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

_BLOCK, _HEADER = 32768, 7
_FULL, _LAST = 1, 4


def records(content: bytes) -> Iterator[bytes]:
    at, parts = 7, b""  # the file begins with its own name and version
    while at + _HEADER <= len(content):
        left = _BLOCK - at % _BLOCK
        if left < _HEADER:
            at += left
            continue
        _, length, kind = struct.unpack_from("<IHB", content, at)
        parts += content[at + _HEADER : at + _HEADER + length]
        at += _HEADER + length
        if kind in (_FULL, _LAST):
            yield parts
            parts = b""


def main(path: Path) -> None:
    from wandb.proto.wandb_internal_pb2 import Record

    found: dict[str, object] = {"history": [], "config": {}, "exit_code": None}
    for data in records(path.read_bytes()):
        record = Record()
        record.ParseFromString(data)
        if record.WhichOneof("record_type") == "history":
            items = {(i.key or "/".join(i.nested_key)): json.loads(i.value_json) for i in record.history.item}
            found["history"].append(items)
        elif record.WhichOneof("record_type") == "run":
            found["name"], found["group"] = record.run.display_name, record.run.run_group
            for item in record.run.config.update:
                found["config"][item.key or "/".join(item.nested_key)] = json.loads(item.value_json)
        elif record.WhichOneof("record_type") == "exit":
            found["exit_code"] = record.exit.exit_code
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
