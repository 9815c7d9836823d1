"""Numbers for the trainer, and what the owner of the data expects of a release."""

from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt, model_validator

from include.faceset.declared.export import Declared

Count = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]


class BaseConfig(Declared):
    """What arcface_torch's own base config sets (recognition/arcface_torch/configs/base.py); null: as it stands there.

    But for `wandb_key`: a secret stands in no dataset file; set it in base.py on the training host.
    """

    margin_list: tuple[float, float, float] | None = Field(
        None, description="Margins m1, m2, m3 of the combined loss.", strict=False
    )
    interclass_filtering_threshold: NotNegative | None = Field(
        None, description="Above this cosine a negative centre is taken for the same person's; 0: none is."
    )
    fp16: bool | None = Field(None, description="Train in half precision.")
    optimizer: Literal["sgd", "adamw"] | None = Field(None, description="Optimizer.")
    momentum: NotNegative | None = Field(None, description="Momentum of sgd.")
    weight_decay: NotNegative | None = Field(None, description="Weight decay.")
    gradient_acc: PositiveInt | None = Field(None, description="Steps whose gradients are added up.")
    resume: bool | None = Field(None, description="Go on from the checkpoint in `output`.")
    save_all_states: bool | None = Field(None, description="Save what `resume` needs after each epoch.")
    verbose: PositiveInt | None = Field(
        None, description="Steps from one verification to the next, at most those of an epoch; null: 2,000."
    )
    frequent: PositiveInt | None = Field(None, description="Steps from one line of the log to the next.")
    seed: Count | None = Field(None, description="Seed of the shuffling.")
    num_workers: Count | None = Field(None, description="Processes of each rank that load images.")
    dali: bool | None = Field(None, description="Let DALI read the record form; folders are never read by it.")
    dali_aug: bool | None = Field(None, description="Augment in DALI.")
    using_wandb: bool | None = Field(None, description="Report to Weights & Biases.")
    wandb_entity: str | None = Field(None, description="Entity there.")
    wandb_project: str | None = Field(None, description="Project there.")
    wandb_log_all: bool | None = Field(None, description="Report from every rank.")
    wandb_resume: bool | None = Field(None, description="Go on with an earlier report.")
    save_artifacts: bool | None = Field(None, description="Save models there.")
    suffix_run_name: str | None = Field(None, description="What a run's name there ends with.")
    notes: str | None = Field(None, description="Notes on a run there.")

    def of_base(self) -> dict[str, Any]:
        """What the dataset file sets of the base config, by name, in the base config's words."""
        values = {name: getattr(self, name) for name in BaseConfig.model_fields}
        return {name: _plain(value) for name, value in values.items() if value is not None}


class Training(BaseConfig):
    """Numbers for the trainer (InsightFace arcface_torch); `num_classes` and `num_image` come from the release."""

    batch_size: PositiveInt = Field(128, description="Images a step on each GPU.")
    gpus: PositiveInt = Field(8, description="GPUs of the training host.")
    num_epoch: PositiveInt = Field(24, description="Epochs.")
    warmup_epoch: Count = Field(1, description="Epochs of learning-rate warm-up.")
    lr: Positive = Field(0.01, description="Learning rate.")
    network: str = Field("r50", description="Backbone, as arcface_torch names it.")
    embedding_size: PositiveInt = Field(512, description="Length of the embedding.")
    sample_rate: Annotated[float, Field(gt=0, le=1)] = Field(1.0, description="Partial FC sample rate.")
    val_targets: list[str] = Field(
        default_factory=list, description="Validation sets (.bin files beside the images), such as lfw."
    )
    data_root: Annotated[str, Field(pattern=r"^(?!synthetic/*$)")] = Field(
        "/data/{dataset}", description="Where the training host puts the download; {dataset} is the name."
    )
    output: str = Field(
        "work_dirs/{dataset}_{release_id}",
        description="Where the trainer writes models and checkpoints. Without {release_id} in it, one release would "
        "overwrite the model of another, or go on from its checkpoint.",
    )

    @model_validator(mode="after")
    def _warms_up_and_trains(self) -> "Training":
        if self.warmup_epoch >= self.num_epoch:
            raise ValueError(
                f"warmup_epoch: all {self.num_epoch} epochs (num_epoch) would be warm-up ({self.warmup_epoch}), and "
                f"the learning rate would never come down; give at most {self.num_epoch - 1}, or more epochs"
            )
        return self


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


class Expected(Declared):
    """What the owner of the data expects; only compared with in the summary."""

    identities: PositiveInt
    images: PositiveInt
    images_per_identity: tuple[float, float] = Field(description="Lowest and highest mean expected.", strict=False)
