"""What notify refuses, and how it says so."""

from libs.common.errors import Conflict, Forbidden, Invalid, Language, Texts, Unavailable


class AnnouncementTold(Conflict):
    code = "announcement_told"
    texts = Texts(
        en="This announcement is told to its readers already; whom it is told to can't be changed any more.",
        zh="该公告已开始通知读者，不能再更改通知范围",
    )


_FAULTS: dict[str, Texts] = {
    "unknown_fact": Texts(en="there is no {{{said}}} in notices of this kind", zh="此类通知没有 {{{said}}}"),
    "stray_brace": Texts(en="a brace does not belong here: {said}", zh="此处的大括号不正确：{said}"),
    "section_in_section": Texts(en="{{?{said}}} stands within another section", zh="{{?{said}}} 不能嵌套"),
    "section_not_open": Texts(en="{{/{said}}} closes nothing", zh="{{/{said}}} 没有对应的开始"),
    "section_not_closed": Texts(en="{{?{said}}} is not closed", zh="{{?{said}}} 没有结束"),
    "too_long": Texts(en="on sample facts it has more than {said} characters", zh="示例内容超过{said}个字符"),
    "empty": Texts(en="on sample facts nothing is left", zh="示例内容为空"),
    "unfit": Texts(en="what it says does not fit the keyword's type: {said}", zh="内容不符合关键词类型：{said}"),
}


class TemplateFaulty(Invalid):
    """`faults` lists {field, reason, said} for each fault; a reason is a key of _FAULTS."""

    code = "template_faulty"

    def sentence(self, language: Language) -> str:
        said = [f"{one['field']}: {_FAULTS[one['reason']].render(language, one)}" for one in self.params["faults"]]
        return ("; " if language == "en" else "；").join(said)


# --- being reached ---


class ChannelOff(Conflict):
    """`channel` names it."""

    code = "channel_off"
    texts = Texts(en="This installation sends no notices this way.", zh="本系统未开通该通知方式")


class EmailUnfit(Invalid):
    code = "email_unfit"
    texts = Texts(en="This is no e-mail address that mail can be sent to.", zh="邮箱地址无法使用，请检查后重试")


class MailDown(Unavailable):
    code = "mail_unavailable"
    texts = Texts(en="The mail could not be sent. Try again in a moment.", zh="邮件暂时无法发送，请稍后再试")


class PhoneUnfit(Invalid):
    code = "phone_unfit"
    texts = Texts(en="This is no mobile number that messages can be sent to.", zh="手机号码无法使用，请检查后重试")


class SmsDown(Unavailable):
    code = "sms_unavailable"
    texts = Texts(en="The message could not be sent. Try again in a moment.", zh="短信暂时无法发送，请稍后再试")


class NothingToConfirm(Conflict):
    code = "nothing_to_confirm"
    texts = Texts(en="No address waits for this code any more. Set your address again.", zh="验证码已失效，请重新填写")


class CodeWrong(Invalid):
    code = "code_wrong"
    texts = Texts(en="This is not the code that was sent.", zh="验证码不正确")


class WeChatCodeRefused(Invalid):
    code = "wechat_code_refused"
    texts = Texts(en="WeChat does not accept this login code. Ask for a new one.", zh="微信登录凭证无效，请重试")


class WeChatBlocked(Forbidden):
    code = "wechat_blocked"
    texts = Texts(en="WeChat has blocked this account.", zh="该微信账号存在风险，无法使用")


class WeChatDown(Unavailable):
    code = "wechat_unavailable"
    texts = Texts(en="WeChat does not answer. Try again in a moment.", zh="微信服务繁忙，请稍后再试")


class TemplateUnknown(Invalid):
    """`template_id` is none of those that `channels` lists."""

    code = "template_unknown"
    texts = Texts(en="No notice uses this template.", zh="没有使用该模板的通知")
