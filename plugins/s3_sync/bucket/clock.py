"""What time it is at the server, told by the ``Date`` of its answers however it writes it."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

# Three forms are allowed (RFC 9110, 5.6.7). Proxies double the header, which then has a comma more; some servers leave
# the zone out. All of these mean UTC.
_MOMENT = re.compile(
    r"\d{1,2} [A-Za-z]{3} \d{4} \d\d:\d\d:\d\d(?: [+-]\d{4})?"
    r"|\d\d-[A-Za-z]{3}-\d\d \d\d:\d\d:\d\d"
    r"|[A-Za-z]{3} +\d{1,2} \d\d:\d\d:\d\d \d{4}"
)


def time_at(answer: Any) -> datetime | None:
    """Return the time that boto3's ``answer`` tells, the later of two; None where it tells none that can be read."""
    header = answer["ResponseMetadata"]["HTTPHeaders"].get("date", "")
    return max(filter(None, map(_read, _MOMENT.findall(header))), default=None)


def _read(written: str) -> datetime | None:
    try:
        return aware(parsedate_to_datetime(re.sub("-(?=[A-Za-z])|(?<=[A-Za-z])-", " ", written)))
    except (TypeError, ValueError, OverflowError):
        return None


def aware(moment: datetime) -> datetime:
    """Return a moment with its zone: UTC, where it has none."""
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
