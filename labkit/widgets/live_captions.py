"""What the live board says, in English and Chinese."""

CAPTIONS = {
    "en": {
        "waiting": "not started", "loading": "loading the base model …", "pause": "Pause", "resume": "Resume", "stop": "Stop",
        "evaluate": "Evaluate now",
        "preparing": "running the frozen layers once: {done:,} of {total:,} records",
        "line": "step {step:,} of {steps:,}, epoch {epoch}: loss {loss:.4f}, learning rate {rate:.1e}, gradient norm {norm:.2g}, "
                "{speed:,.0f} tokens/s, {memory}{left}",
        "memory": "{now:.1f} GB (most {most:.1f})", "device": "GPU {now:.1f} of {total:.0f} GB (most {most:.1f})", "left": ", {left} left",
        "pausing": "Pausing after this step.", "paused": "Paused. Resume goes on at the next step.",
        "stopping": "Stopping after this step, with a checkpoint.", "evaluating": "Evaluating after this step.",
        "ended": "Done: {step:,} steps in {time}.", "given": "Done; this run was finished already.",
        "stopped": "Stopped at step {step:,} of {steps:,}. Start it once more to go on from there.",
        "failed": "It failed: {error}", "running": "This board is showing a training already; stop it, or make another board.",
        "not_started": "Nothing was started on this board yet; call start() first.", "at": "Step {step:,}:",
        "loss_panel": "loss (nats)", "measures_panel": "validation measures", "rate_panel": "learning rate", "norm_panel": "gradient norm",
        "speed_panel": "tokens/s", "memory_panel": "memory (GB)", "step": "step", "training": "training", "smoothed": "training, smoothed",
        "validation": "validation", "answers": "Answers while it learns", "prompt": "Prompt", "wanted": "Wanted", "after": "Step {step:,}",
    },
    "zh": {
        "waiting": "尚未开始", "loading": "正在载入基础模型……", "pause": "暂停", "resume": "继续", "stop": "停止", "evaluate": "立即评估",
        "preparing": "冻结层只运行一次：{done:,} / {total:,} 条记录",
        "line": "第 {step:,} / {steps:,} 步，第 {epoch} 轮：损失 {loss:.4f}，学习率 {rate:.1e}，梯度范数 {norm:.2g}，"
                "{speed:,.0f} 词元/秒，{memory}{left}",
        "memory": "{now:.1f} GB（最多 {most:.1f}）", "device": "显存 {now:.1f} / {total:.0f} GB（最多 {most:.1f}）",
        "left": "，还需 {left}",
        "pausing": "这一步之后暂停。", "paused": "已暂停。点“继续”从下一步开始。",
        "stopping": "这一步之后停止，并保存检查点。", "evaluating": "这一步之后评估。",
        "ended": "完成：{step:,} 步，用时 {time}。", "given": "完成；这次训练早已结束。",
        "stopped": "停在第 {step:,} / {steps:,} 步。再次开始会从这里继续。",
        "failed": "训练失败：{error}", "running": "此面板已在显示一次训练；请先停止，或新建一个面板。",
        "not_started": "此面板尚未开始训练，请先调用 start()。", "at": "第 {step:,} 步：",
        "loss_panel": "损失（nats）", "measures_panel": "验证指标", "rate_panel": "学习率", "norm_panel": "梯度范数",
        "speed_panel": "词元/秒", "memory_panel": "内存（GB）", "step": "步", "training": "训练", "smoothed": "训练（平滑）",
        "validation": "验证", "answers": "学习过程中的回答", "prompt": "输入", "wanted": "期望", "after": "第 {step:,} 步",
    },
}
