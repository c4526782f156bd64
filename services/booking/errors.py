"""Every refusal of booking, by the situation it names."""

from typing import ClassVar

from libs.common.errors import (
    Conflict,
    Forbidden,
    Invalid,
    Language,
    NotFound,
    Texts,
    TooMany,
    Unauthenticated,
    Unavailable,
)

# --- joining, in the order in which the rules are asked ---


class SlotNotFound(NotFound):
    code = "slot_not_found"
    texts = Texts(en="There is no such time slot. Choose another.", zh="预约时段选择错误，请重新选择")


class UserDisabled(Forbidden):
    code = "user_disabled"
    texts = Texts(en="Your account may not book. Ask the service desk.", zh="您的账号已被停用，如有疑问请联系服务厅")


class UserErased(Conflict):
    code = "user_erased"
    texts = Texts(
        en="The person has been erased: nothing can be done for them any more.", zh="该用户已注销，无法再为其操作"
    )


class PersonDisabled(Conflict):
    """What staff are told, where the user is told UserDisabled."""

    code = "person_disabled"
    texts = Texts(en="The person is disabled: they get no place.", zh="该用户已被停用，无法为其安排名额")


class CoolingOff(Conflict):
    """The user has missed too many visits to the hall. They may book there again at `until`, which is `date` at the hall."""

    code = "cooling_off"
    texts = Texts(
        en="You have missed too many visits to this hall. You can book here again from {date}.",
        zh="您在该服务厅多次预约未到场，已暂停预约，{date}起可再次预约",
    )


class ItemNotOpen(Conflict):
    code = "item_not_open"
    texts = Texts(en="This is not open for booking at present.", zh="该预约项目当前未开放预约")


class SlotClosed(Conflict):
    code = "slot_closed"
    texts = Texts(en="This time slot has been closed. Choose another.", zh="该时段预约已经关闭，请选择其他")


class TooEarly(Conflict):
    code = "too_early"
    texts = Texts(en="Booking for this time slot opens at {opens_at}.", zh="该时段尚未开放预约，开放时间：{opens_at}")


class SlotEnded(Conflict):
    code = "slot_ended"
    texts = Texts(en="Booking for this time slot is over. Choose another.", zh="该时段已结束，无法预约，请选择其他")


class PartyTooLarge(Invalid):
    code = "party_too_large"
    texts = Texts(
        en="One booking is for 1 to {party_max} people; you asked for {people}.",
        zh="每次可预约1至{party_max}人，您提交了{people}人",
    )


class AlreadyJoined(Conflict):
    """`limit` says which: max_per_slot, max_per_day or max_ahead."""

    code = "already_joined"
    texts = Texts(
        en="You hold {held} places already and may hold {allowed} here.",
        zh="您已预约{held}人，最多可预约{allowed}人，不能继续预约",
    )


class SlotFull(Conflict):
    code = "slot_full"
    texts = Texts(
        en="Only {left} places are left in this time slot; you asked for {people}.",
        zh="本时段最多还可以预约{left}人，您当前提交了{people}人，请调整后再提交",
    )
    _none_left = Texts(en="This time slot is full. Choose another.", zh="该时段预约人员已满，请选择其他")

    def sentence(self, language: Language) -> str:
        texts = self.texts if self.params.get("left") else self._none_left
        return texts.render(language, self.params)


FAULTS: dict[str, Texts] = {
    "required": Texts(en="is required", zh="必须填写"),
    "unknown_field": Texts(en="is not asked for", zh="不是本表单的内容"),
    "wrong_type": Texts(en="has the wrong kind of value", zh="内容类型不正确"),
    "too_short": Texts(en="is too short", zh="内容太短"),
    "too_long": Texts(en="is too long", zh="内容太长"),
    "too_small": Texts(en="is too small", zh="数值太小"),
    "too_large": Texts(en="is too large", zh="数值太大"),
    "too_few": Texts(en="has too few choices", zh="选择的数量太少"),
    "too_many": Texts(en="has too many choices", zh="选择的数量太多"),
    "not_an_option": Texts(en="is not one of the options", zh="不在可选范围内"),
    "bad_format": Texts(en="does not have the right form", zh="格式不正确"),
    "bad_checksum": Texts(en="has a wrong digit", zh="号码校验不通过，请核对"),
    "bad_characters": Texts(en="holds characters that can't be used", zh="含有无法使用的字符"),
    "not_an_upload": Texts(en="is no file that you have sent for it", zh="不是您为此项上传的文件"),
    "upload_expired": Texts(en="was sent more than a day ago; send it again", zh="上传已超过一天，请重新上传"),
}


class FormInvalid(Invalid):
    """`faults` lists {attendee, field, label, reason}; attendee counts from 1, reason is a key of FAULTS."""

    code = "form_invalid"
    _one = Texts(en="Attendee {attendee}: {label} {what}.", zh="第{attendee}位：{label}{what}")

    def sentence(self, language: Language) -> str:
        sentences = []
        for fault in self.params["faults"][:5]:
            what = FAULTS[fault["reason"]].render(language, {})
            sentences.append(self._one.render(language, fault | {"what": what}))
        return (" " if language == "en" else "；").join(sentences)


class PersonAlreadyJoined(Conflict):
    """`attendee` counts from 1; `field` names the answer that is booked already; `scope` is slot, day or item."""

    code = "person_already_joined"
    texts = Texts(
        en="Attendee {attendee}: this {label} is booked already.", zh="第{attendee}位的{label}已经预约过，不能重复预约"
    )


class KeyRequired(Invalid):
    code = "idempotency_key_required"
    texts = Texts(
        en="Send an Idempotency-Key header of 1 to 200 visible characters, new for each booking.",
        zh="缺少 Idempotency-Key 请求头（1至200个可见字符，每次预约使用新的值）",
    )


class KeyReused(Conflict):
    code = "idempotency_key_reused"
    texts = Texts(
        en="This Idempotency-Key was used for another booking. Send a new one.",
        zh="该 Idempotency-Key 已用于另一次预约，请使用新的值",
    )


# --- files ---


class UploadTooLarge(Invalid):
    code = "upload_too_large"
    texts = Texts(en="The file is larger than {max_bytes} bytes.", zh="文件过大，最多 {max_bytes} 字节")


class UploadUnfit(Invalid):
    """`reason`: no_image, kind_not_taken, broken, too_much_inside, or too_many_pixels (with `most`)."""

    code = "upload_unfit"
    _reasons: ClassVar[dict[str, Texts]] = {
        "no_image": Texts(en="This is no JPEG or PNG image.", zh="请上传 JPEG 或 PNG 图片"),
        "kind_not_taken": Texts(
            en="Send a PDF, JPEG, PNG, Word (.docx) or Excel (.xlsx) file without macros.",
            zh="请上传 PDF、JPEG、PNG、Word（.docx）或 Excel（.xlsx）文件，不含宏",
        ),
        "broken": Texts(en="The file is damaged or locked.", zh="文件已损坏或已加密"),
        "too_much_inside": Texts(en="The file holds too much.", zh="文件内容过多"),
        "too_many_pixels": Texts(en="The image has more than {most} pixels.", zh="图片像素过多，最多 {most} 像素"),
    }

    def sentence(self, language: Language) -> str:
        return self._reasons[self.params["reason"]].render(language, self.params)


class FileMasked(Forbidden):
    code = "file_masked"
    texts = Texts(
        en="This file is sensitive. Ask for it with a reason, which is recorded.",
        zh="该文件为敏感内容，请填写原因后查看",
    )


# --- cancelling and moving ---


class JoinNotBooked(Conflict):
    code = "join_not_booked"
    texts = Texts(en="This booking is no longer valid (it is {status}).", zh="该预约已失效，无法进行此操作")


class CheckedInAlready(Conflict):
    """The join was checked in, at `checked_in_at`."""

    code = "already_checked_in"
    texts = Texts(en="Checked in already at {checked_in_at}.", zh="该预约已签到，签到时间：{checked_in_at}")


class CancelNever(Conflict):
    code = "cancel_never"
    texts = Texts(en="Bookings of this kind can't be cancelled.", zh="该预约不能取消")


class CancelTooLate(Conflict):
    code = "cancel_too_late"
    texts = Texts(en="It could be cancelled until {until}.", zh="已超过可取消时间（{until}），无法取消")


class MoveElsewhere(Conflict):
    code = "move_to_other_item"
    texts = Texts(en="A booking can be moved within the same item only.", zh="只能改约到同一预约项目的其他时段")


class SameSlot(Conflict):
    code = "same_slot"
    texts = Texts(en="The booking is for this time slot already.", zh="该预约已在此时段，无需改约")


# --- at the door and at the desk ---


class JoinNotFound(NotFound):
    code = "join_not_found"
    texts = Texts(en="There is no booking with this code here.", zh="没有找到该预约记录")


class NotCheckInTime(Conflict):
    code = "not_check_in_time"
    texts = Texts(
        en="Check-in is from {opens_at} to {closes_at}.", zh="当前不在签到时间内，签到时间：{opens_at} 至 {closes_at}"
    )


class OverrideForbidden(Forbidden):
    code = "override_forbidden"
    texts = Texts(en="You may not check in outside the time for it.", zh="您无权在签到时间外办理签到")


class NotCheckedIn(Conflict):
    code = "not_checked_in"
    texts = Texts(en="This booking is not checked in.", zh="该预约尚未签到")


class NotRevoked(Conflict):
    code = "not_revoked"
    texts = Texts(en="Only a revoked booking can be restored.", zh="只有后台取消的预约才能恢复")


class DoorCodeInvalid(Invalid):
    code = "door_code_invalid"
    texts = Texts(
        en="This code is not valid any more. Scan the one on the screen.", zh="签到码无效或已过期，请重新扫描现场屏幕"
    )


class NothingToCheckIn(Conflict):
    code = "nothing_to_check_in"
    texts = Texts(en="You have no booking here that can be checked in now.", zh="您当前在此服务厅没有可签到的预约")


# --- waiting ---


class WaitingOff(Conflict):
    code = "waiting_off"
    texts = Texts(en="Nobody can wait for this time slot. Choose another.", zh="该时段不支持候补，请选择其他")


class SlotNotFull(Conflict):
    code = "slot_not_full"
    texts = Texts(en="There are places left in this time slot: book it.", zh="该时段还有名额，请直接预约")


class WaitingAlready(Conflict):
    code = "waiting_already"
    texts = Texts(en="You are waiting for this time slot already.", zh="您已在候补该时段，请勿重复提交")


class OfferedAlready(Conflict):
    """Places in the slot are held for the user, until `until`: there is no other way to them than to accept (`wait_id`)."""

    code = "offered_already"
    texts = Texts(
        en="Places in this time slot are held for you until {until}: accept them.",
        zh="该时段已为您保留名额，请在{until}前确认候补名额",
    )


class LineFull(Conflict):
    code = "line_full"
    texts = Texts(
        en="{most} parties wait for this time slot already. Choose another.",
        zh="该时段候补人数已满（最多{most}组），请选择其他",
    )


class WaitNotFound(NotFound):
    code = "wait_not_found"
    texts = Texts(en="There is no such place in a line.", zh="没有找到该候补记录")


class WaitOver(Conflict):
    """`outcome` says how it ended."""

    code = "wait_over"
    texts = Texts(en="You are not waiting for this any more.", zh="该候补已结束")


class NothingOffered(Conflict):
    code = "nothing_offered"
    texts = Texts(en="No place has been offered to you yet.", zh="还没有为您保留的名额，请等待通知")


# --- users ---


class NothingToForgive(Conflict):
    code = "nothing_to_forgive"
    texts = Texts(en="There is no missed visit here that counts.", zh="没有可免除的失约记录")


class PhoneInvalid(Invalid):
    code = "phone_invalid"
    texts = Texts(en="This is not a mobile number.", zh="手机号格式不正确")


# --- what staff ask ---


class NotOneChosen(Invalid):
    code = "not_one_chosen"
    texts = Texts(en="Name exactly one of hall_id, item_id and slot_id.", zh="请只指定服务厅、预约项目、时段中的一个")


# --- signing in ---


class ProviderUnknown(Invalid):
    code = "provider_unknown"
    texts = Texts(en="This way of signing in is not offered here.", zh="不支持该登录方式")


class SignInRefused(Unauthenticated):
    code = "sign_in_refused"
    texts = Texts(
        en="The sign-in code is wrong, used or expired. Start the sign-in again.", zh="登录凭证无效或已使用，请重新登录"
    )


class SignInBlocked(Forbidden):
    code = "sign_in_blocked"
    texts = Texts(en="WeChat has blocked this account.", zh="该微信账号存在风险，无法登录")


class ProviderDown(Unavailable):
    code = "provider_unavailable"
    texts = Texts(en="WeChat does not answer. Try again in a moment.", zh="微信登录服务繁忙，请稍后再试")


class UnmaskedForbidden(Forbidden):
    code = "unmasked_forbidden"
    texts = Texts(
        en="Sensitive values in clear are for an export that was asked for with a reason and the password.",
        zh="仅填写原因并验证密码的导出任务可以读取未脱敏的内容",
    )


# --- imports ---


class HallUnknown(Invalid):
    code = "hall_unknown"
    texts = Texts(en="There is no hall of this name or id.", zh="没有该名称或编号的服务厅")


class HallAmbiguous(Invalid):
    code = "hall_ambiguous"
    texts = Texts(en="Several halls have this name: write the hall's id.", zh="有多个同名的服务厅，请填写编号")


class ItemUnknown(Invalid):
    code = "item_unknown"
    texts = Texts(en="The hall has no item of this title.", zh="该服务厅没有这个预约项目")


class ItemAmbiguous(Invalid):
    code = "item_ambiguous"
    texts = Texts(
        en="Several items of the hall have this title: rename one of them.", zh="该服务厅有多个同名的项目，请先改名"
    )


class BookedAlready(Conflict):
    """`scope` is slot, day or item."""

    code = "booked_already"
    texts = Texts(en="This is booked already, or stands in a row above.", zh="已经预约过，或与上面的行重复")


class ClashesTooMany(TooMany):
    code = "too_many_clashes"
    texts = Texts(
        en="Too many of your imports have met people who are booked already. Try again tomorrow.",
        zh="您的多次导入中有人已经预约过，请明天再试",
    )
