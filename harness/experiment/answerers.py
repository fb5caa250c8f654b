"""Have models behind an endpoint answer all questions of a run; each becomes a row as if its answers were imported."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.errors import UserError
from benchmarks.records import Answer, Picture, Question
from harness.config.answerers import PREFIX
from harness.config.settings import Request
from harness.console import progress
from harness.data.answers_file import answer_lines
from harness.data.inputs import BenchmarkTask
from harness.experiment.context import RunContext
from harness.experiment.imported_answers import imported_row, read_record, record_file, with_rows
from harness.experiment.rows import list_cells
from harness.llm.budget import Budget, BudgetSpent, Price
from harness.llm.cache import CachedChat
from harness.llm.forecast import DryRunChat, Forecast
from harness.llm.judge import WORKERS, LazyChat
from harness.llm.picture_parts import PictureChat, turn_content
from harness.storage.files import atomic_write
from methods.augmentation.generators.base import GenerationRefused
from methods.augmentation.generators.chat import Chat, Completion, Message
from reports.record import VANILLA

logger = logging.getLogger(__name__)

DECLINED = "the model declined to answer"


@dataclass(frozen=True)
class Reply:
    """An answer, and the calls it took: one for each turn that was answered."""

    answer: Answer
    calls: tuple[Completion, ...]


@dataclass(frozen=True)
class AnswererForecast:
    """What asking one model takes.

    Args:
        name: The row.
        forecast: Calls that are not stored.
        turns: Turns of all questions, each of which is one call.
        price: Of tokens.
    """

    name: str
    forecast: Forecast
    turns: int
    price: Price

    def __str__(self) -> str:
        """As a sentence."""
        stored = f"{self.turns - self.forecast.calls:,} of {self.turns:,} replies are stored"
        return f"{self.name}: {stored}; to ask: {self.forecast.summary(self.price)}"


def forecast_answerers(context: RunContext) -> list[AnswererForecast]:
    """What is left to ask, and what it may cost. Nothing is sent.

    Raises:
        UserError: A name is taken, or the questions cannot be asked over an API.
    """
    answerers = context.request.answerers
    turns = sum(len(question.turns) for task in context.inputs.tasks for question in task.questions)
    forecasts = []
    for name, model in answerers.models.items():
        _check(context, name, model)
        forecasts.append(AnswererForecast(name, _dry_run(context, model), turns, Price(*answerers.price)))
    return forecasts


def ask_answerers(context: RunContext) -> RunContext:
    """Have each model answer what it has not answered yet, and write its answers into the run's folder.

    Replies are stored one by one, so that a run that was stopped goes on where it was.

    Returns:
        The context with a row for each model.

    Raises:
        UserError: The forecast exceeds the budget or the budget is used up, the key is missing or wrong, or the
            endpoint is down. That model's row is unchanged then, and its replies so far are stored.
    """
    answerers = context.request.answerers
    if not answerers.models:
        return context
    if context.process_group.world_size > 1:
        hint = "ask without `accelerate launch` first; later comparisons in this folder keep the row"
        raise UserError("several processes cannot ask an endpoint together", location="--answerer", hint=hint)
    budget = Budget(answerers.budget_tokens, answerers.budget_money, Price(*answerers.price))
    _announce(context, budget)
    rows = {}
    for name, model in answerers.models.items():
        replies = _ask(context, name, model, budget)
        rows[name] = imported_row(context.request.out, name)
        _write(context, name, model, replies)
    request = with_rows(context.request, rows)
    return replace(context, request=request, cells=list_cells(request.methods, request.resolved))


def _announce(context: RunContext, budget: Budget) -> None:
    """Log what will be asked, and check that the budget allows it and that the endpoint can be called."""
    from methods.augmentation.generators.openai_endpoint import check_ready

    total = Forecast()
    for each in forecast_answerers(context):
        logger.info("%s", each)
        if each.forecast.calls:
            check_ready(_where(context.request, each.name))
        total.calls += each.forecast.calls
        total.prompt += each.forecast.prompt
        total.completion += each.forecast.completion
    total.check(budget)


def _check(context: RunContext, name: str, model: str) -> None:
    """Refuse the name of another row, and questions that only a chat template of a protocol can ask."""
    from methods.augmentation.generators.openai_endpoint import endpoint_host
    from methods.registry import registered

    where = _where(context.request, name)
    kept = imported_row(context.request.out, name).folder
    before = read_record(kept)
    others = {cell.label for cell in context.cells if cell.answers_file != kept}
    if name in others or name in registered() or name == VANILLA:
        raise UserError("there is a row of this name already", location=where, hint="give it another name")
    if kept.exists() and (before.get("model"), before.get("endpoint")) != (model, endpoint_host()):
        hint = f"give it another name, or delete {kept} first"
        raise UserError("there are other answers of this name", location=where, hint=hint)
    for task in context.inputs.tasks:
        if any(question.template for question in task.questions):
            hint = "choose --protocol vlmevalkit, or leave this benchmark out"
            problem = f"{task.name} is asked with a chat template of LLaVA, which an endpoint does not take"
            raise UserError(problem, location=where, hint=hint)


def _dry_run(context: RunContext, model: str) -> Forecast:
    """Count the calls that are not stored."""
    chat = DryRunChat(_open(model, {}), context.store)
    for question in _questions(context.inputs.tasks):
        _reply(chat, question, go_on=True)
    return chat.forecast


def _open(model: str, pictures: Mapping[str, Picture], where: str = "") -> Chat:
    """The model, which needs a key only for its first call. Its replies are those of this endpoint."""
    from methods.augmentation.generators.openai_endpoint import Endpoint, endpoint_host, model_identity

    identity = {**model_identity(model), "endpoint": endpoint_host()}
    return PictureChat(LazyChat(identity, lambda: Endpoint(model, where=where)), pictures)


def _ask(context: RunContext, name: str, model: str, budget: Budget) -> list[Reply]:
    """The reply to each question, from the store or from the endpoint."""
    questions = _questions(context.inputs.tasks)
    pictures = {picture.sha256: picture for question in questions for picture in question.pictures}
    where = _where(context.request, name)
    chat = CachedChat(_open(model, pictures, where), context.store, budget)
    replies: list[Reply] = []
    with ThreadPoolExecutor(WORKERS) as pool, progress(f"{name}: questions", len(questions)) as advance:
        futures = [pool.submit(_reply, chat, question) for question in questions]
        try:
            for future in futures:
                replies.append(future.result())
                advance("")
        except BudgetSpent as error:
            problem = f"the budget is used up: {budget.calls:,} new calls, {budget.prompt + budget.completion:,} tokens"
            hint = "raise --budget-tokens or --budget-money; what was answered is not asked again"
            raise UserError(problem, location=where, hint=hint) from error
        finally:
            for future in futures:
                future.cancel()
    return replies


def _reply(chat: Chat, question: Question, *, go_on: bool = False) -> Reply:
    """Ask a question turn by turn, each after the model's own answers to the turns before it.

    Args:
        chat: The model.
        question: The question.
        go_on: Whether to ask the later turns after a turn without an answer, too, as a forecast does.
    """
    messages: list[Message] = []
    calls: list[Completion] = []
    pictures, error = iter(question.pictures), ""
    for turn in question.turns:
        messages.append({"role": "user", "content": turn_content(turn, pictures)})
        text = ""
        try:
            call = chat.complete(messages, {}, question.max_new_tokens)
        except BudgetSpent:
            raise
        except GenerationRefused as refused:
            error = str(refused)
            if not go_on:
                break
        else:
            calls.append(call)
            text = call.text
            if call.stop == "declined":
                error = DECLINED
                break
        messages.append({"role": "assistant", "content": text})
    texts = [call.text for call in calls] if not error else []
    cut = any(call.stop == "cut" for call in calls)
    tokens = sum(call.completion_tokens for call in calls)
    padded = (*texts, *[""] * (len(question.turns) - len(texts)))
    return Reply(Answer(question.id, padded, tokens, cut and not error, error), tuple(calls))


def _questions(tasks: Sequence[BenchmarkTask]) -> list[Question]:
    return [question for task in tasks for question in task.questions]


def _write(context: RunContext, name: str, model: str, replies: Sequence[Reply]) -> None:
    """Write the answers as ``answers import`` does, and the record of how they were made beside them."""
    file, tasks = imported_row(context.request.out, name).folder, context.inputs.tasks
    ordered = iter([reply.answer for reply in replies])
    answers = {task.name: [next(ordered) for _ in task.questions] for task in tasks}
    content = answer_lines(tasks, answers).encode()
    record = {"answers": hashlib.sha256(content).hexdigest(), **_record(context, model, replies)}
    atomic_write(file, content)
    atomic_write(record_file(file), json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    counts = ", ".join(f"{record[key]:,} {key}" for key in ("truncated", "declined", "failed"))
    logger.info("%s: %d answers, of which %s", name, len(replies), counts)


def _record(context: RunContext, model: str, replies: Sequence[Reply]) -> dict[str, Any]:
    """Which model answered, how it was asked, and what that took; nothing secret."""
    from methods.augmentation.generators.openai_endpoint import endpoint_host, model_identity

    calls = [call for reply in replies for call in reply.calls]
    prompt, completion = sum(call.prompt_tokens for call in calls), sum(call.completion_tokens for call in calls)
    price = Price(*context.request.answerers.price)

    def named(values: Callable[[Completion], Sequence[str]]) -> list[str]:
        return sorted({value for call in calls for value in values(call) if value})

    identity = model_identity(model)
    return {
        "model": model,
        "endpoint": endpoint_host(),
        "reported_model": named(lambda call: [call.model]),
        "system_fingerprint": named(lambda call: [call.fingerprint]),
        "temperature": identity["temperature"],
        "seed": identity["seed"],
        "left_out": named(lambda call: call.left_out),
        "max_tokens": sorted({question.max_new_tokens for question in _questions(context.inputs.tasks)}),
        "calls": len(calls),
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "cost": round(price.cost(prompt, completion), 6) if any(context.request.answerers.price) else None,
        "truncated": sum(reply.answer.truncated for reply in replies),
        "declined": sum(reply.answer.error == DECLINED for reply in replies),
        "failed": sum(bool(reply.answer.error) and reply.answer.error != DECLINED for reply in replies),
    }


def _where(request: Request, name: str) -> str:
    return f"--answerer {name}={PREFIX}{request.answerers.models[name]}"
