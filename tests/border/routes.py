"""Every route of the four services: who may ask it, what others get, and a request that succeeds.

A route that is not here fails a test, so that nobody adds one without deciding who may use it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Any

from libs.common.ids import new_id
from libs.contracts.principals import Right, Role
from tests.admin.builders import PASSWORD
from tests.border.scene import A_WORKBOOK, PERIOD, Ask, Headers, Scene, announcement, notice_template, unique, webhook

SUPER_ADMIN, HALL_ADMIN, VERIFIER = Role.SUPER_ADMIN, Role.HALL_ADMIN, Role.VERIFIER
MANAGE_STAFF = Right.MANAGE_STAFF


class Stranger(Enum):
    """What a route does for those whose role would do, but whose things it is not about.

    A stranger to a staff route is the hall admin of another hall; to a user's, another user.
    """

    NOT_FOUND = "404: it is not to learn that there is anything"
    FORBIDDEN = "403: the role does not do"
    FILTERED = "success, with what is theirs and nothing else"
    ALLOWED = "success: it is about nobody's hall, or about the caller"
    NOTHING_TO_DO = "409: there is nothing of theirs here"
    NOT_BY_NAME = "422: what is named is nothing of theirs"
    NOTHING_TO_CONFIRM = "409: they have set no address"


NOT_FOUND, FORBIDDEN, FILTERED = Stranger.NOT_FOUND, Stranger.FORBIDDEN, Stranger.FILTERED
ALLOWED, NOTHING_TO_DO, NOT_BY_NAME = Stranger.ALLOWED, Stranger.NOTHING_TO_DO, Stranger.NOT_BY_NAME
NOTHING_TO_CONFIRM = Stranger.NOTHING_TO_CONFIRM

Asking = Callable[[Scene], Ask]
OwnAsking = Callable[[Scene, Headers], Ask]


def plain(_: Scene) -> Ask:
    """A request that needs nothing but what its path names."""
    return Ask()


def of_dead_letters(service: str) -> "dict[str, StaffRoute]":
    """Return what a service that hears events serves about those it failed at."""
    path = f"/api/{service}/staff/dead-letters"

    def route(body: Any = None, *, named: bool = False, shown: bool = False) -> StaffRoute:
        return StaffRoute(SUPER_ADMIN, FORBIDDEN, lambda s: s.by_a_dead_letter(service, body, named=named, shown=shown))

    return {
        f"GET {path}": route(shown=True),
        f"GET {path}/{{letter_id}}": route(named=True, shown=True),
        f"POST {path}/replay": route(),
        f"POST {path}/{{letter_id}}/replay": route(named=True),
        f"POST {path}/{{letter_id}}/drop": route({"reason": "旧版本"}, named=True),
    }


def booking_one(scene: Scene) -> Ask:
    body = {"slot_id": scene.next_slot["id"], "attendees": [{"answers": {"name": "王大年"}}]}
    return Ask(body, headers={"Idempotency-Key": unique()})


@dataclass(frozen=True)
class StaffRoute:
    """`least`: the lowest role that may ask, or the right that it takes.

    `spends`: whether it uses up the caller's session or account. `own`: the request about something of the caller's.
    `owing`: whether it is for those, too, who have to change their password first. `tries`: it changes nothing.
    """

    least: Role | Right
    stranger: Stranger
    ask: Asking = plain
    spends: bool = False
    own: OwnAsking | None = None
    owing: bool = False
    tries: bool = False

    def asking(self, scene: Scene, who: Headers) -> Ask:
        return self.own(scene, who) if self.own is not None else self.ask(scene)


@dataclass(frozen=True)
class UserRoute:
    """`spends`: whether it uses up the caller's account."""

    stranger: Stranger
    ask: Asking = plain
    spends: bool = False


STAFF: dict[str, StaffRoute] = {
    # catalog
    "GET /api/catalog/staff/halls": StaffRoute(VERIFIER, FILTERED, lambda s: Ask(shows=s.hall["id"])),
    "POST /api/catalog/staff/halls": StaffRoute(SUPER_ADMIN, FORBIDDEN, lambda s: Ask({"name": "新厅"})),
    "GET /api/catalog/staff/halls/{hall_id}": StaffRoute(VERIFIER, NOT_FOUND, lambda s: Ask(shows=s.hall["id"])),
    "PATCH /api/catalog/staff/halls/{hall_id}": StaffRoute(HALL_ADMIN, NOT_FOUND, lambda s: Ask({"intro": unique()})),
    "GET /api/catalog/staff/categories": StaffRoute(VERIFIER, ALLOWED, lambda s: Ask(shows=s.category["id"])),
    "POST /api/catalog/staff/categories": StaffRoute(SUPER_ADMIN, FORBIDDEN, lambda s: Ask({"name": unique()})),
    "PATCH /api/catalog/staff/categories/{category_id}": StaffRoute(
        SUPER_ADMIN, FORBIDDEN, lambda s: Ask({"name": unique()})
    ),
    "DELETE /api/catalog/staff/categories/{category_id}": StaffRoute(
        SUPER_ADMIN, FORBIDDEN, lambda s: Ask(path={"category_id": s.a_category()})
    ),
    "GET /api/catalog/staff/items": StaffRoute(VERIFIER, FILTERED, lambda s: Ask(shows=s.item["id"])),
    "POST /api/catalog/staff/items": StaffRoute(
        HALL_ADMIN, NOT_FOUND, lambda s: Ask({"hall_id": s.hall["id"], "title": "换证"})
    ),
    "POST /api/catalog/staff/items/rules": StaffRoute(
        HALL_ADMIN,
        NOT_FOUND,
        lambda s: Ask({"item_ids": [s.item["id"]], "rules": {"checkin_opens_minutes": s.other_minutes()}}),
    ),
    "PUT /api/catalog/staff/items/order": StaffRoute(
        SUPER_ADMIN, FORBIDDEN, lambda s: Ask({"item_ids": [s.an_item(), s.item["id"]]})
    ),
    "GET /api/catalog/staff/items/{item_id}/qr.svg": StaffRoute(VERIFIER, NOT_FOUND, lambda s: Ask(shows="<svg")),
    "POST /api/catalog/staff/slots/capacity": StaffRoute(
        HALL_ADMIN,
        NOT_FOUND,
        lambda s: Ask({"item_ids": [s.item["id"]], "from": (day := s.a_day()), "to": day, "capacity": 7}),
    ),
    "GET /api/catalog/staff/items/{item_id}": StaffRoute(VERIFIER, NOT_FOUND, lambda s: Ask(shows=s.item["id"])),
    "PATCH /api/catalog/staff/items/{item_id}": StaffRoute(
        HALL_ADMIN, NOT_FOUND, lambda s: Ask({"content": unique()}, path={"item_id": s.an_item()})
    ),
    "GET /api/catalog/staff/items/{item_id}/days": StaffRoute(VERIFIER, NOT_FOUND, lambda s: Ask(shows=s.slot["id"])),
    "GET /api/catalog/staff/items/{item_id}/days/{date}": StaffRoute(
        VERIFIER, NOT_FOUND, lambda s: Ask(shows=s.slot["id"])
    ),
    "PUT /api/catalog/staff/items/{item_id}/days/{date}": StaffRoute(
        HALL_ADMIN,
        NOT_FOUND,
        lambda s: Ask({"slots": [PERIOD]}, headers={"If-None-Match": "*"}, path={"date": s.free_date()}),
    ),
    "DELETE /api/catalog/staff/items/{item_id}/days/{date}": StaffRoute(
        HALL_ADMIN, NOT_FOUND, lambda s: Ask(headers={"If-Match": "*"}, path={"date": s.a_day()})
    ),
    "POST /api/catalog/staff/items/{item_id}/days/fill": StaffRoute(
        HALL_ADMIN,
        NOT_FOUND,
        lambda s: Ask({"periods": [PERIOD], "from": (free := s.free_date()), "to": free, "holidays": "ignore"}),
    ),
    "POST /api/catalog/staff/items/{item_id}/days/clear": StaffRoute(
        HALL_ADMIN, NOT_FOUND, lambda s: Ask({"from": (filled := s.a_day()), "to": filled})
    ),
    "POST /api/catalog/staff/items/{item_id}/days/{date}/copy": StaffRoute(
        HALL_ADMIN, NOT_FOUND, lambda s: Ask({"dates": [s.free_date()]})
    ),
    "GET /api/catalog/staff/templates": StaffRoute(
        VERIFIER, FILTERED, lambda s: Ask(query={"limit": 100}, shows=s.template["id"])
    ),
    "POST /api/catalog/staff/templates": StaffRoute(
        HALL_ADMIN, NOT_FOUND, lambda s: Ask({"name": unique(), "hall_id": s.hall["id"], "periods": [PERIOD]})
    ),
    "GET /api/catalog/staff/templates/{template_id}": StaffRoute(
        VERIFIER, NOT_FOUND, lambda s: Ask(shows=s.template["id"])
    ),
    "PATCH /api/catalog/staff/templates/{template_id}": StaffRoute(
        HALL_ADMIN, NOT_FOUND, lambda s: Ask({"name": unique()}, path={"template_id": s.a_template()["id"]})
    ),
    "DELETE /api/catalog/staff/templates/{template_id}": StaffRoute(
        HALL_ADMIN, NOT_FOUND, lambda s: Ask(path={"template_id": s.a_template()["id"]})
    ),
    "GET /api/catalog/staff/halls/{hall_id}/calendar": StaffRoute(
        VERIFIER, NOT_FOUND, lambda s: Ask(query={"from": "2026-10-01", "to": "2026-10-01"}, shows="国庆节")
    ),
    "GET /api/catalog/staff/special-days": StaffRoute(VERIFIER, FILTERED, lambda s: Ask(shows=s.special_day["id"])),
    "PUT /api/catalog/staff/special-days": StaffRoute(
        HALL_ADMIN,
        NOT_FOUND,
        lambda s: Ask({"hall_id": s.hall["id"], "dates": [s.free_date()], "kind": "day_off", "name": "停电"}),
    ),
    "DELETE /api/catalog/staff/special-days/{special_day_id}": StaffRoute(
        HALL_ADMIN, NOT_FOUND, lambda s: Ask(path={"special_day_id": s.a_special_day()["id"]})
    ),
    "GET /api/catalog/staff/closures": StaffRoute(
        VERIFIER, FILTERED, lambda s: Ask(query={"limit": 100}, shows=s.closure["id"])
    ),
    "POST /api/catalog/staff/closures": StaffRoute(
        HALL_ADMIN,
        NOT_FOUND,
        lambda s: Ask({"item_id": s.item["id"], "from": (free := s.free_date()), "to": free, "reason": "停电检修"}),
    ),
    "PATCH /api/catalog/staff/closures/{closure_id}": StaffRoute(
        HALL_ADMIN, NOT_FOUND, lambda s: Ask({"reason": unique()})
    ),
    "DELETE /api/catalog/staff/closures/{closure_id}": StaffRoute(
        HALL_ADMIN, NOT_FOUND, lambda s: Ask(path={"closure_id": s.a_closure()["id"]})
    ),
    "POST /api/catalog/staff/imports": StaffRoute(
        SUPER_ADMIN, FORBIDDEN, own=lambda s, who: s.for_job(who, Ask(s.an_import("服务厅", 名称=unique())))
    ),
    "POST /api/catalog/staff/imports/{import_id}/close": StaffRoute(
        HALL_ADMIN, ALLOWED, own=lambda s, who: s.for_job(who, Ask(path={"import_id": new_id()}))
    ),
    # booking
    "GET /api/booking/staff/joins": StaffRoute(
        VERIFIER, FILTERED, lambda s: Ask(query={"q": s.join["code"]}, shows=s.join["id"])
    ),
    "GET /api/booking/staff/joins/{join_id}": StaffRoute(VERIFIER, NOT_FOUND, lambda s: Ask(shows=s.join["id"])),
    "POST /api/booking/staff/joins/{join_id}/revoke": StaffRoute(
        HALL_ADMIN, NOT_FOUND, lambda s: Ask({"reason": "设备检修"}, path={"join_id": s.a_join()["id"]})
    ),
    "POST /api/booking/staff/joins/{join_id}/restore": StaffRoute(
        HALL_ADMIN, NOT_FOUND, lambda s: Ask(path={"join_id": s.a_revoked_join()})
    ),
    "POST /api/booking/staff/joins/{join_id}/unmask": StaffRoute(
        HALL_ADMIN, NOT_FOUND, lambda s: Ask({"reason": "核对证件"}, shows=s.join["id"])
    ),
    "POST /api/booking/staff/joins/revoke": StaffRoute(
        HALL_ADMIN, NOT_FOUND, lambda s: Ask({"join_ids": [s.a_join()["id"]], "reason": "设备检修"})
    ),
    "POST /api/booking/staff/days/{date}/revoke": StaffRoute(
        HALL_ADMIN,
        NOT_FOUND,
        lambda s: Ask(
            {"item_id": s.item["id"], "reason": "台风停业"}, path={"date": s.a_join(s.next_slot)["slot"]["date"]}
        ),
    ),
    "GET /api/booking/staff/slots/{slot_id}/door": StaffRoute(VERIFIER, NOT_FOUND, lambda s: Ask(shows=s.slot["id"])),
    "POST /api/booking/staff/slots/{slot_id}/joins": StaffRoute(
        HALL_ADMIN,
        NOT_FOUND,
        lambda s: Ask(
            {"attendees": [{"answers": {"name": "林小满"}}], "check_in": True}, headers={"Idempotency-Key": unique()}
        ),
    ),
    "POST /api/booking/staff/uploads": StaffRoute(HALL_ADMIN, NOT_FOUND, lambda s: s.sending_a_walk_ins_photo()),
    "GET /api/booking/staff/joins/{join_id}/files/{field}": StaffRoute(
        VERIFIER, NOT_FOUND, lambda s: Ask(path={"join_id": s.a_join_with_a_photo()}, shows="PNG")
    ),
    "POST /api/booking/staff/joins/{join_id}/files/{field}": StaffRoute(
        HALL_ADMIN,
        NOT_FOUND,
        lambda s: Ask({"reason": "核对照片"}, path={"join_id": s.a_join_with_a_photo()}, shows="PNG"),
    ),
    "GET /api/booking/staff/slots/{slot_id}": StaffRoute(VERIFIER, NOT_FOUND, lambda s: Ask(shows=s.slot["id"])),
    "POST /api/booking/staff/slots/{slot_id}/revoke": StaffRoute(
        HALL_ADMIN,
        NOT_FOUND,
        lambda s: Ask({"reason": "设备检修"}, path={"slot_id": s.a_join(s.next_slot)["slot"]["id"]}),
    ),
    "GET /api/booking/staff/slots/{slot_id}/waits": StaffRoute(
        VERIFIER, NOT_FOUND, lambda s: Ask(path={"slot_id": (wait := s.a_wait())["slot"]["id"]}, shows=wait["id"])
    ),
    "POST /api/booking/staff/waits/{wait_id}/remove": StaffRoute(
        HALL_ADMIN, NOT_FOUND, lambda s: Ask({"reason": "重复候补"}, path={"wait_id": s.a_wait()["id"]})
    ),
    "GET /api/booking/staff/affected": StaffRoute(
        HALL_ADMIN, NOT_FOUND, lambda s: Ask(query={"item_id": s.item["id"], "limit": 100}, shows=s.slot["id"])
    ),
    "POST /api/booking/staff/check-ins": StaffRoute(VERIFIER, NOT_FOUND, lambda s: Ask({"join_id": s.a_join()["id"]})),
    "POST /api/booking/staff/check-ins/undo": StaffRoute(
        VERIFIER, NOT_FOUND, lambda s: Ask({"join_id": s.a_checked_in_join(), "reason": "扫错了人"})
    ),
    "GET /api/booking/staff/halls/{hall_id}/door-code": StaffRoute(
        VERIFIER, NOT_FOUND, lambda s: Ask(shows=s.hall["id"])
    ),
    "GET /api/booking/staff/users": StaffRoute(HALL_ADMIN, FILTERED, lambda s: Ask(shows=s.a_named_visitor())),
    "GET /api/booking/staff/users/{user_id}": StaffRoute(HALL_ADMIN, NOT_FOUND, lambda s: Ask(shows=s.user_id)),
    "POST /api/booking/staff/users/{user_id}/unmask": StaffRoute(
        HALL_ADMIN, NOT_FOUND, lambda s: Ask({"reason": "联系本人"}, shows=s.user_id)
    ),
    "GET /api/booking/staff/users/{user_id}/standing": StaffRoute(
        HALL_ADMIN, NOT_FOUND, lambda s: Ask(shows=s.hall["id"])
    ),
    "POST /api/booking/staff/users/{user_id}/forgive": StaffRoute(
        HALL_ADMIN,
        NOT_FOUND,
        lambda s: Ask({"hall_id": s.hall["id"], "join_id": s.a_missed_join(), "reason": "住院"}, shows=s.hall["id"]),
    ),
    "POST /api/booking/staff/users/{user_id}/data": StaffRoute(
        SUPER_ADMIN, FORBIDDEN, lambda s: Ask({"reason": "本人申请"}, shows=s.join["code"])
    ),
    "POST /api/booking/staff/users/{user_id}/erase": StaffRoute(
        SUPER_ADMIN, FORBIDDEN, lambda s: Ask({"reason": "本人申请"}, path={"user_id": s.a_user()})
    ),
    "PATCH /api/booking/staff/users/{user_id}": StaffRoute(
        SUPER_ADMIN,
        FORBIDDEN,
        lambda s: Ask({"disabled": True, "reason": "多次失约"}, path={"user_id": s.a_user()}),
    ),
    "GET /api/booking/staff/feed/joins": StaffRoute(
        HALL_ADMIN, FILTERED, lambda s: Ask(query={"q": s.join["code"]}, shows=s.join["code"])
    ),
    "GET /api/booking/staff/feed/joins/counts": StaffRoute(HALL_ADMIN, FILTERED, lambda s: Ask(shows=s.item["id"])),
    "GET /api/booking/staff/feed/items": StaffRoute(HALL_ADMIN, FILTERED, lambda s: Ask(shows=s.item["id"])),
    "GET /api/booking/staff/feed/slots": StaffRoute(
        HALL_ADMIN, FILTERED, lambda s: Ask(query={"id": s.slot["id"]}, shows=s.slot["id"])
    ),
    "GET /api/booking/staff/feed/users": StaffRoute(HALL_ADMIN, FILTERED, lambda s: Ask(shows=s.user_id)),
    "GET /api/booking/staff/feed/users/count": StaffRoute(
        HALL_ADMIN, FILTERED, lambda s: Ask(query={"q": s.a_named_visitor()}, shows='"users":1')
    ),
    "POST /api/booking/staff/imports": StaffRoute(
        HALL_ADMIN,
        NOT_BY_NAME,
        own=lambda s, who: s.for_job(who, Ask(s.an_import("预约记录", 姓名="林小满", **s.names_of_slot))),
    ),
    "POST /api/booking/staff/imports/{import_id}/close": StaffRoute(
        HALL_ADMIN, ALLOWED, own=lambda s, who: s.for_job(who, Ask(path={"import_id": new_id()}))
    ),
    # notify
    "GET /api/notify/staff/announcements": StaffRoute(
        HALL_ADMIN, FILTERED, lambda s: Ask(shows=s.an_announcement()["id"])
    ),
    "POST /api/notify/staff/announcements": StaffRoute(
        HALL_ADMIN, NOT_FOUND, lambda s: Ask(announcement(s.hall["id"]))
    ),
    "GET /api/notify/staff/announcements/{announcement_id}": StaffRoute(
        HALL_ADMIN, NOT_FOUND, lambda s: Ask(shows=s.announcement["id"])
    ),
    "PATCH /api/notify/staff/announcements/{announcement_id}": StaffRoute(
        HALL_ADMIN, NOT_FOUND, lambda s: Ask({"content": unique()})
    ),
    "DELETE /api/notify/staff/announcements/{announcement_id}": StaffRoute(
        HALL_ADMIN, NOT_FOUND, lambda s: Ask(path={"announcement_id": s.an_announcement()["id"]})
    ),
    "GET /api/notify/staff/notice-templates": StaffRoute(
        HALL_ADMIN, NOT_FOUND, lambda s: Ask(query={"hall_id": s.hall["id"]})
    ),
    "GET /api/notify/staff/notice-templates/{kind}": StaffRoute(
        HALL_ADMIN, NOT_FOUND, lambda s: Ask(query={"hall_id": s.hall["id"]}, path={"kind": "booked"})
    ),
    "PUT /api/notify/staff/notice-templates/{kind}": StaffRoute(
        HALL_ADMIN,
        NOT_FOUND,
        lambda s: Ask(notice_template(), query={"hall_id": s.hall["id"]}, path={"kind": "booked"}),
    ),
    "DELETE /api/notify/staff/notice-templates/{kind}": StaffRoute(
        HALL_ADMIN, NOT_FOUND, lambda s: Ask(query={"hall_id": s.hall["id"]}, path={"kind": s.a_notice_template()})
    ),
    "POST /api/notify/staff/notice-templates/{kind}/preview": StaffRoute(
        HALL_ADMIN, ALLOWED, lambda s: Ask(notice_template(), path={"kind": "booked"}, shows="护照办理"), tries=True
    ),
    "GET /api/notify/staff/deliveries": StaffRoute(HALL_ADMIN, FILTERED, lambda s: Ask(shows=s.a_delivery())),
    "GET /api/notify/staff/wechat-templates": StaffRoute(
        HALL_ADMIN, ALLOWED, lambda s: Ask(shows=s.a_wechat_template())
    ),
    "GET /api/notify/staff/wechat-templates/{kind}": StaffRoute(
        HALL_ADMIN, ALLOWED, lambda s: Ask(shows=s.a_wechat_template(), path={"kind": "booked"})
    ),
    "PUT /api/notify/staff/wechat-templates/{kind}": StaffRoute(
        SUPER_ADMIN,
        FORBIDDEN,
        lambda s: Ask({"template_id": unique(), "values": {"thing1": "{item}"}}, path={"kind": "missed"}),
    ),
    "DELETE /api/notify/staff/wechat-templates/{kind}": StaffRoute(
        SUPER_ADMIN, FORBIDDEN, lambda s: Ask(path={"kind": s.a_kind_by_wechat()})
    ),
    "GET /api/notify/staff/webhooks": StaffRoute(HALL_ADMIN, FILTERED, lambda s: Ask(shows=s.a_webhook()["id"])),
    "POST /api/notify/staff/webhooks": StaffRoute(HALL_ADMIN, NOT_FOUND, lambda s: Ask(webhook(s.hall["id"]))),
    "GET /api/notify/staff/webhooks/{webhook_id}": StaffRoute(
        HALL_ADMIN, NOT_FOUND, lambda s: Ask(shows=s.webhook["id"])
    ),
    "PATCH /api/notify/staff/webhooks/{webhook_id}": StaffRoute(
        HALL_ADMIN, NOT_FOUND, lambda s: Ask({"description": unique()})
    ),
    "DELETE /api/notify/staff/webhooks/{webhook_id}": StaffRoute(
        HALL_ADMIN, NOT_FOUND, lambda s: Ask(path={"webhook_id": s.a_webhook()["id"]})
    ),
    "POST /api/notify/staff/webhooks/{webhook_id}/secret": StaffRoute(
        HALL_ADMIN, NOT_FOUND, lambda s: Ask({}, shows="whsec_")
    ),
    "POST /api/notify/staff/webhooks/{webhook_id}/ping": StaffRoute(HALL_ADMIN, NOT_FOUND),
    "GET /api/notify/staff/webhooks/{webhook_id}/deliveries": StaffRoute(
        HALL_ADMIN, NOT_FOUND, lambda s: Ask(shows=s.webhook_delivery["id"])
    ),
    "POST /api/notify/staff/webhooks/{webhook_id}/deliveries/{delivery_id}/resend": StaffRoute(HALL_ADMIN, NOT_FOUND),
    "GET /api/notify/staff/webhooks/{webhook_id}/attempts": StaffRoute(
        HALL_ADMIN, NOT_FOUND, lambda s: Ask(shows=s.a_webhook_call())
    ),
    "GET /api/notify/staff/stats": StaffRoute(HALL_ADMIN, FILTERED, lambda s: Ask(shows=s.slot["id"])),
    "GET /api/notify/staff/dashboard": StaffRoute(
        HALL_ADMIN,
        FILTERED,
        lambda s: Ask(
            query={"from": s.today.isoformat(), "to": (s.today + timedelta(days=365)).isoformat()}, shows=s.item["id"]
        ),
    ),
    "GET /api/notify/staff/live": StaffRoute(
        VERIFIER,
        NOT_FOUND,
        lambda s: Ask(query={"hall_id": s.hall["id"], "day": s.join["slot"]["date"]}, shows=s.slot["id"]),
    ),
    "POST /api/notify/staff/recounts": StaffRoute(
        HALL_ADMIN, NOT_FOUND, lambda s: Ask({"hall_id": s.hall["id"]}), spends=True
    ),
    "GET /api/notify/staff/recounts": StaffRoute(HALL_ADMIN, FILTERED, lambda s: Ask(shows=s.a_recount())),
    "GET /api/notify/staff/recounts/{recount_id}": StaffRoute(
        HALL_ADMIN, NOT_FOUND, lambda s: Ask(path={"recount_id": (made := s.a_recount())}, shows=made)
    ),
    "GET /api/notify/staff/feed/stats": StaffRoute(HALL_ADMIN, FILTERED, lambda s: Ask(shows=s.slot["id"])),
    # admin
    "DELETE /api/admin/sessions/current": StaffRoute(VERIFIER, ALLOWED, spends=True, owing=True),
    "POST /api/admin/sessions/sign-out-everywhere": StaffRoute(VERIFIER, ALLOWED, spends=True, owing=True),
    "GET /api/admin/sessions": StaffRoute(
        VERIFIER, ALLOWED, lambda s: Ask(query={"limit": 100}, shows='"current":true')
    ),
    "DELETE /api/admin/sessions/{session_id}": StaffRoute(
        VERIFIER, ALLOWED, spends=True, own=lambda s, who: Ask(path={"session_id": s.a_session(who)})
    ),
    "GET /api/admin/me": StaffRoute(VERIFIER, ALLOWED),
    "POST /api/admin/me/password": StaffRoute(
        VERIFIER,
        ALLOWED,
        lambda s: Ask({"current": PASSWORD, "new": f"ten-blue-kites-{unique()}"}),
        spends=True,
        owing=True,
    ),
    "GET /api/admin/me/second-factor": StaffRoute(VERIFIER, ALLOWED, lambda s: Ask(shows="recovery_codes_left")),
    "POST /api/admin/me/second-factor": StaffRoute(
        VERIFIER, ALLOWED, lambda s: Ask({"password": PASSWORD}, shows="otpauth://"), spends=True
    ),
    "POST /api/admin/me/second-factor/confirm": StaffRoute(
        VERIFIER, ALLOWED, spends=True, own=lambda s, who: Ask({"code": s.a_code_to_confirm(who)})
    ),
    "POST /api/admin/me/second-factor/recovery-codes": StaffRoute(
        VERIFIER, ALLOWED, spends=True, own=lambda s, who: Ask({"password": PASSWORD, "code": s.a_recovery_code(who)})
    ),
    "POST /api/admin/me/second-factor/remove": StaffRoute(
        VERIFIER, ALLOWED, spends=True, own=lambda s, who: Ask({"password": PASSWORD, "code": s.a_recovery_code(who)})
    ),
    "GET /api/admin/staff": StaffRoute(
        MANAGE_STAFF, FILTERED, lambda s: Ask(query={"q": "clerk"}, shows=s.clerk["id"])
    ),
    "POST /api/admin/staff": StaffRoute(
        MANAGE_STAFF,
        NOT_FOUND,
        lambda s: Ask({"username": unique(), "name": "Lin Yue", "role": VERIFIER, "halls": [s.hall["id"]]}),
    ),
    "GET /api/admin/staff/{staff_id}": StaffRoute(MANAGE_STAFF, NOT_FOUND, lambda s: Ask(shows=s.clerk["id"])),
    "PATCH /api/admin/staff/{staff_id}": StaffRoute(MANAGE_STAFF, NOT_FOUND, lambda s: Ask({"name": unique()})),
    "GET /api/admin/staff/{staff_id}/sessions": StaffRoute(
        MANAGE_STAFF, NOT_FOUND, lambda s: Ask(shows=s.a_session_of_the_clerk())
    ),
    "DELETE /api/admin/staff/{staff_id}/sessions/{session_id}": StaffRoute(
        MANAGE_STAFF, NOT_FOUND, lambda s: Ask(path={"session_id": s.a_session_of_the_clerk()})
    ),
    "POST /api/admin/staff/{staff_id}/sign-out": StaffRoute(MANAGE_STAFF, NOT_FOUND),
    "GET /api/admin/audit": StaffRoute(
        HALL_ADMIN, FILTERED, lambda s: Ask(query={"object_id": s.hall["id"]}, shows=s.hall["id"])
    ),
    "POST /api/admin/exports": StaffRoute(HALL_ADMIN, ALLOWED, lambda s: Ask({"kind": "audit"}), spends=True),
    "GET /api/admin/exports": StaffRoute(
        HALL_ADMIN, ALLOWED, spends=True, own=lambda s, who: Ask(shows=s.an_export(who))
    ),
    "GET /api/admin/exports/{export_id}": StaffRoute(
        HALL_ADMIN, ALLOWED, spends=True, own=lambda s, who: Ask(path={"export_id": s.an_export(who)})
    ),
    "POST /api/admin/exports/{export_id}/cancel": StaffRoute(
        HALL_ADMIN, ALLOWED, spends=True, own=lambda s, who: Ask(path={"export_id": s.an_export(who)})
    ),
    "POST /api/admin/exports/{export_id}/links": StaffRoute(
        HALL_ADMIN, ALLOWED, spends=True, own=lambda s, who: Ask(path={"export_id": s.a_finished_export(who)})
    ),
    "GET /api/admin/imports/templates/{kind}": StaffRoute(HALL_ADMIN, ALLOWED, lambda s: Ask(path={"kind": "joins"})),
    "POST /api/admin/imports": StaffRoute(
        HALL_ADMIN, ALLOWED, lambda s: Ask(workbook=A_WORKBOOK, query={"kind": "items"}), spends=True
    ),
    "GET /api/admin/imports": StaffRoute(
        HALL_ADMIN, ALLOWED, spends=True, own=lambda s, who: Ask(shows=s.an_import_job(who))
    ),
    "GET /api/admin/imports/{import_id}": StaffRoute(
        HALL_ADMIN, ALLOWED, spends=True, own=lambda s, who: Ask(path={"import_id": s.an_import_job(who)})
    ),
    "POST /api/admin/imports/{import_id}/apply": StaffRoute(
        HALL_ADMIN, ALLOWED, spends=True, own=lambda s, who: Ask(path={"import_id": s.a_checked_import_job(who)})
    ),
    "POST /api/admin/imports/{import_id}/cancel": StaffRoute(
        HALL_ADMIN, ALLOWED, spends=True, own=lambda s, who: Ask(path={"import_id": s.an_import_job(who)})
    ),
    **of_dead_letters("catalog"),
    **of_dead_letters("booking"),
    **of_dead_letters("notify"),
    **of_dead_letters("admin"),
}

USERS: dict[str, UserRoute] = {
    "GET /api/booking/me": UserRoute(FILTERED, lambda s: Ask(shows=s.user_id)),
    "GET /api/booking/me/standing": UserRoute(FILTERED, lambda s: Ask(shows=s.hall["id"])),
    "PATCH /api/booking/me": UserRoute(ALLOWED, lambda s: Ask({"name": unique()})),
    "GET /api/booking/me/data": UserRoute(FILTERED, lambda s: Ask(shows=s.join["code"])),
    "DELETE /api/booking/me": UserRoute(ALLOWED, spends=True),
    "GET /api/booking/slots/{slot_id}/form": UserRoute(FILTERED, lambda s: Ask(shows="林小满")),
    "POST /api/booking/slots/{slot_id}/check": UserRoute(ALLOWED, lambda s: Ask({"people": 1})),
    "POST /api/booking/uploads": UserRoute(ALLOWED, lambda s: s.sending_a_photo()),
    "GET /api/booking/joins/{join_id}/files/{field}": UserRoute(
        NOT_FOUND, lambda s: Ask(path={"join_id": s.a_join_with_a_photo()}, shows="PNG")
    ),
    "POST /api/booking/joins": UserRoute(ALLOWED, booking_one),
    "GET /api/booking/joins": UserRoute(FILTERED, lambda s: Ask(shows=s.a_join()["id"])),
    "GET /api/booking/joins/{join_id}": UserRoute(NOT_FOUND, lambda s: Ask(shows=s.join["code"])),
    "GET /api/booking/joins/{join_id}.ics": UserRoute(NOT_FOUND, lambda s: Ask(shows=s.join["id"])),
    "GET /api/booking/joins/{join_id}/qr.svg": UserRoute(NOT_FOUND, lambda s: Ask(shows="<svg")),
    "POST /api/booking/joins/{join_id}/cancel": UserRoute(NOT_FOUND, lambda s: Ask(path={"join_id": s.a_join()["id"]})),
    "POST /api/booking/joins/{join_id}/move": UserRoute(
        NOT_FOUND, lambda s: Ask({"slot_id": s.next_slot["id"]}, path={"join_id": s.a_join()["id"]})
    ),
    "POST /api/booking/slots/{slot_id}/wait": UserRoute(
        ALLOWED,
        lambda s: Ask(
            {"attendees": [{"answers": {"name": "林小满"}}]},
            headers={"Idempotency-Key": unique()},
            path={"slot_id": s.a_full_slot()},
        ),
    ),
    "GET /api/booking/waits": UserRoute(FILTERED, lambda s: Ask(shows=s.a_wait()["id"])),
    "POST /api/booking/waits/{wait_id}/accept": UserRoute(NOT_FOUND, lambda s: Ask(path={"wait_id": s.an_offer()})),
    "POST /api/booking/waits/{wait_id}/leave": UserRoute(NOT_FOUND, lambda s: Ask(path={"wait_id": s.a_wait()["id"]})),
    "POST /api/booking/check-ins": UserRoute(NOTHING_TO_DO, lambda s: Ask({"code": s.a_door_code()})),
    "GET /api/notify/me": UserRoute(FILTERED, lambda s: Ask(shows=s.an_email())),
    # Of what is booked others want their user to hear.
    "PATCH /api/notify/me": UserRoute(ALLOWED, lambda s: Ask({"choices": {"missed": []}})),
    "PUT /api/notify/me/email": UserRoute(ALLOWED, lambda s: Ask({"email": "lin@example.com"}), spends=True),
    "POST /api/notify/me/email/confirm": UserRoute(NOTHING_TO_CONFIRM, lambda s: Ask({"code": s.a_code_of_an_email()})),
    "DELETE /api/notify/me/email": UserRoute(ALLOWED),  # of one's own
    "PUT /api/notify/me/phone": UserRoute(ALLOWED, lambda s: Ask({"phone": s.a_phone()}), spends=True),
    "POST /api/notify/me/phone/confirm": UserRoute(NOTHING_TO_CONFIRM, lambda s: Ask({"code": s.a_code_of_a_phone()})),
    "DELETE /api/notify/me/phone": UserRoute(ALLOWED),  # of one's own
    "POST /api/notify/grants": UserRoute(
        ALLOWED, lambda s: Ask({"code": s.a_wechat_code(), "accepted": [s.a_wechat_template()]})
    ),
    "GET /api/notify/notices": UserRoute(FILTERED, lambda s: Ask(shows=s.a_notice())),
    "POST /api/notify/notices/read": UserRoute(ALLOWED, lambda s: Ask({"ids": [s.a_notice()]})),
}

PUBLIC: dict[str, Asking] = {
    "GET /api/catalog/halls": plain,
    "GET /api/catalog/halls/{hall_id}": plain,
    "GET /api/catalog/halls/{hall_id}/days": plain,
    "GET /api/catalog/halls/{hall_id}/items": plain,
    "GET /api/catalog/categories": plain,
    "GET /api/catalog/items": plain,
    "GET /api/catalog/items/{item_id}": plain,
    "POST /api/booking/sessions": lambda s: Ask({"provider": "dev", "code": "somebody"}),
    "GET /api/notify/channels": plain,
    "GET /api/notify/announcements": plain,
    "GET /api/notify/announcements/{announcement_id}": plain,
    "POST /api/admin/sessions": lambda s: Ask({"username": "clerk", "password": PASSWORD}),
    "POST /api/admin/sessions/refresh": lambda s: Ask({"refresh_token": s.a_refresh_token()}),
    "GET /api/admin/exports/{export_id}/file": lambda s: s.by_a_link(),
}
ASKED = (*STAFF, *USERS, *PUBLIC)


def asked(route: str, scene: Scene, who: Headers) -> Ask:
    """Return the request of a route that succeeds for who may make it."""
    if route in STAFF:
        return STAFF[route].asking(scene, who)
    return USERS[route].ask(scene) if route in USERS else PUBLIC[route](scene)
