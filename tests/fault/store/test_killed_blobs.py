"""kill -9 while a blob is being stored: it is there whole, or not at all."""

import signal
import subprocess
import sys
import time

from dms.store.blobs import BlobStore

CHILD = """
import sys
from pathlib import Path
from dms.store.blobs import BlobStore

BlobStore(Path(sys.argv[1])).put_file(Path(sys.argv[2]))
"""
PATIENCE_S = 30.0


def test_a_store_killed_in_the_middle_of_a_file_has_nothing_of_it(tmp_path):
    root, source = tmp_path / "blobs", tmp_path / "source"
    with source.open("wb") as file:
        file.truncate(8 * 1024**3)  # of holes: far more than is read in time
    with subprocess.Popen([sys.executable, "-c", CHILD, root, source]) as child:
        until = time.monotonic() + PATIENCE_S
        while not any(path.stat().st_size for path in root.glob("incoming/*")):
            assert time.monotonic() < until
        child.send_signal(signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL
    assert list((root / "incoming").iterdir())

    again = BlobStore(root)

    assert not list(again.digests())
    assert again.total_bytes() == 0
    assert not list((root / "incoming").iterdir())
