"""Run one command and print what it took, as JSON: `python -IS bench/launch.py OUTPUT COMMAND …`.

A process of its own, and a small one: Linux counts the memory of whoever starts a command as the command's (the peak
that wait4(2) reports survives execve(2)).
"""

import json
import os
import resource
import sys
import time

with open(sys.argv[1], "wb") as output, open(f"{sys.argv[1]}.err", "wb") as errors:
    began = time.monotonic()
    actions = [(os.POSIX_SPAWN_DUP2, output.fileno(), 1), (os.POSIX_SPAWN_DUP2, errors.fileno(), 2)]
    child = os.posix_spawn(sys.argv[2], sys.argv[2:], os.environ, file_actions=actions)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    wall = time.monotonic() - began
used = resource.getrusage(resource.RUSAGE_CHILDREN)
cpu = used.ru_utime + used.ru_stime
print(json.dumps({"wall_s": wall, "cpu_s": cpu, "peak_mb": used.ru_maxrss * 1024 / 1e6, "status": status}))
