"""What catalog's routes need beside the common parts: the item pages that this process keeps."""

from dataclasses import dataclass

from libs.common.service import Runtime
from libs.common.settings import Settings
from services.catalog.item_page import ItemPages


@dataclass(frozen=True)
class Resources:
    item_pages: ItemPages


def build(settings: Settings) -> Resources:
    return Resources(item_pages=ItemPages("item-pages"))


def connect(runtime: Runtime) -> None:
    """Whatever staff edit through this process is audited, and so recorded: the next reader sees it."""
    runtime.db.wake_after_commit(runtime.resources.item_pages.forget)
