from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from feathertune.errors import ConfigError
from feathertune.output_folder import FolderKind, check_place, claim_folder, claimed, write_output, writing_into

INNER = FolderKind("manifest.json", keys=("files",))
KIND = FolderKind("plan.json", keys=("runs",), patterns=("runs/*/*.json",), inner=(("runs/*/bundle", INNER),))


def result(folder):
    """A folder of the kind, with a folder of another kind inside."""
    bundle = folder / "runs" / "a" / "bundle"
    bundle.mkdir(parents=True)
    (folder / "plan.json").write_text('{"runs": [], "files": ["listed.csv", "../outside"]}')
    (folder / "listed.csv").write_text("")
    (folder / "runs" / "a" / "run.json").write_text("{}")
    (bundle / "manifest.json").write_text('{"files": {"weights": {}}}')
    (bundle / "weights").write_text("")
    return folder


@pytest.mark.parametrize("content", ["{}", "[]", "null", "not JSON", '{"name": "app", "icons": []}', "[" * 100_000])
@pytest.mark.parametrize("check", [claim_folder, check_place])
def test_a_folder_is_recognised_by_the_content_of_its_marker(tmp_path, content, check):
    (tmp_path / "plan.json").write_text(content)
    for overwrite in (False, True):
        with pytest.raises(ConfigError, match="was not written by feathertune"):
            check(tmp_path, KIND, overwrite=overwrite)
    assert (tmp_path / "plan.json").read_text() == content


def test_only_files_of_ours_are_deleted(tmp_path):
    folder = result(tmp_path / "study")
    notes = [folder / "notes.md", folder / "runs" / "a" / "bundle" / "notes.md", folder / "mine" / "empty"]
    for path in notes[:2]:
        path.write_text("mine")
    notes[2].mkdir(parents=True)
    (folder / ".study.json.abcd.tmp").write_text("half")
    (tmp_path / "outside").write_text("mine")
    with pytest.raises(ConfigError, match="already holds a result"):
        claim_folder(folder, KIND, overwrite=False)
    claim_folder(folder, KIND, overwrite=True)
    assert {path for path in folder.rglob("*") if not path.is_dir() or not any(path.iterdir())} == set(notes)
    assert (tmp_path / "outside").exists()


def test_a_place_with_somebodys_file_is_not_replaced(tmp_path):
    folder = result(tmp_path / "study")
    check_place(folder, KIND, overwrite=True)
    (folder / "runs" / "notes.md").write_text("mine")
    with (
        pytest.raises(ConfigError, match=r"runs/notes.md, which feathertune did not write"),
        claimed(folder, KIND, overwrite=True),
    ):
        pass


def test_a_link_to_a_folder_is_somebodys_file(tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "run.json").write_text("mine")
    folder = result(tmp_path / "study")
    (folder / "runs" / "b").symlink_to(tmp_path / "precious")
    claim_folder(folder, KIND, overwrite=True)
    assert (tmp_path / "precious" / "run.json").read_text() == "mine"


def test_check_place_makes_and_deletes_nothing(tmp_path):
    older = result(tmp_path / "older")
    before = sorted(older.rglob("*"))
    with pytest.raises(ConfigError, match="already holds a result"):
        check_place(older, KIND, overwrite=False)
    check_place(older, KIND, overwrite=True)
    assert sorted(older.rglob("*")) == before
    with pytest.raises(ConfigError, match="is a file"):
        check_place(older / "plan.json", KIND, overwrite=True)
    with pytest.raises(ConfigError, match="cannot be written"):
        check_place(older / "plan.json" / "below", KIND, overwrite=False)
    with pytest.raises(ConfigError, match="root"):
        check_place(Path("/"), KIND, overwrite=True)
    check_place(tmp_path / "new" / "below", KIND, overwrite=False)
    assert not (tmp_path / "new").exists()


def test_what_a_killed_process_left_is_no_stranger(tmp_path):
    (tmp_path / ".plan.json.abc.tmp").write_text("half")
    with writing_into(tmp_path):
        claim_folder(tmp_path, KIND, overwrite=False)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_stays_empty_goes_again(tmp_path):
    with pytest.raises(RuntimeError), writing_into(tmp_path / "new"):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_one_process_writes_into_a_folder(tmp_path):
    def elsewhere():
        with writing_into(tmp_path / "study"):
            return True

    with ThreadPoolExecutor(1) as other, writing_into(tmp_path / "study"):
        refused = other.submit(elsewhere).exception()
    assert isinstance(refused, ConfigError)


def test_claim_folder_that_is_a_file_or_cannot_be_made(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(ConfigError, match="is a file"):
        claim_folder(file, KIND, overwrite=True)
    with pytest.raises(ConfigError, match="cannot be written"):
        claim_folder(file / "below", KIND, overwrite=False)


def test_write_output_replaces_only_when_asked(tmp_path):
    path = tmp_path / "table.md"
    write_output(path, "one", option="--output", overwrite=False)
    with pytest.raises(ConfigError, match="exists"):
        write_output(path, "two", option="--output", overwrite=False)
    with pytest.raises(ConfigError, match="cannot be written"):
        write_output(path / "below", "two", option="--output", overwrite=False)
    assert path.read_text() == "one"
    write_output(path, "two", option="--output", overwrite=True)
    assert path.read_text() == "two"
