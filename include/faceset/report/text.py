"""The facts as text for a person: ``SUMMARY.md``, and what a dry run says."""

import re
import shlex
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from include.faceset.erasure import met
from include.faceset.ledger import EXPLANATIONS
from include.faceset.report.facts import Facts
from include.faceset.run.run import Run
from include.faceset.training.trainers import wanted


def report(run: Run, facts: Facts, sample: dict[str, Any] | None) -> str:
    """SUMMARY.md; without a `sample` it names no identity and may go to a log."""
    return (
        environment()
        .get_template("SUMMARY.md.j2")
        .render(
            facts=facts,
            sample=sample,
            params=run.params,
            dataset=run.dataset,
            explanations={outcome.value: text for outcome, text in EXPLANATIONS.items()},
            config=facts.config,
            config_file=wanted(run)[0].file_name(run.dataset.name),
            release_folder=run.release(facts.release_id),
        )
    )


def environment() -> Environment:
    # Markdown read as text: HTML escapes would show. Names, the one foreign thing in it, stand in code spans.
    environment = Environment(  # noqa: S701
        loader=PackageLoader("include.faceset.report"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "thousands": lambda number: f"{number:,}",
        "percent": lambda part, whole: f"{100 * part / whole:.1f} %" if whole else "-",
        "megabytes": lambda size: f"{size / 1e6:,.1f} MB",
        "code": code_span,
        "cell": lambda text: code_span(" ".join(text.replace("|", "/").split())),
        "lines": met.in_words,
        "quote": shlex.quote,
    }
    return environment


def code_span(name: str) -> str:
    """A name as a Markdown code span that nothing in it can end."""
    longest = max((len(ticks) for ticks in re.findall("`+", name)), default=0)
    fence = "`" * (longest + 1)
    return f"{fence} {name} {fence}" if longest else f"`{name}`"
