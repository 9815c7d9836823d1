"""The table of what is right where names servers and promises that there are."""

import re
from pathlib import Path

from tests.servers.expected import EXPECTED
from tests.servers.places import DISGUISED, SERVERS


def test_the_table_names_servers_and_promises_that_there_are() -> None:
    files = Path(__file__).parent.glob("test_*.py")
    promises = {name for file in files for name in re.findall(r"@promise\ndef test_(\w+)\(", file.read_text())}
    assert len(promises) > 30
    assert set(EXPECTED) <= set(SERVERS)
    assert set(DISGUISED) <= set(EXPECTED), "a disguise that is asked for nothing"
    named = {name for said in EXPECTED.values() for name in said}
    assert named <= promises
