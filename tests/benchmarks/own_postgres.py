"""A PostgreSQL of a benchmark's own, empty, and gone with it."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.servers.postgres import start_postgres


@contextmanager
def own_postgres() -> Iterator[str]:
    """Answers its address."""
    with tempfile.TemporaryDirectory(prefix="plaza-bench-") as folder:
        # Whom it runs as, where root started it, has to walk to its files.
        Path(folder).chmod(0o755)
        server, url = start_postgres(Path(folder) / "postgres")
        try:
            yield url
        finally:
            server.stop()
