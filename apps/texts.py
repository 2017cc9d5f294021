"""All texts of the app in English and Chinese. `say` gives one; what scenarios say comes from their own files."""

from typing import Any

# key: (English, Chinese); a plain language user reads these, so no jargon that the page does not explain
TEXTS: dict[str, tuple[str, str]] = {
    # around the pages
    "chat": ("Chat", "对话"),
    "compare": ("Compare", "比较"),
    "pages": ("Pages", "页面"),
    "other_language": ("中文", "English"),
    "theme": ("Light or dark", "浅色或深色"),
    # choosing
    "scenario": ("Scenario", "场景"),
    "checkpoint": ("Checkpoint", "模型"),
    "how_many": ("How many side by side", "并排数量"),
    "refresh": ("Refresh the list", "刷新列表"),
    "base": ("base model", "基座模型"),
    "fine_tuned": ("fine-tuned", "微调"),
    "no_runs": ("No fine-tuned checkpoint of this scenario yet. Train one in a terminal, then refresh the list:",
                "这个场景还没有微调模型。请在终端训练，然后刷新列表："),
    "not_available": ("Not available:", "不可用："),
    "state_training": ("still training", "正在训练"),
    "state_stopped": ("training not finished", "训练未完成"),
    "state_damaged": ("damaged: its files are missing or were altered", "已损坏：文件缺失或被改动"),
    # a run's card
    "card_base": ("The model as it comes, not fine-tuned: <b>{base}</b>.", "未经微调的原始模型：<b>{base}</b>。"),
    "card_run": ("Fine-tuned from <b>{base}</b>{when}.", "由 <b>{base}</b> 微调而来{when}。"),
    "card_when": (" on {day}, with {train} training records", "，{day}，训练记录 {train} 条"),
    "card_scores": ("On {count} test records it never saw, with 95% intervals", "在 {count} 条未见过的测试记录上，附 95% 区间"),
    "card_not_evaluated": ("Not measured yet. In a terminal:", "尚未评估。请在终端运行："),
    "card_title": ("About this checkpoint", "关于此模型"),
    "field": ("Field", "字段"),
    "measure_accuracy": ("right, of 100", "每百条正确数"),
    "measure_mean_absolute_error": ("average error (smaller is better)", "平均误差（越小越好）"),
    "measure_rouge_l": ("overlap with the reference, of 100 (ROUGE-L)", "与参考答案的重合度（ROUGE-L，满分 100）"),
    # asking
    "question": ("Your question", "您的问题"),
    "question_hint": ("Enter sends, Shift+Enter makes a new line", "按 Enter 发送，Shift+Enter 换行"),
    "examples": ("Examples", "示例"),
    "send": ("Send", "发送"),
    "ask_all": ("Ask all", "同时提问"),
    "stop": ("Stop", "停止"),
    "stop_all": ("Stop all", "全部停止"),
    "again": ("Regenerate", "重新生成"),
    "clear": ("Clear", "清空"),
    "empty_chat": ("Ask something, or choose an example.", "请提问，或选一个示例。"),
    "empty_pane": ("The answer will appear here.", "回答会显示在这里。"),
    "you": ("You", "您"),
    "say_something": ("Write a question first.", "请先写下问题。"),
    "wait": ("An answer is still coming. Stop it first, or wait.", "还在回答中，请先停止或稍候。"),
    "nothing_to_repeat": ("There is nothing to ask again yet.", "还没有可以重新生成的回答。"),
    "same_again": ("At temperature 0 the same question always gets the same answer. Raise the temperature for another one.",
                   "温度为 0 时，同一问题的回答总是相同。想得到不同的回答，请调高温度。"),
    "notice_label": ("Note", "提示"),
    # how
    "sampling": ("Sampling", "采样设置"),
    "temperature": ("Temperature", "温度"),
    "temperature_info": ("0: always the likeliest word; higher: more variety", "0 总取最可能的词，越高越多样"),
    "top_p": ("Top-p", "Top-p"),
    "top_p_info": ("Only the likeliest words that hold this share together", "只取合计占此比例的最可能的词"),
    "top_k": ("Top-k", "Top-k"),
    "top_k_info": ("Only so many of the likeliest words; 0: all", "只取最可能的若干词，0 表示全部"),
    "max_tokens": ("Longest answer (tokens)", "回答长度上限（词元）"),
    "seed": ("Seed", "随机种子"),
    "seed_info": ("The same seed and question give the same answer", "同样的种子和问题得到同样的回答"),
    "repeat_penalty": ("Repeat penalty", "重复惩罚"),
    "repeat_penalty_info": ("1: none", "1 表示无"),
    "sampling_empty": ("Fill in all numbers under Sampling.", "请填写采样设置中的所有数值。"),
    "system": ("System prompt", "系统提示"),
    "system_info": ("What the model is told before your question", "在您的问题之前告诉模型的内容"),
    "system_info_compare": ("As it stands, each checkpoint gets the prompt it was trained with; changed, all get this one",
                            "保持不变时，各模型使用训练时的提示；改动后，全部使用这里的提示"),
    "system_reset": ("Back to the scenario's prompt", "恢复场景的提示"),
    # answers
    "answer_of": ("Answer {side}", "回答 {side}"),
    "hidden_name": ("hidden until you vote", "投票后显示"),
    "loading": ("getting the model ready …", "正在准备模型…"),
    "answering": ("answering …", "正在回答…"),
    "stopped": ("stopped", "已停止"),
    "ended": ("finished", "已完成"),
    "failed": ("Could not answer:", "无法回答："),
    "empty_answer": ("(nothing was said)", "（没有内容）"),
    "fields": ("What was read from the answer", "从回答中读出的内容"),
    "not_read": ("not found in the answer", "回答中没有"),
    "speed": ("{rate} tokens/s · first token after {first} s · {tokens} tokens", "{rate} 词元/秒 · 首词元 {first} 秒 · {tokens} 个词元"),
    "waited": ("{seconds} s until the model was ready", "模型准备 {seconds} 秒"),
    "weights_base": ("base", "基座"),
    "weights_adapter": ("adapter", "适配器"),
    "no_adapter": ("no adapter", "无适配器"),
    # voting
    "vote": ("Which answer is better?", "哪个回答更好？"),
    "vote_blind": ("Blind: hide which checkpoint answers", "盲评：隐藏模型名称"),
    "vote_blind_info": ("Sides are drawn anew for each question; names are shown after the vote", "每次提问随机分配左右，投票后显示名称"),
    "tie": ("Tie", "平手"),
    "both_bad": ("Both bad", "都不好"),
    "all_bad": ("All bad", "都不好"),
    "reason": ("Reason (optional)", "理由（可选）"),
    "vote_wait": ("You can vote when all answers have ended.", "所有回答结束后即可投票。"),
    "vote_now": ("All answers have ended.", "所有回答已结束，请投票。"),
    "vote_failed": ("A vote needs an answer in every pane.", "每个模型都有回答时才能投票。"),
    "vote_thanks": ("Kept as vote {number}. {sides}", "已保存为第 {number} 票。{sides}"),
    "vote_was": ("{side}: {name}", "{side}：{name}"),
    "vote_twice": ("This question has been voted on. Ask another one.", "这个问题已经投过票，请提下一个问题。"),
    "tally": ("Votes so far", "投票统计"),
    "tally_none": ("No votes in this scenario yet.", "这个场景还没有投票。"),
    "tally_first": ("Checkpoint", "模型"),
    "tally_second": ("against", "对比"),
    "tally_wins": ("won", "胜"),
    "tally_losses": ("lost", "负"),
    "tally_ties": ("ties", "平"),
    "tally_bad": ("both bad", "都不好"),
    "tally_share": ("share won (95% interval)", "胜率（95% 区间）"),
    "tally_note": ("Share of the decided votes, with Wilson's interval. Wide intervals mean: too few votes to tell.",
                   "胜率只计分出胜负的票，区间为 Wilson 区间；区间很宽说明票数还不够。"),
}

for _number, _side in enumerate("ABCD", 1):
    TEXTS |= {f"checkpoint_{_number}": (f"Checkpoint {_number}", f"模型 {_number}"), f"stop_{_side}": (f"Stop {_side}", f"停止 {_side}"),
              f"better_{_side}": (f"{_side} is better", f"{_side} 更好")}

LOCALES = {"en": "en", "zh": "zh-CN"}  # our language -> Gradio's locale
PAGES = {"chat": "/", "compare": "/compare"}  # a page's name, also the key of its title -> its path


def say(key: str, language: str, **values: Any) -> str:
    """The text in this language, with its `{names}` filled in."""
    return raw(key, language).format(**values)


def raw(key: str, language: str) -> str:
    """The text as it stands, `{names}` and all."""
    return TEXTS[key][0 if language == "en" else 1]
