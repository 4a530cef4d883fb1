"""RunLogger: whatever W&B's server does, training goes on and the run is on disk.

The servers are local: a port that refuses, one that accepts and says nothing, one that answers but begins no run, and
one that speaks enough of the protocol to begin a run and then dies.
"""

import http.server
import json
import logging
import os
import re
import signal
import socket
import threading
import time
from pathlib import Path

import pytest
import wandb
from pytorch_lightning.utilities import rank_zero_only
from wandb.errors import UsageError

from audiocls.tracking import RunLogger, has_key, probe
from tests.wandb_reader import read_offline_run

KEY = "0123456789" * 4


@pytest.fixture(autouse=True)
def _no_account(monkeypatch, tmp_path):
    """No key, settings or state of whoever runs the tests, and a fresh W&B process each time."""
    wandb.teardown()
    os.environ.pop("WANDB_SERVICE", None)  # for good: it is the address of what was just ended
    for name in [name for name in os.environ if name.startswith("WANDB_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    for name in ("CONFIG", "CACHE", "DATA"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / "home"))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    yield
    if wandb.run is not None:
        wandb.run.finish()
    wandb.teardown()
    os.environ.pop("WANDB_SERVICE", None)


@pytest.fixture
def refusing():
    """A port that nobody listens to."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture
def silent():
    """A server that accepts connections, by the system's backlog, and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


class WandbServer(http.server.ThreadingHTTPServer):
    """Begins runs and takes their data; `stuck` answers the first sign of life only."""

    daemon_threads = True

    def __init__(self, *, stuck: bool = False) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.stuck = stuck
        self.released = threading.Event()
        self.lines: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request, client_address) -> None:
        """Clients that hang up are none of the tests' business."""

    def __enter__(self) -> "WandbServer":
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self.die()

    def die(self) -> None:
        """Stop answering and close the port."""
        self.released.set()
        self.shutdown()
        self.server_close()


class Answers(http.server.BaseHTTPRequestHandler):
    """What W&B's server says, as far as beginning a run and streaming its history needs it."""

    server: WandbServer

    def log_message(self, format: str, *args) -> None:
        """Say nothing."""

    def _reply(self, answer: dict) -> None:
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_HEAD(self) -> None:
        self.send_response(404)
        self.end_headers()

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._reply({})

    def do_POST(self) -> None:
        body = (
            json.loads(self.rfile.read(int(self.headers["Content-Length"])) or "{}") if "otel" not in self.path else {}
        )
        if self.server.stuck:
            self.server.released.wait(30)
            return
        for chunk in body.get("files", {}).values() if isinstance(body.get("files"), dict) else ():
            self.server.lines += chunk["content"]
        query, variables = body.get("query", ""), body.get("variables") or {}
        if "UpsertBucket" in query:
            project = {"id": "p", "name": "p", "entity": {"id": "e", "name": "e"}}
            bucket = {"id": "cnVu", "name": variables["name"], "displayName": "n", "config": "{}", "project": project}
            self._reply({"data": {"upsertBucket": {"bucket": bucket | {"historyLineCount": 0}, "inserted": True}}})
        elif "CreateRunFiles" in query:
            files = [{"name": name, "uploadUrl": f"{self.server.url}/{name}"} for name in variables["files"]]
            self._reply({"data": {"createRunFiles": {"runID": "r", "uploadHeaders": [], "files": files}}})
        else:
            self._reply({"data": {"model": {"bucket": None}}})


def begin(folder: Path, **settings) -> tuple[RunLogger, float]:
    """A logger with its run begun, and the seconds that took."""
    logger = RunLogger(save_dir=folder, finish_timeout=1.5, init_timeout=1.5, probe_timeout=1, **settings)
    start = time.perf_counter()
    assert logger.experiment is not None
    return logger, time.perf_counter() - start


def check_offline(logger: RunLogger, folder: Path, warned: list[str], why: str) -> None:
    """One warning, which says why and where; what is logged is on disk."""
    assert len(warned) == 1
    assert re.search(why, warned[0])
    assert "\n" not in warned[0]
    path = re.search(r"`wandb sync (.+)`", warned[0])
    assert path is not None
    logger.log_metrics({"val/loss": 0.25}, step=3)
    logger.finish()
    run = read_offline_run(folder)
    assert run.folder == Path(path[1])
    assert run.values("val/loss") == [0.25]
    assert run.values("trainer/global_step") == [3]
    assert run.exit_code == 0


@pytest.fixture
def warned(caplog) -> list[str]:
    """Our warnings so far, filled as they come."""
    caplog.set_level(logging.INFO, "audiocls.tracking")

    class Live(list):
        def __len__(self) -> int:
            self[:] = [
                r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING and r.name.startswith("audiocls")
            ]
            return super().__len__()

    return Live()


def test_without_a_key_it_is_offline(tmp_path, warned):
    logger, _ = begin(tmp_path)
    check_offline(logger, tmp_path, warned, "no API key")


@pytest.mark.parametrize(("server", "why"), [("refusing", "refused"), ("silent", "no answer from 127.0.0.1 in 1 s")])
def test_server_that_cannot_be_used_is_left_within_seconds(server, why, request, monkeypatch, tmp_path, warned):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", request.getfixturevalue(server))
    logger, seconds = begin(tmp_path)
    assert seconds < 10  # 1 s of probing and about 1 s for W&B's own process, on a busy machine
    check_offline(logger, tmp_path, warned, why)


def test_server_that_begins_no_run_is_left_after_init_timeout(monkeypatch, tmp_path, warned):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    with WandbServer(stuck=True) as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        logger, seconds = begin(tmp_path)
    assert seconds < 20  # W&B adds its own grace to the 1.5 s
    assert len(list((tmp_path / "wandb").glob("offline-run-*"))) == 1
    check_offline(logger, tmp_path, warned, "Error while beginning the run")


def test_server_that_dies_does_not_hold_up_the_end(monkeypatch, tmp_path, warned):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    with WandbServer() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        logger, _ = begin(tmp_path, id="abc123")
        assert logger.experiment.url.endswith("/e/p/runs/abc123")
    start = time.perf_counter()
    for step in range(20):
        logger.log_metrics({"val/loss": 0.5}, step=step)
    logger.finish()
    assert time.perf_counter() - start < 10  # finish_timeout is 1.5 s; without one it waits for ever
    assert len(warned) == 0
    assert list((tmp_path / "wandb").glob("run-*-abc123/run-abc123.wandb"))  # to be uploaded later


def test_online_run_reaches_the_server(monkeypatch, tmp_path, warned):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    with WandbServer() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        logger, _ = begin(tmp_path)
        logger.log_metrics({"val/loss": 0.125}, step=7)
        logger.finish()
        assert any('"val/loss":0.125' in line for line in server.lines)
    assert len(warned) == 0


def test_wandb_mode_disabled_writes_and_says_nothing(monkeypatch, tmp_path, warned):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    logger, _ = begin(tmp_path)
    logger.log_metrics({"a": 1.0}, step=0)
    logger.log_config({"a": 1})
    logger.finish()
    assert not list(tmp_path.glob("wandb/*run*"))
    assert len(warned) == 0


@pytest.mark.parametrize("how", ["environment", "argument"])
def test_offline_when_asked_for_is_no_warning(how, monkeypatch, tmp_path, warned):
    if how == "environment":
        monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    logger, _ = begin(tmp_path, offline=how == "argument", project="digits", group="folds", tags=["a", "b"], id="xyz")
    logger.finish(exit_code=1)
    run = read_offline_run(tmp_path)
    assert (run.project, run.group, run.tags, run.run_id) == ("digits", "folds", ["a", "b"], "xyz")
    assert run.exit_code == 1
    assert len(warned) == 0


def test_configuration_is_kept_whole(tmp_path):
    logger, _ = begin(tmp_path, offline=True)
    logger.log_hyperparams({"num_classes": 10})
    logger.log_config({"data": {"root": Path("audio/fma"), "folds": (1, 2)}, "model": {"head": None, "dropout": 0.1}})
    logger.finish()
    config = read_offline_run(tmp_path).config
    assert config["num_classes"] == 10
    assert config["data"] == {"root": "audio/fma", "folds": [1, 2]}
    assert config["model"] == {"head": None, "dropout": 0.1}


def test_wandb_failing_in_a_run_is_said_once(monkeypatch, tmp_path, warned):
    logger, _ = begin(tmp_path, offline=True)

    def log(*_, **__) -> None:
        raise ConnectionResetError("Connection lost")

    monkeypatch.setattr(logger.experiment, "log", log)
    for step in range(3):
        logger.log_metrics({"a": 1.0}, step=step)
    assert len(warned) == 1
    assert "W&B stopped working (ConnectionResetError: Connection lost)" in warned[0]


@pytest.mark.parametrize("offline", [True, False], ids=["asked for", "for want of a key"])
@pytest.mark.parametrize("gone", ["killed", "left an address"])
def test_a_process_of_wandbs_that_is_gone_is_replaced(gone, offline, monkeypatch, tmp_path, warned):
    if gone == "killed":
        first, _ = begin(tmp_path / "first", offline=True)
        first.finish()
        address = os.environ["WANDB_SERVICE"]  # the number of this process, then its own
        process = re.search(rf"wandb-{os.getpid()}-(\d+)-", address)
        assert process is not None, address
        os.kill(int(process[1]), signal.SIGKILL)
    else:  # by a process that has started this one
        monkeypatch.setenv("WANDB_SERVICE", f"3-1-unix-{tmp_path}/nobody/socket")
    logger, _ = begin(tmp_path, offline=offline)
    logger.log_metrics({"a": 2.0}, step=3)
    logger.finish()
    assert read_offline_run(tmp_path).history[-1]["a"] == 2.0
    assert len(warned) == (0 if offline else 1)
    assert all("no API key" in line for line in warned)


def test_a_process_of_wandbs_that_cannot_be_started_leaves_the_run_on_disk(monkeypatch, tmp_path, warned):
    def setup() -> None:
        raise RuntimeError("no room for a socket")

    monkeypatch.setattr(wandb, "setup", setup)
    logger, _ = begin(tmp_path)
    check_offline(logger, tmp_path, warned, "RuntimeError while starting W&B's process")


def test_a_setting_that_wandb_does_not_know_is_said_in_one_line(monkeypatch, tmp_path, warned):
    monkeypatch.setenv("WANDB_BASE_URL", "foo")
    logger, _ = begin(tmp_path)
    logger.finish()
    assert len(warned) == 1
    assert "W&B cannot begin a run (ValidationError: " in warned[0]
    assert "base_url Input should be a valid URL" in warned[0]
    assert "\n" not in warned[0]


def test_training_goes_on_where_wandb_does_not_work_at_all(monkeypatch, tmp_path, warned):
    working = wandb.init

    def init(*, mode: str, **arguments: object) -> object:
        if mode == "disabled":
            return working(mode=mode, **arguments)
        raise RuntimeError("no room for a socket")

    monkeypatch.setattr(wandb, "init", init)
    logger, _ = begin(tmp_path, offline=True)
    logger.log_metrics({"a": 2.0}, step=3)
    logger.log_config({"a": 1})
    logger.finish()
    assert len(warned) == 1
    assert "W&B cannot begin a run (RuntimeError: no room for a socket): nothing is logged to it" in warned[0]


def test_what_wandb_does_not_take_is_still_an_error(tmp_path):
    with pytest.raises(UsageError, match="project"):
        begin(tmp_path, offline=True, project="a/b")


def test_other_processes_begin_no_run(monkeypatch, tmp_path):
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    logger = RunLogger(save_dir=tmp_path)
    logger.experiment.log({"a": 1})
    logger.log_config({"a": 1})
    assert not (tmp_path / "wandb").exists()


def test_key_may_stand_in_netrc(tmp_path):
    assert not has_key("https://wandb.example")
    (tmp_path / "netrc").write_text(f"machine wandb.example\n  login user\n  password {KEY}\n")
    (tmp_path / "netrc").chmod(0o600)
    assert has_key("https://wandb.example")
    assert not has_key("https://other.example")
    assert has_key("https://other.example", configured=KEY)


def test_probe_tells_answers_from_silence(monkeypatch, refusing, silent):
    with WandbServer() as server:
        assert probe(server.url, timeout=2) == ""
    assert "cannot be reached" in probe(refusing, timeout=2)
    assert "no answer" in probe(silent, timeout=0.2)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "")
    assert probe(refusing, timeout=2) == ""


def test_arguments_are_checked(monkeypatch, tmp_path):
    with pytest.raises(ValueError, match="finish_timeout must be a positive number of seconds, got 0"):
        RunLogger(finish_timeout=0)
    monkeypatch.setenv("WANDB_MODE", "onlin")
    with pytest.raises(ValueError, match=r"WANDB_MODE must be one of online, .* got 'onlin'"):
        begin(tmp_path)
