"""The paper's larger networks in PyTorch, with the tensor names of the published checkpoints.

A second opinion on the Keras networks: written from the paper, the names and shapes, for tests alone.
"""

from functools import cache

import numpy as np
import pytest

torch = pytest.importorskip("torch")
nn = torch.nn
relu = nn.functional.relu
torch.set_num_threads(1)  # More would wait for TensorFlow's.

# After these blocks of each of the three groups; depth 38's are published.
RESNET_EXITS = {20: (1, 2), 32: (2, 4), 38: (2, 5)}
MOBILENET_EXITS = (2, 5, 8, 10, 13, 16)
# Of MobileNet-V2's layers 2 to 18: expansion, channels, repeats, stride of the first.
MOBILENET_GROUPS = (
    (1, 16, 1, 1),
    (6, 24, 2, 1),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


@cache
def make(architecture, num_classes=10, seed=0):
    """A network in inference mode, nothing of which has a default value; logits are of the order of 1.

    It is made once; tests leave it as it is.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = (
            MobileNetV2(num_classes)
            if architecture == "mobilenet_v2"
            else ResNet(int(architecture.removeprefix("resnet")), num_classes)
        )
        norms = [each for each in network.modules() if isinstance(each, nn.BatchNorm2d)]
        for norm in norms:
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias, std=0.3)
            norm.momentum = None  # Plain average: statistics that suit the weights, changed below.
        images = torch.rand(16, 3, 32, 32)
        with torch.no_grad():
            network.train()(images)
            for norm in norms:
                norm.running_mean += 0.3 * norm.running_var.sqrt() * torch.randn_like(norm.running_mean)
                norm.running_var *= 0.5 + torch.rand_like(norm.running_var)
            # Registered before those of the side exits, the last exit's answers come last.
            last, *others = [each for each in network.modules() if isinstance(each, nn.Linear)]
            for layer, answers in zip([*others, last], network.eval()(images), strict=True):
                layer.weight *= 2 / answers.std()
                layer.bias += torch.randn_like(layer.bias)
    return network


def logits(network, images):
    """NumPy in and out: `[B, H, W, C]` to `[B, classes]` of every exit."""
    with torch.no_grad():
        found = network(torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))))
    return [each.numpy() for each in found]


def save(path, state, **options):
    """Writes a state dictionary as the authors' training script does."""
    torch.save({"state_dict": state, "arch": "a name", "iter": 7, "best_prec1": 0.5}, path, **options)
    return path


class ResNet(nn.Module):
    def __init__(self, depth, num_classes=10):
        super().__init__()
        self.conv1, self.bn1 = convolution(3, 16, 3), nn.BatchNorm2d(16)
        inputs, self.branch_after = 16, {}
        for group, width in enumerate((16, 32, 64)):
            for place in range((depth - 2) // 6):
                stride = 2 if group > 0 and place == 0 else 1
                self.add_module(f"group{group}_layer{place}", BasicBlock(inputs, width, stride))
                inputs = width
                if place + 1 in RESNET_EXITS[depth]:
                    number = len(self.branch_after) + 1
                    self.branch_after[f"group{group}_layer{place}"] = f"branch_layer{number}"
        self.fc = nn.Linear(64, num_classes)
        for number, group in enumerate((0, 0, 1, 1, 2, 2), start=1):
            body = [
                [
                    *(nn.MaxPool2d(2), convolution(16, 64, 5), nn.BatchNorm2d(64), nn.ReLU()),
                    *(nn.MaxPool2d(2), convolution(64, 32, 3), nn.BatchNorm2d(32)),
                ],
                [nn.MaxPool2d(2), BasicBlock(32, 32)],
                [],
            ][group]
            self.add_module(f"branch_layer{number}", branch(body, (32, 32, 64)[group], num_classes))

    def forward(self, images):
        features, answers = relu(self.bn1(self.conv1(images))), []
        for name, block in self.named_children():
            if name.startswith("group"):
                features = block(features)
            if name in self.branch_after:
                answers.append(getattr(self, self.branch_after[name])(features))
        return [*answers, self.fc(features.mean((2, 3)))]


class MobileNetV2(nn.Module):
    def __init__(self, num_classes=10):
        super().__init__()
        self.layer1, self.bn1 = convolution(3, 32, 3), nn.BatchNorm2d(32)
        inputs, number, widths = 32, 2, {}
        for expansion, width, repeats, stride in MOBILENET_GROUPS:
            for place in range(repeats):
                block = InvertedResidual(inputs, width, expansion, stride if place == 0 else 1)
                self.add_module(f"layer{number}", block)
                inputs = widths[number] = width
                number += 1
        self.layer19 = convolution(320, 1280, 1)  # Published, but nothing uses it.
        self.conv2, self.bn2 = convolution(320, 1280, 1), nn.BatchNorm2d(1280)
        self.linear = nn.Linear(1280, num_classes)
        for number, layer in enumerate(MOBILENET_EXITS, start=1):
            body, width = [], widths[layer]
            if number == 1:
                body = [InvertedResidual(16, 32, 6, 2), nn.BatchNorm2d(32), nn.ReLU()]
                body += [InvertedResidual(32, 64, 6, 2), nn.BatchNorm2d(64)]
                width = 64
            elif number == 2:
                body = [InvertedResidual(32, 32, 6, 2)]
            self.add_module(f"branch_layer{number}", branch(body, width, num_classes))

    def forward(self, images):
        features, answers = relu(self.bn1(self.layer1(images))), []
        for number in range(2, 19):
            features = getattr(self, f"layer{number}")(features)
            if number in MOBILENET_EXITS:
                answers.append(getattr(self, f"branch_layer{len(answers) + 1}")(features))
        features = relu(self.bn2(self.conv2(features)))
        return [*answers, self.linear(features.mean((2, 3)))]


class BasicBlock(nn.Module):
    def __init__(self, inputs, width, stride=1):
        super().__init__()
        self.conv1, self.bn1 = convolution(inputs, width, 3, stride), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = convolution(width, width, 3), nn.BatchNorm2d(width)
        self.downsample = nn.Sequential()
        if inputs != width:
            self.downsample = nn.Sequential(convolution(inputs, width, 1, stride), nn.BatchNorm2d(width))

    def forward(self, images):
        features = self.bn2(self.conv2(relu(self.bn1(self.conv1(images)))))
        return relu(features + self.downsample(images))


class InvertedResidual(nn.Module):
    def __init__(self, inputs, width, expansion, stride):
        super().__init__()
        inner = expansion * inputs
        self.conv1, self.bn1 = convolution(inputs, inner, 1), nn.BatchNorm2d(inner)
        self.conv2, self.bn2 = convolution(inner, inner, 3, stride, inner), nn.BatchNorm2d(inner)
        self.conv3, self.bn3 = convolution(inner, width, 1), nn.BatchNorm2d(width)
        self.has_shortcut, self.shortcut = stride == 1, nn.Sequential()
        if stride == 1 and inputs != width:
            self.shortcut = nn.Sequential(convolution(inputs, width, 1), nn.BatchNorm2d(width))

    def forward(self, images):
        features = relu(self.bn1(self.conv1(images)))
        features = self.bn3(self.conv3(relu(self.bn2(self.conv2(features)))))
        return features + self.shortcut(images) if self.has_shortcut else features


def convolution(inputs, width, size, stride=1, groups=1):
    return nn.Conv2d(inputs, width, size, stride, size // 2, groups=groups, bias=False)


def branch(body, width, num_classes):
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, num_classes))
