"""Where a server keeps a promise in another way, or is refused, and with which words: by the name of the test."""


EXPECTED: dict[str, dict[str, str]] = {
    "LocalStack": {"pages": "refused: .*goes in circles"},
}
