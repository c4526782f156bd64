"""What catalog's routes need beside the common parts: the item pages that this process keeps."""

from dataclasses import dataclass

from libs.common.outbox import RECORDED
from libs.common.service import Runtime
from libs.common.settings import Settings
from services.catalog.item_page import ItemPages


@dataclass(frozen=True)
class Resources:
    item_pages: ItemPages


def build(settings: Settings) -> Resources:
    return Resources(item_pages=ItemPages("item-pages"))


def attach(runtime: Runtime) -> None:
    """Whatever staff edit through this process is audited, and so recorded: the next reader sees it."""
    runtime.db.on_commit(RECORDED, lambda _: runtime.resources.item_pages.forget())
