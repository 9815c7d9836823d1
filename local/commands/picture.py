"""Draws the tasks of the DAG, as Airflow has loaded them, into docs/images/graph.svg."""

import os
import tempfile
from collections.abc import Iterable
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PICTURE = ROOT / "docs" / "images" / "graph.svg"
WIDTH, HEIGHT, GAP, ROW, A_ROW = 132, 40, 24, 104, 7
END = """\
<defs><marker id="end" markerWidth="8" markerHeight="8" refX="7" refY="4" orient="auto">
<path d="M0,1 L7,4 L0,7" style="stroke:#57606a"/></marker></defs>"""
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
rect { fill: #eaf2ff; stroke: #3b6fb6; rx: 6px }
rect.mapped { fill: #d9f0df; stroke: #2f8a4c }
path { fill: none; stroke: #57606a; stroke-width: 1.5 }
path.beside { stroke-dasharray: 5 4 }
"""


def graph() -> tuple[list[str], set[str], set[tuple[str, str]]]:
    """The tasks in their order, which of them are mapped, and the arrows between them."""
    from airflow.dag_processing.dagbag import DagBag  # noqa: PLC0415 it reads its settings when it is imported

    dag = DagBag(ROOT / "dags").dags["reidnet_v3"]
    tasks = dag.topological_sort()  # type: ignore[no-untyped-call]
    arrows = {(task.task_id, below) for task in tasks for below in task.downstream_task_ids}
    return [task.task_id for task in tasks], {task.task_id for task in tasks if task.is_mapped}, arrows


def draw(tasks: list[str], mapped: set[str], arrows: Iterable[tuple[str, str]]) -> str:
    """An SVG: the tasks in rows, an arrow to the next one whole, to one further on dashed."""
    at = {task: (20 + index % A_ROW * (WIDTH + GAP), 40 + index // A_ROW * ROW) for index, task in enumerate(tasks)}
    width, height = 20 + A_ROW * (WIDTH + GAP), 40 + (len(tasks) - 1) // A_ROW * ROW + HEIGHT + 36
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
        f"<title>{escape(', '.join(tasks))}</title><style>{STYLE}</style>",
        END,
        f'<rect x="0" y="0" width="{width}" height="{height}" style="fill:#fff;stroke:none"/>',
    ]
    order = {task: index for index, task in enumerate(tasks)}
    for one, other in sorted(arrows, key=lambda arrow: (order[arrow[0]], order[arrow[1]])):
        beside = ' class="beside"' if order[other] - order[one] > 1 else ""
        parts.append(f'<path{beside} marker-end="url(#end)" d="{_line(at[one], at[other])}"/>')
    for task in tasks:
        x, y = at[task]
        kind = ' class="mapped"' if task in mapped else ""
        label = f"{task} [ ]" if task in mapped else task
        parts.append(f'<rect{kind} x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}"/>')
        parts.append(f'<text x="{x + WIDTH / 2}" y="{y + 25}" text-anchor="middle">{escape(label)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _line(one: tuple[int, int], other: tuple[int, int]) -> str:
    (x, y), (to_x, to_y) = one, other
    if y == to_y and to_x - x == WIDTH + GAP:
        return f"M{x + WIDTH},{y + HEIGHT / 2} L{to_x - 1},{to_y + HEIGHT / 2}"
    if y == to_y:
        return f"M{x + WIDTH / 2},{y} C{x + WIDTH},{y - 36} {to_x},{y - 36} {to_x + WIDTH / 2},{to_y - 1}"
    middle = (y + HEIGHT + to_y) / 2
    start, end = x + WIDTH / 2, to_x + WIDTH / 2
    return f"M{start},{y + HEIGHT} C{start},{middle} {end},{middle} {end},{to_y - 1}"


def main() -> None:
    with tempfile.TemporaryDirectory() as home:
        os.environ |= {"AIRFLOW_HOME": home, "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
        PICTURE.parent.mkdir(parents=True, exist_ok=True)
        PICTURE.write_text(draw(*graph()), encoding="utf-8")
    print(PICTURE)


if __name__ == "__main__":
    main()
