"""A letter for a purpose; what else it must say is asked of the purchaser once that is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID, uuid5

from service.mip.schema import InputSchema
from service.runners.models import Done, Failed, NeedsInput, RunOutcome, RunRequest

#: Made once, at random: the same job and question always give the same request id.
_NAMESPACE = UUID("8d6f0f5e-5f0b-4b5e-9a55-5a7e1c7c2f16")


def run(request: RunRequest) -> RunOutcome:
    purpose = request.inputs["purpose"]
    if purpose not in _LETTERS:
        return Failed("purpose-unknown", "There is no letter for this purpose.", False)
    request_id = str(uuid5(_NAMESPACE, f"{request.job_id}:{purpose}"))
    answer = next((a.inputs for a in request.answers if a.request_id == request_id), None)
    if answer is None:
        return NeedsInput(request_id, _QUESTIONS[purpose])
    subject, body = _LETTERS[purpose](answer)
    given = request.inputs
    paragraphs = [
        f"{given['sender']}\n\nTo: {given['recipient']}" + _dated(given),
        f"Subject: {subject}",
        f"Dear {given['recipient']},",
        body,
        given["details"].strip(),
        _CLOSING[purpose],
        f"Kind regards,\n{given['sender']}",
    ]
    if request.variant != "free":
        steps = "\n".join(f"- {step}" for step in _CHECKLIST[purpose])
        paragraphs.append(f"Before you send it:\n{steps}")
    return Done("\n\n".join(paragraphs))


def _dated(given: Mapping[str, Any]) -> str:
    return f"\nDate: {given['date']}" if "date" in given else ""


def _complaint(answer: Mapping[str, Any]) -> tuple[str, str]:
    product, bought, wish = answer["product"], answer["bought_on"], answer["wish"]
    return (
        f"Complaint about {product}",
        f"On {bought} I bought {product} from you. It does not meet what was agreed, and I ask"
        f" you for {_WISHES[wish]}. What happened:",
    )


def _cancellation(answer: Mapping[str, Any]) -> tuple[str, str]:
    reference, ends = answer["reference"], answer.get("ends_on")
    when = f"on {ends}" if ends else "at the next possible date"
    return (
        f"Cancellation of contract {reference}",
        f"I hereby cancel the contract {reference} so that it ends {when}. Please confirm in"
        " writing that you have received this letter and on which day the contract ends.",
    )


def _application(answer: Mapping[str, Any]) -> tuple[str, str]:
    position, strength = answer["position"], answer["strength"].strip()
    return (
        f"Application for the position of {position}",
        f"I apply for the position of {position}. What I bring above all: {strength}",
    )


def _thanks(answer: Mapping[str, Any]) -> tuple[str, str]:
    occasion = answer["occasion"]
    tone = "It meant a great deal to me." if answer["tone"] == "warm" else "I value it highly."
    return f"Thank you for {occasion}", f"Thank you for {occasion}. {tone}"


_LETTERS: Mapping[str, Callable[[Mapping[str, Any]], tuple[str, str]]] = {
    "complaint": _complaint,
    "cancellation": _cancellation,
    "application": _application,
    "thank-you": _thanks,
}
_WISHES = {
    "refund": "a refund of the price",
    "replacement": "a replacement",
    "repair": "a repair free of charge",
}
_CLOSING = {
    "complaint": "Please answer within fourteen days.",
    "cancellation": "Please stop all direct debits when the contract ends.",
    "application": "I would be glad to tell you more in a conversation.",
    "thank-you": "I look forward to seeing you again.",
}
_CHECKLIST = {
    "complaint": ("Add a copy of the receipt.", "Add photographs of the fault.", "Keep a copy."),
    "cancellation": ("Check the period of notice.", "Send it so that you can prove it arrived."),
    "application": ("Add your CV and certificates.", "Have somebody else read it."),
    "thank-you": ("Sign it by hand.",),
}


def _question(*fields: dict[str, Any]) -> InputSchema:
    return InputSchema.model_validate({"input_data": fields})


def _at_most(characters: int) -> list[dict[str, Any]]:
    return [{"validation": "max", "value": characters}]


_QUESTIONS: Mapping[str, InputSchema] = {
    "complaint": _question(
        {
            "id": "product",
            "type": "text",
            "name": "What did you buy?",
            "validations": _at_most(100),
        },
        {"id": "bought_on", "type": "date", "name": "On which day?"},
        {
            "id": "wish",
            "type": "radio",
            "name": "What should be done?",
            "data": {"values": ["refund", "replacement", "repair"]},
        },
    ),
    "cancellation": _question(
        {
            "id": "reference",
            "type": "text",
            "name": "Number of the contract",
            "validations": _at_most(100),
        },
        {
            "id": "ends_on",
            "type": "date",
            "name": "Last day",
            "data": {"description": "Left out: the next possible date."},
            "validations": [{"validation": "optional"}],
        },
    ),
    "application": _question(
        {"id": "position", "type": "text", "name": "Position", "validations": _at_most(100)},
        {
            "id": "strength",
            "type": "textarea",
            "name": "Why you? One or two sentences",
            "validations": _at_most(600),
        },
    ),
    "thank-you": _question(
        {"id": "occasion", "type": "text", "name": "What for?", "validations": _at_most(100)},
        {
            "id": "tone",
            "type": "radio",
            "name": "Tone",
            "data": {"values": ["warm", "formal"]},
        },
    ),
}
