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
        weights: a run folder with the same network. Training starts from its weights, the twin's from those
            of its twin: to go on with other images, or against another attack. It must stay until this run is
            finished. Images that were added to a folder are split anew: keep test images in a folder of their
            own, or what the source was trained on is tested on.
    """

    backbone: str = "small_cnn"
    exits_after: list[int] | None = None
    heads: str = "paper"
    width: float | None = None
    trunk: str | None = None
    weights: str | None = None


@dataclass
class AttackConfig:
    """The attack that makes training images.

    Attributes:
        objective: main, single(k), average, max_average, random_exit, exit_aware, divergence (of TRADES), or
            another one of docs/attacks.md; "+slowdown(w)" after it also pushes side exits to be unsure.
        solver: pgd, or n_fgsm (one step from noise wider than the ball).
        epsilon: radius to train with, in pixel units, a number or a fraction; default: the run's. A smaller
            one buys clean accuracy with robustness.
        num_steps: gradient steps of pgd; 1 with random start is Fast-AT.
        step_size: in pixel units, a number or a fraction such as 2/255; default: 2.5 · ε / num_steps, and
            1.25 · ε for one step.
        random_start: whether to start anywhere in the ball.
        restarts: how often to start anew, keeping the best.
        keep: what becomes of an image: the best iterate, or the last one, which is quicker.
    """

    objective: str = "main"
    solver: Literal["pgd", "n_fgsm"] = "pgd"
    epsilon: str | float | None = None
    num_steps: int = 10
    step_size: str | float | None = None
    random_start: bool = True
    restarts: int = 1
    keep: Literal["best", "last"] = "best"

    def __post_init__(self) -> None:
        for name in ("epsilon", "step_size"):  # A YAML file may hold them as numbers.
            if getattr(self, name) is not None:
                setattr(self, name, str(getattr(self, name)))


@dataclass
class TrainingConfig:
    """How weights are fitted.

    Attributes:
        attack: makes the attacked images of every batch.
        loss: of every exit: mix (the paper's), split_mix (its estimate from batches of which a part is
            attacked: about half the time at λ = 0.5), trades or mart.
        adversarial_weight: λ of mix and split_mix, the share of the adversarial loss, 0 to 1.
        beta: of trades and mart: how much the clean and the attacked answer are to agree.
        label_smoothing: the share of every label's weight that goes to all classes alike.
        neighbour_weight: how much every exit under attack learns from its neighbours' clean answers.
        orthogonal_weight: how much it learns from its own, each exit from other wrong classes.
        exit_weights: one weight per exit; default 1 each.
        epochs: passes over the training data.
        batch_size: samples per step.
        replays: how often each batch is used in a row. Above 1 it is Free-AT: the perturbation is carried
            from step to step by the gradients of training itself, and `attack` is not used.
        optimizer: adam or sgd (Nesterov momentum 0.9).
        learning_rate: at its highest.
        schedule: of the learning rate: cosine (warms up over a tenth of the steps, then falls), one_cycle
            (rises over 40 %, then falls, both straight) or step (a tenth of it after each milestone).
        milestones: of step: fractions of all steps.
        weight_decay: decoupled, per step and unit of learning rate.
        clip_norm: gradients are scaled down to this norm; default: not.
        ema: momentum of a running mean of the weights, which becomes the model at the end; 0 for none.
        pad_crop: zero pixels to pad on each side before a random crop.
        flip: whether to mirror at random.
        probe: whether to attack held-out images with PGD after every epoch, and to stop and go back to the
            best epoch when the model has been overfitted to a weak training attack.
        checkpoint_minutes: how often everything is written that `--resume` goes on from.
        checkpoint_steps: the same, counted in steps; default: by minutes alone.
        precision: of the convolutions and products in a training step: float32, or bfloat16, which is quicker
            on CPUs with AMX and changes nothing on others and on GPUs. Weights, thresholds, validation and
            every measurement are float32 all the same.
        deterministic: whether the same run gives the same bits: slower on a GPU.
    """

    attack: AttackConfig = field(default_factory=AttackConfig)
    loss: Literal["mix", "split_mix", "trades", "mart"] = "mix"
    adversarial_weight: float = 1.0
    beta: float = 6.0
    label_smoothing: float = 0.0
    neighbour_weight: float = 0.0
    orthogonal_weight: float = 0.0
    exit_weights: list[float] | None = None
    epochs: int = 40
    batch_size: int = 64
    replays: int = 1
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    schedule: Literal["cosine", "one_cycle", "step"] = "cosine"
    milestones: list[float] = field(default_factory=lambda: [0.5, 0.75])
    weight_decay: float = 0.0
    clip_norm: float | None = None
    ema: float = 0.0
    pad_crop: int = 0
    flip: bool = False
    probe: bool = False
    checkpoint_minutes: float = 5.0
    checkpoint_steps: int | None = None
    precision: Literal["float32", "bfloat16"] = "float32"
    deterministic: bool = False


@dataclass
class CalibrationConfig:
    """Where thresholds stand; always set on data held out of the training data.

    Attributes:
        budget: largest mean compute, as a fraction of the backbone's MACs.
        shares: instead, the share of samples that each exit answers; N fractions with sum 1.
        attacked: after training, so many held-out samples are attacked, and of all thresholds within the
            budget those with the largest worst case are taken; 0 for none.
        accuracy: with `attacked`: least clean accuracy on held-out samples; default: any.
        temperature: before that, every exit's logits are scaled to be calibrated (least cross-entropy on
            held-out samples) and divided by this, 0.25 to 4; below 1, how far the two likeliest classes are
            apart counts more than how likely the others are. Default: they stay as they are.
    """

    budget: float = 0.55
    shares: list[float] | None = None
    attacked: int = 0
    accuracy: float | None = None
    temperature: float | None = None


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
        strategy: who trains together: none (one device), mirrored (all GPUs of this machine) or multi_worker
            (the processes that the environment variable TF_CONFIG lists; each runs this command).
        twin: whether to train the same backbone with one exit beside it, for comparison.
        runs_dir: where run folders lie.
        saved_models_dir: where exported models lie.
        overwrite: whether a finished run of the same name may be replaced.
    """

    preset: str = "digits"
    name: str = "digits"
    seed: int = 0
    epsilon: str | float = "0.1"
    strategy: Literal["none", "mirrored", "multi_worker"] = "none"
    twin: bool = True
    runs_dir: str = "runs"
    saved_models_dir: str = "saved_models"
    overwrite: bool = False
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    calibration: CalibrationConfig = field(default_factory=CalibrationConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)

    def __post_init__(self) -> None:
        self.epsilon = str(self.epsilon)  # A YAML file may hold it as a number.
