"""What may be called what on the way from a disk to S3 and back.

A name is safe when every tool on that way gives back exactly the name it was given: ext4 and XFS,
S3 listings (XML 1.0), the shells and tools that download, and torchvision on the training host.
"""

import re
import unicodedata

import pyarrow as pa
import pyarrow.compute as pc

MAX_NAME_BYTES = 255
"""Longest file name of ext4, XFS and NFS, in bytes."""

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""What torchvision's ImageFolder takes for an image, by lower-cased name (`IMG_EXTENSIONS`)."""

# Printable ASCII but / and \\, no dot or blank in front, no blank at the end. (RE2: $ is the end of the text.)
_PLAIN = r"^[!-\-0-\[\]-~]([ -.0-\[\]-~]*[!-.0-\[\]-~])?$"
_PLAIN_SUFFIX = rf"(?i)({'|'.join(map(re.escape, IMAGE_SUFFIXES))})$"
_BIDI_CONTROLS = "\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
_FORBIDDEN = frozenset("/\\\ufffe\uffff\ufeff" + _BIDI_CONTROLS)
_FORBIDDEN_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})


def is_safe(name: str) -> bool:
    """Whether an identity or a file name can be carried safely.

    Refused: bytes that are no UTF-8; control characters and line breaks; slashes and backslashes
    (some S3 servers take a backslash for a slash); names not in Unicode form NFC, which look like
    their NFC twin but are another key; a leading dot, which hides a folder from people but not
    from torchvision; leading or trailing blanks; more than 255 bytes.
    """
    if name.isascii() and name.isprintable():
        plain = "\\" not in name and "/" not in name
    else:
        plain = unicodedata.is_normalized("NFC", name) and not any(
            character in _FORBIDDEN or unicodedata.category(character) in _FORBIDDEN_CATEGORIES for character in name
        )
    return (
        plain
        and name != ""
        and not name.startswith((".", " "))
        and not name.endswith(" ")
        and name == name.strip()
        and len(name.encode("utf-8")) <= MAX_NAME_BYTES
    )


def are_plain(texts: pa.Array) -> pa.Array:
    """Of each text whether it is safe and of ASCII; a text that is not plain may be safe all the same."""
    short = pc.less_equal(pc.binary_length(texts), MAX_NAME_BYTES)
    return pc.and_(short, pc.match_substring_regex(texts, _PLAIN))


def are_plain_images(texts: pa.Array) -> pa.Array:
    """Of each file name whether it is plain and `is_image`."""
    return pc.and_(are_plain(texts), pc.match_substring_regex(texts, _PLAIN_SUFFIX))


def is_image(name: str) -> bool:
    """Whether torchvision's ImageFolder would load a file of this name."""
    return name.lower().endswith(IMAGE_SUFFIXES)


def as_text(name: str) -> str:
    r"""A name from `os.scandir` as valid text: bytes that are no UTF-8 come out as `\xNN`, a backslash as `\\`.

    Two different names never come out the same.
    """
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return name.replace("\\", "\\\\").encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return name.replace("\\", "\\\\")
