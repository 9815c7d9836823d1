"""Where a server keeps a promise in another way, or is refused, and with which words: by the name of the test.

A server that stands by itself is asked for every promise, and "works" is what is not named here. A disguise is
SeaweedFS but for one thing: it is asked for what that thing could change, which is what is named here.
"""

WORKS = "works"
STREAMED = "another way: streamed"
READ = "another way: every object is read"
PUBLIC = "refused: bucket .* is public: it can be listed without credentials: block public access"
UNDECIDED = "refused: .* does not decide about conditional writes: .* sole_writer"
ALL_WRITES = (
    *("preflight", "preflight_with_versions", "first_sync", "again", "changed", "multipart", "publish_order"),
    *("lease_of_two", "roll_back_by_versions", "exports_in_s3"),
)

EXPECTED: dict[str, dict[str, str]] = {
    "SeaweedFS": {
        "backslash": r"refused: .* 1 missing, 1 unexpected, 0 differing.* missing: .*a\\\\b\.jpg",
        "encryption_by_kms": "refused: bucket .* does not encrypt with aws:kms as asked .*InternalError",
    },
    "LocalStack": {
        "preflight": PUBLIC,
        "preflight_with_versions": PUBLIC,
        "encryption_by_kms": "refused: bucket .* does not encrypt with aws:kms as asked .*InternalError",
        "wrong_credentials": "another way: it lets everybody in",
        **dict.fromkeys(("pages", "pages_of_an_export", "many_deletions"), "refused: .*a listing goes in circles"),
        "roll_back_by_versions": "another way: it is uploaded again",
    },
    "moto": {
        "preflight": PUBLIC,
        "preflight_with_versions": PUBLIC,
        "encryption_by_kms": PUBLIC,
        "wrong_credentials": "another way: it lets everybody in",
        "exports_in_s3": STREAMED,
        "read_back": READ,
        "false_sum": "another way: taken, and found by the proof",
    },
    "Ceph RGW": {
        "preflight": "works: creates on condition: yes; replaces on condition: bare; copies on condition: no",
        "preflight_with_versions": UNDECIDED,
        "lease_with_versions": UNDECIDED,
        "exports_in_s3": STREAMED,
        "read_back": READ,
        "false_sum": "another way: taken, and found by the proof",
        "encryption": "refused: bucket .* does not encrypt with AES256 as asked",
        "encryption_by_kms": "refused: bucket .* does not encrypt with aws:kms as asked",
        "storage_class": "refused: .* InvalidArgument",
    },
    "as Swift": {
        "preflight": UNDECIDED,
        "lease_of_two": UNDECIDED,
        "lease_given_back": UNDECIDED,
        "sole_writer": WORKS,
        "first_sync": WORKS,
        "merge": UNDECIDED,
    },
    "lies about conditions": {
        "preflight": UNDECIDED,
        "lease_of_two": UNDECIDED,
        "sole_writer": WORKS,
        "first_sync": WORKS,
        "merge": UNDECIDED,
    },
    "wants Content-MD5": {
        "preflight": "works: .*in batches with Content-MD5",
        "deletions": WORKS,
        "odd_keys": WORKS,
        "erasure_with_versions": WORKS,
        "erasure_without_versions": WORKS,
    },
    "no DeleteObjects": {
        "preflight": "works: .*one by one",
        "deletions": WORKS,
        "odd_keys": WORKS,
        "erasure_with_versions": WORKS,
        "erasure_without_versions": WORKS,
    },
    "no trailing checksums": dict.fromkeys(ALL_WRITES, WORKS),
    "forgets checksums": {
        **dict.fromkeys(ALL_WRITES, WORKS),
        "preflight": "works: .*checks uploads: no; keeps SHA-256: no",
        "damaged_on_the_way": WORKS,
        "read_back": READ,
        "false_sum": "another way: taken, and found by the proof",
    },
    "keeps sums unread": {
        "preflight": "works: .*checks uploads: no; keeps SHA-256: yes",
        "damaged_on_the_way": WORKS,
        "false_sum": "another way: taken, and found by the proof",
    },
    "goes in circles": {
        **dict.fromkeys(("pages", "pages_of_an_export", "many_deletions"), "refused: .*a listing goes in circles"),
    },
    "doubled Date": dict.fromkeys(("preflight", "lease_given_back", "lease_ran_out"), WORKS),
    "zoneless Date": dict.fromkeys(("preflight", "lease_given_back", "lease_ran_out", "merge"), WORKS),
    "policy: conditional writes": {
        "preflight": "refused: bucket .* takes no plain uploads .* its policy asks for a condition on every write",
    },
    "checksum on every PUT": dict.fromkeys(ALL_WRITES, WORKS),
    "SSE-KMS by default": {
        **dict.fromkeys((*ALL_WRITES, "merge"), WORKS),
        "record_lost": "another way: all are uploaded again",
        "read_back": WORKS,
    },
    "requester pays": {
        "listing_of_an_export": "refused: .* cannot be listed .*AccessDenied",
        "requester_pays": WORKS,
    },
    "another region": {
        "preflight": "refused: bucket .* is elsewhere: set region_name to eu-central-1",
    },
}
