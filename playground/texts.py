"""Every text a visitor reads, in every language. What the browser translates and what the server formats come from here alike."""

from __future__ import annotations

from typing import Literal

from playground.settings import UPLOAD_BYTES

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = ("en", "zh")

TEXTS: dict[str, tuple[str, str]] = {
    "title": ("RLHF Playground", "RLHF Playground"),
    "subtitle": ("See what each stage of RLHF did to a model, side by side.", "并排看清 RLHF 的每个阶段给模型带来了什么。"),
    "head.language": ("Switch to English", "切换到中文"),
    "head.theme": ("Light or dark", "浅色或深色"),
    "tab.chat": ("Chat", "对话"),
    "tab.arena": ("Arena", "竞技场"),
    "tab.microscope": ("Microscope", "显微镜"),
    "tab.train": ("Training", "训练"),
    "tab.leaderboard": ("Leaderboard", "排行榜"),
    # chat
    "chat.column": ("Checkpoint of this column", "本栏的检查点"),
    "chat.conversation": ("Conversation", "对话内容"),
    "chat.prompt": ("Your message", "你的消息"),
    "chat.prompt.placeholder": ("Ask every checkpoint the same thing …", "向所有检查点提同一个问题……"),
    "chat.send": ("Send", "发送"),
    "chat.stop": ("Stop", "停止"),
    "chat.again": ("Regenerate", "重新生成"),
    "chat.undo": ("Undo", "撤回"),
    "chat.clear": ("Clear", "清空"),
    "chat.examples": ("Try one of these", "试试这些"),
    "chat.settings": ("Settings", "设置"),
    "chat.temperature": ("Temperature", "温度"),
    "chat.temperature.info": ("0 always takes the likeliest token", "0 表示总取最可能的词元"),
    "chat.top_p": ("Top-p", "Top-p"),
    "chat.max_tokens": ("Longest reply, in tokens", "回复的最大词元数"),
    "chat.seed": ("Seed", "随机种子"),
    "chat.top_p.info": ("1 draws from all tokens", "1 表示从所有词元中抽取"),
    "chat.n": ("Best of n", "n 选一"),
    "chat.n.info": ("Samples per reply; the highest reward is shown", "每条回复的样本数，取奖励最高者"),
    "chat.candidates": ("Samples the reward model's column chooses from", "奖励模型一栏可选的样本数"),
    "chat.system": ("System prompt", "系统提示词"),
    "chat.system.placeholder": ("Stands before the conversation, in every column", "位于对话之前，对所有栏生效"),
    "chat.preset.precise": ("Precise", "精确"),
    "chat.preset.balanced": ("Balanced", "均衡"),
    "chat.preset.free": ("The model's own distribution", "模型自身的分布"),
    "chat.apart": ("Each column its own settings", "各栏单独设置"),
    "chat.apart.info": ("They unfold below each column", "在每栏下方展开"),
    "chat.own": ("This column's settings", "本栏设置"),
    "chat.share": ("Link and export", "链接与导出"),
    "chat.keep": ("Let the operator keep this chat", "允许运营者保存本次对话"),
    "chat.keep.info": (
        "Every column's conversation is kept, without name or address, to study and to train models. Switched off again, what was kept "
        "is deleted.",
        "将保存各栏的对话，不含姓名和地址，用于研究和训练模型。关闭后，已保存的内容会被删除。",
    ),
    "chat.keep.kept": ("kept as {first} … {last}", "已保存为 {first} … {last}"),
    "chat.keep.failed": ("This chat could not be kept.", "本次对话未能保存。"),
    "chat.link": ("Link to this setting", "当前设置的链接"),
    "chat.link.make": ("Copy link", "复制链接"),
    "chat.export.jsonl": ("Save as JSONL", "保存为 JSONL"),
    "chat.export.md": ("Save as Markdown", "保存为 Markdown"),
    "chat.columns": ("Columns", "栏数"),
    "chat.nothing": (
        "Nothing to chat with yet. Each checkpoint appears here as soon as it is written.",
        "暂时没有可对话的检查点。每个检查点一写好就会出现在这里。",
    ),
    "chat.nothing.idle": (
        "No run with a finished checkpoint was found. Start this page with --runs PATH, or without --no-train.",
        "没有找到含有检查点的训练目录。请用 --runs 路径 启动本页，或去掉 --no-train。",
    ),
    "chat.training": ("Training goes on", "训练进行中"),
    "chat.empty.base": ("Continues text. Never taught to chat.", "只会续写文本，没学过对话。"),
    "chat.empty.sft": ("Taught to answer by examples.", "通过示例学会了回答。"),
    "chat.empty.reward": ("Can't talk: picks the best of several SFT replies.", "不会说话：从多个 SFT 回复里挑出最好的。"),
    "chat.empty.rl": ("Trained to please the reward model.", "经训练以取悦奖励模型。"),
    "chat.empty.endpoint": ("A model served elsewhere.", "在别处提供服务的模型。"),
    "reply.loading": ("loading the model …", "正在加载模型……"),
    "reply.waiting": ("waiting for its turn …", "正在排队……"),
    "reply.writing": ("writing …", "正在书写……"),
    "reply.drawing": ("{drawn} of {n} replies written …", "已写好 {drawn}/{n} 个回复……"),
    "reply.scoring": ("scoring …", "正在打分……"),
    "reply.empty": ("(an empty reply)", "（空回复）"),
    "reply.reward": ("Reward", "奖励"),
    "reply.percentile": ("above {percent} % of SFT replies", "高于 {percent}% 的 SFT 回复"),
    "reply.raw": ("reward {reward}", "奖励 {reward}"),
    "reply.gap": ("{gap} vs {name}", "较{name} {gap}"),
    "reply.preferred": (
        "The reward model prefers this reply to that of {name} with probability {percent} %",
        "奖励模型有 {percent}% 的概率更喜欢本条而不是{name}的回复",
    ),
    "reply.spread": (
        "Samples lie from above {low} % to above {high} % of SFT replies, the middle one above {middle} %",
        "各样本高于 SFT 回复的比例：最低 {low}%，居中 {middle}%，最高 {high}%",
    ),
    "reply.pick": ("Go on with this one", "用这条继续"),
    "reply.by": ("Written by {name}", "由{name}撰写"),
    "reply.unscored": ("no reward model in this run yet", "该训练目前还没有奖励模型"),
    "reply.picked": ("Best of {n} samples", "{n} 个样本中的最佳"),
    "reply.picked.other": ("Your pick of {n} samples", "你从 {n} 个样本中的选择"),
    "reply.tokens": ("{count} tokens", "{count} 个词元"),
    "reply.speed": ("{rate} tokens/s", "每秒 {rate} 个词元"),
    "reply.finish.stop": ("ended by itself", "自行结束"),
    "reply.finish.length": ("cut at the length limit", "到达长度上限"),
    "reply.finish.cancelled": ("stopped", "已停止"),
    "reply.dropped": ("oldest {count} turn(s) left out: the model's context is full", "模型上下文已满，略去最早的 {count} 轮"),
    "reply.failed": (
        "Something went wrong here; the server's log says what (look for {id}).",
        "这里出了错；详情见服务器日志（查找 {id}）。",
    ),
    # door
    "door.nothing": ("There is nothing here.", "这里什么也没有。"),
    "door.large": ("This is more than can be sent at a time. Send less.", "一次发送的内容太多，请减少后再试。"),
    "door.address": ("Nothing is fetched from an address. Upload the file itself.", "本页不会从网址获取内容，请直接上传文件。"),
    "door.elsewhere": ("Another site has sent this. Open this page itself.", "这是其他网站发来的请求，请直接打开本页。"),
    "door.often": ("That was a lot at once. Please wait {seconds} s.", "操作太频繁，请等待 {seconds} 秒。"),
    "door.busy": (
        "Many people are here at the moment. Please try again in a few seconds.",
        "现在使用的人很多，请过几秒再试。",
    ),
    "door.words": (
        "This text has words that the operator of this page doesn't allow here. Say it otherwise.",
        "文本中含有本页运营者不允许的词语，请换一种说法。",
    ),
    "login.why": ("This page asks for a name and a password.", "访问本页需要用户名和密码。"),
    "login.name": ("Name", "用户名"),
    "login.password": ("Password", "密码"),
    "login.enter": ("Log in", "登录"),
    "login.wrong": ("Name or password is wrong.", "用户名或密码错误。"),
    "login.first": ("Log in first.", "请先登录。"),
    "host.cpu": (
        "This page computes on {cores} CPU cores, about {rate} tokens a second for everybody together, and replies have up to {longest} "
        "tokens.",
        "本页在 {cores} 个 CPU 核上运行，所有人合计每秒约 {rate} 个词元，每条回复最多 {longest} 个词元。",
    ),
    "host.cpu.new": (
        "This page computes on {cores} CPU cores, and replies have up to {longest} tokens.",
        "本页在 {cores} 个 CPU 核上运行，每条回复最多 {longest} 个词元。",
    ),
    # microscope
    "microscope.intro": (
        "What training changed, token by token. Colours show which tokens of a reply the second checkpoint makes likelier or less likely "
        "than the first; choose a token to see what else could stand there.",
        "逐个词元看训练改变了什么。颜色表示第二个检查点比第一个更可能还是更不可能写出该词元；选择一个词元，看看那里还可以写什么。",
    ),
    "microscope.before": ("First checkpoint (before)", "第一个检查点（之前）"),
    "microscope.after": ("Second checkpoint (after)", "第二个检查点（之后）"),
    "microscope.prompt": ("Prompt", "问题"),
    "microscope.reply": ("Reply", "回复"),
    "microscope.look": ("Look at it", "查看"),
    "microscope.write": ("Let the second one write", "让第二个来写"),
    "microscope.chat": ("Take the chat's last reply", "取对话中的最后一条回复"),
    "microscope.none": ("The chat has no finished reply yet: ask something there first.", "对话中还没有写完的回复：请先在那里提问。"),
    "microscope.tokens": ("Tokens of the reply", "回复的词元"),
    "microscope.ratio": ("ln p({after}) − ln p({before}), in nats:", "ln p({after}) − ln p({before})，单位奈特："),
    "microscope.less": ("−{most} or less: less likely (dotted line)", "≤ −{most}：更不可能（虚线）"),
    "microscope.same": ("0: the same", "0：相同"),
    "microscope.more": ("+{most} or more: likelier (solid line)", "≥ +{most}：更可能（实线）"),
    "microscope.total.ratio": ("Log-ratio of the reply", "整条回复的对数比"),
    "microscope.total.kl": ("Sum of the exact KL({after} ‖ {before}) at its positions", "各位置精确 KL({after} ‖ {before}) 之和"),
    "microscope.total.reward": ("Reward, by {judge}", "奖励，由 {judge} 给出"),
    "microscope.nats": ("{value} nats", "{value} 奈特"),
    "microscope.curves": ("Along the reply", "沿着回复"),
    "microscope.curve.kl": ("Exact KL at each token, nats", "每个词元处的精确 KL，奈特"),
    "microscope.curve.value": ("Value (critic) after each token", "每个词元后的价值（价值模型）"),
    "microscope.curve.reward": ("Reward, did the reply end after this token", "若回复在此词元后结束的奖励"),
    "microscope.curve.read": ("{label}: from {low} to {high}, at the end {last}", "{label}：最低 {low}，最高 {high}，结尾 {last}"),
    "microscope.misaligned": (
        "The reward model or critic splits this text into other tokens, so its curve is left out.",
        "奖励模型或价值模型的词元划分不同，故略去其曲线。",
    ),
    "microscope.unscored": ("This run has no reward model.", "该训练没有奖励模型。"),
    "microscope.removed": ("Reward without each sentence", "去掉每一句后的奖励"),
    "microscope.sentence": ("Sentence", "句子"),
    "microscope.without": ("Reward without it", "去掉后的奖励"),
    "microscope.brings": ("What it brings", "该句的贡献"),
    "microscope.pick": ("Choose a token above to see what else could stand there.", "选择上面的一个词元，看看那里还可以写什么。"),
    "microscope.at": (
        "Token {place} of {count}: {token}, log-ratio {ratio} nats, exact KL {kl} nats",
        "第 {place}/{count} 个词元：{token}，对数比 {ratio} 奈特，精确 KL {kl} 奈特",
    ),
    "microscope.token": ("Token", "词元"),
    "microscope.on": ("Continue from here with", "从这里继续，由"),
    "microscope.on.by": ("Put {token} here and let {name} go on", "在此放入 {token}，由 {name} 继续"),
    "microscope.written": ("written", "已写"),
    "microscope.end": ("end", "结束"),
    # arena
    "arena.intro": (
        "Two stages of this run answer the same prompt. Say which reply is better; then see who wrote it, and whether the reward model "
        "agrees with you.",
        "同一训练的两个阶段回答同一个问题。请说出哪个回复更好，然后看看是谁写的，以及奖励模型是否同意你。",
    ),
    "arena.typed": ("A prompt of your own", "你自己的问题"),
    "arena.typed.placeholder": ("Ask both something of your own …", "向双方提一个你自己的问题……"),
    "arena.ask": ("Ask both", "提问"),
    "arena.queue": ("Language of the prompts in the queue", "队列中问题的语言"),
    "arena.queue.both": ("English, 中文", "中文、English"),
    "arena.queue.en": ("English", "English"),
    "arena.queue.zh": ("中文", "中文"),
    "arena.next": ("Next prompt · N", "下一题 · N"),
    "arena.empty": ("Take the next prompt from the queue, or ask something of your own.", "从队列中取下一题，或提一个你自己的问题。"),
    "arena.vote.a": ("A is better · A", "A 更好 · A"),
    "arena.vote.b": ("B is better · B", "B 更好 · B"),
    "arena.vote.tie": ("As good · T", "一样好 · T"),
    "arena.vote.both_bad": ("Both bad · X", "都不好 · X"),
    "arena.writing": ("Both are writing. You can vote as soon as they have finished.", "双方正在书写。都写完后即可投票。"),
    "arena.voting": ("Which reply is better? Press A, B, T or X.", "哪个回复更好？请按 A、B、T 或 X。"),
    "arena.same": ("Both said the same: press T or X, or go on to the next.", "双方说的一样：请按 T 或 X，或看下一题。"),
    "arena.broken": ("One side has no reply, so there is nothing to vote on. Go on to the next.", "有一方没有回复，无法投票。请看下一题。"),
    "arena.agreed": ("The reward model agrees with you.", "奖励模型同意你的看法。"),
    "arena.disagreed": ("The reward model prefers {side}.", "奖励模型更喜欢 {side}。"),
    "arena.prefers": ("You had no preference; the reward model prefers {side}.", "你没有偏好；奖励模型更喜欢 {side}。"),
    "arena.equal": ("The reward model gives both the same reward.", "奖励模型给双方相同的奖励。"),
    "arena.unscored": ("This run has no reward model that could agree with you.", "该训练没有奖励模型可供比较。"),
    "arena.tally.you": ("Agreement with you:", "与你一致："),
    "arena.tally.all": ("With everybody:", "与所有人一致："),
    "arena.tally": ("{agreed} of {n} votes", "{n} 票中 {agreed} 票"),
    "arena.few": ("too few to tell, from {n} on there is a rate", "票数太少，满 {n} 票后显示比率"),
    "arena.kept": ("Your vote is kept as {id}.", "你的投票已保存为 {id}。"),
    "arena.consent": (
        "By voting you let the operator of this page keep the prompt, both replies, how they were made, and your vote, to train and "
        "compare models; no name and no address. Don't type what nobody else should read. By the number of a vote the operator can "
        "delete it.",
        "投票即表示你允许本页运营者保存问题、双方回复、生成方式和你的投票，用于训练和比较模型；不保存姓名和地址。"
        "请勿输入不愿他人看到的内容。凭投票编号，运营者可以将其删除。",
    ),
    # training
    "train.run": ("Run", "训练"),
    "train.none": ("No run to show yet.", "暂时没有可显示的训练。"),
    "train.starting": ("Starting the trainer …", "正在启动训练……"),
    "train.running": ("{percent} % · {stage}", "{percent}% · {stage}"),
    "train.step": ("step {step} of {steps}", "第 {step}/{steps} 步"),
    "train.left": ("about {time} left", "大约还剩 {time}"),
    "train.done": ("Done. The stages took {time}.", "完成。各阶段共用时 {time}。"),
    "train.stopped": ("Stopped. The next start goes on from here.", "已停止。下次启动会从这里继续。"),
    "train.failed": ("Training failed: {message}", "训练失败：{message}"),
    "train.again": ("Try again", "再试一次"),
    "train.progress": ("Progress of the whole run", "总进度"),
    "train.stage.done": ("done", "已完成"),
    "train.stage.active": ("running", "进行中"),
    "train.stage.pending": ("to come", "未开始"),
    "train.stage.failed": ("failed", "失败"),
    "train.curve.base.loss": ("Base: loss by step", "基座：损失（按步）"),
    "train.curve.sft.loss": ("SFT: loss by step", "SFT：损失（按步）"),
    "train.curve.rm.accuracy": ("Reward model: accuracy by step", "奖励模型：准确率（按步）"),
    "train.curve.rl.reward": ("PPO: reward by step", "PPO：奖励（按步）"),
    "train.curve.rl.kl": ("PPO: KL to SFT by step, nats per reply", "PPO：与 SFT 的 KL（按步，每个回复的奈特数）"),
    "train.curve.rl.length": ("PPO: reply length by step, tokens", "PPO：回复长度（按步，词元数）"),
    "train.curve.dpo.accuracy": ("DPO: accuracy by step", "DPO：准确率（按步）"),
    "train.curve.kto.loss": ("KTO: loss by step", "KTO：损失（按步）"),
    "train.curve.grpo.reward": ("GRPO: reward by step", "GRPO：奖励（按步）"),
    "train.samples": ("What it says", "它怎么说"),
    "train.samples.none": ("Sample replies appear here while the model learns.", "模型学习时，回复示例会出现在这里。"),
    "train.sample.step": ("step {step}", "第 {step} 步"),
    "job.state.queued": ("Waiting for its turn, number {place} in the queue.", "排队等待中，队列第 {place} 位。"),
    "job.state.running": ("Training.", "训练中。"),
    "job.state.stopping": ("Stopping after this step …", "本步之后停止……"),
    "job.state.paused": ("Paused. It goes on from where it is.", "已暂停。可从当前位置继续。"),
    "job.state.stopped": ("Stopped for good. Its finished checkpoints stay.", "已终止。已完成的检查点会保留。"),
    "job.state.failed": ("Failed: {message}", "失败：{message}"),
    "job.pause": ("Pause", "暂停"),
    "job.resume": ("Resume", "继续"),
    "job.stop": ("Stop for good", "终止"),
    "job.queue": ("Queue", "队列"),
    "job.new": ("New training", "新的训练"),
    "job.off": (
        "New trainings are off here. On their own machine, operators switch them on with --training 1.",
        "此处未开放新的训练。运营者可在自己的机器上用 --training 1 开启。",
    ),
    "job.recipe": ("Recipe", "配方"),
    "job.recipe.info": ("What is learnt, in which order, how fast", "学什么、按什么顺序、多快"),
    "job.start": ("Start from", "起点"),
    "job.start.info": ("A new model, or a checkpoint that is trained further", "新模型，或继续训练已有的检查点"),
    "job.start.new": ("A new model", "新模型"),
    "job.name": ("Name", "名称"),
    "job.name.info": ("Small letters, digits, hyphens", "小写字母、数字、连字符"),
    "job.offered": ("Data on this server", "服务器上的数据"),
    "job.offered.info": ("None: the recipe's own", "不选则用配方自带的数据"),
    "job.upload": (
        f"Your data: .jsonl, .json, .csv or .txt, up to {UPLOAD_BYTES >> 20} MiB",
        f"你的数据：.jsonl、.json、.csv 或 .txt，最多 {UPLOAD_BYTES >> 20} MiB",
    ),
    "job.stages": ("Stages", "阶段"),
    "job.steps": ("Steps of each stage", "每个阶段的步数"),
    "job.steps.info": ("0: as the recipe says", "0 表示按配方"),
    "job.lora": ("LoRA", "LoRA"),
    "job.lora.info": ("Small adapters instead of all weights", "用小的适配器代替全部权重"),
    "job.lora.recipe": ("as the recipe says", "按配方"),
    "job.lora.off": ("off: all weights", "关闭：训练全部权重"),
    "job.strategy": ("Strategy", "并行策略"),
    "job.strategy.info": ("How processes share the work", "各进程如何分担工作"),
    "job.processes": ("Processes", "进程数"),
    "job.processes.info": ("On this machine", "在本机上"),
    "job.begin": ("Start training", "开始训练"),
    "job.begun": ("{name} is in the queue.", "{name} 已加入队列。"),
    "job.plan": ("What it needs", "所需资源"),
    "job.plan.stage": ("Stage", "阶段"),
    "job.plan.parameters": ("Parameters (trained)", "参数量（训练）"),
    "job.plan.memory": ("Memory", "内存"),
    "job.plan.time": ("Time, roughly", "时间（粗略）"),
    "job.plan.strategy": ("Strategy", "策略"),
    "job.plan.none": ("does not fit", "放不下"),
    "job.data.facts": ("{rows} rows of kind {kind} ({formats}), {bad} bad", "{rows} 行 {kind}（{formats}），{bad} 行有问题"),
    "job.data.serves": ("Serves as: {kinds}", "可用作：{kinds}"),
    "job.data.lengths": (
        "Length in {unit}: median {median}, longest {longest}. Identical rows: {duplicates}.",
        "长度（{unit}）：中位数 {median}，最长 {longest}。重复行：{duplicates}。",
    ),
    "job.data.tokens": ("tokens", "词元"),
    "job.data.characters": ("characters", "字符"),
    "job.data.bad": ("First bad rows", "前几个有问题的行"),
    "job.data.first": ("First row; the underlined tokens are learnt", "第一行；带下划线的词元会被学习"),
    "votes.train": ("Learn from people's votes", "从人们的投票中学习"),
    "votes.counts": (
        "Votes: {new} new, {accepted} accepted, {rejected} rejected. Of the accepted ones {training} are rows to train on; {held_out} are "
        "held out to measure agreement.",
        "投票：{new} 条新的，{accepted} 条已接受，{rejected} 条已拒绝。"
        "已接受的投票中 {training} 条用于训练，{held_out} 条留出用于衡量一致性。",
    ),
    "votes.accept": (
        "Only accepted votes are trained on. The operator accepts them: leaderboards votes accept --new",
        "只用已接受的投票训练。由运营者接受：leaderboards votes accept --new",
    ),
    "votes.judge": ("Reward model that learns", "要学习的奖励模型"),
    "votes.steps": ("Steps", "步数"),
    "votes.begin": ("Train the reward model on them", "用它们训练奖励模型"),
    "votes.agreement": ("Agreement with people, on held-out votes", "与人的一致性（留出的投票）"),
    "votes.before": ("Before", "之前"),
    "votes.after": ("After", "之后"),
    "votes.share": ("{percent} % [{low}, {high}] of {n}", "{n} 票中的 {percent}% [{low}, {high}]"),
    "votes.p": ("p (McNemar)", "p 值（McNemar）"),
    "votes.few": ("fewer than {n} votes: too few to tell", "不足 {n} 票：太少，无法判断"),
    "time.minutes": ("{minutes} min {seconds} s", "{minutes} 分 {seconds} 秒"),
    "time.seconds": ("{seconds} s", "{seconds} 秒"),
    "stage.data": ("Data", "数据"),
    "stage.tokenizer": ("Tokenizer", "分词器"),
    "stage.base": ("Base", "基座"),
    "stage.sft": ("SFT", "SFT"),
    "stage.rm": ("Reward model", "奖励模型"),
    "stage.critic": ("Critic", "价值模型"),
    "stage.rl": ("PPO", "PPO"),
    "stage.dpo": ("DPO", "DPO"),
    "stage.kto": ("KTO", "KTO"),
    "stage.grpo": ("GRPO", "GRPO"),
    "stage.report": ("Report", "报告"),
    # leaderboard
    "leaderboard.intro": (
        "Scores on held-out tasks, ratings by people's votes, and what each stage changed. New results and votes appear by themselves.",
        "留出任务上的成绩、按投票得出的评分，以及各阶段带来的变化；有新结果或新投票时自动更新。",
    ),
}
"""key → (English, 简体中文)."""

EXAMPLES: dict[Language, list[str]] = {
    "en": ["What is the capital of France?", "Say the opposite of hot.", "What is 7 plus 5?"],
    "zh": ["法国的首都是哪里？", "热的反义词是什么？", "7 加 5 等于多少？"],
}
"""Prompts offered while a run has none of its own."""


def t(language: Language, key: str, **values: object) -> str:
    """The text called *key*, with *values* put in."""
    text = TEXTS[key][0 if language == "en" else 1]
    return text.format(**values) if values else text


def translations(language: Language) -> dict[str, str]:
    """All texts of one language by key, for the browser to choose from."""
    return {key: t(language, key) for key in TEXTS}


def language_of(accept_language: str | None) -> Language:
    """The language of an ``Accept-Language`` header: Chinese when it is preferred to English."""
    ranked: list[tuple[float, int, Language]] = []
    for place, part in enumerate((accept_language or "").split(",")):
        tag, _, weight = part.strip().partition(";q=")
        try:
            quality = float(weight) if weight else 1.0
        except ValueError:
            continue
        if tag.lower().startswith("zh"):
            ranked.append((-quality, place, "zh"))
        elif tag.lower().startswith("en"):
            ranked.append((-quality, place, "en"))
    return min(ranked)[2] if ranked else "en"


def stage_name(language: Language, stage: str) -> str:
    """What a stage is called; stages of other recipes keep their own names."""
    return t(language, f"stage.{stage}") if f"stage.{stage}" in TEXTS else stage


def duration(language: Language, seconds: float) -> str:
    """``95`` → ``1 min 35 s``."""
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    return t(language, "time.minutes", minutes=minutes, seconds=rest) if minutes else t(language, "time.seconds", seconds=rest)
