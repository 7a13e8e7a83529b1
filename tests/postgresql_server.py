"""A PostgreSQL server of our own."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

PASSWORD = "hunter2"


def programs() -> Path | None:
    """The folder of the newest server's programs."""
    if found := shutil.which("initdb"):
        return Path(found).parent
    folders = Path("/usr/lib/postgresql").glob("*/bin")
    return max((f for f in folders if (f / "initdb").exists()), key=lambda f: int(f.parent.name), default=None)


@dataclass
class Server:
    """A server in a temporary folder."""

    bin: Path
    folder: Path
    port: int
    user: str | None

    def do(self, program: str, *arguments: object) -> None:
        """Run one of its programs, as a user without rights if we are root: it refuses to run as root."""
        done = subprocess.run(
            [self.bin / program, *map(str, arguments)],
            user=self.user,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout

    def start(self) -> None:
        """Start it and wait until it answers."""
        # Without fsync: the tests stop the server, not the machine.
        options = f"-c listen_addresses=127.0.0.1 -c port={self.port} -c unix_socket_directories='{self.folder}' -F"
        self.do(
            "pg_ctl", "start", "-w", "-t", 100, "-D", self.folder / "data", "-l", self.folder / "log", "-o", options
        )

    def stop(self, mode: str) -> None:
        """Stop it: fast in good order, immediate as in a crash."""
        self.do("pg_ctl", "stop", "-w", "-D", self.folder / "data", "-m", mode)

    def url(self, database: str, password: str = PASSWORD) -> str:
        """How to reach a database of it."""
        return f"postgresql+psycopg://desk:{password}@127.0.0.1:{self.port}/{database}"
