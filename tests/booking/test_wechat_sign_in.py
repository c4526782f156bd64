"""Signing in by WeChat: a code stands for one person, once."""

from collections.abc import Callable, Iterator
from functools import partial

import httpx2
import pytest

from libs.common.wechat import WeChat
from services.booking import resources
from tests.notify.servers import WeChatServer
from tests.world import World


@pytest.fixture
def wechat() -> WeChatServer:
    return WeChatServer()


@pytest.fixture
def wechat_world(
    make_world: Callable[..., World], wechat: WeChatServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[World]:
    monkeypatch.setattr(resources, "WeChat", partial(WeChat, timeout_s=60))  # ours may stand still for seconds
    with wechat.running() as url:
        yield make_world(wechat_appid="wx-test", wechat_secret="a-wechat-secret", wechat_base_url=url)


def sign_in(world: World, code: str) -> httpx2.Response:
    return world.client.post("/api/booking/sessions", json={"provider": "wechat", "code": code})


def test_the_same_person_is_the_same_user(wechat_world: World, wechat: WeChatServer) -> None:
    wechat.codes = {"one": "openid-lin", "two": "openid-lin", "three": "openid-wang"}

    lin, again, wang = (sign_in(wechat_world, code).json()["user"]["id"] for code in ("one", "two", "three"))

    assert lin == again != wang


def test_a_code_is_good_once(wechat_world: World, wechat: WeChatServer) -> None:
    wechat.codes = {"one": "openid-lin"}

    first, second = sign_in(wechat_world, "one"), sign_in(wechat_world, "one")

    assert (first.status_code, second.status_code) == (201, 401)
    assert second.json()["code"] == "sign_in_refused"


def test_a_wechat_that_is_away_is_told_as_such(make_world: Callable[..., World]) -> None:
    world = make_world(wechat_appid="wx-test", wechat_secret="a-wechat-secret", wechat_base_url="http://127.0.0.1:9")

    answer = sign_in(world, "one")

    assert (answer.status_code, answer.json()["code"]) == (503, "provider_unavailable")
