"""Reads the published PyTorch checkpoints of Hu et al., ICLR 2020, into the same networks in Keras.

A checkpoint comes from outside and is treated as hostile: it is read with `weights_only=True`, which takes
tensors and plain containers and runs no code.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np

from rdi_keras.errors import InputError
from rdi_keras.models.multi_exit import MultiExitModel

ARCHITECTURES = (
    "resnet20",
    "resnet32",
    "resnet38",
    "resnet44",
    "resnet56",
    "resnet74",
    "resnet110",
    "mobilenet_v2",
)
# The size of images that the published networks were made for.
INPUT_SHAPE = (32, 32, 3)
# What PyTorch's data-parallel wrapper puts before every name.
PREFIX = "module."
# A published MobileNet-V2 holds a layer that nothing uses, and PyTorch counts the batches it has seen.
VARIANCE = "running_var"
UNUSED = re.compile(r"layer19\.weight|.*\.num_batches_tracked")

# Layers of the paper's heads, as places in the checkpoint's `branch_layer<k>`.
RESNET_HEADS = [
    {"conv1": "1", "bn1": "2", "conv2": "5", "bn2": "6", "logits": "9"},
    {"block": "1", "logits": "4"},
    {"logits": "2"},
]
MOBILENET_HEADS = [
    {"block1": "0", "bn1": "1", "block2": "3", "bn2": "4", "logits": "7"},
    {"block1": "0", "logits": "3"},
    {"logits": "2"},
]


def read_checkpoint(path: str | Path) -> dict[str, np.ndarray]:
    """The tensors of a PyTorch checkpoint: a state dictionary, bare or under the key `state_dict`.

    Raises:
        InputError: if PyTorch is not installed, or the file is missing, damaged, or holds anything but
            tensors and plain containers.
    """
    try:
        import torch
    except ImportError:
        raise InputError(
            "Reading a PyTorch checkpoint needs PyTorch. Install it: pip install 'rdi_keras[torch]'"
        ) from None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError(f"Cannot read the checkpoint {str(path)!r}: {error.strerror or error}") from None
    except Exception as error:  # What PyTorch raises for a damaged or hostile file is not documented.
        raise InputError(
            f"{str(path)!r} is no PyTorch checkpoint of tensors alone, or is damaged "
            f"({type(error).__name__}). It was not run; get it again from where it was published"
        ) from None
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not state or not all(map(torch.is_tensor, state.values())):
        raise InputError(f"{str(path)!r} holds no state dictionary: names mapped to tensors")
    for name, each in state.items():
        # PyTorch's own count of batches is an integer, and not read.
        plain = each.layout == torch.strided and each.device.type == "cpu" and not each.is_complex()
        if not plain or not (each.is_floating_point() or UNUSED.fullmatch(str(name).removeprefix(PREFIX))):
            raise InputError(
                f"{str(path)!r} holds no plain floating-point numbers in the tensor {name!r}. Received: "
                f"{each.dtype}, {each.layout}, on {each.device}. Save its state_dict anew"
            )
    return {
        str(name).removeprefix(PREFIX): each.detach().to(torch.float32).numpy()
        for name, each in state.items()
    }


def load_weights(model: MultiExitModel, architecture: str, state: dict[str, np.ndarray]) -> None:
    """Puts the tensors of a checkpoint into a model with the paper's exits and heads.

    Every tensor is checked before the first one is assigned.

    Args:
        model: of this architecture, with its default exits and `paper` heads.
        architecture: one of `ARCHITECTURES`.
        state: of `read_checkpoint`.

    Raises:
        InputError: names the first tensor that is missing, left over, of another shape, or damaged; or the
            model takes images of another size.
    """
    if model.input_shape[1:] != INPUT_SHAPE:
        raise InputError(
            f"The published networks take images of {'×'.join(map(str, INPUT_SHAPE))} pixels. Received: "
            f"{'×'.join(map(str, model.input_shape[1:]))}. Name the data that the checkpoint was trained on"
        )
    wanted = {
        f"{_torch_name(layer.name, architecture)}.{suffix}": (variable, axes)
        for layer in _layers_with_weights(model)
        for suffix, variable, axes in _tensors(layer)
    }
    fits = f"a {architecture} with {model.num_exits} exits and {model.num_classes} classes"
    hint = f"Give the --arch that it was made for, one of {', '.join(ARCHITECTURES)}"
    assignments = []
    for name, (variable, axes) in wanted.items():
        if name not in state:
            raise InputError(f"The checkpoint does not fit {fits}: it lacks the tensor {name!r}. {hint}")
        value = state[name]
        expected = tuple(np.transpose(np.empty(variable.shape, bool), np.argsort(axes)).shape)
        if value.shape != expected:
            raise InputError(
                f"The checkpoint does not fit {fits}: the tensor {name!r} has shape {value.shape}, expected "
                f"is {expected}. {hint}, and --data with its classes"
            )
        if not np.isfinite(value).all():
            raise InputError(
                f"The checkpoint is damaged: the tensor {name!r} holds values that are not finite"
            )
        if name.endswith(VARIANCE) and (value < 0).any():
            raise InputError(f"The checkpoint is damaged: the tensor {name!r} holds variances below 0")
        assignments.append((variable, np.transpose(value, axes)))
    for name in state:
        if name not in wanted and not UNUSED.fullmatch(name):
            raise InputError(
                f"The checkpoint does not fit {fits}: its tensor {name!r} has no place there. {hint}"
            )
    for variable, value in assignments:
        variable.assign(value)


def _layers_with_weights(model: MultiExitModel) -> Iterator[keras.Layer]:
    for part in (*model.segments, *model.heads):
        yield from (layer for layer in part.layers if layer.weights)


def _tensors(layer: keras.Layer) -> list[tuple[str, keras.Variable, tuple[int, ...]]]:
    """PyTorch's names for a layer's tensors, and how to turn their axes into Keras's."""
    if isinstance(layer, keras.layers.BatchNormalization):
        return [
            ("weight", layer.gamma, (0,)),
            ("bias", layer.beta, (0,)),
            ("running_mean", layer.moving_mean, (0,)),
            (VARIANCE, layer.moving_variance, (0,)),
        ]
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        return [("weight", layer.kernel, (2, 3, 0, 1))]
    if isinstance(layer, keras.layers.Conv2D):
        return [("weight", layer.kernel, (2, 3, 1, 0))]
    return [("weight", layer.kernel, (1, 0)), ("bias", layer.bias, (0,))]


def _torch_name(name: str, architecture: str) -> str:
    """The checkpoint's name for one of our layers."""
    is_resnet = architecture.startswith("resnet")
    piece, _, rest = name.partition("_")
    if piece == "stem":
        return {"conv": "conv1" if is_resnet else "layer1", "bn": "bn1"}[rest]
    if piece == "last":
        return {"conv": "conv2", "bn": "bn2", "logits": "fc" if is_resnet else "linear"}[rest]
    number, _, rest = rest.partition("_")
    if piece == "head":
        places = (RESNET_HEADS if is_resnet else MOBILENET_HEADS)[_head_kind(int(number), is_resnet)]
        part, _, rest = rest.partition("_")
        return ".".join([f"branch_layer{number}", places[part], *([rest] if rest else [])])
    rest = rest.replace("shortcut_conv", "downsample.0" if is_resnet else "shortcut.0")
    rest = rest.replace("shortcut_bn", "downsample.1" if is_resnet else "shortcut.1")
    if not is_resnet:
        return f"layer{number}.{rest}"
    group, place = divmod(int(number) - 1, (int(architecture.removeprefix("resnet")) - 2) // 6)
    return f"group{group}_layer{place}.{rest}"


def _head_kind(number: int, is_resnet: bool) -> int:
    return min((number - 1) // 2 if is_resnet else number - 1, 2)
