"""The names of parts as a regular expression, so that a trigger form can refuse what is no date.

Days that no calendar has are refused too. Of a code of strftime that is not listed here any text passes:
`Dataset.is_partition` has the last word.
"""

import re
from collections.abc import Mapping

from include.faceset.declared.export import END

_CODES = {
    "%Y": "[1-9][0-9]{3}",
    "%y": "[0-9]{2}",
    "%m": "(0[1-9]|1[0-2])",
    "%d": "(0[1-9]|[12][0-9]|3[01])",
    "%j": "(00[1-9]|0[1-9][0-9]|[12][0-9]{2}|3[0-5][0-9]|36[0-6])",
    "%H": "([01][0-9]|2[0-3])",
    "%M": "[0-5][0-9]",
    "%S": "[0-5][0-9]",
}
_NOT_BY_4 = "([02468][1235679]|[13579][01345789])"
_COMMON_YEAR = {"%Y": f"([0-9]{{2}}{_NOT_BY_4}|{_NOT_BY_4}00)", "%y": _NOT_BY_4}
_NO_DAYS: tuple[dict[str, str], ...] = (
    {"%m": "02", "%d": "3[01]"},
    {"%m": "(04|06|09|11)", "%d": "31"},
    {"%m": "02", "%d": "29", **_COMMON_YEAR},
    {"%j": "366", **_COMMON_YEAR},
)
"""What no calendar has, by the codes that say it."""


def partition_pattern(form: str) -> str:
    """A regular expression (Python's and ECMAScript's) for the dates that `form`, of strftime, writes."""
    codes = set(re.findall("%.", form))
    said = [day for day in _NO_DAYS if {code for code in day if code not in _COMMON_YEAR} <= codes]
    refused = "".join(f"(?!{_written(form, {**_CODES, **day})}$)" for day in said)
    return f"^{refused}{_written(form, _CODES)}{END}"


def _written(form: str, codes: Mapping[str, str]) -> str:
    return "".join(
        codes.get(part, ".+") if part[0] == "%" else re.escape(part) for part in re.findall("%.|[^%]+", form)
    )
