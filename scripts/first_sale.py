"""The first sale, to paste into a shell: free, paid, and with a question that is answered."""

from __future__ import annotations

#: POSIX shell, curl, grep and cut alone. ``wait`` holds a status request until the status is
#: another than ``status_id``.
_TEXT = r"""
Open @SHOP@ in a browser and buy a run there (API: @SHOP@/docs).
Or a first sale by hand, to paste into another terminal:

  SHOP=@SHOP@
  field() { grep -o '"'$1'": *"[^"]*"' | head -n 1 | cut -d '"' -f 4; }
  buy() { ANSWER=$(curl -sS $SHOP/$1/start_job -H 'Content-Type: application/json' -d "$2")
    printf '%s\n' "$ANSWER"; JOB=$(printf '%s' "$ANSWER" | field job_id); SEEN=; }
  ask() { ANSWER=$(curl -sS "$SHOP/$1/status?job_id=$JOB&status_id=$SEEN&wait=20")
    printf '%s\n' "$ANSWER"; SEEN=$(printf '%s' "$ANSWER" | field id); }
  follow() { ask $1; while printf '%s' "$ANSWER" |
    grep -qE '"status": *"(awaiting_payment|running)"'; do ask $1; done; }

  # What is on offer
  curl -sS $SHOP/flows; echo

  # Free: the input is all it takes
  buy text-summary+free '{"input_data": {"sentences": 1, "text":
    "Toll roads were dear. Travellers took the toll roads all the same. They were faster."}}'
  follow text-summary+free

  # Paid: a fresh hex identifier names the purchase; the sandbox pays it within seconds
  ID=$(od -An -N8 -tx1 /dev/urandom | tr -d ' \n')
  buy csv-profile '{"identifier_from_purchaser": "'$ID'",
    "input_data": {"csv": "name,age\nAda,36\nGrace,45"}}'
  follow csv-profile

  # With a question: the job awaits input until it is answered
  buy tailored-letter+free '{"input_data": {"purpose": "cancellation", "sender": "Ada Moll",
    "recipient": "Fitness Nord", "details": "I have moved away."}}'
  follow tailored-letter+free
  curl -sS $SHOP/tailored-letter/provide_input -H 'Content-Type: application/json' \
    -d '{"job_id": "'$JOB'", "status_id": "'$SEEN'", "input_data": {"reference": "4711"}}'; echo
  follow tailored-letter+free
"""


def first_sale(shop: str) -> str:
    """For the service at ``shop``."""
    return _TEXT.replace("@SHOP@", shop)
