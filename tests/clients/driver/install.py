"""Brings every foreign client under target/clients/, pinned by its lock file.

Each part has a stamp: the hash of the files it was made from. A second run sees the stamp and does nothing.
Nothing is installed globally except Debian's kcat and python3-venv, and those only as root.
"""

import fcntl
import hashlib
import importlib.util
import os
import pathlib
import re
import shutil
import subprocess
import time

HERE = pathlib.Path(__file__).resolve().parent.parent
ROOT = HERE.parent.parent
TARGET = ROOT / "target/clients"
LOGS = TARGET / "logs"


# How often what comes over the network is asked for, and how long between.
FETCHES_MAX, FETCH_PAUSE_SECONDS = 3, 5


class Missing(Exception):
    """A client could not be installed; the text says what to do."""


def kafka_version():
    return re.search(r"<kafka>(.*?)</kafka>", (HERE / "java/pom.xml").read_text())[1]


def classpath():
    return f"{TARGET}/java/classes:{TARGET}/java/lib/*"


def fetch(*command, **more):
    """Runs an installer that needs the network, which may fail once for no reason of ours."""
    for left in reversed(range(FETCHES_MAX)):
        try:
            return run(*command, **more)
        except Missing:
            if not left:
                raise
            time.sleep(FETCH_PAUSE_SECONDS)


def run(*command, cwd=None, env=None):
    """Runs an installer quietly; its output becomes the message when it fails."""
    pipe = subprocess.PIPE
    try:
        done = subprocess.run(command, cwd=cwd, stdout=pipe, stderr=subprocess.STDOUT, env={**os.environ, **(env or {})})
    except FileNotFoundError:
        raise Missing(f"{command[0]} is not installed") from None
    if done.returncode:
        tail = done.stdout.decode(errors="replace")[-2000:]
        raise Missing(f"`{' '.join(map(str, command))}` failed with {done.returncode}:\n{tail}")


def stamped(name, sources, make):
    """Runs `make` unless the stamp holds the hash of `sources` already."""
    digest = hashlib.sha256()
    for source in sorted(sources):
        digest.update(source.read_bytes())
    stamp = TARGET / name / "stamp"
    if stamp.exists() and stamp.read_text() == digest.hexdigest():
        return
    (TARGET / name).mkdir(parents=True, exist_ok=True)
    stamp.unlink(missing_ok=True)
    make(TARGET / name)
    stamp.write_text(digest.hexdigest())


def debian(package):
    if os.geteuid() != 0:
        raise Missing(f"{package} is not installed: run `apt-get install {package}` as root")
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    fetch("apt-get", "update", env=quiet)
    fetch("apt-get", "install", "-y", "--no-install-recommends", package, env=quiet)


def kcat():
    if not shutil.which("kcat"):
        debian("kcat")


def python():
    def make(into):
        # Debian's python3 comes without what a virtual environment is made from.
        if not importlib.util.find_spec("ensurepip"):
            debian("python3-venv")
        run("python3", "-m", "venv", "--clear", into / "venv")
        pip = into / "venv/bin/pip"
        fetch(pip, "install", "--require-hashes", "--no-deps", "--only-binary=:all:", "-r", HERE / "python/requirements.txt")

    stamped("python", [HERE / "python/requirements.txt"], make)


def node():
    lock = [HERE / "node/package.json", HERE / "node/package-lock.json"]

    def make(into):
        for it in lock:
            shutil.copy(it, into)
        fetch("npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", cwd=into)

    stamped("node", lock, make)
    # A module is looked for from where the program stands, so the programs go beside their node_modules.
    for it in (HERE / "node").glob("*.mjs"):
        shutil.copy(it, TARGET / "node")


def java():
    def jars(into):
        shutil.rmtree(into / "lib", ignore_errors=True)
        goal = "dependency:copy-dependencies"
        fetch("mvn", "-B", "-q", goal, "-DincludeScope=runtime", f"-DoutputDirectory={into}/lib", cwd=HERE / "java")

    sources = sorted((HERE / "java").glob("*.java"))
    stamped("java", [HERE / "java/pom.xml"], jars)

    def compile_(into):
        run("javac", "-nowarn", "-Xlint:-options", "-cp", f"{TARGET}/java/lib/*", "-d", TARGET / "java/classes", *sources)

    if sources:
        stamped("java-classes", [HERE / "java/pom.xml", *sources], compile_)


def go():
    sources = [it for it in (HERE / "go").rglob("*") if it.is_file()]
    programs = [it.name for it in (HERE / "go").iterdir() if (it / "main.go").exists()]

    def make(into):
        fetch("go", "mod", "download", cwd=HERE / "go")
        for it in programs:
            run("go", "build", "-mod=readonly", "-o", into / it, f"./{it}", cwd=HERE / "go")

    stamped("go", sources, make)


def rust(folder="rust"):
    source = HERE / folder
    sources = [source / "Cargo.toml", source / "Cargo.lock", source / "src/main.rs"]

    def make(into):
        fetch("cargo", "fetch", "--quiet", "--locked", cwd=source)
        run("cargo", "build", "--quiet", "--release", "--locked", "--target-dir", into, cwd=source)

    stamped(folder, sources, make)


def rdkafka():
    rust("rdkafka")


def once(part):
    """Installs one part while no other run does."""
    TARGET.mkdir(parents=True, exist_ok=True)
    with (TARGET / f"{part.__name__}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        part()
