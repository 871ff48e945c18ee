"""A Hub on loopback, for tests: the calls that huggingface_hub makes to create, fill and read a repository.

whoami-v2, repos/create, validate-yaml, repository info, preupload, the LFS batch and its uploads, commit (NDJSON),
tree, resolve (HEAD and GET). A commit is applied whole or not at all. Faults are set per test.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

TOKEN = "hf_loopback"
USER = "team"
BASE, DATA = "team/tiny-base", "team/pairs"
"""What the Hub of the fixture has."""
LFS_SUFFIXES = (".safetensors", ".bin")


@dataclass
class Repository:
    """Its commits, each the files of the whole repository; the first holds `.gitattributes` alone."""

    private: bool
    commits: list[dict[str, bytes]] = field(default_factory=lambda: [{".gitattributes": b"*.safetensors lfs\n"}])
    messages: list[str] = field(default_factory=list)

    @property
    def files(self) -> dict[str, bytes]:
        return self.commits[-1]

    @property
    def sha(self) -> str:
        return self.sha_of(len(self.commits) - 1)

    def sha_of(self, index: int) -> str:
        return hashlib.sha1(repr((index, sorted(self.commits[index].items()))).encode()).hexdigest()

    def at(self, revision: str) -> dict[str, bytes] | None:
        if revision == "main":
            return self.files
        shas = [self.sha_of(index) for index in range(len(self.commits))]
        return self.commits[shas.index(revision)] if revision in shas else None


@dataclass
class Fault:
    """What goes wrong with calls whose path matches: a status, or a dropped connection (0); `times` of them."""

    path: str
    status: int
    times: int = 1_000


class HubServer(ThreadingHTTPServer):
    """Its state: repositories by `kind/id`, and what was asked."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, Repository] = {}
        self.objects: dict[str, bytes] = {}
        self.faults: list[Fault] = []
        self.calls: list[str] = []
        self.writable = {USER}
        self.role = "write"
        self.before_commit: Callable[[], None] | None = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def model(self, repo_id: str) -> Repository:
        return self.repositories[f"models/{repo_id}"]

    def add(self, repo_id: str, files: dict[str, bytes], private: bool = False, kind: str = "models") -> Repository:
        repository = self.repositories[f"{kind}/{repo_id}"] = Repository(private)
        repository.commits.append(repository.files | files)
        return repository


@contextmanager
def running_hub() -> Iterator[HubServer]:
    """A server for the length of the block."""
    server = HubServer()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HubServer

    def log_message(self, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._handle()

    def do_GET(self) -> None:
        self._handle()

    def do_POST(self) -> None:
        self._handle()

    def do_PUT(self) -> None:
        self._handle()

    def _handle(self) -> None:
        self.body = self._read_body()
        path = unquote(urlsplit(self.path).path)
        self.server.calls.append(f"{self.command} {path}")
        for fault in self.server.faults:
            if fault.times and re.search(fault.path, path):
                fault.times -= 1
                return self._fail(fault.status)
        for pattern, method in _ROUTES:
            match = re.fullmatch(pattern, path)
            if match:
                return method(self, **match.groupdict())
        return self._error(404, f"no such call: {path}")

    def _fail(self, status: int) -> None:
        if status:
            return self._error(status, "as the test has it", {"Retry-After": "0"})
        self.close_connection = True
        self.connection.shutdown(2)

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    # --- answers

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _json(self, content: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self._send(status, json.dumps(content).encode(), {"Content-Type": "application/json"} | (headers or {}))

    def _error(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        self._json({"error": message}, status, {"X-Error-Message": message} | (headers or {}))

    def _not_there(self, code: str) -> None:
        self._error(404, f"{code}: not there", {"X-Error-Code": code})

    def _is_known(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _find(self, kind: str, repo_id: str) -> Repository | None:
        found = self.server.repositories.get(f"{kind}/{repo_id}")
        if found is None or (found.private and not self._is_known()):
            self._not_there("RepoNotFound")
            return None
        return found

    def _may_write(self, repo_id: str) -> bool:
        if not self._is_known():
            self._error(401, "Invalid username or password.")
        elif repo_id.split("/")[0] not in self.server.writable or self.server.role == "read":
            self._error(403, "You do not have the rights to write here.")
        else:
            return True
        return False

    # --- calls

    def whoami(self) -> None:
        if not self._is_known():
            return self._error(401, "Invalid username or password.")
        orgs = [{"name": name, "roleInOrg": "write"} for name in sorted(self.server.writable - {USER})]
        token = {"displayName": "loopback", "role": self.server.role}
        return self._json({"type": "user", "name": USER, "orgs": orgs, "auth": {"accessToken": token}})

    def create(self) -> None:
        asked = json.loads(self.body)
        repo_id = f"{asked.get('organization') or USER}/{asked['name']}"
        if not self._may_write(repo_id):
            return None
        key = f"{asked.get('type', 'model')}s/{repo_id}"
        if key in self.server.repositories:
            return self._error(409, "You already created this model repo")
        private = asked.get("private", asked.get("visibility") == "private")
        self.server.repositories[key] = Repository(private)
        return self._json({"url": f"{self.server.endpoint}/{repo_id}"})

    def validate_yaml(self) -> None:
        content = json.loads(self.body)["content"]
        parts = content.split("---\n")
        try:
            metadata = yaml.safe_load(parts[1]) if content.startswith("---\n") else {}
        except yaml.YAMLError as error:
            return self._json({"errors": [{"message": str(error)}], "warnings": []}, 400)
        allowed = {"library_name": str, "pipeline_tag": str, "base_model": str | list}
        problems = [
            {"message": f"{key} is a {type((metadata or {})[key]).__name__}"}
            for key, kind in allowed.items()
            if not isinstance((metadata or {}).get(key, ""), kind)
        ]
        return self._json({"errors": problems, "warnings": []}, 400 if problems else 200)

    def info(self, kind: str, repo_id: str, revision: str | None = None) -> None:
        repository = self._find(kind, repo_id)
        if repository is None:
            return None
        files = repository.at(revision or "main")
        if files is None:
            return self._not_there("RevisionNotFound")
        sha = repository.sha if revision in (None, "main") else revision
        has_metadata = "blobs=true" in self.path.lower()
        siblings = [
            {"rfilename": name} | (_metadata(name, files[name]) if has_metadata else {}) for name in sorted(files)
        ]
        return self._json(
            {"id": repo_id, "modelId": repo_id, "private": repository.private, "sha": sha, "siblings": siblings,
             "tags": [], "downloads": 0, "likes": 0, "cardData": _card_data(files.get("README.md", b""))}
        )  # fmt: skip

    def tree(self, kind: str, repo_id: str, revision: str, folder: str | None) -> None:
        repository = self._find(kind, repo_id)
        if repository is None:
            return None
        prefix = f"{folder}/" if folder else ""
        under = {name: file for name, file in (repository.at(revision) or {}).items() if name.startswith(prefix)}
        if not under:
            return self._not_there("EntryNotFound")
        folders = {prefix + name.removeprefix(prefix).split("/")[0] for name in under} - under.keys()
        if "recursive=true" in self.path.lower():
            folders = set()
        entries = [{"type": "directory", "path": name, "size": 0, "oid": ""} for name in sorted(folders)]
        for name, content in sorted(under.items()):
            if not any(name.startswith(f"{one}/") for one in folders):
                entries.append({"type": "file", "path": name, "size": len(content), "oid": _blob_oid(content)})
        return self._json(entries)

    def preupload(self, kind: str, repo_id: str, revision: str) -> None:
        repository = self._find(kind, repo_id)
        if repository is None or not self._may_write(repo_id):
            return None
        answers = []
        for file in json.loads(self.body)["files"]:
            there = repository.files.get(file["path"])
            mode = "lfs" if file["path"].endswith(LFS_SUFFIXES) else "regular"
            oid = None if there is None else _sha256(there) if mode == "lfs" else _blob_oid(there)
            answers.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        return self._json({"files": answers})

    def lfs_batch(self, repo_id: str) -> None:
        if not self._may_write(repo_id):
            return None
        objects = []
        for asked in json.loads(self.body)["objects"]:
            actions = {"upload": {"href": f"{self.server.endpoint}/objects/{asked['oid']}"}}
            objects.append(asked | ({} if asked["oid"] in self.server.objects else {"actions": actions}))
        return self._json({"transfer": "basic", "objects": objects})

    def upload(self, oid: str) -> None:
        if _sha256(self.body) != oid:
            return self._error(400, "other bytes than announced")
        self.server.objects[oid] = self.body
        return self._send(200, b"", {})

    def commit(self, kind: str, repo_id: str, revision: str) -> None:
        repository = self._find(kind, repo_id)
        if repository is None or not self._may_write(repo_id):
            return None
        if self.server.before_commit is not None:
            self.server.before_commit()
        files, message = dict(repository.files), ""
        for line in self.body.splitlines():
            operation = json.loads(line)
            value = operation["value"]
            match operation["key"]:
                case "header":
                    message = value["summary"]
                    if value.get("parentCommit", repository.sha) != repository.sha:
                        return self._error(412, "The parent commit is not the branch's head.")
                case "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                case "lfsFile":
                    files[value["path"]] = self.server.objects[value["oid"]]
                case "deletedFile":
                    del files[value["path"]]
        repository.commits.append(files)
        repository.messages.append(message)
        return self._json(
            {"commitUrl": f"{self.server.endpoint}/{repo_id}/commit/{repository.sha}", "commitOid": repository.sha}
        )

    def resolve(self, repo_id: str, revision: str, name: str, kind: str | None) -> None:
        repository = self._find(kind or "models", repo_id)
        if repository is None:
            return None
        files = repository.at(revision)
        if files is None:
            return self._not_there("RevisionNotFound")
        if name not in files:
            return self._not_there("EntryNotFound")
        sha = repository.sha if revision == "main" else revision
        headers = {"X-Repo-Commit": sha, "ETag": f'"{_blob_oid(files[name])}"'}
        return self._send(200, files[name], headers)


_ID = r"(?P<repo_id>[\w.-]+(?:/[\w.-]+)?)"
_API = rf"/api/(?P<kind>models|datasets)/{_ID}"
_ROUTES = [
    (r"/api/whoami-v2", _Handler.whoami),
    (r"/api/repos/create", _Handler.create),
    (r"/api/validate-yaml", _Handler.validate_yaml),
    (rf"{_API}/preupload/(?P<revision>[\w.-]+)", _Handler.preupload),
    (rf"{_API}/commit/(?P<revision>[\w.-]+)", _Handler.commit),
    (rf"{_API}/revision/(?P<revision>[\w.-]+)", _Handler.info),
    (rf"{_API}/tree/(?P<revision>[\w.-]+)(?:/(?P<folder>.+))?", _Handler.tree),
    (_API, _Handler.info),
    (rf"/{_ID}\.git/info/lfs/objects/batch", _Handler.lfs_batch),
    (r"/objects/(?P<oid>\w+)", _Handler.upload),
    (rf"/(?:(?P<kind>datasets)/)?{_ID}/resolve/(?P<revision>[\w.-]+)/(?P<name>.+)", _Handler.resolve),
]


def _metadata(name: str, content: bytes) -> dict[str, Any]:
    lfs = {"sha256": _sha256(content), "size": len(content), "pointerSize": 130}
    return {"blobId": _blob_oid(content), "size": len(content)} | ({"lfs": lfs} if name.endswith(LFS_SUFFIXES) else {})


def _card_data(card: bytes) -> dict[str, Any]:
    """The metadata of a card; none where they cannot be read."""
    parts = card.decode(errors="replace").split("---\n")
    try:
        return yaml.safe_load(parts[1]) if len(parts) > 2 else {}
    except yaml.YAMLError:
        return {}


def _blob_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
