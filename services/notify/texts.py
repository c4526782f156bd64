"""The words of notices, in both languages: what is said where no operator has written anything else."""

from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from functools import cache
from typing import Any

from libs.common.errors import Language, Texts
from services.notify import wording

WEEKDAYS_ZH = ("周一", "周二", "周三", "周四", "周五", "周六", "周日")
WEEKDAYS_EN = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MONTHS_EN = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class NoticeKind(StrEnum):
    BOOKED = "booked"
    RESTORED = "restored"
    CANCELLED = "cancelled"
    REVOKED = "revoked"
    MOVED = "moved"
    CHECKED_IN = "checked_in"
    MISSED = "missed"
    COOLING_OFF = "cooling_off"
    REMINDER = "reminder"
    SLOT_CHANGED = "slot_changed"
    ANNOUNCEMENT = "announcement"
    WAITING_OFFERED = "waiting_offered"
    WAITING_ENDED = "waiting_ended"


ABOUT_NO_JOIN = frozenset({NoticeKind.ANNOUNCEMENT, NoticeKind.WAITING_OFFERED, NoticeKind.WAITING_ENDED})

TO_MANY = frozenset(
    {NoticeKind.ANNOUNCEMENT}
)  # in one channel they let everything go first that is about somebody's own


@dataclass(frozen=True)
class NoticeTexts:
    title: Texts
    body: Texts


TEXTS: dict[NoticeKind, NoticeTexts] = {
    NoticeKind.BOOKED: NoticeTexts(
        title=Texts(en="Booked", zh="预约成功"),
        body=Texts(
            en="You have booked {item} at {hall} for {people}: {when}.",
            zh="您已预约{hall}的「{item}」，共{people}，时间：{when}。",
        ),
    ),
    NoticeKind.RESTORED: NoticeTexts(
        title=Texts(en="Booking restored", zh="预约已恢复"),
        body=Texts(
            en="{hall} has given you your booking of {item} for {people} back: {when}.",
            zh="{hall}已恢复您的「{item}」预约，共{people}，时间：{when}。",
        ),
    ),
    NoticeKind.CANCELLED: NoticeTexts(
        title=Texts(en="Booking cancelled", zh="预约已取消"),
        body=Texts(
            en="You have cancelled {item} at {hall} for {people}: {when}.",
            zh="您已取消{hall}的「{item}」预约，共{people}，原定时间：{when}。",
        ),
    ),
    NoticeKind.REVOKED: NoticeTexts(
        title=Texts(en="Booking revoked by the hall", zh="预约被服务厅取消"),
        body=Texts(
            en="{hall} has revoked your booking of {item} for {people}: {when}. Reason: {reason}",
            zh="{hall}取消了您的「{item}」预约，共{people}，原定时间：{when}。原因：{reason}",
        ),
    ),
    NoticeKind.MOVED: NoticeTexts(
        title=Texts(en="Booking moved", zh="预约已改期"),
        body=Texts(
            en="Your booking of {item} at {hall} for {people} is now {when}; it was {left}.",
            zh="您在{hall}的「{item}」预约（共{people}）已由{left}改到{when}。",
        ),
    ),
    NoticeKind.CHECKED_IN: NoticeTexts(
        title=Texts(en="Checked in", zh="签到成功"),
        body=Texts(
            en="Checked in at {hall} for {item}, {people}: {when}.",
            zh="您已在{hall}签到：「{item}」，共{people}，时间：{when}。",
        ),
    ),
    NoticeKind.MISSED: NoticeTexts(
        title=Texts(en="Booking missed", zh="预约未到场"),
        body=Texts(
            en="Nobody checked in for your booking of {item} at {hall} for {people}: {when}. "
            "If you can't come next time, please cancel before it starts.",
            zh="您在{hall}的「{item}」预约（共{people}）未签到，时间：{when}。下次如不能前来，请提前取消。",
        ),
    ),
    NoticeKind.COOLING_OFF: NoticeTexts(
        title=Texts(en="Booking missed: booking is paused", zh="预约未到场，暂停预约"),
        body=Texts(
            en="Nobody checked in for your booking of {item} at {hall} for {people}: {when}. "
            "As you have missed several, you can book at {hall} again from {again}.",
            zh="您在{hall}的「{item}」预约（共{people}）未签到，时间：{when}。因多次未到场，{again}起可再次预约{hall}。",
        ),
    ),
    NoticeKind.REMINDER: NoticeTexts(
        title=Texts(en="Your booking is coming up", zh="预约即将开始"),
        body=Texts(
            en="You are expected at {hall} for {item}, {people}: {when}. If you can't come, please cancel in time.",
            zh="请您按时前往{hall}办理「{item}」，共{people}，时间：{when}。如不能前来，请提前取消。",
        ),
    ),
    NoticeKind.SLOT_CHANGED: NoticeTexts(
        title=Texts(en="The hall has changed your time slot", zh="预约时段有变动"),
        body=Texts(
            en="{hall} has changed the slot of your booking of {item} for {people}: {when}.{?left} It was {left}.{/left}"
            "{?closed} It is {closed} now: please ask the hall before you come.{/closed}{?opened} It is {opened} again.{/opened}",
            zh="{hall}变更了您的「{item}」预约时段（共{people}）：{when}。{?left}原定时间：{left}。{/left}"
            "{?closed}该时段{closed}，前来之前请向服务厅确认。{/closed}{?opened}该时段{opened}。{/opened}",
        ),
    ),
    NoticeKind.ANNOUNCEMENT: NoticeTexts(
        title=Texts(en="{title}", zh="{title}"),
        body=Texts(en="{summary}", zh="{summary}"),
    ),
    NoticeKind.WAITING_OFFERED: NoticeTexts(
        title=Texts(en="A place for you", zh="候补名额已保留"),
        body=Texts(
            en="{item} at {hall}, {when}: places for {people} are held for you until {until}. Accept them before, or they "
            "go to the next.",
            zh="您候补的{hall}「{item}」（{when}）已为您保留{people}的名额，请于{until}前确认，逾期将让给下一位。",
        ),
    ),
    NoticeKind.WAITING_ENDED: NoticeTexts(
        title=Texts(en="No longer waiting", zh="候补已结束"),
        body=Texts(
            en="You are no longer waiting for {item} at {hall} for {people}: {when}. {ended}",
            zh="您对{hall}「{item}」（{when}，{people}）的候补已结束。{ended}",
        ),
    ),
}

CHANGES = {"closed": Texts(en="closed", zh="已关闭"), "opened": Texts(en="open", zh="已重新开放")}

# How a wait ended, as its user is told.
ENDED: dict[str, Texts] = {
    "expired": Texts(en="The places were not accepted in time.", zh="未在规定时间内确认名额。"),
    "refused": Texts(
        en="There was a place, but you can't book it by the rules for booking.", zh="有空余名额，但您已不符合预约规则。"
    ),
    "closed": Texts(en="Nobody can wait for it any more.", zh="该时段的候补已截止。"),
    "removed": Texts(en="The hall has ended it. Reason: {reason}", zh="服务厅已取消您的候补。原因：{reason}"),
    "disabled": Texts(en="Your account may not book.", zh="您的账号已被停用。"),
}


# What notices know besides what their own texts here name.
OF_JOINS_AND_WAITS = frozenset({"hall", "item", "people", "count", "when", "date", "start", "end", "reason"})
OF_ANNOUNCEMENTS = frozenset({"hall", "title", "summary"})
_LEFT_IN_PARTS = frozenset({"left_date", "left_start"})
IN_PARTS: dict[NoticeKind, frozenset[str]] = {  # without the weekday, which keywords of WeChat for dates do not take
    NoticeKind.MOVED: _LEFT_IN_PARTS,
    NoticeKind.SLOT_CHANGED: _LEFT_IN_PARTS,
    NoticeKind.COOLING_OFF: frozenset({"again_date"}),
}

_HALL = "天河政务中心"
_REASON = "系统维护"
_USUAL = {
    "hall_name": _HALL,
    "item_title": "护照办理",
    "date": "2026-11-03",
    "start": "09:00",
    "end": "10:00",
    "reason": "",
}
_LEFT = {"left_date": "2026-11-02", "left_start": "14:00"}
_NEWS = {"hall_name": "", "title": "国庆放假安排", "summary": "十月一日至七日各服务厅暂停服务。"}

# Facts to try the templates of a kind on that tells others than most: first with all that it may tell, then with less.
_SAMPLES: dict[NoticeKind, tuple[dict[str, Any], ...]] = {
    NoticeKind.MOVED: (_USUAL | _LEFT,),
    NoticeKind.COOLING_OFF: (_USUAL | {"again_date": "2026-11-17"},),
    NoticeKind.SLOT_CHANGED: (_USUAL | _LEFT | {"change": "closed"}, _USUAL | _LEFT, _USUAL | {"change": "opened"}),
    NoticeKind.ANNOUNCEMENT: (_NEWS | {"hall_name": _HALL}, _NEWS),
    NoticeKind.WAITING_OFFERED: (_USUAL | {"until": "2026-11-02T18:00:00+08:00"},),
    NoticeKind.WAITING_ENDED: (_USUAL | {"outcome": "removed", "reason": _REASON}, _USUAL | {"outcome": "expired"}),
}


def samples_of(kind: NoticeKind, language: Language) -> list[dict[str, str]]:
    """Return facts to try a template of this kind on, as `words` gives them: the fullest, then those that lack some."""
    tried = _SAMPLES.get(kind, (_USUAL | {"reason": _REASON}, _USUAL))
    return [words(params, people=2, language=language) for params in tried]


@cache
def facts_of(kind: NoticeKind) -> frozenset[str]:
    """Return the facts that a template of this kind may name."""
    if kind is NoticeKind.ANNOUNCEMENT:
        return OF_ANNOUNCEMENTS
    own = TEXTS[kind]
    texts = (own.title.zh, own.title.en, own.body.zh, own.body.en)
    return OF_JOINS_AND_WAITS.union(*(wording.names(text) for text in texts), IN_PARTS.get(kind, ()))


def confirmation(code: str, language: Language) -> tuple[str, str]:
    """Return title and body of the mail that carries the code of an address."""
    title = Texts(en="Your code: {code}", zh="验证码：{code}")
    body = Texts(
        en="The code for receiving notices at this address is {code}. It is good for 15 minutes. "
        "If you did not ask for it, leave this mail unanswered: nothing will be sent to you.",
        zh="您用于接收通知的邮箱验证码为 {code}，15分钟内有效。如非本人操作，请忽略本邮件。",
    )
    return title.render(language, {"code": code}), body.render(language, {"code": code})


def words(params: dict[str, Any], *, people: int, language: Language) -> dict[str, str]:
    """Return the facts of a notice as its reader says them; empty where there is none."""
    if "date" not in params:  # an announcement
        return {"hall": params["hall_name"], "title": params["title"], "summary": params["summary"]}
    said = {
        "hall": params["hall_name"],
        "item": params["item_title"],
        "people": _people(people, language),
        "count": str(people),
        "when": f"{_day(params['date'], language)} {params['start']}-{params['end']}",
        "date": _date(params["date"], language),
        "start": params["start"],
        "end": params["end"],
        "reason": params["reason"],
    }
    if "left_date" in params:
        said["left"] = f"{_day(params['left_date'], language)} {params['left_start']}"
        said |= {"left_date": _date(params["left_date"], language), "left_start": params["left_start"]}
    if "again_date" in params:
        said |= {"again": _day(params["again_date"], language), "again_date": _date(params["again_date"], language)}
    if "change" in params:
        said[params["change"]] = CHANGES[params["change"]].render(language, {})
    if "until" in params:
        until = datetime.fromisoformat(params["until"])
        said["until"] = f"{_date(until.date().isoformat(), language)} {until.strftime('%H:%M')}"
    if "outcome" in params:
        said["ended"] = ENDED[params["outcome"]].render(language, said)
    return said


def _people(people: int, language: Language) -> str:
    if language == "zh":
        return f"{people}人"
    return "1 person" if people == 1 else f"{people} people"


def _date(iso: str, language: Language) -> str:
    day = date.fromisoformat(iso)
    if language == "zh":
        return f"{day.year}年{day.month}月{day.day}日"
    return f"{day.day} {MONTHS_EN[day.month - 1]} {day.year}"


def _day(iso: str, language: Language) -> str:
    weekday = date.fromisoformat(iso).weekday()
    if language == "zh":
        return f"{_date(iso, language)}（{WEEKDAYS_ZH[weekday]}）"
    return f"{WEEKDAYS_EN[weekday]} {_date(iso, language)}"
