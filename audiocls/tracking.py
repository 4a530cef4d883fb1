"""The W&B logger of a run, which never stops or holds up training.

`RunLogger` looks first whether W&B can be used: is there a key, does the server answer? If not, it records the run
on disk, says so in one line, and the run can be uploaded later. Whatever W&B does afterwards, the end of a run waits
for it only a set time. What is shown of an evaluation is in `audiocls.report`.
"""

from __future__ import annotations

import http.client
import logging
import netrc
import os
import ssl
import threading
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import wandb
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.loggers.logger import rank_zero_experiment  # pyright: ignore[reportPrivateImportUsage]
from pytorch_lightning.utilities import rank_zero_only
from wandb.errors import UsageError

log = logging.getLogger(__name__)

Mode = Literal["online", "offline", "disabled", "shared"]
# WANDB_MODE's values, the two old ones among them
MODES: dict[str, Mode] = {
    "online": "online", "run": "online", "shared": "shared",
    "offline": "offline", "dryrun": "offline", "disabled": "disabled",
}  # fmt: skip


class RunLogger(WandbLogger):
    """Logs a run to Weights & Biases, or to disk where that cannot be reached.

    The run is recorded offline, after one warning that says why and how to upload it, if there is no API key, if the
    server refuses, is unknown or does not answer within `probe_timeout`, or if W&B then fails to begin the run within
    `init_timeout`. If not even a run on disk can be begun, a warning says so and nothing is recorded. Training goes on
    in every case. `WANDB_MODE` (online, offline, disabled) is obeyed. Files are written into `save_dir`/wandb.

    Args:
        project: W&B project.
        name: name of the run; W&B makes one up where none is given.
        group: runs of one group are shown together, such as the folds of a cross-validation.
        tags: labels to find the run by.
        notes: a longer remark on the run.
        entity: W&B user or team; the key's own where none is given.
        job_type: what the run does, such as "fit" or "test".
        save_dir: folder under which `wandb` is made.
        id: of the run; a run resumed with its old id goes on in W&B.
        offline: record on disk without trying the server.
        log_model: upload the kept checkpoints as artefacts when the run is online.
        prefix: put before every metric's name.
        console: also record what is written to the terminal.
        finish_timeout: seconds to wait at the end for data to be uploaded; what is left stays on disk.
        init_timeout: seconds to wait for W&B to begin the run.
        probe_timeout: seconds to wait for the first sign of life of the server.
    Raises:
        ValueError: if a timeout is not positive.
    """

    def __init__(
        self,
        project: str = "audiocls",
        name: str | None = None,
        *,
        group: str | None = None,
        tags: list[str] | None = None,
        notes: str | None = None,
        entity: str | None = None,
        job_type: str | None = None,
        save_dir: str | Path = ".",
        id: str | None = None,
        offline: bool = False,
        log_model: bool = False,
        prefix: str = "",
        console: bool = False,
        finish_timeout: float = 30.0,
        init_timeout: float = 15.0,
        probe_timeout: float = 5.0,
    ) -> None:
        timeouts = {"finish_timeout": finish_timeout, "init_timeout": init_timeout, "probe_timeout": probe_timeout}
        for argument, seconds in timeouts.items():
            if not seconds > 0:
                raise ValueError(f"{argument} must be a positive number of seconds, got {seconds}")
        # a dict: a wandb.Settings object would override the mode that wandb.init is given
        settings = {
            "finish_timeout": finish_timeout,
            "init_timeout": init_timeout,
            "console": "auto" if console else "off",
            "quiet": True,
        }
        super().__init__(
            name=name, save_dir=save_dir, id=id, project=project, log_model=log_model and not offline, prefix=prefix,
            group=group, tags=tags, notes=notes, entity=entity, job_type=job_type, settings=settings,
        )  # fmt: skip
        self.wants_offline = offline
        self._failed = False
        self.probe_timeout = probe_timeout

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The W&B run, begun at the first use; a dummy on processes other than the first."""
        attached = getattr(self, "_attach_id", None) is not None  # by Lightning, in a spawned process
        if self._experiment is None and wandb.run is None and not attached:
            self._experiment = self._begin()
        return super().experiment

    @rank_zero_only
    def log_config(self, config: Mapping[str, Any]) -> None:
        """Add a configuration to the run's.

        Args:
            config: nested mappings and lists; what JSON does not know, such as a path, is written as text.
        """
        self.experiment.config.update(_plain(config), allow_val_change=True)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log values, or W&B objects, of one step; said once and given up if W&B's own process has died.

        Args:
            metrics: name to value.
            step: of the trainer.
        """
        if self._failed:
            return
        try:
            super().log_metrics(metrics, step)
        except Exception as error:  # noqa: BLE001 - whatever W&B raises, training goes on
            self._failed = True
            log.warning("W&B stopped working (%s): nothing more is logged to it", _in_a_line(error))

    @rank_zero_only
    def finish(self, exit_code: int = 0) -> None:
        """End the W&B run, within `finish_timeout`; also done by itself when the process ends.

        Args:
            exit_code: 0 marks the run finished, anything else failed.
        """
        run, self._experiment = self._experiment, None
        if run is None:
            return
        try:
            run.finish(exit_code=exit_code)
        except Exception as error:  # noqa: BLE001 - W&B's process may be gone; the run's results are on disk
            log.warning("W&B could not end the run (%s): `wandb sync %s`", type(error).__name__, _folder(run))

    def _begin(self) -> Any:
        """Begin the run in the best mode there is."""
        # W&B writes into the system's temporary folder if this one does not exist
        Path(self.save_dir or ".").mkdir(parents=True, exist_ok=True)
        mode, why = self._mode()
        run = None
        if mode in ("online", "shared"):
            try:
                run = self._init(mode)
            except (wandb.Error, TimeoutError, OSError) as error:
                mode, why = "offline", f"{type(error).__name__} while beginning the run"
        if run is None:
            run = self._init_anew(mode)
        if run is None:
            return wandb.init(mode="disabled")
        if mode == "offline":
            self._log_model = False  # artefacts need the server
            level = logging.WARNING if why else logging.INFO
            log.log(level, "W&B is offline%s: upload later with `wandb sync %s`", why and f" ({why})", _folder(run))
        return run

    def _mode(self) -> tuple[Mode, str]:
        """Mode to try, and why it is offline if nobody asked for that."""
        asked = os.environ.get("WANDB_MODE", "").strip().lower()
        wanted = MODES.get(asked, "online")
        if asked and asked not in MODES:
            raise ValueError(f"WANDB_MODE must be one of {', '.join(MODES)}, got {asked!r}")
        if wanted == "disabled":
            return "disabled", ""
        if wanted == "offline" or self.wants_offline:
            return "offline", ""
        try:
            settings = _with_process(wandb.setup).settings  # environment, W&B's settings files and `wandb login`
        except Exception as error:  # noqa: BLE001 - whatever W&B raises, training goes on
            return "offline", f"{type(error).__name__} while starting W&B's process"
        base_url = os.environ.get("WANDB_BASE_URL") or settings.base_url
        if not (settings.identity_token_file or has_key(base_url, settings.api_key)):
            return "offline", "no API key, `wandb login` stores one"
        problem = probe(base_url, timeout=self.probe_timeout)
        return ("offline", problem) if problem else (wanted, "")

    def _init_anew(self, mode: Mode) -> Any:
        """Begin the run, with a new process of W&B's if the one there was is gone; None, and said, if that fails."""
        try:
            return _with_process(lambda: self._init(mode))
        except UsageError:  # such as a project's name that W&B does not take
            raise
        except Exception as error:  # noqa: BLE001
            log.warning("W&B cannot begin a run (%s): nothing is logged to it", _in_a_line(error))
            return None

    def _init(self, mode: Mode) -> Any:
        arguments = {k: v for k, v in self._wandb_init.items() if k != "anonymous"}  # deprecated in W&B
        if mode == "offline":
            # resuming needs the server; what W&B would print of being offline is said in one line here
            arguments["resume"] = None
            arguments["settings"] = arguments["settings"] | {"silent": True}
        run = wandb.init(mode=mode, **arguments)
        # Lightning's axis for everything it logs
        run.define_metric("trainer/global_step")
        run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
        return run


def has_key(base_url: str, configured: str | None = None) -> bool:
    """Is there an API key for the server, in the environment, W&B's settings or netrc?

    Args:
        base_url: of the server.
        configured: the key that W&B's settings hold, if any.
    """
    if os.environ.get("WANDB_API_KEY") or configured:
        return True
    path = os.environ.get("NETRC") or next(
        (p for p in map(os.path.expanduser, ("~/.netrc", "~/_netrc")) if os.path.exists(p)), None
    )
    try:
        return path is not None and netrc.netrc(path).authenticators(urllib.parse.urlsplit(base_url).netloc) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def probe(base_url: str, *, timeout: float) -> str:
    """Does a web server answer? A request without any secret; any answer will do.

    A server behind a proxy is taken to answer, since whether it does is the proxy's business.

    Args:
        base_url: http or https address.
        timeout: seconds for everything together, looking up the name included.
    Returns:
        What is wrong, or "" if it answers.
    """
    url = urllib.parse.urlsplit(base_url)
    host = url.hostname or ""
    if url.scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(host):
        return ""
    problem = [f"no answer from {host} in {timeout:g} s"]

    def ask() -> None:
        kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
        connection = kind(host, url.port, timeout=timeout)
        try:
            connection.request("HEAD", "/healthz")
            connection.getresponse()
            problem[0] = ""
        except (ssl.SSLError, http.client.HTTPException):
            problem[0] = ""  # it answers; whether W&B likes the answer is W&B's to say
        except TimeoutError:
            pass
        except OSError as error:
            problem[0] = f"{host} cannot be reached, {error.strerror or error}"
        finally:
            connection.close()

    # in a thread, since a lookup of the name heeds no timeout
    asking = threading.Thread(target=ask, name="wandb probe", daemon=True)
    asking.start()
    asking.join(timeout)
    return problem[0]


def _with_process(ask: Callable[[], Any]) -> Any:
    """What W&B's own process answers; asked again of a new one if the one known here, or to a parent, is gone."""
    try:
        return ask()
    except UsageError:
        raise
    except Exception:  # noqa: BLE001 - whatever W&B raises where its process does not answer
        os.environ.pop("WANDB_SERVICE", None)
        with suppress(Exception):  # it may be gone, and only its address left
            wandb.teardown()
    return ask()


def _in_a_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _folder(run: Any) -> str:
    """Folder of a run as `wandb sync` takes it."""
    return os.path.dirname(run.dir)


def _plain(value: Any) -> Any:
    """Mappings, lists and scalars as JSON knows them; anything else as text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(entry) for entry in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
