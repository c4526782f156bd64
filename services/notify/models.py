"""The tables of notify."""

from sqlalchemy import MetaData
from sqlalchemy.orm import DeclarativeBase

from libs.common.db import NAMING, TYPE_MAP


class Base(DeclarativeBase):
    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = TYPE_MAP
