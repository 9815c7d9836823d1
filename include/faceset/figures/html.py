"""``report.html``: the figures of a release to hand on, in one file, without a script, a face or a name."""

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from include.faceset.figures import charts
from include.faceset.ledger import EXPLANATIONS

TEMPLATES = "include.faceset.figures"
"""The package whose templates hold the figures; the pages in Airflow take them from there too."""
STYLE_FILE = "style.css"


def render(facts: Mapping[str, Any]) -> str:
    """The report on a release.

    Args:
        facts: what ``summary.json`` holds.
    """
    style = Markup(style_sheet())  # noqa: S704 it is our own
    return environment().get_template("report.html.j2").render(facts=facts, style=style)


def style_sheet() -> str:
    """The style sheet of the report, and of the pages."""
    return (files(TEMPLATES) / "templates" / STYLE_FILE).read_text(encoding="utf-8")


def environment() -> Environment:
    """Templates of HTML, with the filters and charts that the figures need; everything put in is escaped."""
    made = Environment(loader=PackageLoader(TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    made.filters |= {
        "thousands": lambda number: f"{number:,}",
        "percent": lambda part, whole: f"{100 * part / whole:.1f} %" if whole else "–",
        "megabytes": lambda size: f"{size / 1e6:,.1f} MB",
        "moment": lambda text: str(text)[:16].replace("T", " "),
    }
    made.globals |= {
        "bar": charts.bar,
        "columns": charts.columns,
        "lines": charts.lines,
        "explanations": {outcome.value: text for outcome, text in EXPLANATIONS.items()},
    }
    return made
