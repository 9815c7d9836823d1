"""Whether a bucket's policy opens it to everybody."""

from __future__ import annotations

from typing import Any

EVERYBODY = (
    "http://acs.amazonaws.com/groups/global/AllUsers",
    "http://acs.amazonaws.com/groups/global/AuthenticatedUsers",
)


def is_public(policy: dict[str, Any] | None) -> bool:
    """Tell whether a policy allows anything to everybody, for a server that does not judge its policies itself."""
    statements = policy.get("Statement", []) if policy else []
    return any(
        one.get("Effect") == "Allow" and _is_everybody(one.get("Principal")) and not one.get("Condition")
        for one in (statements if isinstance(statements, list) else [statements])
    )


def _is_everybody(principal: Any) -> bool:
    if isinstance(principal, dict):
        return any(_is_everybody(one) for one in principal.values())
    return "*" in principal if isinstance(principal, list) else principal == "*"
