"""A data set that is nowhere is refused after one question to the Hub, and one that is here without any."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from huggingface_hub import constants

from llm_jepa.data import source
from llm_jepa.data.source import check_data_set


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A Hub that has the data set `team/there` alone; gives the paths that it was asked for."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path.startswith("/api/datasets/"):  # the client asks for other things too
                asked.append(self.path)
            is_there = self.path.startswith("/api/datasets/team/there")
            self.send_response(200 if is_there else 404)
            self.send_header("X-Error-Code", "" if is_there else "RepoNotFound")
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(b'{"id": "team/there"}' if is_there else b"{}")

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    source._check_on_hub.cache_clear()
    yield asked
    server.shutdown()
    server.server_close()


def test_a_data_set_that_is_nowhere_is_asked_for_once(hub):
    with pytest.raises(ValueError, match=r"team/absent: There is no such repository.* no directory of that name"):
        check_data_set("team/absent")
    assert hub == ["/api/datasets/team/absent"]


@pytest.mark.parametrize("name", ["./absent", "../absent", "~/absent", "/absent", "a/b/absent", "absent.csv"])
def test_a_path_that_is_nowhere_is_asked_for_on_no_hub(hub, name):
    with pytest.raises(ValueError, match="There is no file or directory"):
        check_data_set(name)
    assert hub == []


def test_a_data_set_on_the_hub_is_asked_for_once_in_a_process(hub):
    check_data_set("team/there")
    check_data_set("team/there")
    assert hub == ["/api/datasets/team/there"]


def test_a_hub_that_does_not_answer_is_asked_once(hub, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ValueError, match="The connection to the Hub broke"):
        check_data_set("team/there")


def test_local_data_and_data_read_before_are_not_asked_for(hub, tmp_path):
    (tmp_path / "rows.jsonl").write_text("{}\n")
    (tmp_path / "datasets" / "team___read").mkdir(parents=True)
    check_data_set(str(tmp_path / "rows.jsonl"))
    check_data_set("team/read")
    assert hub == []


def test_a_data_set_in_the_cache_is_asked_for_not_at_all(hub, tmp_path):
    """`datasets` writes capitals as words."""
    (tmp_path / "datasets" / "team___my_data").mkdir(parents=True)
    check_data_set("team/MyData")
    assert hub == []


def test_one_process_of_a_machine_asks(hub, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    check_data_set("team/there")
    assert hub == []
