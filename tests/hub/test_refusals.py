"""What `llm-jepa push` refuses, and how it reports failed calls, with a Hub on loopback."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import huggingface_hub.constants
import pytest

from llm_jepa.hub.push import push
from tests.hub.hub_run import PUSHED, REPO, refusal
from tests.hub.hub_server import BASE, Fault

UNREADABLE = {
    401: "does not accept your token", 403: "Your token may not write there", 404: "There is no such repository",
    429: "The Hub asks for fewer requests", 500: "The Hub answered 500", 0: "The connection to the Hub broke",
}  # fmt: skip
"""Status of the call for the card that is there -> what is said."""


def test_a_base_that_nobody_else_has_is_refused(hub, run, capsys):
    assert "Name the same model there with `--base_model USER/NAME`" in refusal(hub, capsys, run, "--repo_id", REPO)
    error = refusal(hub, capsys, run, "--repo_id", REPO, "--base_model", "team/typo")
    assert "`--base_model team/typo`: the Hub has no such model" in error
    assert f"models/{REPO}" not in hub.repositories


def test_a_directory_without_weights_is_refused(hub, tmp_path, capsys):
    assert "holds no adapter" in refusal(hub, capsys, tmp_path, "--repo_id", REPO)


@pytest.mark.parametrize(
    ("private", "files", "arguments", "message"),
    [
        (False, {}, [], "exists and is public, and private was asked for"),
        (True, {}, ["--public"], "exists and is private, and public was asked for"),
        (True, {"model.safetensors": b"-"}, [], "exists and holds other weights (model.safetensors)"),
    ],
)
def test_a_repository_of_another_kind_is_left_alone(hub, run, capsys, private, files, arguments, message):
    hub.add(REPO, files, private)
    assert message in refusal(hub, capsys, run, "--repo_id", REPO, "--base_model", BASE, *arguments)


def test_a_name_that_is_none_and_a_card_that_cannot_be_read_are_named(hub, run, capsys):
    error = refusal(hub, capsys, run, "--repo_id", "a/b/c", "--base_model", BASE)
    assert "a/b/c: A repository is named NAME or OWNER/NAME, both of letters" in error
    error = refusal(hub, capsys, run, "--repo_id", REPO, "--base_model", "../tiny")
    assert error.startswith("error: `--base_model ../tiny`: A repository is named")
    hub.add(REPO, {"README.md": b"---\nlicense: [mit\n---\n"}, private=True)
    error = refusal(hub, capsys, run, "--repo_id", REPO, "--base_model", BASE)
    assert "its README.md is left as it is: the metadata at its top cannot be read" in error


def test_a_card_that_is_no_utf_8_and_a_record_that_was_cut_off_are_named(hub, run, capsys):
    arguments = run, "--repo_id", REPO, "--base_model", BASE
    hub.add(REPO, {"README.md": "---\nlicense: mit\n---\ncaf\xe9".encode("latin-1")}, private=True)
    assert "its README.md is not UTF-8 at byte 24" in refusal(hub, capsys, *arguments)
    (run / "environment.json").write_text("{")
    assert "environment.json` cannot be read" in refusal(hub, capsys, *arguments)


class NoHub(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.server.answer)

    def log_message(self, *arguments):
        pass


@pytest.mark.parametrize("answer", [b"<html>Log in to the proxy</html>", b'{"error": "no"}'])
def test_what_answers_but_is_no_hub_is_said(hub, run, capsys, monkeypatch, answer):
    server = ThreadingHTTPServer(("127.0.0.1", 0), NoHub)
    server.answer = answer
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", endpoint)
    try:
        error = refusal(hub, capsys, run, "--repo_id", REPO, "--base_model", BASE)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert f"{REPO}: {endpoint}: The answer does not come from a Hub. Check HF_ENDPOINT" in error


def test_an_endpoint_without_a_scheme_is_named(hub, run, capsys, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "127.0.0.1:9")
    error = refusal(hub, capsys, run, "--repo_id", REPO, "--base_model", BASE)
    assert "HF_ENDPOINT is '127.0.0.1:9'; it must begin with https:// or http://." in error


def test_an_expired_token_and_a_missing_one_are_told_apart(hub, run, capsys, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_expired")
    arguments = run, "--repo_id", REPO, "--base_model", BASE
    assert "does not accept your token; it may have expired. Log in again" in refusal(hub, capsys, *arguments)
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(run / "none"))
    assert "You are not logged in." in refusal(hub, capsys, *arguments)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set, and this command needs the Hub." in refusal(hub, capsys, *arguments)


@pytest.mark.parametrize(("repo_id", "role"), [("others/adapter", "write"), (REPO, "read")])
def test_no_permission_is_said(hub, run, capsys, repo_id, role):
    hub.role = role
    error = refusal(hub, capsys, run, "--repo_id", repo_id, "--base_model", BASE)
    assert f"{repo_id}: Your token may not write there." in error
    assert not any("create" in call for call in hub.calls)


def test_what_a_fine_grained_token_may_do_is_left_to_the_hub(hub, run, capsys):
    hub.role = "fineGrained"
    error = refusal(hub, capsys, run, "--repo_id", "others/adapter", "--base_model", BASE)
    assert "may not write there" in error
    assert "The Hub says: You do not have the rights to write here." in error


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("/commit/", 403, "Your token may not write there"),
        ("/commit/", 409, "Somebody else is changing the repository now"),
        ("/commit/", 412, "Somebody else has changed the repository in the meantime"),
        ("/commit/", 429, "The Hub asks for fewer requests"),
        ("/commit/", 500, "The Hub answered 500"),
        ("/commit/", 0, "The connection to the Hub broke"),
        ("^/objects/", 403, "Error while uploading 'adapter_model.safetensors'"),
        ("/repos/create", 500, "The Hub answered 500"),
        ("/repos/create", 409, "A repository of this name exists, but your token may not see it"),
        ("/preupload/", 403, "Your token may not write there"),
        ("/info/lfs", 500, "The Hub answered 500"),
        *(("/resolve/", status, message) for status, message in UNREADABLE.items()),
        ("/whoami-v2", 0, "The connection to the Hub broke"),
    ],
)
def test_a_failing_call_is_explained_and_publishes_nothing(hub, run, capsys, path, status, message):
    if path == "/resolve/":
        hub.add(REPO, {"README.md": b"Mine.\n"}, private=True)
    hub.faults.append(Fault(path, status))
    error = refusal(hub, capsys, run, "--repo_id", REPO, "--base_model", BASE)
    assert message in error
    assert ("Nothing was published" in error) == (0 < status < 500)
    hub.faults.clear()
    push(run, REPO, base_model=BASE)  # the same again, once the fault is gone
    assert set(hub.model(REPO).files) == PUSHED


def test_a_broken_upload_by_xet_is_explained_too(hub, run, capsys, monkeypatch):
    """The Hub's newer storage, which the client reports by exceptions of its own; this server does not have it."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", False)
    error = refusal(hub, capsys, run, "--repo_id", REPO, "--base_model", BASE)
    assert "The connection to the Hub broke" in error


@pytest.mark.parametrize("status", [429, 500, 0])
def test_a_passing_fault_of_an_upload_is_tried_again_by_the_client(hub, run, status):
    hub.faults.append(Fault("^/objects/", status, times=1))
    push(run, REPO, base_model=BASE)
    assert sum(call.startswith("PUT /objects/") for call in hub.calls) == 2
    assert hub.model(REPO).files["adapter_model.safetensors"] == (run / "adapter_model.safetensors").read_bytes()


def test_a_commit_of_somebody_else_in_between_is_not_written_over(hub, run, monkeypatch):
    """It arrives after the card was read and before ours is sent."""
    push(run, REPO, base_model=BASE)
    (run / "chat_template.jinja").write_text("{{ messages }}")
    repository = hub.model(REPO)
    theirs = repository.files | {"README.md": b"---\nlicense: mit\n---\nTheirs.\n"}
    hub.before_commit = lambda: repository.commits.append(theirs)
    with pytest.raises(ValueError, match="Somebody else has changed the repository in the meantime"):
        push(run, REPO, base_model=BASE)
    assert repository.files == theirs
