"""The choices behind the presets of real models: one entry for each place where a reader may ask "what did you do?"."""

from __future__ import annotations

from dataclasses import dataclass

EVALUATION, DATA, TRAINING, METHODS = "Evaluation", "Data", "Training", "Methods"
NOT_SAID = "not said"
SAME = "the same"


@dataclass(frozen=True)
class Choice:
    """One row of the page.

    Args:
        section: The part of the page.
        setting: What is chosen.
        paper: What the KORE paper says.
        code: What the released code of its authors does, or of those whose code they ran.
        here: What this program does. ``{key}`` stands for the value of a setting in the presets.
        why: The reason, and how to choose otherwise.
        test: The test that holds it, as ``FILE::NAME`` below ``tests/``.
    """

    section: str
    setting: str
    paper: str
    code: str
    here: str
    why: str
    test: str


CHOICES: tuple[Choice, ...] = (
    Choice(
        EVALUATION,
        "pictures when answering, Qwen2.5-VL",
        "262,144 pixels, not said for which step",
        "the limit is in the training YAML only; EVOKE's script takes the processor's default, VLMEvalKit's class "
        "1280 x 28 x 28 to 16384 x 28 x 28",
        "EVOKE: {answering.pictures.adaptation}; the twelve: {answering.pictures.retention}",
        "a limit of training is not one of evaluation; 1920 x 1080 has 2,691 image tokens instead of 312",
        "models/test_picture_options.py::test_the_qwen_preset_shows_pictures_as_each_benchmark_s_own_script_does",
    ),
    Choice(
        EVALUATION,
        "pictures, LLaVA-1.5",
        NOT_SAID,
        "LLaVA's code pads to a square; the published processor crops",
        "{pictures.aspect@7B}",
        "the models were trained on padded pictures",
        "models/test_picture_options.py::test_pad_is_what_llavas_own_code_does",
    ),
    Choice(
        EVALUATION,
        "whose prompts and rules",
        "MME, MMBench, POPE and ScienceQA by LLaVA's scripts, eight by VLMEvalKit (code's README)",
        SAME,
        "protocol {protocol}; `llava` is LLaVA's scripts for the four, VLMEvalKit's class for LLaVA for the eight",
        "LLaVA's scripts cannot run Qwen; `--protocol` chooses another",
        "benchmarks/vlmeval/test_class_of_llava.py",
    ),
    Choice(
        EVALUATION,
        "repetition penalty, Qwen2.5-VL",
        NOT_SAID,
        "EVOKE's script: the folder's 1.05; VLMEvalKit: 1.0",
        SAME,
        "part of a benchmark's protocol",
        "experiment/test_answering_protocol.py",
    ),
    Choice(
        EVALUATION,
        "new tokens",
        NOT_SAID,
        "EVOKE's script 128; LLaVA's scripts 128 or 1,024; VLMEvalKit 2,048",
        SAME,
        "a model that reasons first would be cut before its answer; reports count truncated answers",
        "experiment/test_answering_protocol.py",
    ),
    Choice(
        EVALUATION,
        "prompts beyond the model's window",
        NOT_SAID,
        "asked at full length; a prompt of MMDU has up to 20 pictures of 576 tokens, and LLaVA-1.5 reads 4,096",
        "`answering.allow_long`: {answering.allow_long}",
        "a cut prompt would be another question; notes count these questions",
        "experiment/test_limits.py",
    ),
    Choice(
        EVALUATION,
        "references that normalise to nothing",
        NOT_SAID,
        "under CEM any word matches a reference such as A or The",
        "CEM as released; a note counts and names them, and CEM with safe word boundaries compares them verbatim",
        "the published rule stays comparable",
        "benchmarks/test_evoke.py",
    ),
    Choice(
        EVALUATION,
        "answers that rules cannot read",
        NOT_SAID,
        "VLMEvalKit's run.py asks gpt-4o-mini and takes a random option if that fails",
        "they count as wrong, and their share stands beside each number, with a lenient reading by rule; "
        "`--judge MODEL` "
        "asks with VLMEvalKit's prompts",
        "a random option cannot be reproduced, and a terser model must not look more able",
        "benchmarks/vlmeval/test_reading_judge.py",
    ),
    Choice(
        EVALUATION,
        "MathVision",
        "VLMEvalKit",
        "runs answers through eval and latex2sympy; the gold A equals any number",
        "headline by value, in a sandbox; VLMEvalKit's rule to the digit as acc_published",
        "seven golds could never be counted, and text was executed",
        "benchmarks/vlmeval/test_maths.py",
    ),
    Choice(
        EVALUATION,
        "MathVista, MMMU's open questions",
        "VLMEvalKit",
        "options by substring; the gold of an open MMMU question becomes option A",
        "headline as released; acc_corrected as MathVista's authors, and open questions as text",
        "7.0 for an integer is never counted, and A is always right",
        "benchmarks/vlmeval/test_maths.py",
    ),
    Choice(
        EVALUATION,
        "POPE and ScienceQA",
        "86.87 and 69.83, without a number of questions",
        "LLaVA's files: 8,910 and 4,241 questions",
        "VLMEvalKit's tables, 9,000 and 2,017, with a note below the table",
        "the published tables hold no others",
        "benchmarks/test_retention.py",
    ),
    Choice(
        DATA,
        "what KORE trains on",
        "KORE-74K: 74,734 conversations",
        SAME,
        "`hub:kailinjiang/KORE-74K`",
        "a tree made by rule has no short questions on EVOKE, 46,468 of them; reports count the branches",
        "config/test_presets.py::test_settings_are_the_paper_s",
    ),
    Choice(
        DATA,
        "names of items",
        "title or name of the entity",
        "in the published conversations",
        "only names that the data give",
        "EVOKE has file names of pictures, which are never trained on",
        "methods/augmentation/test_names.py",
    ),
    Choice(
        DATA,
        "calibration",
        "256 samples of four categories",
        "64 random rows of each of four LLaVA-OneVision sets, seed 233",
        "{kore.calibration_samples} samples: `fetch` draws 512 random rows of each set with seed 233, a run 64 of each "
        "by its own seed",
        "the authors' draw depends on the order of their download; several seeds show what the draw changes",
        "experiment/test_pools.py",
    ),
    Choice(
        DATA,
        "replay",
        "10 % of EVOKE from the model's own pre-training corpus",
        "the file is not published; the script for Qwen reads LLaVA's",
        "942 of 3,000 random rows of llava_v1_5_mix665k, for Qwen too",
        "LLaVA-1.5's own instruction data; Qwen's are not public",
        "experiment/test_pools.py",
    ),
    Choice(
        DATA,
        "EWC's Fisher data, data of pseudo-tasks",
        NOT_SAID,
        "not released",
        "the replay pool",
        "both need answers of the base's own task",
        "experiment/test_pools.py",
    ),
    Choice(
        DATA,
        "`--stages`, `--limit` with KORE-74K",
        "none",
        "none",
        "rows are matched with items, or refused",
        "otherwise all knowledge arrives in the first stage",
        "methods/augmentation/test_published.py",
    ),
    Choice(
        TRAINING,
        "epochs",
        "6",
        "6; the README's example 1",
        "{training.epochs}",
        "table 7",
        "config/test_presets.py::test_settings_are_the_paper_s",
    ),
    Choice(
        TRAINING,
        "batch of KORE",
        "54, 32, 24 per device",
        "54 x 4 GPUs; Qwen 24 x 8 x 4",
        "{kore.training.batch_size}",
        "table 7 read per device, as Qwen's YAML has it",
        "config/test_presets.py::test_batches_are_the_authors_for_each_method",
    ),
    Choice(
        TRAINING,
        "batch of the others",
        "not said for each",
        "LLaVA 50 x 4; Qwen's LoRA and Replay 6 x 8 x 4; 13B not released",
        "{lora.training.batch_size}",
        "as released; those without a file have LoRA's, so that they differ from it in their method alone",
        "config/test_presets.py::test_batches_are_the_authors_for_each_method",
    ),
    Choice(
        TRAINING,
        "learning rate",
        "2e-4",
        "LLaVA 2e-4; Qwen 1e-4",
        "{lora.learning_rate}",
        "which made Qwen's rows is not known; its three files agree. `METHOD:rate-2e-4` is the paper's",
        "config/test_presets.py::test_what_the_presets_do_not_use_is_a_named_row",
    ),
    Choice(
        TRAINING,
        "projector",
        "trained",
        "LLaVA 2e-5; Qwen's merger is frozen",
        "{lora.projector_learning_rate}",
        "as released",
        "config/test_presets.py::test_settings_are_the_paper_s",
    ),
    Choice(
        TRAINING,
        "warm-up",
        "0.03; Qwen 0.1",
        "Hugging Face's schedule, whose first step has rate 0",
        "{training.warmup}, from zero: {training.warmup_from_zero}",
        "as released; in the miniatures the first step has a rate",
        "training/test_loop.py",
    ),
    Choice(
        TRAINING,
        "line break after `<image>`, Qwen",
        NOT_SAID,
        "kept in the training data (zhuanhuan.py)",
        "kept: {pictures.line_break@Qwen}; LLaVA's template always keeps it",
        "as released, in training only",
        "models/test_picture_options.py::test_the_line_break_after_a_picture_is_kept_in_training_alone",
    ),
    Choice(
        METHODS,
        "LoRA's rank, alpha, dropout",
        "rank 128",
        "128, 256; LLaVA's default dropout 0.05, LLaMA-Factory's 0",
        "{lora.rank}, {lora.alpha}, {lora.dropout}",
        "as released",
        "config/test_presets.py::test_small_settings_are_those_of_the_authors_code",
    ),
    Choice(
        METHODS,
        "KORE's rank",
        "235; Qwen 274",
        "given on the command line",
        "{kore.rank}",
        "LoRA's number of trained parameters gives 235; on Qwen it gives 232, and 274 trains 18 % more "
        "(marked in tables)",
        "config/test_parity.py",
    ),
    Choice(
        METHODS,
        "rank where A is trained too",
        NOT_SAID,
        "128, alpha 256",
        "{kore:no-constraint.rank}, {kore:no-constraint.alpha}",
        "at KORE's rank these rows would train 1.8 times as much",
        "config/test_parity.py",
    ),
    Choice(
        METHODS,
        "weights of calibration samples",
        "C = X X^T",
        "each sample divided by its largest entry",
        "{kore.norm}",
        "the code made the published rows; `kore:norm-token-mean` is the paper's formula",
        "config/test_presets.py::test_what_the_presets_do_not_use_is_a_named_row",
    ),
    Choice(
        METHODS,
        "which factor is trained, Qwen",
        "B; A is frozen",
        "the loader trains what the paper calls A",
        "B",
        "with A trained, old knowledge is not protected; LLaVA's code agrees with the paper",
        "methods/test_kore.py",
    ),
    Choice(
        METHODS,
        "`kore:constraint-BENCHMARK`",
        NOT_SAID,
        "the question column of the table",
        "{kore.calibration_text}",
        "as released",
        "methods/test_variants.py",
    ),
    Choice(
        METHODS,
        "O-LoRA",
        "a row, no settings",
        "not released; MCITlib trains slices of the rank with 0.05",
        "as its paper; `o-lora:slices`; `o-lora:weight-difference`",
        "with one stage O-LoRA is LoRA, so the published row came from something else",
        "methods/test_o_lora.py",
    ),
    Choice(
        METHODS,
        "SEFE",
        "a row, no settings",
        "not released",
        "styles by template; `sefe:weight-difference`",
        "with one stage there is no mask; on EVOKE only the brief and the detailed style have names to use",
        "methods/test_sefe.py",
    ),
    Choice(
        METHODS,
        "MoELoRA",
        "340 million parameters",
        "CoIN: rank 128, 8 experts, 349.9 million",
        "CoIN's; `moelora:parity` with rank {moelora:parity.rank} and {moelora:parity.experts} experts",
        "the second has LoRA's size",
        "config/test_parity.py",
    ),
)
