"""The bases of every error that the steps raise on purpose: they say whether another try can help."""


class FacesetError(RuntimeError):
    """Something that a person is told: its message names the thing, the rule and the remedy."""


class Final(FacesetError):  # noqa: N818 it says what to do
    """Another try would find the same: somebody has to do something first."""


class Again(FacesetError):  # noqa: N818
    """Another try may help: what stands in the way may pass."""


class NotReadyError(Final):
    """Something must be put right before a run can go on; one line a finding, each with its remedy."""
