"""Claude as a proposer, by the Messages API: it is shown the asset and a digest of the ledger, and answers by tools.

No tool beyond ``edit``, ``note`` and ``give_up`` exists, and none runs anything: whatever a peer's text talks a model
into, an asset comes of it that is checked and runs in the sandbox like every other.
https://platform.claude.com/docs/en/api/messages
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import anthropic
import httpx2
import trio
from anthropic import AsyncAnthropic
from anthropic.types import (
    Message,
    MessageParam,
    RawContentBlockDelta,
    TextBlockParam,
    ToolResultBlockParam,
    ToolUseBlock,
    Usage,
)

from agent.budget import Budget, ProposalSpentError, SpentError, estimate
from agent.digest import MAX_FAILURE, cited, quoted
from agent.edits import EditError, check, replace_blocks
from agent.essence import essence
from agent.prompt import TOOLS, question, system
from agent.proposer import MAX_SUMMARY, Context, Edit, Trial, UnavailableError
from protocol.commits import blob_id
from protocol.statements import MAX_TEXT_BYTES, Status
from protocol.text import one_line

log = logging.getLogger(__name__)

#: A current model that is quick enough for five-minute experiments; ``--model`` takes any other.
MODEL = "claude-sonnet-5-5"
#: An edit of the whole asset of the built-in program, and room for thoughts.
MAX_ANSWER_TOKENS = 16_000
#: Calls for one proposal: an edit that does not fit goes back with the reason so often.
MOST_CALLS = 6
#: Times that an edit whose run crashed may be mended.
MOST_MENDS = 2
#: By the SDK, with its own back-off, on 408, 409, 429, 5xx and connections that fail.
RETRIES = 4
#: Of an answer that streams, without a word.
SILENT_SECONDS = 120.0
#: For an answer with all retries: the longest one by a model of ten tokens a second.
ANSWER_SECONDS = 1800.0
#: What the SDK's reading of a stream raises where that is not as the API says: a proxy or another service answers.
GARBLED = (AssertionError, AttributeError, LookupError, TypeError, ValueError)
#: Why an answer ended that is not whole: what it proposes may be half of what was meant.
_CUT = ("max_tokens", "model_context_window_exceeded")
_EDIT = {"summary", "hypothesis", "blocks", "whole_file"}
CRASHED = (Status.CRASHED, Status.TIMED_OUT, Status.REJECTED)
#: Counts tokens by kind: input, output, cache_read, cache_write.
Meter = Callable[[str, int], None]


@dataclass
class _Attempt:
    """What was proposed last, which may crash."""

    base: str
    asset: str
    edit: Edit
    mends: int = 0


class Claude:
    """``client`` is the SDK's. Raises UnavailableError where the service can't be had or the budget is spent."""

    name = "claude"

    def __init__(
        self, client: AsyncAnthropic, budget: Budget, meter: Meter = lambda kind, tokens: None, model: str = MODEL
    ) -> None:
        self._client = client.with_options(max_retries=RETRIES, timeout=SILENT_SECONDS)
        self._budget = budget
        self._meter = meter
        self._model = model
        self._proposed: set[bytes] = set()
        self._attempts: list[_Attempt] = []

    async def propose(self, context: Context) -> Edit | None:
        crashed = self._crashed(context)
        start = context.asset.decode("utf-8", "replace") if crashed is None else crashed[0].asset
        more = "" if crashed is None else _mending(*crashed)
        edit = await self._ask(context, start, more)
        if edit is not None:
            self._proposed.add(essence(edit.asset, context.asset_name))
            mends = 0 if crashed is None else crashed[0].mends + 1
            self._attempts.append(_Attempt(context.base, edit.asset.decode(), edit, mends))
            del self._attempts[:-MOST_CALLS]
        return edit

    def _crashed(self, context: Context) -> tuple[_Attempt, Trial] | None:
        """The latest edit of ours whose run crashed, where it may still be mended; it is then forgotten."""
        for attempt in self._attempts[::-1]:
            for trial in context.trials[::-1]:
                ours = trial.own and (trial.parent, trial.blob) == (attempt.base, blob_id(attempt.edit.asset))
                if ours and trial.status in CRASHED and attempt.base == context.base and attempt.mends < MOST_MENDS:
                    self._attempts.remove(attempt)
                    return attempt, trial
        return None

    async def _ask(self, context: Context, start: str, more: str) -> Edit | None:
        self._budget.begin()
        messages: list[MessageParam] = [{"role": "user", "content": question(context, start, more)}]
        for _ in range(MOST_CALLS):
            try:
                answer = await self._call(system(context), messages)
            except ProposalSpentError as error:
                log.info("no edit: %s", error)
                return None
            except SpentError as error:
                raise UnavailableError(str(error)) from None
            if answer.stop_reason == "refusal":
                log.info("no edit: the model declines")
                return None
            replies: list[ToolResultBlockParam] = []
            for call in _calls(answer):
                reply: ToolResultBlockParam = {"type": "tool_result", "tool_use_id": call.id, "content": "noted"}
                try:
                    if answer.stop_reason in _CUT:
                        raise EditError(f"your answer was cut off: make it shorter than {MAX_ANSWER_TOKENS} tokens")
                    edit = self._carry_out(context, start, call.name, call.input)
                    if edit is not None and (repeated := await context.repeats(edit.asset)):
                        raise EditError(f"this edit is {repeated}, if with other comments: propose another idea")
                    if edit is not None or call.name == "give_up":
                        return edit
                except EditError as error:
                    log.info("sent back to the model: %s", one_line(str(error), MAX_SUMMARY))
                    reply |= {"content": str(error), "is_error": True}
                replies.append(reply)
            messages += _turn(answer, replies)
        log.info("no edit that can be run in %d answers", MOST_CALLS)
        return None

    async def _call(self, prefix: list[TextBlockParam], messages: list[MessageParam]) -> Message:
        """Raises SpentError and UnavailableError."""
        self._budget.check(estimate(str(TOOLS), str(prefix), str(messages)) + MAX_ANSWER_TOKENS)
        try:
            with trio.fail_after(ANSWER_SECONDS):
                answer = await self._stream(prefix, messages)
        except anthropic.APIError as error:
            raise UnavailableError(_why(error)) from None
        except httpx2.TimeoutException:
            raise UnavailableError(f"the service fell silent for {SILENT_SECONDS:g} s in its answer") from None
        except httpx2.HTTPError:
            raise UnavailableError("the answer was cut off") from None
        except trio.TooSlowError:
            raise UnavailableError(f"the service did not end its answer within {ANSWER_SECONDS:g} s") from None
        except GARBLED as error:
            log.debug("the answer can't be read", exc_info=error)
            raise UnavailableError("the answer can't be read: does the service speak the Messages API?") from None
        if answer.stop_reason is None:
            raise UnavailableError("the answer was cut off")
        return answer

    async def _stream(self, prefix: list[TextBlockParam], messages: list[MessageParam]) -> Message:
        """What an answer cost is counted whole, or as far as it came: its service tells that at the end only.

        What was asked is counted when the answer begins, as a node that is killed meanwhile counts no more; it is
        estimated where an answer was waited for in vain, as it may have been worked on.
        """
        usage: Usage | None = None
        counted: Mapping[str, int] = {}
        said: list[str] = []
        try:
            async with self._client.messages.stream(
                model=self._model, max_tokens=MAX_ANSWER_TOKENS, system=prefix, messages=messages, tools=TOOLS
            ) as stream:
                async for event in stream:
                    if event.type == "message_start":
                        usage = event.message.usage
                        counted = self._count(usage, counted)
                    elif event.type == "content_block_delta":
                        said.append(_said(event.delta))
                    elif event.type == "message_delta" and usage is not None:
                        usage.output_tokens = event.usage.output_tokens
                answer = await stream.get_final_message()
                usage, said = answer.usage, []
                return answer
        except (anthropic.APITimeoutError, httpx2.TimeoutException, trio.Cancelled) as error:
            if isinstance(error.__cause__, httpx2.ConnectTimeout | httpx2.PoolTimeout):
                raise  # it was not asked, at least not last
            usage = usage or Usage(input_tokens=estimate(str(TOOLS), str(prefix), str(messages)), output_tokens=0)
            raise
        finally:
            if usage is not None:
                usage.output_tokens = max(usage.output_tokens or 0, estimate(*said))
                self._count(usage, counted)

    def _count(self, usage: Usage, before: Mapping[str, int]) -> Mapping[str, int]:
        """All that is used by now; ``before`` is what was counted of it."""
        used = {
            "input": usage.input_tokens or 0, "output": usage.output_tokens or 0,
            "cache_read": usage.cache_read_input_tokens or 0, "cache_write": usage.cache_creation_input_tokens or 0,
        }  # fmt: skip
        more = {kind: max(0, tokens - before.get(kind, 0)) for kind, tokens in used.items()}
        self._budget.spend(sum(more.values()))
        for kind, tokens in more.items():
            self._meter(kind, tokens)
        return used

    def _carry_out(self, context: Context, start: str, name: str, given: object) -> Edit | None:
        """What a tool call does: an edit, or None for all others. Raises EditError where it can't be done."""
        values = given if isinstance(given, dict) else {}
        if name == "note":
            context.note(str(values.get("text", ""))[:MAX_TEXT_BYTES], cited(context, str(values.get("commits"))))
            return None
        if name == "give_up":
            log.info("the model gives up: %s", one_line(str(values.get("reason", "")), MAX_SUMMARY))
            return None
        if name != "edit":
            raise EditError(f"there is no tool {name!r}")
        return self._edit(context, start, values)

    def _edit(self, context: Context, start: str, values: Mapping[str, Any]) -> Edit:
        if more := sorted(set(values) - _EDIT):
            raise EditError(f"an edit has no {one_line(more[0], MAX_SUMMARY)!r}: it changes {context.asset_name} alone")
        whole, blocks = values.get("whole_file"), values.get("blocks")
        if isinstance(whole, str) and whole.strip() and not blocks:
            text = whole if whole.endswith("\n") else whole + "\n"
        else:
            text = replace_blocks(start, list(_pairs(blocks)))
        asset = check(text, context.asset_name)
        if asset == context.asset:
            raise EditError("the asset is as it was")
        if essence(asset, context.asset_name) in self._proposed or context.taken(asset):
            raise EditError("this asset has been tried or proposed already: propose another")
        summary = one_line(str(values.get("summary", "")), MAX_SUMMARY)
        hypothesis = one_line(str(values.get("hypothesis", "")), MAX_TEXT_BYTES // 4)
        return Edit(asset, summary or "an edit by a model", hypothesis)


def _calls(answer: Message) -> list[ToolUseBlock]:
    """Notes first: behind an edit, or giving up, nothing is heard."""
    calls = [block for block in answer.content if block.type == "tool_use"]
    return sorted(calls, key=lambda call: call.name != "note")


def _said(delta: RawContentBlockDelta) -> str:
    """What there is of text, of a thought or of a tool's input in a piece of an answer."""
    match delta.type:
        case "text_delta":
            return delta.text
        case "thinking_delta":
            return delta.thinking
        case "input_json_delta":
            return delta.partial_json
    return ""


def _turn(answer: Message, replies: list[ToolResultBlockParam]) -> list[MessageParam]:
    """The answer and what is said to it, for the next call.

    What is empty of an answer can't be sent back; asked the same, a model says nothing once more
    (https://platform.claude.com/docs/en/build-with-claude/handling-stop-reasons).
    """
    content = [block for block in answer.content if block.type != "text" or block.text.strip()]
    said: list[MessageParam] = [{"role": "assistant", "content": content}] if content else []
    return [*said, {"role": "user", "content": replies or "Answer with a tool."}]


def _pairs(blocks: object) -> Iterator[tuple[str, str]]:
    """Raises EditError for what are no blocks."""
    if not isinstance(blocks, list):
        raise EditError("expected blocks or whole_file")
    for block in blocks:
        if not isinstance(block, dict) or not all(isinstance(block.get(key), str) for key in ("search", "replace")):
            raise EditError("a block has a search and a replace, both strings")
        yield block["search"], block["replace"]


def _mending(attempt: _Attempt, trial: Trial) -> str:
    tail = "\n".join(quoted(trial.failure[-3 * MAX_FAILURE :]))
    return (
        f"The asset above is your last edit, whose run {trial.status.value}. Its output ended:\n{tail}\n"
        "Mend it, with an edit of the asset above, or replace it as a whole with another idea.\n"
    )


def _why(error: anthropic.APIError) -> str:
    """In one line, for the user."""
    match error:
        case anthropic.AuthenticationError() | anthropic.PermissionDeniedError():
            return "the service does not accept ANTHROPIC_API_KEY"
        case anthropic.APITimeoutError():
            return "the service does not answer in time"
        case anthropic.APIConnectionError():
            return f"the service can't be reached: {one_line(str(error.__cause__ or error), MAX_SUMMARY)}"
        case anthropic.APIStatusError():
            body: Any = error.body
            try:
                said = str(body["error"]["message"])
            except (TypeError, KeyError):
                said = error.message
            broke = error.status_code < 400  # the answer had begun
            does = "broke off its answer" if broke else f"answered {error.status_code}"
            return f"the service {does}: {one_line(said, MAX_SUMMARY)}"
    return one_line(str(error), MAX_SUMMARY)
