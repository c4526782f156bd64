"""Kinds of failure that domain code may raise. Which HTTP status each kind has is known to `problems` alone."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

Language = Literal["zh", "en"]


@dataclass(frozen=True)
class Texts:
    """One sentence in both languages; `{name}` stands for a parameter of the error."""

    en: str
    zh: str

    def render(self, language: Language, params: dict[str, Any]) -> str:
        return (self.en if language == "en" else self.zh).format_map(_Lenient(params))


class _Lenient(dict[str, Any]):
    def __missing__(self, key: str) -> str:
        return "…"


class HallpassError(Exception):
    """Something a caller can be told. A subclass names the situation by `code` and says it in `texts`.

    `params` are the facts that a client may branch on or show; they go out as JSON.
    """

    code: ClassVar[str] = "error"
    texts: ClassVar[Texts] = Texts(en="The request could not be carried out.", zh="请求无法完成")

    def __init__(self, **params: Any) -> None:
        super().__init__(self.code, params)
        self.params = params

    def sentence(self, language: Language) -> str:
        return self.texts.render(language, self.params)


class NotFound(HallpassError):
    code = "not_found"
    texts = Texts(en="There is nothing here under this address.", zh="没有找到相关内容")


class Conflict(HallpassError):
    code = "conflict"
    texts = Texts(en="This does not fit the present state; load it again and retry.", zh="内容已发生变化，请刷新后重试")


class Forbidden(HallpassError):
    code = "forbidden"
    texts = Texts(en="You may not do this.", zh="您没有权限进行此操作")


class Invalid(HallpassError):
    """Input that can't be accepted. `faults` lists {field, reason} for each fault where there are several.

    A reason is a word that stays. The edge's own refusals (`invalid`) add a sentence as `detail`.
    """

    code = "invalid"
    texts = Texts(en="The request has faults; see `params.faults`.", zh="提交的内容有误，请检查后重试")


class TooMany(HallpassError):
    """Raised with `retry_after_s`, the seconds after which it is worth trying again."""

    code = "too_many_requests"
    texts = Texts(en="Too many requests. Try again in {retry_after_s} s.", zh="操作过于频繁，请{retry_after_s}秒后再试")


class Unauthenticated(HallpassError):
    code = "unauthenticated"
    texts = Texts(en="Sign in first.", zh="请先登录")


class RangeUnfit(Invalid):
    """Whoever asked for such a range would find nothing, and not know why."""

    code = "range_unfit"
    texts = Texts(en="This range ends before it begins.", zh="范围的结束早于开始，请检查后重试")


def check_range(first: Any, last: Any) -> None:
    """Raise RangeUnfit where a range ends before it begins; None is an end that is open."""
    if first is not None and last is not None and first > last:
        raise RangeUnfit


class Stale(HallpassError):
    """The caller's version of the thing is not the present one (If-Match)."""

    code = "changed_meanwhile"
    texts = Texts(
        en="Somebody else has changed this meanwhile. Load it again, then repeat your change.",
        zh="内容已被他人修改，请刷新后重新修改",
    )


class Unversioned(HallpassError):
    code = "if_match_required"
    texts = Texts(
        en="Send the ETag that you loaded in an If-Match header.", zh="缺少 If-Match 请求头，请先加载最新内容"
    )


class Unavailable(HallpassError):
    """A part that is needed is away for now; nothing was changed."""

    code = "unavailable"
    texts = Texts(en="The service is busy or restarting. Try again in a moment.", zh="系统繁忙，请稍后再试")
