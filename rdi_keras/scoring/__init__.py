"""Scoring of any number of images in shards: sources, what scores a shard, and the folder of results."""

from rdi_keras.scoring.results import ResultFolder
from rdi_keras.scoring.runner import score
from rdi_keras.scoring.sources import FolderSource, TfdsSource, source

__all__ = ["FolderSource", "ResultFolder", "TfdsSource", "score", "source"]


def __dir__() -> list[str]:
    return __all__
