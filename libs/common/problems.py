"""Problem documents (RFC 9457): how an error is told to who asked, in their language."""

from functools import cache, lru_cache
from typing import Any

from prometheus_client import Counter
from pydantic import BaseModel
from pydantic_core import to_json

from libs.common import context, errors, metrics
from libs.common.errors import HallpassError, Invalid, Language, Texts, Unavailable
from libs.common.lean import Answer
from libs.common.moulds import Hole, Mould

STATUS_OF_KIND: dict[type[HallpassError], int] = {
    errors.Unauthenticated: 401,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.Stale: 412,
    errors.Invalid: 422,
    errors.Unversioned: 428,
    errors.TooMany: 429,
    errors.Unavailable: 503,
}
RETRY_AFTER_S = 1


class Problem(BaseModel):
    """A problem document (RFC 9457). Branch on `code`; `detail` is for people."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    params: dict[str, Any]
    request_id: str


class BadJson(Invalid):
    code = "bad_json"
    texts = Texts(en="The body is not valid JSON.", zh="请求内容不是有效的 JSON")


class BadForm(Invalid):
    code = "bad_form"
    texts = Texts(en="The body is not valid multipart/form-data.", zh="请求内容不是有效的 multipart/form-data")


class TooLarge(Invalid):
    code = "too_large"
    texts = Texts(en="The body is larger than {max_bytes} bytes.", zh="提交的内容过大，最多 {max_bytes} 字节")


class MethodNotAllowed(HallpassError):
    code = "method_not_allowed"
    texts = Texts(en="This address does not take this method.", zh="不支持的请求方法")


class Broken(HallpassError):
    code = "internal"
    texts = Texts(en="Something broke on our side. Quote request {request_id}.", zh="系统出错，请提供编号 {request_id}")


_STATUS_OF_CODE = {BadJson: 400, BadForm: 400, TooLarge: 413, MethodNotAllowed: 405, Broken: 500}


def status_of(error: HallpassError) -> int:
    """Return the HTTP status of a kind of error."""
    if type(error) in _STATUS_OF_CODE:
        return _STATUS_OF_CODE[type(error)]
    return next((status for kind, status in STATUS_OF_KIND.items() if isinstance(error, kind)), 400)


@lru_cache(maxsize=256)
def language_of(header: str) -> Language:
    """Choose zh or en by an Accept-Language header (RFC 9110, 12.5.4); Chinese where it names neither."""
    best: tuple[float, Language] = (0.0, "zh")
    for part in header.split(","):
        tag, _, parameter = part.strip().partition(";")
        try:
            quality = float(parameter.strip().removeprefix("q=")) if parameter else 1.0
        except ValueError:
            continue
        primary = tag.strip().lower().split("-")[0]
        if primary == "zh" and quality > best[0]:
            best = (quality, "zh")
        elif primary == "en" and quality > best[0]:
            best = (quality, "en")
    return best[1]


def problem(error: HallpassError, accept_language: str, *, service: str) -> Answer:
    """Render an error as a problem document in the caller's language."""
    language = language_of(accept_language)
    _problems_counted(service, error.code).inc()
    try:
        kind: Any = type(error)  # mypy takes a class with its instances' __hash__ for unhashable
        document = _kept_document(kind, tuple(error.params.items()), language)
    except TypeError:  # params that hold lists
        document = _document(error, language)
    headers = {"Content-Language": "zh-CN" if language == "zh" else "en"}
    if isinstance(error, errors.TooMany):
        headers["Retry-After"] = str(error.params.get("retry_after_s", RETRY_AFTER_S))
    if isinstance(error, Unavailable):
        headers["Retry-After"] = str(RETRY_AFTER_S)
    if isinstance(error, errors.Unauthenticated):
        headers["WWW-Authenticate"] = "Bearer"
    body = document.filled(request_id=to_json(context.request_id()))
    return Answer(status_of(error), body, media_type="application/problem+json", headers=headers)


def _document(error: HallpassError, language: Language) -> Mould:
    return Mould(
        {
            "type": f"urn:hallpass:problem:{error.code}",
            "title": error.code.replace("_", " "),
            "status": status_of(error),
            "detail": error.sentence(language),
            "code": error.code,
            "params": error.params,
            "request_id": Hole("request_id"),
        }
    )


@lru_cache(maxsize=1024)
def _kept_document(kind: type[HallpassError], params: tuple[tuple[str, Any], ...], language: Language) -> Mould:
    """Make the document once for the crowd that is told the same."""
    return _document(kind(**dict(params)), language)


@cache
def _problems_counted(service: str, code: str) -> Counter:
    return metrics.PROBLEMS.labels(service, code)
