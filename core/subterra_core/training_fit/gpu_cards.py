"""GPUs by memory: those of `gpu_cards.yaml`."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import yaml

CARDS_FILE = "gpu_cards.yaml"
PRODUCT_LABEL = "nvidia.com/gpu.product"


@dataclass(frozen=True)
class GpuCard:
    """A kind of GPU."""

    name: str
    mebibytes: int
    """Total that nvidia-smi shows."""
    products: tuple[str, ...]
    """Values of the node label `nvidia.com/gpu.product`."""
    source: str

    @property
    def memory_bytes(self) -> int:
        return self.mebibytes * 2**20


@cache
def gpu_cards() -> tuple[GpuCard, ...]:
    """All known cards, smallest memory first."""
    entries = yaml.safe_load(files(__package__).joinpath(CARDS_FILE).read_text())["cards"]
    cards = (GpuCard(entry["name"], entry["mebibytes"], tuple(entry["products"]), entry["source"]) for entry in entries)
    return tuple(sorted(cards, key=lambda card: (card.mebibytes, card.name)))


def card_named(name: str) -> GpuCard | None:
    """The card with this name, or with this value of the node label; None if it is not in the list."""
    return next((card for card in gpu_cards() if card.name == name), None) or selected_card({PRODUCT_LABEL: name})


def selected_card(node_selector: Mapping[str, str]) -> GpuCard | None:
    """The card that a pod's `nodeSelector` asks for by product; None if it names none, or one that is not in the list."""
    product = node_selector.get(PRODUCT_LABEL, "")
    suffixes = ("", "-SHARED")
    return next((card for card in gpu_cards() if any(product == known + end for known in card.products for end in suffixes)), None)
