"""The blockchain identifier: what the seller's side signed, sealed into one hex string.

The real one is the LZ-compressed ``sellerId.purchaserId.signature.key``; here zlib compresses and
an HMAC signs. What matters to a client is kept: it is opaque, it differs with each call, and a
purchase whose terms differ from what was signed, in one digit, is refused.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import zlib

from scripts.sandbox.records import Terms

#: The sandbox's selling wallet; its "signatures" prove nothing to anybody.
SELLER_VKEY = hashlib.sha256(b"tollgate sandbox selling wallet").hexdigest()[:56]
_SIGNING = b"tollgate sandbox signing"


def seal(terms: Terms) -> str:
    seller_id = secrets.token_hex(32)
    signature = _sign(seller_id, terms)
    text = f"{seller_id}.{terms.identifier_from_purchaser}.{signature}.{SELLER_VKEY}"
    return zlib.compress(text.encode(), 9).hex()


def verifies(blockchain_identifier: str, terms: Terms) -> bool:
    """Whether exactly these terms were sealed into it."""
    try:
        text = zlib.decompress(bytes.fromhex(blockchain_identifier)).decode()
        seller_id, purchaser_id, signature, key = text.split(".")
    except (ValueError, zlib.error):
        return False
    return (
        purchaser_id == terms.identifier_from_purchaser
        and key == SELLER_VKEY
        and hmac.compare_digest(signature, _sign(seller_id, terms))
    )


def _sign(seller_id: str, terms: Terms) -> str:
    signed = {
        "inputHash": terms.input_hash,
        "agentIdentifier": terms.agent_identifier,
        "purchaserIdentifier": terms.identifier_from_purchaser,
        "sellerIdentifier": seller_id,
        "RequestedFunds": [list(fund) for fund in terms.funds],
        "payByTime": str(terms.pay_by_ms),
        "submitResultTime": str(terms.submit_result_ms),
        "unlockTime": str(terms.unlock_ms),
        "externalDisputeUnlockTime": str(terms.dispute_ms),
    }
    text = json.dumps(signed, sort_keys=True, separators=(",", ":"))
    return hmac.new(_SIGNING, text.encode(), hashlib.sha256).hexdigest()
