"""Networks that several tests look at. Each is built once; tests leave them as they are."""

from functools import cache

from rdi_keras import models


@cache
def built(name, size=32, heads="paper", channels=3, **options):
    """The backbone of this name as a model with 10 classes, for images of size×size pixels."""
    backbone = models.backbone(name, (size, size, channels), 10, heads=heads, **options)
    return models.MultiExitModel.from_backbone(backbone)
