"""Makes any Keras functional model a multi-exit model, by naming layers."""

from collections.abc import Callable, Sequence

import keras

from rdi_keras.errors import InputError
from rdi_keras.models.heads import light_head
from rdi_keras.models.multi_exit import Block, MultiExitModel, Tensor
from rdi_keras.names import exit_name


def from_backbone(
    keras_model: keras.Model,
    exits_after: Sequence[str],
    heads: str | Callable[[Tensor], Tensor] = "light",
    model_class: type[MultiExitModel] = MultiExitModel,
) -> MultiExitModel:
    """Puts side exits behind layers of a functional model, whose weights it keeps and shares.

    Args:
        keras_model: functional, or a built `Sequential`, with one input, images in [0, 1] (a
            normalisation must be a layer inside it), and one output, logits `[B, C]`.
        exits_after: names of top-level layers, in the order of the exits. All that later layers use must
            pass through such a layer: the `add` or the activation at the end of a residual block, not
            a convolution inside it.
        heads: `light`, or a function from features `[B, …]` to logits `[B, C]`, called once per exit.
        model_class: what to build, such as `RobustModel` for training.

    Raises:
        InputError: if a layer does not exist, is not passed by everything, or stands out of order; if
            the output is no vector of logits.

    Examples:
        >>> trunk = keras.applications.MobileNetV2((96, 96, 3), weights=None, classifier_activation=None)
        >>> model = from_backbone(trunk, ["block_2_add", "block_5_add"], model_class=RobustModel)
    """
    images, logits = _only(keras_model, "input"), _only(keras_model, "output")
    last = logits._keras_history.operation
    _check_logits(logits, last)
    if heads != "light" and not callable(heads):
        raise InputError(f"heads must be 'light' or a function from features to logits. Received: {heads!r}")

    if isinstance(exits_after, str):
        raise InputError(f"exits_after must be a list of layer names. Received: {exits_after!r}")
    if repeated := [name for name in exits_after if list(exits_after).count(name) > 1]:
        raise InputError(f"The layer {repeated[0]!r} is named twice. Name each layer once")
    if last.name in exits_after:
        raise InputError(f"The layer {last.name!r} gives the last exit already. Name layers before it alone")
    cuts = [_output_of(keras_model, name) for name in exits_after]
    # The last head is the last layer, where it has one input; what it needs passes through that.
    before_last = last.input if not isinstance(last.input, list | tuple) else logits
    if any(before_last is cut for cut in cuts):
        before_last = logits
    segments: list[keras.Model] = []
    features, before = images, "input"
    for name, cut in zip([*exits_after, last.name], [*cuts, before_last], strict=True):
        segments.append(_between(features, before, cut, name, f"segment_{len(segments) + 1}"))
        features, before = cut, name

    exits = [_head(cut, heads, logits.shape[-1], number) for number, cut in enumerate(cuts, start=1)]
    exits.append(_last_head(before_last, logits, exit_name(len(segments))))
    return model_class(segments, exits, name=keras_model.name)


def _only(keras_model: keras.Model, what: str) -> Tensor:
    try:
        tensors = getattr(keras_model, f"{what}s")
    except AttributeError:  # Of a Sequential that has not been built.
        tensors = []
    if len(tensors or ()) != 1:
        raise InputError(
            f"The backbone must be a functional model, or a built Sequential, with one {what}. Received: "
            f"{len(tensors or ())}"
        )
    return tensors[0]


def _check_logits(logits: Tensor, last: keras.Operation) -> None:
    activation = getattr(getattr(last, "activation", None), "__name__", "linear")
    is_probabilities = activation in ("softmax", "sigmoid") or isinstance(last, keras.layers.Softmax)
    if is_probabilities or len(logits.shape) != 2:
        found = f"{activation if activation != 'linear' else 'softmax'} of " if is_probabilities else ""
        raise InputError(
            f"The backbone's output must be logits of shape [B, C]. Received: {found}shape {logits.shape} "
            f"from layer {last.name!r}. Build it without the activation (classifier_activation=None) "
            "and with its classifier"
        )


def _output_of(keras_model: keras.Model, name: str) -> Tensor:
    try:
        return keras_model.get_layer(name).output
    except ValueError as error:  # Unknown, or a list of outputs; the message lists what exists.
        raise InputError(f"No exit behind layer {name!r}: {error}") from None


def _between(start: Tensor, before: str, end: Tensor, name: str, segment_name: str) -> keras.Model:
    try:
        return keras.Model(start, end, name=segment_name)
    except ValueError:
        raise InputError(
            f"What layer {name!r} gives cannot be computed from what {before!r} gives alone: layers are "
            f"named out of order, or a short cut leads past {before!r}. Name the last layer of a block, such "
            "as its add, and name layers in the order in which they run"
        ) from None


def _head(cut: Tensor, heads: str | Block, num_classes: int, number: int) -> keras.Model:
    make = light_head(num_classes, f"head_{number}") if isinstance(heads, str) else heads
    features = keras.Input(cut.shape[1:])
    logits = make(features)
    if tuple(logits.shape[1:]) != (num_classes,):
        raise InputError(
            f"A head must give logits of shape [B, {num_classes}], as the backbone does. Received: "
            f"{logits.shape}"
        )
    return keras.Model(features, logits, name=exit_name(number))


def _last_head(before_last: Tensor, logits: Tensor, name: str) -> keras.Model:
    if before_last is logits:
        passed = keras.Input(logits.shape[1:])
        return keras.Model(passed, keras.layers.Identity()(passed), name=name)
    return keras.Model(before_last, logits, name=name)
