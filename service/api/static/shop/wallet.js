// Paying: in the sandbox by this page itself; anywhere else by the purchaser's own wallet.
import { call } from "./api.js";

const { sandbox, network, resultHash } = document.body.dataset;
export { network, resultHash as resultHashForm };
export const inSandbox = Boolean(sandbox);

function ask(what, body) {
  return call(`${sandbox}/control/wallet/${what}`, { body: { network, ...body }, signal: AbortSignal.timeout(10_000) });
}

/** Before the order: this purchase is paid by hand. False: the sandbox is out of reach, and pays. */
export async function payByHand(identifier) {
  if (!inSandbox) return true;
  try {
    await ask("hold", { identifierFromPurchaser: identifier });
    return true;
  } catch {
    return false;
  }
}

/** What a wallet needs, as the payment service takes it; times to the digit, they are signed. */
export function purchaseOf(started) {
  return {
    network,
    blockchainIdentifier: started.blockchainIdentifier,
    inputHash: started.input_hash,
    sellerVkey: started.sellerVKey,
    agentIdentifier: started.agentIdentifier,
    identifierFromPurchaser: started.identifierFromPurchaser,
    payByTime: String(started.payByTime),
    submitResultTime: String(started.submitResultTime),
    unlockTime: String(started.unlockTime),
    externalDisputeUnlockTime: String(started.externalDisputeUnlockTime),
    ...(started.paymentSourceType && { paymentSourceType: started.paymentSourceType }),
  };
}

export const pay = (started) => ask("pay", purchaseOf(started));
/** {onChainState, inputHash, resultHash} */
export const chainOf = (started) => ask("look", { blockchainIdentifier: started.blockchainIdentifier });

const KNOWN = { "": ["ADA", 6], lovelace: ["ADA", 6] };

/** The price of a variant in words. */
export function priceOf(variant) {
  if (variant.free) return "No charge";
  if (!variant.requested_funds?.length) return "Price as registered";
  return variant.requested_funds.map(({ amount, unit }) => {
    const [name, places] = KNOWN[unit] || [unit.length > 20 ? `${unit.slice(0, 8)}…` : unit, 0];
    const digits = String(amount).padStart(places + 1, "0");
    const part = places ? digits.slice(-places).replace(/0+$/, "") : "";
    return `${BigInt(places ? digits.slice(0, -places) : digits).toLocaleString()}${part && `.${part}`} ${name}`;
  }).join(" + ");
}
