"""The envelope of an event on its way between services (CloudEvents 1.0 names)."""

from datetime import datetime
from typing import Any, ClassVar, Literal, Protocol

from pydantic import BaseModel, ConfigDict


class Message(BaseModel):
    """One event as it travels. `version` counts the changes of its subject and only grows.

    `replayed` marks an event that its owner published once more on an operator's word: effects on the record
    are wanted again, effects on people are not.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    specversion: Literal["1.0"] = "1.0"
    id: str
    type: str
    source: str
    subject: str
    time: datetime
    datacontenttype: Literal["application/json"] = "application/json"
    version: int
    request_id: str = ""
    replayed: bool = False
    data: dict[str, Any]


class Fact(Protocol):
    """What can be recorded as an event: a Pydantic model that knows its type, subject and version."""

    type: ClassVar[str]

    @property
    def subject(self) -> str: ...

    @property
    def version(self) -> int: ...

    def model_dump(self, *, mode: Literal["json"]) -> dict[str, Any]: ...

    def model_dump_json(self, *, exclude: set[str] | None = None) -> str: ...

    @classmethod
    def model_validate(cls, obj: Any) -> Any: ...
