"""A Ceph cluster of one monitor, one OSD that keeps everything in memory, and one gateway that speaks S3.

Debian's packages, as any user, in a folder; on loopback, without authentication between its parts. A manager would only
count. https://docs.ceph.com/en/pacific/dev/dev_cluster_deployment/ is the same with more of everything.
"""

from __future__ import annotations

import secrets
import shutil
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING
from uuid import uuid4

from local.s3 import ports
from local.s3.identities import Credentials
from local.s3.ports import HOST
from local.s3.seaweed import S3Server
from tests.servers.processes import ServerError, endpoint_at, running, wait_until_it_answers

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROGRAMS = ("ceph", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin")
# Three seconds for the parts to find each other, and as much again for each pool that the gateway makes.
TIMEOUT_S = 120
CONF = """\
[global]
fsid = {fsid}
mon host = [v2:{host}:{mon}]
mon initial members = a
public addr = {host}
cluster addr = {host}
auth cluster required = none
auth service required = none
auth client required = none
ms mon client mode = crc
run dir = {folder}
log file = {folder}/$name.details.log
admin socket = {folder}/$name.asok
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
osd objectstore = memstore
memstore device bytes = 4294967296

[mon.a]
mon data = {folder}/mon

[osd.0]
osd data = {folder}/osd

[client.rgw]
rgw data = {folder}
rgw frontends = beast endpoint={host}:{gateway} tcp_nodelay=1
"""


def missing() -> str | None:
    """What keeps this machine from running it, None if nothing does."""
    absent = [name for name in PROGRAMS if not shutil.which(name)]
    return f"{', '.join(absent)}: not installed (make servers, as root)" if absent else None


@contextmanager
def gateway(folder: Path) -> Iterator[S3Server]:
    """Run a new cluster in ``folder``, and give its gateway with one user. Raises ServerError."""
    mon, port = ports.free_ports(2)
    fsid, osd = uuid4(), uuid4()
    conf, monmap = folder / "ceph.conf", folder / "monmap"
    conf.write_text(CONF.format(fsid=fsid, host=HOST, mon=mon, gateway=port, folder=folder))
    for name in ("mon", "osd"):
        (folder / name).mkdir()
    environment = {"CEPH_CONF": str(conf)}

    def call(*command: str | Path) -> None:
        _call(command, environment)

    call("monmaptool", "--create", "--fsid", str(fsid), "--addv", "a", f"[v2:{HOST}:{mon}]", monmap)
    call("ceph-mon", "--mkfs", "--id", "a", "--monmap", monmap)
    with running("mon", ["ceph-mon", "--foreground", "--id", "a"], folder, environment):
        call("ceph", "osd", "new", str(osd))
        call("ceph-osd", "--id", "0", "--mkfs", "--osd-uuid", str(osd))
        with running("osd", ["ceph-osd", "--foreground", "--id", "0"], folder, environment):
            user = Credentials(secrets.token_hex(10), secrets.token_hex(20))
            login = [f"--access-key={user.access_key}", f"--secret-key={user.secret_key}"]
            call("radosgw-admin", "--name=client.rgw", "user", "create", "--uid=tests", "--display-name=tests", *login)
            command = ["radosgw", "--foreground", "--name=client.rgw"]
            with running("gateway", command, folder, environment) as process:
                wait_until_it_answers(endpoint_at(port), process, folder / "gateway.log")
                yield S3Server(endpoint_at(port), user, user, process.pid)


def _call(command: tuple[str | Path, ...], environment: dict[str, str]) -> None:
    path = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    done = subprocess.run(
        command, env=environment | path, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    if done.returncode:
        raise ServerError(f"{command[0]} ended with {done.returncode}: {done.stderr[-1000:]}")
