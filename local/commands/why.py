"""`make why ID=…`: where an identity, a file or some bytes went, in every kept release. DATASET and OUTPUT choose."""

import os
from collections.abc import Iterable, Iterator

from include.faceset.show.ask import Answer, ask
from local.commands.releases import asked_for
from local.commands.run import UsageError, command


def told(answers: Iterable[Answer]) -> Iterator[str]:
    """The answers as lines."""
    for answer in answers:
        place = ", in place" if answer.in_place else ""
        yield f"\nRelease {answer.release_id}, sealed {answer.sealed_at[:16].replace('T', ' ')} UTC{place}"
        if not answer.rows:
            yield "  knows nothing of this"
        for row in answer.rows:
            scanned_as = f" (scanned as {row['scanned_as']})" if row["scanned_as"] else ""
            kept_as = f", kept as {row['kept_as']}" if row["kept_as"] else ""
            yield f"  {row['export']}: {row['path']}"
            yield f"    of {row['identity'] or 'nobody'}{scanned_as}: {row['outcome']}{kept_as}"
            yield f"    {row['meaning']}"
            yield f"    What would change it: {row['remedy']}"
        if answer.total > len(answer.rows):
            yield f"  and {answer.total - len(answer.rows):,} more files"


def main() -> int:
    """Print the answers; 1 if no release knows anything."""
    question = os.environ.get("ID", "")
    if not question:
        raise UsageError("ID: say what to look for, an identity, a file, a path or a SHA-256: make why ID=id_0000060")
    answers = list(ask(asked_for(os.environ), question))
    print("\n".join(told(answers)) if answers else "No release is kept.")
    return 0 if any(answer.rows for answer in answers) else 1


if __name__ == "__main__":
    command(main)
