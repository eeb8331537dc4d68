"""Make a thumbnail of an image."""

from pathlib import Path
from typing import Any

from PIL import Image, ImageOps


def process(path: Path, config: dict[str, Any], results: Path) -> dict[str, int]:
    """Write one thumbnail into the results folder; return its size in pixels."""
    with Image.open(path) as image:
        print(f"{image.format}, {image.width} x {image.height}")
        upright = ImageOps.exif_transpose(image)
    upright.thumbnail((config["size"], config["size"]))
    if config["format"] == "jpeg":
        upright = upright.convert("RGB")
    made = results / f"thumbnail.{config['format']}"
    upright.save(made, quality=config["quality"])
    print(f"{made.name}, {upright.width} x {upright.height}")
    return {"width": upright.width, "height": upright.height}
