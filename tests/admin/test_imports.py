"""Imports: workbooks that nobody has checked are read, looked at, and applied wholly, once, or not at all."""

import io
import zipfile
from collections.abc import Iterator
from datetime import date, time, timedelta

import pytest
import time_machine
from openpyxl import load_workbook
from sqlalchemy import text

from libs.common.clock import utcnow
from libs.contracts.catalog import FieldType, FormField
from libs.contracts.imports import HALLS
from libs.contracts.principals import Role
from services.admin import import_jobs, import_sheets, sources
from services.admin.import_run import MOST_TO_APPLY
from services.admin.job_runs import LeaseLost
from tests.admin.builders import actions, change, signed_in
from tests.admin.exporting import a_world_that_answers, an_exporter, do
from tests.admin.importing import (
    IMPORTS,
    Rows,
    applied,
    checked,
    confirm,
    faults,
    halls,
    send,
    sent,
    shown,
    workbook,
)
from tests.booking.builders import a_slot, code_of
from tests.catalog.builders import STAFF, a_hall
from tests.conftest import Cluster
from tests.world import World

LEASE = timedelta(seconds=60)
OF_NO_HALL = workbook(
    预约记录=[
        ["服务厅", "项目名称", "日期", "开始时间", "结束时间", "姓名"],
        ["不存在", "护照办理", "2026-12-01", "09:00", "10:00", "王大年"],
    ]
)


@pytest.fixture
def served(cluster: Cluster) -> Iterator[World]:
    """A world whose services a run can ask."""
    with a_world_that_answers(cluster) as world:
        yield world


def names(world: World) -> list[str]:
    page = world.client.get(f"{STAFF}/halls?limit=100", headers=world.staff()).json()
    return sorted(hall["name"] for hall in page["items"])


# --- the way of an import ---------------------------------------------------------------------------------------------


def test_an_import_is_looked_at_then_applied(served: World) -> None:
    who = an_exporter(served)

    looked_at = checked(served, who, "halls", halls("东厅", "西厅"))
    before = names(served)
    answer = confirm(served, who, looked_at["id"])
    do(served, "import")

    done = shown(served, who, looked_at["id"])
    assert (looked_at["state"], looked_at["rows_total"], looked_at["faults"]) == ("checked", 2, [])
    assert before == []
    assert answer.json()["state"] == "queued"
    assert (done["state"], done["applies"], done["rows_total"]) == ("done", True, 2)
    assert names(served) == ["东厅", "西厅"]
    assert code_of(confirm(served, an_exporter(served, "chen"), looked_at["id"])) == (404, "not_found")


def test_a_file_with_faults_is_never_applied(served: World) -> None:
    who = an_exporter(served)

    found = checked(served, who, "halls", halls("东厅", "东厅"))

    assert faults(found) == {("服务厅", 3, "名称", "name_taken")}
    assert code_of(confirm(served, who, found["id"])) == (409, "import_not_checked")
    assert names(served) == []


def test_what_has_changed_since_the_dry_run_is_told(served: World) -> None:
    who = an_exporter(served)
    found = checked(served, who, "halls", halls("东厅", "西厅"))
    a_hall(served, name="西厅")

    confirm(served, who, found["id"])
    do(served, "import")

    assert faults(shown(served, who, found["id"])) == {("服务厅", 3, "名称", "name_taken")}
    assert names(served) == ["西厅"]


def test_items_come_with_slots_and_joins_into_them(served: World) -> None:
    who = an_exporter(served)
    a_hall(served, name="东厅")
    items = workbook(
        预约项目=[["服务厅", "项目名称", "状态"], ["东厅", "换证", "使用中"]],
        时段=[
            ["服务厅", "项目名称", "日期", "开始时间", "结束时间", "人数上限"],
            ["东厅", "换证", date(2031, 3, 1), time(9), time(12), 30],
            ["东厅", "换证", "2031年3月2日", "9:00", "12:00", "5"],
        ],
    )
    joins = workbook(
        预约记录=[
            ["服务厅", "项目名称", "日期", "开始时间", "结束时间", "姓名", "手机号"],
            ["东厅", "换证", date(2031, 3, 1), time(9), time(12), "林小满", 13800138000],
            ["东厅", "换证", "2031/3/2", "09:00", time(12), "王大年", "13800138001"],
        ]
    )

    items_done = applied(served, who, "items", items)
    served.settle()
    joins_done = applied(served, who, "joins", joins)

    assert (items_done["state"], items_done["rows_total"]) == ("done", 3)
    assert (joins_done["state"], joins_done["rows_total"]) == ("done", 2)
    made = served.client.get("/api/booking/staff/joins", headers=served.staff()).json()["items"]
    assert {(join["answers"]["name"], join["slot"]["date"]) for join in made} == {
        ("林小满", "2031-03-01"),
        ("王大年", "2031-03-02"),
    }


def test_every_step_is_on_record(served: World) -> None:
    who = an_exporter(served)
    applied(served, who, "halls", halls("东厅"))
    cancelled = checked(served, who, "halls", halls("西厅"))["id"]
    served.client.post(f"{IMPORTS}/{cancelled}/cancel", headers=who)
    checked(served, who, "halls", halls("东厅"))
    served.settle()

    done = actions(served)

    assert done.count("import.asked") == 3
    assert {"import.confirmed", "import.done", "import.cancelled", "import.failed", "hall.created"} <= set(done)


# --- who may ----------------------------------------------------------------------------------------------------------


def test_a_hall_admin_imports_no_halls_and_nothing_elsewhere(served: World) -> None:
    own = a_hall(served, name="东厅")
    a_hall(served, name="西厅")
    who = an_exporter(served, "hai", role=Role.HALL_ADMIN, halls=[own["id"]])

    refused = send(served, who, "halls", halls("南厅"))
    elsewhere = checked(
        served, who, "items", workbook(预约项目=[["服务厅", "项目名称"], ["东厅", "换证"], ["西厅", "换证"]])
    )

    assert code_of(refused) == (403, "role_forbids")
    assert faults(elsewhere) == {("预约项目", 3, "服务厅", "hall_unknown")}


def test_one_has_few_unfinished_imports(world: World) -> None:
    who = an_exporter(world)
    first, *_ = (sent(world, who, "halls", halls("东厅")) for _ in range(3))

    refused = send(world, who, "halls", halls("东厅"))
    world.client.post(f"{IMPORTS}/{first}/cancel", headers=who)
    again = send(world, who, "halls", halls("东厅"))

    assert code_of(refused) == (409, "too_many_imports")
    assert again.status_code == 202


def test_of_a_refused_import_no_file_stays(world: World) -> None:
    place = a_hall(world)
    who = an_exporter(world, "hai", role=Role.HALL_ADMIN, halls=[place["id"]])

    refused = send(world, who, "halls", halls("东厅"))

    assert code_of(refused) == (403, "role_forbids")
    assert world.runtimes["admin"].resources.store.keys("imports") == []


def test_a_file_is_stored_while_nobody_waits_for_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    who = an_exporter(world)
    store = world.runtimes["admin"].resources.store
    put, stood_open = store.put, []

    def slow(key: str, content: bytes) -> int:
        with world.runtimes["admin"].db.transaction() as session:
            session.execute(text("SELECT id FROM staff FOR UPDATE NOWAIT"))
            stood_open.append(True)
        stored: int = put(key, content)
        return stored

    monkeypatch.setattr(store, "put", slow)
    sent(world, who, "halls", halls("东厅"))

    assert stood_open == [True]


def test_imports_that_wait_to_be_applied_are_under_way(served: World) -> None:
    who = an_exporter(served)
    first, *_ = (checked(served, who, "halls", halls(name)) for name in ("东厅", "西厅", "南厅"))

    refused = send(served, who, "halls", halls("北厅"))
    confirm(served, who, first["id"])
    do(served, "import")
    again = send(served, who, "halls", halls("北厅"))

    assert code_of(refused) == (409, "too_many_imports")
    assert again.status_code == 202


def test_an_import_is_nobodys_but_its_owners(world: World) -> None:
    import_id = sent(world, an_exporter(world), "halls", halls("东厅"))
    other = an_exporter(world, "chen")

    assert code_of(world.client.get(f"{IMPORTS}/{import_id}", headers=other)) == (404, "not_found")
    assert code_of(world.client.post(f"{IMPORTS}/{import_id}/cancel", headers=other)) == (404, "not_found")
    assert world.client.get(IMPORTS, headers=other).json()["items"] == []


# --- what dies, and what is late --------------------------------------------------------------------------------------


def test_an_import_that_was_applied_when_its_worker_died_is_done_and_not_applied_twice(served: World) -> None:
    who = an_exporter(served)
    found = checked(served, who, "halls", halls("东厅"))
    confirm(served, who, found["id"])
    do(served, "import")
    _forget_that_it_is_done(served, found["id"])

    with time_machine.travel(utcnow() + LEASE * 2):
        do(served, "sweep_imports")
    do(served, "import")

    assert shown(served, who, found["id"])["state"] == "done"
    assert names(served) == ["东厅"]


@pytest.mark.parametrize("was_applied", [True, False])
def test_whoever_may_no_longer_learns_what_became_of_it(served: World, was_applied: bool) -> None:
    boss = an_exporter(served)
    me = signed_in(served, "lin")["staff"]
    found = checked(served, boss, "halls", halls("东厅"))
    confirm(served, boss, found["id"])
    if was_applied:
        do(served, "import")
        _forget_that_it_is_done(served, found["id"], runs_on=False)
    an_exporter(served, "chen")
    change(served, me, role=Role.VERIFIER, halls=[a_hall(served, name="别的厅")["id"]])

    do(served, "import")

    state, failure = _state(served, found["id"])
    assert (state, failure) == (("done", None) if was_applied else ("failed", "rights_changed"))
    assert names(served) == (["东厅", "别的厅"] if was_applied else ["别的厅"])


def test_after_some_runs_without_an_answer_an_import_is_closed(served: World) -> None:
    who = an_exporter(served)
    found = checked(served, who, "halls", halls("东厅"))
    confirm(served, who, found["id"])
    with served.runtimes["admin"].db.transaction() as session:
        session.execute(text("UPDATE import_jobs SET runs = :runs"), {"runs": MOST_TO_APPLY})

    do(served, "import")

    assert _state(served, found["id"]) == ("failed", "source_away")
    assert names(served) == []


def test_an_import_whose_service_is_away_keeps_no_other_waiting(served: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "PAUSES_S", (0.01,))
    who = an_exporter(served)
    first = checked(served, who, "halls", halls("东厅"))["id"]
    confirm(served, who, first)
    served.runtimes["admin"].resources.sources["catalog"] = "http://127.0.0.1:1"
    second = sent(served, who, "joins", OF_NO_HALL)

    do(served, "import")
    do(served, "import")
    do(served, "import")

    assert _state(served, first) == ("queued", None)
    assert shown(served, who, second)["state"] == "failed"


def test_a_dry_run_that_loses_its_worker_three_times_fails(world: World) -> None:
    who = an_exporter(world)
    import_id = sent(world, who, "halls", halls("东厅"))
    admin = world.runtimes["admin"]
    states = []

    for lost in range(1, 4):
        claimed = utcnow() + LEASE * 2 * lost
        with admin.db.transaction() as session:
            assert import_jobs.claim(session, lease=LEASE, now=claimed) is not None
        with time_machine.travel(claimed + LEASE * 1.5):
            do(world, "sweep_imports")
        states.append(_state(world, import_id))

    assert states == [("queued", None), ("queued", None), ("failed", "worker_lost")]


def test_a_run_that_was_thought_dead_changes_nothing(served: World) -> None:
    who = an_exporter(served)
    import_id = sent(served, who, "halls", halls("东厅"))
    admin = served.runtimes["admin"]
    dead = admin.db.run(lambda session: import_jobs.claim(session, lease=LEASE, now=utcnow() - 2 * LEASE))
    assert dead is not None

    do(served, "import")
    late = admin.db.run(lambda session: import_jobs.fail(session, dead, "x", now=utcnow()))
    back = admin.db.run(lambda session: import_jobs.give_back(session, dead, "x", now=utcnow()))

    assert (late, back) == (False, False)
    assert shown(served, who, import_id)["state"] == "checked"


def test_what_nobody_confirms_expires_and_no_file_stays(served: World) -> None:
    who = an_exporter(served)
    found = checked(served, who, "halls", halls("东厅"))
    store = served.runtimes["admin"].resources.store

    with time_machine.travel(utcnow() + timedelta(days=1, minutes=1)):
        do(served, "sweep_imports")

    assert _state(served, found["id"]) == ("expired", None)
    assert store.keys("imports") == []


def _state(world: World, import_id: str) -> tuple[str, str | None]:
    with world.runtimes["admin"].db.transaction() as session:
        query = text("SELECT state, failure FROM import_jobs WHERE id = :id")
        state, failure = session.execute(query, {"id": import_id}).one()
        return state, failure


def _forget_that_it_is_done(world: World, import_id: str, *, runs_on: bool = True) -> None:
    """Bring a job back to where its worker had handed the rows over, and died before it heard the answer."""
    lease = "now()" if runs_on else "NULL"
    state = "running" if runs_on else "queued"
    with world.runtimes["admin"].db.transaction() as session:
        session.execute(
            text(
                f"UPDATE import_jobs SET state = '{state}', lease_until = {lease}, ended_at = NULL,"
                " file_key = 'imports/' || id || '.xlsx' WHERE id = :id"
            ),
            {"id": import_id},
        )


# --- what people send -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["halls", "items", "joins"])
def test_the_template_can_be_read_and_its_example_is_not_imported(served: World, kind: str) -> None:
    who = an_exporter(served)

    template = served.client.get(f"{IMPORTS}/templates/{kind}", headers=who)
    found = checked(served, who, kind, template.content)

    book = load_workbook(io.BytesIO(template.content))
    assert book.sheetnames[-1] == "填写说明"
    assert {reason for _, _, column, reason in faults(found) if column == ""} == {"example"}


def test_cells_that_are_no_values_are_told(served: World) -> None:
    who = an_exporter(served)
    rows: list[list[object]] = [
        ["名称", "电话", "排序", "", "没有的列"],
        ["=1+1", "020-1", 1],
        ["东厅", 440106198506152012, "x"],
        ["西厅", "#REF!", 1.5, "没有表头"],
        [None, None, None],
        ["=cmd|' /C calc'!A0", "", ""],
    ]

    found = checked(served, who, "halls", workbook(服务厅=rows))

    assert faults(found) == {
        ("服务厅", 1, "E", "unknown_column"),
        ("服务厅", 2, "名称", "formula"),
        ("服务厅", 3, "电话", "digits_lost"),
        ("服务厅", 3, "排序", "int_type"),
        ("服务厅", 4, "电话", "error_cell"),
        ("服务厅", 4, "排序", "int_type"),
        ("服务厅", 4, "D", "no_header"),
        ("服务厅", 6, "名称", "formula"),
    }


def test_hours_beyond_a_day_are_no_time_of_day(served: World) -> None:
    who = an_exporter(served)
    a_hall(served, name="东厅")
    content = workbook(
        预约项目=[["服务厅", "项目名称"], ["东厅", "换证"]],
        时段=[
            ["服务厅", "项目名称", "日期", "开始时间", "结束时间"],
            ["东厅", "换证", date(2031, 3, 1), timedelta(hours=9), timedelta(hours=12)],
            ["东厅", "换证", date(2031, 3, 2), timedelta(hours=33), timedelta(hours=36)],
            ["东厅", "换证", date(2031, 3, 3), timedelta(hours=22), timedelta(hours=24)],
        ],
    )

    found = checked(served, who, "items", content)

    assert faults(found) == {
        ("时段", 3, "开始时间", "not_a_time"),
        ("时段", 3, "结束时间", "not_a_time"),
        ("时段", 4, "结束时间", "not_a_time"),
    }


def test_faults_are_told_in_the_order_of_sheets_and_rows(served: World) -> None:
    who = an_exporter(served)
    rows: Rows = [["东厅", "换证", "2031-03-01", "九点", "12:00"], ["东厅", "换证", "2031-03-02", "=1", "12:00"]]
    content = workbook(
        时段=[["服务厅", "项目名称", "日期", "开始时间", "结束时间"], *rows],
        预约项目=[["服务厅", "项目名称"], ["东厅", "换证"], ["西厅", "换证"]],
    )

    found = checked(served, who, "items", content)

    assert [(fault["sheet"], fault["row"]) for fault in found["faults"]] == [
        ("预约项目", 2),
        ("预约项目", 3),
        ("时段", 2),
        ("时段", 3),
    ]


def test_a_missing_column_or_sheet_is_told(served: World) -> None:
    who = an_exporter(served)

    no_column = checked(served, who, "halls", workbook(服务厅=[["地址"], ["天河路"]]))
    no_sheet = checked(served, who, "halls", workbook(别的=[["名称"], ["东厅"]]))
    no_rows = checked(served, who, "halls", workbook(服务厅=[["名称"]]))

    assert ("服务厅", 1, "名称", "missing") in faults(no_column)
    assert faults(no_sheet) == {("服务厅", 0, "", "sheet_missing")}
    assert faults(no_rows) == {("服务厅", 0, "", "no_rows")}


def test_what_stands_where_headers_were_forgotten_is_not_told(served: World) -> None:
    place = a_slot(served)
    who = an_exporter(served)
    start, end = place.slot.start, place.slot.end
    row = [place.hall.name, place.item.title, place.slot.date, start, end]
    headers = ["服务厅", "项目名称", "日期", "开始时间", "结束时间", "姓名", "13800138000", "林小满的备注" + "长" * 40]

    found = checked(
        served, who, "joins", workbook(预约记录=[headers, [*row, "王大年", "x", "y"], [*row, "王大年", "=1"]])
    )
    of_halls = checked(served, who, "halls", workbook(服务厅=[["名称", "林小满", "林小满"], ["东厅"]]))

    sheet = "预约记录"
    unknown = {(sheet, 2, "G", "unknown_field"), (sheet, 2, "H", "unknown_field")}
    assert faults(found) == unknown | {(sheet, 3, "G", "formula")}
    assert faults(of_halls) == {("服务厅", 1, "B", "unknown_column"), ("服务厅", 1, "C", "header_repeated")}


def test_of_more_faults_than_anybody_reads_the_first_are_told(served: World) -> None:
    who = an_exporter(served)
    a_slot(served)
    headers = ["服务厅", "项目名称", "日期", "开始时间", "结束时间", *(f"列{number}" for number in range(20))]
    rows = [headers, *([*["x"] * 5, *["=1"] * 20] for _ in range(60))]

    found = checked(served, who, "joins", workbook(预约记录=rows))
    page = served.client.get(IMPORTS, headers=who)

    assert (len(found["faults"]), found["faults_total"]) == (1000, 60 * (20 + 4))
    assert [fault["row"] for fault in found["faults"]] == sorted(fault["row"] for fault in found["faults"])
    assert [(job["faults_total"], "faults" in job) for job in page.json()["items"]] == [(1440, False)]


def _zipped(**parts: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name.replace("__", "/") + ".xml", content)
    return file.getvalue()


def _respelled(content: bytes, part: str, old: bytes, new: bytes) -> bytes:
    """Return a workbook with other words in one of its parts."""
    source, file = zipfile.ZipFile(io.BytesIO(content)), io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for one in source.infolist():
            found = source.read(one)
            if one.filename == part:
                assert old in found
                found = found.replace(old, new)
            archive.writestr(one.filename, found)
    return file.getvalue()


def _far_below(content: bytes) -> bytes:
    """Return a workbook whose third row has the number of a row that no sheet has."""
    return _respelled(content, "xl/worksheets/sheet1.xml", b'<row r="3"', b'<row r="1000000000000"')


def test_a_row_that_says_it_lies_far_below_keeps_no_worker(served: World) -> None:
    who = an_exporter(served)

    found = checked(served, who, "halls", _far_below(halls("东厅", "西厅")))

    assert (found["state"], found["rows_total"]) == ("checked", 1)


def test_the_reading_of_a_long_sheet_ends_when_its_run_is_over() -> None:
    asked: list[int] = []

    def over() -> None:
        asked.append(1)
        if len(asked) == 10:
            raise LeaseLost

    with pytest.raises(LeaseLost):
        import_sheets.read(_far_below(halls("东厅", "西厅")), (HALLS,), "zh", check=over)

    assert len(asked) == 10


_DECLARED = '<!DOCTYPE x [<!ENTITY a "东厅"><!ENTITY b SYSTEM "file:///etc/passwd">]>'


def _with_entities(encoding: str = "utf-8", ending: str = "xml") -> bytes:
    """Return a workbook whose sheet declares what it says, in a part with a name of this ending."""
    source, file = zipfile.ZipFile(io.BytesIO(workbook(服务厅=[["名称"], ["x"]]))), io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for part in source.infolist():
            content = source.read(part).replace(b"sheet1.xml", f"sheet1.{ending}".encode())
            name = part.filename.replace("sheet1.xml", f"sheet1.{ending}")
            if "sheet1" in name:
                content = (_DECLARED + content.decode().replace(">x<", ">&a;<")).encode(encoding)
            archive.writestr(name, content)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (_zipped(a=b"<a/>"), "not_xlsx"),
        (halls("东厅")[:-100], "not_xlsx"),
        (_with_entities(), "not_xlsx"),
        (_with_entities(ending="bin"), "not_xlsx"),
        (_with_entities(encoding="utf-16"), "not_xlsx"),
        (_zipped(xl__sharedStrings=b"a" * 30_000_000), "too_large_unpacked"),
        (_zipped(**{f"p{number}": b"" for number in range(300)}), "too_large_unpacked"),
    ],
    ids=[
        "no workbook",
        "cut off",
        "entities",
        "entities in a part of any name",
        "entities in UTF-16",
        "bomb",
        "many parts",
    ],
)
def test_what_is_no_workbook_is_told_and_breaks_nothing(served: World, content: bytes, reason: str) -> None:
    who = an_exporter(served)

    found = checked(served, who, "halls", content)

    assert faults(found) == {("", 0, "", reason)}
    assert found["runs"] == 1


def test_what_does_not_even_begin_like_a_workbook_is_refused_at_once(world: World) -> None:
    who = an_exporter(world)

    refused = send(world, who, "halls", "名称\n东厅\n".encode())

    assert code_of(refused) == (422, "not_xlsx")
    assert world.client.get(IMPORTS, headers=who).json()["items"] == []


def test_more_rows_than_one_may_send_are_told(served: World) -> None:
    who = an_exporter(served)

    found = checked(served, who, "halls", halls(*(f"厅{number}" for number in range(60))))

    assert ("服务厅", 52, "", "too_many_rows") in faults(found)


def test_a_column_that_is_there_twice_answers_two_fields_of_one_label(served: World) -> None:
    form = [FormField(key=key, type=FieldType.TEXT, label=label) for key, label in LABELS.items()]
    place = a_slot(served, form=form)
    who = an_exporter(served)
    start, end = place.slot.start, place.slot.end
    rows: Rows = [
        ["服务厅", "项目名称", "日期", "开始时间", "结束时间", "备注", "备注", "日期"],
        [place.hall.name, place.item.title, place.slot.date, start, end, "一", "二", "周三"],
    ]

    applied(served, who, "joins", workbook(预约记录=rows))

    [join] = served.client.get("/api/booking/staff/joins", headers=served.staff()).json()["items"]
    assert join["answers"] == {"first": "一", "second": "二", "when": "周三"}


LABELS = {"first": "备注", "second": "备注", "when": "日期"}


def test_a_hall_admin_books_by_a_file_and_never_oversells(served: World) -> None:
    place = a_slot(served, capacity=1)
    who = an_exporter(served, "hai", role=Role.HALL_ADMIN, halls=[place.hall_id])
    start, end = place.slot.start, place.slot.end
    row = [place.hall.name, place.item.title, place.slot.date, start, end]
    headers = ["服务厅", "项目名称", "日期", "开始时间", "结束时间", "姓名"]

    found = checked(served, who, "joins", workbook(预约记录=[headers, [*row, "林小满"], [*row, "王大年"]]))

    assert faults(found) == {("预约记录", 3, "开始时间", "slot_full")}
