"""Where one node keeps its files. The home directory is the node: copy it (while the node is down) and the node has moved.

::

    HOME/               0700
      config.toml       0600  what the owner wrote
      identity.key      0600  the Ed25519 key: whoever reads it is the node
      identity.json     0600  the names that follow from it, and the successions that prove them
      events.db         0600  the event store
      node.sock               JSON-RPC, owner only
      node.lock               held by the running node: a second one on this home is refused
      node.pid                its process id, for people
      log_budget        0600  what strangers have used of it (`dms.node.spent`)
      token             0600  bearer token for JSON-RPC over HTTP
      grants            0600  grants this node was given: whoever reads it can use them
      token.read        0600  bearer token that only looks
      datasets/         0700  the datasets that are kept here, a file each; their content is in blobs
      blobs/ jobs/ executors/ log/ cache/

Imports nothing outside the standard library, since every `dms` command starts here.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from dms_proto.errors import MachineError, UserError

DIRECTORY_MODE: Final = 0o700
FILE_MODE: Final = 0o600
MAX_SOCKET_PATH: Final = 100
"""Bytes. The kernel takes 107 (103 on macOS) and otherwise fails with a message that does not say why."""


def resolve_home(override: str | os.PathLike[str] | None = None, environ: Mapping[str, str] | None = None) -> Home:
    """The home to use: `override` (--home), else $DMS_HOME, else the platform's place for a user's application data.

    Raises:
        UserError: `bad_config`: $DMS_HOME is set but empty or not absolute, so files would depend on the working directory.
    """
    variables = os.environ if environ is None else environ
    if override is not None:
        return Home(Path(override).expanduser().absolute())
    if "DMS_HOME" in variables:
        path = Path(variables["DMS_HOME"]).expanduser()
        if not path.is_absolute():
            raise UserError("bad_config", f"DMS_HOME is {variables['DMS_HOME']!r}, not an absolute path")
        return Home(path)
    from platformdirs import user_data_path  # noqa: PLC0415 - 20 ms that commands given a home need not pay

    return Home(user_data_path("dms", appauthor=False))


class Home:
    """The directory of one node and the names of the files in it. Holds no open files."""

    __slots__ = ("root",)

    def __init__(self, root: Path) -> None:
        self.root = root

    def __repr__(self) -> str:
        return f"Home({str(self.root)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Home) and other.root == self.root

    def __hash__(self) -> int:
        return hash(self.root)

    @property
    def config(self) -> Path:
        """What the owner wrote; may be absent."""
        return self.root / "config.toml"

    @property
    def identity_key(self) -> Path:
        """PKCS#8 PEM of the node's Ed25519 key."""
        return self.root / "identity.key"

    @property
    def identity_names(self) -> Path:
        """UUID, PeerID, DID and CID as JSON."""
        return self.root / "identity.json"

    @property
    def next_key(self) -> Path:
        """The key that is about to become the node's; there only while it is replaced."""
        return self.root / "identity.key.next"

    @property
    def events(self) -> Path:
        """The SQLite event store; -wal and -shm files lie beside it."""
        return self.root / "events.db"

    @property
    def lock(self) -> Path:
        """Held with flock by the running node."""
        return self.root / "node.lock"

    @property
    def pid(self) -> Path:
        """Process id of the running node; for people, never for decisions."""
        return self.root / "node.pid"

    @property
    def token(self) -> Path:
        """Bearer token of JSON-RPC over HTTP that opens every method."""
        return self.root / "token"

    @property
    def grants(self) -> Path:
        """Grants that were given to this node, a line each; may be absent."""
        return self.root / "grants"

    @property
    def log_budget(self) -> Path:
        """What strangers have used of the log budget; absent before the first start."""
        return self.root / "log_budget"

    @property
    def reading_token(self) -> Path:
        """Bearer token that opens the methods that only look."""
        return self.root / "token.read"

    @property
    def blobs(self) -> Path:
        """Content-addressed inputs and outputs."""
        return self.root / "blobs"

    @property
    def datasets(self) -> Path:
        """The datasets that are kept; their content is among the blobs."""
        return self.root / "datasets"

    @property
    def pool(self) -> Path:
        """One directory per warm container."""
        return self.root / "pool"

    @property
    def executors(self) -> Path:
        """The executors' own files, outside every job's reach."""
        return self.root / "executors"

    @property
    def jobs(self) -> Path:
        """One working directory per allocation."""
        return self.root / "jobs"

    @property
    def log(self) -> Path:
        """Log files; `node_log` is the current one."""
        return self.root / "log"

    @property
    def node_log(self) -> Path:
        """The node's own log; older parts end in .1, .2 and so on."""
        return self.log / "node.log"

    @property
    def cache(self) -> Path:
        """What can be computed again: compiled modules, seccomp programs, the last benchmark."""
        return self.root / "cache"

    @property
    def socket(self) -> Path:
        """The JSON-RPC socket: in the home, or, where that path is too long for the kernel, in a private directory under the temporary one."""
        here = self.root / "node.sock"
        if len(os.fsencode(here)) <= MAX_SOCKET_PATH:
            return here
        return _runtime_directory(self.root) / "node.sock"

    def exists(self) -> bool:
        """Whether this home holds a node (`dms onboard` ran)."""
        return self.identity_key.exists()

    def is_complete(self) -> bool:
        """Whether the node's names are there beside its key."""
        return self.exists() and self.identity_names.exists()

    def prepare(self) -> None:
        """Makes the directories, 0700, and repairs their modes. Idempotent.

        Raises:
            MachineError: `store_failed`: a directory cannot be made.
            UserError: `bad_config`: the home belongs to another user, who could read the key or replace files.
        """
        for directory in (self.root, self.blobs, self.jobs, self.log, self.cache):
            _make_private(directory, directory.stat)
        if self.socket.parent != self.root:
            _make_private(self.socket.parent, self.socket.parent.lstat)  # in /tmp a link is somebody's trap


def open_private(path: str | os.PathLike[str], flags: int) -> int:
    """`os.open` for `open(…, opener=open_private)`: new files are 0600 whatever the umask, links are not followed."""
    return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE)


def require_private(path: Path) -> None:
    """Refuses a file or directory that others could read or write.

    Raises:
        UserError: `bad_config`, with the command that repairs it.
    """
    status = path.stat()
    if status.st_uid not in (os.getuid(), 0):
        raise UserError("bad_config", f"{path} belongs to user {status.st_uid}, not to you ({os.getuid()})")
    if stat.S_IMODE(status.st_mode) & 0o077:
        mode, private = stat.S_IMODE(status.st_mode), DIRECTORY_MODE if stat.S_ISDIR(status.st_mode) else FILE_MODE
        raise UserError(
            "bad_config", f"{path} has mode {mode:04o}: others can use it", hint=f"chmod {private:o} {path}"
        )


def _make_private(directory: Path, status_of: Callable[[], os.stat_result]) -> None:
    try:
        directory.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
        status = status_of()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
            raise UserError(
                "bad_config",
                f"{directory} is not a directory that belongs to you",
                hint="choose another home with --home or DMS_HOME",
            )
        if stat.S_IMODE(status.st_mode) != DIRECTORY_MODE:
            directory.chmod(DIRECTORY_MODE)
    except FileExistsError as error:
        raise UserError("bad_config", f"{directory} exists and is not a directory") from error
    except OSError as error:
        raise MachineError("store_failed", f"{directory} cannot be made: {error.strerror}") from error


def _runtime_directory(root: Path) -> Path:
    import hashlib  # noqa: PLC0415 - only for homes with very long paths

    # Not $TMPDIR: the node and a command started from another environment must find the same place.
    name = hashlib.sha256(os.fsencode(root)).hexdigest()[:16]
    return Path(f"/tmp/dms-{os.getuid()}-{name}")  # noqa: S108 - 0700 and its owner is checked by `Home.prepare`
