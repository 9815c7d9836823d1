"""What docker compose does with a file, done with the kernel's namespaces and this machine's programs.

Each service runs in a root, a network, a process tree and under a host name of its own, with the command, environment,
user, volumes, health check and start order of the file. What an image would bring comes from this machine: Debian's
Postgres and Redis, and the project's own environment, which has the versions that the image is built with. Memory
limits are not enforced.

The network lies in the network namespace of the calling thread (see `own_network`). Whatever ends this process ends
every service, and the kernel takes the rest away.
"""

import ctypes
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import chain, count
from pathlib import Path
from typing import Any

import yaml

from local.airflow import leash
from local.airflow.errors import StackError
from local.airflow.settings import ROOT

PROGRAMS = {
    "bwrap": "bubblewrap",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
    "initdb": "postgresql",
    "redis-server": "redis-server",
    "curl": "curl",
    "wget": "wget",
}
"""What is needed beside Python, and Debian's package of it."""

NETWORK = "10.83.0"
START_TIMEOUT_S = 240.0
POLL_S = 0.5
_CLONE_NEWNET = 0x40000000
_REQUIRED = re.compile(r"\$\$|\$\{(?P<name>\w+):\?[^}]*\}")

USERS = """\
root:x:0:0:root:/root:/bin/sh
postgres:x:999:999::/var/lib/postgresql:/bin/sh
redis:x:998:998::/data:/bin/sh
airflow:x:{airflow}:0::/home/airflow:/bin/sh
"""
GROUP = "root:x:0:\npostgres:x:999:\nredis:x:998:\n"

# What the entrypoint of the official image does with an empty volume, shortened to what the file asks for.
POSTGRES = """\
export PGDATA=/var/lib/postgresql/data
if [ ! -e "$PGDATA/PG_VERSION" ]; then
    umask 077
    printf '%s' "$POSTGRES_PASSWORD" > /tmp/password
    initdb --username="$POSTGRES_USER" --pwfile=/tmp/password --auth-host=scram-sha-256 --auth-local=trust --no-sync
    rm /tmp/password
    echo "listen_addresses = '*'" >> "$PGDATA/postgresql.conf"
    echo "unix_socket_directories = '/tmp'" >> "$PGDATA/postgresql.conf"
    echo 'host all all all scram-sha-256' >> "$PGDATA/pg_hba.conf"
    echo "CREATE DATABASE $POSTGRES_DB" | postgres --single -D "$PGDATA" postgres
fi
exec "$@"
"""


@dataclass(frozen=True)
class Image:
    """What the image of a service says of it, where the file does not."""

    user: str = "0:0"
    folder: str = "/"
    entrypoint: tuple[str, ...] = ()


IMAGES = {
    "postgres": Image("999:999", entrypoint=("sh", "-euc", POSTGRES, "sh")),
    "redis": Image("998:998", "/data"),
    "chrislusf/seaweedfs": Image(),
    "faceset-airflow": Image("50000:0", "/opt/airflow"),
}
"""By name, without version."""
OWNERS = {"postgres": (999, 999, 0o700), "merged": (50000, 0, 0o775), "logs": (50000, 0, 0o775)}
"""Owner, group and mode that a named volume takes from the folder of the image that it first covers."""


class ContainerError(StackError):
    """A service did not start, ended, or is not healthy; the message holds the end of its log."""


def missing() -> str | None:
    """Return what this machine lacks, as a reason to skip; None if there is nothing."""
    if os.geteuid() != 0:
        return "needs root, for namespaces"
    path = _path()
    absent = {package for name, package in PROGRAMS.items() if shutil.which(name, path=path) is None}
    if absent:
        return f"needs Debian's {', '.join(sorted(absent))}: apt-get install --no-install-recommends {' '.join(absent)}"
    probe = ["bwrap", "--unshare-pid", "--unshare-net", "--ro-bind", "/", "/", "true"]
    refused = subprocess.run(probe, capture_output=True, text=True, check=False).stderr.strip()
    return f"needs namespaces: {refused}" if refused else None


def load(path: Path, environment: Mapping[str, str]) -> dict[str, Any]:
    """Return the file as compose reads it, with the variables in their places.

    Raises:
        KeyError: a variable is not set.
    """
    loaded: dict[str, Any] = _interpolated(yaml.safe_load(path.read_text()), environment)
    return loaded


def _interpolated(value: Any, environment: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _interpolated(one, environment) for key, one in value.items()}
    if isinstance(value, list):
        return [_interpolated(one, environment) for one in value]
    if isinstance(value, str):
        return _REQUIRED.sub(lambda match: environment[match["name"]] if match["name"] else "$", value)
    return value


@dataclass(frozen=True)
class Container:
    """A service that was started; `pid` is the first process of its tree, as this process sees it."""

    name: str
    address: str
    process: subprocess.Popen[bytes]
    pid: int
    log: Path
    user: str
    environment: Mapping[str, str] = field(repr=False)
    health: list[str] | None

    def check(self) -> None:
        """Raise ContainerError with the end of the log if the service has ended."""
        code = self.process.poll()
        if code is not None:
            raise ContainerError(f"{self.name} ended with exit code {code}. {self.end_of_log()}")

    def is_healthy(self) -> bool:
        """Run the file's health check once, in the service's own namespaces."""
        assert self.health is not None, self.name
        kind, *command = self.health
        return self.run(["sh", "-c", *command] if kind == "CMD-SHELL" else command).returncode == 0

    def run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        """Run a command beside the service, as `docker compose exec` does."""
        enter = ["nsenter", f"--target={self.pid}", "--mount", "--uts", "--ipc", "--net", "--pid", "--"]
        return subprocess.run(
            [*enter, *_as(self.user), *command], env=self.environment, capture_output=True, text=True, check=False
        )

    def freeze(self) -> None:
        """Stop every process of the service where it is."""
        stopped: set[int] = set()
        while new := set(leash.descendants(self.process.pid)) - {self.pid} - stopped:
            for pid in new:
                os.kill(pid, signal.SIGSTOP)
            stopped |= new

    def thaw(self) -> None:
        """Let every process of the service go on."""
        for pid in leash.descendants(self.process.pid):
            os.kill(pid, signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL to every process of the service at once, as when its machine is lost."""
        os.kill(self.pid, signal.SIGKILL)  # the first of a process namespace takes all others with it
        self.process.wait()

    def end_of_log(self, lines: int = 30) -> str:
        text = self.log.read_text(errors="replace").splitlines()
        return "\n".join([f"The end of {self.log}:", *(f"  {line}" for line in text[-lines:])])


@dataclass(frozen=True)
class Compose:
    """A compose file that is up; `containers` by host name: a scaled service has a number behind its name."""

    file: Mapping[str, Any]
    folder: Path
    containers: dict[str, Container] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=lambda: count(10))

    def volume(self, name: str) -> Path:
        """The folder that a named volume is."""
        return self.folder / "volumes" / name

    def start(self, service: str, scale: int = 1) -> None:
        """Start a service once what it depends on is as it wants it, and that before, in turn."""
        declared = self.file["services"][service]
        for needed, how in declared.get("depends_on", {}).items():
            if needed not in self.containers:
                self.start(needed)
            self._wait_for(needed, how["condition"])
        for number in range(1, scale + 1):
            name = service if scale == 1 else f"{service}-{number}"
            self.add(name, declared)

    def add(self, name: str, declared: Mapping[str, Any]) -> Container:
        """Start one more container, declared as services are, under a host name of its own."""
        self.containers[name] = self._start(name, declared)
        return self.containers[name]

    def lose(self, name: str) -> Container:
        """Kill a container, which is none of these any more."""
        lost = self.containers.pop(name)
        lost.kill()
        return lost

    def check(self) -> None:
        """Raise ContainerError if a service that should run has ended."""
        for container in self.containers.values():
            if container.health is not None:
                container.check()

    def until(self, done: Callable[[], bool], what: str, container: Container) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not done():
            self.check()
            if time.monotonic() > deadline:
                raise ContainerError(f"waited {START_TIMEOUT_S:.0f} s for {what}, in vain. {container.end_of_log()}")
            time.sleep(POLL_S)

    def _wait_for(self, service: str, condition: str) -> None:
        container = self.containers[service]
        if condition == "service_healthy":
            self.until(container.is_healthy, f"{service} to be healthy", container)
            return
        self.until(lambda: container.process.poll() is not None, f"{service} to end", container)
        if container.process.returncode != 0:
            raise ContainerError(f"{service} failed. {container.end_of_log()}")

    def _start(self, name: str, declared: Mapping[str, Any]) -> Container:
        image = IMAGES[declared["image"].rpartition(":")[0]]
        user = {"redis": "998:998"}.get(str(declared.get("user")), str(declared.get("user", image.user)))
        shared = str(declared.get("network_mode", "")).removeprefix("service:")
        number = next(self.numbers)
        address = self.containers[shared].address if shared else f"{NETWORK}.{number}"
        environment = {key: str(value) for key, value in declared.get("environment", {}).items()}
        environment |= {"PATH": _path(), "HOME": "/tmp", "LANG": "C.UTF-8", "AIRFLOW_HOME": "/opt/airflow"}
        # setproctitle, with which Airflow names its processes, would overwrite their environment.
        environment |= {"SPT_NOENV": "1"}
        command = [*declared.get("entrypoint", image.entrypoint), *declared["command"]]
        log = self.folder / f"{name}.log"
        self._name(name, address)
        go, wait = os.pipe()
        told, tell = os.pipe()
        join = ["nsenter", f"--net=/proc/{self.containers[shared].pid}/ns/net"] if shared else []
        with log.open("wb") as output:
            process = subprocess.Popen(
                [
                    *join,
                    *self._sandbox(name, declared, image, network=not shared),
                    "--block-fd",
                    str(go),
                    "--info-fd",
                    str(tell),
                    "--",
                    *_as(user),
                    *command,
                ],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=(go, tell),
            )
        os.close(go)
        os.close(tell)
        with os.fdopen(told) as answer:
            text = answer.read()
        if not text:
            raise ContainerError(f"{name} did not start: {log.read_text(errors='replace')}")
        pid = json.loads(text)["child-pid"]
        if not shared:
            _connect(f"veth{number}", address, pid)
        os.write(wait, b"\n")
        os.close(wait)
        health = declared.get("healthcheck", {}).get("test")
        return Container(name, address, process, pid, log, user, environment, health)

    def _sandbox(self, name: str, declared: Mapping[str, Any], image: Image, *, network: bool) -> list[str]:
        own = self.folder / "own" / name
        own.mkdir(parents=True)
        arguments = ["bwrap", "--unshare-pid", "--unshare-uts", "--unshare-ipc", "--die-with-parent", "--new-session"]
        arguments += ["--unshare-net"] if network else []
        arguments += ["--cap-add", "ALL", "--hostname", name, "--proc", "/proc", "--dev", "/dev"]
        for folder in ("/tmp", "/dev/shm"):
            arguments += ["--perms", "1777", "--tmpfs", folder]
        arguments += ["--ro-bind", "/usr", "/usr", "--ro-bind", "/etc", "/etc"]
        for link in ("bin", "sbin", "lib", "lib64"):
            arguments += ["--symlink", f"usr/{link}", f"/{link}"]
        for file in ("hosts", "passwd", "group"):
            arguments += ["--bind", str(self.folder / file), f"/etc/{file}"]
        mounts = [("--ro-bind", prefix, prefix) for prefix in (sys.base_prefix, sys.prefix)]
        mounts += [self._volume(own, str(volume)) for volume in declared.get("volumes", ())]
        # Else bubblewrap makes the folders above for root alone.
        for folder in (Path(image.folder) / "-", *(Path(target) for _, _, target in mounts)):
            for above in reversed(folder.parents[:-1]):
                arguments += ["--perms", "0775", "--dir", str(above)]
        return [*arguments, *chain.from_iterable(mounts), "--chdir", image.folder]

    def _volume(self, own: Path, volume: str) -> tuple[str, str, str]:
        """`name:/target`, `./folder:/target:ro`, `/folder:/target:ro`, or `/target` alone: the container's own."""
        source, _, target = volume.removesuffix(":ro").rpartition(":")
        if not source:
            place = own / target.strip("/").replace("/", "-")
            _make(place, (50000, 0, 0o775))
        elif source in self.file["volumes"]:
            place = self.volume(source)
            _make(place, OWNERS.get(source, (0, 0, 0o755)))
        else:
            place = (ROOT / source).resolve()
        return ("--ro-bind" if volume.endswith(":ro") else "--bind", str(place), target)

    def _name(self, name: str, address: str) -> None:
        # A file that is bound into a root is changed in its place, not replaced.
        with (self.folder / "hosts").open("a") as hosts:
            hosts.write(f"{address} {name}\n")


@contextmanager
def up(path: Path, folder: Path, environment: Mapping[str, str], scale: Mapping[str, int]) -> Iterator[Compose]:
    """Bring up all services of a compose file, with their state in `folder`, until the block ends.

    Args:
        path: the file.
        folder: an empty folder.
        environment: what the file's variables are.
        scale: how many of a service, by its name.

    Raises:
        ContainerError: a service did not start.
    """
    (folder / "hosts").write_text("127.0.0.1 localhost\n")
    (folder / "passwd").write_text(USERS.format(airflow=environment["AIRFLOW_UID"]))
    (folder / "group").write_text(GROUP)
    with own_network(), ExitStack() as stops:
        compose = Compose(load(path, environment), folder)
        stops.callback(_end, compose.containers)
        for service in compose.file["services"]:
            if service not in compose.containers:
                compose.start(service, scale.get(service, 1))
        yield compose


@contextmanager
def own_network() -> Iterator[None]:
    """Give this thread, and what it starts, a network that nothing else is in, with a bridge for the services."""
    libc = ctypes.CDLL(None, use_errno=True)
    with Path("/proc/thread-self/ns/net").open() as before:
        if libc.unshare(_CLONE_NEWNET) != 0:
            raise ContainerError(f"no network of its own: {os.strerror(ctypes.get_errno())}")
        try:
            _ip("link", "set", "lo", "up")
            _ip("link", "add", "bridge", "type", "bridge")
            _ip("address", "add", f"{NETWORK}.1/24", "dev", "bridge")
            _ip("link", "set", "bridge", "up")
            yield
        finally:
            libc.setns(before.fileno(), _CLONE_NEWNET)


def _connect(link: str, address: str, pid: int) -> None:
    inside = ("nsenter", f"--net=/proc/{pid}/ns/net")
    _ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", str(pid))
    _ip("link", "set", link, "master", "bridge", "up")
    _ip("address", "add", f"{address}/24", "dev", "eth0", before=inside)
    _ip("link", "set", "eth0", "up", before=inside)


def _ip(*arguments: str, before: tuple[str, ...] = ()) -> None:
    subprocess.run([*before, "ip", *arguments], check=True, capture_output=True)


def _as(user: str) -> list[str]:
    uid, _, gid = user.partition(":")
    return ["setpriv", f"--reuid={uid}", f"--regid={gid or uid}", "--clear-groups", "--no-new-privs"]


def _path() -> str:
    postgres = [str(path) for path in sorted(Path("/usr/lib/postgresql").glob("*/bin"))]
    return os.pathsep.join([str(Path(sys.prefix) / "bin"), *postgres[-1:], "/usr/sbin", "/usr/bin", "/sbin", "/bin"])


def _make(folder: Path, owner: tuple[int, int, int]) -> None:
    if not folder.exists():
        folder.mkdir(parents=True)
        uid, gid, mode = owner
        os.chown(folder, uid, gid)
        folder.chmod(mode)


def _end(containers: Mapping[str, Container]) -> None:
    for container in containers.values():
        if container.process.poll() is None:
            container.kill()
