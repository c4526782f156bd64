"""What admin refuses, and how it says so."""

from libs.common.errors import Conflict, Forbidden, HallpassError, Invalid, Texts, TooMany, Unauthenticated


class SignInFailed(Unauthenticated):
    """Unknown name or wrong password: which of them is nobody's business."""

    code = "sign_in_failed"
    texts = Texts(en="The name or the password is wrong.", zh="账号或密码错误")


class AccountLocked(TooMany):
    """Raised with `retry_after_s` and `minutes`, for one address or for all. Names without an account are locked, too."""

    code = "account_locked"
    texts = Texts(
        en="Too many failed sign-ins under this name. Try again in {minutes} min.",
        zh="该账号登录失败次数过多，请{minutes}分钟后再试",
    )


class AccountDisabled(Forbidden):
    """Told only to those who know the password."""

    code = "account_disabled"
    texts = Texts(
        en="This account is disabled. Ask an administrator to enable it.", zh="该账号已停用，请联系管理员启用"
    )


class CodeNeeded(Unauthenticated):
    """Told only to those who know the password: the account has a second factor."""

    code = "code_needed"
    texts = Texts(en="Enter the code that your app shows, too.", zh="请输入身份验证器中的动态验证码")


class CodeRefused(Unauthenticated):
    code = "code_refused"
    texts = Texts(en="This code is wrong, or was used already.", zh="动态验证码错误或已使用过")


class SessionEnded(Unauthenticated):
    code = "session_ended"
    texts = Texts(en="Your sign-in has ended. Sign in again.", zh="登录已失效，请重新登录")


class WrongPassword(Invalid):
    code = "wrong_password"
    texts = Texts(en="The current password is wrong.", zh="当前密码错误")


class WrongCode(Invalid):
    code = "wrong_code"
    texts = Texts(en="This code is wrong, or was used already.", zh="动态验证码错误或已使用过")


class CodeMissing(Invalid):
    code = "code_missing"
    texts = Texts(en="Enter the code that your app shows, too.", zh="请输入身份验证器中的动态验证码")


class SecondFactorSet(Conflict):
    code = "second_factor_set"
    texts = Texts(en="This account has a second factor. Remove it first.", zh="该账号已启用动态验证码，请先停用")


class SecondFactorMissing(Conflict):
    code = "second_factor_missing"
    texts = Texts(en="This account has no second factor.", zh="该账号未启用动态验证码")


class PasswordTooShort(Invalid):
    code = "password_too_short"
    texts = Texts(en="A password has at least {least} characters.", zh="密码至少需要{least}个字符")


class PasswordIsName(Invalid):
    code = "password_is_name"
    texts = Texts(en="The password may not be the account's name.", zh="密码不能与账号相同")


class PasswordTooCommon(Invalid):
    code = "password_too_common"
    texts = Texts(en="This password is among the first that are guessed. Choose another.", zh="密码过于常见，请换一个")


class PasswordUnchanged(Invalid):
    code = "password_unchanged"
    texts = Texts(en="The new password is the present one. Choose another.", zh="新密码不能与当前密码相同")


class UsernameTaken(Conflict):
    code = "username_taken"
    texts = Texts(en="There is an account with the name {username} already.", zh="账号名 {username} 已被使用")


class HallsNeeded(Invalid):
    code = "halls_needed"
    texts = Texts(en="Name at least one hall that this account is for.", zh="请至少选择一个服务厅")


class HallsUnknown(Invalid):
    """Raised with `halls`: the ids of those of which catalog has not told."""

    code = "halls_unknown"
    texts = Texts(
        en="There is no hall {halls}. One that has just been made can be named in a moment.",
        zh="服务厅 {halls} 不存在；如果刚刚创建，请稍后再试",
    )


class HallsNotTaken(Invalid):
    code = "halls_not_taken"
    texts = Texts(en="A super admin is for all halls; do not name any.", zh="超级管理员管理全部服务厅，无需选择服务厅")


class LastSuperAdmin(Conflict):
    code = "last_super_admin"
    texts = Texts(
        en="This is the last enabled super admin. Make another one first.",
        zh="这是最后一个启用的超级管理员，请先添加另一个",
    )


class OwnAccount(Forbidden):
    code = "own_account"
    texts = Texts(
        en="You can't change your own role, halls or rights, reset your own password or disable your own account. "
        "Somebody else who manages staff can.",
        zh="不能修改自己的角色、服务厅或权限，也不能重置自己的密码或停用自己的账号，请由其他有权管理员工的人员操作",
    )


class BeyondYours(Forbidden):
    code = "beyond_yours"
    texts = Texts(
        en="This account has, or would get, a role or right that you do not have yourself.",
        zh="该账号拥有（或将获得）您自己没有的角色或权限，无法操作",
    )


class TooManyExports(Conflict):
    """Raised with `most`."""

    code = "too_many_exports"
    texts = Texts(
        en="You have {most} unfinished exports. Wait for one of them, or cancel it.",
        zh="您已有{most}个未完成的导出任务，请等待完成或取消其中一个",
    )


class ExportOver(Conflict):
    code = "export_over"
    texts = Texts(en="This export is over and can't be cancelled any more.", zh="该导出任务已结束，无法取消")


class ExportNotDone(Conflict):
    """Raised with `state`."""

    code = "export_not_done"
    texts = Texts(en="There is no file to fetch: this export is {state}.", zh="该导出任务没有可下载的文件")


class LinkExpired(Forbidden):
    code = "link_expired"
    texts = Texts(en="This link is not valid any more. Ask for a new one.", zh="下载链接已失效，请重新获取")


class TooManyImports(Conflict):
    """Raised with `most`."""

    code = "too_many_imports"
    texts = Texts(
        en="You have {most} unfinished imports. Wait for one of them, or cancel it.",
        zh="您已有{most}个未完成的导入任务，请等待完成或取消其中一个",
    )


class NotXlsx(Invalid):
    code = "not_xlsx"
    texts = Texts(en="This is no .xlsx workbook.", zh="不是 .xlsx 文件")


class ImportNotChecked(Conflict):
    """Raised with `state`."""

    code = "import_not_checked"
    texts = Texts(
        en="Only an import whose dry run found no fault can be applied; this one is {state}.",
        zh="只有校验通过的导入任务才能执行",
    )


class ImportOver(Conflict):
    code = "import_over"
    texts = Texts(
        en="This import is over, or is being applied, and can't be cancelled any more.",
        zh="该导入任务已结束或正在执行，无法取消",
    )


# --- why an export or an import failed ---


class WorkerLost(HallpassError):
    code = "worker_lost"
    texts = Texts(en="The process that worked on it was lost three times.", zh="执行任务的进程多次异常中断，请稍后重试")


class JobBroken(HallpassError):
    code = "export_broken"  # of imports, too: rows and clients know it from before there were any
    texts = Texts(en="Something broke on our side, three times.", zh="系统多次出错，请联系管理员")


class SourceAway(HallpassError):
    code = "source_away"
    texts = Texts(en="The service that has the data did not answer.", zh="数据所在的服务没有响应，请稍后重试")


class SourceRefused(HallpassError):
    """Raised with `status`, `problem` and `path` for the log."""

    code = "source_refused"
    texts = Texts(en="The service that has the data refused the request.", zh="数据所在的服务拒绝了请求")


class RightsChanged(Forbidden):
    """A job is for who its owner was when they asked for it."""

    code = "rights_changed"
    texts = Texts(
        en="Your role, halls or rights have changed since you asked for this. Ask again.",
        zh="您的角色、服务厅或权限已变更，请重新发起",
    )
