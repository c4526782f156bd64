"""The refusals of catalog, each with its code and its sentence in both languages."""

from libs.common import errors
from libs.common.errors import Conflict, Forbidden, Invalid, Stale, Texts, Unversioned

# --- halls, categories, items ---


class TimezoneUnknown(Invalid):
    code = "timezone_unknown"
    texts = Texts(en="There is no time zone {timezone}.", zh="时区 {timezone} 不存在")


class TimezoneFixed(Conflict):
    """The hall has `slots` not over yet, whose instants were computed by its zone."""

    code = "timezone_fixed"
    texts = Texts(
        en="The hall has {slots} slots ahead; its time zone can change only without any.",
        zh="该服务厅还有 {slots} 个未结束的时段，不能修改时区",
    )


class JoinsAhead(Conflict):
    """What is to be closed has `joins` ahead, on `days`. They stay; `accept_joins_ahead` says that this is meant."""

    code = "joins_ahead"
    texts = Texts(
        en="{joins} people are booked ahead. Their bookings stay; confirm with accept_joins_ahead.",
        zh="还有 {joins} 人已预约尚未到期，关闭后这些预约仍然有效，请确认后再提交",
    )


class CategoryUnknown(Invalid):
    code = "category_unknown"
    texts = Texts(en="There is no such category.", zh="所选分类不存在")


class CategoryInUse(Conflict):
    code = "category_in_use"
    texts = Texts(en="{items} items are in this category.", zh="该分类下还有 {items} 个预约项目，不能删除")


class NameTaken(Conflict):
    code = "name_taken"
    texts = Texts(en="There is one of this name already.", zh="该名称已被使用")


# --- forms and rules ---


class FormUnfit(Invalid):
    """`faults` lists {field, reason}; a reason is a word that stays."""

    code = "form_unfit"
    texts = Texts(en="The form has faults; see `params.faults`.", zh="预约表单设置有误，请检查后重试")


class RulesUnfit(Invalid):
    code = "rules_unfit"
    texts = Texts(en="The rules contradict themselves; see `params.faults`.", zh="预约规则设置有误，请检查后重试")


# --- two who edit one thing ---


class EditedMeanwhile(Stale):
    """The same, with what is known: `changes` lists {field, before, after, by, at} since the caller's version.

    A day's slot is a field by the name of `slots.<id>`; null stands for a slot that was not, or is no more. `by` names all
    who edited.
    """

    texts = Texts(
        en="{by} has changed this meanwhile; see `params.changes`. Load it again, then repeat your change.",
        zh="{by} 已修改此内容，请查看变更，刷新后重新修改",
    )


class DayGone(Stale):
    texts = Texts(en="Somebody has deleted this day meanwhile.", zh="该日期已被他人删除，请刷新后重试")


# --- days, slots, templates ---


class DayVersionMissing(Unversioned):
    texts = Texts(
        en="Send the day's ETag in If-Match, or `If-None-Match: *` for a new day.",
        zh="请先加载该日期的最新内容再保存（缺少 If-Match 请求头）",
    )


class PeriodsUnfit(Invalid):
    """`faults` lists {field, reason}: which slot, and `end_not_after_start`, `overlap`, `too_many` ..."""

    code = "periods_unfit"
    texts = Texts(en="The periods have faults; see `params.faults`.", zh="时段设置有误，请检查后重试")


class NoSuchLocalTime(Invalid):
    """On `date` the clocks of the hall's zone jump over these times."""

    code = "no_such_local_time"
    texts = Texts(en="On {date} the clocks at the hall jump over this time.", zh="{date} 当地时钟调整，所选时间不存在")


class JoinsMoved(JoinsAhead):
    """The same, of slots whose times change: the joins change with them, once `accept_joins_ahead` says so."""

    texts = Texts(
        en="{joins} people are booked in slots whose times change. Their bookings follow; confirm with accept_joins_ahead.",
        zh="有 {joins} 人预约了要调整时间的时段，预约将随时段一起调整，请确认后再提交",
    )


class SlotInPast(Conflict):
    """`slots` names each slot with bookings that would get times gone by: {id, start, end, taken}, as they are now."""

    code = "slot_in_past"
    texts = Texts(
        en="A slot that people have booked can't be moved into the past.", zh="已有预约的时段不能调整到已经过去的时间"
    )


class SlotUnknown(Invalid):
    code = "slot_unknown"
    texts = Texts(en="The day has no such slot.", zh="该日期下没有此时段")


class SlotHasJoins(Conflict):
    """`slots` names each slot that was left out though somebody has booked it: {id, start, end, taken}."""

    code = "slot_has_joins"
    texts = Texts(
        en="A slot that somebody has booked can't be deleted. Close it instead.",
        zh="已有预约记录的时段不能删除，请改为关闭该时段",
    )


class TooManySlots(Invalid):
    code = "too_many_slots"
    texts = Texts(
        en="More than {most} slots would change at once. Take fewer items or fewer dates.",
        zh="一次最多修改 {most} 个时段，请减少项目或日期",
    )


class NothingToCopy(Conflict):
    code = "nothing_to_copy"
    texts = Texts(en="The day has no open slot to copy.", zh="该日期没有可复制的开放时段")


class RangeUnfit(errors.RangeUnfit):
    texts = Texts(
        en="`from` must not be after `to`, and at most {days} days may lie in it.", zh="日期范围有误，最多 {days} 天"
    )


class ClosureUnfit(Invalid):
    code = "closure_unfit"
    texts = Texts(en="A closure can't end before it begins.", zh="关闭日期有误：结束日期早于开始日期")


class GlobalSpecialDay(Forbidden):
    code = "global_special_day"
    texts = Texts(
        en="Only a super admin sets the special days of all halls.", zh="全局的休息日和工作日只能由超级管理员设置"
    )


class GlobalTemplate(Forbidden):
    code = "global_template"
    texts = Texts(en="Only a super admin edits the templates of all halls.", zh="全局模板只能由超级管理员修改")


class TemplateForeign(Invalid):
    code = "template_unknown"
    texts = Texts(en="There is no such template for this hall.", zh="该服务厅没有此时段模板")


# --- imports ---


class HallUnknown(Invalid):
    code = "hall_unknown"
    texts = Texts(en="There is no hall of this name or id.", zh="没有该名称或编号的服务厅")


class HallAmbiguous(Invalid):
    code = "hall_ambiguous"
    texts = Texts(en="Several halls have this name: write the hall's id.", zh="有多个同名的服务厅，请填写编号")


class ItemNotInFile(Invalid):
    code = "item_not_in_file"
    texts = Texts(en="The sheet of items has no such item in this hall.", zh="“预约项目”表中没有该服务厅的这个项目")


class DayClosed(Conflict):
    """`name` is the reason of the closure."""

    code = "day_closed"
    texts = Texts(en="The hall is closed on this day: {name}.", zh="该日期已停止服务：{name}")


# What is wrong with a period among those of its day, by the reasons of PeriodsUnfit.
PERIOD_FAULTS: dict[str, Texts] = {
    "end_not_after_start": Texts(en="has to be after the start", zh="必须晚于开始时间"),
    "overlap": Texts(en="begins before another slot of the day is over", zh="与当天的其他时段重叠"),
    "too_many": Texts(en="the day has too many slots", zh="当天的时段太多"),
}
