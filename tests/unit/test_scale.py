"""The tables of docs/scale.md are what its formulas give, and the formulas are those of the engine's arithmetic."""

import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "scale.md").read_text(encoding="utf-8")
CODE = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def numbers(**changed):
    """What the page's code gives; `changed` are numbers that a reader has put in instead."""
    (code,) = CODE
    for name, value in changed.items():
        code, n = re.subn(rf"^(.*\b){name}\b( = |, .* = ).*$", rf"{name} = {value}", code, count=1, flags=re.MULTILINE)
        assert n == 1, name
    namespace = {}
    exec(code, namespace)
    return namespace
