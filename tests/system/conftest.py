"""A PostgreSQL server, and databases on it."""

import contextlib
import os
import pwd
import shutil
import socket
import tempfile
import uuid
from pathlib import Path

import psycopg
import pytest
from postgresql_server import PASSWORD, Server, programs


@pytest.fixture(scope="session")
def server():
    found = programs()
    if found is None:
        message = "PostgreSQL is missing; `make test-system` installs it as root on a Debian system"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    user = None
    if os.geteuid() == 0:
        known = {entry.pw_name for entry in pwd.getpwall()}
        user = "postgres" if "postgres" in known else "nobody"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # Not pytest's folder: others may not enter it, and the path of a socket has to be short.
    folder = Path(tempfile.mkdtemp(prefix="ledger-"))
    made = Server(found, folder, port, user)
    try:
        (folder / "password").write_text(PASSWORD)
        if user is not None:
            shutil.chown(folder, user)
            shutil.chown(folder / "password", user)
        made.do(
            "initdb", "-D", folder / "data", "-U", "desk", "-A", "scram-sha-256", f"--pwfile={folder / 'password'}",
            "-E", "UTF8", "--locale=C",
        )  # fmt: skip
        made.start()
        yield made
    finally:
        if (folder / "data" / "postmaster.pid").exists():
            with contextlib.suppress(AssertionError):
                made.stop("fast")
        shutil.rmtree(folder)


@pytest.fixture
def place(server):
    """The URL of a new database."""
    name = f"ledger_{uuid.uuid4().hex}"
    url = server.url("postgres").replace("+psycopg", "")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    yield server.url(name)
    # Files that are left make the server slow to start after a crash: it writes them all to the disk.
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
