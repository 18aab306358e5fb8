"""A Java of version 21 or later, and the jars of a product, taken once from Maven Central."""

import fcntl
import hashlib
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from infra.servers.process import ServerFailed, run_to_its_end

VERSION_MIN = 21
MAVEN_SECONDS = 600
HOW_TO_GET = (
    f"install a Java {VERSION_MIN} or later (Debian: `apt-get install openjdk-{VERSION_MIN}-jre-"
    "headless`, or Temurin from https://adoptium.net) and Maven, or point PLAZA_JAVA_HOME at one"
)


class JavaMissing(ServerFailed):
    """There is no Java that is new enough, or no Maven; the message says what to install."""


@dataclass(frozen=True)
class Java:
    """A Java that is installed: its folder, and its main version."""

    home: Path
    version: int

    @property
    def program(self) -> Path:
        return self.home / "bin" / "java"


def find_java(environ: Mapping[str, str]) -> Java:
    """Looked for in PLAZA_JAVA_HOME, JAVA_HOME, PATH and /usr/lib/jvm. Raises `JavaMissing`."""
    too_old: list[str] = []
    for home in _candidates(environ):
        version = _version(home)
        if version is None:
            continue
        if version >= VERSION_MIN:
            return Java(home, version)
        too_old.append(f"{home} is version {version}")
    found = f" ({'; '.join(too_old)})" if too_old else ""
    raise JavaMissing(f"Kafka and OpenSearch need Java {VERSION_MIN} or later{found}: {HOW_TO_GET}")


def fetch_jars(product: str, java: Java, environ: Mapping[str, str]) -> Path:
    """The folder with a product's jars, fetched on first use by the `pom.xml` of that name.

    They are kept in the user's cache, for all data folders. Raises `JavaMissing` without Maven.
    """
    pom = resources.files("infra.servers").joinpath(f"{product}.pom.xml").read_bytes()
    cache = Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "plaza" / "jars"
    jars = cache / f"{product}-{hashlib.sha256(pom).hexdigest()[:12]}"
    if jars.is_dir():
        return jars
    maven = shutil.which("mvn", path=environ.get("PATH"))
    if maven is None:
        raise JavaMissing(f"Maven (`mvn`) is not on PATH, and {product} comes by it: {HOW_TO_GET}")
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not jars.is_dir():
            _run_maven(maven, pom, jars, java, environ)
    return jars


def _run_maven(maven: str, pom: bytes, jars: Path, java: Java, environ: Mapping[str, str]) -> None:
    with tempfile.TemporaryDirectory(dir=jars.parent) as making:
        pom_file = Path(making) / "pom.xml"
        pom_file.write_bytes(pom)
        done = run_to_its_end(
            [
                *(maven, "-q", "-B", "-f", pom_file, "dependency:copy-dependencies"),
                *(f"-DoutputDirectory={making}/lib", "-DincludeScope=runtime"),
            ],
            environment={**environ, "JAVA_HOME": str(java.home)},
            seconds=MAVEN_SECONDS,
        )
        if done.returncode != 0:
            raise ServerFailed(
                f"Maven could not fetch the jars:\n{(done.stdout + done.stderr)[-2000:]}"
            )
        (Path(making) / "lib").rename(jars)


def _candidates(environ: Mapping[str, str]) -> Iterator[Path]:
    for name in ("PLAZA_JAVA_HOME", "JAVA_HOME"):
        if environ.get(name):
            yield Path(environ[name])
    on_path = shutil.which("java", path=environ.get("PATH"))
    if on_path is not None:
        yield Path(on_path).resolve().parent.parent
    yield from sorted(Path("/usr/lib/jvm").glob("*"), reverse=True)


def _version(home: Path) -> int | None:
    """The major version of the Java in this folder, or None if there is none that runs."""
    try:
        done = run_to_its_end([home / "bin" / "java", "-version"], seconds=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r'version "(?:1\.)?(\d+)', done.stderr + done.stdout)
    return int(found[1]) if found else None
