"""What notify refuses, and how it says so."""

from libs.common.errors import Invalid, Language, Texts

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
