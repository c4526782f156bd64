"""What goes out of imports over HTTP."""

from datetime import datetime

from pydantic import BaseModel

from libs.contracts.imports import Kind, RowFault
from services.admin.failures import Failure
from services.admin.policy import ImportState


class ImportJobOut(BaseModel):
    """An import. `checked`: the dry run found no fault, and it may be applied until `until`. `done`: all rows are applied.

    `failed`: nothing was applied; where the file has faults, `faults_total` counts them.
    """

    id: str
    kind: Kind
    file_name: str
    state: ImportState
    applies: bool
    rows_total: int | None
    runs: int
    failure: Failure | None
    faults_total: int
    asked_at: datetime
    begun_at: datetime | None
    ended_at: datetime | None
    until: datetime | None


class ImportJobFaults(ImportJobOut):
    """An import with the first thousand of its faults, each by sheet, row and column."""

    faults: list[RowFault]
