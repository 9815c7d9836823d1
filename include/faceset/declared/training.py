"""Numbers for the trainer, and what the owner of the data expects of a release."""

from typing import Annotated

from pydantic import Field, PositiveInt

from include.faceset.declared.export import Declared


class Training(Declared):
    """Numbers for the trainer (InsightFace arcface_torch); `num_classes` and `num_image` come from the release."""

    batch_size: PositiveInt = Field(128, description="Images a step on each GPU.")
    gpus: PositiveInt = Field(8, description="GPUs of the training host.")
    num_epoch: PositiveInt = Field(24, description="Epochs.")
    warmup_epoch: Annotated[int, Field(ge=0)] = Field(1, description="Epochs of learning-rate warm-up.")
    lr: Annotated[float, Field(gt=0)] = Field(0.01, description="Learning rate.")
    network: str = Field("r50", description="Backbone, as arcface_torch names it.")
    embedding_size: PositiveInt = Field(512, description="Length of the embedding.")
    sample_rate: Annotated[float, Field(gt=0, le=1)] = Field(1.0, description="Partial FC sample rate.")
    val_targets: list[str] = Field(
        default_factory=list, description="Validation sets (.bin files beside the images), such as lfw."
    )
    data_root: str = Field(
        "/data/{dataset}", description="Where the training host puts the download; {dataset} is the name."
    )


class Expected(Declared):
    """What the owner of the data expects; only compared with in the summary."""

    identities: PositiveInt
    images: PositiveInt
    images_per_identity: tuple[float, float] = Field(description="Lowest and highest mean expected.", strict=False)
