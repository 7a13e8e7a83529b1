"""``memsinks serve``."""

import ipaddress
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro
from rich.console import Console

from memsinks.cli.ledger import DEFAULT, VARIABLE
from memsinks.corpus.storage import Place
from memsinks.errors import ConfigError, InputError

if TYPE_CHECKING:
    from memsinks.checkpoint.lineage import Lineage
    from memsinks.serving.exclusions import Exclusions
    from memsinks.serving.names import Names
    from memsinks.serving.routing import Router

_KEY_LENGTH = 16


@dataclass(frozen=True, kw_only=True)
class Serve:
    """Serve a checkpoint with sinks: off by default, and those of named sources on for requests that ask for them."""

    run_folder: tyro.conf.Positional[Path]
    """A folder that `memsinks train` wrote."""
    names: Path | None = None
    """A file of names, which --save-names wrote; requests can then name sources and documents."""
    corpus: tuple[Place, ...] = ()
    """The corpora of the run, folders or URLs, in place of a file of names."""
    route: bool = False
    """Switch on, for requests that say nothing of sinks, those of the source whose text in --corpus is most like it."""
    route_threshold: float | None = None
    """By how much it must be more like it than text of no source is; default: what 5 % of such text exceeds."""
    save_names: Path | None = None
    """Write the names of --corpus to this file, and end."""
    ledger: str | None = None
    """An SQLite file or an SQLAlchemy URL; default the environment variable MEMSINKS_LEDGER, else ledger.sqlite."""
    deny_list: bool = True
    """Refuse the IDs on the ledger's deny-list, and all sinks while it cannot be read."""
    model_name: str | None = None
    """Name of the model in requests; default that of the folder."""
    host: str = "127.0.0.1"
    """Address to listen at."""
    port: int = 8000
    """Port to listen at."""
    api_key_variable: str | None = None
    """Environment variable with the key that requests have to bring as a bearer token."""
    insecure: bool = False
    """Listen at an address that others can reach without asking for a key."""
    max_ids: int = 100
    """Most sequence IDs whose sinks a request may switch on."""
    max_tokens: int = 1024
    """Most tokens that a completion may have."""
    batch_size: int = 16
    """Most completions that are generated together, and that a request may ask for."""
    queue_size: int = 64
    """Most completions that wait."""
    batch_wait: float = 5.0
    """Milliseconds for which the first completion of a batch waits for others."""
    poll_seconds: float = 2.0
    """Seconds between two readings of what is removed and denied."""
    device: str | None = None
    """Where the model runs, such as cpu or cuda:1; default a GPU if there is one."""

    def run(self) -> None:
        """Run the command."""
        if self.names is not None and self.corpus:
            raise ConfigError("--names and --corpus both name sources; give one of them")
        if self.save_names is not None:
            self._save_names(self.save_names)
            return
        self._check_routing()
        key = self._key()
        try:
            import uvicorn

            from memsinks.serving.app import create_app
        except ImportError as error:
            raise ConfigError(f"serving needs more packages ({error.name}): pip install 'memsinks[serve]'") from error
        from memsinks.serving.service import Limits, Service

        place = (self.ledger or os.environ.get(VARIABLE) or DEFAULT) if self.deny_list else None
        limits = Limits(
            max_ids=self.max_ids,
            max_tokens=self.max_tokens,
            batch_size=self.batch_size,
            queue_size=self.queue_size,
            wait_seconds=self.batch_wait / 1000,
            poll_seconds=self.poll_seconds,
        )
        service = Service.open(
            self.run_folder,
            names=self._names,
            router=self._router if self.route else None,
            ledger=place,
            limits=limits,
            name=self.model_name,
            device=self.device,
        )
        # Messages, and the access log, which has no text of requests.
        logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s: %(message)s")
        logging.getLogger("memsinks.serving").setLevel(logging.INFO)
        console = Console(stderr=True, highlight=False, soft_wrap=True)
        console.print(f"{service.name}: http://{_shown(self.host)}:{self.port}/v1/completions", markup=False)
        if service.router is not None:
            sources, threshold = len(service.router.sources), service.router.threshold
            console.print(f"prompts are routed to {sources} sources above a score of {threshold:.3f}", markup=False)
        uvicorn.run(
            create_app(service, key=key),
            host=self.host,
            port=self.port,
            ws="none",
            access_log=False,
            log_level="warning",
            timeout_graceful_shutdown=5,
        )

    def _names(self, lineage: "Lineage") -> "Names | None":
        from memsinks.serving.names import Names

        if self.names is not None:
            return Names.load(self.names, lineage)
        return Names.of(lineage, self.corpus) if self.corpus else None

    def _check_routing(self) -> None:
        if self.route and not self.corpus:
            raise ConfigError("--route compares prompts with the text of sources; give the corpora with --corpus")
        if self.route_threshold is not None:
            if not self.route:
                raise ConfigError("--route-threshold is of --route; give that too, or neither")
            if not 0 <= self.route_threshold < 1:
                raise ConfigError(f"--route-threshold is {self.route_threshold}; give a number from 0 to below 1")

    def _router(self, lineage: "Lineage", exclusions: "Exclusions") -> "Router":
        from memsinks.serving.routing import Router

        return Router.of(lineage, self.corpus, excluded=exclusions.current, threshold=self.route_threshold)

    def _save_names(self, file: Path) -> None:
        from memsinks.runs.lineage import lineage_of

        names = self._names(lineage_of(self.run_folder)) if self.corpus else None
        if names is None:
            raise ConfigError("--save-names takes the names from the corpora of the run; give them with --corpus")
        names.save(file)
        Console(highlight=False, soft_wrap=True).print(f"{file}: {len(names):,} documents", markup=False)

    def _key(self) -> str | None:
        if self.api_key_variable is None:
            if not self.insecure and not _is_local(self.host):
                raise ConfigError(
                    f"--host {self.host} can be reached from other machines; ask for a key with --api-key-variable, or "
                    "give --insecure"
                )
            return None
        key = os.environ.get(self.api_key_variable, "")
        if len(key) < _KEY_LENGTH or not key.isascii() or not key.isprintable() or " " in key:
            raise InputError(
                f"--api-key-variable: {self.api_key_variable} has to hold a key of at least {_KEY_LENGTH} characters, "
                "ASCII and without blanks"
            )
        return key


def _is_local(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host
