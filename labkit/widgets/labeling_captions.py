"""What the labelling widget and the board say, in English and Chinese."""

CAPTIONS = {
    "en": {
        "user": "User", "assistant": "Assistant", "next": "Save, next", "back": "Back", "skip": "Skip", "discard": "Discard",
        "none": "(none)", "place": "Record {place:,} of {all:,}", "todo": "to do", "submitted": "submitted", "draft": "draft",
        "discarded": "discarded", "guide": "How to label", "all_done": "All {all:,} records are done. Go back to change one.",
        "counts": "{submitted:,} submitted, {discarded:,} discarded, {draft:,} drafts, {left:,} left",
        "pace": "{seconds:.0f} s a record, about {left} left", "minutes": "{minutes:,.0f} min", "hours": "{hours:,.1f} h",
        "suggested": "✦ suggested by {agent}: {value}", "sure": "({score:.0%} sure)", "model": "the model",
        "needed": "“{field}” needs an answer.", "no_number": "“{field}”: {value!r} is not a number.",
        "range": "“{field}”: a number from {low} to {high} is needed.", "no_field": "Answer at least one field, or discard the record.",
        "kept": "Saved.", "kept_draft": "Kept as a draft.", "number_hint": "{low} to {high}", "optional": "may stay empty",
        "keys": "Keys: {labels} choose a label, Enter saves (Ctrl+Enter in a text), ← back, → skip, Delete discards. "
                "Click the record first.",
        "keys_plain": "Keys: Enter saves (Ctrl+Enter in a text), ← back, → skip, Delete discards. Click the record first.",
        # the board
        "progress": "Progress", "annotator": "annotator", "records": "records", "of": "{done:,} of {all:,} records are done",
        "agreement": "Agreement", "field": "field", "measure": "measure", "value": "value", "interval": "95% interval",
        "shared": "records shared", "seconds": "s a record", "what_next": "Label next", "reason": "why", "push": "Push records",
        "pull": "Pull answers", "refresh": "Refresh", "live": "Live", "no_answers": "Nobody has answered yet.",
        "no_next": "Nothing is left to choose.", "seen": "as of {time}", "working": "Working …",
    },
    "zh": {
        "user": "用户", "assistant": "助手", "next": "保存并继续", "back": "上一条", "skip": "跳过", "discard": "弃用", "none": "(无)",
        "place": "第 {place:,} / {all:,} 条", "todo": "待标注", "submitted": "已提交", "draft": "草稿",
        "discarded": "已弃用", "guide": "标注说明", "all_done": "{all:,} 条记录已全部完成。可返回修改。",
        "counts": "已提交 {submitted:,}，弃用 {discarded:,}，草稿 {draft:,}，剩余 {left:,}",
        "pace": "每条 {seconds:.0f} 秒，大约还需 {left}", "minutes": "{minutes:,.0f} 分钟", "hours": "{hours:,.1f} 小时",
        "suggested": "✦ {agent} 建议：{value}", "sure": "（把握 {score:.0%}）", "model": "模型",
        "needed": "请填写“{field}”。", "no_number": "“{field}”：{value!r} 不是数字。",
        "range": "“{field}”：请填写 {low} 到 {high} 之间的数。", "no_field": "请至少填写一项，或弃用这条记录。",
        "kept": "已保存。", "kept_draft": "已存为草稿。", "number_hint": "{low} 到 {high}", "optional": "可留空",
        "keys": "按键：{labels} 选择标签，回车保存（文本框内用 Ctrl+回车），← 上一条，→ 跳过，Delete 弃用。请先点击这条记录。",
        "keys_plain": "按键：回车保存（文本框内用 Ctrl+回车），← 上一条，→ 跳过，Delete 弃用。请先点击这条记录。",
        "progress": "进度", "annotator": "标注者", "records": "条", "of": "{all:,} 条记录中 {done:,} 条已完成",
        "agreement": "一致性", "field": "字段", "measure": "指标", "value": "数值", "interval": "95% 区间", "shared": "共同标注的记录",
        "seconds": "秒/条", "what_next": "接下来标注", "reason": "原因", "push": "推送记录", "pull": "拉取答案",
        "refresh": "刷新", "live": "实时", "no_answers": "还没有人作答。",
        "no_next": "没有可选的记录了。", "seen": "截至 {time}", "working": "处理中……",
    },
}
