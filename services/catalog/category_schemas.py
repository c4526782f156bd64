"""What goes in and out of categories over HTTP."""

from typing import Annotated

from pydantic import BaseModel, Field, StringConstraints

from libs.common.inputs import OneLine, Visible
from libs.common.web import Schema
from services.catalog.inputs import LAST, Order, unset


class CategoryIn(Schema):
    name: Annotated[str, StringConstraints(min_length=1, max_length=30), OneLine, Visible]
    order: Order = LAST


class CategoryPatch(Schema):
    name: Annotated[str, StringConstraints(min_length=1, max_length=30), OneLine, Visible] = Field(
        default_factory=unset
    )
    order: Order = Field(default_factory=unset)


class CategoryRef(BaseModel):
    id: str
    name: str


class CategoryOut(CategoryRef):
    order: int


class StaffCategory(CategoryOut):
    """`etag` is what If-Match takes."""

    version: int
    etag: str
