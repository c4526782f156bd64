"""What goes out of imports over HTTP."""

from datetime import datetime

from pydantic import BaseModel

from libs.contracts.imports import Kind, RowFault
from services.admin.export_schemas import Failure
from services.admin.policy import ImportState


class ImportJobOut(BaseModel):
    """An import. `checked`: the dry run found no fault, and it may be applied until `until`. `done`: all rows are applied.

    `failed`: nothing was applied; where the file has faults, `faults` names each by sheet, row and column.
    """

    id: str
    kind: Kind
    file_name: str
    state: ImportState
    applies: bool
    rows_total: int | None
    runs: int
    failure: Failure | None
    faults: list[RowFault]
    asked_at: datetime
    begun_at: datetime | None
    ended_at: datetime | None
    until: datetime | None
