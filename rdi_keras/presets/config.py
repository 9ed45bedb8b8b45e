"""The one configuration of a run. Importing this module needs no TensorFlow."""

from dataclasses import dataclass, field
from typing import Literal


@dataclass
class DataConfig:
    """Which data.

    Attributes:
        name: digits, the name of a TFDS image-classification set, or folder:PATH.
        data_dir: folder of prepared TFDS sets; default: the environment variable TFDS_DATA_DIR.
        image_size: height and width to resize to, where images are not of one size.
        train_limit: use only so many training samples.
        calibration_pool: of a TFDS set, positions in its train split that calibration data are drawn
            from, e.g. 0:4000,10000:11017; default: all.
    """

    name: str = "digits"
    data_dir: str | None = None
    image_size: int | None = None
    train_limit: int | None = None
    calibration_pool: str | None = None


@dataclass
class ModelConfig:
    """Which network.

    Attributes:
        backbone: small_cnn, resnet20 (32, 38, 44, 56, 74, 110), resnet18 or mobilenet_v2.
        exits_after: numbers of its pieces with a side exit behind them; default: the backbone's own.
        heads: of the side exits: paper, or light (pooling and a dense layer).
        width: multiplies the channels of mobilenet_v2.
        trunk: a run folder with the same backbone. Its trunk and last exit are taken over and frozen; only
            the side heads are trained: exits for a network that exists.
    """

    backbone: str = "small_cnn"
    exits_after: list[int] | None = None
    heads: str = "paper"
    width: float | None = None
    trunk: str | None = None


@dataclass
class AttackConfig:
    """The attack that makes training images.

    Attributes:
        objective: main, single(k), average, max_average, random_exit, exit_aware, or another one of
            docs/attacks.md.
        num_steps: gradient steps; 1 with random start is Fast-AT.
        step_size: in pixel units, a number or a fraction such as 2/255; default: 2.5 · ε / num_steps.
        random_start: whether to start anywhere in the ball.
        restarts: how often to start anew, keeping the best.
    """

    objective: str = "main"
    num_steps: int = 10
    step_size: str | float | None = None
    random_start: bool = True
    restarts: int = 1

    def __post_init__(self):
        if self.step_size is not None:
            self.step_size = str(self.step_size)


@dataclass
class TrainingConfig:
    """How weights are fitted.

    Attributes:
        attack: makes the adversarial half of every batch.
        adversarial_weight: λ, the share of the adversarial loss, 0 to 1.
        exit_weights: one weight per exit; default 1 each.
        epochs: passes over the training data.
        batch_size: samples per step.
        optimizer: adam or sgd (Nesterov momentum 0.9).
        learning_rate: at its highest; it warms up over a tenth of the steps, then falls as a cosine.
        weight_decay: decoupled, per step and unit of learning rate.
        pad_crop: zero pixels to pad on each side before a random crop.
        flip: whether to mirror at random.
    """

    attack: AttackConfig = field(default_factory=AttackConfig)
    adversarial_weight: float = 1.0
    exit_weights: list[float] | None = None
    epochs: int = 40
    batch_size: int = 64
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    pad_crop: int = 0
    flip: bool = False


@dataclass
class CalibrationConfig:
    """Where thresholds stand; always set on data held out of the training data.

    Attributes:
        budget: largest mean compute, as a fraction of the backbone's MACs.
        shares: instead, the share of samples that each exit answers; N fractions with sum 1.
    """

    budget: float = 0.55
    shares: list[float] | None = None


@dataclass
class EvaluationConfig:
    """What the report measures.

    Attributes:
        part: test, or calibration: for choosing between recipes without a look at the test part. Then
            the table is printed, no report is written and nothing is exported.
        suite: the attack list: quick, standard or full.
        limit: use only the first so many samples of that part.
        batch_size: samples attacked at once.
        curve_samples: how many samples the curves against ε, steps and thresholds are measured on; 0 for
            no curves.
        engine: what times the model: onnxruntime, tensorflow, or none.
        second_opinions: attacks of other libraries to run too, such as cleverhans_pgd; or all.
        opinion_samples: how many samples they are run on.
    """

    part: Literal["test", "calibration"] = "test"
    suite: str = "standard"
    limit: int | None = None
    batch_size: int = 250
    curve_samples: int = 100
    engine: Literal["onnxruntime", "tensorflow", "none"] = "onnxruntime"
    second_opinions: list[str] = field(default_factory=list)
    opinion_samples: int = 100


@dataclass
class Config:
    """A run: data, network, training, calibration, evaluation, and where results go.

    Attributes:
        preset: the preset that the fields started from.
        name: of the run's folder and of the exported model.
        seed: of weights, order of samples and attacks.
        epsilon: radius of the L∞ ball in pixel units, a number or a fraction such as 8/255.
        twin: whether to train the same backbone with one exit beside it, for comparison.
        runs_dir: where run folders lie.
        saved_models_dir: where exported models lie.
        overwrite: whether a finished run of the same name may be replaced.
    """

    preset: str = "digits"
    name: str = "digits"
    seed: int = 0
    epsilon: str | float = "0.1"
    twin: bool = True
    runs_dir: str = "runs"
    saved_models_dir: str = "saved_models"
    overwrite: bool = False
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    calibration: CalibrationConfig = field(default_factory=CalibrationConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)

    def __post_init__(self):
        self.epsilon = str(self.epsilon)  # A YAML file may hold it as a number.
