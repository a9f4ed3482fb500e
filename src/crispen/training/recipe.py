"""Recipes: everything that decides what a training run does.

The classes below are the schema of a recipe's TOML file, read by `crispen.training.recipe_file`. Their docstrings say
what each key means; they are the JSON schema's descriptions, too. Unless a field says otherwise, its default is what
the paper does (Ledig et al., CVPR 2017, section 3.2).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    StringConstraints,
)
from pydantic_core import PydanticCustomError


def _some_time(span: int | str) -> int | str:
    """Refuse no time at all, which a number of steps cannot be either."""
    if isinstance(span, str) and not float(span.split()[0]):
        raise PydanticCustomError("greater_than", "Input should be greater than 0")
    return span


Span = Annotated[
    PositiveInt | Annotated[str, StringConstraints(pattern=r"^\d+(\.\d+)? epochs?$")],
    AfterValidator(_some_time),
]
"""A number of steps, or a text such as ``"2 epochs"``: passes over the pictures, a crop of each in a pass."""

NonNegativeFloat = Annotated[float, Field(ge=0)]

Decay = Annotated[float, Field(ge=0, lt=1)]

Share = Annotated[float, Field(ge=0, le=1)]

Quality = Annotated[int, Field(ge=1, le=100)]


class Table(BaseModel):
    """A table of a recipe: frozen, and closed to keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class GeneratorTable(Table):
    """``[generator]``: the network that enlarges (the paper's Figure 4, top)."""

    architecture: Literal["srresnet", "compact"] = "srresnet"
    """The figure's, or a small network that computes all at the size of the picture and shuffles once."""
    scale: Literal[2, 4, 8] = 4
    """The factor of enlargement."""
    num_blocks: PositiveInt = 16
    """Residual blocks in the body, B in the figure."""
    num_features: PositiveInt = 64
    """Channels of the convolutions in the body."""
    activation: Literal["prelu", "relu", "swish"] = "prelu"
    """The nonlinearity; swish is x·sigmoid(x)."""
    output: Literal["linear", "symmetric", "tanh"] = "linear"
    """What the last convolution stands for: the picture in [0, 1]; in [-1, 1], as the paper has it; or, through tanh,
    in (-1, 1)."""
    batch_norm: bool = True
    """Normalise after each convolution of the body."""
    batch_norm_momentum: PositiveFloat = 0.1
    """Weight of the newest batch in the running statistics; Keras' momentum 0.8 is 0.2 here."""
    damp_residuals: PositiveFloat = 1.0
    """Factor on the initial weights of each block's last convolution; 0.1 serves networks without batch norm."""
    equivariant: bool = False
    """Tie the weights so that a picture turned or mirrored is enlarged to the same, turned or mirrored (Cohen and
    Welling 2016): each crop then teaches as much as all eight versions of it. For a number of features that 8 divides,
    without batch norm; weights to start from must have been trained so."""
    init: str | None = None
    """Weights to start from: a bundled model's name, a model's or a run's folder, or a file, of any scale, or a sum of
    such, as in ``runs/1 + srgan-x4 - compact-x4``; none if empty."""


class DiscriminatorTable(Table):
    """``[discriminator]``: the network that tells real from generated (Figure 4, bottom)."""

    architecture: Literal["srgan", "residual"] = "srgan"
    """The figure's eight convolutions, or residual blocks with skips."""
    num_features: PositiveInt = 64
    """Channels of the first convolution; the last has eight times as many."""
    batch_norm: bool = True
    """Normalise after each convolution but the first."""
    batch_norm_momentum: PositiveFloat = 0.1
    """As the generator's."""
    spectral_norm: bool = False
    """Divide each weight by its largest singular value (Miyato et al. 2018)."""
    head: Literal["dense", "position", "pooled", "patch"] = "dense"
    """How it ends: in the figure's two dense layers, which fix the patch size; in the same at each position; in the
    same after averaging over all positions; or in a single judgement for each position."""


class RoundTable(Table):
    """``[data.degradation.first]`` and ``second``: what happens to a picture between two hands.

    A range goes from its gentle end to its harsh one: how far a crop may go on that way is its severity, which is
    drawn for each crop, the same for all ranges. Lengths are in pixels of the large picture, whatever the size of the
    picture is by then.
    """

    blur_share: Share = 0.7
    """Share of crops that are blurred."""
    kernels: dict[Literal["gaussian", "generalised", "plateau", "sinc"], PositiveFloat] = Field(
        default={"gaussian": 0.7, "generalised": 0.1, "plateau": 0.1, "sinc": 0.1}, min_length=1
    )
    """How often each kernel is taken: Gaussian; generalised Gaussian, which is more pointed or flatter; with a plateau
    in the middle; or the low-pass that rings beside edges, as much sharpening does."""
    anisotropic_share: Share = 0.4
    """Share of the kernels, but for the last kind, that are longer in one direction, any, than across it."""
    blur_sigma: tuple[PositiveFloat, PositiveFloat] = (0.2, 3.0)
    """Standard deviation of the kernels, from and to."""
    sinc_cutoff: tuple[PositiveFloat, PositiveFloat] = (1.0, 0.6)
    """The highest frequency that the ringing kernel lets pass, as a share of what the small picture could hold."""
    noise_share: Share = 0.7
    """Share of crops that get noise."""
    poisson_share: Share = 0.5
    """Share of the noises that are a sensor's: with a variance that grows with brightness. The others are Gaussian."""
    gray_noise_share: Share = 0.4
    """Share of the noises that are the same in all three channels."""
    noise_sigma: tuple[NonNegativeFloat, NonNegativeFloat] = (0.0, 25.0)
    """Standard deviation of Gaussian noise, of 255, from and to."""
    poisson_gain: tuple[NonNegativeFloat, NonNegativeFloat] = (0.0, 1.0)
    """What one photon adds, of 255, from and to; at 1, white has a standard deviation of 16."""
    save_share: Share = 0.8
    """Share of crops that are saved with loss."""
    webp_share: Share = 0.15
    """Share of these that are saved as WebP; the others as JPEG."""
    jpeg_quality: tuple[Quality, Quality] = (95, 30)
    """JPEG's quality, from and to; below 90 colours have half the resolution."""
    webp_quality: tuple[Quality, Quality] = (90, 25)
    """WebP's quality, from and to."""


class SecondRoundTable(RoundTable):
    """``[data.degradation.second]``: the same, and gentler where nothing else is said."""

    blur_share: Share = 0.5
    """Share of crops that are blurred."""
    blur_sigma: tuple[PositiveFloat, PositiveFloat] = (0.2, 2.5)
    """Standard deviation of the kernels, from and to."""
    noise_share: Share = 0.5
    """Share of crops that get noise."""
    noise_sigma: tuple[NonNegativeFloat, NonNegativeFloat] = (0.0, 15.0)
    """Standard deviation of Gaussian noise, of 255, from and to."""
    poisson_gain: tuple[NonNegativeFloat, NonNegativeFloat] = (0.0, 0.6)
    """What one photon adds, of 255, from and to."""


class DegradationTable(Table):
    """``[data.degradation]``: small pictures as phones, the web and scanners leave them.

    Each is made of its large one in two rounds of blur, resizing, noise and saving with loss, in any order: the
    degradation of second order of Wang et al. ("Real-ESRGAN", ICCVW 2021, section 3), shuffled as by Zhang et al.
    ("Designing a Practical Degradation Model", ICCV 2021, section 3). That severities vary from crop to crop is ours.
    """

    clean_share: Share = 0.2
    """Share of crops that are reduced by bicubic and nothing else, so that clean pictures stay clean."""
    first: RoundTable = RoundTable()
    """What the camera did, or somebody who passed the picture on."""
    second: SecondRoundTable = SecondRoundTable()
    """What the last in the row did, who made the picture as small as it is."""
    resizings: dict[Literal["down", "up", "keep"], PositiveFloat] = Field(
        default={"down": 0.6, "up": 0.1, "keep": 0.3}, min_length=1
    )
    """How often the first round makes the picture smaller, larger, or leaves its size."""
    factor_down: tuple[PositiveFloat, PositiveFloat] = (1.0, 0.25)
    """The factor when it makes it smaller, from and to; below 1/scale the second round enlarges."""
    factor_up: tuple[PositiveFloat, PositiveFloat] = (1.0, 1.5)
    """The factor when it makes it larger, from and to."""
    interpolations: dict[Literal["area", "bilinear", "bicubic"], PositiveFloat] = Field(
        default={"area": 1.0, "bilinear": 1.0, "bicubic": 1.0}, min_length=1
    )
    """How often each is taken to resize, in both rounds."""
    aliased_share: Share = 0.2
    """Share of bilinear and bicubic reductions that skip pixels, as careless programs do."""
    saved_last_share: Share = 0.8
    """Share of crops whose second saving comes after all else; in the others it stands anywhere in its round."""
    sharpen_targets: NonNegativeFloat = 0.0
    """Weight of an unsharp mask on the large pictures: what is to be generated is then sharper than what is known."""


class DataTable(Table):
    """``[data]``: what one step sees."""

    patch_size: PositiveInt = 96
    """Side of a high-resolution crop in pixels, a multiple of the scale."""
    batch_size: PositiveInt = 16
    """Crops in one step, all devices together."""
    pictures: PositiveInt | None = None
    """How many of the training pictures are used, evenly chosen; all where it is missing."""
    reductions: tuple[PositiveInt, ...] = Field(default=(1,), min_length=1)
    """Factors by which pictures are reduced before crops are taken, each with the same share of them. ``[1, 2]`` shows
    each picture at half its size, too, where detail is as fine as pixels can be: cameras' own pixels are softer."""
    teacher: str | None = None
    """A model (its name, folder or file) whose answers, averaged over all symmetries, have a part in the large
    pictures; none if empty. Even the weights that a run starts from can be its teacher."""
    teacher_share: Share = 0.5
    """How large that part is: 0 leaves the truth, 1 leaves nothing of it."""
    augment: bool = True
    """Flip and rotate crops at random; false for digits."""
    candidates: PositiveInt = 1
    """Crops drawn for each that is used, the one with the most detail; 1 draws evenly, 3 leaves flat skies out."""
    flat_share: float = Field(default=0.0, ge=0, le=1)
    """Share of crops replaced by a single colour, pure ones often among them: paper and logos are to keep theirs."""
    recoloured_share: Share = 0.0
    """Share of crops whose channels are put in another order, and share of those that are blended with a single colour:
    more pictures out of few, for a network that is better on them than on others."""
    gray_share: Share = 0.0
    """Share of crops that are made gray: a network that sees colours alone draws dots in gray pictures."""
    on_device: bool = False
    """Keep the decoded pictures in the device's memory, and crop and turn them there: for fast GPUs."""
    degradation: DegradationTable | None = None
    """How small pictures are spoilt; where it is missing, they are reduced by bicubic and nothing else."""

    def of_batches(self) -> dict[str, Any]:
        """What `crispen.training.data.Dataset.batch` takes; the rest is about pictures."""
        return self.model_dump(
            include={
                "patch_size",
                "batch_size",
                "candidates",
                "augment",
                "flat_share",
                "recoloured_share",
                "gray_share",
                "degradation",
            }
        )


class StageTable(Table):
    """What all stages have."""

    steps: Span
    """Updates in this stage, or how often it goes through the pictures, as in ``"350 epochs"``."""
    learning_rate: PositiveFloat = 1e-4
    """The optimiser's learning rate (after the warm-up, before any decay)."""
    schedule: Literal["constant", "cosine", "halves"] = "constant"
    """How it falls: not at all, along half a cosine to zero, or to a tenth at half the steps (the paper's GAN)."""
    warmup_steps: int = Field(default=0, ge=0)
    """Steps over which the learning rate rises linearly from zero."""
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    """Adam's decay rates of the first and second moment."""


class ClassifierTable(StageTable):
    """``[stage.classifier]``: a classifier of the labelled pictures, trained first, to judge generated ones later."""

    learning_rate: PositiveFloat = 1e-3
    """Adam's learning rate."""


class FeaturesTable(Table):
    """``[[stage.….features]]``: a feature network whose layers are compared (the paper's equation 5)."""

    network: str
    """``vgg16``, ``vgg19``, ``vgg19-normalised``, ``squeezenet``, ``squeezenet-torchvision``, or ``timm:`` and the
    name of any model of timm's. Weights come from ``--features`` or, for torchvision's and timm's, by download."""
    layers: dict[str, PositiveFloat]
    """Layers by name (``relu2_2``, ``conv5_4``, ``fire9``, timm's module names), each with its weight in the sum.

    The paper's rescaling of VGG's features by 1/12.75 is a weight of 0.00615 for squared differences."""
    loss: Literal["l1", "mse"] = "mse"
    """How features are compared; the paper has the squared difference."""


class GeneratorStageTable(StageTable):
    """What the stages that train the generator share: its optimiser, and the loss on content."""

    optimizer: Literal["adam", "muon"] = "adam"
    """What moves the generator's weights: Adam, or Muon, which makes the steps of convolutions equally large in all
    directions (Jordan et al. 2024) and comes further in as many; its learning rates are like Adam's. The discriminator
    has Adam."""
    pixel_loss: Literal["l1", "mse", "charbonnier", "psnr"] = "mse"
    """Mean absolute or mean squared difference of the pixels (equation 4); Charbonnier's: absolute, with a tip that is
    rounded within a quarter of one of 255 levels; or by how many decibels each crop's PSNR is short of 50."""
    pixel_range: Literal["unit", "symmetric"] = "unit"
    """Whether pixels are compared in [0, 1] or in [-1, 1], where differences are twice and squared ones four times as
    large; the paper's targets are symmetric."""
    pixel_weight: NonNegativeFloat = 1.0
    """Weight of the pixel loss."""
    luma_share: Share = 0.0
    """Share of the pixel loss that compares brightness (BT.601's luma), of which eyes see more than of colour, and on
    which PSNR is measured; the rest compares the three channels."""
    perceptual_weight: NonNegativeFloat = 0.0
    """Weight of the feature loss (equation 5)."""
    features: tuple[FeaturesTable, ...] = ()
    """Feature networks of the perceptual loss."""
    total_variation_weight: NonNegativeFloat = 0.0
    """Weight of the squared differences of neighbouring pixels."""
    grid_weight: NonNegativeFloat = 0.0
    """Weight of the regular grid in the error, which adversarial and feature losses leave in smooth areas."""
    texture_weight: NonNegativeFloat = 0.0
    """Weight of the differences in strength of fine detail, wherever it lies; for these pixels are always in [0, 1]."""
    texture_power: Literal["mean", "median"] = "mean"
    """How strong detail is to be where it may have been this or that: as strong as on average; or, for spoilt pictures,
    where that would be noise, as in the middle of all cases."""
    classifier_weight: NonNegativeFloat = 0.0
    """Weight of the classifier's cross-entropy on the generated pictures."""


class PretrainTable(GeneratorStageTable):
    """``[stage.pretrain]``: the generator alone, on the loss on content."""


class GanTable(GeneratorStageTable):
    """``[stage.gan]``: generator and discriminator in turn (equations 2 and 3)."""

    pixel_weight: NonNegativeFloat = 0.0
    """Weight of the pixel loss; the paper's SRGAN-VGG has none."""
    perceptual_weight: NonNegativeFloat = 1.0
    """Weight of the feature loss; 1 in the paper."""
    adversarial: Literal[
        "bce",
        "bce-saturating",
        "least-squares",
        "least-squares-sigmoid",
        "hinge",
        "relativistic-average",
        "one-minus",
    ] = "bce"
    """The game: cross-entropy with the generator's loss of equation 6 or with equation 2 to the letter; squared
    differences to 1 and 0 of logits (Mao et al. 2017) or of their sigmoid (as Keras' versions); hinge (Lim and Ye
    2017); relativistic average (Jolicoeur-Martineau 2019); or 1 - D as it is."""
    adversarial_weight: NonNegativeFloat = 1e-3
    """Weight of the adversarial loss."""
    feature_matching_weight: NonNegativeFloat = 0.0
    """Weight of the mean absolute difference in the discriminator's own activations, which needs no other network's
    weights (Larsen et al. 2016)."""
    r1_weight: NonNegativeFloat = 0.0
    """Weight γ of the penalty on the discriminator's gradient at real pictures (Mescheder et al. 2018)."""
    classifier_discriminator_weight: NonNegativeFloat = 0.0
    """Weight of the classifier's cross-entropy in the discriminator's loss: published, and without a gradient there."""
    discriminator_learning_rate: PositiveFloat | None = None
    """The discriminator's own learning rate, where it is not the generator's."""
    discriminator_warmup_steps: int = Field(default=0, ge=0)
    """Steps at the start that train the discriminator alone, so that its first advice is worth something."""


class StagesTable(Table):
    """``[stage.…]``: one or more, in this order."""

    classifier: ClassifierTable | None = None
    """A classifier of labelled pictures."""
    pretrain: PretrainTable | None = None
    """The generator alone."""
    gan: GanTable | None = None
    """Generator and discriminator."""


class Recipe(Table):
    """A whole recipe."""

    title: str
    """One line for ``crispen recipes``."""
    cost: str = ""
    """What it takes, for ``crispen recipes``: time and hardware."""
    seed: int = Field(default=0, ge=0)
    """Decides the first weights and, with the step, every batch."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Arithmetic of the networks; weights and optimiser are fp32 always. ``auto`` is bf16 where the device has units
    for it, and fp32 elsewhere. fp16, with its scaling, is for older GPUs."""
    compile: Literal["no", "default", "reduce-overhead"] = "no"
    """torch.compile's mode; reduce-overhead has CUDA graphs."""
    strategy: Literal["ddp", "fsdp"] = "ddp"
    """How several processes share the work: each with all weights, or, for networks too large for that, each with its
    part of weights, gradients, moments and running average. Of no meaning where there is one."""
    accumulate: PositiveInt = 1
    """Parts in which a batch goes through the networks, to save memory; the update is that of the whole batch (but for
    batch norm, spectral norm and the relativistic average, which see each part by itself)."""
    ema_decay: float = Field(default=0.999, ge=0, lt=1)
    """Decay of the running average of the weights that is validated and shipped; 0 for none."""
    validate_every: Span = 1000
    """Time between two previews, of the validation pictures or else of training ones, and between two validations."""
    validate_pictures: PositiveInt | None = None
    """How many of the validation pictures are used, evenly chosen; all where it is missing."""
    snapshot_every: Span | None = None
    """Time between two sets of weights that are kept; none where it is missing."""
    checkpoint_minutes: PositiveFloat = 5.0
    """Time between two checkpoints."""
    keep_checkpoints: PositiveInt = 2
    """How many of the newest checkpoints are kept."""
    on_trouble: Literal["warn", "stop"] = "warn"
    """What to do when the run looks unhealthy; NaN and infinity always stop it."""
    tensorboard: bool = False
    """Write the log for TensorBoard, too."""
    generator: GeneratorTable = GeneratorTable()
    discriminator: DiscriminatorTable = DiscriminatorTable()
    data: DataTable = DataTable()
    stage: StagesTable


def span_in_steps(span: int | str, *, steps_per_epoch: float) -> int:
    """A `Span` as a number of steps, at least 1."""
    if isinstance(span, int):
        return span
    return max(1, round(float(span.split()[0]) * steps_per_epoch))
