"""The base of every event that crosses services."""

from typing import ClassVar

from pydantic import BaseModel, ConfigDict


class Event(BaseModel):
    """A fact in the past tense. Changes by addition only: readers ignore what they do not know.

    `type` is its name on the bus; `subject` is the id of what it is about; `version` counts that thing's changes.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")
    type: ClassVar[str]

    version: int

    @property
    def subject(self) -> str:
        raise NotImplementedError
