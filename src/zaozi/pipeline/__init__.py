"""From text to images: the API exposed by `import zaozi`."""

from zaozi.core.sampling import Guidance, Sampling
from zaozi.pipeline.drawing import (
    Edit,
    Watch,
    check_alike,
    check_distilled,
    check_sampling,
    check_strength,
    draw,
    enlarge,
    guided,
)
from zaozi.pipeline.model import Short, TextToImage
from zaozi.pipeline.pictures import from_picture, to_bytes, to_images, to_mask, to_pictures
from zaozi.pipeline.texts import Prompt, check_texts, halfway, in_english, property_values

__all__ = [
    "Edit",
    "Guidance",
    "Prompt",
    "Sampling",
    "Short",
    "TextToImage",
    "Watch",
    "check_alike",
    "check_distilled",
    "check_sampling",
    "check_strength",
    "check_texts",
    "draw",
    "enlarge",
    "from_picture",
    "guided",
    "halfway",
    "in_english",
    "property_values",
    "to_bytes",
    "to_images",
    "to_mask",
    "to_pictures",
]
