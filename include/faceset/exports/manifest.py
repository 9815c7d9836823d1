"""The rows of a manifest, from what was listed: whose each file is and, by its name, what is no image of the layout."""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from include.faceset import names
from include.faceset.declared.export import Export
from include.faceset.exports.on_disk import Listing
from include.faceset.ground import tables, times
from include.faceset.ledger import SCANNED, Outcome


def manifest_rows(export: Export, partition: str | None, listing: Listing) -> pa.Table:
    """Rows (schema SCANNED) of files that were listed; those that are no image of the layout have an outcome.

    Names are judged by column; only what is not plain is judged one by one.
    """
    identities = _identities(export, listing)
    name, identity = _text(listing.names), _text(identities)
    plain = pc.and_(names.are_plain_images(name), pc.fill_null(names.are_plain(identity), fill_value=False))
    odd = pc.indices_nonzero(pc.invert(plain)).to_pylist()
    judged = ((index, _rejected_by_name(listing.names[index], identities[index])) for index in odd)
    rejected = {index: outcome for index, outcome in judged if outcome is not None}
    below = "" if partition is None else f"{export.part(partition)}/"
    path = name if export.depth == 0 else pc.binary_join_element_wise(_text(listing.folders), name, "/")
    facts = {
        "size": pa.array(listing.sizes, pa.int64()),
        "mtime_ns": times.column(listing.mtimes_ns),
        "etag": pa.array(listing.etags, pa.string()) if listing.etags else pa.nulls(len(name), pa.string()),
    }
    files = _rows(export, partition, pc.binary_join_element_wise(below, path, ""), identity=identity, **facts)
    good = files.filter(pa.array([index not in rejected for index in range(len(name))])) if rejected else files
    paths = [names.as_text(below + listing.path(index)) for index in rejected]
    facts = {name: column.take(pa.array(list(rejected), pa.int64())) for name, column in facts.items()}
    bad = _rows(export, partition, paths, outcome=list(rejected.values()), **facts)
    no_files = [names.as_text(below + path) for path, _ in listing.odd]
    return pa.concat_tables([good, bad, _rows(export, partition, no_files, outcome=[why for _, why in listing.odd])])


def _rows(
    export: Export, partition: str | None, path: pa.Array | list[str], **columns: pa.Array | list[Any]
) -> pa.Table:
    columns |= {
        "path": path,
        "export": pa.repeat(export.name, len(path)),
        "partition": pa.repeat(pa.scalar(partition, pa.string()), len(path)),
    }
    return tables.filled(columns, SCANNED, len(path))


def _identities(export: Export, listing: Listing) -> list[str | None]:
    found = export.identities(listing.folders, listing.names)
    return found if export.namespace == "shared" else [one and export.label(one) for one in found]


def _text(values: list[Any]) -> pa.Array:
    try:
        return pa.array(values, pa.string())
    except UnicodeEncodeError:  # bytes that are no UTF-8: as `names.as_text` writes them they are not plain
        return pa.array([value and names.as_text(value) for value in values], pa.string())


def _rejected_by_name(name: str, identity: str | None) -> Outcome | None:
    if identity is None or not names.is_image(name):
        return Outcome.UNMATCHED_NAME
    if not names.is_safe(identity) or not names.is_safe(name):
        return Outcome.UNSAFE_NAME
    return None
