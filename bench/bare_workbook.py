"""The loop that everybody would write first: rows of plain values, appended to a write-only sheet of openpyxl.

`python -m bench.bare_workbook <rows as JSON> <workbook> <rows to write>` prints rows a second.
"""

import json
import re
import sys
import time
from datetime import datetime
from datetime import time as clock
from pathlib import Path
from typing import Any

from openpyxl import Workbook

_INSTANT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}")
_CLOCK = re.compile(r"[0-9]{2}:[0-9]{2}:[0-9]{2}")


def main() -> None:
    sample, file, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    rows = [[_value(value) for value in row] for row in json.loads(Path(sample).read_text(encoding="utf-8"))]
    began = time.perf_counter()
    workbook = Workbook(write_only=True)
    sheet: Any = workbook.create_sheet()
    for number in range(count):
        sheet.append(rows[number % len(rows)])
    workbook.save(file)
    print(count / (time.perf_counter() - began))


def _value(value: Any) -> Any:
    if isinstance(value, str) and _INSTANT.fullmatch(value):
        return datetime.fromisoformat(value)
    if isinstance(value, str) and _CLOCK.fullmatch(value):
        return clock.fromisoformat(value)
    return value


if __name__ == "__main__":
    main()
