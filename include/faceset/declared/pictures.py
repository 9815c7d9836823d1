"""Which pictures are left out for how they look: nothing is, unless a threshold says so."""

from typing import Annotated

from pydantic import Field

from include.faceset.declared.export import Declared

Level = Annotated[float, Field(ge=0, le=255)]
Bits = Annotated[int, Field(ge=0, le=32)]


class Pictures(Declared):
    """Thresholds; a summary says how many images each would leave out at which value."""

    too_dark: Level | None = Field(None, description="Leave out images whose mean brightness (0 to 255) is below.")
    too_bright: Level | None = Field(None, description="Leave out images whose mean brightness is above.")
    placeholder: Level | None = Field(
        None, description="Leave out images of nearly one colour: whose contrast (standard deviation) is below."
    )
    blurred: Level | None = Field(
        None, description="Leave out images whose sharpness (root mean square of the Laplacian, at half size) is below."
    )
    near_duplicate: Bits | None = Field(
        None,
        description="Of images of one identity whose difference hashes (64 bits) differ in at most so many bits, as "
        "consecutive frames of a video do, keep the sharpest.",
    )

    @property
    def need_sharpness(self) -> bool:
        """Whether a threshold asks how sharp images are."""
        return self.blurred is not None or self.near_duplicate is not None

    @property
    def rules(self) -> dict[str, float]:
        """The thresholds that are set, by name."""
        return {name: value for name, value in self.model_dump().items() if value is not None}
