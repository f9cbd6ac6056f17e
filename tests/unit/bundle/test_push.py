"""A bundle pushed to a stand-in of the hub: what arrives, what is said, and what never leaves."""

from __future__ import annotations

import json
import shutil
import socket
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

import feathertune
from e2e.cli import in_process
from feathertune.bundle import load_bundle, save_bundle
from feathertune.encoders import load_encoder
from feathertune.errors import BundleError, HubError
from loopback_hub import Hub, loopback_hub, point_at
from unit.bundle.test_bundle import LABELS, SETTINGS, edit, saved, seal

REPO = "someone/reviews"


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    """A folder with `base`, an adapter on it and a whole model."""
    folder = saved(tmp_path_factory.mktemp("original"), "distilbert")
    whole = load_encoder(str(folder / "base"), labels=LABELS, seed=0)
    save_bundle(folder / "whole", whole.model, whole, replace(SETTINGS, method="full"))
    return folder


@pytest.fixture
def bundle(original, tmp_path) -> Path:
    shutil.copytree(original, tmp_path, dirs_exist_ok=True)
    return tmp_path / "bundle"


@pytest.fixture
def hub(monkeypatch):
    with loopback_hub() as listening:
        point_at(monkeypatch, listening.endpoint)
        yield listening


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def arrived(hub: Hub, revision: str = "main") -> dict[str, bytes]:
    files = hub.repositories[REPO][revision]
    return {name: content for name, content in files.items() if name != ".gitattributes"}


def test_the_bytes_that_arrive_are_the_bundles(bundle, hub, tmp_path):
    pushed = feathertune.push(bundle, REPO)
    assert arrived(hub) == files_of(bundle)
    assert hub.visibility == {REPO: "private"}
    assert hub.commits == ["feathertune bundle: lora on base"], "one commit: nobody ever sees half of it"
    assert (pushed.url, pushed.revision, pushed.commit) == (f"{hub.endpoint}/{REPO}", "main", f"{1:040x}")
    assert pushed.files == len(files_of(bundle))
    assert "'base' is a local folder" in pushed.notes[0]
    fetched = tmp_path / "fetched"
    fetched.mkdir()
    for name, content in hub.repositories[REPO]["main"].items():
        (fetched / name).write_bytes(content)
    assert load_bundle(fetched).info.labels == list(LABELS)


def test_no_folder_of_this_machine_is_told(bundle, hub):
    info = json.loads((bundle / "feathertune.json").read_text())
    edit(bundle / "feathertune.json", base=info["base"] | {"local": "../../home/someone/models/base"})
    seal(bundle)
    before = files_of(bundle)
    feathertune.push(bundle, REPO, base=str(bundle.parent / "base"))
    assert json.loads(arrived(hub)["feathertune.json"])["base"]["local"] == "../base"
    assert b"someone" not in b"".join(arrived(hub).values())
    assert files_of(bundle) == before


def test_the_hub_accepts_the_card(bundle, hub):
    ModelCard.load(bundle / "README.md").validate()
    assert hub.requests == ["POST /api/validate-yaml"]


def test_a_branch_and_a_public_repository(bundle, hub):
    pushed = feathertune.push(bundle.parent / "whole", REPO, revision="v2", public=True, message="The second one")
    assert hub.visibility == {REPO: "public"}
    assert arrived(hub) == {}
    assert arrived(hub, "v2") == files_of(bundle.parent / "whole")
    assert (hub.commits, pushed.revision, pushed.notes) == (["The second one"], "v2", ())
    feathertune.push(bundle.parent / "whole", REPO, revision="v2")
    assert hub.visibility == {REPO: "public"}, "one that exists stays as it is"


def test_another_bundle_takes_its_place_without_a_rest(bundle, hub):
    feathertune.push(bundle.parent / "whole", REPO)
    feathertune.push(bundle, REPO)
    assert arrived(hub) == files_of(bundle)
    assert ".gitattributes" in hub.repositories[REPO]["main"]


def test_a_repository_of_something_else_is_left_alone(bundle, hub):
    hub.repositories[REPO] = {"main": {"notes.txt": b"mine", ".gitattributes": b""}}
    with pytest.raises(HubError, match=r"contains 1 files that do not belong to a bundle, such as notes.txt"):
        feathertune.push(bundle, REPO)
    assert hub.repositories[REPO]["main"].keys() == {"notes.txt", ".gitattributes"}


# What never leaves


def test_a_damaged_bundle_is_refused_before_the_hub_hears_of_it(bundle, hub):
    weights = bundle / "adapter_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(BundleError, match="was changed"):
        feathertune.push(bundle, REPO)
    assert hub.requests == []


@pytest.mark.parametrize("form", ["posix", "windows"])
def test_a_path_of_this_machine_is_refused(bundle, hub, form):
    local = str(bundle.parent / "base") if form == "posix" else "C:\\models\\base"
    info = json.loads((bundle / "feathertune.json").read_text())
    edit(bundle / "feathertune.json", base=info["base"] | {"local": local})
    seal(bundle)
    with pytest.raises(BundleError, match="by an absolute path"):
        feathertune.push(bundle, REPO, base=str(bundle.parent / "base"))
    assert hub.requests == []


# What the hub says


@pytest.mark.parametrize(
    ("path", "status", "message", "expected"),
    [
        (
            "/api/repos/create",
            403,
            "You don't have the rights",
            r"not have write access to someone/reviews \(403.*HF_TOKEN",
        ),
        ("/api/repos/create", 404, "No such namespace", r"cannot find someone/reviews \(404.*owner"),
        ("/api/validate-yaml", 400, '"license" must be one of', 'The hub rejected the bundle: .*"license" must be'),
        ("/api/models/someone/reviews/commit", 412, "A commit came between", r"rejected the push .* \(412: A commit"),
    ],
)
def test_refusals_of_the_hub_are_sentences(bundle, hub, path, status, message, expected):
    hub.refusals[path] = (status, message)
    if status == 403:
        hub.refusals["/api/models/someone/reviews"] = (404, "Repository not found")
    with pytest.raises(HubError, match=expected) as caught:
        feathertune.push(bundle, REPO)
    assert "\n" not in str(caught.value)
    assert arrived(hub) == {} if REPO in hub.repositories else True


def test_without_a_token(bundle, hub, monkeypatch):
    point_at(monkeypatch, hub.endpoint, token=None)
    with pytest.raises(HubError, match=r"not logged in to the hub \(401\).*hf auth login"):
        feathertune.push(bundle, REPO)


def test_names_that_are_none(bundle, hub):
    for name in ("a/b/c", "some one/x", ""):
        with pytest.raises(HubError, match=r"not a valid repository name.*Expected OWNER/NAME"):
            feathertune.push(bundle, name)
    assert hub.requests == []


def test_no_network_and_offline(bundle, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{free.getsockname()[1]}"
    point_at(monkeypatch, endpoint)
    with pytest.raises(HubError, match=f"Cannot reach the hub at {endpoint}: .*HF_ENDPOINT"):
        feathertune.push(bundle, REPO)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match="while HF_HUB_OFFLINE is set"):
        feathertune.push(bundle, REPO)


# The command


def test_the_command(bundle, hub, monkeypatch, capsys):
    result = in_process(monkeypatch, capsys, "push", bundle, REPO, "--revision", "v1", "--message", "First")
    assert result.code == 0, result.stderr
    assert f"7 files at {hub.endpoint}/{REPO}, v1, commit {1:040x}\n" in result.stdout
    assert f"hf download {REPO} --revision {1:040x} --local-dir FOLDER" in result.stdout
    assert "'base' is a local folder" in result.stderr
    assert arrived(hub, "v1") == files_of(bundle)
    as_json = in_process(monkeypatch, capsys, "push", bundle.parent / "whole", REPO, "--json")
    assert json.loads(as_json.stdout)["commit"] == f"{2:040x}"
    hub.refusals["/api/"] = (401, "Invalid username or password.")
    refused = in_process(monkeypatch, capsys, "push", bundle, REPO)
    assert refused.code == 1
    assert "feathertune: You are not logged in to the hub (401)" in refused.stderr
    assert "Traceback" not in refused.stderr
    (bundle / "README.md").unlink()
    damaged = in_process(monkeypatch, capsys, "push", bundle, REPO)
    assert damaged.code == 2
    assert "README.md is missing" in damaged.stderr
