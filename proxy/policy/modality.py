"""What prompts are made of, and what a model must be able to do to take them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class Modality(StrEnum):
    """What a prompt is made of; `text` is a prompt with nothing else in it."""

    TEXT = "text"
    IMAGE = "image"
    AUDIO = "audio"
    VIDEO = "video"
    FILE = "file"


class Capability(StrEnum):
    """What a model can take beyond text."""

    TOOLS = "tools"
    VISION = "vision"
    AUDIO = "audio"
    VIDEO = "video"
    FILES = "files"


NEEDED: Mapping[Modality, Capability] = {
    Modality.IMAGE: Capability.VISION,
    Modality.AUDIO: Capability.AUDIO,
    Modality.VIDEO: Capability.VIDEO,
    Modality.FILE: Capability.FILES,
}
"""What a model must be able to do to take a prompt with each modality but text."""
