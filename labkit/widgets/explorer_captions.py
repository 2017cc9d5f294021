"""What the explorer says, in English and Chinese."""

CAPTIONS = {
    "en": {
        "search": "Search", "search_hint": "part of a text", "state": "State", "split": "Split", "language": "Language", "label": "Label",
        "source": "Source", "all": "all", "kept": "kept", "dropped": "dropped", "rejected": "not readable", "changed": "changed by me",
        "nothing": "Nothing fits. Take a filter away.",
        "found": "{found:,} of {all:,} rows, page {page:,} of {pages:,}",
        "more_rejects": "({count:,} more rows that could not be read are not listed here.)",
        "before": "◀", "next": "▶", "undo": "Undo this drop", "drop": "Drop this record", "save": "Save the edit",
        "back": "Take my change back", "original": "As it was read", "now": "As it is now, beside that", "gone": "Dropped here: {reason}",
        "twin": "What it repeats",
        "all_seen": "Dropped by “{step}”, which looks at all records or at the end: {reason}.",
        "unchanged": "No step changed it.",
        "choose": "Choose a row by its number to see what happened to it.",
        "row": "row", "user": "User", "assistant": "Assistant", "none": "(none)", "no_split": "no split", "saved": "Saved.",
        "undone": "Kept again, split: {split}. The steps that compare all records have not seen it: look for duplicates and leaks "
                  "once more before you train.",
        "gone_now": "Dropped.", "taken": "As the preparation left it.",
        "broken": "This row could not be read; mend it in the file. {problem}",
    },
    "zh": {
        "search": "搜索", "search_hint": "文本中的一段", "state": "状态", "split": "划分", "language": "语言", "label": "标签",
        "source": "来源", "all": "全部", "kept": "保留", "dropped": "丢弃", "rejected": "无法读取", "changed": "我改过的",
        "nothing": "没有符合条件的行，请去掉一个筛选条件。",
        "found": "共 {all:,} 行，符合 {found:,} 行，第 {page:,} / {pages:,} 页",
        "more_rejects": "（另有 {count:,} 行无法读取，未在此列出。）",
        "before": "◀", "next": "▶", "undo": "撤销丢弃", "drop": "丢弃这条记录", "save": "保存修改",
        "back": "收回我的改动", "original": "读入时", "now": "现在（与上面相比）", "gone": "在此丢弃：{reason}",
        "twin": "与之重复的记录",
        "all_seen": "被“{step}”丢弃（该步骤查看全部记录，或在最后检查）：{reason}。",
        "unchanged": "没有步骤改动它。",
        "choose": "点击行号，查看这条记录经历了什么。",
        "row": "行", "user": "用户", "assistant": "助手", "none": "(无)", "no_split": "未划分", "saved": "已保存。",
        "undone": "已恢复，划分：{split}。比较全部记录的步骤没有见过它：训练前请再查一次重复与泄漏。",
        "gone_now": "已丢弃。", "taken": "已恢复为处理后的样子。",
        "broken": "这一行无法读取，请在文件中修正。{problem}",
    },
}
