"""What is wrong with a request, fault by fault: where, a reason that stays, and a sentence in the caller's language."""

from collections.abc import Mapping
from typing import Any

from libs.common.errors import Language, Texts

MOST = 50

_WHOLE = Texts(en="has to be a whole number", zh="必须是整数")
_NUMBER = Texts(en="has to be a number", zh="必须是数字")
_SWITCH = Texts(en="has to be true or false", zh="必须是 true 或 false")
_FORM = Texts(en="does not have the right form", zh="格式不正确")
_OBJECT = Texts(en="has to be an object", zh="必须是对象")
_ONE_OF = Texts(en="has to be {expected}", zh="只能是 {expected}")
_TIME = Texts(en="has to be a time of day, written HH:MM", zh="必须是 HH:MM 格式的时间")
_OTHER = Texts(en="can't be accepted", zh="内容有误")

# By reason: Pydantic's type of error, or a word of our own. What stands in braces is in Pydantic's `ctx`.
SENTENCES: dict[str, Texts] = {
    "missing": Texts(en="is missing", zh="必须填写"),
    "extra_forbidden": Texts(en="is not asked for", zh="不是可以提交的内容"),
    "unknown_parameter": Texts(en="there is no such parameter", zh="没有此参数"),
    "string_type": Texts(en="has to be text", zh="必须是文字"),
    "string_too_short": Texts(en="has to have at least {min_length} characters", zh="至少需要{min_length}个字符"),
    "string_too_long": Texts(en="may have at most {max_length} characters", zh="最多{max_length}个字符"),
    "string_pattern_mismatch": _FORM,
    "nothing_to_read": Texts(en="must hold something to read", zh="请填写可见的文字"),
    "control_characters": Texts(en="may not hold control characters", zh="不能包含控制字符"),
    "int_type": _WHOLE,
    "int_parsing": _WHOLE,
    "int_parsing_size": _WHOLE,
    "int_from_float": _WHOLE,
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "finite_number": _NUMBER,
    "bool_type": _SWITCH,
    "bool_parsing": _SWITCH,
    "greater_than_equal": Texts(en="has to be at least {ge}", zh="不能小于{ge}"),
    "greater_than": Texts(en="has to be more than {gt}", zh="必须大于{gt}"),
    "less_than_equal": Texts(en="may be at most {le}", zh="不能大于{le}"),
    "less_than": Texts(en="has to be less than {lt}", zh="必须小于{lt}"),
    "list_type": Texts(en="has to be a list", zh="必须是列表"),
    "too_short": Texts(en="has to have at least {min_length} entries", zh="至少需要{min_length}项"),
    "too_long": Texts(en="may have at most {max_length} entries", zh="最多{max_length}项"),
    "dict_type": _OBJECT,
    "model_type": _OBJECT,
    "model_attributes_type": _OBJECT,
    "enum": _ONE_OF,
    "literal_error": _ONE_OF,
    "repeated": Texts(en="may name each one only once", zh="不能重复"),
    "not_an_id": Texts(en="is no id", zh="不是有效的编号"),
    "not_a_url": Texts(en="has to be the address of a web server", zh="不是有效的网址"),
    "not_a_date": Texts(en="has to be a date, written YYYY-MM-DD", zh="必须是 YYYY-MM-DD 格式的日期"),
    "date_from_datetime_parsing": Texts(en="is no date of the calendar", zh="不是有效的日期"),
    "date_out_of_range": Texts(en="has to lie between {first} and {last}", zh="必须在 {first} 至 {last} 之间"),
    "not_an_instant": Texts(
        en="has to be an instant with an offset, written YYYY-MM-DDTHH:MM:SS+08:00",
        zh="必须是带时区的时间，格式如 2026-01-01T09:00:00+08:00",
    ),
    "timezone_aware": Texts(en="has to have an offset, like +08:00", zh="缺少时区，如 +08:00"),
    "not_a_time": _TIME,
    "time_parsing": _TIME,
    "not_a_period": Texts(en="has to end at another time than it starts", zh="开始和结束时间不能相同"),
}


def fault(field: str, reason: str, language: Language, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Describe one fault as clients read it."""
    sentence = SENTENCES.get(reason, _OTHER).render(language, dict(params or {}))
    return {"field": field, "reason": reason, "detail": sentence}


def of_validation(found: Mapping[str, Any], language: Language) -> dict[str, Any]:
    """Describe an error of Pydantic's. For reasons that have no sentence here, English readers get Pydantic's own."""
    field, reason = ".".join(str(step) for step in found["loc"]), str(found["type"])
    params = {name: _listed(value, language) for name, value in (found.get("ctx") or {}).items()}
    described = fault(field, reason, language, params)
    if language == "en" and reason not in SENTENCES:
        described["detail"] = str(found["msg"]).removeprefix("Value error, ")
    return described


def _listed(value: Any, language: Language) -> Any:
    # Pydantic joins what it expects in English: 'draft', 'open' or 'closed'.
    if language == "zh" and isinstance(value, str):
        return value.replace(" or ", "、").replace(", ", "、")
    return value
